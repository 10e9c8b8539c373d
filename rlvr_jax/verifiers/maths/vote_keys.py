"""Which key do equal mathematical answers share when votes are counted?

Computed in the calling process, without a worker: `numeric_values` bounds the
cost.
"""

import hashlib

from rlvr_jax.verifiers.maths import (
  equations,
  numeric_values,
  rationals,
  reader,
  real_sets,
  scalars,
  symbolic,
  trees,
)
from rlvr_jax.verifiers.maths.notation import Unreadable
from rlvr_jax.verifiers.rules import RULES

DIGITS = 60  # of precision, in addition to those of the numbers in a tree
SIGNIFICANT = 25  # digits in a key
POINTS = 4  # points at which symbolic expressions are evaluated


def key(answer: str) -> str | None:
  r"""Returns a key for the value of an answer, None if it cannot be parsed.

  \frac{\pi}{2}, pi/2 and x = \pi/2 share a key; so do x^2+1 and 1+x^2, {1,2}
  and 2,1, and 50% and 0.5 (but not 50).
  """
  try:
    return _key(reader.read(answer))
  except (Unreadable, equations.Untrue, numeric_values.Undefined):
    return None


def _key(tree: tuple) -> str:
  named = equations.resolve(tree, RULES)
  tree = named.rough if named.value is None else named.value
  items = equations.items(tree)
  if real_sets.is_set(tree):
    return real_sets.key(tree, SIGNIFICANT)
  if items is not None:
    keys = sorted({_key(x) for x in items})
    return keys[0] if len(keys) == 1 else f'{{{",".join(keys)}}}'
  tree = symbolic.matrix(tree)
  if trees.is_scalar(tree):
    return _scalar(tree)
  if tree[0] == 'tuple':
    return f'({",".join(map(_key, tree[1:]))})'
  if tree[0] == 'matrix':
    rows = (','.join(map(_scalar, row)) for row in tree[1:])
    return f'[{";".join(rows)}]'
  if tree[0] == 'rel' and tree[1] == ('=',):
    return 'eq:' + _values(('+', tree[2][0], ('neg', tree[2][1])), ratio=True)
  if tree[0] in ('ratio', 'mod'):
    return f'{tree[0]}({",".join(map(_key, tree[1:]))})'
  raise Unreadable('it has no key')


def _scalar(tree: tuple) -> str:
  if sign := scalars.infinite(tree):
    return '+oo' if sign > 0 else '-oo'
  known = rationals.value(tree)
  if known is None:
    return _values(tree)
  if known.numerator.bit_length() + known.denominator.bit_length() < 1500:
    return str(known)
  return f'{known.numerator:x}/{known.denominator:x}'


def _values(tree: tuple, *, ratio: bool = False) -> str:
  """Returns a digest of values at `POINTS` points.

  Args:
    ratio: whether to divide the values by the first one.
  """
  names = tuple(sorted(trees.free(tree)))
  real = 'i' not in trees.symbols(tree)
  out, first = [], None
  for env in numeric_values.points(names):
    numbers = numeric_values.Numbers(DIGITS + trees.digits_of(tree), real=real)
    try:
      value = numbers.value(tree, env)
    except numeric_values.Undefined:
      if not names:
        raise
      out.append('-')
      continue
    if ratio and value:
      first = first or value
      value = value / first
    mp = numbers.mp
    parts = [mp.re(value), mp.im(value)]
    out.append(
      ' '.join(
        mp.nstr(mp.mpf(p), SIGNIFICANT) for p in parts if p or p == parts[0]
      )
    )
    if sum(x != '-' for x in out) >= POINTS:
      break
  if not names:
    return out[0]
  if all(x == '-' for x in out):
    raise Unreadable('it has a value at no point')
  digest = hashlib.blake2b(' '.join(out).encode(), digest_size=12).hexdigest()
  return f'{",".join(names)}:{digest}'
