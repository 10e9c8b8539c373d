r"""Where does a text mark its answer: boxes, tags, ####, 'the answer is'?

Each function searches one span of a text and returns its last marks, the last
one first.
"""

import re
from typing import NamedTuple

from rlvr_jax.verifiers.extraction import spans
from rlvr_jax.verifiers.extraction.numbers import SPAN, TooLong
from rlvr_jax.verifiers.extraction.spans import Span

TAIL = 20_000  # characters at the end of a text searched for an answer
MARKS = 16  # most marks read of each sort, since a text may have any number
_IS = (
  r'(?:[ \t]{0,8},[^,.\n]{0,30},)?[*_ \t`"]{0,8}'
  r'(?:\b(?:is|are|was|equals|(?:would|should|must|will)[ \t]be)\b|[:：=是为は])'
)
ANSWER_IS = re.compile(
  r'(?:(?<![a-z])(?:answers?(?:[ \t](?:choice|option|letter))?'
  r'(?:[ \t](?:to|for|of|in)\b[^.:=\n]{0,80}?)?|ans\.?|(?:solutions|roots)(?='
  r'[ \t]are\b)|(?:correct|right|best|final)[ \t](?:option|choice|letter|'
  r'statement|result|value)|réponse|respuesta|resposta|risposta|antwort|ответ)'
  r'|答案|答え|正解|정답)' + _IS + r'[\s:：*_`"]{0,16}'
  # A heading: a separate line.
  r'|(?:^|\n)[^\w\n]{0,12}(?:(?:final|my|the|your)[ \t]){0,2}answer[^\w\n]{0,8}'
  r'\n[\s*_=-]{0,80}',
  re.IGNORECASE,
)
_IS_THE_ANSWER = re.compile(
  r'(?:^|[\s*(])(\(?[A-J]\)?|[-$]{0,2}\d[\d.,/]{0,30})[*$]{0,3}[ \t]is[ \t]'
  r'(?:(?:the|our|my)[ \t](?:(?:final|correct|right|best)[ \t])?'
  r'(?:answer|option|choice)\b)'
)
_CHOOSE = re.compile(
  r'\b(?:(?:I|we)[ \t](?:would[ \t])?(?:choose|pick|select|go[ \t]with)'
  r'|(?:[Oo]ption|[Cc]hoice)(?=[ \t][(*]{0,3}[A-J]\b[^\n]{1,3}is[ \t](?:the[ \t])?'
  r'(?:correct|right|best|answer)))[ \t]',
)
# 'If the answer is 5' states no answer.
_SUPPOSED = re.compile(
  r'\b(?:if|suppose|assum(?:e|ing)|whether|unless|were)\b[^.\n;:?!]{0,40}$',
  re.IGNORECASE,
)
_WORD_FIRST = re.compile(r'[\s*_]{0,8}[A-Za-z]{2,}|\d{1,2}[.)]\s+[A-Za-z]{2}')
SENTENCE_END = re.compile(
  r'\.(?=[\s*_"`]|$)|\n|;|!(?![\s]{0,2}[.$)!=\d])|[?？。]'
  r'|</?(?:b|strong|i|em|p|div|span|br|h[1-6]|li|td|center|u)\b[ /]{0,2}>'
)
_RULE = re.compile(r'(?:[-=*_]{3,}\s{1,8}){1,4}')
# 'The answer is 3. Or 5.', '3; 5'
_MORE = re.compile(
  r'\.\s{1,4}[Oo]r\b[^.\n]{0,40}|;[ \t]{0,4}-?\d[\d.,]{0,20}'
  r'(?=\s*(?:\n|$)|[ \t]+(?:for|if|when|where|otherwise)\b)'
  r'|;[ \t]{0,4}\(?[2bB][.)][^.;\n]{0,40}'
)
PLACEHOLDER = re.compile(
  r'(?:\\(?:text|textbf|mathrm|mbox)\s?\{)?\s*(?:(?:the|your|my|final|numeric'
  r'(?:al)?|correct)[ _]){0,3}(?:answer|result|value|number|ans|letter|choice|'
  r'solution|expression|content)(?:[ _]here)?\s*\}?|(?:\.|…|\?|_|\\_|#|\s|~|'
  r'\\[lc]?dots|\\[,;:! ]|\\quad|\\square|\\Box|\\ldots|\[\s*\]){0,20}'
  r'|<[^<>]{1,40}>|\[[a-z ]{3,40}\]',
  re.IGNORECASE,
)
QUOTED = re.compile(
  r'(?:`|“|‘|\b(?:such as|like|as in|in the form(?: of)?|e\.g\.,?|'
  r'for example,?)[ \t]{0,2}["\'`]?)\$?$',
  re.IGNORECASE,
)
MENTION = re.compile(
  r'\b(?:in|into|inside|within|with|using|use|a|the)[ \t]+(?:a[ \t]+|the[ \t]+)?'
  r'[$`"\']{0,2}$',
  re.IGNORECASE,
)
NOT = re.compile(r'(?<!\\)(?:\bnot|n[\'’]t|≠|\\neq?)[ \t$*:]{1,4}$')


