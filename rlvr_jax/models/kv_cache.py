"""The KV cache: layout of keys and values, room for them, and writing.

Keys f[B,K,C,M] and values f[B,K,M,C] of M columns, a pair for each layer. The
samplers carry it and update it in place.
"""

import jax
import jax.numpy as jnp

from rlvr_jax.models.model_config import ModelConfig

Pair = tuple[jax.Array, jax.Array]


def lay_out(k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Keys and values [B,T,K,C] in the layout of `KeysValues`."""
  return k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)


def allocate(
  config: ModelConfig, rows: int, columns: int, dtype: jnp.dtype
) -> list[Pair]:
  """Zeros for `columns` tokens of each row, a pair for each layer."""
  empty = lambda *shape: jnp.zeros((rows, config.num_kv_heads, *shape), dtype)
  c = config.head_dim
  return [
    (empty(c, columns), empty(columns, c)) for _ in range(config.num_layers)
  ]


def write(cache: Pair, new: Pair, column: jax.Array) -> Pair:
  """A layer's cache with new keys and values, from `lay_out`, at `column`."""
  update = jax.lax.dynamic_update_slice_in_dim
  return update(cache[0], new[0], column, 3), update(
    cache[1], new[1], column, 2
  )
