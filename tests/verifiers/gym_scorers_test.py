"""Scorers of reasoning-gym: none in use evaluates an answer."""

import ast
import contextlib
import functools
import importlib
import inspect
import json
import os
import pathlib
import random
import re
import textwrap

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.envs import gym
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import dispatch, gym_scorers, pool

package = pytest.importorskip('reasoning_gym')

pytestmark = pytest.mark.processes
factory = importlib.import_module('reasoning_gym.factory')

ROOT = pathlib.Path(package.__file__).parent
MADE = re.compile('Dataset|Config|Curriculum')
SUPPORTED = sorted(gym_scorers.OWN | set(gym_scorers.READERS))
DANGEROUS = {
  '__import__',
  'compile',
  'eval',
  'exec',
  'import_module',
  'input',
  'lambdify',
  'literal_eval',
  'open',
  'parse_expr',
  'popen',
  'run',
  'sympify',
  'system',
}
# Files of the package: a puzzle, a word list. No answer chooses the path.
READS_A_FILE = {'sokoban': {'open'}, 'word_ladder': {'open'}}
# Imports used to make items, in modules that these scorers share.
MAKES = {
  'sokoban': {'collections', 'dataclasses', 'heapq'},
  'word_ladder': {'csv'},
}
OUTSIDE = {
  'calendar',
  'copy',
  'datetime',
  'decimal',
  'enum',
  'fractions',
  'json',
  'math',
  'numpy',
  'random',
  're',
  'typing',
}


def test_every_generator_of_the_installed_package_has_one_scorer():
  known = set(factory.DATASETS) - {'composite'}
  tables = [gym_scorers.OWN, set(gym_scorers.READERS), set(gym_scorers.REFUSED)]
  assert set.union(*map(set, tables)) == known
  assert sum(map(len, tables)) == len(known)
  assert gym_scorers.digest() == gym_scorers.DIGEST
  assert gym_scorers.check_package() is None


def test_another_version_of_the_package_is_not_trusted(monkeypatch):
  monkeypatch.setattr(gym_scorers, 'digest', lambda: 'f' * 64)
  with pytest.raises(ValueError, match=r'pip install reasoning-gym==0\.1\.25'):
    registry.get('env', 'reasoning_gym(chain_sum)')()
  gym_scorers.scorer.cache_clear()
  with pytest.raises(ValueError, match='were not reviewed'):
    gym_scorers.scorer('chain_sum')


@pytest.mark.parametrize('name', sorted(gym_scorers.REFUSED))
def test_refused_generators_say_why(name):
  with pytest.raises(ValueError) as refusal:
    registry.get('env', f'reasoning_gym({name})')()
  assert gym_scorers.REFUSED[name] in str(refusal.value)
  task = Task('t', 'q', '1', 'reasoning_gym', {'dataset': name})
  with pytest.raises(ValueError, match='is refused'):
    dispatch.verify([task], ['1'])


@functools.cache
def parsed(name):
  """Returns the syntax tree of a module of the package, and its imports."""
  path = ROOT.joinpath(*name.split('.')[1:]).with_suffix('.py')
  if not path.is_file():  # a package, or a name within a module
    return None, ()
  tree = ast.parse(path.read_text())
  imports = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        base = '.'.join([*name.split('.')[: -node.level], base]).rstrip('.')
      imports |= {base, *(f'{base}.{a.name}' for a in node.names)}
  return tree, {i for i in imports if i.startswith('reasoning_gym.')}


