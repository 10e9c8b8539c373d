"""Whole small runs of method='preference', and what they refuse at start."""

import json
import math
import pathlib

import pytest

from rlvr_jax import config as config_lib
from rlvr_jax import experiment, registry, train
from rlvr_jax.io import chat_template, tokenizer
from rlvr_jax.rollouts import imitation, single_turn
from rlvr_jax.tasks import Task

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
TINY = str(pathlib.Path(__file__).parents[1] / 'configs' / 'tiny.py') + ':smoke'
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'method=preference',
  'algo.preference=dpo(beta=0.5)',
  'num_generations=2',
  'total_steps=6',
  'train_batch_size=8',
  'groups_per_micro_batch=4',
  'max_prompt_length=64',
  'max_completion_length=8',
  'eval.num_tasks=2',
  'eval.batch_size=8',
  'eval_every=0',
  'optimizer.learning_rate=1e-2',
)
BYTES = tokenizer.byte_level()


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
  """A file whose chosen answers are sums, and its env as a spec."""
  path = tmp_path_factory.mktemp('pairs') / 'pairs.jsonl'
  rows = [
    {'prompt': f'{i}+1=', 'chosen': f'{i + 1}', 'rejected': f'{i + 2}?'}
    for i in range(40)
  ]
  path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
  return registry.spec('pairs', path=str(path))


@pytest.fixture
def run(tmp_path, pairs):
  def go(*overrides):
    c = config_lib.load(TINY, [*SMALL, f'env={pairs}', *overrides])
    train.train(c, tmp_path)
    read = lambda name: (tmp_path / name).read_text().splitlines()
    return [
      [json.loads(x) for x in read(f'{name}.jsonl')]
      for name in ('metrics', 'rollouts')
    ]

  return go


def test_dpo_learns_to_tell_chosen_from_rejected(run):
  (first, *_, last), rollouts = run('log_transcripts=4')
  # The policy is its own reference before the first update.
  assert first['loss'] == pytest.approx(math.log(2), abs=1e-6)
  for key in ('chosen', 'rejected', 'margins', 'accuracies'):
    assert first[f'rewards/{key}'] == pytest.approx(0, abs=1e-5)
  assert first['logps/chosen'] < -5
  assert last['loss'] < 0.3
  assert last['rewards/accuracies'] == 1
  assert last['rewards/margins'] == pytest.approx(
    last['rewards/chosen'] - last['rewards/rejected'], abs=1e-5
  )
  # Rows of a pair: the chosen text is right, the rejected one wrong.
  assert last['accuracy'] == 0.5
  assert 'sampler_trainer/logp_diff_max' not in last
  train_rows = [r for r in rollouts if r['split'] == 'train']
  assert [r['verdict'] for r in train_rows[:4]] == ['CORRECT', 'WRONG'] * 2
  assert train_rows[1]['completion'].endswith('?')


def test_simpo_has_no_reference(run, pairs):
  spec = 'algo.preference=simpo(beta=2.0, gamma=0.5)'
  lines, _ = run(spec, 'total_steps=2')
  # Rewards are beta log pi per token, so they are not 0 at the start.
  assert lines[0]['rewards/chosen'] < -1
  x = experiment.create(config_lib.load(TINY, [*SMALL, f'env={pairs}', spec]))
  assert not x.needs_initial


def test_rl_takes_the_pairs_of_each_group(run):
  """Online DPO: pairs of rows with different rewards, four rows a group."""
  (first, *_, last), _ = run(
    'env=arithmetic()',
    'method=rl',
    'num_generations=4',
    'total_steps=3',
    'reward_funcs=("random",)',
  )
  assert first['loss'] == pytest.approx(math.log(2), abs=1e-6)
  assert first['rewards/margins'] == pytest.approx(0, abs=1e-5)
  assert first['rewards/random'] == first['reward']
  assert first['sampler_trainer/logp_diff_max'] < 1e-3
  assert last['rewards/margins'] != 0
  assert last['update_skipped'] == 0


