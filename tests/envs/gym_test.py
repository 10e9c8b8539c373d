"""Generators of reasoning-gym: deterministic, checked, disjoint splits."""

import datetime
import json
import os
import subprocess
import sys

import pytest

from rlvr_jax import registry
from rlvr_jax.envs import gym

package = pytest.importorskip('reasoning_gym')

pytestmark = pytest.mark.processes


def build(spec):
  return registry.get('env', spec)()


SMALL = 'train_size=200, test_size=30'


@pytest.mark.parametrize(
  'name', ['chain_sum', 'countdown', 'gsm_symbolic', 'word_sorting']
)
def test_gold_answers_score_one(name):
  env = build(f'reasoning_gym({name}, train_size=8, test_size=4)')
  scorer = package.create_dataset(name).score_answer
  for task in [*env['train'], *env['test']]:
    assert task.verifier == 'reasoning_gym'
    assert json.loads(json.dumps(task.data)) == task.data
    assert task.data['dataset'] == name
    assert scorer(task.answer, task.data['entry']) == 1.0


def test_splits_share_no_question():
  # 200 different questions at most: 10 x 10 x 2.
  env = build(
    'reasoning_gym(chain_sum, min_terms=2, max_terms=2, min_digits=1, '
    'max_digits=1, train_size=2000, test_size=20)'
  )
  train = [t.question for t in env['train']]
  test = [t.question for t in env['test']]
  assert not set(train) & set(test)
  assert len(set(test)) == 20
  assert len(set(train)) > 50


def test_same_seed_same_tasks():
  a = build(f'reasoning_gym(chain_sum, min_digits=4, {SMALL})')
  b = build(f'reasoning_gym(chain_sum, min_digits=4, {SMALL})')
  c = build(f'reasoning_gym(chain_sum, min_digits=4, seed=1, {SMALL})')
  assert list(a['test']) == list(b['test'])
  assert a['train'][199] == b['train'][199]
  assert [a['train'][i] for i in range(5)] == [b['train'][i] for i in range(5)]
  # Neighbouring seeds share no question, although generators seed item i with
  # seed + i.
  questions = {t.question for t in a['train']}
  assert not questions & {t.question for t in c['train']}


HASHED = [
  'isomorphic_strings',
  'polynomial_multiplication',
  'ransom_note',
  'word_ladder',
]
MAKE = """
import hashlib, sys
from rlvr_jax import registry
for name in sys.argv[1:]:
  spec = f'reasoning_gym({name}, train_size=8, test_size=4)'
  env = registry.get('env', spec)()
  tasks = repr([*env['train'], *env['test']])
  print(name, hashlib.sha256(tasks.encode()).hexdigest())
"""


def test_items_do_not_depend_on_the_hash_seed_of_the_process():
  def made(seed):
    done = subprocess.run(
      [sys.executable, '-W', 'ignore', '-c', MAKE, *HASHED],
      env=os.environ
      | {'PYTHONHASHSEED': seed, 'PYTHONPATH': os.pathsep.join(sys.path)},
      capture_output=True,
      text=True,
      timeout=600,
    )
    assert done.stdout.count('\n') == len(HASHED), done.stderr
    return done.stdout

  assert made('1') == made('2')


def test_items_do_not_depend_on_the_date():
  env = build('reasoning_gym(time_intervals, train_size=40, test_size=5)')
  today = str(datetime.date.today())
  assert all(today not in repr(task) for task in [*env['train'], *env['test']])


def test_items_without_an_answer_are_resampled():
  # The generator gives 0 no digits, except in bases 2 and 16.
  env = build(
    'reasoning_gym(base_conversion, min_value=0, max_value=1, train_size=40, '
    'test_size=10)'
  )
  tasks = [*env['train'], *env['test']]
  assert {task.answer for task in tasks} == {'0', '1'}


def test_items_are_built_on_access_and_cached(monkeypatch):
  calls = []
  items = gym._items
  monkeypatch.setattr(gym, '_items', lambda *a: calls.append(a) or items(*a))
  env = build('reasoning_gym(chain_sum, train_size=1000000, test_size=5)')
  start = len(calls)
  assert start < 200
  assert env['train'][999_999] is env['train'][999_999]
  assert 1 <= len(calls) - start <= 64


def test_difficulty_passes_through():
  env = build(f"reasoning_gym('chain_sum', min_terms=5, max_terms=5, {SMALL})")
  for task in env['test']:
    assert task.data['entry']['metadata']['num_terms'] == 5


@pytest.mark.parametrize(
  ('spec', 'says'),
  [
    ('reasoning_gym(chain_sums)', "Did you mean 'chain_sum'"),
    ('reasoning_gym(composite)', 'that stands alone'),
    ('reasoning_gym', 'needs name'),
    (
      'reasoning_gym(chain_sum, min_term=2)',
      r"no option 'min_term'. Did you mean 'min_terms'.*max_digits",
    ),
    ("reasoning_gym(chain_sum, min_terms=b'2')", "min_terms=b'2': give a num"),
    ('reasoning_gym(chain_sum, min_terms=2j)', 'min_terms=2j: give a number'),
    ('reasoning_gym(chain_sum, min_terms=1e999)', 'refuses chain_sum with'),
    ('reasoning_gym(chain_sum, size=2)', "no option 'size'"),
    (
      'reasoning_gym(chain_sum, min_terms=9, max_terms=3)',
      'refuses chain_sum with',
    ),
    (
      'reasoning_gym(chain_sum, min_terms=2, max_terms=2, min_digits=1, '
      'max_digits=1, train_size=9, test_size=300)',
      'too few questions',
    ),
    ('reasoning_gym(chain_sum, test_size=0)', 'test_size=0 must be'),
    ('reasoning_gym(propositional_logic)', 'no reference answer'),
    ('reasoning_gym(rearc)', 'after a trip through JSON'),
  ],
)
def test_refusals(spec, says):
  with pytest.raises(ValueError, match=says):
    build(spec)


def test_missing_package_names_the_remedy(monkeypatch):
  def refuse(name):
    raise ImportError(f'No module named {name!r}')

  monkeypatch.setattr(gym.importlib, 'import_module', refuse)
  with pytest.raises(ValueError, match=r"pip install 'rlvr_jax\[gym\]'"):
    gym.reasoning_gym(name='chain_sum')


def test_bare_names_are_strings_and_nothing_is_evaluated():
  assert registry.parse('f(chain_sum, a=b, c=None, d=[1], e=True)') == (
    'f',
    ['chain_sum'],
    {'a': 'b', 'c': None, 'd': [1], 'e': True},
  )
  for bad in 'f(a.b)', 'f(g.h(1))', 'f([x])', 'f(1 + x)', 'f(**k)':
    with pytest.raises(ValueError, match='Bad spec'):
      registry.parse(bad)
