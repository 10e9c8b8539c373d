r"""Which \boxed{}, \fbox{} or \framebox{} of a text hold an answer?"""

import re

from rlvr_jax.verifiers.extraction import marks, spans
from rlvr_jax.verifiers.extraction.numbers import SPAN, TooLong
from rlvr_jax.verifiers.extraction.spans import Span

_BOXED = re.compile(
  r'\\(?:boxed|fbox|framebox)(?:\s{0,8}(\{)|\s{0,8}\(([^()]{1,100})\)'
  r'|\s{1,8}([^\s{}$]{1,100}))'
)
_BOXES = ('\\boxed', '\\fbox', '\\framebox')
_BRACE = re.compile(r'\\.|[{}]', re.DOTALL)


def boxes(text: str, span: Span) -> tuple[list[marks.Mark], bool]:
  """Returns the filled boxes, last first, and whether there was any box."""
  start, end = span
  out, opened = [], False
  for _ in range(marks.MARKS):
    at = max(text.rfind(name, start, end) for name in _BOXES)
    if at < 0:
      break
    stop, end = end, at + 1
    window = text[at : min(at + SPAN + 20, span[1])]
    match = _BOXED.match(window)
    if match is None:
      continue
    opened = True
    if match[1]:
      close = _closing(window, match.end())
      if close is None and at + len(window) < span[1] and not out:
        raise TooLong
      if close is None:
        continue
      inner, after = (at + match.end(), at + close), at + close + 1
    else:
      group = 2 if match[2] else 3
      inner = at + match.start(group), at + match.end(group)
      after = at + match.end()
    inner = spans.trim(text, inner, '.,;' if match[3] else '')
    before = text[max(start, at - 24) : at]
    quoted = marks.NOT.search(before) or marks.QUOTED.search(before)
    if not quoted and not marks.PLACEHOLDER.fullmatch(text, *inner):
      out.append(marks.Mark('box', inner, after))
    elif not out and marks.MENTION.search(text[max(start, at - 40) : at]):
      # 'put the answer in \boxed{}' is no mark, if numbers follow
      opened = not re.search(r'\d', text[after : min(stop, after + SPAN)])
  return out, opened


def _closing(text: str, at: int) -> int | None:
  """Returns where the brace opened just before `at` closes.

  An escaped brace, `\\{`, is a character.
  """
  depth = 1
  for match in _BRACE.finditer(text, at):
    depth += {'{': 1, '}': -1}.get(match[0], 0)
    if depth == 0:
      return match.start()
  return None
