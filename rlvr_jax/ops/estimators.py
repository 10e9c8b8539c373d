"""Estimators: the scores of one group to advantages.

An estimator has the form

  estimator(score [G], valid bool[G]) -> f32[G]

The G members answer the same prompt; `valid` says which of them count. Only
valid members enter the statistics, invalid ones get exactly 0, and what
stands in their slots, NaN included, reaches nobody. Scores are computed in
float32 (integers and bools are converted).

The group-relative estimators (all but `reinforce`) give exactly 0 to an
all-equal group of any float value, to a group with one valid member, and to
an empty one. A NaN among valid members is not hidden: refuse it where
rewards are made.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


@registry.register('estimator')
def reinforce(
  score: Real[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i: no baseline (Williams 1992).

  The only one here for which an all-equal group still carries a gradient.
  """
  return masked.keep(score, valid)


@registry.register('estimator')
def dr_grpo(
  score: Real[types.Array, 'G'], valid: Bool[types.Array, 'G']
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
  score: Real[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i - mean of the others (Ahmadian et al. 2024, arXiv:2402.14740).

  Equals G/(G-1) * (r_i - mean(r)), G the number of valid members, and is
  computed so. Its expected gradient is exact.
  """
  size = masked.count(valid)
  return dr_grpo(score, valid) * (size / jnp.maximum(size - 1.0, 1.0))


@registry.register('estimator')
def grpo(
  score: Real[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  eps: float | int = 1e-6,
  ddof: int = 1,
) -> Float[Array, 'G']:
  """A_i = (r_i - mean(r)) / (std(r) + eps) (GRPO, arXiv:2402.03300, eq. 3).

  The paper does not say which std. As in verl: the sample std (ddof=1) and
  eps 1e-6. TRL: ddof=1, eps=1e-4. ddof=0 is the population std, with which
  0/1 rewards of mean a give sqrt((1-a)/a) and -sqrt(a/(1-a)).

  Raises:
    ValueError: eps <= 0, or ddof neither 0 nor 1.
  """
  if not eps > 0:
    raise ValueError(f'grpo(eps={eps}): eps must be > 0; verl has 1e-6.')
  if ddof not in (0, 1):
    raise ValueError(
      f'grpo(ddof={ddof}): write 1 (sample std) or 0 (population std).'
    )
  centred = dr_grpo(score, valid)
  freedom = jnp.maximum(masked.count(valid) - ddof, 1.0)
  variance = jnp.sum(jnp.square(centred)) / freedom
  # sqrt has no gradient at 0, so it must not see one.
  flat = variance == 0
  std = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, variance)))
  return centred / (std + eps)
