r"""Which value does an equation give? 'x = 3' and 'm + n = 1 + 2 = 3' are 3."""

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from rlvr_jax.verifiers.maths import rationals, real_sets, scalars, trees
from rlvr_jax.verifiers.maths.notation import Unreadable
from rlvr_jax.verifiers.rules import Rules


class Untrue(ValueError):
  """An equation between numbers does not hold."""


class Named(NamedTuple):
  """An answer split into its name and its value.

  Attributes:
    name: the x of 'x = 3', None without one.
    value: the exact value, None if there is only an approximation.
    rough: the decimal after an approximation sign, if any.
  """

  name: str | None
  value: tuple | None
  rough: tuple | None = None


def resolve(tree: tuple, rules: Rules, *, gold: bool = False) -> Named:
  """Returns the value of an answer, and its name if it has one.

  `m + n = 40 + 30 = 70` is 70, `2 + 3 = 5` is 5; `2x = 10` stays an equation,
  and so does `x + y = 5` as a `gold` answer, which may be a line.

  Raises:
    Untrue: an equation between numbers does not hold.
    Unreadable: an equation or condition is not supported.
  """
  if tree[0] == 'list':
    members = [x for x in tree[1:] if not _integer_index(x)]
    if len(members) == 1:
      return resolve(members[0], rules, gold=gold)
    return Named(None, ('list', *members))
  if tree[0] != 'rel' or real_sets.is_condition(tree):
    return Named(None, tree)
  signs, sides = tree[1:]
  if 'in' in signs or 'notin' in signs:
    if len(signs) > 1 or not name_of(sides[0]):
      raise Unreadable('a condition that is not supported')
    if signs == ('notin',):
      return Named(name_of(sides[0]), ('minus', ('all', 'R'), sides[1]))
    return Named(name_of(sides[0]), sides[1])
  if 'equiv' in signs:
    if signs != ('equiv',):
      raise Unreadable('a condition that is not supported')
    return _chain(sides, rules)
  if 'approx' in signs:
    at = signs.index('approx')
    if at + 2 != len(sides) or not trees.is_scalar(sides[-1]):
      raise Unreadable('several approximations')
    left = _chain(sides[: at + 1], rules) if at else Named(None, sides[0])
    if left.value[0] == 'name' or (
      name_of(left.value) and not (trees.symbols(left.value) <= trees.CONSTANTS)
    ):
      return Named(name_of(left.value), None, sides[-1])
    if _far(left.value, sides[-1]):
      raise Untrue  # 3 \sim 5, a range
    return left._replace(rough=sides[-1])
  return _chain(sides, rules, gold=gold)


def _chain(
  sides: Sequence[tuple], rules: Rules, *, gold: bool = False
) -> Named:
  """Resolves a chain of equal sides."""
  name = None
  if (
    len(sides) == 2
    and name_of(sides[1])
    and not name_of(sides[0])
    and (trees.free(sides[1]) and not trees.free(sides[1]) & _symbols(sides[0]))
  ):
    sides = sides[::-1]  # 5 = x
  first = name_of(sides[0])
  if first and (
    sides[0][0] == 'name'
    or (
      trees.free(sides[0]) and not trees.free(sides[0]) & _symbols(*sides[1:])
    )
  ):
    name, sides = first, sides[1:]
  elif len(sides) > 1 + gold and _quantity(sides[0], sides[1:]):
    name, sides = 'a quantity', sides[1:]
  if any(s[0] == 'name' for s in sides):
    raise Unreadable('an equation that is not supported')
  for one, other in itertools.pairwise(sides):
    if not _agree(one, other, rules):
      if trees.free(one, other):
        return Named(None, ('rel', ('=',) * (len(sides) - 1), tuple(sides)))
      raise Untrue
  return Named(name, sides[-1])


