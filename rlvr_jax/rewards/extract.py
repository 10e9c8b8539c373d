r"""Finds the final answer in a text.

Text in, text out; nothing is evaluated. Every function reads a
bounded part of its input and takes time linear in it, so that a line of a
megabyte or a number of a million digits costs no more than a sane one.
"""

import re

from rlvr_jax.rewards import numbers
from rlvr_jax.rewards.numbers import SPAN, TooLong

TAIL = 20_000  # characters at the end that are searched for an answer


_BOXED = re.compile(r'\\(?:boxed|fbox)(?:\s{0,8}(\{)|\s{1,8}([^\s{}$]{1,100}))')
_BRACE = re.compile(r'\\.|[{}]', re.DOTALL)
_ANSWER_IS = re.compile(r'(?i)\banswer\s{0,8}(?:is|:|=)[\s:*_]{0,16}')
_WORD_FIRST = re.compile(r'[\s*_]{0,8}[A-Za-z]{2,}')
_SENTENCE_END = re.compile(r'\.(?:\s|$)|\n|;|!')
_SYMBOLIC = re.compile(r'[\\^*({\[<>]|\bsqrt\b|\bpi\b')


def boxed(text: str) -> str | None:
  r"""What the last closed `\boxed{...}` holds; '' if a box never closes.

  None where there is no box at all. Of nested boxes, the inner one.

  Raises:
    TooLong: the last box holds more than `SPAN` characters.
  """
  return _cut(text, _boxed(text))


def tagged(text: str) -> str | None:
  """What the last `<answer>` holds, up to its end tag; None without one.

  Raises:
    TooLong: it holds more than `SPAN` characters.
  """
  return _cut(text, _tagged(text))


def final(text: str, *, numeric: bool) -> str | None:
  r"""The final answer of a solution, or None if there is nothing like one.

  The first of these that the text has: the last `\boxed{}`; the last
  `<answer>`; what follows the last `####` (unless that is a heading); what
  follows the last 'answer is', 'answer:'; then, for a symbolic gold
  (`numeric` false), the last formula between dollars; then the last number.
  A box that never closes is no answer, and hides what precedes it.

  Raises:
    TooLong: the marked answer is longer than `SPAN` characters.
  """
  return _cut(text, _final(text, numeric))


def answer_span(text: str, *, numeric: bool) -> tuple[int, int] | None:
  """Where `final` stands: `text[start:end]` is it, and start < end.

  None where there is no final answer, or where it is `TooLong`.
  """
  try:
    return _final(text, numeric)
  except TooLong:
    return None


def stated(text: str) -> str | None:
  """The final answer as free text, for a verifier that reads words.

  The first of: the last box, the last `<answer>`, the line after the last
  'answer is', the last line that is not empty. None if there is none.

  Raises:
    TooLong: the marked answer is longer than `SPAN` characters.
  """
  found = boxed(text)
  found = tagged(text) if found is None else found
  if found is None:
    tail = text[-TAIL:]
    if matches := list(_ANSWER_IS.finditer(tail)):
      tail = tail[matches[-1].end() :].strip().split('\n', 1)[0]
    found = tail.strip().rsplit('\n', 1)[-1].strip()
    if len(found) > SPAN:
      raise TooLong
  return found or None


def last_formula(text: str) -> str | None:
  """The last non-empty formula between $ signs or in LaTeX brackets."""
  return _cut(text, _formula(text, (0, len(text))))


def last_number(text: str) -> str | None:
  """The last number in a text, as it stands there; ordinals do not count."""
  return _cut(text, _number(text, (0, len(text))))


# (start, end) in the whole text.
_Span = tuple[int, int]


def _cut(text: str, span: _Span | None) -> str | None:
  return None if span is None else text[slice(*span)]


def _filled(span: _Span) -> _Span | None:
  return span if span[0] < span[1] else None


def _stripped(text: str, span: _Span) -> _Span:
  """Without the white space at both ends."""
  inside = text[slice(*span)]
  start = span[0] + len(inside) - len(inside.lstrip())
  return start, start + len(inside.strip())


