"""How far is a student's distribution from a teacher's? Values and gradients.

With p the student's and q the teacher's distribution over the V tokens of the
vocabulary, and M = (1 - alpha) p + alpha q,

  forward       KL(q || p)                               alpha = 0
  reverse       KL(p || q)                               alpha = 1
  jsd(alpha)    (1 - alpha) KL(p || M) + alpha KL(q || M)     0 < alpha < 1

in nats. The last is the generalised Jensen-Shannon divergence. It tends to 0 at
both ends, so it is not continuous there: alpha = 0.05 is not nearly `forward`.

Conventions differ. alpha is the teacher's weight in M and in the sum, as in the
code of SDPO (arXiv:2601.20802, `alpha`), OPSD (2601.18734, `beta`) and TRL; all
three have forward KL at 0 and reverse KL at 1. GKD's JSD(beta) (2306.13649, eq.
1) has beta q + (1 - beta) p for M and the same sum, and its paper calls KL(q ||
p) forward too; ms-swift's documentation calls it reverse. SDPO's equation 1 is
`reverse`, while its recommended "JSD" is jsd(alpha=0.5): say the name.

Options of all three:
  k, of, tail: over k tokens only, the most likely ones `of` the student or the
    teacher, and of what remains the total mass ('tail', SDPO eq. 11); without
    `tail`, the k probabilities are renormalised (OPSD: of the teacher). With a
    tail the value is at most that over the vocabulary, by the data processing
    inequality. What only the other model likes is in the tail, or invisible.
  entry_clip: each token's term of the sum is at most this (OPSD's later code,
    TRL's `distillation_kl_clip`); the terms below 0 stay, so that a clipped
    "KL" may be negative.
  clip: the sum is at most this; beyond there is no gradient.

`sampled` and `gated` look at the sampled token alone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlvr_jax import registry
from rlvr_jax.ops import logprob


class Divergence(NamedTuple):
  """What is measured between two distributions: see the module.

  Attributes:
    alpha: 0 forward, 1 reverse, between them Jensen-Shannon; of the vocabulary.
    k: tokens that count; 0: all.
    of: whose k most likely ones, 'student' or 'teacher'.
    tail: whether the other tokens count as one; else the k are renormalised.
    entry_clip: upper bound of a token's term; 0: none.
    clip: upper bound of the sum; for `sampled` and `gated`, of |log q - log p|.
      0: none.
    sampled: only the sampled token is looked at.
    gate: of `gated`, the slope of its gate; 0: no gate.
  """

  alpha: float = 1.0
  k: int = 0
  of: str = 'student'
  tail: bool = True
  entry_clip: float = 0.0
  clip: float = 0.0
  sampled: bool = False
  gate: float = 0.0


def _over_vocabulary(alpha, k, of, tail, clip, entry_clip) -> Divergence:
  if k < 0 or (k == 1 and not tail):
    raise ValueError(
      f'k={k} must be 0, for the whole vocabulary, or a number of tokens; at '
      'least 2 of them if tail=False, as one is renormalised to 1.'
    )
  if of not in ('student', 'teacher'):
    raise ValueError(
      f"of={registry.show(of)} must be 'student' or 'teacher': whose k most "
      'likely tokens count.'
    )
  for name, value in (('clip', clip), ('entry_clip', entry_clip)):
    if value < 0:
      raise ValueError(f'{name}={value} must be above 0, or 0 for none.')
  return Divergence(
    float(alpha), k, of, tail, float(entry_clip), float(clip), False, 0.0
  )


@registry.register('divergence')
def forward(
  *,
  k: int = 0,
  of: str = 'student',
  tail: bool = True,
  clip: float = 0.0,
  entry_clip: float = 0.0,
) -> Divergence:
  """KL(q || p): p covers all that q does. d/dz = p - q.

  The distillation loss of Hinton et al. (arXiv:1503.02531), without their
  factor T^2.
  """
  return _over_vocabulary(0.0, k, of, tail, clip, entry_clip)


@registry.register('divergence')
def reverse(
  *,
  k: int = 0,
  of: str = 'student',
  tail: bool = True,
  clip: float = 0.0,
  entry_clip: float = 0.0,
) -> Divergence:
  """KL(p || q): p keeps to what q allows. d/dz = p (log(p / q) - KL).

  A policy gradient with the advantage log(q / p) for each token of the
  vocabulary: SDPO's loss (arXiv:2601.20802, eq. 1), with k=20, alpha=1.
  """
  return _over_vocabulary(1.0, k, of, tail, clip, entry_clip)


@registry.register('divergence')
def jsd(
  *,
  alpha: float = 0.5,
  k: int = 0,
  of: str = 'student',
  tail: bool = True,
  clip: float = 0.0,
  entry_clip: float = 0.0,
) -> Divergence:
  """Generalised Jensen-Shannon. d/dz = (1 - alpha) p (log(p/M) - KL(p || M)).

  Raises:
    ValueError: alpha is not strictly between 0 and 1.
  """
  if not 0 < alpha < 1:
    raise ValueError(
      f"alpha={alpha} must be between 0 and 1. Take 'forward' for 0 and "
      "'reverse' for 1: this one is 0 there."
    )
  return _over_vocabulary(alpha, k, of, tail, clip, entry_clip)


@registry.register('divergence')
def sampled(*, clip: float = 0.0) -> Divergence:
  """log p(y) - log q(y) of the sampled token y, an estimate of `reverse`.

  Its gradient is sg[log p(y) - log q(y)] d log p(y): that of `reverse` in the
  mean over y of p. Not the derivative of the value, whose mean is 0. On-policy
  distillation (Thinking Machines 2025); TRL's default for SDPO. `clip` bounds
  the difference on both sides.
  """
  if clip < 0:
    raise ValueError(f'clip={clip} must be above 0, or 0 for none.')
  return Divergence(clip=float(clip), sampled=True)


@registry.register('divergence')
def gated(*, beta: float = 5.0, clip: float = 0.0) -> Divergence:
  """s(beta d) d with d = log q(y) - log p(y), s the logistic function.

  SDAR (arXiv:2605.15155): the gate s is a constant, so that the gradient is
  -s(beta d) d log p(y). Every sampled token is made likelier, those that the
  teacher finds likelier more so: where both agree it is half a step of
  imitation and not 0, unlike the other divergences. Add it to a policy gradient
  (weight 0.1 in the paper).
  """
  if not beta > 0 or clip < 0:
    raise ValueError(f'beta={beta} and clip={clip}: above 0, clip may be 0.')
  return Divergence(clip=float(clip), sampled=True, gate=float(beta))


@registry.trial('divergence')
def _trial(make):
  made = make()
  if not isinstance(made, Divergence):
    raise ValueError(
      f'it returned {registry.show(made)}: return an ops.divergence.Divergence.'
    )


def value_and_slope(
  logp: Float[Array, 'n v'],
  logq: Float[Array, 'n v'],
  targets: Int[Array, 'n'],
  divergence: Divergence,
) -> tuple[Float[Array, 'n'], Float[Array, 'n v']]:
  """The divergence, and its gradient with respect to the student's logits.

  By formula and not by differentiation: where both distributions are equal, bit
  for bit, value and gradient are exactly 0 (but for `gated`).

  Args:
    logp, logq: log-probabilities of student and teacher.
    targets: the sampled tokens, for `sampled` and `gated`.
  """
  if divergence.sampled:
    return _of_token(logp, logq, targets, divergence)
  value, slope = _of_vocabulary(logp, logq, divergence)
  if divergence.clip:
    cut = value > divergence.clip
    value = jnp.where(cut, divergence.clip, value)
    slope = jnp.where(cut[:, None], 0.0, slope)
  return value, slope


def _of_token(logp, logq, targets, divergence):
  """`sampled` and `gated`."""
  gap = at(logp, targets) - at(logq, targets)
  if divergence.clip:
    gap = jnp.clip(gap, -divergence.clip, divergence.clip)
  value = slope = gap
  if divergence.gate:
    gate = jax.nn.sigmoid(-divergence.gate * gap)
    value, slope = -gate * gap, -gate
  hit = logprob.hit(logp.shape, targets)
  return value, slope[:, None] * (hit - jnp.exp(logp))


def _of_vocabulary(logp, logq, divergence):
  """All others, before `clip`."""
  size = logp.shape[-1]
  inside = tail = None
  if 0 < divergence.k < size:
    by = logp if divergence.of == 'student' else logq
    _, index = jax.lax.top_k(by, divergence.k)
    inside = jnp.put_along_axis(
      jnp.zeros(logp.shape, bool), index, True, axis=-1, inplace=False
    )
    mass = lambda x, which: jax.nn.logsumexp(
      jnp.where(which, x, -jnp.inf), -1, keepdims=True
    )
    if divergence.tail:
      tail = mass(logp, ~inside), mass(logq, ~inside)
    else:
      logp, logq = logp - mass(logp, inside), logq - mass(logq, inside)
  p, q = jnp.exp(logp), jnp.exp(logq)
  within = lambda x: x if inside is None else jnp.where(inside, x, 0.0)
  total = lambda main, rest: (
    jnp.sum(within(main), -1, keepdims=True) + (0.0 if tail is None else rest)
  )
  term, ratio, drop = _terms(logp, logq, divergence)
  term_t = ratio_t = drop_t = p_t = q_t = jnp.zeros(())
  if tail is not None:
    p_t, q_t = map(jnp.exp, tail)
    term_t, ratio_t, drop_t = _terms(*tail, divergence)
  bound = lambda x, cut: jnp.where(cut, divergence.entry_clip, x)
  value = total(bound(term, drop), bound(term_t, drop_t))[:, 0]
  if divergence.alpha == 0.0:
    kept = 1.0 - total(drop * q, drop_t * q_t)  # of q's mass
    slope = within(p * kept - jnp.where(drop, 0.0, q))
    if tail is not None:
      # q's tail, shared out as p's is: p q_t / p_t, where q_t / p_t alone may
      # overflow.
      share = jnp.exp(logp + (tail[1] - tail[0]))
      outside = p * kept - jnp.where(drop_t, 0.0, share)
      slope = jnp.where(inside, slope, outside)
    return value, slope
  # A term's derivative by log p is p (ratio + c), c = 1 for `reverse` and 0 for
  # `jsd`; where it is kept everywhere, the constant has no effect.
  constant = 1.0 if divergence.alpha == 1.0 else 0.0
  effect = lambda ratio, drop: jnp.where(drop, -constant, ratio)
  rate, rate_t = effect(ratio, drop), effect(ratio_t, drop_t)
  mean = total(p * rate, p_t * rate_t)
  slope = within(p * (rate - mean))
  if tail is not None:
    slope = jnp.where(inside, slope, p * (rate_t - mean))
  return value, slope


def _terms(logp, logq, divergence):
  """(terms of the sum, weights of the gradient, which terms are clipped)."""
  alpha, gap = divergence.alpha, logq - logp
  p, q = jnp.exp(logp), jnp.exp(logq)
  if alpha == 0.0:
    term, ratio = q * gap, jnp.zeros_like(gap)
  elif alpha == 1.0:
    term, ratio = -p * gap, -gap
  else:
    # log(M / p) and log(M / q), from the larger of p and q: no overflow, and
    # exactly 0 where they are equal.
    low, high = jnp.minimum(gap, 0.0), jnp.minimum(-gap, 0.0)
    above = jnp.log1p(alpha * jnp.expm1(low))  # log(M/p) where q <= p
    below = jnp.log1p((1 - alpha) * jnp.expm1(high))  # log(M/q) where q > p
    m_p = jnp.where(gap <= 0, above, below + gap)
    m_q = jnp.where(gap <= 0, above - gap, below)
    term = -(1 - alpha) * p * m_p - alpha * q * m_q
    ratio = -(1 - alpha) * m_p
  clip = divergence.entry_clip
  return term, ratio, term > clip if clip else jnp.zeros(term.shape, bool)


def at(x: Float[Array, 'n v'], targets: Int[Array, 'n']) -> Float[Array, 'n']:
  """x at the targets; by a comparison, which stays local on a shard."""
  return jnp.sum(jnp.where(logprob.hit(x.shape, targets), x, 0.0), -1)
