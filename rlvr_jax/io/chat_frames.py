"""What a chat template puts around messages, found by rendering some."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rlvr_jax.io import chat_template

# What a template is tried with: nothing that its own words will have.
ASKED, SAID, RULE = 'q' * 24, 'm' * 24, 's' * 24


class Frame(NamedTuple):
  """Of one chat template."""

  end: int | None  # the control token that closes an assistant's message
  around: frozenset[str]  # control tokens before, between, after messages
  prefill: str  # a thought that it opens for the assistant, '' for none
  drops_system: bool  # leaves out a system prompt, without a word


def find(
  render: Callable[[list[dict], bool], str], template: str, added: dict
) -> Frame:
  """Renders a question, with and without an answer.

  Args:
    render: (messages, whether the start of an answer follows) -> text.
    template: its text, for messages.
    added: control tokens and their ids.

  Raises:
    ValueError: it fails on a question, or leaves it out.
  """
  asked = chat_template.messages(ASKED)
  try:
    prompt = render(asked, True)
  except ValueError:
    if 'system' not in template:  # which some want to have
      raise
    asked = chat_template.messages(ASKED, 'Answer.')
    prompt = render(asked, True)
  before, found, begun = prompt.rpartition(ASKED)
  if not found:
    raise ValueError(
      f'The chat template drops the question: asked {ASKED!r}, it gives '
      f'{prompt[:60]!r}. It begins {template[:60]!r}. Give another template, '
      'such as rlvr_jax.io.chat_template.CHATML.'
    )
  _, opened, thought = begun.rpartition('<think>')
  open_still = opened and '</think>' not in thought
  said = [*asked, {'role': 'assistant', 'content': SAID}]
  try:
    head, _, rest = render(said, False).partition(SAID)
    if head.endswith(rest):  # it always begins an answer, and closes none
      rest = ''
    between = render([*said, asked[-1]], False)
  except ValueError:  # some take a single question
    rest = between = ''
  try:
    ruled = render(chat_template.messages(ASKED, RULE), True)
  except ValueError:  # it says so itself
    ruled = RULE
  closes = any_of(added).match(rest.lstrip())
  return Frame(
    added[closes[0]] if closes else None,
    frozenset(t for t in added if t in before + between),
    opened + thought if open_still else '',
    RULE not in ruled,
  )


def any_of(texts: Iterable[str]) -> re.Pattern:
  """Matches the longest of some texts; of none, nothing."""
  longest = sorted(texts, key=len, reverse=True)
  return re.compile('|'.join(map(re.escape, longest)) or r'(?!)')


def spaced(tokens: Iterable) -> re.Pattern:
  """Matches the longest of some AddedTokens of the package, with the white
  space that it takes with it (`lstrip`, `rstrip`)."""
  space = lambda takes: r'\s*' if takes else ''
  longest = sorted(tokens, key=lambda t: len(t.content), reverse=True)
  return re.compile(
    '|'.join(
      space(t.lstrip) + re.escape(t.content) + space(t.rstrip) for t in longest
    )
    or r'(?!)'
  )
