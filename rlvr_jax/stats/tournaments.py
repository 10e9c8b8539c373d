"""Which response is best, from many judgments: votes, sums, tournaments.

A verdict on two responses is 1 (the first one is better), -1 (the second) or 0
(unreadable, or a tie); scores are numbers, NaN where they are unreadable. The
card's formulas: RRM (arXiv 2505.14674), DeepSeek-GRM (arXiv 2504.02495).
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

START = 1500.0  # of an Elo rating
Match = tuple[int, int]

##### votes on one pair #####


def vote(verdicts: ArrayLike) -> np.ndarray:
  """The majority of verdicts [...,K] in {1,-1,0}: i64[...], 0 for a tie."""
  return np.sign(_verdicts(verdicts).sum(-1))


def both_orders(shown: ArrayLike, swapped: ArrayLike) -> np.ndarray:
  """Verdicts that hold in both orders, else 0: i64[...].

  Args:
    shown: verdicts [...] with response a shown first: 1 for a.
    swapped: verdicts [...] on the same pair with b shown first: 1 for b, which
      is what stood first.
  """
  a, b = _verdicts(shown), -_verdicts(swapped)
  return np.where(a == b, a, 0)


def independent_vote(p: float, k: int) -> float:
  """Accuracy of the majority of k independent verdicts, each right with p.

  Ties of an even k count one half. What vote@k could reach: judgments of one
  model agree more often than that, and fall short of it.

  Raises:
    ValueError: p outside [0, 1], or k below 1.
  """
  if not 0 <= p <= 1 or k < 1:
    raise ValueError(
      f'p={p}, k={k}: p is a probability and k a number of votes, at least 1.'
    )
  chance = lambda right: math.comb(k, right) * p**right * (1 - p) ** (k - right)
  won = sum(chance(r) for r in range(k + 1) if 2 * r > k)
  return won + (0.5 * chance(k // 2) if k % 2 == 0 else 0.0)


def vote_at_k(right: ArrayLike, wrong: ArrayLike, n: int, k: int) -> np.ndarray:
  """Accuracy of the majority of k of n judgments: f64[...].

  The mean over all subsets of k, as in pass@k, so that it has no bias. A tie of
  votes counts one half; a subset without a readable judgment is wrong, so that
  vote@1 is the accuracy.

  Args:
    right, wrong: i[...], judgments for either side; the n - right - wrong
      others are unreadable and no vote.

  Raises:
    ValueError: counts that are negative or above n, or k outside 1..n.
  """
  right, wrong = np.broadcast_arrays(np.asarray(right), np.asarray(wrong))
  if not 1 <= k <= n or (right < 0).any() or (wrong < 0).any():
    raise ValueError(
      f'vote_at_k: k={k} must lie in 1..n={n}, counts must be at least 0.'
    )
  if (right + wrong > n).any():
    raise ValueError(f'vote_at_k: {(right + wrong).max()} votes of n={n}.')
  flat = [
    _vote_at_k(int(r), int(w), n, k) for r, w in zip(right.flat, wrong.flat)
  ]
  return np.array(flat, np.float64).reshape(right.shape)


@functools.lru_cache(maxsize=100_000)
def _vote_at_k(right: int, wrong: int, n: int, k: int) -> float:
  """Sum over the multivariate hypergeometric distribution of a subset."""
  log = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
  r, w = np.ogrid[: min(right, k) + 1, : min(wrong, k) + 1]
  rest = n - right - wrong
  other = k - r - w
  possible = (other >= 0) & (other <= rest)
  other = np.where(possible, other, 0)
  ways = lambda size, taken: log[size] - log[taken] - log[size - taken]
  chance = ways(right, r) + ways(wrong, w) + ways(rest, other) - ways(n, k)
  won = np.where(r > w, 1.0, np.where((r == w) & (r > 0), 0.5, 0.0))
  total = (won * np.exp(chance) * possible).sum()
  return float(np.round(total, 12))  # certain votes are exactly 0 and 1


##### scores of n responses #####


def unshuffle(scores: ArrayLike, order: ArrayLike) -> np.ndarray:
  """Scores by response, f64[K,n], of scores [K,n] in the order shown.

  Args:
    order: i[K,n]; sample s showed response order[s, j] at place j.

  Raises:
    ValueError: shapes differ, or a row of `order` is no permutation.
  """
  scores, order = np.asarray(scores, np.float64), np.asarray(order)
  if scores.shape != order.shape or scores.ndim != 2:
    raise ValueError(
      f'scores {scores.shape} and order {order.shape} must both be [K,n].'
    )
  if (np.sort(order, -1) != np.arange(order.shape[1])).any():
    raise ValueError('order has a row that is no permutation of 0..n-1.')
  out = np.empty_like(scores)
  np.put_along_axis(out, order, scores, -1)
  return out


def sum_scores(scores: ArrayLike) -> np.ndarray:
  """S*_i = sum_s S_is over K samples: f64[n] of [K,n] (SPCT, section 4.1).

  A finer scale than that of one sample, and no majority vote: (9,1), (5,6),
  (5,6) sums to 19 against 13. A sample with a NaN is unreadable and left out.
  """
  return _readable(scores)[0].sum(0)


def filtered_sum(
  scores: ArrayLike, quality: ArrayLike, keep: int
) -> np.ndarray:
  """`sum_scores` of the `keep` samples of largest quality: f64[n].

  The vote that a meta reward model guides (SPCT, section 4.2, where keep is
  K/2). Samples that tie in quality are kept in their order; unreadable ones are
  never kept, and if fewer are left, all of them are.

  Args:
    scores: [K,n]; quality: [K], such as the meta model's probability that a
      sample is right.

  Raises:
    ValueError: quality is not [K] or holds NaN, or keep is outside 1..K.
  """
  kept, readable = _readable(scores)
  quality = np.asarray(quality, np.float64)
  if quality.shape != readable.shape or np.isnan(quality).any():
    raise ValueError(
      f'quality {quality.shape} must be {readable.shape}, a number a sample.'
    )
  if not 1 <= keep <= len(readable):
    raise ValueError(f'keep={keep} must lie in 1..K={len(readable)}.')
  order = np.argsort(-quality[readable], kind='stable')
  return kept[order[:keep]].sum(0)


def best(total: ArrayLike, rng: np.random.Generator) -> int:
  """The index of the largest of [n]; of several, one at random (SPCT)."""
  total = np.asarray(total, np.float64)
  return int(rng.choice(np.flatnonzero(total == total.max())))


def is_correct(scores: ArrayLike, labels: ArrayLike) -> bool:
  """Whether one sample of scores agrees with the labels (SPCT, equation 5).

  With n >= 2 responses: the one of largest label scores above all others;
  equal scores are not correct. With one: its score is its label.

  Raises:
    ValueError: not [n] twice, or several responses share the largest label.
  """
  scores, labels = np.asarray(scores, float), np.asarray(labels, float)
  if scores.shape != labels.shape or scores.ndim != 1 or not len(labels):
    raise ValueError(
      f'scores {scores.shape} and labels {labels.shape} must both be [n].'
    )
  if len(labels) == 1:
    return bool(scores[0] == labels[0])
  top = int(labels.argmax())
  if (labels == labels[top]).sum() > 1:
    raise ValueError(f'labels={labels.tolist()}: which response is best?')
  return bool((np.delete(scores, top) < scores[top]).all())


##### tournaments of n responses #####


def round_robin(n: int) -> list[Match]:
  """All n (n - 1) / 2 pairs (i, j), i < j."""
  return list(itertools.combinations(range(n), 2))


def win_share(matches: Sequence[Match], outcome: ArrayLike, n: int):
  """Share of its matches that each of n responses won: f64[n].

  Args:
    matches: M pairs (i, j); outcome: [M], 1 if i won, -1 if j, 0 for neither,
      which counts half for both.
  """
  won, played = np.zeros(n), np.zeros(n)
  for (i, j), s in zip(matches, _verdicts(outcome), strict=True):
    won[[i, j]] += (1 + s) / 2, (1 - s) / 2
    played[[i, j]] += 1
  return won / np.maximum(played, 1)


def elo(
  matches: Sequence[Match],
  outcome: ArrayLike,
  n: int,
  *,
  k: float = 32.0,
  passes: int = 1,
) -> np.ndarray:
  """Elo ratings f64[n] after `passes` over the matches, from `START`.

  e = 1 / (1 + 10^((R_j - R_i) / 400)), R_i += k (s - e), R_j -= k (s - e), s =
  1, 0 or 1/2 as `outcome` is 1, -1 or 0. They depend on the order of the
  matches. RRM's own k, start and passes are not known.

  Args: see `win_share`.
  """
  rating = [START] * n
  results = list(zip(matches, _verdicts(outcome).tolist(), strict=True))
  for (i, j), s in results * passes:
    gain = k * ((1 + s) / 2 - 1 / (1 + 10 ** ((rating[j] - rating[i]) / 400)))
    rating[i] += gain
    rating[j] -= gain
  return np.array(rating)


def knockout(
  n: int,
  play: Callable[[list[Match]], Sequence[int]],
  rng: np.random.Generator,
) -> tuple[int, int, int]:
  """(winner, matches, rounds) of a knockout with a random bracket.

  n - 1 matches in ceil(log2 n) rounds. Of an odd number the last one goes on
  without a match. It finds a winner and no ranking: with accuracy .8 a match,
  the best of 8 wins .8^3 = .512 of them.

  Args:
    play: the matches of a round -> verdicts; 0 lets the first one go on, which
      the bracket chose at random.

  Raises:
    ValueError: n below 1, or `play` returns another number of verdicts.
  """
  if n < 1:
    raise ValueError(f'A knockout of {n} responses: there must be one.')
  left, matches, rounds = rng.permutation(n).tolist(), 0, 0
  while len(left) > 1:
    pairs = list(zip(left[::2], left[1::2]))
    outcome = _verdicts(play(pairs))
    if outcome.shape != (len(pairs),):
      raise ValueError(f'{outcome.shape} verdicts on {len(pairs)} matches.')
    bye = left[len(pairs) * 2 :]
    left = [j if s < 0 else i for (i, j), s in zip(pairs, outcome)] + bye
    matches, rounds = matches + len(pairs), rounds + 1
  return left[0], matches, rounds


def _verdicts(x: ArrayLike) -> np.ndarray:
  """As integers; ValueError for anything but 1, -1 and 0."""
  x = np.asarray(x)
  if not np.isin(x, (-1, 0, 1)).all():
    bad = x[~np.isin(x, (-1, 0, 1))].flat[0]
    raise ValueError(f'A verdict is 1, -1 or 0, not {bad}.')
  return x.astype(np.int64)


def _readable(scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """(the rows of [K,n] without NaN, bool[K] which these are)."""
  scores = np.asarray(scores, np.float64)
  if scores.ndim != 2:
    raise ValueError(f'scores {scores.shape} must be [K,n].')
  readable = ~np.isnan(scores).any(-1)
  return scores[readable], readable
