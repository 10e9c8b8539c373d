"""Reading plain English questions against a list of phrases, by words alone."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence, Set

from rlvr_jax.envs import judging

# Words that change nothing in a question about a phrase. Any other one might
# ('not', 'only', 'another', 'blue' before a hat, 'sea' after borders, 'name'
# before French), and a table that answers a question it has not understood is
# wrong: better none.
_FILLERS = (
  'does did has have had having there their them his her him with in on at to '
  'from for if know tell me people someone somebody inhabitants residents '
  'population nation countries cities land continent hemisphere located '
  'situated lie lies found belong belongs live lives living where who which re '
  'okay ok sure question gender language languages speak speaks spoken speaking official '
  'currency use uses used pay pays wear wears wearing look looks face hair eye '
  'eyes share shares'
)
_NAMING = frozenset(
  ['name', 'named', 'called', 'guess', 'guessing', 'answer', 'secret']
)
FILLERS = (judging.AROUND - _NAMING) | frozenset(_FILLERS.split())
# What models put around a question: a number before it, the choice after it.
_FRAME = re.compile(
  r'\A\s*(?:question\s*)?\d+\s*[.:)]|\(?\s*yes\s+or\s+no\s*\)?\s*\?*\s*\)?\s*\Z',
  re.IGNORECASE,
)


def reader(
  phrases: Mapping[str, Sequence[str]], objects: Mapping[str, Sequence[str]]
) -> Callable[[str], Set[str]]:
  """A `World.read`: the attributes or the object that a question speaks of.

  A name among words of `judging.AROUND` is a guess. Otherwise a phrase is found
  where its words stand in a row, 'any' before them or not; longer ones first, and a word counts once
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
      for any_ in ((), ('any',)):
        table.setdefault((*any_, *judging.words(way)), meaning)
  ways = [(name, name) for name in objects]  # own names before other ones
  ways += [(way, name) for name, others in objects.items() for way in others]
  for way, name in ways:
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
    message = _FRAME.sub(' ', message)
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
