r"""Do an answer and a gold answer mean the same? Runs in a worker process.

`reader` parses both sides, and their values are compared: rational numbers
exactly; other constants to 50 digits more than the numbers in them have;
symbolic expressions to the same precision at fixed points
(`numeric_values.points`). Nothing is evaluated as a program, and the cost is
bounded (`numeric_values`).
"""

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction

from rlvr_jax.verifiers.maths import (
  equations,
  rationals,
  reader,
  real_sets,
  scalars,
  trees,
)
from rlvr_jax.verifiers.maths.reader import Unreadable
from rlvr_jax.verifiers.rules import RULES, Rules

_SEVERAL = ('list', 'set', 'tuple')


def check(
  gold: str, answer: str | None, **conventions: str | bool | float
) -> str:
  """Returns 'correct', 'wrong', 'bad gold' or 'unreadable'.

  Without an answer, only the gold is checked: 'correct' or 'bad gold'.

  Args:
    gold, answer: LaTeX, plain notation or Unicode.
    conventions: fields of `Rules` that differ from the defaults.
  """
  rules = RULES._replace(**conventions)
  try:
    expected = _read(gold, rules)
    _check(expected, rules)
  except (Unreadable, equations.Untrue):
    return 'bad gold'
  if answer is None:
    return 'correct'
  try:
    return 'correct' if _matches(gold, expected, answer, rules) else 'wrong'
  except equations.Untrue:
    return 'wrong'
  except Unreadable:
    return 'unreadable'


def _check(gold: tuple, rules: Rules) -> None:
  """Raises Unreadable unless the terms of a gold answer have values."""
  value = equations.resolve(gold, rules, gold=True).value
  if value is None:
    raise Unreadable('it is an approximation')
  members = equations.items(value)
  if members is None and trees.is_scalar(value) and matrix(value) is value:
    if not scalars.infinite(value):
      scalars.equal(value, ('+', value, ('n', Fraction(0), False)), rules)
    return
  if value[0] in ('name', 'rel'):
    return
  for x in trees.below(value) if members is None else members:
    _check(x, rules)


def warm(_: str) -> str:
  """Loads what a check needs, in a new worker."""
  return check('\\frac{x}{2}', '0.5x')


def _read(text: str, rules: Rules, **options: bool) -> tuple:
  return reader.read(text, semicolons=rules.semicolons, **options)


def _matches(gold: str, expected: tuple, answer: str, rules: Rules) -> bool:
  number = _is_number(expected, rules)
  tree = _read(answer, rules, loose=number)
  if equal(expected, _integral(expected, tree), rules):
    return True
  # 100,200 was read as a number, but may be meant as a list.
  if expected[0] in _SEVERAL and re.search(r'\d,\d{3}', answer):
    tree = _read(answer, rules, thousands=False)
  elif tree[0] in _SEVERAL and re.search(r'\d,\d{3}', gold):
    expected = _read(gold, rules, thousands=False)
  else:
    return False
  return equal(expected, tree, rules)


def _integral(gold: tuple, answer: tuple) -> tuple:
  """Renames the +c of an answer to the +C of a gold antiderivative."""
  names = _added(gold), _added(answer)
  mine, other = ({'C', 'c', 'K', 'k'} & set(n) for n in names)
  if mine == {'C'} and len(other) == 1 and trees.free(gold) > {'C'}:
    (name,) = other
    if names[1].count(name) == 1 and name not in trees.free(gold):
      return _renamed(answer, name)
  return answer


def _added(tree: tuple) -> list[str]:
  """Returns the symbols that are terms of a sum."""
  if tree[0] == 's':
    return [tree[1]]
  return _added(tree[1]) + _added(tree[2]) if tree[0] == '+' else []


def _renamed(tree: tuple, name: str) -> tuple:
  if tree == ('s', name):
    return ('s', 'C')
  if tree[0] != '+':
    return tree
  return ('+', _renamed(tree[1], name), _renamed(tree[2], name))


def _is_number(tree: tuple, rules: Rules) -> bool:
  value = equations.resolve(tree, rules, gold=True).value
  return bool(value) and trees.is_scalar(value) and not trees.free(value)


