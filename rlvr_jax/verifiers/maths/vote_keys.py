"""Keys under which answers are counted: equal answers have equal keys.

Computed where it is called, without a worker: the cost is bounded by
`values`.
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
from rlvr_jax.verifiers.maths.conventions import DEFAULT
from rlvr_jax.verifiers.maths.notation import Unreadable

DIGITS = 60
KEPT = 25  # digits in a key
POINTS = 4  # at which expressions in symbols are worked out


def key(answer: str) -> str | None:
  r"""A key of the meaning of an answer, None if it cannot be read.

  \frac{\pi}{2}, pi/2 and x = \pi/2 have one key, as have x^2+1 and 1+x^2,
  {1,2} and 2,1, and 50% and 0.5 (but not 50).
  """
  try:
    return _key(reader.read(answer))
  except (Unreadable, equations.Untrue, numeric_values.Undefined):
    return None


def _key(tree) -> str:
  found = equations.resolve(tree, DEFAULT)
  tree = found.rough if found.value is None else found.value
  items = equations.items(tree)
  if real_sets.is_set(tree):
    return real_sets.key(tree, KEPT)
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


def _scalar(tree) -> str:
  if sign := scalars.infinite(tree):
    return '+oo' if sign > 0 else '-oo'
  known = rationals.value(tree)
  if known is None:
    return _values(tree)
  if known.numerator.bit_length() + known.denominator.bit_length() < 1500:
    return str(known)
  return f'{known.numerator:x}/{known.denominator:x}'


def _values(tree, *, ratio: bool = False) -> str:
  """Values at a few points, relative to the first one if that is asked."""
  names = tuple(sorted(trees.free(tree)))
  real = 'i' not in trees.symbols(tree)
  out, first = [], None
  for env in numeric_values.points(names):
    found = numeric_values.Numbers(DIGITS + trees.digits_of(tree), real=real)
    try:
      value = found.value(tree, env)
    except numeric_values.Undefined:
      if not names:
        raise
      out.append('-')
      continue
    if ratio and value:
      first = first or value
      value = value / first
    mp = found.mp
    parts = [mp.re(value), mp.im(value)]
    out.append(
      ' '.join(mp.nstr(mp.mpf(p), KEPT) for p in parts if p or p == parts[0])
    )
    if sum(x != '-' for x in out) >= POINTS:
      break
  if not names:
    return out[0]
  if all(x == '-' for x in out):
    raise Unreadable('it has a value nowhere')
  digest = hashlib.blake2b(' '.join(out).encode(), digest_size=12).hexdigest()
  return f'{",".join(names)}:{digest}'
