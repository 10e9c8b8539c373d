"""A language model as the oracle of a guessing game: its task, its answers.

The model is asked for one word, and its word is checked against what can be
known without it: after the authors' verification layer (Auzina et al. 2026,
arXiv 2602.12342, code), which overrides a judge that errs.
"""

import re
from collections.abc import Sequence

KINDS = ('yes', 'no', 'invalid', 'repeated', 'finished')
LONGEST = 200  # characters of a question
_WORDS = re.compile(r'[^\W_]+', re.UNICODE)


def words(text: str) -> list[str]:
  """Lower-case words, articles left out."""
  found = _WORDS.findall(text.lower())
  return [w for w in found if w not in ('a', 'an', 'the')]


def prompt(secret: str, said: Sequence[str]) -> list[dict]:
  """Chat messages that ask for the reply to said[-1]."""
  earlier = '\n'.join(f'- {s[:LONGEST]}' for s in said[:-1]) or '- none'
  text = (
    'You are the oracle of a game of 20 Questions. Answer with exactly one '
    'word:\n'
    'Yes or No: the true answer to a question about the secret.\n'
    'Finished: the player has named the secret.\n'
    'Repeated: the question was asked before.\n'
    'Invalid: it is no single yes-or-no question.\n\n'
    f'The secret: {secret}\n'
    f'Earlier questions:\n{earlier}\n'
    f'The question: {said[-1][:LONGEST]}\n'
    'Your word:'
  )
  return [{'role': 'user', 'content': text}]


def names(secret: str, message: str) -> bool:
  """Whether the message names the secret, whole words, and asks no more than
  whether it is that: 'Is it a cat?' for cat, not for catfish."""
  said, truth = words(message), words(secret)
  n = len(truth)
  at = [i for i in range(len(said) - n + 1) if said[i : i + n] == truth]
  return bool(at) and at[0] + n == len(said) and at[0] <= 4


def verdict(secret: str, said: Sequence[str], raw: str) -> str:
  """One of KINDS, from the judge's text and what is known without it.

  - A message that is empty, longer than 200 characters, has no question mark
    or several is invalid.
  - One that names the secret and nothing after it ends the game.
  - One with the same words as an earlier one is repeated.
  - Otherwise the first of KINDS in the judge's text; a 'finished' that is not
    true means yes, and no such word means invalid.
  """
  last = said[-1].strip()
  if not words(last) or len(last) > LONGEST or last.count('?') != 1:
    return 'invalid'
  if names(secret, last):
    return 'finished'
  if words(last) in [words(s) for s in said[:-1]]:
    return 'repeated'
  found = [w for w in words(raw[:2000]) if w in KINDS]
  if not found:
    return 'invalid'
  return 'yes' if found[0] == 'finished' else found[0]
