"""What a chat template writes around messages, found by rendering probes."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import tokenizers

from rlvr_jax.io import chat_template

# Contents of the probe messages, which no template contains itself.
QUESTION, ANSWER, SYSTEM = 'q' * 24, 'm' * 24, 's' * 24


class Frame(NamedTuple):
  """The tokens that one chat template adds.

  Attributes:
    end: id of the control token that closes an assistant's message.
    around: control tokens before, between and after messages.
    prefill: the thought that it opens for the assistant; '' for none.
    drops_system: whether it ignores a system prompt without an error.
  """

  end: int | None
  around: frozenset[str]
  prefill: str
  drops_system: bool


def find(
  render: Callable[[list[dict], bool], str],
  template: str,
  added: dict[str, int],
) -> Frame:
  """The frame of a template: renders a question, with and without an answer.

  Args:
    render: (messages, add_generation_prompt) -> text.
    template: its source, for error messages.
    added: control tokens and their ids.

  Raises:
    ValueError: the template fails on a question, or leaves it out.
  """
  question = chat_template.messages(QUESTION)
  try:
    prompt = render(question, True)
  except ValueError:
    if 'system' not in template:  # some templates require a system prompt
      raise
    question = chat_template.messages(QUESTION, 'Answer.')
    prompt = render(question, True)
  before, present, start = prompt.rpartition(QUESTION)
  if not present:
    raise ValueError(
      f'The chat template drops the question: given {QUESTION!r}, it renders '
      f'{prompt[:60]!r}. It begins {template[:60]!r}. Give another template, '
      'such as rlvr_jax.io.chat_template.CHATML.'
    )
  _, opening, thought = start.rpartition('<think>')
  thinking = opening and '</think>' not in thought
  answered = [*question, {'role': 'assistant', 'content': ANSWER}]
  try:
    head, _, rest = render(answered, False).partition(ANSWER)
    if head.endswith(rest):  # it always opens an answer, and closes none
      rest = ''
    between = render([*answered, question[-1]], False)
  except ValueError:  # some templates take a single question only
    rest = between = ''
  try:
    with_system = render(chat_template.messages(QUESTION, SYSTEM), True)
  except ValueError:  # an error is not silent
    with_system = SYSTEM
  end = any_of(added).match(rest.lstrip())
  return Frame(
    added[end[0]] if end else None,
    frozenset(t for t in added if t in before + between),
    opening + thought if thinking else '',
    SYSTEM not in with_system,
  )


def any_of(texts: Iterable[str]) -> re.Pattern:
  """A pattern for the longest of `texts` at a place; no match without texts."""
  longest = sorted(texts, key=len, reverse=True)
  return re.compile('|'.join(map(re.escape, longest)) or r'(?!)')


def spaced(tokens: Iterable[tokenizers.AddedToken]) -> re.Pattern:
  """A pattern for the longest of `tokens` at a place, with the white space
  that belongs to it (`lstrip`, `rstrip`)."""
  space = lambda takes: r'\s*' if takes else ''
  longest = sorted(tokens, key=lambda t: len(t.content), reverse=True)
  return re.compile(
    '|'.join(
      space(t.lstrip) + re.escape(t.content) + space(t.rstrip) for t in longest
    )
    or r'(?!)'
  )
