"""Ratio: numerator and denominator of a mean, to add over micro-batches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class Ratio(NamedTuple):
  """Numerator and denominator of a mean; add both, then `divide` once."""

  num: ArrayLike
  den: ArrayLike


def divide(ratio: Ratio) -> jax.Array:
  """num / den; 0 where den is 0, with gradient 0 there, never NaN."""
  empty = ratio.den == 0
  return jnp.where(empty, 0.0, ratio.num / jnp.where(empty, 1.0, ratio.den))
