"""Calibration of stated confidences: ECE, Brier, AUROC, log loss, AURC."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Calibration(NamedTuple):
  """The five scores that `calibration` defines."""

  ece: float
  brier: float
  auroc: float
  log_loss: float
  aurc: float


def calibration(
  confidence: ArrayLike,
  correct: ArrayLike,
  *,
  bins: int = 10,
  eps: float = 1e-6,
) -> Calibration:
  """Calibration of N confidences q in [0, 1] against correctness c in {0, 1}.

    brier    = mean (q - c)^2
    ece      = sum_b n_b/N |mean q - mean c in bin b|
    auroc    = P(q of a correct one > q of a wrong one), ties count one half
    log_loss = -mean of log q' where c = 1 and log (1 - q') where c = 0, in nats
    aurc     = area under `risk_coverage`: each risk times the coverage added
               at that point

  Bins have equal width; bin b holds b/bins <= q < (b+1)/bins, the last one also
  q = 1. A margin of 1e-9 absorbs rounding, so that 0.7 is in the eighth of ten
  bins. q' is q clipped to [eps, 1-eps]: without it, one wrong answer with
  confidence 1 has an infinite loss. auroc is NaN if all or none are correct;
  everything is NaN for N = 0.

  Raises:
    ValueError: shapes other than [N] twice, q outside [0, 1] or not finite, c
      neither 0 nor 1, bins < 1, eps outside (0, 0.5).
  """
  q, c = _checked(confidence, correct, bins)
  values, group = np.unique(q, return_inverse=True)
  count = lambda w: np.bincount(group, w, len(values))
  return of_counts(values, count(c), count(1 - c), bins=bins, eps=eps)


def of_counts(
  values: ArrayLike,
  right: np.ndarray,
  wrong: np.ndarray,
  *,
  bins: int = 10,
  eps: float = 1e-6,
) -> Calibration:
  """`calibration` from the number of correct and wrong answers per confidence.

  For weighted data such as bootstrap resamples of problems, where only the
  counts change. Counts that sum to 0 give NaN.

  Args:
    values: f64[U], increasing confidences.
    right, wrong: f64[U], counts at each confidence, at least 0.

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
  """Data of a reliability diagram; means of an empty bin are NaN."""

  count: np.ndarray  # i64[bins]
  confidence: np.ndarray  # f64[bins], mean q
  accuracy: np.ndarray  # f64[bins], mean c


def reliability(
  confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10
) -> Reliability:
  """Mean confidence and accuracy in each bin of `calibration`."""
  q, c = _checked(confidence, correct, bins)
  index = _bin(q, bins)
  count = np.bincount(index, minlength=bins)
  divisor = np.where(count, count, np.nan)
  sums = (np.bincount(index, x, bins) for x in (q, c))
  return Reliability(count, *(x / divisor for x in sums))


def risk_coverage(
  confidence: ArrayLike, correct: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """(coverage [U], risk [U]) of answering only the most confident ones.

  One point per distinct confidence, from high to low: the fraction of answers
  with at least this confidence, and the error rate among them. Equal
  confidences cannot be ranked, so they form one point.
  """
  q, c = _checked(confidence, correct, 1)
  _, group = np.unique(-q, return_inverse=True)
  count = np.cumsum(np.bincount(group))
  return count / max(len(q), 1), np.cumsum(np.bincount(group, 1 - c)) / count


def _checked(confidence, correct, bins):
  q, c = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
  if q.ndim != 1 or q.shape != c.shape:
    raise ValueError(
      f'calibration takes two lists of equal length; got {q.shape}, {c.shape}.'
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
  """Mann-Whitney statistic from counts per ascending confidence."""
  pairs = right.sum() * wrong.sum()
  if not pairs:
    return float('nan')
  return float(right @ (np.cumsum(wrong) - wrong / 2) / pairs)


def _aurc(right, wrong):
  """Area under risk-coverage from counts per ascending confidence."""
  count = (right + wrong)[::-1]  # the most confident first
  covered, errors = np.cumsum(count), np.cumsum(wrong[::-1])
  risk = errors / np.where(covered > 0, covered, 1)
  return float(count @ risk / covered[-1])
