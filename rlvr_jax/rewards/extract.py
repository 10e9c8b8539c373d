r"""Finds the final answer in a text, and reads plain numbers, exactly.

Text in, text or `Fraction` out; nothing is evaluated. Every function reads a
bounded part of its input and takes time linear in it, so that a line of a
megabyte or a number of a million digits costs no more than a sane one.
"""

import re
from fractions import Fraction
from typing import NamedTuple

TAIL = 20_000  # characters at the end that are searched for an answer
SPAN = 4_000  # characters that one marked answer may have
DIGITS = 400  # digits that a plain number may have
EXPONENT = 400  # largest power of ten that is written out


class TooLong(ValueError):
  """The answer is longer than what is read."""


class Number(NamedTuple):
  """A plain number. `percent`: a % sign followed it."""

  value: Fraction
  percent: bool


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
  for match in _FIND.finditer(text[slice(*span)]):
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
  if number(sentence) is not None:
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
  match = _FIND.search(after)
  if match is None or re.fullmatch(r'[-\d.,/\s]+', after):
    # '1, 2': a list, not its first number
    return _filled(_stripped(text, (start, span[1])))
  return start + match.start(), start + match.end()


# ------------------------------------------------------------------- numbers

_DECIMAL = r'(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)'
_MONEY = r'(?:\\?[$£€¥₹] ?)?'
# A minus is a sign unless it stands between two terms.
_FIND = re.compile(
  r'(?:(?<![\w)\]}$%.])[-−–])?'
  + _MONEY
  + r'(?:'
  + r'(?<![\w.\\])(?:\d{1,9} ?)?\\[dt]?frac ?(?:\d\d|\d\{\d+\}|'
  + rf'\{{-?{_DECIMAL}\}} ?\{{-?{_DECIMAL}\}})'
  + r'|(?<![\w.,])\d{1,9} \d{1,9}/\d{1,9}(?![\d/])'
  + rf'|(?<![\w.]){_DECIMAL}(?:[eE][+-]?\d+)?(?!\d|st\b|nd\b|rd\b|th\b)'
  + rf'(?: ?/ ?{_DECIMAL})?'
  + r')(?: ?\\?%| (?:hundred|thousand|million|billion|trillion)\b)?'
)
_TRANSLATE = str.maketrans(
  {c: '-' for c in '−–—﹣－'}
  | {c: ' ' for c in '\u00a0\u202f\u2009\u2007~'}
  | {c: '' for c in '$£€¥₹°'}
)
_DROP = re.compile(
  r'\\[$()\[\]!,;: ]|\\(?:left|right|displaystyle)(?![a-zA-Z])'
  r'|\^\{?\\circ\}?|\\degree|\*\*|__'
)
_TEXT = re.compile(
  r'\\(?:text|textbf|mathrm|mathbf|mbox|textrm)\{([^{}]*)\}(?:\^\{?[23]\}?)?'
)
_LEFT = re.compile(r'[A-Za-z](?:_\{?\w\}?)? ?= ?')
# A unit: words in \text{} (marked \x01), or words of which the first is no
# product of letters, as 'xy' in 2xy may be.
_UNIT = re.compile(
  r'(?:\x01 ?[A-Za-z]+|[A-Za-z]{4,}|(?:km|kg|cm|mm|ml|mg|lbs?|oz|mph|hrs?|mins?|'
  r'am|pm|ft|st|nd|rd|th|usd|per|of|day|men)\b)(?:[ /.-]+[A-Za-z]+)*',
  re.IGNORECASE,
)
_NUMBER = re.compile(
  r'(?P<sign>[-+]?) ?(?:'
  rf'(?:(?P<whole>\d{{1,9}}) ?)?\\frac ?(?:(?P<a>\d)(?P<b>\d)|(?P<e>\d)\{{(?P<f>\d+)\}}'
  rf'|\{{ ?(?P<c>[-+]?{_DECIMAL}) ?\}} ?\{{ ?(?P<d>[-+]?{_DECIMAL}) ?\}})'
  rf'|(?P<mixed>\d{{1,9}}) (?P<top>\d+)/(?P<bottom>\d+)'
  rf'|(?P<num>{_DECIMAL}|\d+\.)(?:[eE](?P<exp>[+-]?\d+))?'
  rf'(?: ?/ ?(?P<den>{_DECIMAL}))?'
  r'(?: ?(?:\\times|\\cdot|×|\*) ?10(?:\^|\*\*)(?:\{ ?(?P<p>[+-]?\d+) ?\}|(?P<q>[+-]?\d+)))?'
  r') ?(?P<rest>.*)',
  re.DOTALL,
)
# Words after a number that are no units: they change what it is.
_SCALES = {
  'dozen': 12,
  'hundred': 100,
  'thousand': 1000,
  'million': 10**6,
  'billion': 10**9,
  'trillion': 10**12,
}
_NOT_UNITS = re.compile(
  r'\b(?:pi|sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|mod|infinity|inf|nan|or|and|'
  r'to|plus|minus|times|over|divided|squared|cubed|theta|alpha|beta)\b'
)


