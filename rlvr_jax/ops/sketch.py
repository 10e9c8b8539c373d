"""Count sketch of a gradient: inner products of long vectors from short ones.

Charikar, Chen and Farach-Colton 2002, "Finding frequent items in data streams".
"""

from typing import Any

import jax
import jax.numpy as jnp


def sketch(tree: Any, size: int, seed: int = 0) -> jax.Array:
  """f32[size], a linear map of all numbers in `tree` that keeps inner products.

    S(g)_b = sum of sign(i) g_i over the numbers i with bucket(i) = b

  where bucket and sign are hashes of the leaf's path, the position in it and
  the seed. So S(a + b) = S(a) + S(b), and over hashes E <S(a), S(b)> = <a, b>
  with variance at most (|a|^2 |b|^2 + <a, b>^2) / size: sqrt(2 / size) of
  |a|^2 for a norm. The result does not depend on how leaves are sharded.

  Args:
    tree: nested dicts of arrays, such as a gradient.
    size: number of buckets; 4,096 keeps a squared norm to 2%.
    seed: of the hashes.
  """
  out = jnp.zeros(size, jnp.float32)
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    salt = seed
    for byte in jax.tree_util.keystr(path).encode():  # FNV-1a
      salt = ((salt ^ byte) * 0x01000193) % 2**32
    hashed = _hashes(leaf.shape, salt)
    sign = 1.0 - 2.0 * (hashed & 1).astype(jnp.float32)
    out = out.at[(hashed >> 1) % size].add(sign * leaf.astype(jnp.float32))
  return out


def _hashes(shape, salt):
  """u32[shape]: a hash of each position, axis by axis.

  A flat index of a large leaf would not fit 32 bits.
  """
  hashed = _mix(jnp.full((1,) * len(shape), salt, jnp.uint32))
  for axis in range(len(shape)):
    view = [1] * len(shape)
    view[axis] = shape[axis]
    index = jnp.arange(shape[axis], dtype=jnp.uint32).reshape(view)
    hashed = _mix(hashed ^ _mix(index + jnp.uint32(0x9E3779B9)))
  return hashed


def _mix(x):
  """The finaliser of MurmurHash3: every input bit reaches every output bit."""
  x = x ^ (x >> 16)
  x = x * jnp.uint32(0x85EBCA6B)
  x = x ^ (x >> 13)
  x = x * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)
