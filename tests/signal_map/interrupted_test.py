"""Maps, direct gradients and arms of a tiny model, interrupted and resumed."""

import copy
import types

import numpy as np
import pytest

from configs import tiny
from rlvr_jax.enums import Verdict
from rlvr_jax.reporting import run_writer
from rlvr_jax.rollouts import single_turn
from rlvr_jax.signal_map import (
  cell,
  direct,
  predict,
  signal_map,
  signals,
  trial,
  vectors,
)

pytestmark = pytest.mark.usefixtures('one_device')
NAMES = ('outcome|dr_grpo', 'inverse(reward=outcome)', 'constant(value=1.0)')


@pytest.fixture(scope='module')
def config():
  c = tiny.get_config('smoke')
  c.model.name = 'tiny(layers=1, width=16)'
  c.max_completion_length = 2
  c.train_batch_size, c.eval.batch_size = 8, 256
  c.groups_per_micro_batch = 8
  return c


@pytest.fixture(autouse=True)
def _half_are_right(monkeypatch):
  """A completion is right if its first character's code is odd."""

  def verify(tasks, texts, **options):
    odd = [ord(text[:1] or 'b') % 2 for text in texts]
    return [Verdict.CORRECT if x else Verdict.WRONG for x in odd]

  monkeypatch.setattr(single_turn.dispatch, 'verify', verify)


SETTINGS = cell.Settings(
  prompts=6, samples=32, candidates=6, pilot=4, partitions=1, sketch=256
)


def measure(config, workdir, names=NAMES):
  chosen = [signals.parse(name, config) for name in names]
  said = []
  signal_map.run(
    copy.deepcopy(config), workdir, [None], chosen, SETTINGS, said.append
  )
  return said


def read(workdir):
  return list(run_writer.read(workdir / signal_map.FILE))


