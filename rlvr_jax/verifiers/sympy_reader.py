"""Reads formulas in Python's notation into sympy objects; evaluates no text.

sympy's own readers (`parse_expr`, `sympify` of a string) hand the text to
`eval`. This one is a tokenizer and a parser of its own:

  sum    = product (('+' | '-') product)*
  product = sign (('*' | '/') sign)*
  sign   = ('+' | '-') sign | power
  power  = atom ('**' sign)?
  atom   = number | NAME | FUNCTION '(' sum ')' | '(' sum ')'

with Python's precedence, so the value is what sympy's reader would give.
`replace_sympys` puts it in that reader's place for a whole process, since
libraries too hand strings to sympy.
"""

import importlib
import re
import sys

SIZE = 1000  # characters
DEPTH = 50  # brackets, signs and powers within each other
EXPONENT = 1000  # of a plain number as exponent, in absolute value
BITS = 10_000  # of a number that a power of numbers may give

_FUNCTIONS = """
  sin cos tan cot sec csc asin acos atan sinh cosh tanh asinh acosh atanh
  exp log ln sqrt Abs
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
_CONSTANTS = ('E', 'pi', 'I')
_TOKEN = re.compile(
  r'\s*(\d{1,30}(?:\.\d{0,30})?(?![\d.])|[A-Za-z_][A-Za-z_0-9]{0,30}'
  r'|\*\*|[-+*/()])'
)
_LITERAL = re.compile(r'[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,9})?')


def read(text: str):
  """The sympy object of a formula, built as Python's operators would.

  Names that are no function and no constant become symbols.

  Raises:
    ValueError: not in the grammar, or larger than what is read.
    ZeroDivisionError: division by the number 0.
  """
  if len(text) > SIZE:
    raise ValueError(f'It has more than {SIZE} characters.')
  tokens, at = [], 0
  text = text.rstrip()
  while at < len(text):
    match = _TOKEN.match(text, at)
    if match is None:
      raise ValueError(f'{text[at : at + 20]!r} is no formula.')
    tokens.append(match[1])
    at = match.end()
  sympy = importlib.import_module('sympy')
  value, end = _sum(sympy, tokens, 0, 0)
  if end != len(tokens):
    raise ValueError(f'{tokens[end]!r} is out of place.')
  return value


def _sum(sympy, tokens, at, depth):
  value, at = _product(sympy, tokens, at, depth)
  while at < len(tokens) and tokens[at] in '+-':
    term, end = _product(sympy, tokens, at + 1, depth)
    value = value + term if tokens[at] == '+' else value - term
    at = end
  return value, at


def _product(sympy, tokens, at, depth):
  value, at = _signed(sympy, tokens, at, depth)
  while at < len(tokens) and tokens[at] in '*/':
    factor, end = _signed(sympy, tokens, at + 1, depth)
    if tokens[at] == '/' and factor == 0:
      raise ZeroDivisionError
    value = value * factor if tokens[at] == '*' else value / factor
    at = end
  return value, at


def _signed(sympy, tokens, at, depth):
  if depth > DEPTH:
    raise ValueError(f'It nests deeper than {DEPTH}.')
  if at >= len(tokens):
    raise ValueError('It ends too early.')
  if tokens[at] in ('+', '-'):
    value, end = _signed(sympy, tokens, at + 1, depth + 1)
    return (value if tokens[at] == '+' else -value), end
  value, at = _atom(sympy, tokens, at, depth)
  if at < len(tokens) and tokens[at] == '**':
    exponent, at = _signed(sympy, tokens, at + 1, depth + 1)
    value = _power(value, exponent)
  return value, at


def _power(base, exponent):
  if exponent.is_number:
    if not (exponent.is_Rational and abs(exponent) <= EXPONENT):
      if exponent.is_Rational or base.is_number:
        raise ValueError(f'An exponent is beyond {EXPONENT}.')
    elif base.is_Rational:
      size = max(abs(base.p), base.q).bit_length()
      if size * abs(exponent) > BITS:
        raise ValueError('A power is too large.')
      if base == 0 and exponent < 0:
        raise ZeroDivisionError
  return base**exponent


def _atom(sympy, tokens, at, depth):
  token = tokens[at]
  if token[0].isdigit():
    whole, _, part = token.partition('.')
    return sympy.Rational(int(whole + part), 10 ** len(part)), at + 1
  if token == '(':
    return _bracket(sympy, tokens, at, depth)
  if token in FUNCTIONS:
    value, at = _bracket(sympy, tokens, at + 1, depth)
    return getattr(sympy, token)(value), at
  if token[0].isalpha() or token[0] == '_':
    if token in _CONSTANTS:
      return getattr(sympy, token), at + 1
    return sympy.Symbol(token), at + 1
  raise ValueError(f'{token!r} is out of place.')


def _bracket(sympy, tokens, at, depth):
  if at >= len(tokens) or tokens[at] != '(':
    raise ValueError('A bracket is missing.')
  value, at = _sum(sympy, tokens, at + 1, depth + 1)
  if at >= len(tokens) or tokens[at] != ')':
    raise ValueError('A bracket does not close.')
  return value, at + 1


def replace_sympys() -> None:
  """In this process, sympy reads strings by `read`, and evaluates none.

  Does nothing where sympy is not imported. Numbers become what they were: an
  `Integer`, or a `Float` of the text.
  """
  parser = sys.modules.get('sympy.parsing.sympy_parser')
  if parser is not None:
    parser.parse_expr = _parse_expr  # what `sympify` calls
    parser.eval_expr = _refuse  # for those who imported the other by name


def _parse_expr(text: str, *args, **kwargs):
  sympy = importlib.import_module('sympy')
  text = text.strip()
  if _LITERAL.fullmatch(text):
    whole = text.lstrip('+-').isdigit()
    return sympy.Integer(int(text)) if whole else sympy.Float(text)
  try:
    return read(text)
  except (ValueError, ZeroDivisionError) as e:
    raise SyntaxError(str(e)) from e  # which `sympify` expects


def _refuse(*args):
  raise RuntimeError('sympy evaluates no strings in this process.')
