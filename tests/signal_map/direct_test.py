"""Gradients of training's own code have the signal and noise predicted."""

import jax
import numpy as np
import pytest

from configs import tiny
from rlvr_jax import experiment, registry
from rlvr_jax.models import sharding
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import collector
from rlvr_jax.signal_map import cell, direct, lines, signals

CLIP = 'clip(low=0.2, high=0.28)'
ESTIMATES = ('dr_grpo', 'grpo', 'rloo', 'psr', 'nsr')
AGGREGATES = ('seq_mean_token_sum', 'seq_mean_token_mean', 'token_mean')
# Advantages and weights of tokens are multiplied: not every pair of them.
NAMES = (
  *(f'odd|{e}|{AGGREGATES[0]}' for e in ESTIMATES),
  *(f'odd|grpo|{a}' for a in AGGREGATES[1:]),
)


def odd(tasks, transcripts):
  """1 where the first character's code is odd: half of all rollouts."""
  values = [float(ord(t.completion[:1] or 'a') % 2) for t in transcripts]
  return [base.RewardResult(v, {'odd': v}) for v in values]


@pytest.fixture(scope='module')
def config():
  registry.register('reward')(odd)
  c = tiny.get_config('smoke')
  c.model.name = 'tiny(layers=1, width=16)'
  c.max_completion_length = 4
  c.train_batch_size, c.eval.batch_size = 8, 512  # 8 tasks at once
  c.groups_per_micro_batch = 8
  return c


@pytest.fixture(autouse=True)
def _reward():
  registry.register('reward')(odd)


def many_ends(monkeypatch):
  """Half of all tokens end a completion, so that lengths differ."""
  sampling = collector.training_sampling
  monkeypatch.setattr(
    collector,
    'training_sampling',
    lambda c, ends, mesh: sampling(c, tuple(range(128)), mesh),
  )


def made(config, workdir, names=NAMES):
  chosen = [signals.parse(name, config) for name in names]
  settings = cell.Settings(
    prompts=6, samples=64, candidates=6, pilot=2, partitions=2, sketch=512
  )
  say = lambda text: None
  return cell.Cell(config, workdir, 0, chosen, settings, say)


@pytest.fixture(scope='module')
def measured(config, tmp_path_factory):
  two = sharding.make_mesh((1, 2, 1), jax.devices()[:2])
  with pytest.MonkeyPatch.context() as patch:
    many_ends(patch)
    patch.setattr(experiment, 'mesh_of', lambda c: two)
    return made(config, tmp_path_factory.mktemp('run'))


def test_lengths_differ(measured):
  lengths = np.asarray(measured.sources['', False].collected.rollout.length)
  assert len(np.unique(lengths)) == 4


@pytest.mark.parametrize('name', NAMES)
def test_a_batchs_snr_is_the_one_predicted(measured, config, name):
  signal = signals.parse(name, config)
  line = direct.measured(measured, signal, 16, CLIP)
  assert line['batches'] == 16
  assert abs(line['snr'] - line['predicted_snr']) < 2 * line['snr_se']
  # The same groups: products differ in which pairs are taken, norms in none.
  second = line['mean_sq'] + line['noise']
  expected = line['predicted_mean_sq'] + line['predicted_noise']
  assert second == pytest.approx(expected, rel=0.25)


def test_a_gradient_is_the_weighted_sum_of_vectors(measured, config):
  """Batch by batch, and so is that of every estimator and sketch."""
  name = 'odd|grpo|seq_mean_token_mean'
  signal = signals.parse(name, config)
  found = direct.of_signal(measured, signal, 8, CLIP)[0]
  estimate, _ = lines.estimate(measured, signal)
  # All batches of all partitions have the rollouts of the halves.
  mean = estimate.mean.mean(0)
  both = direct.of_signal(measured, signal, 16, CLIP).mean((0, 1))
  assert both @ both == pytest.approx(mean @ measured.gram @ mean, rel=1e-4)
  assert found.shape == (8, 512)


def test_one_device_and_two_agree(measured, config, tmp_path, monkeypatch):
  many_ends(monkeypatch)
  one = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  monkeypatch.setattr(experiment, 'mesh_of', lambda c: one)
  name = 'odd|grpo|token_mean'
  alone = made(config, tmp_path, (name,))
  assert measured.mesh.size == 2
  signal = signals.parse(name, config)
  a, b = (direct.measured(x, signal, 8, CLIP) for x in (alone, measured))
  drop = ('signal', 'bin', 'surrogate')
  a, b = ({k: v for k, v in x.items() if k not in drop} for x in (a, b))
  assert a == pytest.approx(b, rel=2e-4)


def test_of_batches_by_hand():
  rng = np.random.default_rng(0)
  g = 1.0 + rng.normal(size=(3, 6, 40))
  found = direct.of_batches(g)
  pairs = [
    g[s, i] @ g[s, j]
    for s in range(3)
    for i in range(6)
    for j in range(6)
    if i != j
  ]
  second = np.square(g).sum(-1).mean()
  assert found.mean_sq == pytest.approx(np.mean(pairs))
  assert found.noise == pytest.approx(second - np.mean(pairs))
  assert found.snr == pytest.approx(found.mean_sq / found.noise)
  assert found.batches == 18


def test_no_gradient_is_an_snr_of_zero():
  found = direct.of_batches(np.zeros((1, 4, 8)))
  assert (found.snr, found.snr_se, found.noise) == (0.0, 0.0, 0.0)


def test_one_batch_makes_no_pair():
  with pytest.raises(ValueError, match='no pair'):
    direct.of_batches(np.zeros((4, 1, 8)))


def test_what_has_no_direct_measurement(measured, config):
  with pytest.raises(ValueError, match='one solution a problem'):
    direct.measured(measured, signals.parse('sft', config), 8, CLIP)
