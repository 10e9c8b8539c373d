"""How well stated confidences match what is right. NumPy only."""

from typing import NamedTuple

import numpy as np


class Calibration(NamedTuple):
  ece: float
  brier: float
  auroc: float
  log_loss: float
  aurc: float


def calibration(
  confidence, correct, *, bins: int = 10, eps: float = 1e-6
) -> Calibration:
  """Calibration of N confidences q in [0, 1] against correctness c in {0, 1}.

    brier    = mean (q - c)^2
    ece      = sum_b n_b/N |mean q - mean c in bin b|
    auroc    = P(q of a right one > q of a wrong one), ties count one half
    log_loss = -mean log of q' where c = 1, of 1 - q' where c = 0, in nats
    aurc     = area under `risk_coverage`: its risks, each over the coverage
               that is added there

  Bins are equally wide; bin b holds b/bins <= q < (b+1)/bins, the last one
  also q = 1. A q that is the decimal nearest to an edge lies on it: 0.7 is in
  the eighth of ten bins, where a comparison with the rounded edge may put it
  below. q' is q clipped to [eps, 1-eps]: without it, one confident error would
  be infinite. auroc is NaN if all or none are right; all are NaN for N = 0.

  Raises:
    ValueError: other shapes, q outside [0, 1] or not finite, c neither 0 nor 1,
      bins < 1, eps outside (0, 0.5).
  """
  q, c = _checked(confidence, correct, bins)
  values, group = np.unique(q, return_inverse=True)
  count = lambda w: np.bincount(group, w, len(values))
  return of_counts(values, count(c), count(1 - c), bins=bins, eps=eps)


def of_counts(
  values, right, wrong, *, bins: int = 10, eps: float = 1e-6
) -> Calibration:
  """`calibration` of right[u] right and wrong[u] wrong statements of values[u].

  For weighted data, such as resamples of problems, where only the counts
  change. No statement gives NaN.

  Args:
    values: f64[U], increasing confidences.
    right, wrong: f64[U], at least 0.

  Raises:
    ValueError: bins < 1, eps outside (0, 0.5).
  """
  if bins < 1 or not 0 < eps < 0.5:
    raise ValueError(f'bins={bins} must be >= 1 and eps={eps} in (0, 0.5).')
  q, count = np.asarray(values, np.float64), right + wrong
  total = count.sum()
  if not total > 0:
    return Calibration(*[float('nan')] * len(Calibration._fields))
  clipped = np.clip(q, eps, 1 - eps)
  gaps = np.bincount(_bin(q, bins), count * q - right)
  squares = right * np.square(1 - q) + wrong * np.square(q)
  logs = right * np.log(clipped) + wrong * np.log(1 - clipped)
  return Calibration(
    ece=float(np.abs(gaps).sum() / total),
    brier=float(squares.sum() / total),
    auroc=_auroc(right, wrong),
    log_loss=float(-logs.sum() / total),
    aurc=_aurc(right, wrong),
  )


class Reliability(NamedTuple):
  """What a reliability diagram shows; means of an empty bin are NaN."""

  count: np.ndarray  # i64[bins]
  confidence: np.ndarray  # f64[bins], mean q
  accuracy: np.ndarray  # f64[bins], mean c


def reliability(confidence, correct, *, bins: int = 10) -> Reliability:
  """Mean confidence and accuracy in each bin of `calibration`."""
  q, c = _checked(confidence, correct, bins)
  index = _bin(q, bins)
  count = np.bincount(index, minlength=bins)
  some = np.where(count, count, np.nan)
  sums = (np.bincount(index, x, bins) for x in (q, c))
  return Reliability(count, *(x / some for x in sums))


def risk_coverage(confidence, correct) -> tuple[np.ndarray, np.ndarray]:
  """(coverage [U], risk [U]) when only the most confident are answered.

  One point for each distinct confidence, from high to low: the share that is
  at least so confident, and the share of errors among these. Equal
  confidences cannot be told apart, so they enter together.
  """
  q, c = _checked(confidence, correct, 1)
  _, group = np.unique(-q, return_inverse=True)
  count = np.cumsum(np.bincount(group))
  return count / max(len(q), 1), np.cumsum(np.bincount(group, 1 - c)) / count


def _checked(confidence, correct, bins):
  q, c = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
  if q.ndim != 1 or q.shape != c.shape:
    raise ValueError(
      f'calibration takes two lists of one length; got {q.shape}, {c.shape}.'
    )
  if bad := q[~((q >= 0) & (q <= 1))].tolist():
    raise ValueError(f'confidence {bad[0]} is not in [0, 1].')
  if bad := c[(c != 0) & (c != 1)].tolist():
    raise ValueError(f'correct {bad[0]} is neither 0 nor 1.')
  if bins < 1:
    raise ValueError(f'bins={bins} must be >= 1.')
  return q, c


def _bin(q, bins):
  return np.minimum(np.floor(q * bins + 1e-9).astype(int), bins - 1)


def _auroc(right, wrong):
  """Mann and Whitney's statistic from counts per ascending value."""
  pairs = right.sum() * wrong.sum()
  if not pairs:
    return float('nan')
  return float(right @ (np.cumsum(wrong) - wrong / 2) / pairs)


def _aurc(right, wrong):
  """From counts per ascending value; the most confident come first."""
  count = (right + wrong)[::-1]
  seen, errors = np.cumsum(count), np.cumsum(wrong[::-1])
  return float(count @ (errors / np.where(seen > 0, seen, 1)) / seen[-1])
