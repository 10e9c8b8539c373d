r"""What is the numeric value of an expression, to any number of digits?

The expressions are scalar trees of `reader`. All work is bounded: an expression
has at most `STEPS` nodes, counting the terms of sums, and magnitudes at most
2^`MAGNITUDE`. What goes beyond raises `Unreadable`.
"""

import functools
import hashlib
import importlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rlvr_jax.verifiers.maths import rationals, trees
from rlvr_jax.verifiers.maths.notation import Unreadable

MAGNITUDE = 1 << 40
STEPS = 20_000
PLACES = 8_000  # most digits of a value


Number = Any  # an mpmath mpf or mpc; mpmath is imported only when needed


class Undefined(ArithmeticError):
  """An expression has no value, or none that is real, at this point."""


class Numbers:
  """Evaluates trees to `digits` digits.

  Attributes:
    scale: the largest term of any sum so far; rounding errors are relative to
      it.
    spread: the largest absolute decimal exponent of any value so far.
  """

  def __init__(self, digits: int, *, real: bool, natural: bool = True):
    mpmath = importlib.import_module('mpmath')
    self.mp = mpmath.MPContext()
    self.mp.dps = digits
    self.real, self.natural = real, natural
    self.noise = self.mp.mpf(10) ** (20 - digits)
    self.steps = 0
    self.spread = 0
    self.scale = self.mp.mpf(0)

  def value(self, tree: tuple, env: dict[str, Number]) -> Number:
    """Returns the value with the symbols set to `env`.

    Raises:
      Undefined: there is no value, or no real one although `real` is set.
      Unreadable: a limit of this module is exceeded.
    """
    self.steps += 1
    if self.steps > STEPS:
      raise Unreadable('it is too long to be evaluated')
    kind, *args = tree
    if kind == 'n':
      out = self._fraction(args[0])
    elif kind == 's':
      out = self._symbol(args[0], env)
    elif kind in ('sum', 'prod'):
      out = self._series(kind, *args, env)
    elif kind == '^':
      out = self._power(args[0], args[1], env)
    elif kind == 'f' and args[0] == 'root':
      inverse = ('/', ('n', Fraction(1), False), args[2])
      out = self._power(args[1], inverse, env)
    elif kind == 'f' and args[0] == 'det':
      out = self._determinant(args[1][1:], env)
    elif kind == 'f':
      degrees = any(trees.has(a, 'deg') for a in args[1:])
      values = [self.value(a, env) for a in args[1:]]
      out = self._function(args[0], values, degrees)
    elif kind in ('pm', 'matrix') or not trees.is_scalar(tree):
      raise Unreadable('it is not a number')
    else:
      out = self._sign(kind, *(self.value(a, env) for a in args))
    return self._checked(out)

  def _checked(self, x: Number) -> Number:
    mp = self.mp
    if not mp.isfinite(x):
      raise Undefined
    if mp.im(x):
      if self.real:
        raise Undefined
      if abs(mp.im(x)) < self.noise * abs(x):
        x = mp.re(x)
    if x:
      size = mp.mag(x)
      if abs(size) > MAGNITUDE:
        raise Unreadable('it is too big to be evaluated')
      self.spread = max(self.spread, int(abs(size) * 0.30103) + 1)
    return x

  def _fraction(self, x: Fraction) -> Number:
    return self.mp.mpf(x.numerator) / x.denominator

  def _symbol(self, name: str, env: dict[str, Number]) -> Number:
    if name in env:
      value = env[name]
      return self._fraction(value) if isinstance(value, Fraction) else value
    if name == 'pi':
      return +self.mp.pi
    if name == 'e':
      return +self.mp.e
    if name == 'i' and not self.real:
      return self.mp.mpc(0, 1)
    raise Undefined

  def _sign(self, kind: str, a: Number, b: Number = None) -> Number:
    mp = self.mp
    if kind == '+':
      top = max(abs(a), abs(b))
      self.scale = max(self.scale, top)
      out = a + b
      return mp.mpf(0) if abs(out) < self.noise * top else out
    if kind == 'neg':
      return -a
    if kind == '*':
      return a * b
    if kind == '/':
      if not b:
        raise Undefined
      return a / b
    if kind == '!':
      return self._factorial(a)
    return a / 100 if kind == 'pct' else a  # 'deg'

  def _factorial(self, a: Number) -> Number:
    mp = self.mp
    if mp.im(a) or a < 0 or a > 10**6:
      raise Undefined
    return mp.gamma(a + 1)

  def _power(
    self, base: tuple, exponent: tuple, env: dict[str, Number]
  ) -> Number:
    mp = self.mp
    a, b = self.value(base, env), self.value(exponent, env)
    if not a:
      if mp.re(b) <= 0:
        if not b:
          return mp.mpf(1)
        raise Undefined
      return mp.mpf(0)
    if abs(b) * (abs(mp.mag(a)) + 1) > MAGNITUDE:
      raise Unreadable('it is too big to be evaluated')
    if not mp.im(b) and b == mp.floor(mp.re(b)):
      return mp.power(a, int(mp.re(b)))
    if self.real and a < 0:
      ratio = _ratio(exponent)
      if ratio is None or ratio.denominator % 2 == 0:
        raise Undefined
      return mp.power(-a, b) * (-1) ** ratio.numerator
    return mp.power(a, b)

  def _series(
    self,
    kind: str,
    index: str,
    first: tuple,
    last: tuple,
    body: tuple,
    env: dict[str, Number],
  ) -> Number:
    ends = [self.value(t, env) for t in (first, last)]
    if any(self.mp.im(x) or x != self.mp.floor(x) for x in ends):
      raise Undefined
    a, b = (int(x) for x in ends)
    if b - a > STEPS:
      raise Unreadable('it is too long to be evaluated')
    total = self.mp.mpf(kind == 'prod')
    for k in range(a, b + 1):
      term = self.value(body, env | {index: Fraction(k)})
      total = total * term if kind == 'prod' else self._sign('+', total, term)
    return total

  def _determinant(
    self, rows: Sequence[tuple], env: dict[str, Number]
  ) -> Number:
    n = len(rows)
    if n > 5 or any(len(r) != n for r in rows):
      raise Unreadable('its determinant')
    if n == 1:
      return self.value(rows[0][0], env)
    total = self.mp.mpf(0)
    for j, entry in enumerate(rows[0]):
      minor = [tuple(r[:j] + r[j + 1 :]) for r in rows[1:]]
      term = self.value(entry, env) * self._determinant(minor, env)
      total += -term if j % 2 else term
    return total

  def _function(self, name: str, values: list[Number], degrees: bool) -> Number:
    mp, a = self.mp, values[0]
    b = values[1] if len(values) > 1 else None
    if name in ('sin', 'cos', 'tan', 'cot', 'sec', 'csc'):
      if mp.mag(a or 1) > 4000:
        raise Unreadable('it is too big to be evaluated')
      a = a * mp.pi / 180 if degrees else a
      out = getattr(mp, name if name in ('sin', 'cos', 'tan') else
                    {'cot': 'tan', 'sec': 'cos', 'csc': 'sin'}[name])(a)  # fmt: skip
      if abs(out) < self.noise:
        out = mp.mpf(0)
      if abs(out) > 1 / self.noise:
        raise Undefined
      return (
        self._sign('/', mp.mpf(1), out)
        if name in ('cot', 'sec', 'csc')
        else out
      )
    if name in ('sinh', 'cosh', 'tanh', 'coth', 'exp'):
      if abs(a) > MAGNITUDE:
        raise Unreadable('it is too big to be evaluated')
      return getattr(mp, name)(a)
    if name in ('ln', 'log', 'log10', 'logb'):
      natural = name == 'ln' or (name == 'log' and self.natural)
      x, base = (
        (b, a) if name == 'logb' else (a, None if natural else mp.mpf(10))
      )
      return self._log(x) / (1 if base is None else self._log(base, base=True))
    if name in ('asin', 'acos', 'atan', 'acot', 'asec', 'acsc'):
      inverse = name[1:] in ('cot', 'sec', 'csc')
      if inverse:
        a = self._sign('/', mp.mpf(1), a)
        name = {'acot': 'atan', 'asec': 'acos', 'acsc': 'asin'}[name]
      if self.real and name != 'atan' and abs(a) > 1:
        if abs(a) > 1 + self.noise:
          raise Undefined
        a = mp.sign(a)
      return getattr(mp, name)(a)
    if name in ('asinh', 'acosh', 'atanh'):
      return getattr(mp, name)(a)
    if name == 'abs':
      return abs(a)
    if name == 'mod' and b:
      return a - b * self._floor(a / b)
    if name == 'floor':
      return self._floor(a)
    if name == 'ceil':
      return -self._floor(-a)
    if name in ('max', 'min') and not any(mp.im(v) for v in values):
      return {'max': max, 'min': min}[name](values)
    if name == 'binom' and b is not None and max(abs(a), abs(b)) < 10**6:
      return mp.binomial(a, b)
    if name == 'Gamma':
      return self._factorial(a - 1)
    if name == 'sgn':
      return mp.sign(a)
    raise Unreadable(f'the function {name}')

  def _log(self, x: Number, base: bool = False) -> Number:
    if not x or (self.real and x < 0) or (base and x == 1):
      raise Undefined
    return self.mp.log(x)

  def _floor(self, x: Number) -> Number:
    if self.mp.im(x):
      raise Undefined
    near = self.mp.nint(x)
    if abs(x - near) < self.noise * max(1, abs(x)):
      return near
    return self.mp.floor(x)


def _ratio(tree: tuple) -> Fraction | None:
  try:
    return rationals.value(tree)
  except Unreadable:
    return None


@functools.cache
def points(names: tuple[str, ...], domain: str = 'real') -> tuple[dict, ...]:
  """Returns the fixed points at which symbolic expressions are compared.

  Integers, for sequences; numbers in (0, 1) and in (1, 4); and, unless the
  domain is 'positive', numbers of both signs in (-3, 3).
  """
  kinds = ['whole', 'small', 'large'] * 3 + ['whole'] * 4
  if domain != 'positive':
    kinds += ['mixed'] * 5
  return tuple(
    {n: _point(n, k, kind) for n in names} for k, kind in enumerate(kinds)
  )


def _point(name: str, k: int, kind: str) -> Fraction:
  draw = hashlib.blake2b(f'{k} {name}'.encode(), digest_size=8).digest()
  u = Fraction(int.from_bytes(draw, 'big') >> 24, 1 << 40)
  if kind == 'whole':
    return Fraction(3 + int(u * 40))
  if kind == 'small':
    return u
  if kind == 'large':
    return 1 + 3 * u
  return 6 * u - 3
