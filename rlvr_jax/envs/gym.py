"""The procedural generators of the package `reasoning-gym`."""

import dataclasses
import functools
import importlib
import itertools
import json

from rlvr_jax import registry
from rlvr_jax.tasks import Env, Lazy, Task, check_int, uniform
from rlvr_jax.verifiers import gym_scorers, pool

_ATTEMPTS = 64  # of finding a question on the right side
_STRIDE = 2**20  # seeds of one attempt; a generator seeds item i with seed + i
_BUILD_S = 120.0  # CPU time for the items of one request
_TOGETHER = 8  # items of one request
# Metadata that states the day on which the item was made.
_DATED = {'time_intervals': ('start_time', 'end_time')}


@registry.register('env')
def reasoning_gym(
  *,
  name: str,
  seed: int = 0,
  train_size: int = 10_000,
  test_size: int = 100,
  **difficulty,
) -> Env:
  """Tasks of one generator, as in 'reasoning_gym(chain_sum, max_terms=3)'.

  A hash of the question says on which side it belongs (a quarter: test), and
  an item that falls on the wrong side is drawn again, from seeds that no other
  draw of this environment uses. So no question is ever in both splits,
  whatever their sizes. Train items are built when asked for and kept; they can
  repeat where a generator has few questions. The test split is built at once,
  without repetitions. Items without an answer ('' for an equation without a
  root) are drawn again.

  Items are made in the worker processes of `rewards.pool`, whose hashes of
  texts are fixed: some generators walk through sets, so that elsewhere another
  run would get other items for the same seed.

  The verifier is the generator's own scorer where that evaluates no text, else
  a reader of ours (`rewards.scorers`). A generator whose items have no
  reference answer, or whose scorer does not give a reference answer full marks
  after a trip through JSON, is refused, and one that runs programs.

  Args:
    name: the generator.
    seed: names the stream of items.
    train_size: tasks, at most 2**20.
    test_size: tasks, at most 2**20.
    **difficulty: fields of the generator's config, other than seed and size.

  Raises:
    ValueError: reasoning-gym is missing or of another version than was read,
      an unknown or refused generator, an unknown option, a value that the
      generator refuses, or a generator with too few questions.
  """
  _package()
  check_int('seed', seed, low=0)
  check_int('train_size', train_size, low=1, high=_STRIDE)
  check_int('test_size', test_size, low=1, high=_STRIDE)
  _check_options(name, difficulty)
  gym_scorers.check(name)
  gym_scorers.check_package()
  draw = functools.partial(_items, name, difficulty, seed)
  make = functools.cache(functools.partial(_train, draw, name, train_size))
  # Refuses a generator without train questions now, before test ones are made.
  _check_scorer(name, [make(0).data['entry']])
  test = _test(draw, name, test_size)
  _check_scorer(name, [task.data['entry'] for task in test])
  return {'train': Lazy(train_size, make), 'test': test}


def _package():
  try:
    return importlib.import_module('reasoning_gym')
  except ImportError as e:
    raise ValueError(
      f'The environment reasoning_gym needs the package reasoning-gym ({e}): '
      "pip install 'rlvr_jax[gym]'."
    ) from e


def _check_options(name: str, difficulty: dict) -> None:
  known = importlib.import_module('reasoning_gym.factory').DATASETS
  if name not in known or name == 'composite':
    raise ValueError(
      f'reasoning-gym has no generator {registry.show(name)} that stands alone.'
      f'{registry.nearest(name, known)} Known: {", ".join(sorted(known))}.'
    )
  options = [
    f.name
    for f in dataclasses.fields(known[name][1])
    if f.init and f.name not in ('seed', 'size')
  ]
  for key in difficulty:
    if key not in options:
      raise ValueError(
        f'reasoning_gym({name}) has no option {registry.show(key)}.'
        f'{registry.nearest(key, options)} '
        f'It takes: {", ".join(options)}, seed, train_size, test_size.'
      )
    try:
      json.dumps(difficulty[key])
    except (TypeError, ValueError) as e:
      raise ValueError(
        f'reasoning_gym({name}) has {key}={registry.show(difficulty[key])}: '
        'give a number, a text, a bool, or a list of these.'
      ) from e