def equal(gold: tuple, answer: tuple, rules: Rules) -> bool:
  """Whether two trees mean the same.

  Raises:
    equations.Untrue: an equation in the answer does not hold.
    Unreadable: this cannot be decided.
  """
  both = _equation(gold) and _equation(answer)
  if both and len(trees.free(gold)) > 1 and _equations(gold, answer, rules):
    return True
  g = equations.resolve(gold, rules, gold=True)
  a = equations.resolve(answer, rules)
  if g.name and a.name and equations.conflict(g.name, a.name):
    return False
  if g.value is None:
    raise Unreadable('the gold answer is an approximation')
  if a.rough is not None and _rough(g.value, a, rules):
    return True
  return a.value is not None and _values(g.value, a.value, rules)


def _rough(gold: tuple, a: equations.Named, rules: Rules) -> bool:
  """Whether the decimal after an approximation sign is the gold answer.

  Only for a gold answer that is a decimal: \\pi \\approx 3 is not 3.
  """
  if not (trees.is_scalar(gold) and trees.decimal(gold)):
    return False
  if not scalars.equal(gold, a.rough, rules):
    return False
  loose = rules._replace(approximate=5e-3)
  return a.value is None or scalars.equal(a.rough, a.value, loose)


def _equation(tree: tuple) -> bool:
  return (
    tree[0] == 'rel'
    and tree[1] == ('=',)
    and all(trees.is_scalar(s) for s in tree[2])
  )


def _values(g: tuple, a: tuple, rules: Rules) -> bool:
  members = equations.items(g), equations.items(a)
  if real_sets.is_set(g) or real_sets.is_set(a):
    return _sets(g, a, rules)
  if members[0] is not None:
    return _collections(g, a, *members, rules)
  if g[0] == 'mod':
    return _modular(g, a, rules)
  if a[0] == 'mod':
    return equal(g, a[1], rules)
  several = members[1] and g[0] != 'tuple'
  if several and a[0] in ('list', 'set'):  # 0.5 or 1/2: one value
    return all(equal(g, x, rules) for x in members[1])
  if g[0] == 'tuple':
    return _ordered(g[1:], _row(a), rules)
  if g[0] == 'ratio' or a[0] == 'ratio':
    return _ratios(g, a, rules)
  g, a = matrix(g), matrix(a)
  if g[0] == 'matrix' and a[0] == 'matrix':
    return len(g) == len(a) and all(
      _ordered(r, s, rules) for r, s in zip(g[1:], a[1:])
    )
  if g[0] == 'rel' and a[0] == 'rel':
    return _equations(g, a, rules)
  if trees.is_scalar(g) and trees.is_scalar(a) and members == (None, None):
    return scalars.equal(g, a, rules)
  return g == a


def _collections(
  g: tuple,
  a: tuple,
  wanted: list[tuple],
  given: list[tuple] | None,
  rules: Rules,
) -> bool:
  """Whether two collections with members `wanted` and `given` are equal."""
  if a[0] == 'tuple' and g[0] == 'list':
    return _ordered(wanted, a[1:], rules)
  if given is None:
    return len(wanted) == 1 and equal(wanted[0], a, rules)
  names = [_named(x, rules) for x in wanted]
  given_names = [_named(x, rules) for x in given]
  if _all_differ(names) and not any(given_names):
    return _ordered(wanted, given, rules)  # x = 1, y = 2: not 2, 1
  if g[0] == a[0] == 'list' and _all_differ(given_names) and not any(names):
    # gold 5, 3 for p, q: p = 5, q = 3 in any order, but not p = 3, q = 5
    orders = given, _row(a)
    return any(_ordered(wanted, order, rules) for order in orders)
  if g[0] == a[0] == 'list' and len(wanted) != len(given):
    return False
  left = list(given)
  for x in wanted:
    same = next((y for y in left if equal(x, y, rules)), None)
    if same is None:
      same = next((y for y in given if equal(x, y, rules)), None)
      if same is None or g[0] == a[0] == 'list':
        return False
    else:
      left.remove(same)
  return all(any(equal(x, y, rules) for x in wanted) for y in left)


def _all_differ(names: list[str | None]) -> bool:
  return None not in names and len(set(names)) == len(names) > 1


def _named(tree: tuple, rules: Rules) -> str | None:
  name = equations.resolve(tree, rules).name
  return name and name.partition('_')[0]


