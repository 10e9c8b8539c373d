"""A language model as the oracle of a guessing game: its task, its answers.

The model is asked for one word, and its word is checked against what can be
known without it: after the authors' verification layer (Auzina et al. 2026,
arXiv 2602.12342, code), which overrides a judge that errs.
"""

import re
import unicodedata
from collections.abc import Sequence

KINDS = ('yes', 'no', 'invalid', 'repeated', 'finished')
LONGEST = 200  # characters of a question
_WORDS = re.compile(r'[^\W_]+', re.UNICODE)
# What may stand around the name in a guess. Anything else makes it a question
# about the name ('bigger than a cat'), or several guesses ('a dog or a cat').
_AROUND = (
  'is it s its their her his this that are you re your my he she they be i think '
  'thinking believe guess guessing answer secret word object thing noun one '
  'name named called person character country city place final so then well '
  'do would could can might may maybe perhaps possibly probably just of right '
  'correct please'
)
AROUND = frozenset(_AROUND.split())


def plain(text: str) -> str:
  """Lower case, without accents."""
  text = unicodedata.normalize('NFKD', text.lower())
  return ''.join(x for x in text if not unicodedata.combining(x))


def words(text: str) -> list[str]:
  """Words of the plain text, articles left out."""
  found = _WORDS.findall(plain(text))
  return [w for w in found if w not in ('a', 'an', 'the')]


def prompt(secret: str, said: Sequence[str]) -> list[dict]:
  """Chat messages that ask for the reply to said[-1]."""
  # On a line of its own each, so that none can pass for another part.
  *before, last = (' '.join(s.split())[:LONGEST] for s in said)
  earlier = '\n'.join(f'- {s}' for s in before) or '- none'
  text = (
    'You are the oracle of a game of 20 Questions. Answer with exactly one '
    'word:\n'
    'Yes or No: the true answer to a question about the secret.\n'
    'Finished: the player has named the secret.\n'
    'Repeated: the question was asked before.\n'
    'Invalid: it is no single yes-or-no question.\n\n'
    f'The secret: {secret}\n'
    f'Earlier questions:\n{earlier}\n'
    f'The question: {last}\n'
    'Your word:'
  )
  return [{'role': 'user', 'content': text}]


def names(secret: str, message: str) -> bool:
  """Whether the message guesses the secret and says nothing else.

  Whole words: 'Is it a cat?' names cat, 'Is it a catfish?' does not. Nor does
  what asks about a cat, or lists several: the other words are of AROUND.
  """
  said, truth = words(message), words(secret)
  n = len(truth)
  return any(
    said[i : i + n] == truth and AROUND.issuperset(said[:i] + said[i + n :])
    for i in range(len(said) - n + 1)
  )


def _question(message: str) -> list[str]:
  """The words of one question; none where its form is against the rules."""
  message = message.strip()
  if len(message) > LONGEST or message.count('?') != 1:
    return []
  return words(message)


def verdict(secret: str, said: Sequence[str], raw: str) -> str:
  """One of KINDS, from the judge's text and what is known without it.

  - A message that is empty, longer than 200 characters, has no question mark
    or several is invalid.
  - One that names the secret, see `names`, ends the game.
  - One with the same words as an earlier question is repeated.
  - Otherwise the first of KINDS in the judge's text; a 'finished' that is not
    true means yes, and no such word means invalid.
  """
  last = _question(said[-1])
  if not last:
    return 'invalid'
  if names(secret, said[-1]):
    return 'finished'
  if last in [_question(s) for s in said[:-1]]:
    return 'repeated'
  found = [w for w in words(raw.rpartition('</think>')[2][:2000]) if w in KINDS]
  if not found:
    return 'invalid'
  return 'yes' if found[0] == 'finished' else found[0]
