r"""Which units and currencies in an answer does a verdict ignore?"""

import re

from rlvr_jax.verifiers.maths.notation import FUNCTIONS

_SURE = [
  'km',
  'cm',
  'mm',
  'dm',
  'nm',
  'kg',
  'mg',
  'lb',
  'lbs',
  'oz',
  'ml',
  'mL',
  'dl',
  'cl',
  'kJ',
  'kW',
  'MW',
  'kWh',
  'kPa',
  'Pa',
  'Hz',
  'kHz',
  'MHz',
  'GHz',
  'eV',
  'keV',
  'MeV',
  'mA',
  'mV',
  'mol',
  'kcal',
  'cal',
  'mph',
  'kph',
  'kmh',
  'kmph',
  'rpm',
  'hr',
  'hrs',
  'min',
  'mins',
  'sec',
  'secs',
  'yr',
  'yrs',
  'ft',
  'yd',
  'mi',
  'rad',
  'deg',
  'gal',
  'qt',
  'sq',
  'cu',
  'cc',
  'rs',
  'Rs',
  'USD',
  'EUR',
  'GBP',
  'INR',
  'CAD',
  'AUD',
  'usd',
  'eur',
  'cents',
  'dollars',
  'dollar',
  'cent',
  'euro',
  'euros',
  'rupee',
  'rupees',
  'yen',
  'pounds',
  'pound',
  'inch',
  'inches',
  'foot',
  'feet',
  'yard',
  'yards',
  'mile',
  'miles',
  'meter',
  'meters',
  'metre',
  'metres',
  'centimeter',
  'centimeters',
  'centimetre',
  'centimetres',
  'millimeter',
  'millimeters',
  'kilometer',
  'kilometers',
  'kilometre',
  'kilometres',
  'gram',
  'grams',
  'kilogram',
  'kilograms',
  'liter',
  'liters',
  'litre',
  'litres',
  'gallon',
  'gallons',
  'ounce',
  'ounces',
  'ton',
  'tons',
  'second',
  'seconds',
  'minute',
  'minutes',
  'hour',
  'hours',
  'day',
  'days',
  'week',
  'weeks',
  'month',
  'months',
  'year',
  'years',
  'degree',
  'degrees',
  'degs',
  'unit',
  'units',
  'radians',
  'radian',
  'newtons',
  'newton',
  'joules',
  'joule',
  'watts',
  'watt',
  'volts',
  'volt',
  'ohms',
  'ohm',
  'amps',
  'amperes',
  'pascals',
  'hertz',
  'celsius',
  'fahrenheit',
  'kelvin',
  'mps',
  'hectares',
  'acres',
  'acre',
  'times',
  "o'clock",
]
_SINGLE = 'msghlLNJWVAKCF'
# Words after a number that change its value, or leave no number.
_NOT_UNITS = re.compile(
  r'\b(?:pi|sqrt|sin|cos|tan|cot|sec of|csc|log|ln|exp|mod|modulo|infinity|inf|'
  r'nan|or|and|to|plus|minus|times(?! ?$)|over|divided|squared of|theta|alpha|beta|'
  r'not|cannot|more|less|fewer|than|least|most|factorial|root|hal(?:f|ves)|thirds|'
  r'(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand)ths|quarters|'
  r'doubled|tripled|halved|tens|hundreds|thousands|millions|billions|base|choose|out|remainder|if|when|unless|maybe|perhaps|possibly|wrong|'
  r'incorrect|unknown|approximately|about|half|quarter)\b',
  re.IGNORECASE,
)
_POWER = r'(?: ?\^ ?(?:\{ ?-?[1-4] ?\}|-?[1-4])| squared\b| cubed\b)?'
_BARE = rf'(?<![A-Za-z\\])(?:{"|".join(sorted(_SURE, key=len, reverse=True))})'
_UPRIGHT = (
  r'\\(?:text|textbf|textit|textrm|mbox|hbox|mathrm|operatorname) ?\{ ?'
  rf'(?:[{_SINGLE}] ?\}}|(?!(?:{"|".join(FUNCTIONS)}|pi|mod|or|and) ?\}})'
  r'[^{}\d+*=<> ][^{}\d+*=<>]+\})'
)
_SIGN = r'\\Omega|\\mu ?[a-zA-Z]{1,2}|\^ ?\{? ?\\circ ?\}? ?(?:[CFK]|\\(?:text|mathrm) ?\{ ?[CFK] ?\})|\\degree ?[CFK]'
_LETTER = rf'[{_SINGLE}](?![A-Za-z]){_POWER}'
_INVERSE = (  # \mathrm{m\,s^{-1}}
  r'\\(?:text|mathrm) ?\{ ?[A-Za-z]{1,4}(?: ?[ /*] ?[A-Za-z]{1,4}|'
  r' ?\^ ?\{ ?-?[1-4] ?\}){1,6} ?\}'
)
_OVER = (
  rf'\\[dt]?frac ?\{{ ?{_UPRIGHT}{_POWER} ?\}} ?\{{ ?{_UPRIGHT}{_POWER} ?\}}'
)
_UNIT = (
  rf'(?:(?:{_BARE})(?![A-Za-z])|{_UPRIGHT}|(?:{_SIGN})(?![A-Za-z])|{_OVER}|{_INVERSE}|'
  rf'(?<![A-Za-z\\])m ?s(?=\^ ?\{{? ?-)){_POWER}'
)
_JOIN = r' ?(?:/|\*|\\cdot(?![a-z])|\\times(?![a-z])|\bper\b|\.|-) ?'
_SQUARE = r'(?:(?:sq|square|cubic|cu)\b\.? ?)?'
_REST = rf'(?:(?:{_JOIN}| )(?:{_UNIT}|{_LETTER}))*'
_END = r'(?= ?(?:$|[,;]|\\text ?\{ ?(?:and|or) ?\}|\b(?:and|or)\b))\.?'
# A unit is recognised by its name, or by a separate letter: 5 m, not 5m.
_STRICT = re.compile(
  rf'(?<=[\d)}}%A-Za-z\] ])(?: ?{_SQUARE}{_UNIT}{_REST}'
  rf'|(?<=[\d)}}])(?: {_LETTER}| ?[{_SINGLE}]){_JOIN}(?:{_UNIT}|{_LETTER}){_REST})'
  rf'{_END}'
)
_LOOSE = re.compile(
  rf'(?<=[\d)}}%]) (?:{_LETTER}|in(?:\^\{{?[23]\}}?)?){_REST}{_END}'
)
_THINGS = re.compile(r'(?<=[\d)}]) [A-Za-z]{4,}(?:[ -][A-Za-z]+)*$')
_PREFIX = re.compile(
  r'^ ?(?:USD|EUR|GBP|INR|CAD|AUD|US|Rs\.?|rs\.?|\\text ?\{ ?(?:USD|EUR|GBP|INR|'
  r'Rs\.?) ?\}) ?(?=[-\d.])'
)
_WORDS = re.compile(
  r'(?:\x01 ?[A-Za-z]+|[A-Za-z]{4,}|(?:km|kg|cm|mm|ml|mg|lbs?|oz|mph|hrs?|mins?|'
  r'am|pm|ft|st|nd|rd|th|usd|per|of|day|men|sq|cu|sec|secs|yrs?)\b\.?)'
  r'(?:[ /.-]+[A-Za-z]+(?:\^\{?[23]\}?)?)*(?:\^\{?[23]\}?)?\.?',
  re.IGNORECASE,
)


