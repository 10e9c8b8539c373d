"""Votes among several answers to one problem. NumPy only."""

import numpy as np


def winner(answer, weight) -> np.ndarray:
  """Which sample speaks for the answer with the largest sum of weights.

  Equal weights are the majority vote; stated confidences are the
  confidence-weighted vote of RLCR (arXiv:2507.16806). Sums that agree to
  1e-9 are a tie; it goes to the answer that was said first.

  Args:
    answer: int[B,K], K samples of each of B problems: equal numbers are equal
      answers, negative ones no answer and no vote.
    weight: f[B,K], at least 0; of one vote each.

  Returns:
    i64[B]: the first sample that said the winning answer; -1 without votes.

  Raises:
    ValueError: other shapes, a weight that is negative or not finite.
  """
  answer, weight = np.asarray(answer), np.asarray(weight, np.float64)
  if answer.ndim != 2 or answer.shape != weight.shape or not answer.shape[1]:
    raise ValueError(
      f'answer {answer.shape} and weight {weight.shape} must both be [B,K], '
      'K >= 1.'
    )
  if bad := weight[~((weight >= 0) & np.isfinite(weight))].tolist():
    raise ValueError(f'A vote weighs {bad[0]}: it must be finite and >= 0.')
  votes = answer >= 0
  names, number = np.unique(answer, return_inverse=True)
  box = np.arange(len(answer))[:, None] * len(names) + number.reshape(
    answer.shape
  )
  total = np.bincount(
    box.ravel(), (weight * votes).ravel(), minlength=len(answer) * len(names)
  )
  total = np.where(votes, np.round(total[box], 9), -1.0)
  return np.where(votes.any(-1), total.argmax(-1), -1)


def most_confident(answer, confidence) -> np.ndarray:
  """The sample with the largest stated confidence, the first of equal ones.

  Args:
    answer: int[B,K] as in `winner`.
    confidence: f[B,K], NaN where none is stated.

  Returns:
    i64[B]; -1 where no sample has both an answer and a confidence.
  """
  q = np.where(np.asarray(answer) >= 0, np.asarray(confidence, float), np.nan)
  q = np.where(np.isnan(q), -1.0, q)
  return np.where(q.max(-1) >= 0, q.argmax(-1), -1)
