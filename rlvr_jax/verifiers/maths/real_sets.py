r"""Are two sets of real numbers equal: intervals, unions, conditions (x > 2)?

Two sets are equal if they agree at the end points of both, and at one point in
each gap between end points.
"""

import itertools
from collections.abc import Iterator

from rlvr_jax.verifiers.maths import numeric_values, scalars, trees
from rlvr_jax.verifiers.maths.notation import Unreadable
from rlvr_jax.verifiers.maths.numeric_values import Number

_SIGNS = ('<', '>', '<=', '>=', '!=', '=')


def is_set(tree: tuple) -> bool:
  """Whether a tree must be a set of reals, so that (1,2) is an interval too."""
  if tree[0] in ('interval', 'union', 'inter', 'minus'):
    return True
  if tree[0] in ('and', 'or', 'list'):
    return any(is_condition(x) for x in tree[1:])
  return tree == ('all', 'R') or is_condition(tree)


def is_condition(tree: tuple) -> bool:
  """Whether a tree is a relation with an inequality sign."""
  return tree[0] == 'rel' and any(
    s in ('<', '>', '<=', '>=', '!=') for s in tree[1]
  )


def unknown(tree: tuple) -> set[str]:
  """Returns the symbols in the conditions of a set."""
  if tree[0] == 'rel':
    return trees.free(*(s for s in tree[2] if s[0] != 'name'))
  if tree[0] in ('and', 'or', 'list', 'union', 'inter', 'minus'):
    return set().union(*(unknown(x) for x in tree[1:]))
  return set()


def equal(a: tuple, b: tuple) -> bool:
  """Whether two sets of reals are equal.

  Raises:
    Unreadable: an end point has a symbol, or a condition is not linear.
  """
  if (
    unknown(a)
    and unknown(b)
    and (
      {n.casefold() for n in unknown(a)} != {n.casefold() for n in unknown(b)}
    )
  ):
    return False
  if _reaches(a) != _reaches(b):
    return False
  line = _Line(80 + trees.digits_of(a, b))
  tests = line.tests(line.ends(a) + line.ends(b))
  return all(line.has(a, x) == line.has(b, x) for x in tests)


def _reaches(tree: tuple) -> bool:
  """Whether a set includes infinity, as [0, \\infty] does."""
  if tree[0] == 'interval':
    ends = zip(tree[1:3], tree[3:])
    return any(scalars.infinite(t) and closed for t, closed in ends)
  return tree[0] == 'union' and any(_reaches(x) for x in tree[1:])


def key(tree: tuple, digits: int) -> str:
  """Returns a key that equal sets share: end points, and what is inside.

  An open interval (1,2) has the key of the ordered pair, since it may mean
  that.

  Args:
    digits: significant digits of the end points.
  """
  line = _Line(80 + trees.digits_of(tree))
  edges = line.edges(line.ends(tree))
  inside = [line.has(tree, x) for x in line.tests(line.ends(tree))]
  k = len(edges)
  if not k:
    return 'R' if inside[0] else '{}'
  gaps = [inside[-2], *inside[k : 2 * k - 1], inside[-1]]
  out = [int(gaps[0])]
  ends = []
  for i, edge in enumerate(edges):
    if not gaps[i] == inside[i] == gaps[i + 1]:
      ends.append(line.mp.nstr(edge, digits))
      out += [int(inside[i]), int(gaps[i + 1])]
  if out == [0, 0, 1, 0, 0]:
    return f'({",".join(_plain(x) for x in ends)})'
  return f'{"".join(map(str, out))}:{",".join(ends)}'


def _plain(number: str) -> str:
  return number.removesuffix('.0')


