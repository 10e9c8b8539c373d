"""How does what a teacher says of the sampled tokens enter the loss?

Of each token y that the teacher judges there is a divergence D, by name in
`divergence`, and the gap d = log q(y) - log p(y) between teacher and student, a
constant. Tokens without a teacher (a row for which there was no context) have
neither: they leave numerator and denominator of D.

  name       the loss of a token      advantage A of the surrogate
  loss       D
  add        surrogate + weight D     A
  advantage  surrogate                outcome A + weight d
  reweight   surrogate                A ((1 - mix) + mix w),
                                      w = clip(exp(sign(A) d), 1 -+ clip)

The last two read d alone, and no `algo.divergence`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


class Distill(NamedTuple):
  """A row of the table in the module.

  Attributes:
    weight: of the divergence in the loss; 0: the gap alone is used.
    outcome: whether advantages of rewards count too. Else tokens without a
      teacher are not trained.
    reshape: (adv, gap, mask), all [B,T] -> adv; None where it stays.
    everywhere: whether tokens with advantage 0 may have a gradient.
    ratio_cap: the divergence is multiplied by min(rho, ratio_cap), rho the
      ratio of the token's probability to that under the sampler; 0: it is not.
  """

  weight: float
  outcome: bool
  reshape: Callable | None = None
  everywhere: bool = True
  ratio_cap: float = 0.0


def _check(**values: float) -> None:
  for name, value in values.items():
    if not value >= 0:
      raise ValueError(f'{name}={value} must be 0 or above.')


@registry.register('distill')
def loss(*, ratio_cap: float = 0.0) -> Distill:
  """The divergence is the loss, in place of the surrogate.

  SDPO (arXiv:2601.20802) has ratio_cap=2.0.
  """
  _check(ratio_cap=ratio_cap)
  return Distill(1.0, False, ratio_cap=float(ratio_cap))


@registry.register('distill')
def add(*, weight: float = 1.0, ratio_cap: float = 0.0) -> Distill:
  """weight D beside the surrogate; each divided by its own denominator.

  With 'reverse' and weight (1 - l) / l it is SDPO's hybrid l A_GRPO + (1 - l)
  A_SDPO, up to a factor l; with 'gated' and weight=0.1 it is SDAR.
  """
  _check(weight=weight, ratio_cap=ratio_cap)
  return Distill(float(weight), True, ratio_cap=float(ratio_cap))


@registry.register('distill')
def advantage(
  *, weight: float = 1.0, outcome: float = 0.0, clip: float = 0.0
) -> Distill:
  """A becomes outcome A + weight d, d within +-clip (0: as it is).

  On-policy distillation as a policy gradient with discount 0 (Thinking Machines
  2025); with any surrogate, so that old samples are corrected for.
  """
  _check(weight=weight, outcome=outcome, clip=clip)

  def reshape(adv, gap, mask):
    gap = jnp.clip(gap, -clip, clip) if clip else gap
    out = weight * masked.keep(gap, mask)
    return out + outcome * masked.keep(adv, mask) if outcome else out

  return Distill(0.0, outcome > 0, reshape)


@registry.register('distill')
def reweight(*, mix: float = 0.5, clip: float = 0.2) -> Distill:
  """A is scaled by 1 - mix + mix w, w in [1 - clip, 1 + clip]: its sign stays.

    w = clip(exp(sign(A) d), 1 - clip, 1 + clip)

  RLSD (arXiv:2604.03128): the outcome says which way, the teacher how far: a
  right row's tokens count more where the teacher finds them likelier, a wrong
  row's where it does not. mix=1 is the teacher's weight alone.

  Raises:
    ValueError: mix is not in [0, 1], or clip not in [0, 1): a sign could flip.
  """
  if not (0 <= mix <= 1 and 0 <= clip < 1):
    raise ValueError(
      f'mix={mix} must be in 0..1 and clip={clip} in 0..1 (below 1): else the '
      'sign of an advantage could flip.'
    )

  def reshape(adv, gap, mask):
    adv = masked.keep(adv, mask)
    gap = masked.clamp_log_ratio(jnp.sign(adv) * masked.keep(gap, mask))
    weight = jnp.clip(jnp.exp(gap), 1 - clip, 1 + clip)
    return adv * (1 - mix + mix * weight)

  return Distill(0.0, True, reshape, everywhere=False)


@registry.trial('distill')
def _trial(make):
  made = make()
  if not isinstance(made, Distill):
    raise ValueError(
      f'it returned {registry.show(made)}: return an ops.distill.Distill.'
    )


def reshaped(
  distill: Distill,
  adv: Float[types.Array, 'B T'],
  logp: Float[types.Array, 'B T'],
  logq: Float[types.Array, 'B T'],
  taught: Bool[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
) -> Float[Array, 'B T']:
  """The advantages that the surrogate uses, without gradient.

  Args:
    logp, logq: of the sampled tokens, under student and teacher.
    taught: tokens that the teacher judges; the gap of others is 0.
  """
  if distill.reshape is None:
    return jnp.asarray(adv)
  gap = masked.keep(logq, taught) - masked.keep(logp, taught)
  return jax.lax.stop_gradient(distill.reshape(adv, gap, mask))


def weighted(
  distill: Distill,
  divergence: Float[types.Array, 'B T'],
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  taught: Bool[types.Array, 'B T'],
) -> Float[Array, 'B T']:
  """The divergence of taught tokens times min(rho, ratio_cap), 0 elsewhere."""
  divergence = masked.keep(divergence, taught)
  if not distill.ratio_cap:
    return divergence
  gap = masked.keep(logp, taught) - masked.keep(logp_old, taught)
  rho = jnp.exp(masked.clamp_log_ratio(jax.lax.stop_gradient(gap)))
  return divergence * jnp.minimum(rho, distill.ratio_cap)
