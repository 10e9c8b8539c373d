"""Data and weights that change under a run, its evaluations and its labels."""

import importlib.util
import json
import pathlib
import shutil

import pytest

from rlvr_jax import config, train
from rlvr_jax.envs import labels
from rlvr_jax.io import checkpoint
from rlvr_jax.verifiers import dispatch

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
ROOT = pathlib.Path(__file__).parents[1]
SMOKE = f'{ROOT}/configs/tiny.py:smoke'
SMALL = [f'{n}=8' for n in ('train_batch_size', 'eval.num_tasks')]
SMALL += ['num_generations=2', 'max_completion_length=2', 'save_every=1']
SMALL += ['eval_every=0', 'total_steps=1', 'max_prompt_length=64']


def script(name):
  path = ROOT / 'scripts' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(f'{name}_script', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def write(path, first, *, gold='7', **rows):
  """Sixteen rows whose gold is 7; rows={'row12': {...}} changes some."""
  lines = [{'question': f'Q{first + i}', 'answer': gold} for i in range(16)]
  for name, change in rows.items():
    lines[int(name.removeprefix('row'))] |= change
  path.write_text(''.join(json.dumps(x) + '\n' for x in lines))


class Run:
  """A run in a folder, with its data and model beside it."""

  def __init__(self, folder, save_model):
    self.dir, self.model = folder / 'run', folder / 'model'
    self._save_model = save_model
    self.train, self.test = folder / 'train.jsonl', folder / 'test.jsonl'
    self.changes = [
      *SMALL,
      f"env=jsonl(path='{self.train}',test_path='{self.test}')",
      f'model.name={self.model}',
    ]
    self.save_model()
    write(self.train, 0)
    write(self.test, 100)

  def save_model(self, seed=0):
    self._save_model(self.model, seed)

  def go(self, *changes):
    train.train(config.load(SMOKE, [*self.changes, *changes]), self.dir)
    return self

  def copy(self, folder):
    """The same run with its own data and model."""
    new = Run(folder, self._save_model)
    shutil.copytree(self.dir, new.dir)
    return new

  def evals(self):
    text = (self.dir / 'eval.jsonl').read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def run(tmp_path, save_model):
  return Run(tmp_path, save_model)


def contents(folder):
  return {
    p: p.read_bytes()
    for p in folder.rglob('*')
    if p.is_file() and p.name != '.lock'
  }


def test_a_run_resumes_only_with_the_data_it_was_trained_on(run, capsys):
  run.go()
  before = contents(run.dir)

  def refused(*says):
    with pytest.raises(ValueError, match='other data or weights') as e:
      run.go('total_steps=2')
    for text in says:
      assert text in str(e.value)
    assert contents(run.dir) == before

  for change in ({'answer': '8'}, {'question': 'Why?'}, {'solution': '7'}):
    write(run.train, 0, row15=change)
    refused('tasks to train on: 16 tasks', 'jsonl(path=')
  write(run.train, 0, gold='8')
  refused('tasks to train on')
  write(run.train, 0)
  write(run.test, 100, row3={'answer': '8'})
  refused('tasks to evaluate on: 8 tasks')
  write(run.test, 100, row15={'answer': '8'})  # not one of the eight
  run.save_model(seed=1)
  refused('model.name=', 'weights:')
  run.save_model()
  path = run.model / 'tokenizer_config.json'
  text = path.read_text()
  path.write_text(text.replace('<|im_start|>', '<|im_end|>', 1))
  assert path.read_text() != text
  refused('tokenizer:')
  path.write_text(text)
  # Other bytes with the same meaning are the same data.
  run.train.write_text(run.train.read_text().replace('": ', '":  '))
  run.go('total_steps=2')
  assert checkpoint.steps(run.dir)[-1] == 2
  assert 'WARNING' not in capsys.readouterr().out


def test_config_json_cannot_be_lost(run):
  run.go()
  (run.dir / 'config.json').unlink()
  before = contents(run.dir)
  with pytest.raises(ValueError, match='seed: 0 -> 1'):
    run.go('total_steps=2', 'seed=1')
  assert contents(run.dir) == before
  run.go('total_steps=2')
  assert (run.dir / 'config.json').exists()


def test_a_teacher_is_remembered_too(run, tmp_path, save_model):
  save_model(tmp_path / 'teacher')
  overrides = ('method=distill', f'teacher.name={tmp_path / "teacher"}')
  run.go(*overrides)
  save_model(tmp_path / 'teacher', seed=1)
  with pytest.raises(ValueError, match=r'teacher\.name=.*weights'):
    run.go(*overrides, 'total_steps=2')


@pytest.fixture(scope='module')
def sure(tmp_path_factory, save_model):
  """A run whose policy has learned to answer 7."""
  overrides = (
    'method=sft',
    'num_generations=1',
    'optimizer.learning_rate=1e-2',
  )
  run = Run(tmp_path_factory.mktemp('sure'), save_model)
  write(run.train, 0, **{f'row{i}': {'solution': '7'} for i in range(16)})
  overrides += ('total_steps=30', 'save_every=30', 'log_every=30')
  return run.go(*overrides)


def test_evaluations_follow_the_golds(sure, tmp_path, capsys, monkeypatch):
  run, evaluate = sure.copy(tmp_path), script('evaluate').main
  # The config of the copy names the data of the original.
  test = sure.test

  def accuracy(expected='', absent='not used'):
    flags = ['--samples=2', '--tasks=8', '--temperature=0.01']
    assert evaluate([f'--workdir={run.dir}', *flags]) == 0
    out = capsys.readouterr().out
    assert expected in out
    assert absent not in out
    return run.evals()[-1]['eval/accuracy']

  try:
    assert accuracy() == 1
    assert accuracy('16 of 16 samples are in') == 1
    write(test, 100, gold='8')
    why = 'is not used, since these differ: env: tasks to evaluate on: 8 tasks'
    assert accuracy(why, absent='samples are in') == 0
    write(test, 100, row2={'answer': '8'})
    assert accuracy(why, absent='samples are in') == 7 / 8
    tasks = {e.get('tasks') for e in run.evals()[-4:]}
    assert len(tasks) == 3
    write(test, 100)  # the first answers are those of these golds
    assert accuracy('16 of 16 samples are in', absent='0/16') == 1
    monkeypatch.setattr(dispatch, 'VERSION', dispatch.VERSION + 1)
    assert accuracy('verifier: version', absent='samples are in') == 1
  finally:
    write(test, 100)


def test_step_0_follows_the_weights(run, capsys):
  run.go()
  evaluate = script('evaluate').main

  def entropy(step, says):
    flags = [f'--step={step}', '--samples=2', '--tasks=4', '--temperature=1']
    assert evaluate([f'--workdir={run.dir}', *flags]) == 0
    assert says in capsys.readouterr().out
    return run.evals()[-1]['eval/sampled_entropy']

  first = entropy(0, '8/8 samples')
  last = entropy(1, '8/8 samples')
  run.save_model(seed=1)
  assert entropy(0, 'model.name: weights') != first
  # The checkpoint has the weights of step 1.
  assert entropy(1, '8 of 8 samples are in') == last
  # Another run in the same place.
  shutil.rmtree(run.dir)
  run.go('optimizer.learning_rate=1e-2')
  shutil.copy(run.dir / 'eval.jsonl', run.dir / 'old.jsonl')
  assert entropy(1, '8/8 samples') != last


def label(run, out, *flags):
  return script('label').main(
    [
      f'--config={SMOKE}', f'--out={out}', '--samples=16', *flags,
      *(f'--config.{x}' for x in run.changes),
    ]
  )  # fmt: skip


def test_labels_are_of_these_tasks_and_this_model(
  run, tmp_path, capsys, monkeypatch
):
  out = tmp_path / 'labels.jsonl'
  run.changes.append('max_completion_length=1')
  assert label(run, out) == 0
  header, rows = labels.load(out)
  assert set(header['content']) == {
    'verifier: version', 'env: tasks', 'model.name: weights',
    'model.name: tokenizer',
  }  # fmt: skip
  made = out.read_text()

  def refused(says):
    assert label(run, out) == 1
    assert says in capsys.readouterr().err
    assert out.read_text() == made

  run.save_model(seed=1)
  refused('model.name: weights')
  run.save_model()
  write(run.train, 0, row15={'answer': '8'})
  refused('env: tasks')
  write(run.train, 0)
  with monkeypatch.context() as m:
    m.setattr(dispatch, 'VERSION', dispatch.VERSION + 1)
    refused('verifier: version')
  assert label(run, out) == 0

  # Train on them, with labels that no model gives.
  rows = [row | {'answer': '3', 'right': False} for row in rows]
  labels.write(out, [header, *rows])
  overrides = (f'labels={out}', 'reward_funcs=("majority",)')
  run.save_model(seed=1)
  with pytest.raises(ValueError, match='another model by the name'):
    run.go(*overrides)
  run.save_model()
  with monkeypatch.context() as m:
    m.setattr(dispatch, 'VERSION', dispatch.VERSION + 1)
    with pytest.raises(ValueError, match='another version of the verifier'):
      run.go(*overrides)
  run.go(*overrides)
  labels.write(out, [header, *rows[:-1], rows[-1] | {'answer': '4'}])
  with pytest.raises(ValueError, match=r'labels=.*: lines: ') as e:
    run.go(*overrides, 'total_steps=2')
  assert 'tasks to train on' not in str(e.value)
