"""How is a worked solution split into steps?"""

import re
from collections.abc import Callable
from typing import NamedTuple

from rlvr_jax import registry


class Step(NamedTuple):
  title: str  # '' without a title
  text: str


_CALCULATOR = re.compile(r'<<[^<>]*>>')  # GSM8K's annotations
_SENTENCE = re.compile(r'(?<=[.!?])\s+(?=[^\s])')
# A step number at the start of a line, after Markdown heading or bold marks.
# White space or '*' must follow its point: '3.5' is a decimal, no step.
_NUMBERED = re.compile(
  r'^[ \t#*]*(?:step[ \t]+)?\d{1,3}[.):](?=[\s*])[ \t*]*', re.I | re.M
)
_COLON = re.compile(r':(?=[\s*]|$)')  # not the colon of 2:1 or 12:30


def _lines(text: str) -> list[Step]:
  return [Step('', line.strip()) for line in text.splitlines()]


def _sentences(text: str) -> list[Step]:
  return [
    Step('', s.strip())
    for line in text.splitlines()
    for s in _SENTENCE.split(line)
  ]


def _numbered(text: str) -> list[Step]:
  """Splits at step numbers: '1. Title: text', or '1. Title' and lines of text.

  Text before the first number is dropped. A numbered line without a colon and
  without lines below it becomes a step without a title.
  """
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
  """Returns the non-empty steps of a worked solution.

  GSM8K's calculator annotations (<<3*4=12>>) are removed first.

  Args:
    by: 'line'; 'sentence' (lines are split into sentences); or 'numbered'
      ('1. Title: text', or a title line with text below it).

  Raises:
    ValueError: `by` is unknown.
  """
  if by not in SPLITS:
    raise ValueError(
      f'by={registry.show(by)}: choose one of {", ".join(SPLITS)}.'
    )
  steps = SPLITS[by](_CALCULATOR.sub('', solution).strip())
  return [step for step in steps if step.text]