def _row(a: tuple) -> tuple:
  """Returns the members of a tuple or list, sorted by name if all have one."""
  if a[0] == 'tuple':
    return a[1:]
  if a[0] != 'list':
    return ()
  names = [equations.name_of(x[2][0]) if x[0] == 'rel' else None for x in a[1:]]
  if all(names) and len(set(names)) == len(names):
    return tuple(x for _, x in sorted(zip(names, a[1:]), key=lambda p: p[0]))
  return a[1:]


def _ordered(
  wanted: Sequence[tuple], given: Sequence[tuple], rules: Rules
) -> bool:
  return len(wanted) == len(given) and all(
    equal(x, y, rules) for x, y in zip(wanted, given)
  )


def _sets(g: tuple, a: tuple, rules: Rules) -> bool:
  try:
    return real_sets.equal(g, a)
  except Unreadable:
    pass
  if g[0] == a[0] == 'interval':
    return g[3:] == a[3:] and _ordered(g[1:3], a[1:3], rules)
  if g[0] == a[0] and g[0] in ('union', 'inter', 'and', 'or', 'minus', 'list'):
    orders = [a[1:]] if g[0] == 'minus' else [a[1:], a[:0:-1]]
    return any(_ordered(g[1:], order, rules) for order in orders)
  if g[0] == a[0] == 'rel':
    return _inequalities(g, a, rules)
  if not real_sets.is_set(a) and a[0] not in ('set', 'tuple'):
    return False
  raise Unreadable('sets that are not supported')


def _inequalities(g: tuple, a: tuple, rules: Rules) -> bool:
  """Whether two chains have the same signs and proportional differences."""
  out = []
  for tree in (g, a):
    signs, sides = tree[1:]
    if signs[0] in ('>', '>='):
      turn = {'>': '<', '>=': '<='}
      signs = tuple(turn.get(s, s) for s in reversed(signs))
      sides = sides[::-1]
    out.append(
      (signs, [('+', y, ('neg', x)) for x, y in itertools.pairwise(sides)])
    )
  (s, f), (t, h) = out
  return s == t and all(
    trees.free(x) == trees.free(y)
    and scalars.proportional(x, y, rules, positive=True)
    for x, y in zip(f, h)
  )


def _equations(g: tuple, a: tuple, rules: Rules) -> bool:
  if not (_equation(g) and _equation(a)) or trees.free(g) != trees.free(a):
    return g == a
  sides = [('+', t[2][0], ('neg', t[2][1])) for t in (g, a)]
  return scalars.proportional(*sides, rules, positive=False)


def _modular(g: tuple, a: tuple, rules: Rules) -> bool:
  expected = equations.resolve(g[1], rules).value
  if a[0] != 'mod':
    return equal(g[1], a, rules)
  given = equations.resolve(a[1], rules).value
  x, y, m, n = (rationals.value(t) for t in (expected, given, g[2], a[2]))
  if None in (x, y, m, n):
    return g == a
  return m == n and m != 0 and (x - y) % m == 0


def _ratios(g: tuple, a: tuple, rules: Rules) -> bool:
  if a[0] != 'ratio' and len(g) == 3:
    a = ('ratio', *a[1:]) if a[0] == '/' else a
  if g[0] != 'ratio' and len(a) == 3:
    g = ('ratio', *g[1:]) if g[0] == '/' else g
  if len(g) != len(a) or g[0] != a[0]:
    return False
  if rules.ratios == 'scaled' and not any(
    rationals.value(x) == 0 for x in (*g[1:], *a[1:])
  ):
    g, a = ([('/', x, t[1]) for x in t[1:]] for t in (g, a))
    return _ordered(g, a, rules)
  return _ordered(g[1:], a[1:], rules)


def matrix(tree: tuple) -> tuple:
  """Returns c M, -M or M/c of a matrix M as one matrix, other trees as is."""
  if tree[0] == 'neg':
    return _scaled(matrix(tree[1]), ('n', -1, False), tree)
  if tree[0] in ('*', '/'):
    a, b = matrix(tree[1]), matrix(tree[2])
    if a[0] == 'matrix' and b[0] != 'matrix':
      return _scaled(
        a, b if tree[0] == '*' else ('/', ('n', 1, False), b), tree
      )
    if b[0] == 'matrix' and a[0] != 'matrix' and tree[0] == '*':
      return _scaled(b, a, tree)
  return tree


def _scaled(m: tuple, factor: tuple, tree: tuple) -> tuple:
  if m[0] != 'matrix':
    return tree
  return ('matrix', *(tuple(('*', factor, x) for x in r) for r in m[1:]))
