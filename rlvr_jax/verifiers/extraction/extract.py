r"""What is the final answer of a completion?

Text in, text out; nothing is evaluated. Every function reads a bounded part of
its input, in linear time, so that a line of a megabyte or a number of a million
digits costs no more than an ordinary one.
"""

import re
from typing import NamedTuple

from rlvr_jax.verifiers.extraction import boxes as boxes_lib
from rlvr_jax.verifiers.extraction import letters, numbers, sentence, spans
from rlvr_jax.verifiers.extraction import marks as marks_lib
from rlvr_jax.verifiers.extraction.marks import TAIL, Mark
from rlvr_jax.verifiers.extraction.numbers import SPAN, TooLong
from rlvr_jax.verifiers.extraction.sentence import Expected, Statement
from rlvr_jax.verifiers.extraction.spans import Span
from rlvr_jax.verifiers.rules import RULES, Rules
from rlvr_jax.verifiers.rules import rules_of as rules_of

_WORDS = ('yes', 'no', 'true', 'false')


class Found(NamedTuple):
  """A final answer.

  Attributes:
    text: the answer; for a list in several boxes, their contents joined by
      commas.
    span: where it is in the completion.
    marked: False for a fallback: the last formula or number of a completion
      that marks no answer.
  """

  text: str
  span: Span
  marked: bool


_THOUGHT = re.compile(
  r'<(?P<end1>/?)(?:think|thinking|thought|reasoning)>|◁(?P<end2>/?)think▷'
  r'|<\|(?:begin|(?P<end3>end))_of_thought\|>|\[(?P<end4>/?)THINK\]',
  re.IGNORECASE,
)
# A retraction, in the sentence after an answer.
_RETRACTED = re.compile(
  r'[^.\n]{0,40}\b(?:that|this|it)(?:[\'’]s| is| was)[ \t](?:[a-z]{1,10}[ \t])?'
  r'(?:wrong|incorrect|not[ \t](?:right|correct))'
  r'|\W{0,8}(?:wrong|incorrect)[.!\n]'
  r'|[^.\n]{0,20}\bI[ \t](?:have[ \t])?made[ \t]an?[ \t](?:mistake|error)',
  re.IGNORECASE,
)
_REASON = re.compile(r'\s(?:because|since|as|so|which|where|when|for|if|but)\s')
_NO_ANSWER = re.compile(
  r'\b(?:is|have|has) no (?:answer|solution)', re.IGNORECASE
)
_DECLINED = re.compile(
  r'\b(?:I|we)(?:[ \t](?:cannot|can not|could not|am unable to|do not|am not|'
  r'have no)|[ \t]?(?:can|could|do)n[\'’]t|[\'’]m not|[ \t]can[\'’]?t)[ \t]'
  r'(?:[a-z]{1,12}[ \t]){0,2}?(?:determine|tell|know|solve|find|answer|say|'
  r'decide|sure|certain|idea|able|compute|help)\b|\bcannot be (?:determined|solved|'
  r'answered)|\bnot enough information|\bunable to (?:determine|answer|solve)'
  r'|\bI give up',
  re.IGNORECASE,
)


def reply(text: str, rules: Rules = RULES) -> str:
  """Returns the text after the thought; '' if the thought never closes."""
  return text[slice(*_reply(text, rules))]


def boxed(text: str, *, several: bool = False) -> str | None:
  r"""Returns the content of the last closed and filled `\boxed{...}`.

  '' if there are boxes but none is closed and filled, None without any box. Of
  nested boxes, the inner one counts. A placeholder, as in `\boxed{answer}`,
  does not fill a box. With `several`, the boxes of a list ('\boxed{1} and
  \boxed{2}') count together, joined by commas.

  Raises:
    TooLong: the last box holds more than `SPAN` characters.
  """
  boxes, opened = boxes_lib.boxes(text, (0, len(text)))
  if several and (joined := _joined(text, boxes)):
    return joined.text
  return text[slice(*boxes[0].inner)] if boxes else '' if opened else None


