"""Every base model's tasks fit its limits, and ARGs set its contents."""

import pathlib

import pytest

from rlvr_jax import config, registry
from rlvr_jax.io import tokenizer

NAME = 'configs/base_models/substrate.py'
FILE = pathlib.Path(__file__).parents[1] / NAME
NAMES = ('reliable', 'unreliable', 'mixed', 'hard', 'confident')
NAMES += ('rare', 'scratchpad_only')
BYTES = tokenizer.byte_level()


def load(arg):
  return config.load(f'{FILE}:{arg}')


def lengths(c):
  """Most tokens of a prompt and of a solution, in 300 tasks."""
  env = registry.get('env', c.env)()
  tasks = [env['train'][i] for i in range(300)]
  return (
    max(len(BYTES.encode_chat(t.question)) for t in tasks),
    max(len(BYTES.encode(t.data['solution'])) + 1 for t in tasks),
  )


@pytest.mark.parametrize('name', [*NAMES, 'mixed,terms=8', 'mixed,terms=3'])
def test_limits_are_those_of_the_texts(name):
  base, rl = load(name), load(f'{name},rl')
  for c in base, rl:
    got = lengths(c)
    assert got[0] == c.max_prompt_length
    assert got[1] <= c.max_completion_length <= max(got[1], 14)
  assert base.env == rl.env
  assert (base.method, rl.method) == ('sft', 'rl')
  assert rl.model.name == f'{NAME}:{name}'


def test_rl_starts_from_the_base_model_of_the_same_contents():
  assert load('rl').model.name == f'{NAME}:reliable'
  shares = 'scratchpad=0.3,decoy=0.7'
  rl = load(f'{shares},rl,smoke')
  assert rl.model.name == f'{NAME}:{shares},smoke'
  assert rl.env == load(f'{shares},smoke').env


def test_shares_and_reliabilities_are_set_by_args():
  got = load('scratchpad=0.3,decoy=0.7,scratchpad_reliability=0.9').env
  assert 'scratchpad=0.3, direct=0.0, decoy=0.7' in got
  assert 'scratchpad_reliability=0.9' in got
  with pytest.raises(ValueError, match='add up to 1'):
    registry.get('env', load('scratchpad=0.3').env)()