class Mark(NamedTuple):
  """A stretch that a text marks as its answer."""

  sort: str  # box, tag, hash, phrase
  inner: Span  # what it marks
  end: int  # where the mark ends
  open: bool = False  # it ends only because the text does, so it may be cut


def tags(text: str, span: Span) -> tuple[list[Mark], bool]:
  """Returns the filled `<answer>` tags, last first, and if there was any."""
  start, end = span
  out, opened = [], False
  for _ in range(MARKS):
    at = max(
      text.rfind(tag, start, end)
      for tag in ('<answer>', '<ANSWER>', '<Answer>')
    )
    if at < 0:
      break
    end, inside, opened = at, at + len('<answer>'), True
    closing = '</' + text[at + 1 : inside]
    close = text.find(closing, inside, min(inside + SPAN + 20, span[1]))
    if close < 0 and span[1] > inside + SPAN:
      if not out:
        raise TooLong
      continue
    stop = close if close >= 0 else span[1]
    inner = spans.trim(text, (inside, stop))
    quoted = QUOTED.search(text[max(start, at - 24) : at])
    if not quoted and not PLACEHOLDER.fullmatch(text, *inner):
      out.append(Mark('tag', inner, stop + (close >= 0) * 9, close < 0))
  return out, opened


def hashes(
  text: str, span: Span, expected: spans.Expected
) -> tuple[list[Mark], list[Mark]]:
  """Returns marks where #### begins a line, and others; each last first."""
  lines, inline, end = [], [], span[1]
  for _ in range(MARKS):
    at = text.rfind('####', span[0], end)
    if at < 0:
      break
    end = at
    before = text[max(span[0], at - 8) : at].rsplit('\n', 1)
    start, stop = spans.trim(text, (at + 4, min(at + 5 + SPAN, span[1])))
    line = text[start:stop].split('\n', 1)[0]
    if not line or (
      _WORD_FIRST.match(line) and not (expected.words or expected.choice)
    ):
      continue
    if len(line) >= SPAN:
      raise TooLong
    after = start + len(line)
    unended = text[after : span[1]].strip(' *') == ''
    mark = Mark('hash', (start, after), after, unended)
    leads = len(before) > 1 or at - len(before[0]) == span[0]
    (lines if leads and not before[-1].strip(' *\t') else inline).append(mark)
  return lines, inline


def statements(text: str, span: Span, expected: spans.Expected) -> list[Mark]:
  """Returns what follows phrases such as 'the answer is', in no order."""
  low = max(span[0], span[1] - TAIL)
  out = []
  for match in list(ANSWER_IS.finditer(text, low, span[1]))[-MARKS:]:
    if _SUPPOSED.search(text[max(low, match.start() - 60) : match.start()]):
      continue
    start, stop = _sentence(text, (match.end(), span[1]), expected)
    if text[stop : stop + 1] not in ('?', '？'):
      out.append(Mark('phrase', (start, stop), stop, stop == span[1]))
  for match in list(_IS_THE_ANSWER.finditer(text, low, span[1]))[-MARKS:]:
    out.append(Mark('phrase', match.span(1), match.end()))
  if expected.choice:
    for match in list(_CHOOSE.finditer(text, low, span[1]))[-MARKS:]:
      start, stop = _sentence(text, (match.end(), span[1]), expected)
      out.append(Mark('phrase', (start, stop), stop))
  return out


def _sentence(text: str, span: Span, expected: spans.Expected) -> Span:
  """Returns what follows a mark, up to the end of its sentence or display."""
  start = spans.trim(text, (span[0], min(span[0] + SPAN, span[1])))[0]
  stop = min(start + SPAN, span[1])

  if rule := _RULE.match(text, start, stop):
    start = rule.end()
  if text[start - 1 : start + 1] == '\n>':  # a quotation
    start = spans.trim(text, (start + 1, stop))[0]
  at = start
  for left, right in (
    ('```', '```'),
    ('$$', '$$'),
    ('$', '$'),
    ('\\[', '\\]'),
    ('\\(', '\\)'),
    ('\\begin', '\\end'),
  ):
    if text.startswith(left, start, stop):
      close = text.find(right, start + len(left), stop)
      if close >= 0 and (left != '$' or '\n' not in text[start:close]):
        at = close + len(right)
      break
  label = re.compile(r'\(?[A-J][.)]{1,2}\s').match(text, start, stop)
  if label and not expected.choice:
    at = label.end()
  end = SENTENCE_END.search(text, at, stop)
  while end and end[0] == ';' and expected.choice:  # A; C
    end = SENTENCE_END.search(text, end.end(), stop)
  stop = end.start() if end else stop
  other = _MORE.match(text, stop, span[1])
  return start, other.end() if other else stop
