r"""Are two numbers, or two symbolic expressions, equal?"""

from collections.abc import Callable
from fractions import Fraction

from rlvr_jax.verifiers.maths import numeric_values, rationals, trees
from rlvr_jax.verifiers.maths.notation import Unreadable
from rlvr_jax.verifiers.rules import Rules

DIGITS = 50  # in addition to those of the numbers in an expression
_STRAIGHT = ('n', Fraction(180), False)
AGREE = 3  # least number of points at which both expressions have a value


def equal(a: tuple, b: tuple, rules: Rules) -> bool:
  r"""Whether two scalar trees are equal.

  A percent sign on one side alone is read both ways, unless `rules.percent` is
  'strict'. `\log` is tried as the natural logarithm, then as that to base 10.

  Raises:
    Unreadable: undecidable within the limits of `numeric_values`.
  """
  percent = [_percent(x) for x in (a, b)]
  if percent[0] is not None and percent[1] is not None:
    a, b = percent
  elif rules.percent == 'either' and percent != [None, None]:
    inner = percent[0] or percent[1]
    other = b if percent[0] else a
    return _equal(inner, other, rules) or _equal(a, b, rules)
  # 45^\\circ is \\pi/4, but 90 is not \\pi/2
  for x, y in ((a, b), (b, a)):
    if x[0] == 'deg' and y[0] != 'deg' and 'pi' in trees.symbols(y):
      return _equal(('/', ('*', x[1], ('s', 'pi')), _STRAIGHT), y, rules)
  return _equal(a, b, rules)


def infinite(tree: tuple) -> int:
  """Returns 1 for infinity, -1 for minus infinity, 0 for any other tree."""
  if tree == ('s', 'oo'):
    return 1
  return -infinite(tree[1]) if tree[0] == 'neg' else 0


def proportional(a: tuple, b: tuple, rules: Rules, *, positive: bool) -> bool:
  """Whether a = c b at all points, for one constant c other than 0.

  Args:
    a, b: scalar trees.
    rules: only `domain` is used.
    positive: whether c must be above 0.

  Raises:
    Unreadable: they have values at fewer than `AGREE` points.
  """
  names = tuple(sorted(trees.free(a, b)))
  ratio, agreed = None, 0
  real = 'i' not in trees.symbols(a) | trees.symbols(b)
  digits = DIGITS + trees.digits_of(a, b) + 20
  for env in numeric_values.points(names, rules.domain):
    numbers = numeric_values.Numbers(digits, real=real)
    try:
      x, y = numbers.value(a, env), numbers.value(b, env)
    except numeric_values.Undefined:
      continue
    if not x and not y:
      continue
    if not x or not y:
      return False
    ratio = x / y if ratio is None else ratio
    if abs(x / y - ratio) > abs(ratio) * numbers.noise:
      return False
    agreed += 1
  if agreed < AGREE:
    raise Unreadable('it has a value at too few points')
  return not positive or (not numbers.mp.im(ratio) and ratio > 0)


def _percent(tree: tuple) -> tuple | None:
  """Returns a percentage without its sign, None if it is none."""
  if tree[0] == 'pct':
    return tree[1]
  if tree[0] == 'neg':
    inner = _percent(tree[1])
    return inner and ('neg', inner)
  if tree[0] in ('+', '*') and tree[2][0] == 'pct':  # 33 1/3 %
    return (tree[0], tree[1], tree[2][1])
  return None


def _equal(a: tuple, b: tuple, rules: Rules) -> bool:
  signs = infinite(a), infinite(b)
  if any(signs):
    return signs[0] == signs[1]
  if a == b:
    return True
  known = rationals.value(a), rationals.value(b)
  if None not in known:
    return known[0] == known[1]
  if names := tuple(sorted(trees.free(a, b))):
    return _everywhere(a, b, names, rules)
  if known[0] is not None and trees.decimal(a):
    return _near(known[0], b, rules)
  if known[1] is not None and trees.decimal(b):
    return _near(known[1], a, rules)
  return _any_log(lambda natural: _same(a, b, {}, natural, rules), a, b)


def _any_log(check: Callable[[bool], bool], a: tuple, b: tuple) -> bool:
  """Whether a check(natural) passes for either meaning of `log`."""
  if check(True):
    return True
  return any(trees.has_function(t, 'log') for t in (a, b)) and check(False)


def _everywhere(
  a: tuple, b: tuple, names: tuple[str, ...], rules: Rules
) -> bool:
  """Whether two expressions agree at all points where both have a value."""

  def check(natural: bool) -> bool:
    agreed = 0
    for env in numeric_values.points(names, rules.domain):
      try:
        if not _same(a, b, env, natural, rules):
          return False
      except numeric_values.Undefined:
        continue
      agreed += 1
    if agreed < AGREE:
      raise Unreadable('it has a value at too few points')
    return True

  return _any_log(check, a, b)


def _same(a: tuple, b: tuple, env: dict, natural: bool, rules: Rules) -> bool:
  """Whether two values agree; adds digits until that can be decided."""
  real = rules.domain != 'complex' or not env
  real = real and 'i' not in trees.symbols(a) | trees.symbols(b)
  digits = 2 * DIGITS + trees.digits_of(a, b)
  while True:
    numbers = numeric_values.Numbers(digits, real=real, natural=natural)
    try:
      x, y = numbers.value(a, env), numbers.value(b, env)
    except numeric_values.Undefined:
      if env:
        raise
      if not real:
        raise Unreadable('it has no value') from None
      real = False  # \\sqrt{-4}
      continue
    top = max(abs(x), abs(y), numbers.scale)
    if abs(x - y) > top * numbers.noise:
      return False
    need = 2 * DIGITS + trees.digits_of(a, b) + 2 * numbers.spread
    if digits >= need:
      return True
    if need > numeric_values.PLACES:
      raise Unreadable('it is too big to be evaluated')
    digits = need


def _near(decimal: Fraction, tree: tuple, rules: Rules) -> bool:
  """Whether a decimal is close to an irrational number."""
  numbers = numeric_values.Numbers(
    2 * DIGITS, real='i' not in trees.symbols(tree)
  )
  try:
    value = numbers.value(tree, {})
  except numeric_values.Undefined:
    raise Unreadable('it has no real value') from None
  if numbers.mp.im(value):
    return False
  mantissa, exponent = numbers.mp.frexp(value)
  if abs(exponent) > 4000:
    return False
  precise = Fraction(int(mantissa * 2**200), 2**200) * Fraction(2) ** exponent
  simple = precise.limit_denominator(10**12)
  if abs(simple - precise) < Fraction(1, 10**40):
    return decimal == simple
  return abs(decimal - precise) <= abs(precise) * Fraction(rules.approximate)
