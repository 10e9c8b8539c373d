r"""Where in a text are formulas, and numbers that stand on their own?"""

import re
from typing import NamedTuple

from rlvr_jax.verifiers.extraction import numbers

Span = tuple[int, int]  # (start, end) in the whole text


class Expected(NamedTuple):
  """The form of answer that a gold answer calls for; by default, a formula."""

  numeric: bool = False  # a plain number
  choice: bool = False  # a letter, A to J
  words: bool = False  # such as a name, or yes
  several: bool = False  # a set or a list of values


class Statement(NamedTuple):
  """The answer in a marked stretch. `span` None: no single answer (a hedge)."""

  span: Span | None
  clean: bool = True  # whether the stretch holds nothing but the answer
  text: str | None = None  # the answer, if it differs from the text at `span`


FUNCTIONS = (
  r'(?:sqrt|sinh?|cosh?|tanh?|arcsin|arccos|arctan|log|ln|exp|min|max|gcd|lcm|'
  r'mod|cot|sec|csc|det|pi|and|or)\b'
)
# Words of prose, as opposed to names that formulas use.
PROSE = re.compile(rf'(?<![A-Za-z\\{{])(?!{FUNCTIONS})[A-Za-z]{{3,}}')
_PICTURES = ''.join(
  map(chr, [*range(0x2600, 0x27C0), 0xFE0F, *range(0x1F300, 0x1FB00)])
)
DECORATION = ' \t\r\n*_`"\'“”' + _PICTURES
_WORDS = re.compile(
  rf'\b(?!{FUNCTIONS})[a-z]{{2,}}[ ,]+(?!{FUNCTIONS})[a-z]{{2,}}\b'
)
_SIGN = re.compile(r'\\\\|\\\$|\$\$|\$|\\[()\[\]]')
_CLOSES = {'$$': '$$', '$': '$', '\\(': '\\)', '\\[': '\\]'}
_OPERAND_BEFORE = re.compile(
  r'(?:[\^÷×·⋅√{\\±≥≤≠]|<=?|[ \t\d)]>=?|\\(?:times|cdot|div|sqrt|pm|geq?|leq?|'
  r'neq?|gt|lt|in)\s*|\d\s*:|'
  r'(?:\d|[)\]}]|(?<![A-Za-z])[A-Za-z])[ \t]*[-+−–*/]{1,2}|\d(?:[,;]| and| or| to|'
  r' through| vs\.?| versus|[ \t]*\|)|[A-Za-z]\(|\b(?:sqrt|sin|cos|tan|log|ln|'
  r'mod|modulo|times|divided by|plus|minus|negative)\(?|\d[ \t]*[xX])[ \t$]*$'
)
_OPERAND_AFTER = re.compile(
  r'[ \t]*(?:[\^×÷·⋅√π_}⁄∕∙∗²³¹⁰⁴-⁹ⁿ½⅓⅔¼¾⅕-⅞!]|\\(?!\)|\]|%|,|;|text|mathrm|\s|$|n)|[-+−–/*][ \t]*'
  r'(?:\d|\\|\(|\?|[A-Za-z]\b)|\((?![A-Za-z]{3})|[*+][ \t]*$|=(?![ \t]*[A-Za-z]\b)|:\d|[\'’]\d|!?\?|≈|<|>|,\d|'
  r'\|[ \t]*\d|(?:squared|cubed|factorial|mod|modulo|choose|pi)\b|'
  r'(?:plus|minus|times|multiplied by|divided by)[ \t]+[\\\d$(])'
)
_REFERENCE = re.compile(
  r'(?:\b(?:step|fig(?:ure)?\.?|eq(?:uation)?\.?|case|problem|question|part|'
  r'section|table|line|page|option|choice|method|example|note|theorem|lemma|'
  r'item|rule|chapter|exercise)s?[ \t]{0,2}[(#]{0,2}|\n[ \t#>*]{0,6})$',
  re.IGNORECASE,
)
_OPEN_BEFORE = re.compile(
  r'\d\W*(?:\w+\W+){0,2}?or\s+(?:[\w=]+\s+){0,3}\W*$|'
  r'\b(?:[a-z] is at (?:least|most)|(?:more|less|fewer|greater|larger|smaller|higher|lower|'
  r'other) than|nearly|almost|up to|below|above)\s+\W*$|'
  r'(?:not|n[\'’]t)\s+(?:\w+\s+)?\W*$|\b(?:if|suppose|assum(?:e|ing)|let|whether|'
  r'unless)\b(?:[^,.\d=]{0,40}|\s+[A-Za-z]\w?\s*=\s*)$',
  re.IGNORECASE,
)
_ASKED = re.compile(
  r'\s*(?:what (?:is|are)|how (?:much|many)|which)\b(?![^,:=]*[a-z] (?:is|are|was|'
  r'has|have)\W{0,3}$)[^,:=]{0,60}$|[^,:=]{0,60}\b(?:I|we)'
  r'(?:[\'’]ll| will| shall| can)? (?:try|guess)\b',
  re.IGNORECASE,
)
_OPEN_AFTER = re.compile(
  r'\D{0,24}\bor\b[^.\n]{0,24}\d|\W{0,4}(?:is|are|was|were|can|would|does|do|will|'
  r'may|might|could)(?:n[\'’]t|[ \t]+(?:not|wrong|incorrect|false|too|possible|a '
  r'guess))\b',
  re.IGNORECASE,
)
# Words that turn the number after (or before) them into another number.
_WORKED_BEFORE = re.compile(
  r'\b(?:half|twice|thrice|double|triple|no longer|never|hardly|far from|'
  r'close to|near|to the|(?:number|integer|prime|term|even|odd|digit) (?:after|'
  r'before|sum of)|'
  r'(?:divisible|divided|multiplied) by|'
  r'(?:third|quarter|square|cube|root|reciprocal|inverse|factorial|multiples?|'
  r'divisors?|factors?|power|logarithm|log|digits?|complement|opposite|negative|'
  r'percent(?:age)?|%|sine|cosine|tangent)[ \t]+of|(?:square |cube )?root)'
  r'(?:[ \t]+(?:of|as|the|a|an|number))*[ \t$\\(]*$',
  re.IGNORECASE,
)
_WORKED_AFTER = re.compile(
  r'[ \t$]*(?:(?:\\?%|per ?cent\b)[ \t]*)?(?:and an?[ -](?:half|third|quarter)\b|(?:multiplied by|divided by|plus|'
  r'minus|over|modulo|mod|choose|squared|cubed|factorial|raised|increased|decreased|reduced|'
  r'times[ \t]+the[ \t]+(?:square|cube|root)|out of|in base|base)\b|'
  r'(?:times|(?:less|more|fewer|greater)[ \t]than|of)[ \t]+(?:[b-z]\b|[$\\\d(])|'
  r'-(?:gon|sided)\b|\((?:in )?base\b|(?:doubled|tripled|halved|halves|thirds|'
  r'(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand)ths|tens)\b)',
  re.IGNORECASE,
)
_EMPHASIS = re.compile(r'[*_`$]{1,6}$')


