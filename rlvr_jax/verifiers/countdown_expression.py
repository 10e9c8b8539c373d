r"""Does an expression reach the target with the given numbers?

The grammar, over exact fractions (a parser of our own: no text is evaluated):

  sum   = prod (('+' | '-') prod)*
  prod  = sign (('*' | '/') sign)*
  sign  = ('+' | '-') sign | atom
  atom  = digits | '(' sum ')' | '\frac' '{' sum '}' '{' sum '}'

Also accepted: × · ÷ −, \times \cdot \div, \left \right, square brackets and
braces as parentheses, a final '= target'.
"""

import collections
import re
from collections.abc import Sequence
from fractions import Fraction

from rlvr_jax import enums
from rlvr_jax.verifiers.extraction import extract

SIZE = 1000  # most characters of an expression
DEPTH = 50  # deepest nesting of parentheses and signs

USES = ('exactly_once', 'at_most_once')
_SPELLING = {
  '\\times': '*',
  '\\cdot': '*',
  '\\div': '/',
  '\\left': '',
  '\\right': '',
  '\\dfrac': '\\frac',
  '\\tfrac': '\\frac',
  '\\{': '(',
  '\\}': ')',
  '\\(': '',
  '\\)': '',
  '\\[': '',
  '\\]': '',
  '\\,': '',
  '**': '^',  # a power, or bold type: neither is arithmetic here
  '×': '*',
  '·': '*',
  '÷': '/',
  '−': '-',
  '–': '-',
  '$': '',
  '`': '',
}
_REPLACE = re.compile('|'.join(map(re.escape, _SPELLING)))
_TOKEN = re.compile(r'\s*(\d{1,9}(?![\d.])|\\frac(?![a-zA-Z])|[-+*/()\[\]{}])')
_DECIMAL_TOKEN = re.compile(
  r'\s*([0-9]{0,9}\.[0-9]{1,9}(?![0-9.])|[0-9]{1,9}(?![0-9.])|[-+*/()])'
)
_CLOSES = {'(': ')', '[': ']', '{': '}'}
# A stretch of a line that could be an expression.
_STRETCH = re.compile(r'(?:[-+*/()\[\]{}=\d\s]|\\frac(?![a-zA-Z]))+')
_TRIM = re.compile(r'^(?:[\s+*/=]|-\s)+|[-+*/=\s]+$')  # a bullet, a dash
_OPERATION = re.compile(r'[\d)\]}]\s*[-+*/]\s*[-+(\[{\\\d]|\\frac')


def verify(
  numbers: Sequence[int],
  target: int,
  completion: str,
  *,
  use: str = 'exactly_once',
) -> enums.Verdict:
  r"""Judges the expression in a completion.

  Searched in the text after the thought: the last `<answer>`, else the last
  `\boxed{}`, else the last expression of the last line that has one. A final
  '= n' must name the target.

  Args:
    numbers: the numbers of the task, at least 1 each, repeats allowed.
    target: the value to reach; compared exactly.
    use: 'exactly_once' (each number once: the rule of TinyZero and
      reasoning-gym) or 'at_most_once' (the television game: not all numbers
      need be used).

  Returns:
    CORRECT; WRONG, also for an answer that is not an expression; NO_ANSWER; or
    UNVERIFIABLE if the answer exceeds `SIZE` or `DEPTH`.

  Raises:
    ValueError: unknown `use`.
  """
  _check_use(use)
  try:
    text = read(completion)
    if not text:
      return enums.Verdict.NO_ANSWER
    left, *right = text.rstrip(' .').split('=')
    value, used = evaluate(left)
    reached = value == target
    if right:
      reached &= len(right) == 1 and evaluate(right[0])[0] == target
  except (extract.TooLong, RecursionError):
    return enums.Verdict.UNVERIFIABLE
  except (ValueError, ZeroDivisionError):
    return enums.Verdict.WRONG
  allowed = not _misused(numbers, used, use)
  return enums.Verdict.CORRECT if reached and allowed else enums.Verdict.WRONG


def feedback(
  numbers: Sequence[int],
  target: int,
  completion: str,
  *,
  use: str = 'exactly_once',
) -> str:
  """Says what is wrong with the expression in a completion; '' if nothing is.

  Arguments and errors as for `verify`. What it comes to, then which numbers
  are used too often, are not among those given, or are not used.
  """
  _check_use(use)
  try:
    text = read(completion)
    if not text:
      return 'No expression was found.'
    left, *right = text.rstrip(' .').split('=')
    value, used = evaluate(left)
  except extract.TooLong:
    return f'The expression has more than {SIZE} characters.'
  except RecursionError:
    return f'The expression is nested deeper than {DEPTH}.'
  except ZeroDivisionError:
    return 'The expression divides by 0.'
  except ValueError as e:
    return f'The expression cannot be read: {e}'
  parts = []
  if value != target:
    parts.append(f'The expression comes to {show(value)}, not {target}.')
  parts += _misused(numbers, used, use)
  if right and not parts:
    try:
      stated = len(right) == 1 and evaluate(right[0])[0] == target
    except (ValueError, ZeroDivisionError, RecursionError):
      stated = False
    if not stated:
      parts.append(f'What follows the sign = is not {target}.')
  return ' '.join(parts)


