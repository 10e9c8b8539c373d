"""HTML pages of one file each: jinja2 templates, filled with plain values.

What a model wrote is untrusted. Templates escape every value they print, and
the pages forbid scripts and requests.
"""

import os
import pathlib
import re
from typing import NamedTuple

import jinja2

_CONTROL = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]')


class Figure(NamedTuple):
  """An image; a wide one scrolls on a phone, so that it stays legible."""

  title: str
  source: str  # a data URI, as `plots` makes them
  note: str = ''
  wide: bool = False


def render(template: str, **values) -> str:
  """The page of one of reporting/templates.

  Raises:
    jinja2.UndefinedError: the template prints a value that is not given.
  """
  return _ENVIRONMENT.get_template(template).render(values)


def save(path, text: str) -> pathlib.Path:
  """Writes a page atomically; half of a character is written as its escape.

  Raises:
    OSError: `path` cannot be written.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  tmp = path.with_name(path.name + '.tmp')
  tmp.write_text(text, encoding='utf-8', errors='backslashreplace')
  os.replace(tmp, path)
  return path


def _visible(value):
  """Control characters, which browsers hide or refuse, become visible."""
  if hasattr(value, '__html__'):  # what a macro made
    return value
  return _CONTROL.sub('\N{REPLACEMENT CHARACTER}', str(value))


_ENVIRONMENT = jinja2.Environment(
  loader=jinja2.PackageLoader('rlvr_jax.reporting'),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  finalize=_visible,
  trim_blocks=True,
  lstrip_blocks=True,
)
