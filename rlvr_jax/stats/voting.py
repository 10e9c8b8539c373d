"""Majority and confidence-weighted votes among the samples of a problem."""

import numpy as np
from numpy.typing import ArrayLike


def winner(answer: ArrayLike, weight: ArrayLike) -> np.ndarray:
  """Index of the first sample with the answer of largest total weight.

  Equal weights give the majority vote; stated confidences give the
  confidence-weighted vote of RLCR (arXiv:2507.16806). Totals that agree to 1e-9
  are a tie, which the answer that was sampled first wins.

  Args:
    answer: int[B,K], K samples of each of B problems: equal numbers are equal
      answers, a negative number is no answer and no vote.
    weight: f[B,K], weight of each vote, at least 0.

  Returns:
    i64[B]: sample index; -1 without votes.

  Raises:
    ValueError: shapes other than [B,K] twice, a weight that is negative or not
      finite.
  """
  answer, weight = np.asarray(answer), np.asarray(weight, np.float64)
  if answer.ndim != 2 or answer.shape != weight.shape or not answer.shape[1]:
    raise ValueError(
      f'answer {answer.shape} and weight {weight.shape} must both be [B,K], '
      'K >= 1.'
    )
  if bad := weight[~((weight >= 0) & np.isfinite(weight))].tolist():
    raise ValueError(f'A vote has weight {bad[0]}: it must be finite and >= 0.')
  votes = answer >= 0
  distinct, number = np.unique(answer, return_inverse=True)
  # One bin for each pair of a problem and a distinct answer.
  index = np.arange(len(answer))[:, None] * len(distinct) + number.reshape(
    answer.shape
  )
  total = np.bincount(
    index.ravel(),
    (weight * votes).ravel(),
    minlength=len(answer) * len(distinct),
  )
  total = np.where(votes, np.round(total[index], 9), -1.0)
  return np.where(votes.any(-1), total.argmax(-1), -1)


def most_confident(answer: ArrayLike, confidence: ArrayLike) -> np.ndarray:
  """Index of the sample with the largest stated confidence, the first of ties.

  Args:
    answer: int[B,K] as in `winner`.
    confidence: f[B,K], NaN where none is stated.

  Returns:
    i64[B]; -1 where no sample has both an answer and a confidence.
  """
  q = np.where(np.asarray(answer) >= 0, np.asarray(confidence, float), np.nan)
  q = np.where(np.isnan(q), -1.0, q)
  return np.where(q.max(-1) >= 0, q.argmax(-1), -1)
