"""Confidence intervals for measured rates and means. NumPy only."""

from collections.abc import Sequence

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
  if resamples < 1 or not 0 < level < 1:
    raise ValueError(
      f'bootstrap(resamples={resamples}, level={level}): resamples must be '
      '>= 1 and 0 < level < 1.'
    )
  rng = np.random.default_rng(seed)
  size = values.size
  means = [
    values[rng.integers(size, size=size)].mean() for _ in range(resamples)
  ]
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
  return float(low), float(high)