def only(text: str, *, spaced: bool = True) -> bool:
  r"""Whether the text after a number is only a unit: 'dollars per day', 'm/s'.

  Words are units if the first has at least four letters (apples), except those
  that change the number (more than, or, factorial) and those with a symbol
  among them (5% of x).

  Args:
    text: the text; words from \text{} have a \x01 before them.
    spaced: whether a space separates it from the number.
  """
  if not text or _NOT_UNITS.search(text.replace('\x01', ' ')):
    return False
  if re.match(r'\x01? ?(?:squared|cubed)\b', text):
    return False
  if _WORDS.fullmatch(text):
    words = re.sub(r'\b[ap]\.? ?m\b', '', text.replace('\x01', ' '))
    letters = re.findall(r'(?<![A-Za-z])[A-Za-z](?![A-Za-z])', words)
    return all(x in _SINGLE + 'a' for x in letters)
  before = '1 ' if spaced else '1'
  return not strip(before + text.replace('\x01', ''), loose=True)[1:].strip()


def strip(text: str, *, loose: bool) -> str:
  r"""Returns the text without units after its numbers and currency before them.

  Args:
    text: the result of `spelling.plain`.
    loose: whether the answer must be a number; then a separate letter after a
      number is a unit (5 m), not a symbol, and so are words (5 apples).
  """
  text = _PREFIX.sub('', text)
  for rule in (_STRICT, _LOOSE, _THINGS) if loose else (_STRICT,):
    text = rule.sub(_unless_unit, text)
  return text


def _unless_unit(match: re.Match) -> str:
  """Returns the matched text, or '' if it is a unit."""
  power = re.match(r'[ \\a-z]*\{? ?(?:squared|cubed)\b', match[0])
  return match[0] if power or _NOT_UNITS.search(match[0]) else ''
