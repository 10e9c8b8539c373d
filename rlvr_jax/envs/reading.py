"""Reading plain English questions against a list of phrases, by words alone."""

import functools
from collections.abc import Callable, Mapping, Sequence

from rlvr_jax.envs import judging

_REFUSED = frozenset(
  (
    'not',
    'no',
    'without',
    'never',
    'neither',
    'nor',
    'isn',
    'doesn',
    'don',
    'except',
  )
)


def reader(
  phrases: Mapping[str, Sequence[str]], objects: Sequence[str]
) -> Callable[[str], set[str]]:
  """A `World.read`: the attributes and objects that a question speaks of.

  A phrase is found where its words stand in a row, whatever stands around
  them; longer ones first, and a word counts once ('south america' is no
  'america', a 'catfish' no 'cat'). A message without exactly one question
  mark, or with a word that denies, means nothing.

  Args:
    phrases: {attribute: ways to say it}.
    objects: names; one that is found means '=' + the name.
  """
  table = {}
  for meaning, ways in (*phrases.items(), *(('=' + o, (o,)) for o in objects)):
    for way in ways:
      table.setdefault(tuple(judging.words(way)), meaning)
  longest = max(map(len, table))

  def read(message: str) -> set[str]:
    said = judging.words(message)
    if message.count('?') != 1 or _REFUSED & set(said):
      return set()
    found, i = set(), 0
    while i < len(said):
      for n in range(min(longest, len(said) - i), 0, -1):
        meaning = table.get(tuple(said[i : i + n]))
        if meaning is not None:
          found.add(meaning)
          i += n
          break
      else:
        i += 1
    return found

  return functools.lru_cache(10_000)(read)


def distinct(rows: Mapping[str, frozenset]) -> dict[str, frozenset]:
  """Objects without those whose attributes an earlier one has exactly."""
  seen, out = set(), {}
  for name, has in rows.items():
    if has not in seen:
      seen.add(has)
      out[name] = has
  return out
