"""Strategies are recognised by the form of the whole text."""

import math

import pytest

from rlvr_jax import registry
from rlvr_jax.envs import strategy_form
from rlvr_jax.tasks import Task

THREE = Task('train-0', 'bac', '3', 'math', {'strategy': '', 'terms': 3})
PLAIN = Task('train-0', 'What is 1 + 2?', '3', 'math', {})


@pytest.mark.parametrize(
  ('text', 'name'),
  [
    ('a1b3c3 #### 3', 'scratchpad'),
    ('z9z9z9 #### 0', 'scratchpad'),  # nonsense in the right form
    ('a1b3c3 \\boxed{3}', 'scratchpad'),
    ('#### 3', 'direct'),
    ('\\boxed{3}', 'direct'),
    ('min a1 #### 1', 'decoy'),
    ('min a1 #### 2', 'decoy'),
    ('#### 3\n<confidence>0.5</confidence>', 'direct'),
    ('a1b3 #### 3', None),  # a step is missing
    ('a1b3c3d7 #### 7', None),
    ('a1b3c3 #### 3\n', None),
    ('a1b3c3 #### 12', None),
    (' #### 3', None),
    ('a1b3c3 #### 3 #### 3', None),
    ('#### ٣', None),  # a digit, but not ASCII
    ('#### 3\n<confidence>high</confidence>', None),
    ('', None),
    ('a1' * 100_000, None),
  ],
)
def test_forms(text, name):
  assert strategy_form.classify(THREE, text) == name


def test_tasks_without_strategies_have_none():
  assert strategy_form.classify(PLAIN, '#### 3') is None
  assert strategy_form.usage([PLAIN], ['#### 3'], [True]) == {}


def test_usage_counts_only_tasks_that_have_strategies():
  texts = ['#### 3', '#### 4', 'a1b3c3 #### 3', '3', '#### 3']
  rows = [THREE] * 4 + [PLAIN]
  got = strategy_form.usage(rows, texts, [True, False, True, True, True])
  assert math.isnan(got.pop('strategy_accuracy/decoy'))
  assert got == {
    'strategy/scratchpad': 0.25,
    'strategy/direct': 0.5,
    'strategy/decoy': 0.0,
    'strategy/none': 0.25,
    'strategy_accuracy/scratchpad': 1.0,
    'strategy_accuracy/direct': 0.5,
    'strategy_accuracy/none': 1.0,
  }


def test_a_scratchpad_of_another_length_does_not_match():
  env = registry.get('env', 'strategies(terms=(3, 4), train_size=20)')()
  three, four = env['train'][0], env['train'][1]
  assert {three.data['terms'], four.data['terms']} == {3, 4}
  by_steps = {three.data['terms']: three, four.data['terms']: four}
  assert strategy_form.classify(by_steps[3], 'a1b3c3 #### 3') == 'scratchpad'
  assert strategy_form.classify(by_steps[4], 'a1b3c3 #### 3') is None
