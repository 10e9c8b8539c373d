"""How are guessing games (20 Questions and variants) played and answered?

A world is a table of objects by yes-or-no attributes, and a parser of
messages. The oracle looks its answers up in the table, so every reply is right
and the exact posterior over objects is known: uniform over the objects that
are consistent with all replies.

A message asks about one attribute or guesses one object. Guessing the secret
ends the game ('finished'). A message that parses as neither, or as several
questions, is 'invalid'; one with the meaning of an earlier message is
'repeated'. Neither of the two changes the posterior.
"""

import functools
import importlib
import math
from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple

from rlvr_jax import registry
from rlvr_jax.envs import dialogue, judging
from rlvr_jax.tasks import (
  MOST_TASKS,
  Env,
  Lazy,
  Task,
  check_int,
  permute,
  uniform,
)

WORLDS = {
  'attributes': 'rlvr_jax.envs.worlds.attributes',
  'characters': 'rlvr_jax.envs.worlds.characters',
  'countries': 'rlvr_jax.envs.worlds.places',
  'cities': 'rlvr_jax.envs.worlds.places',
  'words': 'rlvr_jax.envs.worlds.words',
}
LONGEST = 400  # characters of a message; longer ones are invalid
_SAID = 5  # most turns that a feedback names


class World(NamedTuple):
  """The objects of a game, the true answers, and how messages are parsed."""

  objects: tuple[str, ...]
  attributes: tuple[str, ...]
  table: tuple[tuple[bool, ...], ...]  # [objects][attributes]
  # message -> the set of its meanings: attributes, or '=' + an object
  read: Callable[[str], Set[str]]
  question: str  # the first message to the policy
  ask: Callable[[str], str]  # attribute -> a message that asks about it
  guess: Callable[[str], str]  # object -> a message that guesses it
  elicit: tuple[str, str]  # text before and after the object in a guess


@functools.lru_cache(16)
def world(spec: str) -> World:
  """Builds the world of a spec such as 'attributes(objects=32)'.

  Raises:
    ValueError: the world is unknown, an option is unknown or out of range, or
      two objects cannot be told apart, or one cannot be guessed.
  """
  name, args, options = registry.parse(spec)
  if name not in WORLDS:
    raise ValueError(
      f'Unknown world {registry.show(name)}.{registry.nearest(name, WORLDS)} '
      f'Known: {", ".join(WORLDS)}.'
    )
  make = getattr(importlib.import_module(WORLDS[name]), name)
  options = registry.bind('world', spec, make, args, options)
  with registry.naming('world', spec):
    built = make(**options)
  rows = set(built.table)
  if built.attributes and len(rows) < len(built.objects):
    raise ValueError(
      f'World {registry.show(spec)}: {len(built.objects) - len(rows)} of its '
      'objects cannot be told apart by its attributes.'
    )
  for name in built.objects if built.attributes else ():
    meanings = built.read(built.guess(name))
    if meanings != {'=' + name}:
      raise ValueError(
        f'World {registry.show(spec)}: {registry.show(name)} cannot be guessed, '
        f'because its name means {sorted(meanings)}. Leave that object out.'
      )
  return built


