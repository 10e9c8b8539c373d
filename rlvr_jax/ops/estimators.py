"""Estimators: the scores of one group to advantages.

An estimator has the form

  estimator(score [G], valid bool[G]) -> f32[G]

The G members answer the same prompt; `valid` says which of them count. Only
valid members enter the statistics, invalid ones get exactly 0, and what
stands in their slots, NaN included, reaches nobody. Scores are computed in
float32 (integers and bools are converted).

Some need more, as a third positional parameter (`takes` tells):

  length [G]  trained tokens of each member; None: all the same
  greedy []   the score of a greedily drawn answer to the same prompt

Some look at all groups of a batch (`is_whole_batch` tells): they take score,
valid and length of [P,G], or [G] for a batch of one group, and are not
vmapped over groups. Those that always do are in `estimators_batch`.

The group-relative estimators (`dr_grpo`, `rloo`, `grpo`, `opo`, `pass_at_k`,
and `gpg`) give exactly 0 to an all-equal group of any float value, to a group
with one valid member, and to an empty one. `reinforce`, `psr`, `nsr`,
`weighted_reinforce` and `remax` look at each member by itself. A NaN among
valid members is not hidden: refuse it where rewards are made.
"""

import functools
import inspect
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real, Shaped

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


def whole_batch(**options):
  """Decorator: marks an estimator that looks at all groups of a batch.

  With options, only when it is bound to exactly these (none a default).
  """

  def mark(estimate):
    estimate.whole_batch = options
    return estimate

  return mark


def is_whole_batch(estimate: Callable) -> bool:
  """Takes [P,G] and must not be vmapped over groups. Sees through partial."""
  bound = {}
  while isinstance(estimate, functools.partial):
    bound = estimate.keywords | bound
    estimate = estimate.func
  options = getattr(estimate, 'whole_batch', None)
  return options is not None and options.items() <= bound.items()


def takes(estimate: Callable) -> frozenset[str]:
  """Which of 'length' and 'greedy' it takes after score and valid."""
  parameters = inspect.signature(estimate).parameters
  return frozenset({'length', 'greedy'} & parameters.keys())


