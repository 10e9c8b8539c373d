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


# ------------------------------------------------------------------- markers

_BOXED = re.compile(r'\\(?:boxed|fbox)(?:\s{0,8}(\{)|\s{1,8}([^\s{}$]{1,100}))')
_BRACE = re.compile(r'\\.|[{}]', re.DOTALL)
_ANSWER_IS = re.compile(
  r'\banswer\s{0,8}(?:is|:|=)[\s:*_]{0,16}', re.IGNORECASE
)
_WORD_FIRST = re.compile(r'[\s*_]{0,8}[A-Za-z]{2,}')
_SENTENCE_END = re.compile(r'\.(?:\s|$)|\n|;|!')
_SYMBOLIC = re.compile(r'[\\^*({\[<>]|\bsqrt\b|\bpi\b')


def boxed(text: str) -> str | None:
  r"""What the last closed `\boxed{...}` holds; '' if a box never closes.

  None where there is no box at all. Of nested boxes, the inner one.

  Raises:
    TooLong: the last box holds more than `SPAN` characters.
  """
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
      return match[2].rstrip('.,;')
    close = _closing(window, match.end())
    if close is not None:
      return window[match.end() : close].strip()
    if at + len(window) < len(text):
      raise TooLong
  return '' if opened else None


def tagged(text: str) -> str | None:
  """What the last `<answer>` holds, up to its end tag; None without one.

  Raises:
    TooLong: it holds more than `SPAN` characters.
  """
  at = text.rfind('<answer>')
  if at < 0:
    return None
  at += len('<answer>')
  close = text.find('</answer>', at, at + SPAN + 20)
  if close < 0 and len(text) > at + SPAN:
    raise TooLong
  return text[at : close if close >= 0 else len(text)].strip()


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
  box = boxed(text)
  if box is not None:
    return box or None
  tag = tagged(text)
  if tag is not None:
    return _statement(tag) or tag or None
  at = text.rfind('####')
  if at >= 0:
    rest = text[at + 4 : at + 4 + SPAN + 1]
    line = rest.strip().split('\n', 1)[0]
    if line and not _WORD_FIRST.match(line):
      if len(line) >= SPAN:
        raise TooLong
      return _statement(line) or line
  tail = text[-TAIL:]
  matches = list(_ANSWER_IS.finditer(tail))
  if matches:
    rest = tail[matches[-1].end() :][:SPAN].strip()
    found = _statement(_SENTENCE_END.split(rest, maxsplit=1)[0].strip())
    if found:
      return found
  if not numeric:
    formula = last_formula(tail)
    if formula:
      return formula
  return last_number(tail)


def answer_span(text: str, *, numeric: bool) -> tuple[int, int] | None:
  """Where the characters of `final` stand, (start, end), or None.

  After the marker that `final` read; without one, the last place. None too if
  the answer does not stand there as it was read.

  Raises:
    TooLong: as `final`.
  """
  answer = final(text, numeric=numeric)
  if answer is None:
    return None
  marks = [text.rfind(m) for m in ('\\boxed', '\\fbox', '<answer>', '####')]
  marks += [m.start() for m in _ANSWER_IS.finditer(text)][-1:]
  found = [text.find(answer, at) for at in marks if at >= 0]
  at = next((i for i in found if i >= 0), text.rfind(answer))
  return (at, at + len(answer)) if at >= 0 else None


def stated(text: str) -> str | None:
  """The final answer as free text, for a verifier that reads words.

  The first of: the last box, the last `<answer>`, the line after the last
  'answer is', the last line that is not empty. None if there is none.

  Raises:
    TooLong: the marked answer is longer than `SPAN` characters.
  """
  found = boxed(text)
  if found is None:
    found = tagged(text)
  if found is None:
    tail = text[-TAIL:]
    matches = list(_ANSWER_IS.finditer(tail))
    if matches:
      tail = tail[matches[-1].end() :].strip().split('\n', 1)[0]
    found = tail.strip().rsplit('\n', 1)[-1].strip()
    if len(found) > SPAN:
      raise TooLong
  return found or None


def last_formula(text: str) -> str | None:
  """The last non-empty formula between $ signs or in LaTeX brackets."""
  found = (-1, '')
  for left, right in (('\\(', '\\)'), ('\\[', '\\]')):
    close = text.rfind(right)
    at = text.rfind(left, 0, close) if close >= 0 else -1
    if at >= 0:
      found = max(found, (at, text[at + 2 : close]))
  close = text.rfind('$')
  at = text.rfind('$', 0, max(close, 0))
  while at >= 0 and (close == at + 1 or text[close + 1 : close + 2].isdigit()):
    close, at = at, text.rfind('$', 0, at)  # $$, or '$5' is money
  if at >= 0:
    found = max(found, (at, text[at + 1 : close]))
  return found[1].strip() or None


def last_number(text: str) -> str | None:
  """The last number in a text, as it stands there; ordinals do not count."""
  found = None
  for match in _FIND.finditer(text):
    found = match
  return found[0] if found else None


def _closing(text: str, at: int) -> int | None:
  """Where the brace opened just before `at` closes. `\\{` is a character."""
  depth = 1
  for match in _BRACE.finditer(text, at):
    depth += {'{': 1, '}': -1}.get(match[0], 0)
    if depth == 0:
      return match.start()
  return None


def _statement(text: str) -> str | None:
  """The answer within a sentence such as '18 dollars for 7 days', or None.

  A number alone, else the formula between dollars, else what follows '=',
  else the text itself where it holds mathematics, else its first number.
  """
  if number(text) is not None:
    return text
  formula = last_formula(text)
  if formula:
    return formula
  if _SYMBOLIC.search(text) or not re.search(r'\d', text):
    words = re.search(r'[A-Za-z]{2,}', text) and not _SYMBOLIC.search(text)
    return None if words else text
  after = text.rsplit('=', 1)[-1]
  match = _FIND.search(after)
  if match is None or re.fullmatch(r'[-\d.,/\s]+', after):
    return after.strip() or None  # '1, 2': a list, not its first number
  return match[0]


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
    pair = (
      part['a'] or part['c'] or part['e'],
      part['b'] or part['d'] or part['f'],
    )
    value = _fraction(*pair)
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