@functools.cache
def index(name):
  """Returns a module's definitions {name: names used} and {name: package}."""
  tree, _ = parsed(name)
  defined, imports = {}, {}
  for node in ast.walk(tree):
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
      # Scoring an answer creates no data set and no config.
      parts = [node]
      if isinstance(node, ast.ClassDef) and MADE.search(node.name):
        parts = []
      defined.setdefault(node.name, set()).update(*map(names_in, parts))
    elif isinstance(node, ast.Assign):
      for target in node.targets:
        label = getattr(target, 'attr', None)
        if node in tree.body:  # else a name is a local one
          label = getattr(target, 'id', None)
        if label:
          defined.setdefault(label, set()).update(names_in(node.value))
    elif isinstance(node, ast.Import):
      for a in node.names:
        imports[a.asname or a.name] = a.name.split('.')[0]
    elif isinstance(node, ast.ImportFrom) and not node.level:
      for a in node.names:
        imports[a.asname or a.name] = node.module.split('.')[0]
  return defined, imports


def names_in(node):
  found = set()
  for part in ast.walk(node):
    if isinstance(part, ast.Name):
      found.add(part.id)
    elif (
      isinstance(part, ast.Attribute) and getattr(part.value, 'id', 0) != 're'
    ):
      found.add(part.attr)
  return found


def reached(cls):
  """Returns names that scoring may use, and the outside packages of those.

  Matched by name alone, so a superset: any function, class or assignment of
  that name in the modules that the scorer's module imports.
  """
  own = next(c for c in cls.__mro__ if 'score_answer' in vars(c))
  modules, todo = set(), [c.__module__ for c in cls.__mro__]
  while todo:
    name = todo.pop()
    if name not in modules and name.startswith('reasoning_gym.'):
      tree, imports = parsed(name)
      if tree is not None:
        modules.add(name)
        todo += imports
  source = textwrap.dedent(inspect.getsource(own.score_answer))
  todo, seen, outside = names_in(ast.parse(source)), set(), set()
  while todo:
    name = todo.pop()
    seen.add(name)
    for module in modules:
      defined, imports = index(module)
      todo |= defined.get(name, set()) - seen
      outside |= {imports[name]} if name in imports else set()
  return seen, outside - {'reasoning_gym'}


@pytest.mark.parametrize('name', sorted(gym_scorers.OWN))
def test_scorers_in_use_call_nothing_that_evaluates_text(name):
  names, outside = reached(factory.DATASETS[name][0])
  assert names & DANGEROUS == READS_A_FILE.get(name, set())
  assert outside - OUTSIDE == MAKES.get(name, set())


@pytest.mark.parametrize(
  'name', ['string_insertion', 'bitwise_arithmetic', 'countdown', 'puzzle24']
)
def test_the_search_finds_scorers_that_evaluate_text(name):
  names, _ = reached(factory.DATASETS[name][0])
  assert names & {'eval', 'parse_expr'}


def item(name, seed=7, index=0):
  dataset = package.create_dataset(name, seed=seed, size=index + 1)
  return json.loads(json.dumps(dataset[index], default=gym._plain))


# The package's scorers accept anything, or numbers within 1, or no number.
LAX = {'game_of_life_halting', 'number_sorting', 'polynomial_equations'}
WRONG = ['0', '17', 'x', 'True', '[1, 2]', '1 2 3', 'nan', '"']


@pytest.mark.parametrize('name', sorted(gym_scorers.READERS))
def test_readers_agree_with_the_packages_scorers(name):
  # These answers are not code, so the package's scorer may be called.
  theirs = package.create_dataset(name, seed=0, size=1).score_answer
  ours = gym_scorers.scorer(name)
  rng = random.Random(0)
  slow = name == 'intermediate_integration'
  for index in range(1 if slow else 6):
    entry = item(name, index=index)
    gold = entry['answer']
    at = rng.randrange(len(gold) + 1)
    answers = [gold, gold[:at] + '7' + gold[at:], gold[: at - 1]]
    if index == 0:
      answers += WRONG[: 3 if slow else None]
    if name in LAX:
      answers = [gold]
    for answer in filter(None, answers):
      found = ours(answer, entry) == 1.0
      assert found == (theirs(answer, entry) >= 0.99), (gold, answer)


