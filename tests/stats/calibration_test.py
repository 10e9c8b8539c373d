"""Calibration: known answers, bin edges, and counting pairs."""

import numpy as np
import pytest

from rlvr_jax.stats.calibration import (
  calibration,
  of_counts,
  reliability,
  risk_coverage,
)

Q = [0.95] * 4 + [0.55] * 2 + [0.15] * 2
C = [1, 1, 1, 0, 1, 0, 0, 0]


def test_known_answers():
  got = calibration(Q, C, bins=10)
  assert got.ece == pytest.approx(0.15)
  assert got.brier == pytest.approx(0.1825)
  assert got.auroc == pytest.approx(0.8125)
  logs = np.log([0.95] * 3 + [0.05, 0.55, 0.45, 0.85, 0.85])
  assert got.log_loss == pytest.approx(-logs.mean())


def test_certain_of_everything():
  got = calibration([1.0] * 5, [1, 1, 0, 1, 0], bins=10)
  assert got.ece == pytest.approx(0.4)
  assert got.brier == pytest.approx(0.4)
  assert got.auroc == 0.5
  assert got.log_loss == pytest.approx(-0.4 * np.log(1e-6), rel=1e-5)


def test_order_changes_nothing():
  rng = np.random.default_rng(0)
  order = rng.permutation(len(Q))
  got = calibration(np.array(Q)[order], np.array(C)[order], bins=10)
  np.testing.assert_allclose(got, calibration(Q, C, bins=10))


@pytest.mark.parametrize('tenth', range(11))
def test_an_edge_belongs_to_the_bin_above(tenth):
  """Correct with q on the edge, wrong just above: one bin, so they cancel."""
  q = tenth / 10
  other = min(q + 0.05, 1.0)
  got = calibration([q, other], [1, 0], bins=10)
  assert got.ece == pytest.approx(abs(q + other - 1) / 2)


def test_auroc_counts_pairs():
  rng = np.random.default_rng(1)
  q, c = rng.integers(0, 6, 40) / 5, rng.integers(0, 2, 40)
  pairs = q[c == 1][:, None] - q[c == 0][None]
  want = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
  assert calibration(q, c, bins=10).auroc == pytest.approx(want)


def test_one_bin_compares_the_means():
  got = calibration(Q, C, bins=1)
  assert got.ece == pytest.approx(abs(np.mean(Q) - np.mean(C)))


def test_the_error_depends_on_the_bins():
  q, c = (0.95, 0.85, 0.85, 0.65, 0.55, 0.35), (1, 1, 0, 1, 0, 0)
  assert calibration(q, c, bins=10).ece == pytest.approx(1 / 3)
  assert calibration(q, c, bins=2).ece == pytest.approx(0.2)


def test_where_nothing_is_defined():
  assert np.isnan(calibration([], [], bins=10)).all()
  got = calibration([0.2, 0.9], [1, 1], bins=10)
  assert np.isnan(got.auroc)
  assert np.isfinite([got.ece, got.brier, got.log_loss]).all()


@pytest.mark.parametrize(
  ('q', 'c', 'options', 'says'),
  [
    ([0.5, np.nan], [1, 0], {}, 'confidence nan is not in'),
    ([1.2], [1], {}, 'confidence 1.2 is not in'),
    ([0.5], [0.5], {}, 'correct 0.5 is neither'),
    ([0.5], [1, 0], {}, 'two lists of equal length'),
    ([0.5], [1], {'bins': 0}, 'bins=0 must be'),
    ([0.5], [1], {'eps': 0.0}, 'eps=0.0 in'),
  ],
)
def test_bad_input_is_refused(q, c, options, says):
  with pytest.raises(ValueError, match=says):
    calibration(q, c, **({'bins': 10} | options))


def test_counts_are_repetitions():
  rng = np.random.default_rng(2)
  values, (right, wrong) = np.arange(11) / 10, rng.integers(0, 4, (2, 11))
  q = np.concatenate([np.repeat(values, right), np.repeat(values, wrong)])
  c = np.repeat([1, 0], [right.sum(), wrong.sum()])
  np.testing.assert_allclose(of_counts(values, right, wrong), calibration(q, c))
  assert np.isnan(of_counts(values, 0 * right, 0 * wrong)).all()


def test_reliability_adds_up_to_the_ece():
  got = reliability(Q, C)
  assert got.count.tolist() == [0, 2, 0, 0, 0, 2, 0, 0, 0, 4]
  np.testing.assert_allclose(got.confidence[[1, 5, 9]], [0.15, 0.55, 0.95])
  np.testing.assert_allclose(got.accuracy[[1, 5, 9]], [0, 0.5, 0.75])
  assert np.isnan(got.accuracy[0])
  gap = np.nansum(got.count * np.abs(got.confidence - got.accuracy)) / 8
  assert gap == pytest.approx(calibration(Q, C).ece)


def test_risk_coverage_by_hand():
  coverage, risk = risk_coverage(Q, C)
  np.testing.assert_allclose(coverage, [0.5, 0.75, 1])
  np.testing.assert_allclose(risk, [1 / 4, 2 / 6, 4 / 8])
  # Each risk over the coverage that was added: .5, .25, .25.
  assert calibration(Q, C).aurc == pytest.approx(1 / 3)


def test_area_under_risk_of_distinct_confidences_is_the_mean_risk():
  """Geifman and El-Yaniv: the mean over n of the error among the best n."""
  q, c = [0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0]
  assert calibration(q, c).aurc == pytest.approx(
    (0 + 1 / 2 + 1 / 3 + 2 / 4) / 4
  )
  # A constant confidence ranks nothing: the area is the error rate.
  assert calibration([0.5] * 4, c).aurc == pytest.approx(0.5)