def number(text: str) -> Number | None:
  r"""Reads a plain number, or returns None for anything else.

  Takes: sign (also the Unicode minus), thousands commas, decimals, a/b,
  `\frac{a}{b}`, `\frac12`, mixed `2\frac{1}{2}` and `2 1/2`, 1.5e3,
  `2\times 10^{3}`, currency signs, a percent sign, units in words
  ('18 dollars'), scale words ('3 million'), a full stop, `x = 3`.

  Raises:
    TooLong: more than `DIGITS` digits, or an exponent beyond `EXPONENT`.
  """
  text = text.strip()
  if len(text) > SPAN:
    raise TooLong
  text = _TEXT.sub(' \x01\\1', text.replace('\\$', '').translate(_TRANSLATE))
  text = re.sub(r'\x01(?! ?[A-Za-z])', '', text)
  text = text.replace('{,}', ',').replace('\\%', '%')
  text = re.sub(r'\\[dtc]frac', r'\\frac', _DROP.sub('', text))
  text = text.strip().strip('*').strip()
  left = _LEFT.match(text)
  match = _NUMBER.fullmatch(text, left.end() if left else 0)
  if match is None:
    return None
  scale, percent = _rest(match['rest'])
  if scale is None:
    return None
  if sum(c.isdigit() for c in match[0]) > DIGITS:
    raise TooLong
  part = match.groupdict()
  if part['num']:
    value = _fraction(part['num'], part['den'] or '1')
    power = int(part['exp'] or 0) + int(part['p'] or part['q'] or 0)
    if abs(power) > EXPONENT:
      raise TooLong
    scale *= Fraction(10) ** power
  elif part['mixed']:
    value = _fraction(part['top'], part['bottom'])
    value = None if value is None else int(part['mixed']) + value
  else:
    top = part['a'] or part['c'] or part['e']
    value = _fraction(top, part['b'] or part['d'] or part['f'])
    value = None if value is None else int(part['whole'] or 0) + value
  if value is None:
    return None
  return Number((-value if part['sign'] == '-' else value) * scale, percent)


def equal(a: Number, b: Number) -> bool:
  """Exact equality; a percent sign on one side is read both ways.

  10% equals 0.1 and also 10 (a gold answer 10 to 'what percent'); 10% and
  10% compare as written. This is what math-verify does too.
  """
  if a.percent == b.percent:
    return a.value == b.value
  ratio = (a if a.percent else b).value, (b if a.percent else a).value
  return ratio[0] == ratio[1] or ratio[0] / 100 == ratio[1]


def _fraction(top: str, bottom: str) -> Fraction | None:
  bottom = Fraction(bottom.replace(',', ''))
  return Fraction(top.rstrip('.').replace(',', '')) / bottom if bottom else None


def _rest(text: str) -> tuple[Fraction | None, bool]:
  """(scale, percent) of what follows a number; scale None: not plain."""
  text = text.strip().rstrip('.,;!:').strip()
  percent = text.startswith('%')
  text = text[percent:].strip()
  scale = Fraction(1)
  word = text.lstrip('\x01 ').split(' ', 1)[0].lower()
  if word in _SCALES or word in ('percent', 'per'):
    text = text.lstrip('\x01 ')
  if word in _SCALES:
    scale, text = Fraction(_SCALES[word]), text[len(word) :].strip()
  elif word in ('percent', 'per') and text.lower().startswith(
    ('percent', 'per cent')
  ):
    text, percent = '', True
  if not text:
    return scale, percent
  if not _UNIT.fullmatch(text) or _NOT_UNITS.search(text.lower()):
    return None, percent
  return scale, percent
