"""Whole small runs in which the policy is its own teacher; what is refused."""

import json
import math
import pathlib
import shutil

import jax
import numpy as np
import pytest

from rlvr_jax import algorithm, checks, experiment, teacher_checks, train
from rlvr_jax import config as config_lib
from rlvr_jax.envs import chain
from rlvr_jax.io import checkpoint
from rlvr_jax.learner import optimizer
from rlvr_jax.models import sharding
from rlvr_jax.tasks import Task

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
TINY, FILE = f'{CONFIGS}/tiny.py:smoke', f'{CONFIGS}/self_distillation.py'
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'train_batch_size=8',
  'num_generations=2',
  'groups_per_micro_batch=2',  # one packed size, of the teacher's rows too
  'eval.num_tasks=8',
  'eval.batch_size=8',
  'max_completion_length=4',
  'optimizer.learning_rate=1e-2',
  'optimizer.schedule=constant',
  'eval_every=0',
)
SDPO = (
  'algo.distill=loss(ratio_cap=2.0)',
  'algo.divergence=jsd(k=20)',
  'teacher.weights=ema',
  'teacher.rate=0.25',
  'teacher.context=solution_or_feedback',
  'teacher.template=plain',
  'teacher.max_context_length=64',
  'teacher.accuracy_every=2',
)
TIMES = ('timing_s', 'step_time', 'perf/')


def settings(*changes):
  return config_lib.load(TINY, [*SMALL, *changes])


def metrics(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  lines = [json.loads(line) for line in lines]
  return [
    {k: v for k, v in line.items() if not k.startswith(TIMES)} for line in lines
  ]


def test_killed_and_resumed_with_a_moving_average(tmp_path):
  """SDPO on all-wrong groups; the second step is lost, and done again."""
  c = settings(*SDPO, 'total_steps=2', 'save_every=1')
  train.train(c, tmp_path)
  before, state = metrics(tmp_path), load(tmp_path, c)
  # e + a (w - e), of the step before.
  first = load(tmp_path, c, 1)
  trained, _ = optimizer.split(state.params, c.optimizer.trainable)
  for k, e in state.teacher.items():
    want = 0.75 * first.teacher[k] + 0.25 * trained[k]
    np.testing.assert_allclose(e, want, atol=1e-6, err_msg=k)
  shutil.rmtree(tmp_path / 'checkpoints' / '2')
  train.train(c, tmp_path)
  assert metrics(tmp_path) == before
  after = jax.tree.leaves(load(tmp_path, c))
  for a, b in zip(jax.tree.leaves(state), after, strict=True):
    np.testing.assert_array_equal(a, b)
  first, last = before
  assert first['accuracy'] == 0  # outcome reward is silent
  assert first['frac_reward_zero_std'] == 1
  assert first['teacher/taught_frac'] == 1
  assert first['teacher/context_length'] > 0
  assert first['divergence'] > 0
  assert first['grad_norm'] > 0
  assert first['update_skipped'] == 0
  assert 'teacher/accuracy' not in first
  assert not math.isnan(last['teacher/accuracy'])
  assert last['teacher/mean_length'] > 0
  lines = (tmp_path / 'rollouts.jsonl').read_text().splitlines()
  rows = map(json.loads, lines)
  row = next(r for r in rows if r['split'] == 'train')
  assert row['feedback'] in row['teacher_question']


def load(folder, c, step=2):
  x = experiment.create(c)
  state, _, found = checkpoint.load(folder, x.programs.abstract, step=step)
  assert found == step
  assert state.teacher is not None
  return state


def test_on_policy_distillation(tmp_path, save_model):
  """Another model judges, as an advantage."""
  teacher = save_model(tmp_path / 'teacher', seed=1)
  opd = ('algo.distill=advantage', f'teacher.name={teacher}', 'total_steps=1')
  train.train(settings(*opd), tmp_path / 'opd')
  (line,) = metrics(tmp_path / 'opd')
  assert line['grad_norm'] > 0
  assert line['divergence'] == pytest.approx(-line['teacher/gap'], rel=1e-5)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'teacher.context': 'golden'}, "Did you mean 'gold'"),
    ({'teacher.context': 'gold'}, 'need algo.distill'),
    ({'teacher.weights': 'ema'}, 'need algo.distill'),
    (
      {'algo.distill': 'loss', 'method': 'sft', 'num_generations': 1},
      "needs method='rl' or 'distill', not 'sft'",
    ),
    (
      {'algo.distill': 'reweight', 'method': 'distill', 'teacher.name': 'x'},
      "take 'loss' or 'add'",
    ),
    (
      {'algo.distill': 'loss', 'teacher.name': 'x', 'teacher.weights': 'ema'},
      'has its own',
    ),
    ({'algo.distill': 'advantage'}, 'the teacher is the student'),
    (
      {
        'algo.distill': 'loss',
        'teacher.context': 'gold',
        'max_resample_batches': 2,
      },
      'max_resample_batches=2 waits',
    ),
    (
      {
        'algo.distill': 'loss',
        'teacher.context': 'solution',
        'num_generations': 1,
      },
      'a row has no sibling',
    ),
    (
      {
        'algo.distill': 'loss',
        'teacher.context': 'shuffled',
        'train_batch_size': 1,
        'groups_per_micro_batch': 1,
      },
      'there is no other task',
    ),
    ({'teacher.template': 'spdo'}, "template='spdo' must be one of plain"),
    (
      {
        'algo.distill': 'loss',
        'teacher.context': 'both',
        'teacher.template': 'opsd',
      },
      'has no place for the feedback',
    ),
    (
      {
        'algo.distill': 'loss',
        'teacher.weights': 'trust_region',
        'teacher.accuracy_every': 1,
      },
      'a trust_region is two models',
    ),
    ({'teacher.accuracy_every': 1}, 'accuracy_every=1 needs algo.distill'),
  ],
)
def test_teachers_that_cannot_work_are_refused(changes, message):
  c = settings()
  c.update_from_flattened_dict(changes)
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  with pytest.raises(ValueError, match=message):
    checks.check_config(c, mesh)


