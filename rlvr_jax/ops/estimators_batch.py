"""Advantage estimators with statistics of the whole batch, such as GPG.

  estimator(score [P,G], valid bool[P,G]) -> f32[P,G]

or [G], which is a batch of one group; see `estimators` for the conventions. An
advantage depends on the whole batch, so they run before the split into
micro-batches.
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

  'official' compensates for groups without gradient, which is the paper's
  reason for alpha. It is the default because 'verl' is not invariant to a shift
  of all rewards (with rewards 1 and -1 it is always 1). The authors' code
  samples more groups until half of them have spread, which bounds alpha by 2;
  here it has no bound. Use it with the surrogate `reinforce`.

  Raises:
    ValueError: an unknown alpha.
  """
  if alpha not in ('official', 'verl'):
    raise ValueError(
      f'gpg(alpha={registry.show(alpha)}): write official or verl.'
    )
  if alpha == 'official':
    has_spread = estimators.by_group(masked.has_spread)
    total = masked.count(jnp.any(valid, axis=-1))
    with_signal = masked.count(has_spread(score, valid))
  else:
    total = masked.count(valid)
    with_signal = masked.count(masked.keep(score, valid) != 0)
  centred = estimators.by_group(estimators.dr_grpo)(score, valid)
  return centred * (total / jnp.maximum(with_signal, 1.0))


@registry.register('estimator')
@estimators.whole_batch()
def reinforce_plus_plus(
  score: Shaped[types.Array, '*P G'],
  valid: Bool[types.Array, '*P G'],
  length: Real[types.Array, '*P G'] | None = None,
) -> Float[Array, '*P G']:
  """A_i = (r_i - mean) / sqrt(var + 1e-8), over all tokens of the batch.

  REINFORCE++ (Hu et al. 2025, arXiv:2501.03262) with gamma = 1, where the
  return of each token is its row's score. With l_i tokens in row i and N in
  total,

    mean = sum l_i r_i / N      var = sum l_i (r_i - mean)^2 / (N - 1)

  as in verl's whitening. Without lengths every row counts as one token. Groups
  are ignored: an all-equal group still has a gradient, unless the whole batch
  is equal. At most one token in the batch gives 0.
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

  Where lengths differ, the mean over tokens of r_i - group mean is not 0, so an
  all-equal group, and a row with its group's mean score, still have a gradient.
  A group of one gets score 0 (verl keeps its score).
  """
  centred = estimators.by_group(estimators.dr_grpo)(score, valid)
  return _whiten(centred, valid, length)


@registry.register('estimator')
@estimators.whole_batch()
def surprise_baseline(
  score: Shaped[types.Array, '*P G'],
  valid: Bool[types.Array, '*P G'],
  surprise: Real[types.Array, '*P G'] | None = None,
) -> Float[Array, '*P G']:
  """A_i = r_i - b_i, the other rows' mean reward weighted by their surprise.

    b_i = sum_{j != i} w_j r_j / sum_{j != i} w_j    over the rows of the batch

  estimates b* = E[r ||s||^2] / E[||s||^2], the constant baseline of least noise
  (`signal.best_baseline`), without a backward pass: ||s_j||^2, the squared norm
  of a row's gradient, is taken to be proportional to w_j, the sum of
  (1 - p_t)^2 over its tokens. (1 - p_t)^2 is the square of the sampled token's
  entry in the gradient with respect to the logits. Derived here; OPO (`opo`)
  has the same baseline for one group, with lengths as weights.

  Row i is left out of its own baseline. Rows are independent samples given
  their prompts, so that b_i is independent of row i and the expected gradient
  is exact; to leave out its whole group would not be needed for that. One
  constant serves all prompts, so an all-equal group has a gradient unless the
  batch is equal. Without surprises, or with equal ones, a batch of one group is
  `rloo`. A row whose other rows have no surprise gets 0.
  """
  weight = jnp.ones(score.shape, jnp.float32) if surprise is None else surprise
  weight = masked.keep(weight, valid)
  above = masked.above_min(jnp.ravel(score), jnp.ravel(valid))
  above = above.reshape(score.shape)
  others = jnp.sum(weight) - weight
  known = valid & (others > 0)
  paid = jnp.sum(weight * above) - weight * above
  mean = paid / jnp.where(known, others, 1.0)
  # Rounding, where one row has nearly all of the surprise.
  mean = jnp.clip(mean, 0.0, jnp.max(above))
  return jnp.where(known, above - mean, 0.0)


def _whiten(x, valid, length, eps=1e-8):
  """`masked.whiten` with each row counted `length` times."""
  weight = jnp.ones(x.shape, jnp.float32) if length is None else length
  weight = masked.keep(weight, valid)
  total = jnp.sum(weight)
  x = masked.above_min(jnp.ravel(x), jnp.ravel(valid)).reshape(x.shape)
  mean = jnp.sum(weight * x) / jnp.where(total > 0, total, 1.0)
  centred = jnp.where(valid & (total > 1), x - mean, 0.0)
  variance = jnp.sum(weight * jnp.square(centred))
  variance = variance / jnp.maximum(total - 1.0, 1.0)
  return centred * jax.lax.rsqrt(variance + eps)
