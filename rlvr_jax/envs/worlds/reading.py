"""How are English questions parsed? By matching words against phrases."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence, Set

from rlvr_jax.envs import judging

# Words that never change the meaning of a question about a phrase. Any other
# word might ('not', 'only', 'another', 'blue' before hat, 'sea' after borders,
# 'name' before French), so a message with one is refused: a wrong answer from
# the table would be worse than none.
_FILLERS = (
  'does did has have had having there their them his her him with in on at to '
  'from for if know tell me people someone somebody inhabitants residents '
  'population nation countries cities land continent hemisphere located '
  'situated lie lies found belong belongs live lives living where who which re '
  'okay ok sure question gender language languages speak speaks spoken '
  'speaking official currency use uses used pay pays wear wears wearing look '
  'looks face hair eye eyes share shares'
)
_GUESS_WORDS = frozenset(
  ['name', 'named', 'called', 'guess', 'guessing', 'answer', 'secret']
)
FILLERS = (judging.AROUND - _GUESS_WORDS) | frozenset(_FILLERS.split())
# Models often number a question, or append '(yes or no)' to it.
_FRAME = re.compile(
  r'\A\s*(?:question\s*)?\d+\s*[.:)]|\(?\s*yes\s+or\s+no\s*\)?\s*\?*\s*\)?\s*\Z',
  re.IGNORECASE,
)


def reader(
  phrases: Mapping[str, Sequence[str]], objects: Mapping[str, Sequence[str]]
) -> Callable[[str], Set[str]]:
  """Returns a `World.read`: message -> attributes asked about, or a guess.

  A name surrounded only by words of `judging.AROUND` is a guess. Otherwise the
  message is scanned for phrases, consecutive words with an optional 'any'
  before them; the longest match wins and each word is used once ('south
  america' does not contain 'america'). The result is empty if the message does
  not have exactly one question mark, or has a word outside the phrases that is
  not in FILLERS.

  Args:
    phrases: {attribute: phrasings of it}.
    objects: {name: its other names}; a guess of any of them is '=' + name.
  """
  attributes: dict[tuple[str, ...], str] = {}  # words -> attribute
  guesses: dict[tuple[str, ...], str] = {}  # words -> '=' + object
  for attribute, phrasings in phrases.items():
    for phrase in phrasings:
      for prefix in ((), ('any',)):
        attributes.setdefault((*prefix, *judging.words(phrase)), attribute)
  aliases = [(name, name) for name in objects]  # take precedence over others
  aliases += [
    (alias, name) for name, others in objects.items() for alias in others
  ]
  for alias, name in aliases:
    guesses.setdefault(tuple(judging.words(alias)), '=' + name)
  longest_phrase = max(map(len, attributes))
  longest_name = max(map(len, guesses))

  def find_guess(words: list[str]) -> str | None:
    for n in range(min(longest_name, len(words)), 0, -1):
      for i in range(len(words) - n + 1):
        guess = guesses.get(tuple(words[i : i + n]))
        rest = words[:i] + words[i + n :]
        if guess and judging.AROUND.issuperset(rest):
          return guess
    return None

  def read(message: str) -> Set[str]:
    message = _FRAME.sub(' ', message)
    if message.count('?') != 1:
      return frozenset()
    words = judging.words(message)
    if guess := find_guess(words):
      return frozenset((guess,))
    meanings, i = set(), 0
    while i < len(words):
      for n in range(min(longest_phrase, len(words) - i), 0, -1):
        attribute = attributes.get(tuple(words[i : i + n]))
        if attribute is not None:
          meanings.add(attribute)
          i += n
          break
      else:
        if words[i] not in FILLERS:
          return frozenset()
        i += 1
    return frozenset(meanings)

  return functools.lru_cache(10_000)(read)


def distinct(
  rows: Mapping[str, frozenset[str]],
) -> dict[str, frozenset[str]]:
  """Drops objects that equal an earlier one in attributes or in name words.

  Neither answers nor guesses could tell them apart.

  Args:
    rows: {name: attributes that hold}.
  """
  seen_attributes: set[frozenset[str]] = set()
  seen_names: set[tuple[str, ...]] = set()
  out = {}
  for name, attributes in rows.items():
    words = tuple(judging.words(name))
    if words and attributes not in seen_attributes and words not in seen_names:
      seen_attributes.add(attributes)
      seen_names.add(words)
      out[name] = attributes
  return out