def read(completion: str) -> str | None:
  """Returns the expression in a completion; None or '' if there is none.

  Raises:
    extract.TooLong: it has more than `SIZE` characters.
  """
  completion = extract.reply(completion)
  text = extract.tagged(completion)
  inner = extract.boxed(text or completion)
  if inner is not None:
    text = inner
  text = _expression(completion) if text is None else respell(text)
  if text and len(text) > SIZE:
    raise extract.TooLong
  return text


def show(value: Fraction) -> str:
  """Writes a number; of a long one, its length."""
  text = str(value)
  return text if len(text) <= 30 else f'a number of {len(text)} characters'


def _check_use(use: str) -> None:
  if use not in USES:
    raise ValueError(f'use={use!r}: choose one of {", ".join(USES)}.')


def _misused(
  numbers: Sequence[int], used: Sequence[int], use: str
) -> list[str]:
  """A sentence for each number that breaks the rule; none if none does."""
  given, taken = collections.Counter(numbers), collections.Counter(used)
  times = lambda n: 'once' if n == 1 else 'twice' if n == 2 else f'{n} times'
  out = []
  for number in sorted(taken):
    if number not in given:
      out.append(f'{number} is not among the numbers given.')
    elif taken[number] > given[number]:
      out.append(
        f'{number} is used {times(taken[number])} but given '
        f'{times(given[number])}.'
      )
  for number in sorted(given):
    if use == 'exactly_once' and taken[number] < given[number]:
      missing = given[number] - taken[number]
      out.append(
        f'{number} is not used.'
        if missing == given[number]
        else f'{number} is used {times(taken[number])} but given '
        f'{times(given[number])}.'
      )
  return out


def evaluate(
  text: str, *, decimals: bool = False
) -> tuple[Fraction, list[int]]:
  """Returns the exact value of an expression and its integers in order.

  Args:
    text: the expression.
    decimals: whether 0.5 and .5 are numbers too.

  Raises:
    ValueError: not in the grammar.
    ZeroDivisionError: division by 0.
    RecursionError: nested deeper than `DEPTH`.
  """
  tokens, at = [], 0
  text = text.rstrip()
  token = _DECIMAL_TOKEN if decimals else _TOKEN
  while at < len(text):
    match = token.match(text, at)
    if match is None:
      raise ValueError(f'{text[at : at + 20]!r} is not arithmetic.')
    tokens.append(match[1])
    at = match.end()
  value, end = _sum(tokens, 0, 0)
  if end != len(tokens):
    raise ValueError(f'{tokens[end]!r} is out of place.')
  return value, [int(t) for t in tokens if t.isdigit()]


def _sum(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
  value, at = _product(tokens, at, depth)
  while at < len(tokens) and tokens[at] in '+-':
    sign = 1 if tokens[at] == '+' else -1
    term, at = _product(tokens, at + 1, depth)
    value += sign * term
  return value, at


def _product(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
  value, at = _signed(tokens, at, depth)
  while at < len(tokens) and tokens[at] in '*/':
    operator = tokens[at]
    factor, at = _signed(tokens, at + 1, depth)
    value = value * factor if operator == '*' else value / factor
  return value, at


def _signed(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
  if depth > DEPTH:
    raise RecursionError
  if at >= len(tokens):
    raise ValueError('It ends too early.')
  token = tokens[at]
  if token in '+-':
    value, at = _signed(tokens, at + 1, depth + 1)
    return (value if token == '+' else -value), at
  if token.isdigit():
    return Fraction(int(token)), at + 1
  if '.' in token:
    return Fraction(token), at + 1
  if token == '\\frac':
    top, at = _group(tokens, at + 1, depth)
    bottom, at = _group(tokens, at, depth)
    return top / bottom, at
  return _group(tokens, at, depth)


def _group(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
  if at >= len(tokens) or tokens[at] not in _CLOSES:
    raise ValueError('A bracket is missing.')
  close = _CLOSES[tokens[at]]
  value, at = _sum(tokens, at + 1, depth + 1)
  if at >= len(tokens) or tokens[at] != close:
    raise ValueError(f'{close!r} is missing.')
  return value, at + 1


def respell(text: str) -> str:
  """Writes the operators of LaTeX and Unicode as + - * /."""
  return _REPLACE.sub(lambda m: _SPELLING[m[0]], text).strip()


def _expression(text: str) -> str | None:
  """Returns the last stretch with an operation in the last line with one."""
  for line in reversed(text[-extract.TAIL :].splitlines()):
    if not any(c.isdigit() for c in line):
      continue
    line = respell(line.replace('**', ' '))
    stretches = [_TRIM.sub('', m[0]) for m in _STRETCH.finditer(line)]
    stretches = [s for s in stretches if _OPERATION.search(s)]
    if stretches:
      return stretches[-1]
  return None
