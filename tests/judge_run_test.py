"""Whole small runs with a judge: another model, and the policy itself."""

import json
import pathlib

import pytest

from rlvr_jax import config as config_lib
from rlvr_jax import experiment, train

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
TINY = str(pathlib.Path(__file__).parents[1] / 'configs' / 'tiny.py') + ':smoke'
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'reward_funcs=("judge(format=letter)", "random")',
  'reward_weights=(1.0, 1.0)',
  'judge.name=policy',
  'judge.max_prompt_length=72',
  'judge.max_completion_length=2',
  'judge.batch_size=16',
  'train_batch_size=8',
  'groups_per_micro_batch=8',
  'optimizer.schedule=constant',
  'num_generations=2',
  'total_steps=2',
  'save_every=1',
  'eval_every=0',
  'eval.num_tasks=2',
)


def run(folder, *changes):
  c = config_lib.load(TINY, [*SMALL, *changes])
  train.train(c, folder)
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  timed = ('time', 'timing', 'perf')
  return [
    {k: v for k, v in json.loads(x).items() if not any(t in k for t in timed)}
    for x in lines
  ]


@pytest.fixture(scope='module')
def learning(tmp_path_factory):
  """Two steps of a policy that judges itself and learns to."""
  folder = tmp_path_factory.mktemp('judge')
  return folder / 'run', run(folder / 'run', 'judge.weight=2.0')


def test_both_sorts_of_rows_are_in_the_update(learning):
  """Judgments of random weights are unreadable: all -1, without a gradient."""
  _, lines = learning
  assert lines[0]['judge/unreadable'] > 0.9
  assert lines[0]['rewards/judgment'] < -0.9
  assert lines[0]['rewards/judge(format=letter)'] < 0.1
  assert 0 <= lines[0]['accuracy'] <= 1  # the anchor
  assert lines[0]['sampler_trainer/logp_diff_max'] < 1e-3


def test_killed_and_resumed(learning, tmp_path):
  _, want = learning
  assert run(tmp_path, 'judge.weight=2.0', 'total_steps=1') == want[:1]
  assert run(tmp_path, 'judge.weight=2.0') == want


def test_another_model_judges(learning, tmp_path):
  """The run itself is the model: a judge with its first weights."""
  folder, _ = learning
  lines = run(tmp_path / 'b', f'judge.name={folder}', 'total_steps=1')
  assert lines[0]['judge/unreadable'] > 0.9
  assert 'rewards/judgment' not in lines[0]


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    (['judge.name='], 'needs judge.name'),
    (['judge.control=noisy'], 'asks no model'),
    (['judge.control=noise'], 'choose first, flipped'),
    (['judge.name=', 'judge.control=noisy', 'judge.weight=1.0'], 'trains judg'),
    (['reward_funcs=("outcome",)', 'reward_weights=(1.0,)'], 'alone: put it'),
    (['num_generations=1', 'algo.estimate=reinforce'], 'so 2 or more'),
    (['method=rejection'], 'works on single answers'),
    (['algo.estimate=remax'], 'greedy completion'),
    (['judge.weight=1.0', 'judge.temperature=0.5'], 'one temperature'),
    (['judge.weight=1.0', 'algo.kl=k3', 'algo.beta=0.1'], 'as SERL does'),
    (['judge.weight=1.0', 'algo.estimate=gae'], 'no values of judgments'),
    (
      ['judge.weight=1.0', 'algo.distill=loss', 'teacher.context=feedback'],
      "algo.distill='loss' is not made for judge.weight",
    ),
    (
      [
        'judge.weight=1.0',
        'reward_funcs=("judge(format=letter, compare=reference)", "random")',
      ],
      'by judge.compare=pairwise',
    ),
  ],
)  # fmt: skip
def test_settings_that_cannot_work_together_are_refused(changes, says):
  c = config_lib.load(TINY, [*SMALL, *changes])
  with pytest.raises(ValueError, match=says):
    experiment.create(c).judged  # noqa: B018


@pytest.mark.parametrize(
  ('change', 'says'),
  [
    ('judge.name=', 'needs judge.name'),  # one of those above
    ('judge.name=tiny()', 'without weights'),
    ('judge.name=nowhere/at/all', 'judge.name'),
    ('judge.max_prompt_length=9000', 'judge.max_prompt_length.*positions'),
    ('judge.max_prompt_length=20', 'before any response'),
  ],
)
def test_what_cannot_work_is_refused_at_start(tmp_path, change, says):
  c = config_lib.load(TINY, [*SMALL, change])
  with pytest.raises(ValueError, match=says):
    train.train(c, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()
