"""Votes, sums and tournaments: the card's numbers, and identities."""

import itertools

import numpy as np
import pytest

from rlvr_jax.stats import tournaments as t

GRM = np.array([(1, 5), (5, 6), (4, 8), (7, 6)])  # the figure of the paper


def rng(seed=0):
  return np.random.default_rng(seed)


def test_majority_of_independent_verdicts():
  assert t.independent_vote(0.7, 5) == pytest.approx(0.8369, abs=5e-5)
  assert t.independent_vote(0.7, 16) == pytest.approx(0.9500, abs=5e-5)
  assert t.independent_vote(0.7, 1) == pytest.approx(0.7)
  assert t.independent_vote(0.5, 8) == pytest.approx(0.5)
  # Equal verdicts are as correlated as can be: they fall short of it.
  assert t.vote_at_k(16, 0, 16, 5) == 1
  assert t.vote_at_k(0, 16, 16, 5) == 0


def test_vote_at_k_is_the_mean_over_all_subsets():
  votes = np.array([1, 1, 1, -1, -1, 0, 0])
  for k in range(1, 8):
    subsets = np.array(list(itertools.combinations(votes, k)))
    right, wrong = (subsets == 1).sum(-1), (subsets == -1).sum(-1)
    tie = 0.5 * ((right == wrong) & (right > 0))
    want = np.mean((right > wrong) + tie)
    assert t.vote_at_k(3, 2, 7, k) == pytest.approx(want, abs=1e-11)
  np.testing.assert_allclose(t.vote_at_k([0, 3], [0, 2], 7, 1), [0, 3 / 7])


def test_vote_at_k_of_many_samples_is_near_that_of_independent_ones():
  got = float(t.vote_at_k(700, 300, 1000, 5))
  assert got == pytest.approx(t.independent_vote(0.7, 5), abs=2e-3)
  assert t.vote_at_k(1000, 0, 1000, 512) == 1
  assert t.vote_at_k(0, 400, 1000, 512) == 0


def test_votes_and_both_orders():
  assert t.vote([[1, 1, -1], [1, -1, 0], [0, 0, 0]]).tolist() == [1, 0, 0]
  # Shown (a, b): a; shown (b, a): b stood first and lost: the same verdict.
  assert t.both_orders([1, 1, -1, 1, 0], [-1, 1, 1, 0, 0]).tolist() == [
    1,
    0,
    -1,
    0,
    0,
  ]


def test_sums_of_the_papers_figure():
  assert t.sum_scores(GRM).tolist() == [17, 25]
  assert t.filtered_sum(GRM, [0.9, 0.1, 0.8, 0.2], 2).tolist() == [5, 13]
  assert t.filtered_sum(GRM, [0, 0, 0, 0], 4).tolist() == [17, 25]
  assert t.sum_scores([(9, 1), (5, 6), (5, 6)]).tolist() == [19, 13]
  assert t.vote(np.sign([8, -1, -1])) == -1  # a vote says otherwise


def test_unreadable_samples_are_no_vote():
  scores = np.array([*GRM, (np.nan, 9)])
  assert t.sum_scores(scores).tolist() == [17, 25]
  assert t.filtered_sum(scores, [0.9, 0, 0.8, 0, 1], 2).tolist() == [5, 13]
  assert t.filtered_sum(scores[4:], [1], 1).tolist() == [0, 0]


def test_shuffling_leaves_the_sums():
  scores = rng().integers(1, 11, (8, 5))
  order = np.array([rng(s).permutation(5) for s in range(8)])
  shown = np.take_along_axis(scores, order, -1)
  np.testing.assert_array_equal(t.unshuffle(shown, order), scores)
  np.testing.assert_array_equal(
    t.sum_scores(t.unshuffle(shown, order)), t.sum_scores(scores)
  )
  with pytest.raises(ValueError, match='no permutation'):
    t.unshuffle([[1, 2]], [[0, 0]])


def test_correct_is_strict():
  assert t.is_correct((7, 6), (1, 0))
  assert not t.is_correct((6, 7), (1, 0))
  assert not t.is_correct((7, 7), (1, 0))
  assert t.is_correct((1,), (1,))
  assert not t.is_correct((0,), (1,))
  with pytest.raises(ValueError, match='which response'):
    t.is_correct((1, 2, 3), (1, 1, 0))


@pytest.mark.parametrize(
  ('n', 'robin', 'matches', 'rounds'),
  [(1, 0, 0, 0), (2, 1, 1, 1), (4, 6, 3, 2), (5, 10, 4, 3), (8, 28, 7, 3)]
  + [(16, 120, 15, 4)],
)
def test_match_counts_and_a_transitive_judge(n, robin, matches, rounds):
  strength = rng(n).permutation(n)
  play = lambda pairs: [
    1 if strength[i] > strength[j] else -1 for i, j in pairs
  ]
  pairs = t.round_robin(n)
  assert len(pairs) == robin
  winner = int(strength.argmax())
  assert t.knockout(n, play, rng()) == (winner, matches, rounds)
  share = t.win_share(pairs, play(pairs), n)
  if n > 1:
    assert share.argmax() == winner
    assert share.max() == 1
    assert share.sum() == pytest.approx(n / 2)
    assert t.elo(pairs, play(pairs), n, passes=20).argmax() == winner


def test_elo_of_the_card():
  got = t.elo([(0, 1), (0, 2), (1, 2)], [1, 1, 1], 3)
  np.testing.assert_allclose(got, [1531.26, 1500.03, 1468.70], atol=0.005)
  assert got.sum() == pytest.approx(4500)


def test_knockout_of_an_erring_judge():
  """The best of 8 wins .8^3 of them; +-4 standard errors of 4,000 are .032."""
  r = rng()

  def play(pairs):
    right = r.random(len(pairs)) < 0.8
    return [
      (1 if i > j else -1) * (1 if ok else -1)
      for (i, j), ok in zip(pairs, right)
    ]

  wins = np.mean([t.knockout(8, play, r)[0] == 7 for _ in range(4000)])
  assert abs(wins - 0.512) < 0.032


def test_ties_are_broken_at_random():
  chosen = [t.best([3, 5, 5], rng(s)) for s in range(50)]
  assert set(chosen) == {1, 2}
  assert t.best([3, 5, 4], rng()) == 1


@pytest.mark.parametrize(
  ('call', 'says'),
  [
    (lambda: t.vote([2]), '1, -1 or 0'),
    (lambda: t.vote([np.nan]), '1, -1 or 0'),
    (lambda: t.independent_vote(1.5, 3), 'probability'),
    (lambda: t.vote_at_k(3, 3, 5, 2), 'votes of n'),
    (lambda: t.vote_at_k(1, 1, 5, 6), '1..n=5'),
    (lambda: t.filtered_sum(GRM, [1, 2], 1), 'quality'),
    (lambda: t.filtered_sum(GRM, [1, 2, 3, 4], 5), 'keep=5'),
    (lambda: t.knockout(0, list, rng()), 'must be one'),
    (lambda: t.knockout(4, lambda pairs: [1], rng()), 'verdicts on 2'),
    (lambda: t.sum_scores([1, 2]), r'must be \[K,n\]'),
  ],
)
def test_refused(call, says):
  with pytest.raises(ValueError, match=says):
    call()