def _agree(a: tuple, b: tuple, rules: Rules) -> bool:
  signs = items(a), items(b)
  if signs != (None, None):  # \pm
    return (
      None not in signs
      and len(signs[0]) == len(signs[1])
      and all(any(_agree(x, y, rules) for y in signs[1]) for x in signs[0])
    )
  if trees.is_scalar(a) and trees.is_scalar(b):
    return scalars.equal(a, b, rules)
  return a == b


def _far(a: tuple, b: tuple) -> bool:
  """Whether two numbers differ by more than rounding explains."""
  try:
    a, b = rationals.value(a), rationals.value(b)
  except Unreadable:
    return False
  if a is None or b is None:
    return False
  return abs(a - b) > max(abs(a), abs(b), Fraction(1, 5)) / 20


def _symbols(*sides: tuple) -> set[str]:
  return trees.free(*(t for t in sides if t[0] != 'name'))


def name_of(tree: tuple) -> str | None:
  """Returns the name that a side of an equation is: x, x_1, f(x), (x, y)."""
  if tree[0] in ('s', 'name'):
    return None if tree == ('s', 'oo') else tree[1]
  if tree[0] == 'tuple' and all(name_of(x) for x in tree[1:]):
    return ', '.join(name_of(x) for x in tree[1:])
  return None


def _quantity(left: tuple, right: Sequence[tuple]) -> bool:
  """Whether an equation only gives the value of its left side: m + n = 70.

  With one unknown (2x = 10), with numbers (3x + 4y = 14), or with 0 on the
  right it determines something else.
  """
  if not trees.is_scalar(left) or not trees.free(left):
    return False
  if any(trees.free(s) or not trees.is_scalar(s) for s in right):
    return False
  if rationals.value(right[-1]) == 0:
    return False
  if trees.has_function(
    left, 'abs', 'sin', 'cos', 'tan', 'cot', 'sec', 'csc', 'max', 'min', 'gcd',
    'lcm', 'floor', 'ceil', 'det',
  ):  # fmt: skip
    return True
  curve = trees.has(left, '^') and trees.free(left) <= {'x', 'y', 'z'}
  return len(trees.free(left)) > 1 and not curve and not _coefficients(left)


def _coefficients(tree: tuple) -> bool:
  """Whether a tree contains numbers other than exponents."""
  if tree[0] == 'n':
    return True
  below = tree[1:2] if tree[0] == '^' else tree[1:]
  return any(_coefficients(x) for x in below if isinstance(x, tuple))


def items(tree: tuple) -> list | None:
  """Returns the members of a list, a set or a \\pm; None for another tree."""
  if tree[0] in ('list', 'set'):
    out = []
    for x in tree[1:]:
      out += [x] if (inner := items(x)) is None or x[0] == 'set' else inner
    return out
  if tree[0] == 'rel' and tree[1] == ('=',) and trees.has(tree[2][1], 'pm'):
    both = (_signed(tree[2][1], s) for s in (1, -1))
    return [('rel', ('=',), (tree[2][0], t)) for t in both]
  if trees.is_scalar(tree) and trees.has(tree, 'pm'):
    return [_signed(tree, s) for s in (1, -1)]
  return None


def _integer_index(tree: tuple) -> bool:
  """Whether it is the k \\in \\mathbb{Z} of a formula with k."""
  return tree[0] == 'rel' and tree[1] == ('in',) and tree[2][1][0] == 'all'


def _signed(tree: tuple, sign: int) -> tuple:
  """Returns a tree with \\pm resolved to one sign."""
  if tree[0] == 'pm':
    b = _signed(tree[3], sign)
    return ('+', _signed(tree[2], sign), b if tree[1] == sign else ('neg', b))
  return tuple(_signed(x, sign) if isinstance(x, tuple) else x for x in tree)


def conflict(a: str, b: str) -> bool:
  """Whether two unknowns differ; names in words are not compared."""
  simple = re.compile(r"[A-Za-z]'*|[a-z]{2,7}")
  a, b = (x.partition('_')[0].casefold() for x in (a, b))
  return bool(simple.fullmatch(a) and simple.fullmatch(b)) and a != b
