"""Values out of a model's config file, which may hold anything.

A null is as good as an absent key, as it is for Hugging Face. Every function
raises ValueError for a value of another type or out of its bounds, naming
key, value and rule.
"""

import math
from collections.abc import Mapping

# Sizes beyond these are no model's; below them, lists of tensors stay small.
MOST = {
  'layers': 10_000,
  'heads': 2**16,
  'width': 2**20,
  'vocabulary': 2**26,
  'positions': 2**31 - 1,
}


def whole(
  source: Mapping, key: str, most: str, default: int = 0, where='config.json'
) -> int:
  """An int from 1 to MOST[most]; without it the default, 0 for none."""
  value = source.get(key)
  if value is None and default:
    return default
  if type(value) is not int or not 1 <= value <= MOST[most]:
    raise ValueError(
      f'{where} has {key}={value!r:.60}: not a positive int of at most '
      f'{MOST[most]}.'
    )
  return value


def real(
  source: Mapping,
  key: str,
  default: float,
  low: float,
  high: float,
  where='config.json',
) -> float:
  """A float from low to high, without it the default."""
  value = source.get(key)
  if value is None:
    return default
  number = type(value) in (int, float)
  if not number or not low <= value <= high or not math.isfinite(value):
    raise ValueError(
      f'{where} has {key}={value!r:.60}: not a number from {low:g} to {high:g}.'
    )
  return float(value)


def flag(source: Mapping, key: str, where='config.json') -> bool:
  """A bool; without it False."""
  value = source.get(key)
  if value is None:
    return False
  if not isinstance(value, bool):
    raise ValueError(f'{where} has {key}={value!r:.60}: not true or false.')
  return value