def _items(name, difficulty, seed, split, attempt, indices, size) -> list:
  """Items as plain JSON values."""
  slot = 2 * attempt + ('train', 'test').index(split)
  start = uniform(2**31, 'reasoning_gym', seed) + slot * _STRIDE
  payload = {
    'name': name,
    'options': difficulty | {'seed': start, 'size': size},
    'indices': list(indices),
  }
  reply = pool.run(f'items:{name}', [payload], timeout_s=_BUILD_S)[0]
  if reply.failure:
    raise ValueError(
      f'reasoning-gym refuses {name} with {difficulty} and {size} items: '
      f'{reply.failure}. Change the options, or ask for fewer tasks.'
    )
  return reply.value


def items_here(name: str, options: dict, indices: list[int]) -> list[dict]:
  """Items of a generator: what a worker does for this environment."""
  dataset, out = _dataset(name, json.dumps(options)), []
  for index in indices:
    out.append(json.loads(json.dumps(dataset[index], default=_plain)))
    for key in _DATED.get(name, ()):
      out[-1]['metadata'].pop(key)
  return out


@functools.lru_cache(maxsize=128)
def _dataset(name: str, options: str):
  return _package().create_dataset(name, **json.loads(options))


def _plain(value):
  """For what JSON lacks: NumPy's numbers, sets; else the text (1/3)."""
  if isinstance(value, (set, frozenset)):
    return sorted(value, key=str)
  return value.item() if hasattr(value, 'item') else str(value)


def _side(question: str) -> str:
  return 'train' if uniform(4, 'side', question) else 'test'


def _train(draw, name, size, index) -> Task:
  for attempt in range(_ATTEMPTS):
    (entry,) = draw('train', attempt, [index], size)
    if entry['answer'] != '' and _side(entry['question']) == 'train':
      return _task(f'train-{index}', name, entry)
  raise ValueError(
    f'reasoning_gym({name}) has too few questions to split: {_ATTEMPTS} draws '
    'gave none for train. Raise its difficulty.'
  )


def _test(draw, name, size) -> list[Task]:
  found: dict[str, dict] = {}
  drawn = 0
  for attempt, low in itertools.product(
    range(_ATTEMPTS), range(0, size, _TOGETHER)
  ):
    indices = range(low, min(low + _TOGETHER, size))
    for entry in draw('test', attempt, indices, size):
      drawn += 1
      if entry['answer'] != '' and _side(entry['question']) == 'test':
        found.setdefault(entry['question'], entry)
      if len(found) == size:
        return [
          _task(f'test-{i}', name, entry)
          for i, entry in enumerate(found.values())
        ]
  raise ValueError(
    f'reasoning_gym({name}) has too few questions: {drawn} draws gave '
    f'{len(found)} different ones for test_size={size} (a quarter of all '
    'questions is for test). Ask for fewer, or raise its difficulty.'
  )


def _task(id: str, name: str, entry: dict) -> Task:
  return Task(
    id=id,
    question=entry['question'],
    answer=entry['answer'],
    verifier='reasoning_gym',
    data={'dataset': name, 'entry': entry} | _solution(entry),
  )


def _solution(entry) -> dict:
  """The worked solution, of generators such as gsm_symbolic that have one."""
  text = entry['metadata'].get('answer_cot')
  return {'solution': text} if isinstance(text, str) else {}


def _check_scorer(name: str, entries: list[dict]) -> None:
  score = gym_scorers.scorer(name)  # as the verifier does it
  for entry in entries:
    answer = entry['answer']
    if not isinstance(answer, str):
      raise ValueError(
        f'reasoning_gym({name}) gives no reference answer (it is {answer!r}), '
        'which tasks here need: choose another generator.'
      )
    value = score(answer, entry)
    if value != 1:
      raise ValueError(
        f'The scorer of reasoning_gym({name}) gives its own answer '
        f'{answer!r:.60} a score of {value}, not 1, after a trip through '
        'JSON: choose another generator or other options.'
      )
