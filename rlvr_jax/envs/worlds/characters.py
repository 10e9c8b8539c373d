"""World: 24 invented people, to guess by questions about their looks."""

from rlvr_jax.envs import guessing
from rlvr_jax.envs.worlds import reading


def _colour(part: str, *colours: str) -> tuple[str, ...]:
  """Returns the phrasings of hair or eyes that have one of the colours."""
  singular = part.removesuffix('s')
  return tuple(
    phrase
    for c in colours
    for phrase in (
      f'{c} {part}', f'{c} {singular.removesuffix("e")}ed', f'{part} {c}',
      f'{singular} color {c}', f'{singular} colour {c}',
    )
  )  # fmt: skip


PHRASES = {
  'woman': ('woman', 'female', 'girl', 'lady'),
  'man': ('man', 'male', 'boy', 'gentleman'),
  'glasses': ('glasses', 'pair of glasses', 'spectacles', 'eyeglasses'),
  'hat': ('hat', 'cap', 'headgear'),
  'beard': ('beard', 'bearded'),
  'moustache': ('moustache', 'mustache'),
  'bald': ('bald', 'bald head', 'hairless'),
  'blond hair': (
    'blond', 'blonde', *_colour('hair', 'blond', 'blonde', 'yellow'),
  ),
  'brown hair': ('brunette', *_colour('hair', 'brown')),
  'black hair': _colour('hair', 'black'),
  'red hair': ('redhead', 'ginger', *_colour('hair', 'red', 'ginger')),
  'white hair': _colour('hair', 'white', 'grey', 'gray'),
  'long hair': _colour('hair', 'long'),
  'curly hair': ('curly', 'curls', *_colour('hair', 'curly')),
  'blue eyes': _colour('eyes', 'blue'),
  'brown eyes': _colour('eyes', 'brown'),
  'green eyes': _colour('eyes', 'green'),
  'earrings': ('earrings', 'earring'),
  'big nose': ('big nose', 'large nose', 'nose big', 'nose large'),
  'scarf': ('scarf', 'shawl'),
  'freckles': ('freckles', 'freckled'),
  'smiles': ('smile', 'smiles', 'smiling'),
}  # fmt: skip
_PEOPLE = {
  'Ada': 'woman; glasses; brown hair; long hair; brown eyes; smiles',
  'Bruno': 'man; beard; moustache; black hair; brown eyes; big nose',
  'Carla': 'woman; red hair; curly hair; green eyes; freckles; smiles',
  'Dmitri': 'man; hat; blond hair; blue eyes; scarf',
  'Elif': 'woman; black hair; long hair; brown eyes; earrings; scarf',
  'Fabian': 'man; glasses; bald; blue eyes; big nose; smiles',
  'Greta': 'woman; hat; blond hair; long hair; blue eyes; freckles',
  'Hugo': 'man; moustache; brown hair; green eyes; hat',
  'Ines': 'woman; black hair; curly hair; brown eyes; earrings; smiles',
  'Jakob': 'man; glasses; white hair; beard; blue eyes',
  'Kira': 'woman; glasses; blond hair; green eyes; scarf; smiles',
  'Leon': 'man; red hair; curly hair; brown eyes; freckles',
  'Mira': 'woman; white hair; glasses; brown eyes; earrings; hat',
  'Nils': 'man; blond hair; long hair; blue eyes; beard; smiles',
  'Olga': 'woman; brown hair; curly hair; blue eyes; big nose; earrings',
  'Pavel': 'man; bald; moustache; brown eyes; scarf',
  'Rosa': 'woman; red hair; long hair; blue eyes; hat; earrings',
  'Samir': 'man; black hair; curly hair; brown eyes; glasses; smiles',
  'Tilda': 'woman; white hair; green eyes; scarf; freckles; smiles',
  'Umar': 'man; black hair; beard; green eyes; hat; big nose',
  'Vera': 'woman; brown hair; green eyes; glasses; big nose',
  'Wim': 'man; white hair; moustache; blue eyes; big nose; smiles',
  'Yuki': 'woman; black hair; brown eyes; hat; freckles',
  'Zoltan': 'man; brown hair; long hair; brown eyes; earrings; beard',
}


def characters() -> guessing.World:
  """The world of 24 people with 22 attributes of their looks."""
  names, attributes = tuple(_PEOPLE), tuple(PHRASES)
  rows = {n: frozenset(text.split('; ')) for n, text in _PEOPLE.items()}
  worn = ('glasses', 'hat', 'earrings', 'scarf')
  predicates = ('bald', 'smiles', 'woman', 'man')

  def ask(attribute: str) -> str:
    if attribute in worn:
      return f'Does the person wear {_article(attribute)}?'
    if attribute in predicates:
      return {
        'bald': 'Is the person bald?',
        'smiles': 'Does the person smile?',
      }.get(attribute, f'Is the person a {attribute}?')
    return f'Does the person have {_article(attribute)}?'

  return guessing.World(
    objects=names,
    attributes=attributes,
    table=tuple(tuple(a in rows[n] for a in attributes) for n in names),
    read=reading.reader(PHRASES, dict.fromkeys(names, ())),
    question=(
      'I am thinking of one of these people: '
      + ', '.join(names)
      + '. Find out who it is by asking me yes-or-no questions about their '
      'looks, one at a time. When you know, ask "Is it" and the name.'
    ),
    ask=ask,
    guess=lambda name: f'Is it {name}?',
    elicit=('Is it ', '?'),
  )


def _article(attribute: str) -> str:
  return attribute if attribute.endswith(('s', 'hair')) else f'a {attribute}'
