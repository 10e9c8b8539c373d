"""How good is a judge: accuracy by votes, bias of places, consistency?"""

import numpy as np

from rlvr_jax.evaluation import sample_store
from rlvr_jax.stats import tournaments

Ratio = tuple[np.ndarray, np.ndarray]


def per_problem(table: sample_store.Table, ks: list[int]) -> dict:
  """{name: f64[M]} of metrics that are means over judgments to make.

  judge/vote@k: accuracy of the majority of k samples, without bias; a tie
  counts one half, and unreadable judgments are no votes. judge/unreadable:
  share of samples without a verdict. {} where tasks are no judgments.
  """
  judged = table.judged
  if judged is None:
    return {}
  n = judged.place.shape[1]
  right, wrong = _counts(judged)
  votes = {
    f'judge/vote@{k}': tournaments.vote_at_k(right, wrong, n, k) for k in ks
  }
  return votes | {'judge/unreadable': (judged.place < 0).mean(-1)}


def ratios(table: sample_store.Table) -> dict[str, Ratio]:
  """{name: (numerator f64[M], denominator f64[M])} of conditional means.

  judge/first: share of the readable verdicts that prefer the first response.
  judge/accuracy_first, judge/accuracy_second: accuracy where the better one is
  shown first, and second. Over pairs that were judged in both orders, of two
  samples, one of each: judge/consistency, the chance that both prefer the same
  response, and judge/both_orders, that both are right; unreadable ones count
  against both.
  """
  judged = table.judged
  if judged is None:
    return {}
  n = judged.place.shape[1]
  readable = (judged.place >= 0).sum(-1).astype(np.float64)
  right, wrong = _counts(judged)
  first = judged.better == 0
  out = {
    'judge/first': ((judged.place == 0).sum(-1).astype(np.float64), readable),
    'judge/accuracy_first': (right / n * first, first.astype(np.float64)),
    'judge/accuracy_second': (right / n * ~first, (~first).astype(np.float64)),
  }
  same, both, paired = (np.zeros(len(first)) for _ in range(3))
  for rows in _pairs(judged):
    a, b = rows
    agree = (right[a] * right[b] + wrong[a] * wrong[b]) / n**2
    same[rows], both[rows] = agree / 2, right[a] * right[b] / n**2 / 2
    paired[rows] = 0.5
  if paired.any():
    out['judge/consistency'] = same, paired
    out['judge/both_orders'] = both, paired
  return out


def clusters(table: sample_store.Table) -> np.ndarray:
  """i64[M]: what a bootstrap resamples together, numbered from 0.

  The judgments of a pair; a task of another kind stands alone.
  """
  if table.judged is None:
    return np.arange(len(table.verdict))
  return np.unique(table.judged.pair, return_inverse=True)[1].reshape(-1)


def _counts(judged: sample_store.Judged) -> tuple[np.ndarray, np.ndarray]:
  """i64[M] twice: samples that prefer the better response, and the other."""
  right = (judged.place == judged.better[:, None]).sum(-1)
  return right, (judged.place >= 0).sum(-1) - right


def _pairs(judged: sample_store.Judged) -> list[list[int]]:
  """The two rows of each pair that is judged in both orders."""
  rows: dict[int, list[int]] = {}
  for row, pair in enumerate(judged.pair.tolist()):
    rows.setdefault(pair, []).append(row)
  return [
    x for x in rows.values() if len(x) == 2 and len({*judged.better[x]}) == 2
  ]