def tagged(text: str) -> str | None:
  """Returns the content of the last filled `<answer>`, up to its end tag.

  '' if all are empty, None without any tag.

  Raises:
    TooLong: the last tag holds more than `SPAN` characters.
  """
  tags, opened = marks_lib.tags(text, (0, len(text)))
  return text[slice(*tags[0].inner)] if tags else '' if opened else None


def find(
  text: str, expected: Expected, rules: Rules = RULES, *, cut: bool = False
) -> Found | None:
  r"""Finds the final answer of a completion; returns None if there is none.

  Only the text after the thought is searched. The last of these marks that
  contains an answer counts: a `\boxed{}`; an `<answer>`; a line that begins
  with `####` (unless it is a heading); a phrase such as 'the answer is' or
  'Answer:', or such a heading. A phrase outranks an earlier mark of another
  sort only if nothing but the answer follows it. An empty, quoted or negated
  box is no mark; a box that never closes is no answer, and rules out the
  fallback below.

  Without a mark, the fallback is the last formula between dollar signs or the
  last number (for a numeric `expected`, whichever ends later); a number counts
  only if it stands on its own (none does in `7*12`, `1:2`, `2\sqrt{3}`).

  A hedge ('3 or 5') is no answer, nor is an answer that is retracted at once.

  Args:
    expected: the form of answer that the gold answer calls for.
    cut: whether the completion hit the length limit. Then an unmarked answer
      does not count, nor does an unfinished mark at the very end ('#### 1' of
      '#### 18'), unless `rules.truncated` is 'read'.

  Raises:
    TooLong: the marked answer is longer than `SPAN` characters.
  """
  cut = cut and rules.truncated == 'marked'
  span = _reply(text, rules)
  marks, hidden = _marks(text, span, expected)
  firm = [m.inner[0] for m in marks if m.sort != 'phrase']
  for mark in marks:
    statement = _read(text, mark, marks, expected, rules)
    if statement is None:
      continue
    outranks = mark.sort == 'phrase' and firm and min(firm) < mark.inner[0]
    if outranks and not statement.clean:
      continue
    inner = statement.span
    if cut and mark.open and inner and _touches(text, inner, span[1]):
      continue  # '#### 1' may be what is left of '#### 18'
    tail = text[mark.end : min(span[1], mark.end + 400)]
    if mark.sort == 'phrase' and _DECLINED.search(tail):
      return None
    if _RETRACTED.match(tail.lstrip(' .}$*`')):
      span, hidden = (mark.end, span[1]), False
      break
    return _found(text, statement, True)
  if hidden or cut or rules.require_mark:
    return None
  return _unmarked(text, span, expected)


def vote(text: str, rules: Rules = RULES, *, cut: bool = False) -> Found | None:
  """Finds the final answer without a gold answer: a letter, 'yes', a formula.

  Raises:
    TooLong: see `find`.
  """
  marked = rules._replace(require_mark=True)
  letter = find(text, Expected(choice=True), marked, cut=cut)
  if letter and re.fullmatch('[A-Ja-j]', letter.text):
    return letter
  found = find(text, Expected(), rules, cut=cut)
  if found is None:  # 'x = 1 or x = 2' may be the whole answer
    several = find(text, Expected(several=True), marked, cut=cut)
    found = several if several and re.search(r'\d', several.text) else None
  if found is None or not found.marked:
    words = find(text, Expected(words=True), marked, cut=cut)
    if words and words.text.casefold() in _WORDS:
      return words
  return found


def final(text: str, *, numeric: bool) -> str | None:
  """Returns the text of `find`, for a plain number or for any other formula."""
  found = find(text, Expected(numeric=numeric))
  return found and found.text


def answer_span(
  text: str, *, numeric: bool, rules: Rules = RULES, cut: bool = False
) -> Span | None:
  """Returns the span (start, end) of the answer that `find` finds, start < end.

  None if there is no final answer or it is `TooLong`.
  """
  try:
    found = find(text, Expected(numeric=numeric), rules, cut=cut)
  except TooLong:
    return None
  return found and found.span


