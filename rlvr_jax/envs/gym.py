"""Tasks: the procedural generators of the package `reasoning-gym`."""

import dataclasses
import functools
import importlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from rlvr_jax import registry
from rlvr_jax.tasks import Env, Lazy, Task, check_int, uniform
from rlvr_jax.verifiers import gym_scorers, pool

_ATTEMPTS = 64  # attempts at sampling an item that belongs to the split
_STRIDE = 2**20  # seeds per attempt; a generator seeds item i with seed + i
_BUILD_S = 120.0  # CPU seconds for the items of one worker request
_ITEMS_PER_REQUEST = 8
# Metadata that depends on the date on which an item is generated.
_DATED = {'time_intervals': ('start_time', 'end_time')}


@registry.register('env')
def reasoning_gym(
  *,
  name: str,
  seed: int = 0,
  train_size: int = 10_000,
  test_size: int = 100,
  **difficulty: Any,
) -> Env:
  """Tasks of one generator, as in 'reasoning_gym(chain_sum, max_terms=3)'.

  The hash of a question assigns it to a split (a quarter to test). An item of
  the other split is resampled, from seeds that nothing else in this
  environment uses, so no question is in both splits whatever their sizes.
  Items without an answer ('' for an equation without a root) are resampled
  too. Train items are built on first access and cached; they can repeat where
  a generator has few questions. The test split is built at once and has no
  repetitions.

  Items are generated in the worker processes of `verifiers.pool`, where string
  hashes are fixed: some generators iterate over sets, so in this process the
  same seed could give other items in another run.

  The verifier is the generator's own scorer if that never evaluates model
  output as code, else ours (`verifiers.gym_scorers`). Refused are generators
  that run programs, that have no reference answers, or whose scorer gives a
  reference answer less than 1 after a round trip through JSON.

  Args:
    name: the generator.
    seed: of the stream of items.
    train_size: tasks, at most 2**20.
    test_size: tasks, at most 2**20.
    **difficulty: fields of the generator's config, except seed and size.

  Raises:
    ValueError: reasoning-gym is missing or another version than the audited
      one, the generator is unknown or refused, an option is unknown or refused
      by the generator, or the generator has too few questions.
  """
  _package()
  check_int('seed', seed, low=0)
  check_int('train_size', train_size, low=1, high=_STRIDE)
  check_int('test_size', test_size, low=1, high=_STRIDE)
  _check_options(name, difficulty)
  gym_scorers.check(name)
  gym_scorers.check_package()
  generate = functools.partial(_items, name, difficulty, seed)
  make = functools.cache(functools.partial(_train, generate, name, train_size))
  # Refuses a generator without train questions before building the test split.
  _check_scorer(name, [make(0).data['entry']])
  test = _test(generate, name, test_size)
  _check_scorer(name, [task.data['entry'] for task in test])
  return {'train': Lazy(train_size, make), 'test': test}


def _package() -> ModuleType:
  try:
    return importlib.import_module('reasoning_gym')
  except ImportError as e:
    raise ValueError(
      f'The environment reasoning_gym needs the package reasoning-gym ({e}): '
      "pip install 'rlvr_jax[gym]'."
    ) from e


def _check_options(name: str, difficulty: dict) -> None:
  generators = importlib.import_module('reasoning_gym.factory').DATASETS
  if name not in generators or name == 'composite':
    raise ValueError(
      f'reasoning-gym has no generator {registry.show(name)} that stands alone.'
      f'{registry.nearest(name, generators)} '
      f'Known: {", ".join(sorted(generators))}.'
    )
  options = [
    f.name
    for f in dataclasses.fields(generators[name][1])
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
        'give a number, a string, a bool, or a list of these.'
      ) from e


def _items(
  name: str,
  difficulty: dict,
  seed: int,
  split: str,
  attempt: int,
  indices: Sequence[int],
  size: int,
) -> list[dict]:
  """Generates items in a worker process; returns plain JSON values."""
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
  """Generates items in this process; the worker side of `_items`."""
  dataset, out = _dataset(name, json.dumps(options)), []
  for index in indices:
    out.append(json.loads(json.dumps(dataset[index], default=_plain)))
    for key in _DATED.get(name, ()):
      out[-1]['metadata'].pop(key)
  return out


@functools.lru_cache(maxsize=128)
def _dataset(name: str, options: str) -> Sequence[dict]:
  return _package().create_dataset(name, **json.loads(options))


def _plain(value: Any) -> Any:
  """JSON values for sets and NumPy scalars; str(value) for others (1/3)."""
  if isinstance(value, (set, frozenset)):
    return sorted(value, key=str)
  return value.item() if hasattr(value, 'item') else str(value)


def _split_of(question: str) -> str:
  """Assigns a question to a split by its hash."""
  return 'train' if uniform(4, 'side', question) else 'test'


def _train(
  generate: Callable[..., list[dict]], name: str, size: int, index: int
) -> Task:
  """Samples item `index` until its question belongs to train."""
  for attempt in range(_ATTEMPTS):
    (entry,) = generate('train', attempt, [index], size)
    if entry['answer'] != '' and _split_of(entry['question']) == 'train':
      return _task(f'train-{index}', name, entry)
  raise ValueError(
    f'reasoning_gym({name}) has too few questions to split: {_ATTEMPTS} samples '
    'gave none for train. Raise its difficulty.'
  )


def _test(
  generate: Callable[..., list[dict]], name: str, size: int
) -> list[Task]:
  """Samples items until `size` different questions belong to test."""
  entries: dict[str, dict] = {}  # by question
  sampled = 0
  for attempt, low in itertools.product(
    range(_ATTEMPTS), range(0, size, _ITEMS_PER_REQUEST)
  ):
    indices = range(low, min(low + _ITEMS_PER_REQUEST, size))
    for entry in generate('test', attempt, indices, size):
      sampled += 1
      if entry['answer'] != '' and _split_of(entry['question']) == 'test':
        entries.setdefault(entry['question'], entry)
      if len(entries) == size:
        return [
          _task(f'test-{i}', name, entry)
          for i, entry in enumerate(entries.values())
        ]
  raise ValueError(
    f'reasoning_gym({name}) has too few questions: {sampled} samples gave '
    f'{len(entries)} different ones for test_size={size} (a quarter of all '
    'questions is for test). Lower test_size, or raise its difficulty.'
  )


def _task(task_id: str, name: str, entry: dict) -> Task:
  return Task(
    id=task_id,
    question=entry['question'],
    answer=entry['answer'],
    verifier='reasoning_gym',
    data={'dataset': name, 'entry': entry} | _solution(entry),
  )


def _solution(entry: Mapping) -> dict[str, str]:
  """data['solution'], for generators with one, such as gsm_symbolic."""
  text = entry['metadata'].get('answer_cot')
  return {'solution': text} if isinstance(text, str) else {}


def _check_scorer(name: str, entries: list[dict]) -> None:
  """Raises ValueError unless all reference answers have a score of 1."""
  score = gym_scorers.scorer(name)  # the one that the verifier uses
  for entry in entries:
    answer = entry['answer']
    if not isinstance(answer, str):
      raise ValueError(
        f'reasoning_gym({name}) gives no reference answer (it is {answer!r}), '
        'which a task needs: choose another generator.'
      )
    value = score(answer, entry)
    if value != 1:
      raise ValueError(
        f'The scorer of reasoning_gym({name}) gives its own answer '
        f'{answer!r:.60} a score of {value}, not 1, after a round trip through '
        'JSON: choose another generator or other options.'
      )
