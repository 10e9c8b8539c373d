"""The KV cache: layout of keys and values, room for them, and writing.

A layer has blocks of columns, each of them keys f[B,K,C,N] and values
f[B,K,N,C]: a step reads only the blocks that are written, so that its cost
grows with the columns in use and not with those that there may be. The samplers
carry the cache and update it in place.
"""

import jax
import jax.numpy as jnp

from rlvr_jax.models import layers
from rlvr_jax.models.model_config import ModelConfig

Pair = tuple[jax.Array, jax.Array]
Blocks = tuple[Pair, ...]  # of one layer

FIRST = 256  # columns of the first block; the others double the whole


def sizes(columns: int) -> tuple[int, ...]:
  """Columns of each block: 256, 256, 512, 1024, ..., and what is left."""
  out, total = [], 0
  while total < columns:
    out.append(min(max(total, FIRST), columns - total))
    total += out[-1]
  return tuple(out)


def lay_out(k: jax.Array, v: jax.Array) -> Pair:
  """Keys and values [B,T,K,C] in the layout of `KeysValues`."""
  return k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3)


def allocate(
  config: ModelConfig, rows: int, columns: int, dtype: jnp.dtype
) -> list[Blocks]:
  """Zeros for `columns` tokens of each row, for each layer."""
  empty = lambda *shape: jnp.zeros((rows, config.num_kv_heads, *shape), dtype)
  c = config.head_dim
  return [
    tuple((empty(c, n), empty(n, c)) for n in sizes(columns))
    for _ in range(config.num_layers)
  ]


def write(cache: Blocks, new: Pair, column: jax.Array) -> Blocks:
  """A layer's cache with new keys and values, from `lay_out`, at `column`."""
  if len(cache) == 1:
    return (_write(cache[0], new, column),)
  out, start = [], 0
  for block in cache:
    out.append(_overlapping(block, new, column - start))
    start += block[0].shape[3]
  return tuple(out)


def _write(block, new, at):
  update = jax.lax.dynamic_update_slice_in_dim
  return update(block[0], new[0], at, 3), update(block[1], new[1], at, 2)


def _overlapping(block, new, at):
  """`_write` of what falls into the block; `at` may be outside of it."""
  n, width = block[0].shape[3], new[0].shape[3]
  if width == 1:  # every step of decoding: in place
    inside = (at >= 0) & (at < n)
    at = jnp.clip(at, 0, n - 1)
    old = tuple(
      jax.lax.dynamic_slice_in_dim(x, at, 1, axis)
      for x, axis in zip(block, (3, 2), strict=True)
    )
    new = tuple(jnp.where(inside, x, y) for x, y in zip(new, old, strict=True))
    return _write(block, new, at)
  room = tuple(
    jnp.pad(x, [(width, width) if a == axis else (0, 0) for a in range(4)])
    for x, axis in zip(block, (3, 2), strict=True)
  )
  k, v = _write(room, new, jnp.clip(at, -width, n) + width)
  return k[..., width : width + n], v[:, :, width : width + n]


def sources(
  cache: Blocks,
  mask: jax.Array,
  used: jax.Array,
  first: jax.Array | int = 0,
) -> tuple[layers.KeysValues, ...]:
  """A layer's cache to attend to, of which blocks in use are read.

  Args:
    mask: bool, broadcastable to [B,1,T,M]: which columns are seen.
    used: i32[], M columns and more are not seen.
    first: i32[], columns before it are not seen.
  """
  if len(cache) == 1:
    return (layers.KeysValues(*cache[0], mask),)
  out, start = [], 0
  for k, v in cache:
    end = start + k.shape[3]
    live = (used > start) & (first < end)
    out.append(layers.KeysValues(k, v, mask[..., start:end], live))
    start = end
  return tuple(out)
