"""Expressions are right, distinct, and never in both splits."""

import json
import re

import pytest

from rlvr_jax import registry
from rlvr_jax.envs import arithmetic


def build(spec):
  return registry.get('env', spec)()


def expression(task):
  return re.fullmatch(r'What is (.*)\?', task.question)[1]


def test_a_small_space_is_covered_once():
  env = build("arithmetic(max_value=6, instruction='')")
  train = [expression(t) for t in env['train']]
  test = [expression(t) for t in env['test']]
  assert (len(train), len(test)) == (79, 19)
  every = {f'{a} {s} {b}' for a in range(7) for b in range(7) for s in '+-'}
  assert sorted(train + test) == sorted(every)


@pytest.mark.parametrize(
  'options',
  [
    'max_value=9',
    "max_value=99, terms=5, ops='+-*'",
    "max_value=4, min_value=-4, terms=3, ops='*-'",
    "max_value=10**9, terms=2, ops='*'".replace('10**9', '1000000000'),
  ],
)
def test_answers_are_right_and_splits_apart(options):
  env = build(f"arithmetic({options}, instruction='')")
  seen = set()
  for split in 'train', 'test':
    for i in range(min(300, len(env[split]))):
      task = env[split][i]
      text = expression(task)
      assert re.fullmatch(r'[-+*() \d]+', text)
      assert eval(text) == int(task.answer)
      assert task.id == f'{split}-{i}'
      assert text not in seen
      seen.add(text)


def test_difficulty_shows():
  env = build("arithmetic(max_value=9, min_value=2, terms=4, ops='*')")
  for i in range(50):
    numbers = re.findall(r'\d+', env['train'][i].question)
    assert len(numbers) == 4
    assert all(2 <= int(n) <= 9 for n in numbers)


def test_same_seed_same_tasks_and_the_test_split_stays():
  spec = 'arithmetic(seed=3, train_size={}, test_size=50)'
  a, b = build(spec.format(10)), build(spec.format(400))
  assert list(a['test']) == list(b['test'])
  assert list(a['train']) == [b['train'][i] for i in range(10)]
  other = build('arithmetic(seed=4, train_size=10, test_size=50)')
  assert list(a['train']) != list(other['train'])


def test_golden_task():
  task = arithmetic.arithmetic()['train'][3]
  assert task.question == 'What is 15 - 16? Answer with the number only.'
  assert task.answer == '-1'
  assert json.loads(json.dumps(task._asdict())) == task._asdict()


def test_multiplication_binds_before_sums():
  assert arithmetic._value([2, 3, 4, 5, 6], ['+', '*', '-', '*']) == -16
  assert arithmetic._value([9, 4, 3], ['-', '-']) == 2


@pytest.mark.parametrize(
  ('options', 'says'),
  [
    ('max_value=1, train_size=9, test_size=1', r'only 8 distinct problems.*'),
    ("ops='+/'", r"ops='\+/' must name"),
    ("ops=''", 'at least'),
    ("ops='++'", 'at most once'),
    ('terms=1', r'terms=1 must be an integer in 2\.\.64'),
    ('max_value=2, min_value=3', 'max_value=2 must be an integer'),
    ('max_value=2.5', 'max_value=2.5 must be a whole number'),
    ('max_valeu=2', "Did you mean 'max_value'"),
  ],
)
def test_refusals(options, says):
  with pytest.raises(ValueError, match=says):
    build(f'arithmetic({options})')
