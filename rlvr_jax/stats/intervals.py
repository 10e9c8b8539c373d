"""Confidence intervals of evaluation metrics: Wilson and bootstrap."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def wilson(
  successes: ArrayLike, trials: ArrayLike, z: float | int = 1.959964
) -> tuple[np.ndarray, np.ndarray]:
  """Wilson score interval (low, high) of a binomial rate (Wilson 1927).

  (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = successes/n.
  Arrays broadcast. It stays in [0, 1] and is valid at 0 and n successes; no
  trials give (0, 1). z = 1.959964 is 95 %. Trials must be independent: several
  samples of a problem are not, so bootstrap over problems there (`draws`).

  Raises:
    ValueError: successes outside [0, trials].
  """
  s, n = np.broadcast_arrays(
    np.asarray(successes, np.float64), np.asarray(trials, np.float64)
  )
  bad = ~((s >= 0) & (s <= n))
  if bad.any():
    raise ValueError(
      f'{s[bad][0]:g} successes in {n[bad][0]:g} trials; '
      '0 <= successes <= trials must hold.'
    )
  trials_or_1 = np.maximum(n, 1)
  p = s / trials_or_1
  centre = p + z**2 / (2 * trials_or_1)
  half = z * np.sqrt(p * (1 - p) / trials_or_1 + z**2 / (4 * trials_or_1**2))
  scale = 1 + z**2 / trials_or_1
  # At 0 and n successes the bound is exactly 0 and 1, despite rounding.
  low = np.where(s == 0, 0.0, (centre - half) / scale)
  high = np.where(s == n, 1.0, (centre + half) / scale)
  return low, high


def draws(
  statistic: Callable[[np.ndarray], np.ndarray],
  size: int,
  *,
  seed: int,
  resamples: int = 2000,
) -> np.ndarray:
  """f64[resamples, S]: bootstrap resamples of a statistic over problems.

  Problems, not samples, are sampled with replacement, so samples of the same
  problem stay together.

  Args:
    statistic: weights f64[size], how often each problem was sampled (their sum
      is `size`) -> [S].
    size: number of problems.
    seed: the same seed and size resample the same problems for any statistic.

  Raises:
    ValueError: size or resamples below 1.
  """
  if size < 1 or resamples < 1:
    raise ValueError(
      f'Bootstrap of {size} problems with resamples={resamples}: both must be '
      'at least 1.'
    )
  rng = np.random.default_rng(seed)
  return np.array(
    [
      statistic(
        np.bincount(rng.integers(size, size=size), minlength=size).astype(float)
      )
      for _ in range(resamples)
    ],
    np.float64,
  )


def percentiles(
  resampled: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """Percentile interval (low [S], high [S]) from `draws` [R,S].

  A statistic may be NaN in some resamples, as AUROC where all are correct:
  these are left out. A column of NaN only gives NaN.

  Raises:
    ValueError: level outside (0, 1).
  """
  if not 0 < level < 1:
    raise ValueError(f'level={level} must be between 0 and 1.')
  out = np.full((2, resampled.shape[1]), np.nan)
  for i, column in enumerate(resampled.T):
    column = column[~np.isnan(column)]
    if not column.size:
      continue
    # Interpolation between infinities would give NaN.
    method = 'linear' if np.isfinite(column).all() else 'nearest'
    ends = [(1 - level) / 2, (1 + level) / 2]
    out[:, i] = np.quantile(column, ends, method=method)
  return out[0], out[1]
