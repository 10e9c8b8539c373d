"""Confidence intervals for measured rates and means. NumPy only."""

from collections.abc import Callable, Sequence

import numpy as np

Numbers = np.ndarray | np.generic | Sequence | float | int


def wilson(
  successes: Numbers, trials: Numbers, z: float | int = 1.959964
) -> tuple[np.ndarray, np.ndarray]:
  """Wilson's score interval (low, high) for a binomial rate (1927).

  (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = successes/n.
  Arrays broadcast. It stays in [0, 1] and is sound at 0 and n successes; no
  trials give (0, 1). z = 1.959964 is 95 %. Trials must be independent: many
  samples of few problems are not, use `bootstrap` over problems there.

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
  some = np.maximum(n, 1)
  p = s / some
  centre = p + z**2 / (2 * some)
  half = z * np.sqrt(p * (1 - p) / some + z**2 / (4 * some**2))
  scale = 1 + z**2 / some
  # At the ends the bound is exact, and rounding must not move it.
  low = np.where(s == 0, 0.0, (centre - half) / scale)
  high = np.where(s == n, 1.0, (centre + half) / scale)
  return low, high


def bootstrap(
  values: Numbers, *, seed: int, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
  """Percentile interval (low, high) of the mean of `values` [M].

  One value per problem; problems are drawn with return, so samples of the
  same problem stay together. The same seed gives the same interval.

  Raises:
    ValueError: values empty, not one-dimensional or not finite; resamples
      below 1; level outside (0, 1).
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not values.size or not np.isfinite(values).all():
    raise ValueError(
      f'bootstrap needs finite values of shape [M], M >= 1, one per problem; '
      f'got shape {values.shape}, {np.isfinite(values).sum()} finite.'
    )
  mean = lambda weights: weights @ values[:, None] / len(values)
  drawn = draws(mean, len(values), seed=seed, resamples=resamples)
  low, high = percentiles(drawn, level)
  return float(low[0]), float(high[0])


def paired_bootstrap(
  a: Numbers,
  b: Numbers,
  *,
  seed: int,
  resamples: int = 2000,
  level: float = 0.95,
) -> tuple[float, float]:
  """Percentile interval (low, high) of mean(b) - mean(a).

  a and b [M] are values of the same problems in the same order; both sides
  take the same resampled problems, so what makes a problem hard for both
  cancels.

  Raises:
    ValueError: other lengths, or values that `bootstrap` refuses.
  """
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.shape != b.shape:
    raise ValueError(
      f'paired_bootstrap compares the same problems; got {a.shape}, {b.shape}.'
    )
  return bootstrap(b - a, seed=seed, resamples=resamples, level=level)


def draws(
  statistic: Callable[[np.ndarray], np.ndarray],
  size: int,
  *,
  seed: int,
  resamples: int = 2000,
) -> np.ndarray:
  """f64[resamples, S]: a statistic of `size` problems, drawn with return.

  Args:
    statistic: weights f64[size], how often each problem was drawn (they add
      up to `size`) -> [S].
    seed: the same seed and size draw the same problems for any statistic.

  Raises:
    ValueError: no problem, or resamples below 1.
  """
  if size < 1 or resamples < 1:
    raise ValueError(
      f'bootstrap(resamples={resamples}) of {size} problems: both must be at '
      'least 1.'
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
  drawn: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """(low [S], high [S]) of draws [R,S], each S over its draws that exist.

  A statistic may be NaN in some resamples, as AUROC where all are right:
  these are left out. Only NaN gives NaN.

  Raises:
    ValueError: level outside (0, 1).
  """
  if not 0 < level < 1:
    raise ValueError(f'level={level} must be between 0 and 1.')
  out = np.full((2, drawn.shape[1]), np.nan)
  for i, column in enumerate(drawn.T):
    column = column[~np.isnan(column)]
    if not column.size:
      continue
    # Infinities cannot be interpolated.
    method = 'linear' if np.isfinite(column).all() else 'nearest'
    ends = [(1 - level) / 2, (1 + level) / 2]
    out[:, i] = np.quantile(column, ends, method=method)
  return out[0], out[1]
