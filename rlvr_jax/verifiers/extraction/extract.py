r"""Finds the final answer in a text.

Text in, text out; nothing is evaluated. Every function reads a
bounded part of its input and takes time linear in it, so that a line of a
megabyte or a number of a million digits costs no more than a sane one.
"""

import re
from typing import NamedTuple

from rlvr_jax.verifiers.extraction import letters, numbers, sentence, spans
from rlvr_jax.verifiers.extraction import marks as marks_lib
from rlvr_jax.verifiers.extraction.marks import TAIL, Mark
from rlvr_jax.verifiers.extraction.numbers import SPAN, TooLong
from rlvr_jax.verifiers.extraction.rules import RULES, Rules
from rlvr_jax.verifiers.extraction.rules import rules_of as rules_of
from rlvr_jax.verifiers.extraction.sentence import Said, Sought
from rlvr_jax.verifiers.extraction.spans import Span

_WORDS = ('yes', 'no', 'true', 'false')


class Found(NamedTuple):
  """A final answer: `text` is what stands at `span`.

  Of a list in several boxes, `text` is their contents joined by commas.
  marked False: nothing but its place, the last, says that it is the answer.
  """

  text: str
  span: Span
  marked: bool


_THOUGHT = re.compile(
  r'<(?P<end1>/?)(?:think|thinking|thought|reasoning)>|◁(?P<end2>/?)think▷'
  r'|<\|(?:begin|(?P<end3>end))_of_thought\|>|\[(?P<end4>/?)THINK\]',
  re.IGNORECASE,
)
# What takes a statement back, in the sentence that follows it.
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
  """What follows the thought; '' where the thought never ends."""
  return text[slice(*_reply(text, rules))]


def boxed(text: str) -> str | None:
  r"""What the last closed and filled `\boxed{...}` holds, '' if none is both.

  None where there is no box at all. Of nested boxes, the inner one. A
  placeholder, as in `\boxed{answer}`, fills nothing.

  Raises:
    TooLong: the last box holds more than `SPAN` characters.
  """
  boxes, opened = marks_lib.boxes(text, (0, len(text)))
  return text[slice(*boxes[0].inner)] if boxes else '' if opened else None


def tagged(text: str) -> str | None:
  """What the last filled `<answer>` holds, up to its end tag; None without one.

  '' if all are empty.

  Raises:
    TooLong: it holds more than `SPAN` characters.
  """
  tags, opened = marks_lib.tags(text, (0, len(text)))
  return text[slice(*tags[0].inner)] if tags else '' if opened else None


def find(
  text: str, sought: Sought, rules: Rules = RULES, *, cut: bool = False
) -> Found | None:
  r"""The final answer of a solution, or None if there is nothing like one.

  Read is what follows the thought. The last of these marks that says
  an answer: a `\boxed{}`; an `<answer>`; a line that begins with `####`
  (unless it is a heading); 'the answer is', 'Answer:' and the like, or such a
  heading. A statement in words outranks an earlier mark of another sort only
  if it says nothing but the answer. An empty, quoted or negated box is no
  mark; a box that never closes is no answer, and hides what precedes it.

  Without a mark: the last formula between dollars or the last number, for a
  numeric `sought` the one that reaches further, and a number only if it is a
  term of its own (of `7*12`, `1:2`, `2\sqrt{3}` none is).

  A hedge ('3 or 5') is no answer, nor is a mark that is taken back at once.

  Args:
    sought: what sort of answer would do.
    cut: the text was cut by a limit: what is not marked is no answer then, nor
      is what an unfinished mark says at the very end ('#### 1' of '#### 18');
      unless `rules.truncated` says otherwise.

  Raises:
    TooLong: the marked answer is longer than `SPAN` characters.
  """
  cut = cut and rules.truncated == 'marked'
  span = _reply(text, rules)
  marks, hidden = _marks(text, span, sought)
  firm = [m.inner[0] for m in marks if m.sort != 'said']
  for mark in marks:
    said = _read(text, mark, marks, sought, rules)
    if said is None:
      continue
    outranks = mark.sort == 'said' and firm and min(firm) < mark.inner[0]
    if outranks and not said.clean:
      continue
    if cut and mark.open and said.span and _touches(text, said.span, span[1]):
      continue  # '#### 1' is left of '#### 18'
    tail = text[mark.end : min(span[1], mark.end + 400)]
    if mark.sort == 'said' and _DECLINED.search(tail):
      return None
    if _RETRACTED.match(tail.lstrip(' .}$*`')):
      span, hidden = (mark.end, span[1]), False
      break
    return _found(text, said, True)
  if hidden or cut or rules.require_mark:
    return None
  return _unmarked(text, span, sought)