@pytest.mark.parametrize('scale', ['smollm2', 'tiny', 'qwen'])
def test_every_method_has_a_config_that_works(scale):
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  load = lambda name: config_lib.load(f'{FILE}:{name},{scale}')
  for name in ('sdpo', 'sdpo_rich', 'opsd', 'sdft', 'rlsd', 'sdar', 'ssopd'):
    c = load(name)
    checks.check_config(c, mesh)
    made = algorithm.from_config(c.algo)
    assert made.distill.outcome == (name in ('rlsd', 'sdar', 'ssopd'))
  c = load('opd')
  with pytest.raises(ValueError, match='Set teacher'):
    checks.check_config(c, mesh)
  c.teacher.name = 'stronger'
  checks.check_config(c, mesh)
  checks.check_config(load('grpo'), mesh)
  assert algorithm.from_config(load('grpo').algo).distill is None


def test_tasks_must_have_what_the_teacher_is_told():
  encode = lambda task: list(task.question.encode())
  tasks = [chain.chain(depth=2)['train'][i] for i in range(3)]
  check = lambda tasks, **changes: teacher_checks.check_tasks(
    settings(
      'algo.distill=loss', *(f'teacher.{k}={v}' for k, v in changes.items())
    ),
    tasks,
    encode,
  )
  check(tasks, context='gold')
  check(tasks, context='demonstration')
  with pytest.raises(ValueError, match='leaves no token to judge'):
    check(tasks, context='gold', skip_tokens=4)
  with pytest.raises(ValueError, match=r'adds .* tokens to the prompt of task'):
    check(tasks, context='gold', max_context_length=9)
  bare = [Task('x', '1 + 1 =', '2', 'math', {})]
  check(bare, context='gold(answer=True)')
  for context in ('gold', 'demonstration'):
    with pytest.raises(ValueError, match="task 'x' has none"):
      check(bare, context=context)
  silent = [bare[0]._replace(verifier='mine')]
  with pytest.raises(ValueError, match=r"'mine' .* says nothing"):
    check(silent, context='solution_or_feedback')
  game = [bare[0]._replace(verifier='guessing')]
  check(game, context='feedback')