@registry.register('env')
def guessing(
  *,
  world: str = 'attributes()',
  test_secrets: int = 8,
  validation_secrets: int = 4,
  all_secrets: bool = False,
  games: int = 10_000,
  seed: int = 0,
  demonstrate: bool = False,
  informative: float = 0.2,
  patience: tuple[int, int] = (2, 7),
  turns: int = 10,
) -> Env:
  """Guessing games in a world; the splits have disjoint secrets.

  `data['world']` is the world's spec. With `demonstrate`, 'demonstration' is a
  list of messages to imitate, a function of the seed and the task's id: its
  player asks questions that were not asked yet, then guesses objects that are
  consistent with all replies.

  Args:
    world: attributes, characters, countries, cities or words, in quotes, with
      options: "guessing(world='attributes(objects=64)')".
    test_secrets: objects that are secrets only in the test split.
    validation_secrets: objects that are secrets only in the validation split.
    all_secrets: train on every object as a secret, including those of the
      other splits: for training a base model that knows the world.
    games: tasks of the train split; their secrets are sampled from the
      remaining objects.
    seed: of the splits and of all samples.
    demonstrate: whether tasks have demonstrations, which the options below
      describe.
    informative: probability that a question of a demonstration is one that
      splits the consistent objects most evenly; other questions are sampled
      from those not asked yet.
    patience: (low, high), the range from which the number of questions before
      the first guess is sampled.
    turns: the maximum number of messages of a demonstration.

  Raises:
    ValueError: an option is out of range; see `world` too.
  """
  spec = world
  objects = _build_world(spec).objects
  for name, value, low in (
    ('test_secrets', test_secrets, 1),
    ('validation_secrets', validation_secrets, 0),
    ('games', games, 1),
    ('turns', turns, 1),
  ):
    check_int(name, value, low=low, high=MOST_TASKS)
  held = test_secrets + validation_secrets
  if held >= len(objects):
    raise ValueError(
      f'test_secrets + validation_secrets = {held} leave no secret to train '
      f'on: {spec} has {len(objects)} objects. Lower one of the two, or choose '
      'a larger world.'
    )
  if not 0 <= informative <= 1:
    raise ValueError(
      f'informative={registry.show(informative)} must be in [0, 1].'
    )
  low, high = patience
  check_int('patience[0]', low, low=0, high=1000)
  check_int('patience[1]', high, low=low, high=1000)
  if demonstrate and not _build_world(spec).attributes:
    raise ValueError(
      f'demonstrate=True: {spec} has no table to ask about. Choose another '
      'world.'
    )
  order = [
    objects[permute(i, len(objects), 'secrets', seed)]
    for i in range(len(objects))
  ]
  train = order if all_secrets else order[held:]
  player = (seed, informative, low, high, turns) if demonstrate else None
  secret = lambda i: train[uniform(len(train), 'secret', seed, i)]
  fixed = lambda split, names: Lazy(
    len(names), lambda i: _task(f'{split}-{i}', spec, names[i], player)
  )
  return {
    'train': Lazy(
      games, lambda i: _task(f'train-{i}', spec, secret(i), player)
    ),
    'validation': fixed('validation', order[test_secrets:held]),
    'test': fixed('test', order[:test_secrets]),
  }


_build_world = world  # the parameter `world` of `guessing` shadows it


def _task(
  task_id: str,
  spec: str,
  secret: str,
  player: tuple[int, float, int, int, int] | None,
) -> Task:
  task = Task(
    task_id, world(spec).question, secret, 'guessing', {'world': spec}
  )
  if player is None:
    return task
  messages = _demonstrate(task, *player)
  return task._replace(data=task.data | {'demonstration': messages})


def _demonstrate(
  task: Task, seed: int, informative: float, low: int, high: int, limit: int
) -> list[str]:
  """Returns the messages of one game: questions, then consistent guesses."""
  w = world(task.data['world'])
  sample = lambda n, *key: uniform(n, task.id, seed, *key)
  # Indices of the objects consistent with all replies, and of attributes.
  consistent, asked = list(range(len(w.objects))), []
  messages: list[str] = []
  questions = low + sample(high - low + 1, 'patience')
  secret = w.objects.index(task.answer)
  while len(messages) < limit:
    candidates = [a for a in range(len(w.attributes)) if a not in asked]
    if len(consistent) == 1 or len(asked) >= questions or not candidates:
      guess = consistent[sample(len(consistent), 'guess', len(messages))]
      messages.append(w.guess(w.objects[guess]))
      if guess == secret:
        break
      consistent.remove(guess)
      continue
    if sample(10**6, 'informed', len(messages)) < informative * 10**6:
      # Size of the smaller side of each split: the largest is the most even.
      smaller = {}
      for a in candidates:
        yes = sum(w.table[o][a] for o in consistent)
        smaller[a] = min(yes, len(consistent) - yes)
      best = max(smaller.values())
      candidates = [a for a in candidates if smaller[a] == best]
    a = candidates[sample(len(candidates), 'ask', len(messages))]
    asked.append(a)
    messages.append(w.ask(w.attributes[a]))
    consistent = [o for o in consistent if w.table[o][a] == w.table[secret][a]]
  return messages


##### the game #####


@functools.lru_cache(100_000)
def _meaning(spec: str, message: str) -> str | None:
  """Returns the single meaning of a message; None for none or several."""
  meanings = world(spec).read(message)
  return next(iter(meanings)) if len(meanings) == 1 else None


def _read(task: Task, message: str) -> str | None:
  message = message.strip()
  if not message or len(message) > LONGEST:
    return None
  return _meaning(task.data['world'], message)


def reply(task: Task, messages: Sequence[str]) -> dialogue.Reply:
  """Looks the reply to messages[-1] up in the table; see `dialogue.reply`."""
  w = world(task.data['world'])
  if not w.attributes:
    raise ValueError(
      f'Task {registry.show(task.id)}: {task.data["world"]} has no table to '
      'answer from. Set dialogue.oracle to a model that answers.'
    )
  meaning = _read(task, messages[-1])
  if meaning is None:
    kind = 'invalid'
  elif meaning == '=' + task.answer:
    return dialogue.Reply('finished', 'finished', True, True)
  elif meaning in {_read(task, m) for m in messages[:-1]}:
    kind = 'repeated'
  elif meaning.startswith('='):
    kind = 'no'
  else:
    row = w.table[w.objects.index(task.answer)]
    kind = 'yes' if row[w.attributes.index(meaning)] else 'no'
  return dialogue.Reply(kind, kind, False, False)


