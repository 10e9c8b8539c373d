"""The procedural generators of the package `reasoning-gym`."""

import dataclasses
import functools
import importlib
import json

from rlvr_jax import registry
from rlvr_jax.envs import core
from rlvr_jax.rewards import scorers

_ATTEMPTS = 64  # of finding a question on the right side
_STRIDE = 2**20  # seeds of one attempt; a generator seeds item i with seed + i


@registry.register('env')
def reasoning_gym(
  *,
  name: str,
  seed: int = 0,
  train_size: int = 10_000,
  test_size: int = 100,
  **difficulty,
) -> core.Env:
  """Tasks of one generator, as in 'reasoning_gym(chain_sum, max_terms=3)'.

  A hash of the question says on which side it belongs (a quarter: test), and
  an item that falls on the wrong side is drawn again, from seeds that no other
  draw of this environment uses. So no question is ever in both splits,
  whatever their sizes. Train items are built when asked for and kept; they can
  repeat where a generator has few questions. The test split is built at once,
  without repetitions.

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
  gym = _package()
  core.check_int('seed', seed, low=0)
  core.check_int('train_size', train_size, low=1, high=_STRIDE)
  core.check_int('test_size', test_size, low=1, high=_STRIDE)
  _check_options(name, difficulty)
  scorers.check(name)
  scorers.check_package()
  draw = functools.partial(
    _item,
    functools.cache(functools.partial(_dataset, gym, name, difficulty, seed)),
  )
  _check_scorer(name, [draw('train', 0, 0, train_size)])
  test = _test(draw, name, test_size)
  _check_scorer(name, [task.data['entry'] for task in test])
  make = functools.cache(functools.partial(_train, draw, name, train_size))
  make(0)  # refuses a generator without train questions now
  return {'train': core.Lazy(train_size, make), 'test': test}


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
      f'reasoning-gym has no generator {name!r} that stands alone.'
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
        f'reasoning_gym({name}) has no option {key!r}.'
        f'{registry.nearest(key, options)} '
        f'It takes: {", ".join(options)}, seed, train_size, test_size.'
      )


def _dataset(gym, name, difficulty, seed, split, attempt, size):
  slot = 2 * attempt + ('train', 'test').index(split)
  start = core.uniform(2**31, 'reasoning_gym', seed) + slot * _STRIDE
  try:
    return gym.create_dataset(name, seed=start, size=size, **difficulty)
  except (AssertionError, TypeError, ValueError) as e:
    raise ValueError(
      f'reasoning-gym refuses {name} with {difficulty} and {size} items: {e}. '
      'Change the options, or ask for fewer tasks.'
    ) from e


def _item(dataset, split, attempt, index, size) -> dict:
  """Item `index` as plain JSON values."""
  item = dataset(split, attempt, size)[index]
  return json.loads(json.dumps(item, default=_plain))


def _plain(value):
  """For what JSON lacks: NumPy's numbers, sets; else the text (1/3)."""
  if isinstance(value, (set, frozenset)):
    return sorted(value, key=str)
  return value.item() if hasattr(value, 'item') else str(value)


def _side(question: str) -> str:
  return 'train' if core.uniform(4, 'side', question) else 'test'


def _train(draw, name, size, index) -> core.Task:
  for attempt in range(_ATTEMPTS):
    entry = draw('train', attempt, index, size)
    if _side(entry['question']) == 'train':
      return _task(f'train-{index}', name, entry)
  raise ValueError(
    f'reasoning_gym({name}) has too few questions to split: {_ATTEMPTS} draws '
    'gave none for train. Raise its difficulty.'
  )


def _test(draw, name, size) -> list[core.Task]:
  found: dict[str, dict] = {}
  drawn = 0
  for attempt in range(_ATTEMPTS):
    for index in range(size):
      entry = draw('test', attempt, index, size)
      drawn += 1
      if _side(entry['question']) == 'test':
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


def _task(id: str, name: str, entry: dict) -> core.Task:
  return core.Task(
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
  score = scorers.scorer(name)  # as the verifier does it
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
