"""Which sample a judge picks, from verdicts that are known."""

import numpy as np
import pytest

from rlvr_jax.evaluation import best_of


def transitive(strength):
  """wins [N,N,2] of a judge that is always right."""
  s = np.asarray(strength)
  wins = np.sign(s[:, None] - s[None, :])
  return np.repeat(wins[..., None], 2, -1)


def selected(right, wins, ks=(2, 4)):
  return best_of.selected(
    np.array(right, float), wins, ks, np.random.default_rng(0)
  )


def test_a_perfect_judge_finds_the_best():
  got = selected([0, 1, 0, 0], transitive([1, 4, 3, 2]))
  for name in ('best_of', 'best_of_elo', 'best_of_knockout'):
    assert got[f'{name}@4'] == 1
    assert got[f'{name}@2'] == 0.5  # the second block has no right one


def test_a_judge_that_errs_always_finds_the_worst():
  got = selected([0, 1, 0, 0], -transitive([1, 4, 3, 2]))
  assert [v for k, v in got.items() if k.endswith('@4')] == [0, 0, 0]


def test_ties_share():
  """Cycles and unreadable judgments pick nobody: the mean of all counts."""
  none = np.zeros((4, 4, 2), int)
  got = selected([1, 0, 0, 0], none, (4,))
  assert got['best_of@4'] == 0.25
  first = np.zeros((2, 2, 2), int)  # an always-first judge
  first[0, 1], first[1, 0] = (1, -1), (-1, 1)
  got = selected([1, 0], first, (2,))
  assert got['best_of@2'] == got['best_of_elo@2'] == 0.5


def test_a_cycle_of_three_and_a_loser():
  wins = np.zeros((4, 4, 2), int)
  for i, j in ((0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)):
    wins[i, j], wins[j, i] = 1, -1
  assert selected([1, 0, 0, 1], wins, (4,))['best_of@4'] == pytest.approx(1 / 3)


def test_blocks_of_successive_samples():
  right = np.array([1, 0, 0, 1, 1])
  score = lambda at: -at.astype(float)  # the first of each block
  assert best_of._blocks(right, 2, score) == 0.5  # 0 of 0-1, 2 of 2-3
  assert best_of._blocks(right, 5, score) == 1


def test_intervals():
  got = best_of._summary([{'best_of@2': x} for x in (0, 1, 1, 0.5)])
  assert got['eval/best_of@2'] == pytest.approx(0.625)
  assert got['eval/best_of@2_low'] < 0.625 < got['eval/best_of@2_high']
  got = best_of._summary([{'best_of@2': 1.0}] * 4)
  assert got['eval/best_of@2_low'] == pytest.approx(0.510, abs=1e-3)
