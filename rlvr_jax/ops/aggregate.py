"""Aggregation of per-token losses into one loss, as a Ratio divided later.

An aggregate has the form

  aggregate(x [B,T], mask bool[B,T]) -> Ratio(num f32[], den f32[])

`den` depends on the mask only, and both add over micro-batches: the sum of
their `num`, divided once by the whole batch's `den`, is the value on the whole
batch, however it is split. Rows without a trained token are not counted.
Values at masked positions, NaN included, never affect the result.

Names differ between frameworks. For two rows with per-token losses (1,1) and
(2,2,2,2):

  token_mean          1.666667  verl token-mean, TRL dapo
  seq_mean_token_mean 1.5       verl seq-mean-token-mean, TRL grpo
  seq_mean_token_sum  5         verl seq-mean-token-sum
  constant(4)         1.25      TRL dr_grpo, the Dr. GRPO authors' code

verl's seq-mean-token-sum-norm gives 2.5 where constant(4) gives 1.25: it does
not divide by the number of rows, so its scale changes with the batch size. It
is not implemented here.
"""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked
from rlvr_jax.ops.ratio import Ratio


@registry.register('aggregate')
def token_mean(
  x: Float[types.Array, 'B T'], mask: Bool[types.Array, 'B T']
) -> Ratio:
  """sum(x m) / sum(m): every token has the same weight (DAPO)."""
  return Ratio(jnp.sum(masked.keep(x, mask)), masked.count(mask))


@registry.register('aggregate')
def seq_mean_token_mean(
  x: Float[types.Array, 'B T'], mask: Bool[types.Array, 'B T']
) -> Ratio:
  """Mean over rows of each row's token mean (GRPO, arXiv:2402.03300, eq. 3).

  Every row has the same weight, so a token of a long row has a small one.
  """
  length = jnp.sum(mask, axis=1)
  row_sum = jnp.sum(masked.keep(x, mask), axis=1)
  return Ratio(jnp.sum(row_sum / jnp.maximum(length, 1)), _rows(mask))


@registry.register('aggregate')
def seq_mean_token_sum(
  x: Float[types.Array, 'B T'], mask: Bool[types.Array, 'B T']
) -> Ratio:
  """Mean over rows of each row's sum: the policy gradient theorem's form."""
  return Ratio(jnp.sum(masked.keep(x, mask)), _rows(mask))


@registry.register('aggregate')
def constant(
  x: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  n: float | int,
) -> Ratio:
  """sum(x m) / (n * rows) (Dr. GRPO, arXiv:2503.20783).

  Equals `seq_mean_token_sum` / n. In the paper, n is the maximum completion
  length.

  Raises:
    ValueError: n <= 0.
  """
  if not n > 0:
    raise ValueError(
      f'constant(n={n}): n must be > 0; write max_completion_length.'
    )
  return Ratio(jnp.sum(masked.keep(x, mask)), n * _rows(mask))


def _rows(mask):
  """Number of rows with at least one trained token, as float32."""
  return masked.count(jnp.any(mask, axis=1))