def trim(text: str, span: Span, extra: str = '') -> Span:
  """Returns the span without white space, emphasis and quotes at both ends.

  Args:
    extra: further characters to drop at the right end.
  """
  inside = text[slice(*span)]
  rest = inside.lstrip(DECORATION)
  head = inside[: len(inside) - len(rest)]
  at = head.rfind('>')
  if at >= 0:  # '>' quotes a line, or it means 'greater than'
    line = text[max(0, span[0] + at - 20) : span[0] + at].rsplit('\n', 1)
    if (len(line) < 2 and span[0] + at > 0) or line[-1].strip(' >'):
      rest = inside[at:]
  start = span[0] + len(inside) - len(rest)
  return start, max(start, span[0] + len(inside.rstrip(DECORATION + extra)))


def formulas(text: str, span: Span) -> list[Span]:
  """Returns the formulas between dollar signs or in LaTeX brackets, in order.

  A dollar sign before an amount of money, or one without a partner, opens no
  formula; prose between two dollar signs is no formula.
  """
  out, opened = [], None
  for sign in _SIGN.finditer(text, *span):
    kind = sign[0]
    if opened is None or kind in ('\\(', '\\['):
      opened = sign if kind in _CLOSES else opened
      continue
    if kind != _CLOSES[opened[0]]:
      continue
    inner = opened.end(), sign.start()
    money = kind == '$' and (
      text[sign.end() : sign.end() + 1].isdigit() or _is_money(text, inner)
    )
    if money:
      opened = sign
      continue
    opened, inner = None, trim(text, inner)
    if inner[0] < inner[1]:
      out.append(inner)
  return out