@pytest.fixture(scope='module')
def whole(config, tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    _half_are_right.__wrapped__(patch)
    workdir = tmp_path_factory.mktemp('whole')
    measure(config, workdir)
  return read(workdir)


def test_a_map_that_is_interrupted_goes_on(
  config, whole, tmp_path, monkeypatch
):
  make, calls = vectors._vectors, []

  def interrupted(*args, **options):
    calls.append(1)
    if len(calls) == 4:
      raise KeyboardInterrupt
    return make(*args, **options)

  monkeypatch.setattr(vectors, 'SAVE_EVERY_S', 0.0)
  monkeypatch.setattr(vectors, '_vectors', interrupted)
  with pytest.raises(KeyboardInterrupt):
    measure(config, tmp_path)
  assert not read(tmp_path)
  append, lines = run_writer.append, []

  def killed(*args):
    lines.append(1)
    if len(lines) == 2:
      raise KeyboardInterrupt
    return append(*args)

  monkeypatch.setattr(run_writer, 'append', killed)
  with pytest.raises(KeyboardInterrupt):
    measure(config, tmp_path)
  assert len(read(tmp_path)) == 1
  monkeypatch.setattr(run_writer, 'append', append)
  before = len(calls)
  measure(config, tmp_path)
  assert len(calls) == before  # all vectors were kept
  assert read(tmp_path) == whole
  said = measure(config, tmp_path)
  assert 'all signals are in' in said[-1]
  assert read(tmp_path) == whole


def test_direct_gradients_are_measured_once(config, tmp_path):
  chosen = [signals.parse(name, config) for name in (*NAMES, 'sft')]
  config = copy.deepcopy(config)
  args = (config, tmp_path, [0], chosen, SETTINGS, 4)
  direct.run(*args, lambda text: None)
  lines = read(tmp_path)
  assert [x['signal'] for x in lines] == list(NAMES)
  assert {x['bin'] for x in lines} == {'direct'}
  assert all(x['surrogate'].startswith('clip') for x in lines)
  assert (lines[2]['snr'], lines[2]['predicted_snr']) == (0.0, 0.0)
  assert lines[1]['mean_sq'] == pytest.approx(lines[0]['mean_sq'], rel=1e-4)
  said = []
  direct.run(*args, said.append)
  assert 'direct measurement' in said[0]
  assert read(tmp_path) == lines
  # The map of the same settings has no line yet.
  made_with = signal_map.digest(config, SETTINGS)
  assert not signal_map.finished(tmp_path / signal_map.FILE, 0, made_with)


def test_arms_go_where_is_predicted_and_are_tried_once(
  config, tmp_path, monkeypatch
):
  chosen = [signals.parse(name, config) for name in NAMES]
  tried = trial.Settings(
    seeds=1, prompts=32, samples=128, updates=2, length=0.1, rate=1e-3
  )
  args = (config, tmp_path, [None], chosen, SETTINGS, tried)
  train, calls = trial.Trial.train, []

  def interrupted(self, signal, *args):
    calls.append(signal.name)
    if len(calls) == 4:
      raise KeyboardInterrupt
    return train(self, signal, *args)

  monkeypatch.setattr(trial.Trial, 'train', interrupted)
  with pytest.raises(KeyboardInterrupt):
    predict.run(*args, lambda text: None)
  said = []
  predict.run(*args, said.append)
  arms = ['random', *NAMES]
  assert calls[4:] == [*arms[3:], *arms]
  lines = [x for x in read(tmp_path) if x['of'] == 'all']
  assert [x['signal'] for x in lines] == arms * 2
  assert (tmp_path / 'signal_predict.png').exists()
  for name in ('fixed', 'adamw'):
    control, up, down, still = (x for x in lines if x['optimizer'] == name)
    assert up['predicted'] > 0.01
    assert down['predicted'] == pytest.approx(-up['predicted'], rel=0.1)
    assert abs(control['predicted']) < 0.5 * up['predicted']
    # What a step costs whatever its direction is in both.
    assert up['gain'] - down['gain'] > 0.5 * up['predicted']
    assert (still['length'], still['gain'], still['predicted']) == (0, 0, 0)
  lengths = [x['length'] for x in lines if x['optimizer'] == 'fixed'][:3]
  np.testing.assert_allclose(lengths, lengths[0], rtol=1e-3)
  assert any('fixed: r ' in text for text in said)
  said.clear()
  predict.run(*args, said.append)
  assert len(calls) == 4 + 1 + 4  # nothing is tried twice


def test_labels_of_new_problems_are_those_of_the_pilots_policy(monkeypatch):
  """As those of the map's own problems are, whatever step is measured."""
  asked = []

  class Sampler:
    def _replace(self, *, policy):
      asked.append(policy)
      return lambda tasks, place: tasks

    x = types.SimpleNamespace(tasks=list(range(99)))

  monkeypatch.setattr(trial.Trial, '_sampler', lambda *_: Sampler())
  monkeypatch.setattr(trial.samples, 'labelled', lambda tasks, *_: tasks)
  arms = trial.Trial.__new__(trial.Trial)
  arms.settings = trial.Settings(prompts=2)
  config = tiny.get_config('smoke')
  arms.measured = types.SimpleNamespace(
    settings=SETTINGS, policy='now', of_pilot=lambda x: 'pilot', config=config
  )
  chosen = signals.parse('majority', config)
  assert len(arms.tasks(chosen, 0, 0)) == 2
  assert asked == ['pilot']


def test_problems_of_some_pass_rates_are_refused(config, tmp_path):
  some = SETTINGS._replace(between=(0.2, 1.0))
  with pytest.raises(ValueError, match='Leave --pass_rate out'):
    predict.run(config, tmp_path, [0], [], some, trial.Settings(), print)


@pytest.mark.parametrize(
  ('change', 'match'),
  [
    ({'seeds': 0}, '--predict=0 must be at least 1'),
    ({'samples': 0}, '--predict_samples=0'),
    ({'optimizers': ('sgd',)}, 'some of fixed, adamw'),
    ({'length': float('nan')}, '--predict_length=nan'),
    ({'rate': -1.0}, '--predict_rate=-1.0'),
  ],
)
def test_settings_that_cannot_work(change, match):
  with pytest.raises(ValueError, match=match):
    trial.Settings()._replace(**change).check()