@registry.register('estimator')
def reinforce(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i: no baseline (Williams 1992).

  An all-equal group still carries a gradient.
  """
  return masked.keep(score, valid)


@registry.register('estimator')
def dr_grpo(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i - mean(r) (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783).

  Its expected gradient is (G-1)/G of the true one, since r_i is part of its
  own baseline; `rloo` has no such factor. The paper pairs it with the
  aggregate `constant(n)`.
  """
  above = masked.above_min(score, valid)
  mean = jnp.sum(above) / jnp.maximum(masked.count(valid), 1.0)
  return jnp.where(valid, above - mean, 0.0)


@registry.register('estimator')
def rloo(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i - mean of the others (Ahmadian et al. 2024, arXiv:2402.14740).

  Equals G/(G-1) * (r_i - mean(r)), G the number of valid members, and is
  computed so. Its expected gradient is exact.
  """
  size = masked.count(valid)
  return dr_grpo(score, valid) * (size / jnp.maximum(size - 1.0, 1.0))


@registry.register('estimator')
@whole_batch(scale_rewards='batch')
def grpo(
  score: Shaped[types.Array, '*P G'],
  valid: Bool[types.Array, '*P G'],
  *,
  eps: float | int = 1e-6,
  ddof: int = 1,
  scale_rewards: str = 'group',
) -> Float[Array, '*P G']:
  """A_i = (r_i - mean(r)) / (std(r) + eps) (GRPO, arXiv:2402.03300, eq. 3).

  The paper does not say which std. As in verl: the sample std (ddof=1) and
  eps 1e-6. TRL: ddof=1, eps=1e-4. ddof=0 is the population std, with which
  0/1 rewards of mean a give sqrt((1-a)/a) and -sqrt(a/(1-a)).

  `scale_rewards` says whose std it is, in TRL's words: that of the 'group', of
  all scores of the 'batch' (the mean stays the group's), or 'none', which is
  `dr_grpo` and reads neither eps nor ddof.

  Division by the std makes rounding errors large: scores 1e-7 apart have
  advantages up to 0.11 with eps=1e-6. Continuous rewards want a larger eps.

  Raises:
    ValueError: eps <= 0, ddof neither 0 nor 1, another scale_rewards.
  """
  if ddof not in (0, 1):
    raise ValueError(
      f'grpo(ddof={ddof}): write 1 (sample std) or 0 (population std).'
    )
  if scale_rewards not in ('group', 'batch', 'none'):
    raise ValueError(
      f'grpo(scale_rewards={registry.show(scale_rewards)}): write group, batch or none.'
    )
  scale = functools.partial(_scale, 'grpo', eps=eps, ddof=ddof)
  centred = by_group(dr_grpo)(score, valid)
  if scale_rewards == 'none':
    return centred
  if scale_rewards == 'batch':
    return centred / scale(jnp.ravel(score), jnp.ravel(valid))
  every = by_group(scale)(score, valid)
  return centred / jnp.expand_dims(every, -1)


@registry.register('estimator')
def opo(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  length: Real[types.Array, 'G'] | None = None,
) -> Float[Array, 'G']:
  """A_i = r_i - sum_j l_j r_j / sum_j l_j (OPO, Hao et al. 2025).

  arXiv:2505.23585: the baseline of least variance if the squared norm of a
  row's gradient grows as its length l. Without lengths, or with equal ones,
  it is `dr_grpo`. A group without a token gives 0.
  """
  if length is None:
    return dr_grpo(score, valid)
  above = masked.above_min(score, valid)
  weight = masked.keep(length, valid)
  total = jnp.sum(weight)
  known = total > 0
  baseline = jnp.sum(weight * above) / jnp.where(known, total, 1.0)
  return jnp.where(valid & known, above - baseline, 0.0)


@registry.register('estimator')
def remax(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  greedy: Shaped[types.Array, ''],
) -> Float[Array, 'G']:
  """A_i = r_i - r_greedy (ReMax, Li et al. 2023, arXiv:2310.10505).

  r_greedy is the score of one greedily drawn answer to the same prompt: it
  does not depend on the members, so the expected gradient is exact. One
  member is enough, and an all-equal group has a gradient unless the greedy
  answer scores the same.
  """
  return jnp.where(valid, masked.keep(score, valid) - masked.real(greedy), 0.0)


@registry.register('estimator')
def psr(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i: right answers (r = 1) are pulled up, wrong ones (0) left alone.

  Positive sample reinforcement (Zhu et al. 2025, arXiv:2506.01347): the same
  as `reinforce` on a score of 0 or 1. Rows of advantage 0 stay in the
  denominator of the loss; the authors' code removes them from the batch, which
  changes the scale with the accuracy.
  """
  return masked.keep(score, valid)


@registry.register('estimator')
def nsr(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i - 1: wrong answers (r = 0) are pushed down, right ones left alone.

  Negative sample reinforcement (arXiv:2506.01347). Its expected on-policy
  gradient is that of `psr`, since P(right) + P(wrong) = 1: finite samples and
  several updates a batch make the difference. About removed rows see `psr`.
  """
  return weighted_reinforce(score, valid, positive_weight=0.0)


@registry.register('estimator')
def weighted_reinforce(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  positive_weight: float | int = 0.1,
) -> Float[Array, 'G']:
  """A_i = w r_i - (1 - r_i): right answers weigh w, wrong ones -1.

  Weighted-REINFORCE (arXiv:2506.01347, section 5). w = 0 is `nsr`; w = 1 is
  REINFORCE on rewards of 1 and -1.

  Raises:
    ValueError: positive_weight negative or not finite.
  """
  if not 0 <= positive_weight < math.inf:
    raise ValueError(
      f'weighted_reinforce(positive_weight={positive_weight}) must be finite '
      'and >= 0; the paper has 0.1.'
    )
  score = masked.keep(score, valid)
  return jnp.where(valid, positive_weight * score - (1.0 - score), 0.0)


@registry.register('estimator')
def pass_at_k(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  eps: float | int = 1e-6,
) -> Float[Array, 'G']:
  """Only the best member gets anything: (r_max - r_second) / (std + eps).

  The pass@k advantage with k = G (arXiv:2503.19595), as `grpo_passk` of verl:
  sample std, eps 1e-6. On scores of 0 and 1 it is 0 unless exactly one member
  is right.

  Raises:
    ValueError: eps <= 0.
  """
  scale = _scale('pass_at_k', score, valid, eps, 1)
  above = jnp.where(valid, masked.above_min(score, valid), -1.0)
  best = jnp.argmax(above)
  rest = jnp.where(jnp.arange(above.shape[0]) == best, -1.0, above)
  # Alone, a member has no second: the gap is 0.
  second = jnp.where(jnp.max(rest) < 0, above[best], jnp.max(rest))
  gap = jnp.maximum(above[best] - second, 0.0)
  return jnp.where(jnp.arange(above.shape[0]) == best, gap / scale, 0.0)


def by_group(fn: Callable) -> Callable:
  """fn(score, valid) of [G] arrays, for [P,G] as well: group by group."""

  def every(score, valid):
    f = fn if valid.ndim == 1 else jax.vmap(fn)
    return f(score, valid)

  return every


def _scale(name, score, valid, eps, ddof):
  """f32[]: std(r) + eps."""
  if not eps > 0:
    raise ValueError(f'{name}(eps={eps}): eps must be > 0; verl has 1e-6.')
  centred = dr_grpo(score, valid)
  freedom = jnp.maximum(masked.count(valid) - ddof, 1.0)
  variance = jnp.sum(jnp.square(centred)) / freedom
  # sqrt has no gradient at 0, so it must not see one.
  flat = variance == 0
  std = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, variance)))
  return std + eps
