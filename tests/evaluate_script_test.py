"""scripts/evaluate.py gives the metrics of the evaluations in training."""

import importlib.util
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from rlvr_jax.reporting import run_writer

_PATH = pathlib.Path(__file__).parents[1] / 'scripts' / 'evaluate.py'
# scripts/evaluate.py, killed after its second batch.
_KILLED = """
import os, runpy, signal, sys
from rlvr_jax.evaluation import sample_store
add = sample_store.Samples.add

def add_and_end(self, records):
  add(self, records)
  if self.done == 16:
    os.kill(os.getpid(), signal.SIGKILL)

sample_store.Samples.add = add_and_end
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(scope='module')
def script():
  spec = importlib.util.spec_from_file_location('evaluate_script', _PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture
def workdir(smoke, tmp_path):
  return shutil.copytree(smoke[0], tmp_path / 'run')


def evals(workdir):
  return list(run_writer.read(workdir / run_writer.EVAL))


def test_it_agrees_with_training_at_every_step(script, workdir, capsys):
  before = evals(workdir)
  assert [e['step'] for e in before] == [0, 2]
  assert script.main([f'--workdir={workdir}', '--step=0']) == 0
  assert script.main([f'--workdir={workdir}']) == 0
  after = evals(workdir)
  assert after[:2] == before
  for ours, theirs in zip(after[2:], before, strict=True):
    assert ours.pop('source') == 'evaluate'
    assert ours.pop('temperature') == 1.0
    assert ours.pop('split') == 'test'
    assert ours.pop('tasks').startswith('8 tasks, ')
    assert ours.pop('env').startswith('arithmetic(')
    assert ours == theirs
  out = capsys.readouterr().out
  assert '16/16 samples, 0:00 left' in out
  assert 'pass@2' in out


def test_killed_and_resumed_it_gives_the_same_samples_and_metrics(
  script, workdir, tmp_path
):
  other = shutil.copytree(workdir, tmp_path / 'other')
  flags = ['--step=0', '--samples=4', '--config.eval.batch_size=8']

  def lines(folder):
    texts = [f.read_text() for f in folder.glob('samples-0-*')]
    return ''.join(texts).splitlines()

  command = [sys.executable, '-c', _KILLED, _PATH, f'--workdir={workdir}']
  done = subprocess.run([*command, *flags], stdout=subprocess.DEVNULL)
  assert done.returncode == -signal.SIGKILL
  assert len(lines(workdir)) == 1 + 16
  for folder in (workdir, other):
    assert script.main([f'--workdir={folder}', *flags]) == 0
  assert lines(workdir) == lines(other)
  assert len(lines(other)) == 1 + 32
  assert evals(workdir)[-1] == evals(other)[-1]


def test_other_tasks_and_samples(script, workdir, capsys):
  env = 'arithmetic(max_value=9, instruction="")'
  flags = [f'--env={env}', '--tasks=5', '--samples=3', '--temperature=0.5']
  assert script.main([f'--workdir={workdir}', *flags]) == 0
  line = evals(workdir)[-1]
  assert (line['env'], line['temperature'], line['step']) == (env, 0.5, 2)
  assert (line['eval/n'], line['eval/samples']) == (5, 3)
  # The unbiased pass@1 is the accuracy.
  assert line['eval/pass@1'] == pytest.approx(line['eval/accuracy'])
  assert line['eval/accuracy_low'] <= line['eval/accuracy']
  assert env in capsys.readouterr().out


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--step=1'], 'has no checkpoint of step 1. There are: 2. Take one of'),
    (['--samples=4', '--temperature=0'], '4 samples at temperature 0 are the'),
    (['--samples=x'], "'eval.samples' is int, now 2; 'x' is not"),
    (['--tasks=0'], 'eval.num_tasks=0 must be a whole number from 1'),
    (['--env=arithmetik()'], "Did you mean 'arithmetic'?"),
    (['--config.max_prompt_length=9'], 'longer than max_prompt_length=9'),
    (['--config.mesh.shape=(3,1,1)'], 'number of devices, 8'),
    (['--workdir=nowhere'], 'nowhere holds no run'),
  ],
)
def test_refusals_are_one_clear_line(script, workdir, capsys, flags, message):
  count = len(evals(workdir))
  assert script.main([f'--workdir={workdir}', *flags]) == 1
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert message in error
  assert error.count('\n') == 1
  assert len(evals(workdir)) == count


def test_best_of_n_as_the_policy_judges(script, workdir):
  """Random weights write no verdict: all tie, and the mean of all counts."""
  flags = ['--tasks=2', '--best_of=judge(format=letter)', '--step=0']
  flags += ['--config.judge.name=policy', '--config.judge.batch_size=8']
  small = ['--config.judge.max_prompt_length=72']
  small += ['--config.judge.max_completion_length=2']
  assert script.main([f'--workdir={workdir}', *flags, *small]) == 0
  line = evals(workdir)[-1]
  assert line['eval/best_of@2'] == line['eval/accuracy']
  assert line['eval/best_of_elo@2_high'] > 0


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    ({'best_of': 'judge(compare=reference)'}, 'is of training'),
    ({'best_of': 'judge(alpha=0.2)'}, 'alpha=0.2 is not read'),
    ({'best_of': 'outcome'}, "write it as 'judge"),
    ({'judge.name': ''}, "judge.name='' must be"),
    ({'eval.samples': 1}, 'eval.samples=1 must be 2 or more'),
    ({'method': 'reward_model', 'algo.reward_loss': 'bradley_terry',
      'num_generations': 2}, 'has no samples to pick from'),
    ({'env': "guessing(world='attributes()')"}, 'is a dialogue'),
    ({'judge.max_prompt_length': 9000}, 'positions'),
  ],
)  # fmt: skip
def test_best_of_n_is_refused_before_anything_is_sampled(
  script, workdir, changes, says
):
  usual = {'best_of': 'judge(format=letter)', 'judge.name': 'policy'}
  changes = usual | changes
  best_of = changes.pop('best_of')
  _, c = script.parse([f'--workdir={workdir}'])
  c.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=says):
    script.run(c, workdir, 0, best_of=best_of)
  assert not [*workdir.glob('samples-*')]


def test_branches_are_several_without_a_temperature(script, workdir):
  flags = [f'--workdir={workdir}', '--config.eval.temperature=0.0']
  with pytest.raises(ValueError, match='are the same one'):
    script.parse([*flags, '--samples=10'])
  _, c = script.parse([*flags, '--samples=10', '--config.eval.branch=True'])
  assert c.eval.samples == 10
