"""scripts/label.py: what it writes, and that interrupting changes nothing."""

import pathlib
import sys

import pytest

from rlvr_jax import checks, config, train
from rlvr_jax.envs import labels

pytestmark = pytest.mark.usefixtures('no_page')
ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'scripts'))
try:
  import label as script
finally:
  sys.path.remove(str(ROOT / 'scripts'))

CONFIG = f'{ROOT / "configs" / "tiny.py"}:smoke'
SMALL = ['model.name=tiny(layers=1)', 'mesh.shape=(8,1,1)']
SMALL += ['train_batch_size=8', 'groups_per_micro_batch=8', 'eval.num_tasks=8']
SMALL += ['eval.batch_size=8', 'num_generations=64', 'total_steps=1']
# Two batches of training tasks, the second one short. Completions are long
# enough for some to end: truncated ones have no vote.
SMALL += ['max_completion_length=48']
SMALL += ['env=arithmetic(max_value=2, train_size=9, instruction="")']


def label(out, *flags, changes=SMALL):
  flags = [f'--config={CONFIG}', f'--out={out}', '--samples=90', *flags]
  return script.main([*flags, *(f'--config.{x}' for x in changes)])


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  out = tmp_path_factory.mktemp('labels') / 'new' / 'labels.jsonl'
  assert label(out) == 0
  return out


def test_every_task_has_a_line_and_the_header_has_the_settings(
  finished, capsys
):
  header, rows = labels.load(finished)
  assert header['samples'] == 90
  assert header['made_with']['model.name'] == 'tiny(layers=1)'
  assert [row['id'] for row in rows] == [f'train-{i}' for i in range(9)]
  assert {row['samples'] for row in rows} == {90}
  labelled = [row for row in rows if row['answer'] is not None]
  assert labelled
  assert all(0 < row['votes'] <= 90 for row in labelled)
  assert len({row['answer'] for row in rows}) > 1
  # A finished file is left as it is.
  assert label(finished) == 0
  out = capsys.readouterr().out
  assert f'{finished} has 9 of 9 tasks\n' in out
  assert f'{len(labelled)} of 9 tasks have a majority answer' in out


@pytest.mark.parametrize('lines', [3, 9])
def test_an_interrupted_file_is_completed_to_the_same_bytes(
  finished, tmp_path, lines
):
  whole = finished.read_text().splitlines(keepends=True)
  out = tmp_path / 'labels.jsonl'
  out.write_text(''.join(whole[:lines]) + whole[lines][:20])
  assert label(out) == 0
  assert out.read_text() == finished.read_text()


@pytest.mark.parametrize(
  ('flags', 'changes', 'message'),
  [
    (['--tasks=3'], [], '--tasks: 9 in the file, 3 in the config'),
    (['--samples=64'], [], '--samples: 90 in the file, 64'),
    ([], ['temperature=0.5'], 'temperature: 1.0 in the file, 0.5'),
    ([], ['seed=1'], 'seed: 0 in the file, 1 in the config'),
    ([], ['model.name=tiny()'], "model.name: 'tiny(layers=1)' in the file"),
    ([], ['env=countdown()'], "has the verifier 'countdown'"),
    (['--samples=0'], [], '--samples=0 must be at least 1'),
  ],
)
def test_another_file_or_bad_flags_are_refused(
  finished, capsys, flags, changes, message
):
  before = finished.read_text()
  assert label(finished, *flags, changes=SMALL + changes) == 1
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert message in error
  assert finished.read_text() == before


def start(labels_file, workdir, *changes):
  """Starts a training run, which the tests stop before it samples."""
  changes = [*SMALL, f'labels={labels_file}', *changes]
  train.train(config.load(CONFIG, changes), workdir)


def test_a_run_trains_on_the_tasks_that_have_labels(
  finished, tmp_path, monkeypatch
):
  class Stopped(Exception):
    pass

  def stop(c, tasks, held_out, *_):
    raise Stopped(tasks, held_out)

  monkeypatch.setattr(checks, 'check_tasks', stop)
  spec = 'reward_funcs=("inverse(majority)",)'
  with pytest.raises(Stopped) as info:
    start(finished, tmp_path / 'run', spec)
  tasks, held_out = info.value.args
  _, rows = labels.load(finished)
  want = {r['id']: r['answer'] for r in rows if r['answer'] is not None}
  assert {t.id: t.data['label'] for t in tasks} == want
  assert all('label' not in t.data for t in held_out)


def test_a_run_that_needs_labels_is_refused_at_start(tmp_path):
  spec = 'reward_funcs=("all_of(outcome, majority)",)'
  with pytest.raises(ValueError, match='The reward majority needs labels'):
    start('', tmp_path / 'run', spec)
  assert not (tmp_path / 'run').exists()
