"""How is an HTML page made? One file each, from jinja2 templates.

Completions are untrusted text. Templates escape every value that they print,
and the pages forbid scripts and requests.
"""

import os
import pathlib
import re
from typing import Any, NamedTuple

import jinja2

_CONTROL = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]')


class Figure(NamedTuple):
  """An image; a wide one scrolls on a narrow screen instead of shrinking."""

  title: str
  source: str  # a data URI, as `plots` makes them
  note: str = ''
  wide: bool = False


def render(template: str, **values: Any) -> str:
  """Renders a template of reporting/templates.

  Raises:
    jinja2.UndefinedError: the template uses a value that is missing.
  """
  return _ENVIRONMENT.get_template(template).render(values)


def save(path: str | os.PathLike, text: str) -> pathlib.Path:
  """Writes a page atomically; lone surrogates are written as escapes.

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
  """Text with control characters, which browsers hide, made visible."""
  if hasattr(value, '__html__'):  # the result of a macro
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
