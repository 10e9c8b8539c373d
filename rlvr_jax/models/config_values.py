"""Checked reads of single values from a model's config.json or GGUF header.

A null counts as an absent key, as for Hugging Face. Every function raises
ValueError for a value of another type or out of its bounds, naming key, value
and rule.
"""

import math
from collections.abc import Mapping

# No real model is larger; below these, lists of tensors stay small.
MOST = {
  'layers': 10_000,
  'heads': 2**16,
  'width': 2**20,
  'vocabulary': 2**26,
  'positions': 2**31 - 1,
}


def whole(
  source: Mapping,
  key: str,
  most: str,
  default: int = 0,
  where: str = 'config.json',
) -> int:
  """The int at `key`, in 1..MOST[most]; the default if absent (0: required)."""
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
  where: str = 'config.json',
) -> float:
  """The number at `key`, in low..high, as a float; the default if absent."""
  value = source.get(key)
  if value is None:
    return default
  number = type(value) in (int, float)
  if not number or not low <= value <= high or not math.isfinite(value):
    raise ValueError(
      f'{where} has {key}={value!r:.60}: not a number from {low:g} to {high:g}.'
    )
  return float(value)


def flag(
  source: Mapping,
  key: str,
  where: str = 'config.json',
  default: bool = False,
) -> bool:
  """The bool at `key`; the default if absent."""
  value = source.get(key)
  if value is None:
    return default
  if not isinstance(value, bool):
    raise ValueError(f'{where} has {key}={value!r:.60}: not true or false.')
  return value
