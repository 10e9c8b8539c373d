"""Estimators: the scores of one group to advantages.

An estimator has the form

  estimator(score [G], valid bool[G]) -> f32[G]

The G members answer the same prompt; `valid` says which of them count. Only
valid members enter the statistics, invalid ones get exactly 0, and what
stands in their slots, NaN included, reaches nobody. Scores are computed in
float32 (integers and bools are converted).

The group-relative estimators (`dr_grpo`, `rloo`, `grpo`, `pass_at_k`) give
exactly 0 to an all-equal group of any float value, to a group with one valid
member, and to an empty one. `reinforce`, `psr`, `nsr` and
`weighted_reinforce` look at each member by itself. A NaN among valid members is not hidden: refuse it where
rewards are made.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


@registry.register('estimator')
def reinforce(
  score: Real[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i: no baseline (Williams 1992).

  An all-equal group still carries a gradient.
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
  if ddof not in (0, 1):
    raise ValueError(
      f'grpo(ddof={ddof}): write 1 (sample std) or 0 (population std).'
    )
  return dr_grpo(score, valid) / _scale('grpo', score, valid, eps, ddof)


@registry.register('estimator')
def psr(
  score: Real[types.Array, 'G'], valid: Bool[types.Array, 'G']
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
  score: Real[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i - 1: wrong answers (r = 0) are pushed down, right ones left alone.

  Negative sample reinforcement (arXiv:2506.01347). Its expected on-policy
  gradient is that of `psr`, since P(right) + P(wrong) = 1: finite samples and
  several updates a batch make the difference. About removed rows see `psr`.
  """
  return weighted_reinforce(score, valid, positive_weight=0.0)


@registry.register('estimator')
def weighted_reinforce(
  score: Real[types.Array, 'G'],
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
  score: Real[types.Array, 'G'],
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
