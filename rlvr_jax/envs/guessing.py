"""Guess the secret by questions: 20 Questions and its relatives.

A world is a table: objects, yes-or-no attributes, and a reading of messages.
The oracle answers from the table, so every reply is right, and the exact
posterior over objects is known: uniform over those that fit all replies.

A message asks for one attribute or names one object. The secret's name ends
the game ('finished'); a message that reads as neither, or as several, is
'invalid'; one that means what an earlier one meant is 'repeated'. Neither of
these tells anything.
"""

import functools
import importlib
import math
from collections.abc import Callable, Sequence, Set
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
LONGEST = 400  # characters of a message; a longer one is invalid


class World(NamedTuple):
  """What can be asked, and what is true."""

  objects: tuple[str, ...]
  attributes: tuple[str, ...]
  table: tuple[tuple[bool, ...], ...]  # [objects][attributes]
  # message -> the set of its meanings: attribute names, or '=' + an object
  read: Callable[[str], Set[str]]
  question: str  # the first message to the policy
  ask: Callable[[str], str]  # attribute -> a message that asks for it
  guess: Callable[[str], str]  # object -> a message that names it
  elicit: tuple[str, str]  # words before and after the truth


@functools.lru_cache(16)
def world(spec: str) -> World:
  """The world that a spec such as 'attributes(objects=32)' names.

  Raises:
    ValueError: no such world, an option that it does not take or refuses.
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
    made = make(**options)
  rows = set(made.table)
  if made.attributes and len(rows) < len(made.objects):
    raise ValueError(
      f'World {registry.show(spec)}: {len(made.objects) - len(rows)} of its objects cannot '
      'be told apart by its attributes.'
    )
  for name in made.objects if made.attributes else ():
    if made.read(made.guess(name)) != {'=' + name}:
      raise ValueError(
        f'World {registry.show(spec)}: nobody could guess {registry.show(name)}, its name means '
        f'{sorted(made.read(made.guess(name)))}. Leave that object out.'
      )
  return made


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
  """Games over a world; the splits' secrets are disjoint.

  `data` holds the world's spec. With `demonstrate` it has 'demonstration' too:
  messages of one game to imitate, which depend on seed and the task's id alone.
  Its player asks questions that it has not asked, then names objects that fit
  all replies.

  Args:
    world: attributes, characters, countries, cities or words, in quotes, with
      options: "guessing(world='attributes(objects=64)')".
    test_secrets: objects that are secrets of the test split alone.
    validation_secrets: of the validation split alone.
    all_secrets: the train split has every object as a secret, the others'
      too: to make a base model that knows the world.
    games: tasks of the train split, whose secrets are drawn from the rest.
    seed: names splits and draws.
    demonstrate: whether tasks have demonstrations, which the options below
      describe.
    informative: share of a demonstration's questions that split what is left
      best; the others are drawn from those not asked yet.
    patience: a demonstration guesses after so many questions, (low, high).
    turns: the most messages of a demonstration.

  Raises:
    ValueError: an option out of range; see `world` too.
  """
  spec = world
  objects = _world(spec).objects
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
      f'on: {spec} has {len(objects)} objects. Ask for fewer, or a larger '
      'world.'
    )
  if not 0 <= informative <= 1:
    raise ValueError(
      f'informative={registry.show(informative)} must be in [0, 1].'
    )
  low, high = patience
  check_int('patience[0]', low, low=0, high=1000)
  check_int('patience[1]', high, low=low, high=1000)
  if demonstrate and not _world(spec).attributes:
    raise ValueError(
      f'demonstrate=True: {spec} has no table to ask about. Take another world.'
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


_world = world  # `guessing` has an argument of this name


def _task(name, spec, secret, player) -> Task:
  task = Task(name, world(spec).question, secret, 'guessing', {'world': spec})
  if player is None:
    return task
  said = _demonstrate(task, *player)
  return task._replace(data=task.data | {'demonstration': said})


def _demonstrate(task, seed, informative, low, high, limit) -> list[str]:
  """Messages of one game: ask, then name what is left."""
  w = world(task.data['world'])
  draw = lambda n, *key: uniform(n, task.id, seed, *key)
  left, asked, said = list(range(len(w.objects))), [], []
  questions = low + draw(high - low + 1, 'patience')
  secret = w.objects.index(task.answer)
  while len(said) < limit:
    more = [a for a in range(len(w.attributes)) if a not in asked]
    if len(left) == 1 or len(asked) >= questions or not more:
      name = left[draw(len(left), 'guess', len(said))]
      said.append(w.guess(w.objects[name]))
      if name == secret:
        break
      left.remove(name)
      continue
    if draw(10**6, 'informed', len(said)) < informative * 10**6:
      ones = {a: sum(w.table[o][a] for o in left) for a in more}
      best = max(min(n, len(left) - n) for n in ones.values())
      more = [a for a in more if min(ones[a], len(left) - ones[a]) == best]
    a = more[draw(len(more), 'ask', len(said))]
    asked.append(a)
    said.append(w.ask(w.attributes[a]))
    left = [o for o in left if w.table[o][a] == w.table[secret][a]]
  return said


##### the game #####


@functools.lru_cache(100_000)
def _meaning(spec: str, message: str) -> str | None:
  """The one meaning of a message; None: none, or several."""
  found = world(spec).read(message)
  return next(iter(found)) if len(found) == 1 else None


def _read(task, message: str) -> str | None:
  message = message.strip()
  if not message or len(message) > LONGEST:
    return None
  return _meaning(task.data['world'], message)


def reply(task: Task, said: Sequence[str]) -> dialogue.Reply:
  """The table's answer to said[-1]; see `dialogue.reply`."""
  w = world(task.data['world'])
  if not w.attributes:
    raise ValueError(
      f'Task {registry.show(task.id)}: {task.data["world"]} has no table to answer from. '
      'Name a model that answers in dialogue.oracle.'
    )
  meaning = _read(task, said[-1])
  if meaning is None:
    kind = 'invalid'
  elif meaning == '=' + task.answer:
    return dialogue.Reply('finished', 'finished', True, True)
  elif meaning in {_read(task, s) for s in said[:-1]}:
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


