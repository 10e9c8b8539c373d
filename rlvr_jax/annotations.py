"""Values of options, held against the annotations of the functions they set."""

import keyword
import math
import types
import typing

# Sizes of numbers: squares and sums of them must stay finite in float32, and
# what is not 0 must not become 0 there. Whole numbers fit in 64 bits.
LARGEST, SMALLEST, WHOLE = 1e15, 1e-30, 2**63 - 1


class Word(str):
  """A bare name: text, or true, false and none where these are meant."""


def is_text(x) -> bool:
  """A string that UTF-8 can write and that holds no NUL."""
  if not isinstance(x, str) or '\0' in x:
    return False
  return not any('\ud800' <= c <= '\udfff' for c in x)


def literal(value) -> str:
  """The text of a value; of a string that is one word, the word.

  Raises:
    TypeError: what is neither a finite number, text, True, False, None, nor a
      tuple or list of these.
  """
  kind = type(value)
  if kind is Word:
    return str(value)
  if kind is str and value.isascii() and value.isidentifier():
    # Of true, false and none a parameter may make something else than text.
    taken = keyword.iskeyword(value) or keyword.iskeyword(value.title())
    return repr(value) if taken else value
  if kind in (str, bool, int, type(None)):
    return repr(value)
  if kind is float and math.isfinite(value):
    return repr(value)
  if kind in (tuple, list):  # in which words would be no literals
    inner = [repr(v) if type(v) in (str, Word) else literal(v) for v in value]
    text = ', '.join(inner) + ',' * (kind is tuple and len(inner) == 1)
    return f'({text})' if kind is tuple else f'[{text}]'
  raise TypeError(
    f'{str(value)[:60]} ({kind.__name__}): give a finite number, text, True, '
    'False, None, or a tuple or list of these.'
  )


def fitted(kinds, value):
  """The value as one of the annotated types; TypeError says which there are.

  What has no type that is known here stays as it is.
  """
  options = _options(kinds)
  if not all(map(_is_known, options)):
    return str(value) if isinstance(value, Word) else value
  for option in options:
    fits, new = _fit(option, value, str in options)
    if fits:
      return new
  raise TypeError(' or '.join(map(_called, options)))


def _options(kinds) -> list:
  """bool, int, float before str before None; int | float is float."""
  union = typing.get_origin(kinds) in (types.UnionType, typing.Union)
  options = list(typing.get_args(kinds)) if union else [kinds]
  if float in options:
    options = [o for o in options if o is not int]
  return [type(None) if o is None else o for o in options]


def _is_known(kind) -> bool:
  if typing.get_origin(kind) is tuple:
    return all(k is ... or _is_known(k) for k in typing.get_args(kind))
  return kind in (bool, int, float, str, type(None))


def _fit(kind, value, or_text):
  """(whether it is one, the value as one). Bare words may be text instead."""
  word = str(value).lower() if isinstance(value, Word) else ''
  if kind is bool:
    if word in ('true', 'false'):
      return True, word == 'true'
    return isinstance(value, bool), value
  if kind is type(None):
    return value is None or (word == 'none' and not or_text), None
  if kind is str:
    return is_text(value), str(value) if is_text(value) else ''
  if kind is int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and abs(value) <= WHOLE, value
  if kind is float:
    if not isinstance(value, int | float) or isinstance(value, bool):
      return False, value
    if value and not SMALLEST <= abs(value) <= LARGEST:  # NaN too
      return False, value
    return True, float(value)
  inner = typing.get_args(kind)
  if not isinstance(value, (tuple, list)):
    return False, value
  if inner[-1] is ...:
    inner = inner[:1] * len(value)
  if len(inner) != len(value):
    return False, value
  pairs = [_fit(k, v, False) for k, v in zip(inner, value, strict=True)]
  return all(fits for fits, _ in pairs), tuple(new for _, new in pairs)


def _called(kind) -> str:
  """What a message calls a type."""
  if typing.get_origin(kind) is tuple:
    inner = ', '.join(
      '...' if k is ... else _called(k) for k in typing.get_args(kind)
    )
    return f'a tuple ({inner})'
  return {
    bool: 'True or False',
    int: 'a whole number',
    float: f'0 or a number of size {SMALLEST:g} to {LARGEST:g}',
    str: 'text (in quotes, unless it is one word)',
    type(None): 'None',
  }[kind]
