"""Where in a row is a quantity large? Means by the place of a token."""

import itertools

import jax.numpy as jnp
from jaxtyping import Bool, Float

from rlvr_jax import types
from rlvr_jax.ops import masked
from rlvr_jax.ops.ratio import Ratio

# First place of each bucket: four times as far as the one before.
EDGES = (0, 16, 64, 256, 1024, 4096, 16_384)
NAMES = (
  *(f'{a}-{b - 1}' for a, b in itertools.pairwise(EDGES)),
  f'{EDGES[-1]}-',
)


def means(
  x: Float[types.Array, 'B T'], mask: Bool[types.Array, 'B T']
) -> dict[str, Ratio]:
  """The mean of x over the tokens of each bucket, as a `Ratio` by its name.

  A token's place is the number of tokens of the mask before it in its row.
  """
  place = jnp.cumsum(mask, -1) - 1
  bucket = jnp.searchsorted(jnp.array(EDGES), place, side='right') - 1
  out = {}
  for i, name in enumerate(NAMES):
    inside = mask & (bucket == i)
    out[name] = Ratio(masked.keep(x, inside).sum(), masked.count(inside))
  return out
