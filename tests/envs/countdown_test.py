"""Every task is solvable; no two tasks share numbers and target."""

import ast
import math
import operator
from fractions import Fraction

import pytest

from rlvr_jax import registry
from rlvr_jax.envs import countdown

_OPS = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
}


def build(spec):
  return registry.get('env', spec)()


def evaluate(text):
  """Value and the numbers used."""
  used = []

  def walk(node):
    if isinstance(node, ast.Constant):
      used.append(node.value)
      return Fraction(node.value)
    return _OPS[type(node.op)](walk(node.left), walk(node.right))

  return walk(ast.parse(text, mode='eval').body), used


@pytest.mark.parametrize(
  'options',
  [
    '',
    'numbers=2, max_number=12, max_target=12',
    'numbers=3, max_number=10',
    'numbers=6, max_number=50, max_target=999, seed=5',
    'numbers=8, max_number=2, max_target=2, train_size=6, test_size=3',
  ],
)
def test_solutions_use_each_number_once_and_reach_the_target(options):
  env = build(f'countdown({options})')
  limit = 999 if '999' in options else 12 if '=12' in options else 100
  seen = set()
  for split in 'train', 'test':
    for i in range(min(150, len(env[split]))):
      task = env[split][i]
      value, used = evaluate(task.data['solution'])
      assert value == task.data['target']
      assert sorted(used) == sorted(task.data['numbers'])
      assert 1 <= task.data['target'] <= limit
      assert task.verifier == 'countdown'
      assert task.question.count(str(task.data['target'])) >= 1
      key = tuple(sorted(used)), task.data['target']
      assert key not in seen
      seen.add(key)


def test_a_small_space_is_covered_once():
  env = build('countdown(numbers=3, max_number=6)')
  found = [
    tuple(sorted(t.data['numbers'])) for split in env.values() for t in split
  ]
  assert len(found) == len(set(found)) == math.comb(8, 3)


def test_multisets_are_numbered():
  made = [countdown._multiset(r, 3, 4) for r in range(math.comb(6, 3))]
  assert len(set(map(tuple, made))) == 20
  assert all(m == sorted(m) and 1 <= m[0] <= m[-1] <= 4 for m in made)
  assert made[0] == [1, 1, 1]
  assert made[-1] == [4, 4, 4]


def test_same_seed_same_tasks():
  a, b = build('countdown'), build('countdown(train_size=7)')
  assert list(b['train']) == [a['train'][i] for i in range(7)]
  assert build('countdown(seed=1)')['test'][0] != a['test'][0]
  assert a['train'][3].data == {
    'numbers': [30, 39, 15, 23],
    'target': 47,
    'solution': '(39 + 15) - (30 - 23)',
  }


@pytest.mark.parametrize(
  ('options', 'says'),
  [
    ('numbers=9', r'numbers=9 must be an integer in 2\.\.8'),
    ('max_number=50, max_target=49', 'max_target=49 must be .* at least 50'),
    ('numbers=2, max_number=3, train_size=6', 'only 6 distinct.*raise either'),
  ],
)
def test_refusals(options, says):
  with pytest.raises(ValueError, match=says):
    build(f'countdown({options})')
