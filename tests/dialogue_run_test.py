"""Whole runs on dialogues: credit, beliefs, resuming, imitation."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from rlvr_jax import config, experiment, train
from rlvr_jax.envs import dialogue
from rlvr_jax.evaluation import checkpoint_eval, sample_store
from rlvr_jax.models import sharding
from rlvr_jax.rollouts import episode_end

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
ROOT = pathlib.Path(__file__).parents[1]
CONFIG = f'{ROOT}/configs/studies/twenty_questions/twenty_questions.py'
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'train_batch_size=8',
  'num_generations=2',
  'groups_per_micro_batch=2',  # more have several sizes, and compile longer
  'max_completion_length=4',
  'dialogue.max_turns=3',
  'dialogue.max_length=128',
  'eval.num_tasks=2',
  'eval.samples=2',
  'eval.batch_size=8',
  'eval.max_turns=0',
  'total_steps=2',
  'save_every=1',
  'log_transcripts=4',
)
VOLATILE = ('timing_s/', 'perf/', 'step_time')


def settings(arg, *changes):
  return config.load(f'{CONFIG}:{arg}', [*SMALL, *changes])


def run(folder, c):
  train.train(c, folder)
  return lines(folder, 'metrics')


def lines(folder, name):
  out = map(json.loads, (folder / f'{name}.jsonl').read_text().splitlines())
  return [
    {k: v for k, v in x.items() if not k.startswith(VOLATILE)} for x in out
  ]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole') / 'run'
  c = settings('credit=delta_belief')
  return folder, c, run(folder, c)


def test_metrics_of_a_run_on_dialogues(whole):
  folder, _, metrics = whole
  for line in metrics:
    assert line['sampler_trainer/logp_diff_max'] < 1e-4
    assert line['belief/first'] < 0
    assert 0 < line['turns/mean'] <= 3
    assert line['turns/invalid'] > 0.5  # random weights
  last = lines(folder, 'eval')[-1]
  assert last['eval/turns'] == 3
  rows = [r for r in lines(folder, 'rollouts') if r['split'] == 'train']
  assert [len(r['turns']) for r in rows] == [3] * 8
  assert {'said', 'reply', 'kind', 'reward', 'belief'} <= rows[0]['turns'][
    0
  ].keys()


def test_a_transcript_replays_to_the_same_rewards(whole):
  folder, c, _ = whole
  from rlvr_jax import registry

  tasks = registry.get('env', c.env)()['train']
  by_id = {f'train-{i}': i for i in range(200)}
  for r in lines(folder, 'rollouts'):
    if r['split'] == 'train' and r['id'] in by_id:
      task = tasks[by_id[r['id']]]
      messages = [t['said'] for t in r['turns']]
      for k, turn in enumerate(r['turns']):
        assert dialogue.reply(task, messages[: k + 1]).kind == turn['kind']


def test_a_run_that_lost_its_last_step_ends_the_same(whole, tmp_path):
  folder, c, metrics = whole
  again = tmp_path / 'run'
  shutil.copytree(folder, again)
  shutil.rmtree(again / 'checkpoints' / '2')
  assert run(again, c) == metrics
  assert lines(again, 'rollouts') == lines(folder, 'rollouts')
  assert lines(again, 'eval') == lines(folder, 'eval')


def test_a_frozen_belief_is_the_current_one_at_first_and_not_after(
  whole, tmp_path
):
  """Step 1 samples with the initial weights; step 2 does not."""
  _, _, current = whole
  frozen = run(tmp_path / 'run', settings('belief=initial'))
  for name in ('belief/first', 'belief/last'):
    assert frozen[0][name] == pytest.approx(current[0][name], abs=1e-4)
  assert abs(frozen[1]['belief/last'] - current[1]['belief/last']) > 1e-3


def test_a_critic_learns_from_the_same_dialogues(tmp_path):
  metrics = run(tmp_path / 'run', settings('credit=critic'))
  assert all(np.isfinite(m['critic/loss']) for m in metrics)
  assert 'belief/first' not in metrics[0]


def test_imitation_of_scripted_dialogues(tmp_path):
  c = settings(
    'stage=base',
    'total_steps=1',
    'num_generations=1',
    'dialogue.max_turns=8',
    'dialogue.max_length=256',
    'max_completion_length=8',
  )
  (line,) = run(tmp_path / 'run', c)
  assert line['turns/invalid'] == 0
  assert line['turns/mean'] > 3
  assert np.isfinite(line['loss'])


def test_an_evaluation_may_have_more_turns(whole, tmp_path):
  folder, c, _ = whole
  again = tmp_path / 'run'
  shutil.copytree(folder, again)
  c = config.load(f'{CONFIG}:credit=delta_belief', [*SMALL, 'eval.max_turns=5'])
  x = experiment.create(c)
  with sharding.use(x.mesh):
    table = checkpoint_eval.evaluate_checkpoint(
      c, x.checkpoint(again, None), x.eval_tasks, again, x.mesh, lambda _: None
    )
  assert isinstance(table, sample_store.Table)
  np.testing.assert_array_equal(table.turns, 5)
  assert episode_end.dialogue_limits(c, evaluating=True).length == -(
    -128 * 5 // 3
  )


def test_a_teacher_judges_dialogues_and_plays_them(tmp_path):
  c = settings(
    'credit=outcome',
    'total_steps=1',
    'algo.distill=loss',
    'teacher.context=feedback',
    'teacher.template=plain',
    'teacher.max_context_length=320',
    'teacher.accuracy_every=1',
  )
  (line,) = run(tmp_path / 'run', c)
  assert line['teacher/taught_frac'] == 1.0
  assert line['grad_norm'] > 0
  assert line['teacher/accuracy'] == 0.0  # random weights
  assert 0 < line['teacher/mean_length'] <= 3 * 4


def test_a_named_teacher_has_room_for_a_dialogue(save_model, tmp_path):
  folder = save_model(tmp_path / 'model')
  c = settings(
    'credit=outcome',
    'algo.distill=add',
    f'teacher.name={folder}',
    'teacher.context=feedback',
    'teacher.max_context_length=900',
  )
  with pytest.raises(ValueError, match=r"than teacher\.name='.*'s 1024 posit"):
    experiment.build(c, tmp_path / 'run')


@pytest.mark.parametrize(
  ('changes', 'match'),
  [
    (
      ('env=arithmetic()', 'algo.credit=outcome'),
      "'win' is for turns of a dialogue",
    ),
    (
      (
        'env=arithmetic()',
        "reward_funcs=('outcome',)",
        'reward_weights=(1.0,)',
      ),
      'algo.credit=.* needs the belief',
    ),
    (('dialogue.belief=',), 'needs the belief'),
    (('method=sft', 'num_generations=1'), "read only by method='rl'"),
    (('dialogue.belief=mine',), "must be one of '', 'current', 'initial'"),
    (('algo.credit=outcome', 'algo.estimate=remax'), 'greedy'),
    (('dialogue.max_turns=0',), 'from 1 to 10000'),
    (('dialogue.max_length=2',), 'the first message'),
    (('dialogue.max_length=100000',), 'positions'),
    (('eval.max_turns=9999', 'dialogue.max_length=0'), 'positions'),
    (
      (
        'algo.distill=add',
        'teacher.context=feedback',
        'teacher.max_context_length=900',
      ),
      "before its teacher, more than the model's",
    ),
    (('algo.turn_statistics=dead',), 'living'),
    (
      ("env=guessing(world='attribute()')",),
      "Did you mean 'attributes'",
    ),
    (
      ("reward_funcs=('self_certainty',)", 'reward_weights=(1.0,)'),
      'probabilities',
    ),
  ],
)
def test_what_cannot_work_is_refused_at_start(tmp_path, changes, match):
  with pytest.raises(ValueError, match=match):
    train.train(settings('credit=delta_belief', *changes), tmp_path / 'run')
  # Refused before anything is written.
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()
