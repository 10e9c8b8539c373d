"""Estimators that look at every group of the batch; see `estimators`.

  estimator(score [P,G], valid bool[P,G]) -> f32[P,G]

or [G], which is a batch of one group. What an advantage is depends on the
whole batch, so they run before it is cut into micro-batches.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real, Shaped

from rlvr_jax import registry, types
from rlvr_jax.ops import estimators, masked


@registry.register('estimator')
@estimators.whole_batch()
def gpg(
  score: Shaped[types.Array, '*P G'],
  valid: Bool[types.Array, '*P G'],
  *,
  alpha: str = 'official',
) -> Float[Array, '*P G']:
  """A_i = alpha (r_i - mean of its group) (GPG, arXiv:2504.02546).

    'official'  alpha = groups / groups whose members differ
    'verl'      alpha = members / members with r != 0

  The first makes up for groups that carry no gradient, which is the paper's
  reason for alpha; it is the default, since a shift of all rewards changes the
  second (with rewards of 1 and -1 it is always 1). The authors' code draws
  more groups until half of them differ, so that its alpha is at most 2; here
  it has no bound. Meant for the surrogate `reinforce`.

  Raises:
    ValueError: another alpha.
  """
  if alpha not in ('official', 'verl'):
    raise ValueError(
      f'gpg(alpha={registry.show(alpha)}): write official or verl.'
    )
  if alpha == 'official':
    spread = estimators.by_group(masked.has_spread)
    whole = masked.count(jnp.any(valid, axis=-1))
    part = masked.count(spread(score, valid))
  else:
    whole = masked.count(valid)
    part = masked.count(masked.keep(score, valid) != 0)
  centred = estimators.by_group(estimators.dr_grpo)(score, valid)
  return centred * (whole / jnp.maximum(part, 1.0))


@registry.register('estimator')
@estimators.whole_batch()
def reinforce_plus_plus(
  score: Shaped[types.Array, '*P G'],
  valid: Bool[types.Array, '*P G'],
  length: Real[types.Array, '*P G'] | None = None,
) -> Float[Array, '*P G']:
  """A_i = (r_i - mean) / sqrt(var + 1e-8), over all tokens of the batch.

  REINFORCE++ (Hu et al. 2025, arXiv:2501.03262) with gamma = 1, where the
  return of each token is its row's score. With l_i tokens in row i, N in all,

    mean = sum l_i r_i / N      var = sum l_i (r_i - mean)^2 / (N - 1)

  as verl whitens. Without lengths every row counts as one token. Groups play
  no part: an all-equal group still carries a gradient, unless all of the
  batch is equal. One token or none in the batch gives 0.
  """
  return _whiten(score, valid, length)


@registry.register('estimator')
@estimators.whole_batch()
def reinforce_plus_plus_baseline(
  score: Shaped[types.Array, '*P G'],
  valid: Bool[types.Array, '*P G'],
  length: Real[types.Array, '*P G'] | None = None,
) -> Float[Array, '*P G']:
  """`reinforce_plus_plus` of r_i - mean of its group (arXiv:2501.03262).

  The mean over tokens of what is whitened is not 0 where lengths differ, so
  an all-equal group, and a row with its group's mean score, still carry a
  gradient. A group of one counts as score 0 (verl leaves it its score).
  """
  centred = estimators.by_group(estimators.dr_grpo)(score, valid)
  return _whiten(centred, valid, length)


def _whiten(x, valid, length, eps=1e-8):
  """`masked.whiten` with each place counted length times."""
  weight = jnp.ones(x.shape, jnp.float32) if length is None else length
  weight = masked.keep(weight, valid)
  total = jnp.sum(weight)
  x = masked.above_min(jnp.ravel(x), jnp.ravel(valid)).reshape(x.shape)
  mean = jnp.sum(weight * x) / jnp.where(total > 0, total, 1.0)
  centred = jnp.where(valid & (total > 1), x - mean, 0.0)
  variance = jnp.sum(weight * jnp.square(centred))
  variance = variance / jnp.maximum(total - 1.0, 1.0)
  return centred * jax.lax.rsqrt(variance + eps)