class _Line:
  """The real line, with numbers of some number of digits."""

  def __init__(self, digits: int):
    self.numbers = numeric_values.Numbers(digits, real=True)
    self.mp = self.numbers.mp

  def tests(self, ends: list[Number]) -> list[Number]:
    """Returns the finite end points, and a point in each gap."""
    mp, out = self.mp, self.edges(ends)
    if not out:
      return [mp.mpf(0), mp.mpf(1)]
    gaps = [(x + y) / 2 for x, y in itertools.pairwise(out)]
    return [*out, *gaps, out[0] - 1, out[-1] + 1]

  def edges(self, ends: list[Number]) -> list[Number]:
    """Returns the finite end points in order, without repeats."""
    out = []
    for x in sorted(e for e in ends if self.mp.isfinite(e)):
      if not out or not self._same(out[-1], x):
        out.append(x)
    return out

  def _same(self, x: Number, y: Number) -> bool:
    if not (self.mp.isfinite(x) and self.mp.isfinite(y)):
      return x == y
    return abs(x - y) <= self.numbers.noise * max(abs(x), abs(y))

  def _point(self, tree: tuple) -> Number:
    if not trees.is_scalar(tree):
      raise Unreadable('an end point is not a number')
    sign = scalars.infinite(tree)
    if sign:
      return self.mp.inf * sign
    try:
      return self.numbers.value(tree, {})
    except numeric_values.Undefined:
      raise Unreadable('an end point is not a real number') from None

  def ends(self, tree: tuple) -> list[Number]:
    """Returns the end points of a set, in any order.

    Raises:
      Unreadable: it is not a set of reals with known end points.
    """
    kind = tree[0]
    if kind in ('interval', 'tuple'):
      ends = [self._point(t) for t in tree[1:3]]
      if (
        len(tree) != (5 if kind == 'interval' else 3) or not ends[0] <= ends[1]
      ):
        raise Unreadable('it is not an interval')
      return ends
    if kind == 'set':
      return [self._point(t) for t in tree[1:]]
    if kind in ('union', 'inter', 'minus', 'and', 'or', 'list'):
      return [e for t in tree[1:] for e in self.ends(t)]
    if tree == ('all', 'R'):
      return []
    if kind == 'rel':
      return [e for pair in _pairs(tree) for e in self._solved(*pair)]
    raise Unreadable('it is not a set of real numbers')

  def _solved(self, a: tuple, _: str, b: tuple) -> list[Number]:
    """Solves a = b, for a linear equation or an absolute value."""
    for x, y in ((a, b), (b, a)):
      if x[:2] == ('f', 'abs') and not trees.free(y):
        return self._zeros(x[2], y) + self._zeros(x[2], ('neg', y))
    return self._zeros(a, b)

  def _zeros(self, a: tuple, b: tuple) -> list[Number]:
    names = trees.free(a, b)
    if not names:
      return []
    if len(names) > 1:
      raise Unreadable('a condition on several symbols')
    if scalars.infinite(a) or scalars.infinite(b):
      return []
    (name,) = names
    tree = ('+', a, ('neg', b))
    try:
      at = [self.numbers.value(tree, {name: self.mp.mpf(k)})
            for k in (0, 1, 2, 5)]  # fmt: skip
    except numeric_values.Undefined:
      raise Unreadable('a condition that is not linear') from None
    slope = at[1] - at[0]
    close = self.numbers.noise * max(abs(x) for x in at)
    straight = abs(at[2] - at[0] - 2 * slope) <= close
    if not straight or abs(at[3] - at[0] - 5 * slope) > close or not slope:
      raise Unreadable('a condition that is not linear')
    return [-at[0] / slope]

  def has(self, tree: tuple, x: Number) -> bool:
    """Whether x is in the set."""
    kind = tree[0]
    if kind == 'interval':
      return self._between(tree[1], tree[2], tree[3], tree[4], x)
    if kind == 'tuple':
      return self._between(tree[1], tree[2], False, False, x)
    if kind == 'set':
      return any(self._same(self._point(t), x) for t in tree[1:])
    if kind == 'all':
      return True
    if kind == 'rel':
      return all(self._holds(*pair, x) for pair in _pairs(tree))
    if kind == 'and':  # 'x < 1 and x > 3' means a union
      tests = self.tests(self.ends(tree))
      both = any(all(self.has(t, y) for t in tree[1:]) for y in tests)
      return (all if both else any)(self.has(t, x) for t in tree[1:])
    inside = [self.has(t, x) for t in tree[1:]]
    if kind == 'inter':
      return all(inside)
    if kind == 'minus':
      return inside[0] and not inside[1]
    return any(inside)

  def _between(
    self,
    low: tuple,
    high: tuple,
    closed_low: bool,
    closed_high: bool,
    x: Number,
  ) -> bool:
    low, high = self._point(low), self._point(high)
    if self._same(x, low):
      return closed_low and (closed_high or not self._same(x, high))
    if self._same(x, high):
      return closed_high
    return low < x < high

  def _holds(self, a: tuple, sign: str, b: tuple, x: Number) -> bool:
    if any(scalars.infinite(t) for t in (a, b)):
      return True
    env = dict.fromkeys(trees.free(a, b), x)
    try:
      a, b = (self.numbers.value(t, env) for t in (a, b))
    except numeric_values.Undefined:
      return False
    if (
      self._same(a, b) or abs(a - b) <= self.numbers.noise * self.numbers.scale
    ):
      return sign in ('<=', '>=', '=')
    return sign == '!=' or sign in (('<', '<=') if a < b else ('>', '>='))


def _pairs(tree: tuple) -> Iterator[tuple[tuple, str, tuple]]:
  """Yields the two-sided relations of a chain such as 1 < x < 2."""
  sides = tree[2]
  for a, sign, b in zip(sides, tree[1], sides[1:]):
    if sign not in _SIGNS or not (trees.is_scalar(a) and trees.is_scalar(b)):
      raise Unreadable('a condition that is not supported')
    yield a, sign, b