def _boxed(text: str) -> _Span | None:
  end, opened = len(text), False
  for _ in range(16):  # a degenerate text may open boxes without end
    at = max(text.rfind('\\boxed', 0, end), text.rfind('\\fbox', 0, end))
    if at < 0:
      break
    end = at + 1
    window = text[at : at + SPAN + 20]
    match = _BOXED.match(window)
    if match is None:
      continue
    opened = True
    if match[2]:
      start = at + match.start(2)
      return start, start + len(match[2].rstrip('.,;'))
    close = _closing(window, match.end())
    if close is not None:
      return _stripped(text, (at + match.end(), at + close))
    if at + len(window) < len(text):
      raise TooLong
  return (end, end) if opened else None


def _tagged(text: str) -> _Span | None:
  at = text.rfind('<answer>')
  if at < 0:
    return None
  at += len('<answer>')
  close = text.find('</answer>', at, at + SPAN + 20)
  if close < 0 and len(text) > at + SPAN:
    raise TooLong
  return _stripped(text, (at, close if close >= 0 else len(text)))


def _final(text: str, numeric: bool) -> _Span | None:
  box = _boxed(text)
  if box is not None:
    return _filled(box)
  tag = _tagged(text)
  if tag is not None:
    return _statement(text, tag) or _filled(tag)
  at = text.rfind('####')
  if at >= 0:
    start, end = _stripped(text, (at + 4, at + 4 + SPAN + 1))
    line = text[start:end].split('\n', 1)[0]
    if line and not _WORD_FIRST.match(line):
      if len(line) >= SPAN:
        raise TooLong
      span = start, start + len(line)
      return _statement(text, span) or span
  tail = (max(0, len(text) - TAIL), len(text))
  if said := list(_ANSWER_IS.finditer(text[tail[0] :])):
    start = tail[0] + said[-1].end()
    start, end = _stripped(text, (start, start + SPAN))
    first = _SENTENCE_END.split(text[start:end], maxsplit=1)[0]
    found = _statement(text, _stripped(text, (start, start + len(first))))
    if found:
      return found
  formula = None if numeric else _formula(text, tail)
  return formula or _number(text, tail)


def _formula(text: str, span: _Span) -> _Span | None:
  start, end = span
  found = (-1, -1, -1)  # of the opening sign; of what is inside
  for left, right in (('\\(', '\\)'), ('\\[', '\\]')):
    close = text.rfind(right, start, end)
    at = text.rfind(left, start, close) if close >= 0 else -1
    if at >= 0:
      found = max(found, (at, at + 2, close))
  close = text.rfind('$', start, end)
  at = text.rfind('$', start, max(close, start))
  while at >= 0 and (close == at + 1 or text[close + 1 : end][:1].isdigit()):
    close, at = at, text.rfind('$', start, at)  # $$, or '$5' is money
  if at >= 0:
    found = max(found, (at, at + 1, close))
  return None if found[0] < 0 else _filled(_stripped(text, found[1:]))


def _number(text: str, span: _Span) -> _Span | None:
  found = None
  for match in numbers.FIND.finditer(text[slice(*span)]):
    found = span[0] + match.start(), span[0] + match.end()
  return found


def _closing(text: str, at: int) -> int | None:
  """Where the brace opened just before `at` closes. `\\{` is a character."""
  depth = 1
  for match in _BRACE.finditer(text, at):
    depth += {'{': 1, '}': -1}.get(match[0], 0)
    if depth == 0:
      return match.start()
  return None


def _statement(text: str, span: _Span) -> _Span | None:
  """The answer within a sentence such as '18 dollars for 7 days', or None.

  A number alone, else the formula between dollars, else what follows '=',
  else the text itself where it holds mathematics, else its first number.
  """
  sentence = text[slice(*span)]
  if numbers.read(sentence) is not None:
    return span
  formula = _formula(text, span)
  if formula:
    return formula
  if _SYMBOLIC.search(sentence) or not re.search(r'\d', sentence):
    words = re.search(r'[A-Za-z]{2,}', sentence)
    plain = words and not _SYMBOLIC.search(sentence)
    return None if plain or not sentence else span
  start = span[0] + sentence.rfind('=') + 1
  after = text[start : span[1]]
  match = numbers.FIND.search(after)
  if match is None or re.fullmatch(r'[-\d.,/\s]+', after):
    # '1, 2': a list, not its first number
    return _filled(_stripped(text, (start, span[1])))
  return start + match.start(), start + match.end()
