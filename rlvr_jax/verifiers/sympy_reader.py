"""Which sympy object does a formula in Python's notation mean, without eval?

sympy's own parsers (`parse_expr`, `sympify` of a string) pass the text to
`eval`. This one is a separate tokenizer and parser:

  sum    = product (('+' | '-') product)*
  product = sign (('*' | '/') sign)*
  sign   = ('+' | '-') sign | power
  power  = atom ('**' sign)?
  atom   = number | NAME | FUNCTION '(' sum ')' | '(' sum ')'

with Python's precedence, so the value is the one that sympy's parser would
give. `replace_sympys` replaces that parser in the whole process, since
libraries pass strings to sympy too.
"""

import importlib
import re
import sys
from types import ModuleType
from typing import Any

SIZE = 1000  # most characters
DEPTH = 50  # deepest nesting of brackets, signs and powers
EXPONENT = 1000  # largest absolute value of a rational exponent
BITS = 10_000  # most bits of a power of numbers

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

Expression = Any  # a sympy.Expr; sympy is slow to import, so only when needed


def read(text: str) -> Expression:
  """Parses a formula into the sympy object that Python's operators would build.

  Names other than functions and constants become symbols.

  Raises:
    ValueError: not in the grammar, or beyond one of the limits above.
    ZeroDivisionError: division by the number 0.
  """
  if len(text) > SIZE:
    raise ValueError(f'It has more than {SIZE} characters.')
  tokens, at = [], 0
  text = text.rstrip()
  while at < len(text):
    match = _TOKEN.match(text, at)
    if match is None:
      raise ValueError(f'{text[at : at + 20]!r} is not part of a formula.')
    tokens.append(match[1])
    at = match.end()
  sympy = importlib.import_module('sympy')
  value, end = _sum(sympy, tokens, 0, 0)
  if end != len(tokens):
    raise ValueError(f'{tokens[end]!r} is out of place.')
  return value


def _sum(
  sympy: ModuleType, tokens: list[str], at: int, depth: int
) -> tuple[Expression, int]:
  value, at = _product(sympy, tokens, at, depth)
  while at < len(tokens) and tokens[at] in '+-':
    term, end = _product(sympy, tokens, at + 1, depth)
    value = value + term if tokens[at] == '+' else value - term
    at = end
  return value, at


def _product(
  sympy: ModuleType, tokens: list[str], at: int, depth: int
) -> tuple[Expression, int]:
  value, at = _signed(sympy, tokens, at, depth)
  while at < len(tokens) and tokens[at] in '*/':
    factor, end = _signed(sympy, tokens, at + 1, depth)
    if tokens[at] == '/' and factor == 0:
      raise ZeroDivisionError
    value = value * factor if tokens[at] == '*' else value / factor
    at = end
  return value, at


def _signed(
  sympy: ModuleType, tokens: list[str], at: int, depth: int
) -> tuple[Expression, int]:
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


def _power(base: Expression, exponent: Expression) -> Expression:
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


def _atom(
  sympy: ModuleType, tokens: list[str], at: int, depth: int
) -> tuple[Expression, int]:
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


def _bracket(
  sympy: ModuleType, tokens: list[str], at: int, depth: int
) -> tuple[Expression, int]:
  if at >= len(tokens) or tokens[at] != '(':
    raise ValueError('A bracket is missing.')
  value, at = _sum(sympy, tokens, at + 1, depth + 1)
  if at >= len(tokens) or tokens[at] != ')':
    raise ValueError('A bracket does not close.')
  return value, at + 1


def replace_sympys() -> None:
  """Makes sympy parse strings with `read`, evaluating none, in this process.

  Does nothing if sympy is not imported. Plain numbers still become an
  `Integer`, or a `Float` of the text.
  """
  parser = sys.modules.get('sympy.parsing.sympy_parser')
  if parser is not None:
    parser.parse_expr = _parse_expr  # called by `sympify`
    parser.eval_expr = _refuse  # for modules that imported `parse_expr` by name


def _parse_expr(text: str, *args, **kwargs) -> Expression:
  sympy = importlib.import_module('sympy')
  text = text.strip()
  if _LITERAL.fullmatch(text):
    whole = text.lstrip('+-').isdigit()
    return sympy.Integer(int(text)) if whole else sympy.Float(text)
  try:
    return read(text)
  except (ValueError, ZeroDivisionError) as e:
    raise SyntaxError(str(e)) from e  # the type that `sympify` expects


def _refuse(*args) -> None:
  raise RuntimeError('sympy evaluates no strings in this process.')
