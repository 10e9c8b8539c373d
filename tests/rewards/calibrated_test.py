"""Scoring rules as rewards, and RLCR as a weighted sum of them."""

import math

import numpy as np
import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base

V = enums.Verdict
GRID = np.round(np.arange(0, 1.001, 0.05), 2)


def transcript(c, q):
  """A right (c=1) or wrong (c=0) row with confidence q; no tag for None."""
  tag = '' if q is None else f'<confidence>{q}</confidence>'
  verdict = V.CORRECT if c else V.WRONG
  return base.Transcript(f'it is so {tag}', 3, enums.Stop.END, verdict)


def value(spec, c, q):
  result = registry.get('reward', spec)([None], [transcript(c, q)])[0]
  assert not result.refused
  return result.value


@pytest.mark.parametrize(
  ('c', 'q', 'total'),
  [
    (1, 1, 1),
    (1, 0.8, 0.96),
    (1, 0.5, 0.75),
    (1, 0, 0),
    (0, 0, 0),
    (0, 0.5, -0.25),
    (0, 0.8, -0.64),
    (0, 1, -1),
  ],
)
def test_rlcr_of_the_paper(c, q, total):
  """R = c - (q - c)^2."""
  reward = base.build(['outcome', 'brier'], [1.0, 1.0])
  got = reward([None], [transcript(c, q)])[0].value
  assert got == pytest.approx(total, abs=1e-12)


def test_rlcr_of_the_official_code():
  """0.5 f + 0.5 f c + 0.5 f (1 - (c - q)^2), 0 for a malformed row."""
  reward = base.build(
    ['confident', 'all_of(outcome, confident)', 'brier(malformed=0.0)'],
    [1.0, 0.5, 0.5],
  )
  for c in (0, 1):
    for q in [*GRID, None, 'nan', '80%', 1.2]:
      f = int(q in GRID)
      want = 0.5 * f + 0.5 * f * c + 0.5 * f * (1 - (c - (q if f else 0)) ** 2)
      got = reward([None], [transcript(c, q)])[0]
      assert got.value == pytest.approx(want, abs=1e-12)
      assert not got.refused
  known = {(1, 1): 1.5, (1, 0): 1.0, (0, 0): 1.0, (0, 1): 0.5}
  for (c, q), want in known.items():
    assert reward([None], [transcript(c, q)])[0].value == want


def test_the_confidence_ranks_a_group_that_is_all_wrong():
  rows = [transcript(0, q) for q in (0.9, 0.5, 0.1, 0.5)]
  reward = base.build(['outcome', 'brier'], [1.0, 1.0])
  values = np.array([g.value for g in reward([None] * 4, rows)])
  np.testing.assert_allclose(
    values - values.mean(), [-0.48, 0.08, 0.32, 0.08], atol=1e-12
  )


def expected(spec, p):
  """f64[grid]: E[R] over c ~ Bernoulli(p), for each stated q."""
  return np.array(
    [p * value(spec, 1, q) + (1 - p) * value(spec, 0, q) for q in GRID]
  )


@pytest.mark.parametrize('spec', ['brier', 'log_score', 'spherical'])
def test_a_proper_score_is_best_at_the_truth(spec):
  for p in GRID[1:-1]:
    reward = expected(spec, p)
    assert GRID[reward.argmax()] == p
    assert (reward == reward.max()).sum() == 1


def test_the_absolute_score_is_best_at_an_end():
  for p in (0.05, 0.3, 0.45):
    assert GRID[expected('absolute', p).argmax()] == 0
  for p in (0.55, 0.7, 0.95):
    assert GRID[expected('absolute', p).argmax()] == 1


def test_weight_one_is_the_least_at_which_brier_never_pays_for_errors():
  best = lambda spec, weight: np.array(
    [weight * p + expected(spec, p).max() for p in GRID]
  )
  np.testing.assert_allclose(best('brier', 1), GRID**2, atol=1e-12)
  assert (np.diff(best('brier', 1)) > 0).all()
  half = best('brier', 0.5)
  assert half[GRID == 0.25][0] == pytest.approx(-0.0625)
  assert half[0] == 0
  log = best('log_score', 1)
  assert log[GRID == 0.3][0] < log[0]
  enough = math.log(0.99 / 0.01)
  assert (np.diff(best('log_score', enough)) > 0).all()


def test_known_values():
  assert value('log_score', 1, 0.25) == pytest.approx(math.log(0.25))
  assert value('log_score', 0, 0.25) == pytest.approx(math.log(0.75))
  assert value('log_score(eps=0.1)', 1, 0) == pytest.approx(math.log(0.1))
  assert value('log_score(0.1)', 1, 1) == pytest.approx(math.log(0.9))
  assert value('spherical', 1, 1) == value('spherical', 0, 0) == 0
  assert value('spherical', 0, 1) == value('spherical', 1, 0) == -1
  assert value('spherical', 1, 0.5) == pytest.approx(math.sqrt(0.5) - 1)
  # Its best expectation with weight 1, from the closed form hypot(p, 1-p).
  for p, want in ((0.1, 0.0055), (0.25, 0.0406), (0.5, 0.2071), (0.75, 0.5406)):
    best = p + expected('spherical', p).max()
    assert best == pytest.approx(p + math.hypot(p, 1 - p) - 1)
    assert best == pytest.approx(want, abs=5e-5)
  assert value('absolute', 1, 0.3) == pytest.approx(-0.7)
  assert value('absolute', 0, 0.3) == pytest.approx(-0.3)


@pytest.mark.parametrize(
  ('name', 'worst'),
  [
    ('brier', -1),
    ('log_score', math.log(0.01)),
    ('spherical', -1),
    ('absolute', -1),
  ],
)
def test_a_malformed_row_gets_the_worst_value_or_the_one_asked_for(name, worst):
  for c in (0, 1):
    for q in (None, 'nan', 'inf', '80%', -0.1, '1_0'):
      assert value(name, c, q) == worst
      assert value(f'{name}(malformed=-0.25)', c, q) == -0.25
    every = [value(name, c, q) for q in GRID]
    assert all(map(math.isfinite, every))
    assert min(every) >= worst - 1e-12
  assert min(value(name, c, 1 - c) for c in (0, 1)) == pytest.approx(worst)
  for bad in ("'x'", 'True', '1e999'):
    with pytest.raises(ValueError, match='malformed='):
      registry.get('reward', f'{name}(malformed={bad})')([], [])


def test_confident_is_the_format():
  assert [value('confident', 0, q) for q in (0.5, 'nan', None)] == [1, 0, 0]


@pytest.mark.parametrize('eps', [0, 0.5, -0.1, '"x"'])
def test_eps_must_leave_room(eps):
  with pytest.raises(ValueError, match='eps='):
    registry.get('reward', f'log_score(eps={eps})')([], [])


@pytest.mark.parametrize('verdict', [V.WRONG, V.NO_ANSWER, V.UNVERIFIABLE])
def test_all_but_correct_counts_as_wrong(verdict):
  row = transcript(0, 0.25)._replace(verdict=verdict)
  got = registry.get('reward', 'brier')([None], [row])[0].value
  assert got == -0.0625