def vote(text: str, rules: Rules = RULES, *, cut: bool = False) -> Found | None:
  """`find` without a gold answer: a letter, words such as 'yes', a formula.

  Raises:
    TooLong: see `find`.
  """
  marked = rules._replace(require_mark=True)
  letter = find(text, Sought(choice=True), marked, cut=cut)
  if letter and re.fullmatch('[A-Ja-j]', letter.text):
    return letter
  found = find(text, Sought(), rules, cut=cut)
  if found is None:  # 'x = 1 or x = 2' may be the whole answer
    several = find(text, Sought(several=True), marked, cut=cut)
    found = several if several and re.search(r'\d', several.text) else None
  if found is None or not found.marked:
    words = find(text, Sought(words=True), marked, cut=cut)
    if words and words.text.casefold() in _WORDS:
      return words
  return found


def final(text: str, *, numeric: bool) -> str | None:
  """The text of `find` for a plain number, or for any other formula."""
  found = find(text, Sought(numeric=numeric))
  return found and found.text


def answer_span(
  text: str, *, numeric: bool, rules: Rules = RULES, cut: bool = False
) -> Span | None:
  """Where `find` finds it: `text[start:end]` is it, and start < end.

  None where there is no final answer, or where it is `TooLong`.
  """
  try:
    found = find(text, Sought(numeric=numeric), rules, cut=cut)
  except TooLong:
    return None
  return found and found.span


def stated(text: str) -> str | None:
  """The final answer as free text, for a verifier that reads words.

  Of what follows the thought, the first of: the last box or `<answer>`, the
  line after the last 'answer is', the last line that is not empty. Between
  tags, nothing is dropped: a board may be drawn with _ and Q, [] be a list.

  Raises:
    TooLong: the marked answer is longer than `SPAN` characters.
  """
  span = _reply(text, RULES)
  boxes, opened = marks_lib.boxes(text, span)
  tag = text.rfind('<answer>', *span)
  if boxes and boxes[0].inner[0] > tag:
    return text[slice(*boxes[0].inner)]
  if tag >= 0:
    found = text[tag + 8 : span[1]].partition('</answer>')[0]
    if len(found) > SPAN:
      raise TooLong
    return found.strip() or None
  if opened:
    return None
  tail = text[max(span[0], span[1] - TAIL) : span[1]]
  if matches := list(marks_lib.ANSWER_IS.finditer(tail)):
    tail = tail[matches[-1].end() :].strip().split('\n', 1)[0]
  found = tail.strip().rsplit('\n', 1)[-1].strip()
  if len(found) > SPAN:
    raise TooLong
  return found or None


def last_formula(text: str) -> str | None:
  """The last non-empty formula between $ signs or in LaTeX brackets."""
  found = spans.formulas(text, (0, len(text)))
  return text[slice(*found[-1])] if found else None


def last_number(text: str) -> str | None:
  """The last number in a text, as it stands there; ordinals do not count."""
  span = _number(text, (0, len(text)))
  return span and text[slice(*span)]


def _touches(text, span, end) -> bool:
  """Whether nothing that ends an answer follows it."""
  said = text[slice(*span)]
  if said.endswith(('\\)', '\\]', '$')) or _REASON.search(said):
    return False
  return text[span[1] : end].strip(' ,') == ''


def _found(text, said: Said, marked: bool) -> Found | None:
  if said.span is None or said.span[0] >= said.span[1]:
    return None
  words = text[slice(*said.span)] if said.text is None else said.text
  return Found(words, said.span, marked)


def _reply(text: str, rules: Rules) -> Span:
  start, opened = 0, None
  for tag in _THOUGHT.finditer(text):
    if any(tag.groupdict().values()):
      start, opened = tag.end(), None
    elif opened is None:
      opened = tag.start()
  end = len(text)
  if opened is not None and rules.unfinished_thought == 'none':
    end = opened
  # An analysis of the answer may quote others.
  after = text.rfind('<analysis>', start, end)
  if after >= 0 and text.rfind('</answer>', start, after) >= 0:
    end = after
  return start, end


