"""How well stated confidences match what is right. NumPy only."""

from typing import NamedTuple

import numpy as np


class Calibration(NamedTuple):
  ece: float
  brier: float
  auroc: float
  log_loss: float


def calibration(
  confidence, correct, *, bins: int = 10, eps: float = 1e-6
) -> Calibration:
  """Calibration of N confidences q in [0, 1] against correctness c in {0, 1}.

    brier    = mean (q - c)^2
    ece      = sum_b n_b/N |mean q - mean c in bin b|
    auroc    = P(q of a right one > q of a wrong one), ties count one half
    log_loss = -mean log of q' where c = 1, of 1 - q' where c = 0, in nats

  Bins are equally wide; bin b holds b/bins <= q < (b+1)/bins, the last one
  also q = 1. A q that is the decimal nearest to an edge lies on it: 0.7 is in
  the eighth of ten bins, where a comparison with the rounded edge may put it
  below. q' is q clipped to [eps, 1-eps]: without it, one confident error would
  be infinite. auroc is NaN if all or none are right; all are NaN for N = 0.

  Raises:
    ValueError: other shapes, q outside [0, 1] or not finite, c neither 0 nor 1,
      bins < 1, eps outside (0, 0.5).
  """
  q, c = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
  if q.ndim != 1 or q.shape != c.shape:
    raise ValueError(
      f'calibration takes two lists of one length; got {q.shape}, {c.shape}.'
    )
  if bad := q[~((q >= 0) & (q <= 1))].tolist():
    raise ValueError(f'confidence {bad[0]} is not in [0, 1].')
  if bad := c[(c != 0) & (c != 1)].tolist():
    raise ValueError(f'correct {bad[0]} is neither 0 nor 1.')
  if bins < 1 or not 0 < eps < 0.5:
    raise ValueError(f'bins={bins} must be >= 1 and eps={eps} in (0, 0.5).')
  if not len(q):
    return Calibration(*[float('nan')] * 4)
  clipped = np.clip(q, eps, 1 - eps)
  return Calibration(
    ece=float(np.abs(_gaps(q, c, bins)).sum() / len(q)),
    brier=float(np.mean(np.square(q - c))),
    auroc=_auroc(q, c),
    log_loss=float(-np.mean(np.log(np.where(c == 1, clipped, 1 - clipped)))),
  )


def _gaps(q, c, bins):
  """f64[bins]: sum of q - c in each bin."""
  index = np.minimum(np.floor(q * bins + 1e-9).astype(int), bins - 1)
  return np.bincount(index, q - c, minlength=bins)


def _auroc(q, c):
  """Mann and Whitney's statistic from mean ranks: N log N, ties exact."""
  right = int(c.sum())
  wrong = len(c) - right
  if not right or not wrong:
    return float('nan')
  _, group, size = np.unique(q, return_inverse=True, return_counts=True)
  rank = np.cumsum(size) - (size - 1) / 2  # mean rank of each value
  above = rank[group][c == 1].sum() - right * (right + 1) / 2
  return float(above / (right * wrong))
