r"""Which plain number is written in a text, exactly?

Text in, `Fraction` out; nothing is evaluated. Every function reads a bounded
part of its input, in linear time, so a number of a million digits costs no more
than an ordinary one.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from rlvr_jax.verifiers.maths import units

SPAN = 4_000  # most characters of an answer
DIGITS = 400  # most digits of a plain number
EXPONENT = 400  # largest power of ten that is written out


class TooLong(ValueError):
  """The answer exceeds the limits `SPAN`, `DIGITS` or `EXPONENT`."""


class Number(NamedTuple):
  """A plain number. `percent`: whether a % sign followed it."""

  value: Fraction
  percent: bool


_DECIMAL = r'(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)'
_MONEY = r'(?:\\?[$£€¥₹] ?)?'
# A number with U+FFFD in it (a token that decodes to no text). It is matched as
# a whole, so that neither a part of it nor an earlier number becomes the
# answer.
_GARBLED = '(?<![\\d.,\ufffd])(?:[\\d.,]+\ufffd|\ufffd+[.,]?\\d)[\\d.,\ufffd]*'
# A minus is a sign unless it stands between two terms.
FIND = re.compile(
  rf'{_GARBLED}|'
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
  | {c: '' for c in '$£€¥₹¢°º˚'}
)
_DROP = re.compile(
  r'\\(?:[$()\[\]!,;: ]|$)|\\(?:left|right|displaystyle)(?![a-zA-Z])'
  r'|\^\{?\\circ\}?|\\degree|\*\*|__'
)
_TEXT = re.compile(
  r'\\(?:text|textbf|mathrm|mathbf|mbox|textrm)\{([^{}]*)\}'
  r'(?:(?<=[A-Za-z.]\})\^\{?[23]\}?)?(?![A-Za-z])'
)
# In a formula. In a sentence, '10% of the class' may answer 'what percent'.
_PART_OF = re.compile(
  r'\\%\s*of\b|(?:%|\bper ?cent)[\s}]*(?:\\text\w*\{\s*of\b|of\s+(?:\d|[b-z]\b|[$\\]))'
  r'|\\text\w*\{[^{}]*(?:%|\bper ?cent)\s+of\b'
)
# 1'234'567 and 1 234 567
_GROUPS = re.compile(
  r"(?<![\w.,'’])\d{1,3}(?:(?:['’]\d{3})+|(?: \d{3})+)(?![\d/,'’])"
)
_LEFT = re.compile(r'[A-Za-z](?:_\{?\w\}?)? ?= ?')
_NUMBER = re.compile(
  r'(?P<sign>[-+]?) ?(?:'
  rf'(?:(?P<whole>\d{{1,9}}) ?)?\\frac ?(?:(?P<a>\d)(?P<b>\d)|(?P<e>\d)\{{(?P<f>\d+)\}}'
  rf'|\{{ ?(?P<c>[-+]?{_DECIMAL}) ?\}} ?\{{ ?(?P<d>[-+]?{_DECIMAL}) ?\}})'
  rf'|(?P<mixed>\d{{1,9}}) (?P<top>\d+)/(?P<bottom>\d+)'
  rf'|(?P<num>{_DECIMAL}|\d+\.)(?:[eE](?P<exp>[+-]?\d+))?'
  rf'(?: ?/ ?(?P<den>{_DECIMAL}))?'
  r'(?: ?(?:\\times|\\cdot|×|\*) ?10(?:\^|\*\*)(?:\{ ?(?P<p>[+-]?\d+) ?\}|(?P<q>[+-]?\d+)))?'
  r')(?P<gap> ?)(?P<rest>.*)',
  re.DOTALL,
)
# Words after a number that are not units: they change its value.
_SCALES = {
  'dozen': 12,
  'hundred': 100,
  'thousand': 1000,
  'million': 10**6,
  'billion': 10**9,
  'trillion': 10**12,
}


def read(text: str) -> Number | None:
  r"""Reads a plain number; returns None for anything else.

  Accepts: sign (also the Unicode minus), thousands commas, decimals, a/b,
  `\frac{a}{b}`, `\frac12`, mixed `2\frac{1}{2}` and `2 1/2`, 1.5e3,
  `2\times 10^{3}`, currency signs, a percent sign, units in words
  ('18 dollars'), scale words ('3 million'), a full stop, `x = 3`.

  Raises:
    TooLong: more than `DIGITS` digits, or an exponent beyond `EXPONENT`.
  """
  text = text.strip()
  if len(text) > SPAN:
    raise TooLong
  text = text.replace('\\$', '').translate(_TRANSLATE)
  for _ in range(3):  # nested ones
    text = _TEXT.sub(' \x01\\1', text)
  text = re.sub(r'\x01(?! ?[A-Za-z])', '', text)
  text = _GROUPS.sub(lambda m: re.sub("['’ ]", '', m[0]), text)
  text = text.replace('{,}', ',').replace('\\%', '%')
  text = re.sub(r'\\[dtc]frac', r'\\frac', _DROP.sub('', text))
  text = text.strip().strip('*').strip()
  left = _LEFT.match(text)
  match = _NUMBER.fullmatch(text, left.end() if left else 0)
  if match is None:
    return None
  scale, percent = _rest(match)
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


def part_of(text: str) -> bool:
  """Whether a percentage is one of something, as in '10% of x'."""
  return _PART_OF.search(text) is not None


def equal(a: Number, b: Number, *, either: bool = True) -> bool:
  """Whether two numbers are equal, exactly.

  A percent sign on one side alone is read both ways: 10% equals 0.1 and also 10
  (the gold answer to 'what percent'). Without `either`, 10% equals 0.1 alone.
  """
  if a.percent == b.percent:
    return a.value == b.value
  ratio = (a if a.percent else b).value, (b if a.percent else a).value
  return (either and ratio[0] == ratio[1]) or ratio[0] / 100 == ratio[1]


def _fraction(top: str, bottom: str) -> Fraction | None:
  bottom = Fraction(bottom.replace(',', ''))
  return Fraction(top.rstrip('.').replace(',', '')) / bottom if bottom else None


def _rest(match: re.Match) -> tuple[Fraction | None, bool]:
  """Returns (scale, percent) of the text after a number.

  A scale of None: the number is not a plain one.
  """
  text = match['rest'].strip()
  if text.startswith('!'):  # a factorial
    return None, False
  breaks_off = re.match(r'\.{2,}|\\[lc]?dots', text)
  if breaks_off and '.' in (match['num'] or ''):  # 3.14...
    return None, False
  text = text.rstrip('.,;!:').strip()
  percent = text.startswith('%')
  text = text[percent:].strip()
  scale = Fraction(1)
  word = text.lstrip('\x01 ').split(' ', 1)[0].lower()
  if word in _SCALES:
    text = text.lstrip('\x01 ')[len(word) :].strip()
    scale = Fraction(_SCALES[word])
  elif sign := re.match(r'[\x01 ]*(?:percent|per cent)\b', text, re.IGNORECASE):
    text, percent = text[sign.end() :].strip(), True
  if not text:
    return scale, percent
  spaced = bool(match['gap']) or text.startswith('\x01')
  return (scale if units.only(text, spaced=spaced) else None), percent