def stated(text: str) -> str | None:
  """Returns the final answer as free text, for a verifier that reads words.

  From the text after the thought, the first of these that exists: the last box
  or `<answer>`, the line after the last 'answer is', the last line that is not
  empty. The content of tags is kept as it is: a board may be drawn with _ and
  Q, and [] be a list.

  Raises:
    TooLong: the marked answer is longer than `SPAN` characters.
  """
  span = _reply(text, RULES)
  boxes, opened = boxes_lib.boxes(text, span)
  tag = text.rfind('<answer>', *span)
  if boxes and boxes[0].inner[0] > tag:
    return text[slice(*boxes[0].inner)]
  if tag >= 0:
    inside = text[tag + 8 : span[1]].partition('</answer>')[0]
    if len(inside) > SPAN:
      raise TooLong
    return inside.strip() or None
  if opened:
    return None
  tail = text[max(span[0], span[1] - TAIL) : span[1]]
  if matches := list(marks_lib.ANSWER_IS.finditer(tail)):
    tail = tail[matches[-1].end() :].strip().split('\n', 1)[0]
  line = tail.strip().rsplit('\n', 1)[-1].strip()
  if len(line) > SPAN:
    raise TooLong
  return line or None


def _touches(text: str, span: Span, end: int) -> bool:
  """Whether an answer runs up to `end`, with nothing after it that ends it."""
  inside = text[slice(*span)]
  if inside.endswith(('\\)', '\\]', '$')) or _REASON.search(inside):
    return False
  return text[span[1] : end].strip(' ,') == ''


def _found(text: str, statement: Statement, marked: bool) -> Found | None:
  span, value = statement.span, statement.text
  if span is None or span[0] >= span[1]:
    return None
  return Found(text[slice(*span)] if value is None else value, span, marked)


def _reply(text: str, rules: Rules) -> Span:
  """Returns the span of the text after the thought."""
  start, opened = 0, None
  for tag in _THOUGHT.finditer(text):
    if any(tag.groupdict().values()):
      start, opened = tag.end(), None
    elif opened is None:
      opened = tag.start()
  end = len(text)
  if opened is not None and rules.unfinished_thought == 'none':
    end = opened
  # Text after the answer that analyses it may quote other answers.
  after = text.rfind('<analysis>', start, end)
  if after >= 0 and text.rfind('</answer>', start, after) >= 0:
    end = after
  return start, end


def _marks(
  text: str, span: Span, expected: Expected
) -> tuple[list[Mark], bool]:
  """Returns the marks, last first, and whether an open one bars a fallback."""
  boxes, hidden = boxes_lib.boxes(text, span)
  tags, empty = marks_lib.tags(text, span)
  lines, inline = marks_lib.hashes(text, span, expected)
  phrases = [
    m
    for m in marks_lib.statements(text, span, expected)
    if not any(b.inner[0] <= m.inner[0] < b.end for b in boxes)
  ]
  marks = boxes + tags + lines + phrases
  marks.sort(key=lambda m: (m.inner[0], m.sort == 'box'), reverse=True)
  # Inside a line, #### may be a heading, so these come last.
  return marks + inline, (hidden and not boxes) or (empty and not tags)


def _read(
  text: str, mark: Mark, marks: list[Mark], expected: Expected, rules: Rules
) -> Statement | None:
  """Returns the answer at a mark, None if it has none of the expected form."""
  first = rules.hedges == 'first'
  if mark.sort == 'box':
    boxes = [m for m in marks if m.sort == 'box' and m.inner <= mark.inner]
    if expected.several and (joined := _joined(text, boxes)):
      return joined
    content = sentence.content(text, mark.inner, expected, first)
    if rules.boxes == 'agree' and content.span:
      contents = {text[slice(*m.inner)] for m in boxes}
      content = content if len(contents) == 1 else Statement(None)
    return content
  statement = sentence.read(text, mark.inner, expected, first)
  if mark.sort == 'phrase' or statement is not None:
    return statement
  if mark.sort == 'tag' and '\n' in text[slice(*mark.inner)]:
    return _last_line(text, mark.inner, expected, first)
  return Statement(mark.inner)