def _marks(text, span, sought) -> tuple[list[Mark], bool]:
  """The marks, last first, and whether an open one hides what has none."""
  boxes, hidden = marks_lib.boxes(text, span)
  tags, empty = marks_lib.tags(text, span)
  lines, inline = marks_lib.hashes(text, span, sought)
  said = [
    m
    for m in marks_lib.statements(text, span, sought)
    if not any(b.inner[0] <= m.inner[0] < b.end for b in boxes)
  ]
  marks = boxes + tags + lines + said
  marks.sort(key=lambda m: (m.inner[0], m.sort == 'box'), reverse=True)
  # Within a line, #### may as well be a heading.
  return marks + inline, (hidden and not boxes) or (empty and not tags)


def _read(text, mark, marks, sought, rules) -> Said | None:
  """What a mark says. None: nothing of that sort."""
  first = rules.hedges == 'first'
  if mark.sort == 'box':
    boxes = [m for m in marks if m.sort == 'box' and m.inner <= mark.inner]
    if sought.several and (joined := _joined(text, boxes)):
      return joined
    said = sentence.content(text, mark.inner, sought, first)
    if rules.boxes == 'agree' and said.span:
      holds = {text[slice(*m.inner)] for m in boxes}
      said = said if len(holds) == 1 else Said(None)
    return said
  said = sentence.read(text, mark.inner, sought, first)
  if mark.sort == 'said' or said is not None:
    return said
  if mark.sort == 'tag' and '\n' in text[slice(*mark.inner)]:
    return _last_line(text, mark.inner, sought, first)
  return Said(mark.inner)


def _last_line(text, span, sought, first):
  at = text.rfind('\n', *span) + 1
  return sentence.read(text, (at, span[1]), sought, first) or Said(span)


def _joined(text, boxes) -> Said | None:
  r"""'\boxed{1} and \boxed{2}', for a gold that is a list; last first."""
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
  return Said(span, text=sentence.listed(', '.join(values)))


_BETWEEN = re.compile(
  r'(?:[\s$,;&.:}*]|\\[()\[\],; ]|\\quad|\\text\{[\s,]*(?:and|or)[\s,]*\}|'
  r'\b(?:and|or|also|the|other|second|one|another|is|solution|root|value)\b|'
  r'[A-Za-z](?:_\{?\w\}?)?\s?=\s?|[A-Za-z]_\d|\\boxed\s?\{|\\(?:lor|land)){1,24}'
)


def _unmarked(text, span, sought) -> Found | None:
  """The last formula, number or letter; see `find`."""
  start, end = max(span[0], span[1] - TAIL), span[1]
  stated_ = text.rfind('<confidence>', start, end)
  if stated_ >= 0:
    end = stated_
  if sought.choice:
    line = text[start:end].rstrip()
    at = start + max(line.rfind('\n') + 1, len(line) - 60)
    said = letters.choice(text, spans.trim(text, (at, start + len(line))))
    if said and len(text[at : start + len(line)]) < 60:
      return _found(text, said, False)
  inner = spans.formulas(text, (start, end))
  formula = inner[-1] if inner else None
  number = _number(text, (start, end))
  if sought.numeric and formula:
    bare = re.fullmatch(r'[A-Za-z]\w?', text[slice(*formula)])
    if bare or (number and number[1] > formula[1]):
      formula = None
  if formula and len(inner) > 1 and sentence.joined(text, *inner[-2:]):
    if not sought.several:
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
  if not before.strip(' $*'):  # a bare number, after a sentence
    declined = declined or _DECLINED.search(
      text[max(low, span[0] - 90) : span[0]]
    )
  nothing = _NO_ANSWER.search(text[max(low, span[0] - 60) : span[0]])
  if declined or nothing or spans.open_end(before, after):
    return None
  return Found(text[slice(*span)], span, False)


def _number(text: str, span: Span) -> Span | None:
  found = None
  for match in numbers.FIND.finditer(text[slice(*span)]):
    found = span[0] + match.start(), span[0] + match.end()
  return found
