"""A mean not yet taken, so that it adds over micro-batches and devices."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.typing import ArrayLike


class Ratio(NamedTuple):
  """Sum `num` over sum `den`; `divide` takes the mean, in one place."""

  num: ArrayLike
  den: ArrayLike


def divide(ratio: Ratio):
  """num / den, and 0 where den is 0. The gradient there is 0, never NaN."""
  empty = ratio.den == 0
  return jnp.where(empty, 0.0, ratio.num / jnp.where(empty, 1.0, ratio.den))
