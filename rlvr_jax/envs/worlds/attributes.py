"""A made-up world for small models: short names, letters for attributes.

A question is a letter and a question mark (`c?`), a guess is a name after an
equals sign (`=bo`). The first attributes split the objects in halves: so many
as it takes to tell all objects apart. The others hold for few objects each,
so that what a question brings depends on which one it is.
"""

import re

from rlvr_jax import registry
from rlvr_jax.envs import guessing
from rlvr_jax.tasks import check_int, permute

LETTERS = 'abcdefghijklmnopqrstuvwxyz'
_VOWELS = 'aeiou'
_OTHERS = ''.join(x for x in LETTERS if x not in _VOWELS)


def names(n: int) -> list[str]:
  """n short names; every other one goes on from the one before it."""
  stems = [c + v for v in _VOWELS for c in _OTHERS]
  both = [x for stem in stems for x in (stem, stem + stem[0])]
  return both[:n]


def attributes(
  *, objects: int = 32, attributes: int = 12, share: float = 0.15, seed: int = 0
) -> guessing.World:
  """`objects` objects with yes-or-no `attributes`.

  Args:
    objects: 2 to 210.
    attributes: at least log2(objects), at most 26. Which letter stands for
      which of them is drawn.
    share: of objects for which each of the attributes beyond log2 holds.
    seed: names the draws.

  Raises:
    ValueError: a number out of range.
  """
  check_int('objects', objects, low=2, high=2 * len(_VOWELS) * len(_OTHERS))
  bits = (objects - 1).bit_length()
  check_int('attributes', attributes, low=bits, high=len(LETTERS))
  if not 0 < share < 1:
    raise ValueError(f'share={registry.show(share)} must be between 0 and 1.')
  letters = [
    LETTERS[permute(i, attributes, 'letters', seed)] for i in range(attributes)
  ]
  columns = {}
  for i, letter in enumerate(letters):
    if i < bits:
      columns[letter] = [
        bool(permute(o, objects, 'codes', seed) >> i & 1)
        for o in range(objects)
      ]
    else:
      has = max(1, round(share * objects))
      columns[letter] = [
        permute(o, objects, 'few', seed, i) < has for o in range(objects)
      ]
  order = sorted(columns)
  known = set(names(objects))

  def read(message):
    if found := re.fullmatch(r'([a-z])\?', message):
      return {found[1]} & set(order)
    found = re.fullmatch(r'=([a-z]+)', message)
    return {'=' + found[1]} if found and found[1] in known else set()

  return guessing.World(
    objects=tuple(names(objects)),
    attributes=tuple(order),
    table=tuple(tuple(columns[a][o] for a in order) for o in range(objects)),
    read=read,
    question='Guess.',
    ask=lambda a: f'{a}?',
    guess=lambda o: f'={o}',
    elicit=('=', ''),
  )
