"""People to guess by their looks, in plain English: 24 of our own making."""

from rlvr_jax.envs import guessing, reading

PHRASES = {
  'woman': ('woman', 'female', 'girl', 'lady', 'she'),
  'man': ('man', 'male', 'boy', 'he'),
  'glasses': ('glasses', 'spectacles'),
  'hat': ('hat', 'cap', 'headgear'),
  'beard': ('beard', 'bearded'),
  'moustache': ('moustache', 'mustache'),
  'bald': ('bald', 'hairless'),
  'blond hair': ('blond', 'blonde', 'blond hair', 'blonde hair', 'yellow hair'),
  'brown hair': ('brown hair', 'brunette', 'hair brown'),
  'black hair': ('black hair', 'hair black', 'dark hair'),
  'red hair': ('red hair', 'redhead', 'ginger', 'hair red'),
  'white hair': ('white hair', 'grey hair', 'gray hair', 'hair white'),
  'long hair': ('long hair', 'hair long'),
  'curly hair': ('curly hair', 'curly', 'curls', 'hair curly'),
  'blue eyes': ('blue eyes', 'eyes blue'),
  'brown eyes': ('brown eyes', 'eyes brown'),
  'green eyes': ('green eyes', 'eyes green'),
  'earrings': ('earrings', 'earring'),
  'big nose': ('big nose', 'large nose', 'nose big'),
  'scarf': ('scarf', 'shawl'),
  'freckles': ('freckles', 'freckled'),
  'smiles': ('smile', 'smiles', 'smiling'),
}
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
  """24 people and 22 things to ask about their looks."""
  names, attributes = tuple(_PEOPLE), tuple(PHRASES)
  rows = {n: frozenset(text.split('; ')) for n, text in _PEOPLE.items()}
  wearing = ('glasses', 'hat', 'earrings', 'scarf')
  bare = ('bald', 'smiles', 'woman', 'man')

  def ask(attribute):
    if attribute in wearing:
      return f'Does the person wear {_article(attribute)}?'
    if attribute in bare:
      return {
        'bald': 'Is the person bald?',
        'smiles': 'Does the person smile?',
      }.get(attribute, f'Is the person a {attribute}?')
    return f'Does the person have {_article(attribute)}?'

  return guessing.World(
    objects=names,
    attributes=attributes,
    table=tuple(tuple(a in rows[n] for a in attributes) for n in names),
    read=reading.reader(PHRASES, names),
    question=(
      'I am thinking of one of these people: '
      + ', '.join(names)
      + '. Find out '
      'who it is by asking me yes-or-no questions about their looks, one at a '
      'time. When you know, ask "Is it" and the name.'
    ),
    ask=ask,
    guess=lambda name: f'Is it {name}?',
    elicit=('Is it ', '?'),
  )


def _article(attribute: str) -> str:
  return attribute if attribute.endswith(('s', 'hair')) else f'a {attribute}'
