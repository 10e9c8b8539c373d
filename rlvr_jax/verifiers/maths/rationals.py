r"""What is the exact value of a rational expression, as a fraction?

Bounded: a value of more than `BITS` bits raises `Unreadable`.
"""

import math
from fractions import Fraction

from rlvr_jax.verifiers.maths import trees
from rlvr_jax.verifiers.maths.notation import Unreadable

BITS = 200_000
FACTORIAL = 20_000  # largest number whose factorial is computed


def value(tree: tuple) -> Fraction | None:
  """Returns the value of a rational expression, None for any other.

  Raises:
    Unreadable: it has no value, or one of more than `BITS` bits.
  """
  kind, *args = tree
  if kind == 'n':
    return args[0]
  if kind in ('s', 'pm', 'sum', 'prod', 'matrix') or not trees.is_scalar(tree):
    return None
  name = args.pop(0) if kind == 'f' else kind
  values = [value(x) for x in args]
  if any(v is None for v in values):
    return None
  out = _exact(name, *values)
  if out is not None:
    size = max(out.numerator.bit_length(), out.denominator.bit_length())
    if size > BITS:
      raise Unreadable('it is too big to be evaluated')
  return out


def _exact(
  name: str, a: Fraction, b: Fraction | None = None, *rest: Fraction
) -> Fraction | None:
  if name == '+':
    return a + b
  if name == 'neg':
    return -a
  if name == '*':
    return a * b
  if name == '/':
    if not b:
      raise Unreadable('it divides by zero')
    return a / b
  if name == '^':
    return _power(a, b)
  if name == '!':
    return Fraction(math.factorial(_whole(a, FACTORIAL)))
  if name == 'pct':
    return a / 100
  if name == 'deg':
    return a
  if name == 'root':
    return _power(a, 1 / b) if b else None
  if name == 'abs':
    return abs(a)
  if name in ('floor', 'ceil'):
    return Fraction(getattr(math, name)(a))
  if name in ('max', 'min') and b is not None:
    return {'max': max, 'min': min}[name](a, b, *rest)
  if name == 'mod' and b:
    return a % b
  whole = a.denominator == 1 and b is not None and b.denominator == 1
  if name == 'binom' and whole and a >= 0:
    n, k = _whole(a, FACTORIAL), int(b)
    return Fraction(math.comb(n, k) if k >= 0 else 0)
  if name in ('gcd', 'lcm') and b is not None:
    whole = [_whole(abs(x), None) for x in (a, b, *rest)]
    return Fraction(getattr(math, name)(*whole))
  if name in ('logb', 'log10', 'ln') and (b or a) > 0:
    return _logarithm(name, a, b)
  return None


def _whole(value: Fraction, limit: int | None) -> int:
  if value.denominator != 1 or value < 0:
    raise Unreadable('it needs a whole number that is not negative')
  if limit is not None and value > limit:
    raise Unreadable('it is too big to be evaluated')
  return int(value)


def _power(a: Fraction, b: Fraction) -> Fraction | None:
  if b.denominator != 1:
    top, bottom = (_root(abs(x), b.denominator) for x in a.as_integer_ratio())
    if top is None or bottom is None or (a < 0 and b.denominator % 2 == 0):
      return None
    return _power(
      Fraction(-top if a < 0 else top, bottom), Fraction(b.numerator)
    )
  if not a and b < 0:
    raise Unreadable('it divides by zero')
  size = max(a.numerator.bit_length(), a.denominator.bit_length())
  if abs(a) != 1 and a and size * abs(b.numerator) > BITS:
    raise Unreadable('it is too big to be evaluated')
  return a ** int(b) if abs(a) != 1 else (a if b.numerator % 2 else Fraction(1))


def _root(n: int, k: int) -> int | None:
  """Returns the integer k-th root of n, None if there is none."""
  if n in (0, 1):
    return n
  if k >= n.bit_length():
    return None
  low, high = 1, 1 << (n.bit_length() // k + 1)
  while low < high:
    mid = (low + high + 1) // 2
    low, high = (mid, high) if mid**k <= n else (low, mid - 1)
  return low if low**k == n else None


def _logarithm(name: str, a: Fraction, b: Fraction | None) -> Fraction | None:
  base, x = (a, b) if name == 'logb' else (Fraction(10), a)
  if x == 1:
    return Fraction(0)
  if name == 'ln' or base <= 0 or base == 1:
    return None
  guess = round((_log2(x) - 0) / (_log2(base) or 1))
  if abs(guess) < 5000 and base**guess == x:
    return Fraction(guess)
  return None


def _log2(x: Fraction) -> float:
  return math.log2(x.numerator) - math.log2(x.denominator)