@pytest.mark.parametrize(
  ('name', 'entry', 'answer', 'right'),
  [
    ('puzzle24', {'metadata': {'numbers': [4, 8, 6, 2]}}, '6*4*(8-7)', False),
    ('puzzle24', {'metadata': {'numbers': [4, 8, 6, 2]}}, '4*8-6-2', True),
    ('game_of_life_halting', {'answer': 'True'}, 'False', False),
    ('game_of_life_halting', {'answer': 'True'}, 'true', True),
    ('number_sorting', {'answer': '["1.5", "2.0"]'}, '[2.0, 2.5]', False),
    ('number_sorting', {'answer': '["1.5", "2.0"]'}, '[NaN, NaN]', False),
    ('number_sorting', {'answer': '["1.5", "2.0"]'}, "['1.5', 2]", True),
    ('polynomial_equations', {'answer': ''}, 'import os', False),
    ('polynomial_equations', {'answer': ''}, '""', False),
    ('polynomial_equations', {'answer': '0.5, 1.0'}, '1.0, 0.5', True),
    ('polynomial_equations', {'answer': '0.5, 1.0'}, '0.5, nan', False),
    ('bitwise_arithmetic', {'answer': '0xa'}, '10', True),
    (
      'polynomial_multiplication',
      {'answer': 'x**2 + 3*x + 2'},
      '2 + 2*x + x + x**2',
      True,
    ),
    (
      'polynomial_multiplication',
      {'answer': 'x**2 + 3*x + 2'},
      '(x + 1)*(x + 2)',
      False,
    ),
    (
      'simple_integration',
      {'answer': 'x**2 + C', 'metadata': {'variable': 'x', 'integrand': '2*x'}},
      '(x + 1)**2 - 2*x + K',
      True,
    ),
    (
      'intermediate_integration',
      {
        'answer': '-cos(x)/2 + C',
        'metadata': {'variable': 'x', 'integrand': 'sin(x)/2'},
      },
      'sin(x/2)**2 + C',
      True,
    ),
  ],
)
def test_readers(name, entry, answer, right):
  assert (gym_scorers.scorer(name)(answer, entry) == 1.0) == right


@pytest.mark.parametrize('name', sorted(gym_scorers.OWN))
def test_the_right_answer_beside_code_is_not_right(name):
  if name in ('knight_swap', 'zebra_puzzles', 'sokoban', 'futoshiki'):
    indices = [0]  # slow to make
  else:
    indices = range(3)
  score = gym_scorers.scorer(name)
  for index in indices:
    entry = item(name, index=index)
    gold = entry['answer']
    if not gold:
      continue
    assert score(gold, entry) == 1.0
    code = "__import__('os').system('touch x')"
    for answer in (f'{gold} {code}', f'{code}\n{gold}', f'{code} or {gold!r}'):
      with contextlib.suppress(ValueError):  # UNVERIFIABLE, in a worker
        assert score(answer, entry) < 1.0, answer


@pytest.mark.parametrize(
  ('name', 'text', 'right'),
  [
    ('gsm_symbolic', 'GOLD', True),
    ('gsm_symbolic', 'The answer is $GOLD.', True),
    ('gsm_symbolic', '-GOLD', False),
    ('gsm_symbolic', 'not GOLD', False),
    ('gsm_symbolic', 'GOLD or 0', False),
    ('gsm_symbolic', "It isn't GOLD", False),
    ('gsm_symbolic', 'GOLD, 7', False),
    ('knights_knaves', 'GOLD', True),
    ('knights_knaves', 'not GOLD', False),
    ('knights_knaves', 'GOLD Or not', False),
    ('letter_jumble', 'GOLD', True),
    ('letter_jumble', 'GOLD or another', False),
    ('letter_jumble', 'GOLD\nGOLD', False),
  ],
)
def test_a_hedge_is_not_right(name, text, right):
  entry = item(name)
  answer = text.replace('GOLD', entry['answer'])
  assert (gym_scorers.scorer(name)(answer, entry) == 1.0) == right


