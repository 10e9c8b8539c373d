"""Votes: the example of RLCR, ties, and no votes."""

import collections

import numpy as np
import pytest

from rlvr_jax.stats import voting

NAN = float('nan')


def test_three_votes_of_the_same_five_answers():
  """A A A B B with .3 .2 .2 .6 .9: majority A, sums A .7, B 1.5."""
  answer, q = [[0, 0, 0, 1, 1]], [[0.3, 0.2, 0.2, 0.6, 0.9]]
  assert voting.winner(answer, np.ones((1, 5))).tolist() == [0]
  assert voting.winner(answer, q).tolist() == [3]
  assert voting.most_confident(answer, q).tolist() == [4]


def test_equal_confidences_are_the_majority_vote():
  rng = np.random.default_rng(0)
  answer = rng.integers(-1, 4, (50, 7))
  majority = voting.winner(answer, np.ones((50, 7)))
  same = voting.winner(answer, np.full((50, 7), 0.3))
  np.testing.assert_array_equal(majority, same)
  for row, at in zip(answer.tolist(), majority, strict=True):
    top = collections.Counter(a for a in row if a >= 0).most_common(1)
    assert at == (row.index(top[0][0]) if top else -1)


@pytest.mark.parametrize(
  ('answer', 'weight', 'want'),
  [
    ([3, 5, 5, 3], [1, 1, 1, 1], 0),  # a tie: sampled first
    ([5, 3, 3, 3], [0.3, 0.1, 0.1, 0.1], 0),  # .1 + .1 + .1 ties with .3
    ([-1, -1, 2], [1, 1, 0], 2),  # no answer is no vote
    ([-1, -1], [1, 1], -1),
    ([0, 0, 0], [0, 0, 0], 0),
  ],
)
def test_ties_and_missing_answers(answer, weight, want):
  assert voting.winner([answer], [weight]).tolist() == [want]


def test_the_most_confident_needs_an_answer_and_a_confidence():
  got = voting.most_confident(
    [[0, 1, 2], [-1, 1, 1], [-1, 0, 0], [4, 4, 4]],
    [[0.2, 0.9, 0.9], [1, 0, 0.1], [1, NAN, NAN], [NAN, 0, NAN]],
  )
  assert got.tolist() == [1, 2, -1, 1]


def test_bad_votes_are_refused():
  with pytest.raises(ValueError, match='must both be'):
    voting.winner([0, 1], [1, 1])
  for bad in (-1, NAN):
    with pytest.raises(ValueError, match='A vote has weight'):
      voting.winner([[0, 1]], [[1, bad]])
