r"""Which tokens does a mathematical expression consist of, in any notation?

LaTeX, plain notation (`sqrt(2)/2`, `x**2`) and Unicode (`√2`, `x²`) give the
same tokens, which `reader` parses. Nothing is evaluated; the time is linear in
the length of the text, at most `SYMBOLS` characters.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from rlvr_jax.verifiers.maths import spelling

SYMBOLS = 1000  # most characters of an expression
DIGITS = 400  # most digits of a number


class Unreadable(ValueError):
  """The text cannot be parsed as mathematics; the message is the reason."""


class Token(NamedTuple):
  """A token of an expression.

  Kinds: 'num' (value: a Fraction, or a string of digits, since `\\frac12` takes
  single digits), 'sym' a symbol, 'fn' a function, 'set' one of R Z N Q C,
  'text' words, 'op' an operator or a LaTeX command without its backslash.
  """

  kind: str
  value: object
  spaced: bool = False  # white space before it
  decimal: bool = False  # a number written with a decimal point
  upright: bool = False  # \text{...} or \mathrm{...}


FUNCTIONS = frozenset(
  [
    'sin',
    'cos',
    'tan',
    'cot',
    'sec',
    'csc',
    'arcsin',
    'arccos',
    'arctan',
    'arccot',
    'arcsec',
    'arccsc',
    'asin',
    'acos',
    'atan',
    'sinh',
    'cosh',
    'tanh',
    'coth',
    'ln',
    'log',
    'lg',
    'exp',
    'sqrt',
    'cbrt',
    'abs',
    'floor',
    'ceil',
    'gcd',
    'lcm',
    'max',
    'min',
    'binom',
    'sgn',
  ]
)
_UPRIGHT = (
  r'\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|textup|textsc|mbox|'
  r'hbox|mathrm|operatorname\*?) ?\{(?P<inside>[^{}]*)\}'
)
_GREEK_IN_PLAIN = frozenset(spelling.NAMES) - {'mu', 'nu', 'xi', 'eta'} | {
  'Omega'
}
_TOKEN = re.compile(
  r'(?P<space>\ +)'
  rf'|(?P<text>{_UPRIGHT})'
  r'|(?P<blackboard>\\(?:mathbb|Bbb|mathds) ?\{?(?P<of>[A-Za-z])\}?)'
  r'|(?P<env>\\(?P<what>begin|end) ?\{(?P<name>[a-z]*)\*?\}(?:\{[clr| ]*\})?)'
  r'|(?P<cmd>\\(?:[A-Za-z]+|.))'
  r'|(?P<base>(?:(?P<d1>\d[0-9A-Fa-f]*)|\((?P<d2>\d[0-9A-Fa-f]*)\)|(?P<d3>[A-F][0-9A-F]*)(?= ?_ ?\{? ?16)) ?_ ?'
  r'(?:\{ ?(?P<b1>\d{1,2}|(?:\\text ?\{ ?)?[a-z]+ ?\}?) ?\}|(?P<b2>\d{1,2}(?!\d))))'
  r'|(?P<rep>(?P<r0>\d*)\.(?P<r1>\d*)(?:\\(?:overline|bar|dot) ?'
  r'(?:\{(?P<r2>\d+)\}|(?P<r3>\d))(?:(?P<r4>\d*)\\dot ?\{?(?P<r5>\d)\}?)?))'
  r'|(?P<dots>(?P<e0>\d+)\.(?P<e1>\d+) ?(?:\.\.\.|\\[lc]?dots(?![A-Za-z])))'
  r'|(?P<num>(?:\d{1,3}(?:(?:,|\{,\})\d{3})+(?!\d)|\d{1,3}(?: \d{3})+(?![\d/])'
  r'|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?|\d*\.\d+(?:[eE][+-]?\d+)?)'
  r'|(?P<word>[A-Za-z]+)'
  r'|(?P<op>\*\*|<=|>=|!=|=>|==|<>|\.\.\.|.)'
)
_ALIASES = {
  'dfrac': 'frac', 'tfrac': 'frac', 'cfrac': 'frac', 'leq': '<=', 'le': '<=',
  'leqslant': '<=', 'geq': '>=', 'ge': '>=', 'geqslant': '>=', 'lt': '<',
  'gt': '>', 'ne': '!=', 'neq': '!=', '<>': '!=', '==': '=', 'times': '*',
  'cdot': '*', 'ast': '*', 'cdotp': '*', '**': '^', 'div': '/', 'lbrace': '\\{',
  '{': '\\{', 'rbrace': '\\}', '}': '\\}', 'vert': '|', 'lvert': '|',
  'rvert': '|', 'mid': '|', 'colon': ':', 'varnothing': 'emptyset',
  'ldots': '...', 'dots': '...', 'cdots': '...', 'dotsc': '...', 'simeq':
  'approx', 'thickapprox': 'approx', 'sim': 'approx', 'cong': 'approx',
  'doteq': 'approx', 'lor': 'or', 'vee': 'or',
  'land': 'and', 'wedge': 'and', '%': '%', 'dbinom': 'binom', 'tbinom': 'binom',
  'backslash': 'setminus', 'smallsetminus': 'setminus', 'degree': 'deg',
  'lbrack': '[', 'rbrack': ']', 'lparen': '(', 'rparen': ')', 'mod': 'bmod',
  'langle': '(', 'rangle': ')', '&': '&', '|': '|', '#': '#', '_': '_',
  'lVert': '||', 'rVert': '||', 'coloneqq': '=',
}  # fmt: skip
_ENDS = {'varepsilon': 'epsilon', 'vartheta': 'theta', 'varphi': 'phi',
         'varrho': 'rho', 'varsigma': 'sigma'}  # fmt: skip
_SPELT = {'two': 2, 'three': 3, 'four': 4, 'five': 5, 'six': 6, 'seven': 7,
          'eight': 8, 'nine': 9, 'ten': 10, 'twelve': 12, 'sixteen': 16}  # fmt: skip
_SHORT_WORDS = frozenset(
  ['is', 'of', 'to', 'if', 'it', 'we', 'my', 'by', 'no', 'not']
)
_PLAIN = re.compile(
  '(?:'
  + '|'.join(
    sorted(FUNCTIONS | _GREEK_IN_PLAIN | {'infinity'}, key=len, reverse=True)
  )
  + ')'
)


def european(text: str) -> str:
  """Swaps commas and points in numbers: 1.234,5 becomes 1,234.5."""
  swap = str.maketrans(',.', '.,')
  return re.sub(r'\d[\d.,]*(?=\d)', lambda m: m[0].translate(swap), text)


def tokens(text: str, *, thousands: bool = True) -> list[Token]:
  """Splits an expression into tokens.

  Args:
    text: LaTeX, plain notation or Unicode.
    thousands: whether '1,234' is one number; inside brackets it never is.

  Raises:
    Unreadable: it is too long, or holds a number of too many digits or of no
      valid base.
  """
  if len(text) > SYMBOLS:
    raise Unreadable(f'it has more than {SYMBOLS} characters')
  text = re.sub(
    r'\\(?:text|mathrm) ?\{([0-9A-F]+)\} ?_', r'\1_', spelling.plain(text)
  )
  out: list[Token] = []
  at, depth, spaced = 0, 0, False
  while at < len(text):
    match = _TOKEN.match(text, at)
    at, kind = match.end(), match.lastgroup
    # lastgroup names the outermost group that took part.
    if kind == 'space':
      spaced = True
      continue
    if kind == 'num' and ',' in match[0] and (depth or not thousands):
      match = re.compile(r'\d+').match(text, match.start())
      at = match.end()
    fresh = list(_read(kind, match, out, text[at : at + 12]))
    if fresh:
      fresh[0] = fresh[0]._replace(spaced=spaced)
      spaced = False
    for token in fresh:
      if token.kind == 'op':
        depth += (token.value in ('(', '[', '\\{')) - (
          token.value in (')', ']', '\\}')
        )
    out += fresh
  return out


def _read(
  kind: str, match: re.Match, before: list[Token], after: str
) -> Iterator[Token]:
  """Yields the tokens of one match."""
  text = match[0]
  if kind == 'num':
    yield number(text)
  elif kind == 'base':
    yield Token('num', _based(match['d1'] or match['d2'] or match['d3'], match))
  elif kind == 'rep':
    block = match['r2'] or match['r3']
    if match['r5']:
      block += match['r4'] + match['r5']
    yield Token('num', repeating(match['r0'], match['r1'], block))
  elif kind == 'dots':
    period = re.search(r'(?:(\d)\1{2,}|(\d{2,9})\2+)$', match['e1'])
    if not period:
      raise Unreadable('it is cut off by an ellipsis')
    block = period[1] or period[2]
    fixed = match['e1'][: period.start()]
    yield Token('num', repeating(match['e0'], fixed, block))
  elif kind == 'text':
    yield from _upright(match)
  elif kind == 'blackboard':
    yield Token('set', match['of'])
  elif kind == 'env':
    yield Token('op', f'{match["what"]} {match["name"]}')
  elif kind == 'cmd':
    yield _command(text[1:])
  elif kind == 'word':
    yield from _word(text, before, after)
  else:
    yield Token(
      'op', {'**': '^', '==': '=', '<>': '!=', '\x03': 'row'}.get(text, text)
    )


def number(text: str) -> Token:
  """Parses a decimal numeral, with commas or spaces between thousands."""
  text = re.sub(r'[{}, ]', '', text)
  mantissa, _, power = text.lower().partition('e')
  if len(mantissa) > DIGITS or len(power) > 4 or abs(int(power or 0)) > DIGITS:
    raise Unreadable(f'it has a number of more than {DIGITS} digits')
  if text.isdecimal():
    return Token('num', text)
  value = Fraction(mantissa) * Fraction(10) ** int(power or 0)
  return Token('num', value, decimal='.' in mantissa)


def repeating(whole: str, fixed: str, block: str) -> Fraction:
  """Returns a repeating decimal: 0.1666... for ('0', '1', '6')."""
  if len(whole + fixed + block) > DIGITS:
    raise Unreadable(f'it has a number of more than {DIGITS} digits')
  tail = Fraction(int(block), 10 ** len(block) - 1)
  return int(whole or 0) + (int(fixed or 0) + tail) / 10 ** len(fixed)


def _based(digits: str, match: re.Match) -> Fraction:
  base = match['b1'] or match['b2']
  if not base.isdecimal():
    base = _SPELT.get(re.sub(r'\\text|[{} ]', '', base), 0)
  base = int(base)
  try:
    if not 2 <= base <= 36 or len(digits) > DIGITS:
      raise ValueError
    return Fraction(int(digits, base))
  except ValueError:
    raise Unreadable(f'{match[0]} is not a number in that base') from None


def _upright(match: re.Match) -> Iterator[Token]:
  inside = ' '.join(match['inside'].split())
  name = match[0].startswith(('\\mathrm', '\\operatorname'))
  if inside in FUNCTIONS or (name and inside in ('e', 'i', 'd', 'pi')):
    yield from _word(inside, [], '')
  elif inside.lower() in ('or', 'and'):
    yield Token('op', inside.lower())
  elif inside == 'mod':
    yield Token('op', 'bmod')
  elif re.search(r'\d', inside) or inside in (',', ';'):
    yield from tokens(inside)
  elif inside:
    yield Token('text', inside, upright=True)


def _command(name: str) -> Token:
  name = _ENDS.get(name, name)
  if name in ('dbinom', 'tbinom'):
    name = 'binom'
  if name in _ALIASES:
    return Token('op', _ALIASES[name])
  if name in spelling.GREEK:
    return Token('sym', name)
  if name in FUNCTIONS or name in ('arcsec', 'Gamma'):
    return Token('fn', name)
  if name == 'infty':
    return Token('sym', 'oo')
  if name in ('R', 'Z', 'N', 'Q', 'C', 'reals'):
    return Token('set', name[0].upper())
  if name == 'ell':
    return Token('sym', 'l')
  return Token('op', name)


def _word(text: str, before: list[Token], after: str) -> Iterator[Token]:
  """Reads letters as functions, Greek letters, or a product of symbols."""
  if text in ('or', 'and'):
    yield Token('op', text)
  elif text.lower() in ('infinity', 'inf', 'oo') and len(text) > 1:
    yield Token('sym', 'oo')
  elif text == 'in' and re.match(r' ?[\[({\\]', after):
    yield Token('op', 'in')
  elif text == 'mod':
    yield Token('op', 'bmod')
  elif (
    text in ('x', 'X')
    and before
    and before[-1].kind == 'num'
    and (re.match(r' ?\d', after))
  ):
    yield Token('op', '*')
  else:
    pieces = _pieces(text)
    if pieces is None:
      yield Token('text', text)
      return
    for piece in pieces:
      if piece in FUNCTIONS:
        yield Token('fn', piece)
      else:
        yield Token('sym', piece)


def _pieces(text: str) -> list[str] | None:
  """Splits 'xsin' into x, sin; None for a word that is no such product."""
  if text in FUNCTIONS or text in _GREEK_IN_PLAIN or len(text) == 1:
    return [text]
  if text.lower() in _SHORT_WORDS:
    return None
  out, at = [], 0
  while at < len(text):
    match = _PLAIN.match(text, at)
    out.append(match[0] if match else text[at])
    at += len(out[-1])
  letters = sum(len(piece) == 1 for piece in out)
  if letters > 3 or (letters > 1 and letters < len(out)):
    return None
  if letters == 3 and _is_word(text):
    return None
  return out


def _is_word(text: str) -> bool:
  """Whether three letters are a word (red), not a product (abc, lwh, ABC)."""
  vowel = re.search('[aeiou]', text[1:])
  return bool(vowel) and list(text.lower()) != sorted(text.lower())
