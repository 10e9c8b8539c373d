"""How does a language model act as the oracle of a guessing game?

The model is prompted for one word. Rules then override it where the right word
is known without a model, as does the verification layer in the code of Auzina
et al. (2026, arXiv 2602.12342).
"""

import re
import unicodedata
from collections.abc import Sequence

KINDS = ('yes', 'no', 'invalid', 'repeated', 'finished')
LONGEST = 200  # characters of a question
_WORDS = re.compile(r'[^\W_]+', re.UNICODE)
# The words allowed around the name in a guess. Any other word makes it a
# question about the name ('bigger than a cat') or several guesses ('a dog or a
# cat').
_AROUND = (
  'is it s its their her his this that are you re your my he she they be i think '
  'thinking believe guess guessing answer secret word object thing noun one '
  'name named called person character country city place final so then well '
  'do would could can might may maybe perhaps possibly probably just of right '
  'correct please'
)
AROUND = frozenset(_AROUND.split())


def plain(text: str) -> str:
  """Returns the text in lower case without accents."""
  text = unicodedata.normalize('NFKD', text.lower())
  return ''.join(x for x in text if not unicodedata.combining(x))


def words(text: str) -> list[str]:
  """Returns the words of `plain(text)` except articles."""
  return [
    word
    for word in _WORDS.findall(plain(text))
    if word not in ('a', 'an', 'the')
  ]


def prompt(secret: str, messages: Sequence[str]) -> list[dict[str, str]]:
  """Returns the chat prompt that requests the reply to messages[-1]."""
  # Each message on one line, so that none can imitate another part of the
  # prompt.
  *before, last = (' '.join(m.split())[:LONGEST] for m in messages)
  earlier = '\n'.join(f'- {m}' for m in before) or '- none'
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
  """Whether the message guesses the secret and nothing else.

  Whole words are compared: 'Is it a cat?' guesses cat, 'Is it a catfish?' does
  not. All other words must be in AROUND, which rules out questions about a cat
  and lists of guesses.
  """
  message_words, truth = words(message), words(secret)
  n = len(truth)
  return any(
    message_words[i : i + n] == truth
    and AROUND.issuperset(message_words[:i] + message_words[i + n :])
    for i in range(len(message_words) - n + 1)
  )


def _question(message: str) -> list[str]:
  """Returns the words of a question; [] if its form breaks the rules."""
  message = message.strip()
  if len(message) > LONGEST or message.count('?') != 1:
    return []
  return words(message)


def verdict(secret: str, messages: Sequence[str], raw: str) -> str:
  """Returns the kind of reply to messages[-1], one of KINDS.

  The first rule that applies decides:
  - A message that is empty, longer than 200 characters, or does not have
    exactly one question mark is invalid.
  - One that guesses the secret (see `names`) is finished: it ends the game.
  - One with the same words as an earlier question is repeated.
  - Otherwise the first of KINDS in the model's output `raw` (after its
    thought) counts. A 'finished' there is false by the second rule and counts
    as yes; an output without any of KINDS makes the message invalid.
  """
  last = _question(messages[-1])
  if not last:
    return 'invalid'
  if names(secret, messages[-1]):
    return 'finished'
  if last in [_question(m) for m in messages[:-1]]:
    return 'repeated'
  visible = raw.rpartition('</think>')[2][:2000]
  kinds = [word for word in words(visible) if word in KINDS]
  if not kinds:
    return 'invalid'
  return 'yes' if kinds[0] == 'finished' else kinds[0]
