"""World: a synthetic table for small models, with letters as attributes.

A question is a letter and a question mark (`c?`), a guess is an equals sign
and a name (`=bo`). The first ceil(log2(objects)) attributes each split the
objects in halves and together identify every object. The others hold for a few
objects each, so that questions differ in their information.
"""

import re

from rlvr_jax import registry
from rlvr_jax.envs import guessing
from rlvr_jax.tasks import check_int, permute

LETTERS = 'abcdefghijklmnopqrstuvwxyz'
_VOWELS = 'aeiou'
_OTHERS = ''.join(x for x in LETTERS if x not in _VOWELS)


def names(n: int) -> list[str]:
  """Returns n short names; every second one is the previous plus a letter."""
  stems = [c + v for v in _VOWELS for c in _OTHERS]
  pairs = [name for stem in stems for name in (stem, stem + stem[0])]
  return pairs[:n]


def attributes(
  *, objects: int = 32, attributes: int = 12, share: float = 0.15, seed: int = 0
) -> guessing.World:
  """A world of `objects` objects with `attributes` yes-or-no attributes.

  Args:
    objects: 2 to 210.
    attributes: at least log2(objects), at most 26. The letters are assigned to
      them by a random permutation.
    share: of the objects for which an attribute beyond the first log2(objects)
      holds.
    seed: of all permutations.

  Raises:
    ValueError: an option is out of range.
  """
  check_int('objects', objects, low=2, high=2 * len(_VOWELS) * len(_OTHERS))
  bits = (objects - 1).bit_length()
  check_int('attributes', attributes, low=bits, high=len(LETTERS))
  if not 0 < share < 1:
    raise ValueError(f'share={registry.show(share)} must be between 0 and 1.')
  letters = [
    LETTERS[permute(i, attributes, 'letters', seed)] for i in range(attributes)
  ]
  columns: dict[str, list[bool]] = {}  # letter -> values by object
  for i, letter in enumerate(letters):
    if i < bits:
      columns[letter] = [
        bool(permute(o, objects, 'codes', seed) >> i & 1)
        for o in range(objects)
      ]
    else:
      count = max(1, round(share * objects))
      columns[letter] = [
        permute(o, objects, 'few', seed, i) < count for o in range(objects)
      ]
  order = sorted(columns)
  valid_names = set(names(objects))

  def read(message: str) -> set[str]:
    if question := re.fullmatch(r'([a-z])\?', message):
      return {question[1]} & set(order)
    guess = re.fullmatch(r'=([a-z]+)', message)
    return {'=' + guess[1]} if guess and guess[1] in valid_names else set()

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