def _is_money(text: str, inner: Span) -> bool:
  """Whether it is prose between two prices: '5 for each. He has 7'."""
  inside = text[slice(*inner)]
  bare = without_text(inside)
  prose = inside[:1].isdigit() and PROSE.search(bare)
  return bool('\n' in inside or prose or _WORDS.search(bare))


def without_text(latex: str) -> str:
  r"""Returns LaTeX without commands and their arguments, such as \text{}."""
  return re.sub(r'\\[a-zA-Z]+(?:\{[^{}]*\})?', ' ', latex)


def worked(before: str, after: str) -> bool:
  """Whether the text around a number computes with it: 'half of 5'."""
  if unsolved(before) or _WORKED_BEFORE.search(before[-60:]):
    return True
  return _WORKED_AFTER.match(after) is not None


def unsolved(before: str) -> bool:
  """Whether `before` ends in the left side of an equation such as '2x = '."""
  left = re.search(r'(?:(?<![A-Za-z])[xyznk](?![A-Za-z])|[\d\s^*/+−().²³-]){1,40}'
                   r'=[ \t]*\$?$', before[-60:])  # fmt: skip
  if left is None:
    return False
  terms = re.sub(r'(?<=[\d) ])[xX](?= ?[\d$(.])', '*', left[0])  # 3 x 4 = 12
  names = set(re.findall('[xyznk]', terms))
  return len(names) == 1 and re.fullmatch(r'\W*\w\W*', terms) is None


def open_end(before: str, after: str) -> bool:
  """Whether the sentence around a number leaves other values possible.

  Args:
    before: the sentence up to the number.
    after: the rest of it.
  """
  if worked(before, after) or _ASKED.match(before):
    return True
  return bool(_OPEN_BEFORE.search(before[-80:]) or _OPEN_AFTER.match(after))


def _numbered(text: str, start: int, end: int, low: int) -> bool:
  """Whether a final '5.' begins an item of a list that has a '4.'."""
  before = text[max(low, start - 2000) : start]
  number = text[start:end]
  if not re.search(r'(?:^|\n)[ \t*#>]*$', before) or not number.isdecimal():
    return False
  one = int(number[:6]) - 1
  return re.search(rf'(?:^|\n)[ \t*#>]*{one}[.)]\s', before) is not None


def stands(text: str, start: int, end: int, low: int = 0) -> bool:
  """Whether a number stands on its own: no part of `7*12`, `1:2`, `3x`.

  Args:
    low: where the searched part of the text begins.
  """
  before, after = text[max(low, start - 40) : start], text[end : end + 24]
  mark = _EMPHASIS.search(before)
  if mark and after.startswith(mark[0].lstrip('$') or mark[0]):
    before = before[: mark.start()]
    after = after[len(mark[0]) :]
  percent_of = r'[ \t]*(?:\\text\w{0,2}\{\s*of\b|of[ \t]+(?:[b-z]\b|\$|\\))'
  if text[end - 1] == '%' and re.match(percent_of, after):
    return False
  if _OPERAND_BEFORE.search(before) or _OPERAND_AFTER.match(after):
    return False
  if re.match(r'[.)]\s*$', after) and _numbered(text, start, end, low):
    return False
  place = _REFERENCE.search('\n' + before if start - low < 40 else before)
  if place and (place[0].strip(' \n#>*') or re.match(r'[.)]\s+\S', after)):
    return False
  attached = re.match(r'[A-Za-z]{1,20}', after)
  if attached and after[attached.end() : attached.end() + 1].isdigit():
    return False  # 5h30m
  if attached:
    return numbers.read(f'{text[start:end]} {attached[0]}') is not None or (
      len(attached[0]) > 2
    )
  return True
