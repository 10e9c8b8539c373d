"""Worked solutions as lists of steps."""

import re
from collections.abc import Callable
from typing import NamedTuple

from rlvr_jax import registry


class Step(NamedTuple):
  title: str  # '' where it has none
  text: str


_CALCULATOR = re.compile(r'<<[^<>]*>>')  # GSM8K's annotations
_SENTENCE = re.compile(r'(?<=[.!?])\s+(?=[^\s])')
# A number at the start of a line, behind marks of a heading or of bold text.
# A digit after the point makes it a decimal.
_NUMBERED = re.compile(
  r'^[ \t#*]*(?:step[ \t]+)?\d{1,3}[.):](?=[\s*])[ \t*]*', re.I | re.M
)
_COLON = re.compile(r':(?=[\s*]|$)')  # not that of 2:1 or 12:30


def _lines(text: str) -> list[Step]:
  return [Step('', line.strip()) for line in text.splitlines()]


def _sentences(text: str) -> list[Step]:
  return [
    Step('', s.strip())
    for line in text.splitlines()
    for s in _SENTENCE.split(line)
  ]


def _numbered(text: str) -> list[Step]:
  """'1. Title: text' or '1. Title', then lines of text. What stands before the
  first number is dropped; a line alone is text without a title."""
  out = []
  for part in _NUMBERED.split(text)[1:]:
    head, _, rest = part.strip().partition('\n')
    title, *tail = _COLON.split(head, maxsplit=1)
    title, tail = title.strip(' *'), ''.join(tail).strip(' *')
    if rest.strip():
      out.append(Step(title, f'{tail}\n{rest.strip()}'.strip()))
    elif tail:
      out.append(Step(title, tail))
    else:
      out.append(Step('', head.strip()))
  return out


SPLITS: dict[str, Callable[[str], list[Step]]] = {
  'line': _lines,
  'sentence': _sentences,
  'numbered': _numbered,
}


def split(solution: str, by: str = 'line') -> list[Step]:
  """The steps of a worked solution; empty ones are dropped.

  GSM8K's calculator annotations (<<3*4=12>>) are taken out.

  Args:
    by: line; sentence (and line); numbered ('1. Title: text', or a title line
      and text below it).

  Raises:
    ValueError: another way to split.
  """
  if by not in SPLITS:
    raise ValueError(
      f'by={registry.show(by)}: choose one of {", ".join(SPLITS)}.'
    )
  found = SPLITS[by](_CALCULATOR.sub('', solution).strip())
  return [s for s in found if s.text]