def _history(task, said):
  """Yields (objects left, whether the secret is named) before and after each
  message, and the meaning of the message between, None for one that tells
  nothing."""
  w = world(task.data['world'])
  secret = w.objects.index(task.answer)
  left, known = range(len(w.objects)), set()
  yield left, None
  for message in said:
    meaning = _read(task, message)
    if meaning in known:
      meaning = None
    known.add(meaning)
    if meaning is not None:
      answer = lambda o, m=meaning: _holds(w, o, m)
      left = [o for o in left if answer(o) == answer(secret)]
    yield left, meaning


def _holds(w, o, meaning) -> bool:
  if meaning.startswith('='):
    return w.objects[o] == meaning[1:]
  return w.table[o][w.attributes.index(meaning)]


def posterior(task: Task, said: Sequence[str]) -> list[float] | None:
  """-log of the number of objects that fit; see `dialogue.posterior`."""
  if not world(task.data['world']).attributes:
    return None
  return [-math.log(len(left)) for left, _ in _history(task, said)]


def information(task: Task, said: Sequence[str]) -> list[float] | None:
  """Entropy of the answer over the objects that fit, bits."""
  w = world(task.data['world'])
  if not w.attributes:
    return None
  out, before = [], None
  for left, meaning in _history(task, said):
    if before is not None:
      ones = (
        0 if meaning is None else sum(_holds(w, o, meaning) for o in before)
      )
      out.append(_entropy(ones / len(before)))
    before = left
  return out


def _entropy(p: float) -> float:
  return sum(-x * math.log2(x) for x in (p, 1 - p) if 0 < x < 1)


##### a language model as the oracle #####


def judge_prompt(task: Task, said: Sequence[str]) -> list[dict]:
  """See `dialogue.judge_prompt`."""
  return judging.prompt(task.answer, said)


def judged(task: Task, said: Sequence[str], raw: str) -> dialogue.Reply:
  """See `dialogue.judged`."""
  kind = judging.verdict(task.answer, said, raw)
  done = kind == 'finished'
  return dialogue.Reply(kind, kind, done, done)
