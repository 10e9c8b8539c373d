"""Whole small runs of method='reward_model', PPO against them, and refusals."""

import importlib.util
import json
import math
import pathlib

import pytest

from rlvr_jax import config as config_lib
from rlvr_jax import registry, train
from rlvr_jax.io import load

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
ROOT = pathlib.Path(__file__).parents[1]
TINY = f'{ROOT}/configs/tiny.py:smoke'
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'total_steps=6',
  'train_batch_size=8',
  'groups_per_micro_batch=8',
  'num_generations=2',
  'max_prompt_length=64',
  'max_completion_length=4',
  'eval.num_tasks=8',
  'eval.batch_size=16',
  'eval_every=0',
  'optimizer.learning_rate=1e-2',
)
BT = ('method=reward_model', 'algo.reward_loss=bradley_terry')


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """A file whose rejected answers end in a question mark, as a spec."""
  path = tmp_path_factory.mktemp('pairs') / 'pairs.jsonl'
  rows = [
    {'prompt': f'{i}+1=', 'chosen': f'{i + 1}', 'rejected': f'{i + 2}?'}
    | ({'margin': 0.5} if i % 2 else {})
    for i in range(80)
  ]
  path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
  return registry.spec('pairs', path=str(path), test_fraction=0.2)


def run(folder, *overrides):
  """[lines of metrics.jsonl, of eval.jsonl] of a run."""
  c = config_lib.load(TINY, [*SMALL, *overrides])
  train.train(c, folder)
  read = lambda name: (folder / f'{name}.jsonl').read_text().splitlines()
  return [[json.loads(x) for x in read(n)] for n in ('metrics', 'eval')]


@pytest.fixture(scope='module')
def trained(tmp_path_factory, pairs):
  folder = tmp_path_factory.mktemp('rm') / 'run'
  return folder, *run(
    folder, *BT, f'env={pairs}', 'system_prompt=Judge.', 'keep_best=eval/margin'
  )


def test_it_learns_to_tell_chosen_from_rejected(trained):
  _, (first, *_, last), (before, after) = trained
  # All scores are 0 at the start; half of the pairs ask for a margin of 0.5.
  assert math.log(2) < first['loss'] < math.log(1 + math.exp(0.5))
  assert first['rewards/accuracies'] == first['rewards/margins'] == 0
  assert last['loss'] < first['loss']
  assert last['rewards/accuracies'] == 1
  assert last['rewards/margins'] == pytest.approx(
    last['rewards/chosen'] - last['rewards/rejected'], abs=1e-5
  )
  assert not {'entropy', 'advantage/nonzero_frac', 'ratio'} & last.keys()
  assert (before['eval/accuracy'], before['eval/margin']) == (0, 0)
  assert after['eval/accuracy'] == 1
  assert after['eval/accuracy_low'] < 0.8
  assert after['eval/margin_low'] < after['eval/margin']
  assert after['eval/n'] == 8


def test_the_script_evaluates_a_checkpoint_alike(trained):
  folder, _, (before, after) = trained
  path = ROOT / 'scripts' / 'evaluate.py'
  spec = importlib.util.spec_from_file_location('evaluate_script', path)
  script = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(script)
  c = config_lib.of_run(folder, [])
  for step, want in ((6, after), (0, before)):
    got = script.run(c, folder, step)
    assert got[0] == step
    for name in ('accuracy', 'chosen', 'margin', 'margin_low', 'refused'):
      assert got[1][f'eval/{name}'] == want[f'eval/{name}'], name


def test_its_checkpoint_serves_as_a_model_with_a_head(trained):
  folder = str(trained[0])
  loaded = load.load_reward_model(
    folder, dtype='float32', place=lambda path, x: x
  )
  assert loaded.system_prompt == 'Judge.'
  assert loaded.params['value_kernel'].any()
  plain = load.load(folder)
  assert 'value_kernel' not in plain.params
  assert plain.weights != loaded.weights


def test_ppo_pays_for_the_divergence_from_its_start():
  """Of the recorded run, whose reward is the score of another recorded run."""
  path = ROOT / 'tests' / 'recorded' / 'ppo.jsonl'
  lines = [json.loads(x) for x in path.read_text().splitlines()]
  first, *_, last = [x['metrics'] for x in lines if 'metrics' in x]
  # The policy is its own reference before the first update.
  assert first['reward_kl'] == first['kl'] == 0
  assert last['reward_kl'] != 0 != last['kl']
  (name,) = [k for k in last if k.startswith('rewards/reward_model')]
  for line in (first, last):
    assert line['reward'] == line[name] != 0
    assert line['rewards/refused'] == 0


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    (['env=arithmetic()'], r'has no chosen completion.*pairs'),
    (['max_completion_length=3'], r'The \w+ completion of task'),
    (['model.name=tiny(max_position=32)'], 'positions'),
    (['keep_best=eval/pass@2'], r'Did you mean|There are: eval/accuracy'),
    (['algo.reward_loss=bradly'], "Did you mean 'bradley_terry'"),
    (['algo.preference=dpo'], "any other method ''"),
    (['teacher.name=x'], 'is not read by'),
    (["env=guessing(world='characters()')", 'max_prompt_length=400',
      'eval.split=train'], 'scores single answers'),
  ],
)  # fmt: skip
def test_what_cannot_work_is_refused_at_start(tmp_path, pairs, changes, says):
  c = config_lib.load(TINY, [*SMALL, *BT, f'env={pairs}', *changes])
  with pytest.raises(ValueError, match=says):
    train.train(c, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


@pytest.mark.parametrize(
  ('name', 'says'),
  [
    ('tiny()', 'is a name and has no head'),
    ('{smoke}', "is a run of method='rl' and has no head"),
    ('nowhere', 'no such folder'),
  ],
)
def test_models_that_give_no_score_are_refused(tmp_path, smoke, name, says):
  spec = registry.spec('reward_model', name.format(smoke=smoke[0]))
  c = config_lib.load(TINY, [*SMALL, f'reward_funcs=({spec!r},)'])
  with pytest.raises(ValueError, match=f'reward_funcs=.*{says}'):
    train.train(c, tmp_path / 'run')


def test_a_kl_in_the_reward_needs_a_critic(tmp_path):
  for changes, says in (
    (['algo.reward_beta=0.1'], 'algo.reward_kl is empty'),
    (['algo.reward_beta=0.1', 'algo.reward_kl=k1'], 'needs a critic'),
  ):
    c = config_lib.load(TINY, [*SMALL, *changes])
    with pytest.raises(ValueError, match=says):
      train.train(c, tmp_path / 'run')
