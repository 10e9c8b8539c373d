"""Intervals: known answers, coverage, edges."""

import math

import numpy as np
import pytest

from rlvr_jax.stats import intervals


def bootstrap(values, *, seed, level=0.95, resamples=2000):
  """(low, high) of the mean of values [M]."""
  mean = lambda weights: weights @ np.asarray(values)[:, None] / len(values)
  drawn = intervals.draws(mean, len(values), seed=seed, resamples=resamples)
  low, high = intervals.percentiles(drawn, level)
  return float(low[0]), float(high[0])


def test_wilson_known_answers():
  low, high = intervals.wilson([0, 10, 5, 81], [10, 10, 10, 263])
  np.testing.assert_allclose(low, [0, 0.72246, 0.23659, 0.25527], atol=2e-5)
  np.testing.assert_allclose(high, [0.27754, 1, 0.76341, 0.36620], atol=2e-5)
  assert low[0] == 0
  assert high[1] == 1


def test_wilson_ends_solve_its_equation():
  """|p - bound| = z sqrt(bound (1 - bound) / n), the definition."""
  s, n = np.array([1, 3, 17, 40]), np.array([9, 12, 20, 41])
  for bound in intervals.wilson(s, n, z=2.5):
    gap = 2.5 * np.sqrt(bound * (1 - bound) / n)
    np.testing.assert_allclose(np.abs(s / n - bound), gap, rtol=1e-9)


def test_wilson_without_trials_is_zero_to_one():
  assert [float(x) for x in intervals.wilson(0, 0)] == [0, 1]


@pytest.mark.parametrize('rate', [0.02, 0.3, 0.5])
def test_wilson_covers_near_95_percent(rate):
  n = 60
  s = np.arange(n + 1)
  weight = np.array(
    [math.comb(n, int(i)) * rate**i * (1 - rate) ** (n - i) for i in s]
  )
  low, high = intervals.wilson(s, n)
  covered = weight @ ((low <= rate) & (rate <= high))
  assert 0.92 < covered < 0.98


@pytest.mark.parametrize(('s', 'n'), [(5, 4), (-1, 4), (np.nan, 4)])
def test_wilson_refuses_the_impossible(s, n):
  with pytest.raises(ValueError, match='successes'):
    intervals.wilson([1, s], [4, n])


def test_bootstrap_repeats_with_its_seed_and_brackets_the_mean():
  values = np.random.default_rng(0).random(50)
  first = bootstrap(values, seed=3)
  assert first == bootstrap(values, seed=3)
  assert first != bootstrap(values, seed=4)
  assert first[0] < values.mean() < first[1]


def test_bootstrap_width_is_that_of_the_normal_theory():
  values = np.random.default_rng(1).normal(size=400)
  low, high = bootstrap(values, seed=0, level=0.9)
  want = 2 * 1.6449 * values.std() / 20
  np.testing.assert_allclose(high - low, want, rtol=0.1)


def test_bootstrap_of_equal_values_is_a_point():
  assert bootstrap([0.5] * 7, seed=0) == (0.5, 0.5)


@pytest.mark.parametrize(
  ('bad', 'says'),
  [
    ({'resamples': 0}, 'resamples=0'),
    ({'level': 1.0}, 'level=1.0'),
    ({'values': []}, '0 problems'),
  ],
)
def test_bootstrap_refuses_bad_options(bad, says):
  with pytest.raises(ValueError, match=says):
    bootstrap(**{'values': [0.5], 'seed': 0} | bad)


def test_pairs_cancel_the_difficulty_of_a_problem():
  """All statistics see the same resamples, so their differences are paired."""
  hard, other = (np.random.default_rng(s).random(60) for s in (2, 3))
  sides = np.stack([hard, hard + 0.25, other], -1)
  drawn = intervals.draws(lambda w: w @ sides / 60, 60, seed=0)
  np.testing.assert_allclose(drawn[:, 1] - drawn[:, 0], 0.25)
  one = intervals.percentiles(drawn[:, [2]] - drawn[:, [0]])
  two = intervals.percentiles(drawn[:, [0]] - drawn[:, [2]])
  np.testing.assert_allclose(one, [-two[1], -two[0]])
  np.testing.assert_allclose(
    np.ravel(one), bootstrap(other - hard, seed=0), rtol=1e-6
  )


def test_resamples_match_numpy_and_weights_add_up_to_the_problems():
  values = np.random.default_rng(0).random(30)
  drawn = intervals.draws(
    lambda w: np.array([w @ values / 30, w.sum()]), 30, seed=3, resamples=20
  )
  rng = np.random.default_rng(3)
  want = [values[rng.integers(30, size=30)].mean() for _ in range(20)]
  np.testing.assert_allclose(drawn[:, 0], want)
  assert (drawn[:, 1] == 30).all()


def test_percentiles_leave_out_undefined_resamples():
  drawn = np.full((101, 3), np.nan)
  drawn[:, 1] = np.arange(101)
  drawn[50:, 1] = np.nan  # 0 to 49 are left
  drawn[:, 2] = np.where(np.arange(101) < 60, 4.0, np.inf)
  low, high = intervals.percentiles(drawn, 0.5)
  assert np.isnan([low[0], high[0]]).all()
  np.testing.assert_allclose([low[1], high[1]], [12.25, 36.75])
  assert (low[2], high[2]) == (4, np.inf)
