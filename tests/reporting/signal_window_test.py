"""The share of signal against enumerated batches and simulated windows."""

import itertools

import numpy as np
import pytest

from rlvr_jax.reporting import run_reader, signal_window

P = 8
# A group's gradient is one of these, equally likely: a third are dead.
GRADIENTS = np.array([[0.0, 0.0], [1.0, 0.5], [0.2, -1.0]])


def steps_of(u, size):
  """`Steps` of batches of group gradients f64[N,P,M], in sorted order."""
  n, p, _ = u.shape
  live = (u != 0).any(-1)
  order = np.argsort(~live, axis=-1, kind='stable')
  u = np.take_along_axis(u, order[..., None], 1)
  micro = u.reshape(n, p // size, size, -1).sum(2)
  count = live.sum(-1)
  inside = np.clip(count[:, None] - size * np.arange(p // size), 0, size)
  pairs = count**2 - (inside**2).sum(-1)
  norm_sq = (u.sum(1) ** 2).sum(-1)
  cross = np.where(pairs > 0, norm_sq - (micro**2).sum((1, 2)), np.nan)
  nan, share = np.full(n, np.nan), count / p
  return signal_window.Steps(
    np.arange(n), norm_sq, cross, pairs, count, share, 1 - share, 0 * share,
    nan, p, 8 * p,
  )  # fmt: skip


@pytest.fixture(scope='module')
def every():
  """All 3^8 batches, each as likely: sums over them are expectations."""
  return GRADIENTS[np.array([*itertools.product(range(3), repeat=P)])]


def truth(every):
  """(||E g||^2, E ||g||^2) of a batch."""
  g = every.sum(1)
  return (g.mean(0) ** 2).sum(), (g**2).sum(-1).mean()


@pytest.mark.parametrize('size', [1, 2, 4])
def test_the_share_has_no_bias_however_groups_are_cut(every, size):
  signal, total = truth(every)
  got = signal_window.estimate(steps_of(every, size))
  assert got.share == pytest.approx(signal / total, rel=1e-9)
  assert got.snr == pytest.approx(signal / (total - signal), rel=1e-9)
  scale = signal_window.noise_scale(got.share, 64)
  assert scale == pytest.approx(64 * (total - signal) / signal, rel=1e-9)


@pytest.mark.parametrize(('size', 'bias'), [(2, 0.05), (4, 0.15)])
def test_simpler_formulas_are_biased(every, size, bias):
  """Batches of two sizes, and leaving out the steps without pairs."""
  signal, total = truth(every)
  s, n = steps_of(every, size), P // size
  cross = np.nan_to_num(s.cross)
  two_sizes = (cross * n / (n - 1)).mean()
  assert abs(two_sizes / signal - 1) > bias
  seen = s.pairs > 0
  ordered = s.live * (s.live - 1) * P / (P - 1)
  some = (ordered * cross / np.maximum(s.pairs, 1))[seen].sum()
  if size == 4:
    assert some / s.norm_sq[seen].sum() > 1.03 * signal / total


def test_one_micro_batch_tells_nothing(every):
  got = signal_window.estimate(steps_of(every, P))
  assert np.isnan([got.share, got.low]).all()
  assert got.high > 0.5  # and so many live groups allow anything
  assert got.known == 0


def test_dead_batches_are_not_heard_without_any_pair():
  """At most SNR w P / (1 - w), where all live groups agree exactly."""
  u = np.zeros((400, 4, 2))
  rng = np.random.default_rng(0)
  u[rng.random((400, 4)) < 0.1] = [1.0, 0.0]
  got = signal_window.estimate(steps_of(u, 4))
  limit = 0.4 / (0.4 + 0.9)
  assert np.isnan(got.share)
  assert limit < got.high < 0.4
  # The limit is reached: with pairs it is also the estimate.
  assert signal_window.estimate(steps_of(u, 1)).share == pytest.approx(
    limit, abs=0.06
  )
  empty = signal_window.estimate(steps_of(np.zeros((30, 4, 2)), 1))
  assert np.isnan(empty.share)
  assert empty.high < 0.2


@pytest.mark.parametrize(
  ('mean', 'live'), [(0.3, 0.7), (0.05, 0.7), (0.5, 0.4)]
)
def test_the_band_covers_the_truth(mean, live):
  """600 windows of 20 steps: 95% within 4 standard errors of .009."""
  rng = np.random.default_rng(0)
  p, m, inside = 16, 60, 0
  u = rng.standard_normal((600, 20, p, m)) / np.sqrt(m)
  u[..., 0] += mean
  u *= rng.random((600, 20, p, 1)) < live
  signal = (p * live * mean) ** 2
  noise = p * live * (1 + mean**2) - p * (live * mean) ** 2
  want = signal / (signal + noise)
  for window in u:
    got = signal_window.estimate(steps_of(window, 4))
    inside += got.low <= want <= got.high
  assert abs(inside / 600 - 0.95) < 0.036


def test_a_batch_of_one_group_and_too_few_steps(every):
  one = signal_window.estimate(steps_of(every[:, :1], 1))
  assert np.isnan([one.share, one.low, one.high]).all()
  few = signal_window.estimate(steps_of(every[-7:], 2))
  assert np.isfinite(few.share)
  assert np.isnan([few.low, few.high]).all()
  none = steps_of(every[:3], 1).between(7, 9)
  assert np.isnan(signal_window.estimate(none).share)


def test_noise_scale_at_the_ends():
  got = signal_window.noise_scale(np.array([-0.1, 0, 0.5, 1, 1.2, np.nan]), 64)
  np.testing.assert_array_equal(got, [np.inf, np.inf, 64, 0, 0, np.nan])


def test_reading_leaves_out_what_is_not_known():
  line = {'signal/live': 3, 'signal/pairs': 4.0, 'signal/cross': 0.5}
  metrics = [
    {'step': 1, **line, 'signal/norm_sq': 4.0, 'grad_norm': 9.0},
    {'step': 2, **line, 'grad_norm': 3.0, 'frac_reward_zero_std': 0.25},
    {'step': 3, **line, 'grad_norm': 'nan'},  # skipped
    {'step': 4, **line, 'grad_norm': 1.0, 'signal/cross': 'nan'},
    {'step': 5, 'grad_norm': 1.0},  # of an older run
    {'step': 6, **line, 'grad_norm': 1.0, 'signal/pairs': 0.0}
    | {'signal/cross': 'nan'},
  ]
  config = {'train_batch_size': 4, 'num_generations': 8}
  run = lambda c: run_reader.Run('', c, '', '', metrics, [], [], [], [])
  got = signal_window.read([run(config), run(config)])
  np.testing.assert_array_equal(got.step, [1, 1, 2, 2, 6, 6])
  np.testing.assert_array_equal(got.norm_sq, [4, 4, 9, 9, 1, 1])
  np.testing.assert_array_equal(
    got.informative, [np.nan, np.nan, 0.75, 0.75, np.nan, np.nan]
  )
  assert (got.groups, got.rollouts) == (4, 32)
  assert signal_window.read([run({})]) is None
  other = config | {'num_generations': 4}
  assert signal_window.read([run(config), run(other)]) is None
