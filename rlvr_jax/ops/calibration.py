"""How well stated confidences match what is right. NumPy only."""

from collections.abc import Callable
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
  of_weights = weighted(confidence, correct, bins=bins, eps=eps)
  return of_weights(np.ones(len(np.asarray(confidence))))


def weighted(
  confidence, correct, *, bins: int = 10, eps: float = 1e-6
) -> Callable[[np.ndarray], Calibration]:
  """The function weights f64[N] -> `calibration` of N weighted statements.

  A statement of weight w counts as w equal ones; what does not depend on the
  weights is computed once. Weights that are all 0 give NaN.
  """
  q, c = _checked(confidence, correct, bins)
  if not 0 < eps < 0.5:
    raise ValueError(f'eps={eps} must be in (0, 0.5).')
  bin_ = _bin(q, bins)
  clipped = np.clip(q, eps, 1 - eps)
  loss = -np.log(np.where(c == 1, clipped, 1 - clipped))
  values, group = np.unique(q, return_inverse=True)

  def of_weights(w):
    total = w.sum()
    if not total > 0:
      return Calibration(*[float('nan')] * len(Calibration._fields))
    right = np.bincount(group, w * c, len(values))
    wrong = np.bincount(group, w * (1 - c), len(values))
    return Calibration(
      ece=float(np.abs(np.bincount(bin_, w * (q - c))).sum() / total),
      brier=float(w @ np.square(q - c) / total),
      auroc=_auroc(right, wrong),
      log_loss=float(w @ loss / total),
      aurc=_aurc(right, wrong),
    )

  return of_weights


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
    raise ValueError(f'bins={bins} must be at least 1.')
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