def test_complex_answers_are_numbers():
  score = gym_scorers.scorer('complex_arithmetic')
  entry = item('complex_arithmetic')
  assert score(entry['answer'], entry) == 1.0
  assert score('nan', entry) < 1.0  # the package's scorer gives 1.0
  assert score('nan+nanj', entry) < 1.0


def test_close_is_not_right():
  entry = {
    'answer': '03:22:03',
    'metadata': {'task_type': 'time_seconds'},
  }
  task = Task(
    't', 'q', '', 'reasoning_gym', {'dataset': 'time_intervals', 'entry': entry}
  )
  found = dispatch.verify([task] * 2, ['03:22:03', '03:22:04'])
  assert found == [enums.Verdict.CORRECT, enums.Verdict.WRONG]


# Code, with a placeholder for a path, and answers that hang, crash or grow.
TOUCH = "__import__('os').system('touch PATH/made')"
PAYLOADS = [
  TOUCH,
  "open('PATH/made', 'w').write('x')",
  "__import__('pathlib').Path('PATH/made').touch()",
  "__import__('subprocess').run(['touch', 'PATH/made'])",
  "__import__('os').mkdir('PATH/made')",
  f'(lambda: {TOUCH})()',
  f'[{TOUCH} for _ in [1]]',
  f'[[{TOUCH}], [1]]',
  f"f'{{{TOUCH}}}'",
  f"{{'a': {TOUCH}}}",
  f'eval("{TOUCH}")',
  f'exec("{TOUCH}")',
  f'(1).__class__.__base__.__subclasses__()[0] or {TOUCH}',
  f'getattr(__builtins__, "eval")("{TOUCH}")',
  f'sympify("{TOUCH}")',
  f'Symbol("x").func("{TOUCH}")',
  f'sin({TOUCH})',
  f'x + {TOUCH}',
  f'lambdify([], "{TOUCH}")()',
  "!!python/object/apply:os.system ['touch PATH/made']",
  "cos\nsystem\n(S'touch PATH/made'\ntR.",
  '$(touch PATH/made)',
  '`touch PATH/made`',
  # Forged replies, written to any channel that may be open.
  '[__import__("os").write(f, b\'{"value": 1.0}\\n\') for f in range(3, 64)]',
  '__import__("os")._exit(0)',
  '__import__("os").kill(__import__("os").getppid(), 9)',
  '__import__("time").sleep(10**6)',
  '10**10**10',
  '9**9**9**9',
  "'a'*10**10",
  '[0]*10**11',
  '(' * 1500 + ')' * 1500,
  '[' * 1900 + ']' * 1900,
  '{"a":' * 600 + '1' + '}' * 600,
  '-' * 3000 + '1',
  '1' + '0' * 3000,
  '1e999999999',
  '1/' * 900 + '1',
  'x**' * 300 + 'x',
  '(x+1)**(10**8)',
  'sin(' * 200 + 'x' + ')' * 200,
  'nan',
  'inf',
  '[NaN, NaN, NaN]',
  '\x00',
  '\ud800',
  'None',
  '[[]]',
  '{}',
]


def test_payloads_do_nothing_in_any_supported_generator(tmp_path):
  payloads = [p.replace('PATH', str(tmp_path)) for p in PAYLOADS]
  texts = [f'<answer>{p}</answer>' for p in payloads] + payloads
  tasks, completions, golds = [], [], []
  for name in SUPPORTED:
    entry = item(name)
    task = Task(
      name, 'q', '', 'reasoning_gym', {'dataset': name, 'entry': entry}
    )
    right = f'<answer>{entry["answer"]}</answer>'
    golds += [len(completions), len(completions) + len(texts) + 1]
    completions += [right, *texts, right]
    tasks += [task] * (len(texts) + 2)
  verdicts = dispatch.verify(tasks, completions, timeout_s=2)
  correct = [i for i, v in enumerate(verdicts) if v == enums.Verdict.CORRECT]
  assert correct == golds, [
    (tasks[i].id, completions[i][:60]) for i in {*correct} ^ {*golds}
  ]
  assert not os.listdir(tmp_path)
  pool.shutdown()
