"""Agreement of predicted and realised gains."""

import numpy as np
import pytest
from scipy import stats

from rlvr_jax.reporting import run_writer
from rlvr_jax.signal_map import prediction


def line(signal, seed, predicted, gain, *, of='all', length=0.1, **more):
  fixed = {'step': 3, 'optimizer': 'fixed', 'bin': 'predict', 'settings': 'x'}
  return fixed | {
    'signal': signal,
    'seed': seed,
    'predicted': predicted,
    'gain': gain,
    'of': of,
    'length': length,
    **more,
  }


def arms(count=6, seeds=2, slope=1.0, noise=0.0):
  rng = np.random.default_rng(0)
  out = [line('random', s, 0.0, -0.02 * s) for s in range(seeds)]
  for i, predicted in enumerate(np.linspace(-0.1, 0.1, count)):
    for s in range(seeds):
      gain = slope * predicted + noise * rng.normal() - 0.02 * s
      out.append(line(f'arm-{i}', s, predicted, gain))
  return out


def test_the_controls_gain_is_subtracted_seed_by_seed():
  p = prediction.points(arms(slope=0.5), 'random', 'fixed')
  assert p.names == [f'arm-{i}' for i in range(6)]
  np.testing.assert_allclose(p.realised, 0.5 * p.predicted, atol=1e-12)
  np.testing.assert_allclose(p.error, 0, atol=1e-12)
  a = prediction.agreement(p)
  assert a['r'] == pytest.approx(1)
  assert a['rank_r'] == pytest.approx(1)
  assert a['slope'] == pytest.approx(0.5)
  assert (a['sign'], a['clear'], a['arms']) == (1.0, 6, 6)


def test_the_interval_covers_r_and_signs_are_counted():
  p = prediction.points(arms(20, noise=0.05), 'random', 'fixed')
  a = prediction.agreement(p)
  assert a['r'] == pytest.approx(np.corrcoef(p.predicted, p.realised)[0, 1])
  assert a['r_low'] < a['r'] < a['r_high'] < 1
  clear = np.abs(p.predicted) > prediction.CLEAR
  assert a['clear'] == clear.sum()
  right = (p.predicted * p.realised > 0)[clear].mean()
  assert a['sign'] == pytest.approx(right)
  assert a['seeds_low'] <= a['seeds_high']


def test_weights_repeat_points_and_equal_numbers_share_a_rank():
  rng = np.random.default_rng(1)
  x, y, weight = rng.normal(size=9), rng.normal(size=9), rng.integers(0, 4, 9)
  repeated = np.corrcoef(np.repeat(x, weight), np.repeat(y, weight))[0, 1]
  assert prediction.pearson(x, y, weight.astype(float)) == pytest.approx(
    repeated
  )
  ties = np.array([3.0, 1.0, 3.0, 2.0, 1.0])
  np.testing.assert_allclose(prediction.ranks(ties), stats.rankdata(ties) - 1)


def test_what_cannot_be_compared_is_left_out():
  lines = [
    *arms(3),
    line('no step', 0, 0.0, 0.0, length=0.0),
    line('no control', 7, 0.1, 0.1),
    line('unknown', 0, 'nan', 0.1),
    line('other bin', 0, 0.1, 0.1, of='low'),
    line('other optimiser', 0, 0.1, 0.1) | {'optimizer': 'adamw'},
  ]
  p = prediction.points(lines, 'random', 'fixed')
  assert p.names == ['arm-0', 'arm-1', 'arm-2']


@pytest.mark.parametrize('count', [0, 1, 2])
def test_few_arms_have_no_correlation_and_no_error(count):
  lines = [line('random', 0, 0.0, 0.0)]
  lines += [line(f'arm-{i}', 0, 0.1, 0.1) for i in range(count)]
  a = prediction.agreement(prediction.points(lines, 'random', 'fixed'))
  assert np.isnan(a['r'])
  assert a['arms'] == count
  assert prediction.summary(lines, 'random')


def test_an_arm_is_finished_with_its_last_bin(tmp_path):
  path = tmp_path / 'signal.jsonl'
  for x in (
    line('a', 0, 0.1, 0.1, of='low'),
    line('a', 0, 0.1, 0.1),
    line('b', 0, 0.1, 0.1, of='low'),
    line('c', 0, 0.1, 0.1) | {'settings': 'y'},
    line('d', 0, 0.1, 0.1) | {'bin': 'all'},
    line('a', 0, 0.1, 0.3),
  ):
    run_writer.append(path, x.pop('step'), x)
  assert prediction.finished(path, 3, 'x') == {('a', 0, 'fixed')}
  assert not prediction.finished(path, 4, 'x')
  lines = prediction.read(path, 'x')
  assert len(lines) == 3  # the later line of an arm replaces the earlier one
  assert lines[1]['gain'] == 0.3


def test_the_picture_is_drawn(tmp_path):
  lines = arms(8, noise=0.02)
  prediction.draw(tmp_path, lines, 'random')
  svg = (tmp_path / 'signal_predict.svg').read_text()
  assert 'svg' in svg
  assert (tmp_path / 'signal_predict.png').read_bytes()[:4] == b'\x89PNG'
  prediction.draw(tmp_path, [], 'random')  # nothing to draw is no error
