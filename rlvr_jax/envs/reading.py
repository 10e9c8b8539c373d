"""Reading plain English questions against a list of phrases, by words alone."""

import functools
from collections.abc import Callable, Mapping, Sequence, Set

from rlvr_jax.envs import judging

# Words that change nothing in a question about a phrase. Any other one might
# ('not', 'only', 'blue' before a hat, 'sea' after borders), and a table that
# answers a question it has not understood is wrong: better none.
_FILLERS = (
  'does did has have had having there their them his her him with in on at to '
  'from for if know tell me people someone somebody inhabitants residents '
  'population nation countries cities land continent hemisphere located '
  'situated lie lies found part belong belongs live lives living any another '
  'other gender language languages speak speaks spoken speaking official '
  'currency use uses used pay pays wear wears wearing look looks face hair eye '
  'eyes share shares'
)
FILLERS = judging.AROUND | frozenset(_FILLERS.split())


def reader(
  phrases: Mapping[str, Sequence[str]], objects: Mapping[str, Sequence[str]]
) -> Callable[[str], Set[str]]:
  """A `World.read`: the attributes or the object that a question speaks of.

  A name among words of `judging.AROUND` is a guess. Otherwise a phrase is found
  where its words stand in a row; longer ones first, and a word counts once
  ('south america' is no 'america'). A message without exactly one question
  mark, or with a word beside the phrases that is not one of FILLERS, means
  nothing.

  Args:
    phrases: {attribute: ways to say it}.
    objects: {name: other names of it}; a guess of one means '=' + the name.
  """
  table, known = {}, {}
  for meaning, ways in phrases.items():
    for way in ways:
      table.setdefault(tuple(judging.words(way)), meaning)
  for name, others in objects.items():
    for way in (name, *others):
      known.setdefault(tuple(judging.words(way)), '=' + name)
  longest, most = max(map(len, table)), max(map(len, known))

  def guessed(said):
    for n in range(min(most, len(said)), 0, -1):
      for i in range(len(said) - n + 1):
        meaning = known.get(tuple(said[i : i + n]))
        rest = said[:i] + said[i + n :]
        if meaning and judging.AROUND.issuperset(rest):
          return meaning
    return None

  def read(message: str) -> Set[str]:
    if message.count('?') != 1:
      return frozenset()
    said = judging.words(message)
    if meaning := guessed(said):
      return frozenset((meaning,))
    found, i = set(), 0
    while i < len(said):
      for n in range(min(longest, len(said) - i), 0, -1):
        meaning = table.get(tuple(said[i : i + n]))
        if meaning is not None:
          found.add(meaning)
          i += n
          break
      else:
        if said[i] not in FILLERS:
          return frozenset()
        i += 1
    return frozenset(found)

  return functools.lru_cache(10_000)(read)


def distinct(rows: Mapping[str, frozenset]) -> dict[str, frozenset]:
  """Objects without those whose attributes, or whose name's words, an earlier
  one has: neither answers nor guesses could tell them apart."""
  looks, names, out = set(), set(), {}
  for name, has in rows.items():
    spelt = tuple(judging.words(name))
    if spelt and has not in looks and spelt not in names:
      looks.add(has)
      names.add(spelt)
      out[name] = has
  return out