def test_branches_make_the_rows_of_a_group(run):
  """By rank of the first token, here the only one; half of them are no text."""
  lines, rollouts = run(
    'env=arithmetic()',
    'method=rl',
    'sampling.branch=True',
    'max_completion_length=1',
    'num_generations=64',
    'total_steps=2',
    'log_transcripts=64',
    'reward_funcs=("random", "answer_gap")',
    'reward_weights=(1.0, 0.0)',
  )
  first, last = lines
  assert first['sampler_trainer/logp_diff_max'] < 1e-3
  assert 0.2 < first['branches/junk'] < 0.9
  assert first['branches/end'] <= 1 / 64
  dropped = first['branches/junk'] + first['branches/end']
  located = first['completions/answer_located']
  assert first['rewards/refused'] == pytest.approx(1 - located, abs=1e-6)
  assert located < 1 - dropped
  assert last['update_skipped'] == 0
  texts = [r['completion'] for r in rollouts if r['split'] == 'train'][:64]
  ours = [x for x in texts if '\ufffd' not in x]
  assert len(set(ours)) == len(ours)  # each rank is another token


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    (['algo.preference='], "needs one, such as 'dpo"),
    (['method=sft', 'num_generations=1'], 'any other method'),
    (['num_generations=4'], 'a pair is two rows'),
    (['method=rl', 'num_generations=1'], 'a pair is two rows'),
    (['algo.kl=k3', 'algo.beta=0.1'], 'is the whole loss'),
    (['algo.entropy_coef=0.1'], 'is the whole loss'),
    (['method=rl', 'algo.correction=truncate'], 'is the whole loss'),
    (['method=rl', 'algo.estimate=gae'], 'take no critic'),
    (['algo.preference=dpo(beta=-1.0)'], 'beta, the scale'),
    (['algo.preference=dop'], "Did you mean 'dpo'"),
    (['method=rl', 'algo.pairs=best'], "Did you mean 'best_worst'"),
    (['sampling.branch=True'], "not read by method='preference'"),
    (['teacher.name=x'], 'is not read by'),
    (['max_completion_length=2'], 'The rejected completion of task .train-'),
    (['max_prompt_length=3'], 'prompts are longer'),
    (['env=arithmetic()'], 'has no chosen completion.*pairs'),
    (
      [
        "env=guessing(world='characters()')",
        'max_prompt_length=400',
        'eval.split=train',
      ],
      'compares single answers',
    ),
  ],
)
def test_what_cannot_work_is_refused_at_start(tmp_path, pairs, changes, says):
  c = config_lib.load(TINY, [*SMALL, f'env={pairs}', *changes])
  with pytest.raises(ValueError, match=says):
    train.train(c, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def task(**data):
  return Task('a', 'q', 'x', 'pair', data)


def test_rows_of_a_pair_are_chosen_then_rejected():
  made = imitation.targets(
    [task(chosen='ab', rejected='c'), task(chosen='d', rejected='e')],
    BYTES,
    4,
    imitation.PAIR,
  )
  end = BYTES.end_ids[0]
  assert made.tokens.tolist() == [
    [*b'ab', end, 0],
    [*b'c', end, 0, 0],
    [*b'd', end, 0, 0],
    [*b'e', end, 0, 0],
  ]
  assert made.length.tolist() == [3, 2, 2, 2]
  for data, says in (
    ({'chosen': 'ab'}, 'no rejected completion.*data..rejected'),
    ({'chosen': 'ab', 'rejected': 'abcd'}, 'rejected completion .*5 tokens'),
  ):
    with pytest.raises(ValueError, match=says):
      imitation.targets([task(**data)], BYTES, 4, imitation.PAIR)


def test_a_prompt_of_messages_is_encoded_as_such():
  class Chat:
    """A tokenizer that shows what it encodes."""

    def encode_chat(self, question, system):
      return self.encode_messages(chat_template.messages(question, system))

    def encode_messages(self, messages):
      return [(m['role'], m['content']) for m in messages]

  encode = lambda task, system='': single_turn.encode_task(task, Chat(), system)
  chat = [{'role': 'assistant', 'content': 'Hi'}]
  chat += [{'role': 'user', 'content': 'q'}]
  own = {'role': 'system', 'content': 'own'}
  plain = [('assistant', 'Hi'), ('user', 'q')]
  assert encode(task()) == [('user', 'q')]
  assert encode(task(), 'S') == [('system', 'S'), ('user', 'q')]
  assert encode(task(messages=chat)) == plain
  assert encode(task(messages=chat), 'S') == [('system', 'S'), *plain]
  got = encode(task(messages=[own, *chat]), 'S')
  assert got == [('system', 'own'), *plain]
