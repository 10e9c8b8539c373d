"""Which verdicts does a control put in place of a judge's?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax import registry

WORDS = ('', 'first', 'flipped')


class Noisy(NamedTuple):
  """A judge whose error and bias are set, and that asks no model.

  With probability `first` it prefers what is shown first; else the answer that
  the verifier calls right, or the other one with probability `error`. Of two
  right or two wrong answers it prefers either with one half.
  """

  error: float
  first: float


def of(spec: str) -> str | Noisy:
  """The control that judge.control names.

  Raises:
    ValueError: another one, or a probability outside [0, 1].
  """
  if spec in WORDS:
    return spec
  name, args, options = registry.parse(spec)
  if name != 'noisy':
    raise ValueError(
      f'judge.control={registry.show(spec)}: choose first, flipped, '
      "'noisy(error=0.2, first=0.0)', or '' for none."
    )
  bound = registry.bind('judge.control', spec, _noisy, args, options)
  return _noisy(**bound)


def _noisy(*, error: float | int = 0.0, first: float | int = 0.0) -> Noisy:
  if not (0 <= error <= 1 and 0 <= first <= 1):
    raise ValueError(
      f'judge.control=noisy: error={error} and first={first} must lie in [0, 1].'
    )
  return Noisy(error, first)


def verdicts(
  control: Noisy, gap: np.ndarray, samples: int, seed: Sequence[int]
) -> np.ndarray:
  """i32[N,samples]: 1 for the first response shown, -1 for the second.

  Args:
    gap: i[N], 1 if the first is right and the second wrong, -1, or 0.
    seed: of the generator; the same gives the same verdicts.
  """
  rng = np.random.default_rng(list(seed))
  shape = (len(gap), samples)
  coin, errs, biased = rng.random(shape), rng.random(shape), rng.random(shape)
  out = np.where(gap[:, None] == 0, np.where(coin < 0.5, 1, -1), gap[:, None])
  out = np.where(errs < control.error, -out, out)
  return np.where(biased < control.first, 1, out).astype(np.int32)