def _last_line(
  text: str, span: Span, expected: Expected, first: bool
) -> Statement:
  at = text.rfind('\n', *span) + 1
  return sentence.read(text, (at, span[1]), expected, first) or Statement(span)


def _joined(text: str, boxes: list[Mark]) -> Statement | None:
  r"""Joins '\boxed{1} and \boxed{2}' for a gold list. Boxes come last first."""
  chain = boxes[:1]
  for box in boxes[1:]:
    gap = text[box.end : chain[-1].inner[0]]
    if box.end > chain[-1].inner[0] or not _BETWEEN.fullmatch(gap):
      break
    chain.append(box)
  if len(chain) < 2:
    return None
  values = dict.fromkeys(text[slice(*m.inner)] for m in reversed(chain))
  span = chain[-1].inner[0], chain[0].inner[1]
  return Statement(span, text=sentence.listed(', '.join(values)))


# What may stand between two boxes of one list.
_BETWEEN = re.compile(
  r'(?:[\s$,;&.:}*]|\\[()\[\],; ]|\\quad|\\text\{[\s,]*(?:and|or)[\s,]*\}|'
  r'\b(?:and|or|also|the|other|second|one|another|is|solution|root|value)\b|'
  r'[A-Za-z](?:_\{?\w\}?)?\s?=\s?|[A-Za-z]_\d|\\boxed\s?\{|\\(?:lor|land)){1,24}'
)


def _unmarked(text: str, span: Span, expected: Expected) -> Found | None:
  """Returns the last formula, number or letter; see `find`."""
  start, end = max(span[0], span[1] - TAIL), span[1]
  confidence = text.rfind('<confidence>', start, end)
  if confidence >= 0:
    end = confidence
  if expected.choice:
    line = text[start:end].rstrip()
    at = start + max(line.rfind('\n') + 1, len(line) - 60)
    letter = letters.choice(text, spans.trim(text, (at, start + len(line))))
    if letter and len(text[at : start + len(line)]) < 60:
      return _found(text, letter, False)
  inner = spans.formulas(text, (start, end))
  formula = inner[-1] if inner else None
  number = _number(text, (start, end))
  if expected.numeric and formula:
    bare = re.fullmatch(r'[A-Za-z]\w?', text[slice(*formula)])
    if bare or (number and number[1] > formula[1]):
      formula = None
  if formula and len(inner) > 1 and sentence.joined(text, *inner[-2:]):
    if not expected.several:
      return None
    values = ', '.join(text[slice(*s)] for s in inner[-2:])
    formula = inner[-2][0], formula[1]
    return Found(sentence.listed(values), formula, False)
  span = formula or number
  if span is None or (
    formula is None and not spans.stands(text[:end], *number, start)
  ):
    return None
  low = max(start, span[0] - 200)
  before = re.split(r'[.!?]\s|\n', text[low : span[0]])[-1]
  after = marks_lib.SENTENCE_END.split(
    text[span[1] : min(end, span[1] + 200)], 1
  )[0]
  declined = _DECLINED.search(before + text[span[1] : min(end, span[1] + 400)])
  if not before.strip(' $*'):  # only a number, so look at the sentence before
    declined = declined or _DECLINED.search(
      text[max(low, span[0] - 90) : span[0]]
    )
  nothing = _NO_ANSWER.search(text[max(low, span[0] - 60) : span[0]])
  if declined or nothing or spans.open_end(before, after):
    return None
  return Found(text[slice(*span)], span, False)


def _number(text: str, span: Span) -> Span | None:
  last = None
  for match in numbers.FIND.finditer(text[slice(*span)]):
    last = span[0] + match.start(), span[0] + match.end()
  return last