def elicit(task: Task) -> tuple[str, str, str]:
  """See `dialogue.elicit`."""
  before, after = world(task.data['world']).elicit
  return before, task.answer, after


def _history(
  task: Task, messages: Sequence[str]
) -> Iterator[tuple[Sequence[int], str | None]]:
  """Yields (consistent objects, meaning) at the start and after each message.

  The meaning is that of the message; None at the start and for a message that
  changes nothing (invalid or repeated).
  """
  w = world(task.data['world'])
  secret = w.objects.index(task.answer)
  consistent: Sequence[int] = range(len(w.objects))
  earlier: set[str | None] = set()
  yield consistent, None
  for message in messages:
    meaning = _read(task, message)
    if meaning in earlier:
      meaning = None
    earlier.add(meaning)
    if meaning is not None:
      truth = _holds(w, secret, meaning)
      consistent = [o for o in consistent if _holds(w, o, meaning) == truth]
    yield consistent, meaning


def _holds(w: World, o: int, meaning: str) -> bool:
  """Whether the answer about object o is yes."""
  if meaning.startswith('='):
    return w.objects[o] == meaning[1:]
  return w.table[o][w.attributes.index(meaning)]


def posterior(task: Task, messages: Sequence[str]) -> list[float] | None:
  """-log of the number of consistent objects; see `dialogue.posterior`."""
  if not world(task.data['world']).attributes:
    return None
  return [
    -math.log(len(consistent)) for consistent, _ in _history(task, messages)
  ]


def information(task: Task, messages: Sequence[str]) -> list[float] | None:
  """Entropy of each answer, bits; see `dialogue.information`.

  The answer is a function of the object, so its expected information gain is
  its entropy over the objects consistent before the message.
  """
  w = world(task.data['world'])
  if not w.attributes:
    return None
  out: list[float] = []
  before: Sequence[int] | None = None
  for consistent, meaning in _history(task, messages):
    if before is not None:
      yes = 0 if meaning is None else sum(_holds(w, o, meaning) for o in before)
      out.append(_entropy(yes / len(before)))
    before = consistent
  return out


def _entropy(p: float) -> float:
  """Entropy of Bernoulli(p), bits."""
  return sum(-x * math.log2(x) for x in (p, 1 - p) if 0 < x < 1)


def feedback(
  task: Task, messages: Sequence[str], replies: Sequence[dialogue.Reply]
) -> str:
  """Which turns were wasted, at most five; see `dialogue.feedback`.

  Invalid, repeated, or, where all replies are the table's, with a reply that
  earlier ones had settled.
  """
  w, kinds = world(task.data['world']), [r.kind for r in replies]
  by_table = bool(w.attributes) and kinds == [
    reply(task, messages[: k + 1]).kind for k in range(len(messages))
  ]
  gains = information(task, messages) if by_table else None
  read = [_read(task, m) for m in messages]
  out: list[str] = []
  for k, kind in enumerate(kinds):
    turn = f'Turn {k + 1}'
    if kind == 'invalid':
      out.append(f'{turn} is invalid: it {_fault(w, messages[k].strip())}.')
    elif kind == 'repeated':
      known = by_table and read.index(read[k]) + 1
      out.append(f'{turn} repeats {f"turn {known}" if known else "another"}.')
    elif gains is not None and not gains[k]:
      out.append(f'{turn} was settled by earlier replies.')
  if len(out) > _SAID:
    out[_SAID:] = [f'{len(out) - _SAID} more turns were wasted.']
  return ' '.join(out) or f'The secret was not named in {len(kinds)} turns.'


def _fault(w: World, message: str) -> str:
  if len(message) > LONGEST:
    return f'has more than {LONGEST} characters'
  if message and w.attributes and len(w.read(message)) > 1:
    return 'has several meanings'
  return 'is neither one question nor one guess' if message else 'is empty'


##### a language model as the oracle #####


def judge_prompt(task: Task, messages: Sequence[str]) -> list[dict[str, str]]:
  """See `dialogue.judge_prompt`."""
  return judging.prompt(task.answer, messages)


def judged(task: Task, messages: Sequence[str], raw: str) -> dialogue.Reply:
  """See `dialogue.judged`."""
  kind = judging.verdict(task.answer, messages, raw)
  done = kind == 'finished'
  return dialogue.Reply(kind, kind, done, done)
