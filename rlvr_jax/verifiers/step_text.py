"""The text of one step, and how much of it agrees with an expert's.

R = 2 M / T (Deng et al. 2025, arXiv 2510.25992, section 3): M counts the
elements of matching blocks, T those of both sequences, as in Python's
difflib.SequenceMatcher.
"""

import difflib
import re
from collections.abc import Sequence

import numpy as np

from rlvr_jax import registry

UNITS = {
  'char': list,
  'word': str.split,
  # Words, numbers and single signs; white space separates.
  'token': re.compile(r'[^\W\d_]+|\d+|[^\w\s]|_').findall,
}
LONGEST = 10_000  # elements of a sequence that are compared
_SMALL = 40_000  # cells up to which difflib is the faster one
_WORK = 10**9  # cells, and 5,000 for the overhead of a row: some seconds


def ratio(
  prediction: str, expert: str, *, unit: str = 'char', autojunk: bool = False
) -> float:
  """2 M / T of two texts, in [0, 1]; two empty ones give 1.

  The value is that of difflib.SequenceMatcher(None, prediction, expert,
  autojunk).ratio() on lists of units. Bounded: of longer sequences the first
  10,000 elements are compared (T counts all), and where matching them would
  take billions of comparisons, blocks that were not found by then count as
  unmatched. Both only lower the value.

  Args:
    unit: char, word (split at white space) or token (words, numbers, signs).

  Raises:
    ValueError: another unit.
  """
  if unit not in UNITS:
    raise ValueError(
      f'unit={registry.show(unit)}{registry.nearest(unit, UNITS)} Choose one of: '
      f'{", ".join(UNITS)}.'
    )
  a, b = UNITS[unit](prediction), UNITS[unit](expert)
  total = len(a) + len(b)
  if a == b:  # two empty ones too
    return 1.0
  a, b = a[:LONGEST], b[:LONGEST]
  if autojunk or len(a) * len(b) <= _SMALL:
    matcher = difflib.SequenceMatcher(None, a, b, autojunk)
    return 2 * sum(n for *_, n in matcher.get_matching_blocks()) / total
  return 2 * _matched(a, b) / total


def _matched(a: Sequence, b: Sequence) -> int:
  """Elements in matching blocks, as difflib finds them without junk.

  The longest block that starts first in a, then in b; rows of the table of
  common suffixes, whole ones at a time.
  """
  ids: dict = {}
  x, y = (
    np.array([ids.setdefault(e, len(ids)) for e in s], np.int32) for s in (a, b)
  )
  todo, found, work = [(0, len(x), 0, len(y))], 0, 0
  while todo:
    low_a, high_a, low_b, high_b = todo.pop()
    work += (high_a - low_a) * (high_b - low_b + 5_000)
    if work > _WORK:
      break
    part = y[low_b:high_b]
    run = np.zeros(len(part) + 1, np.int32)
    best = 0
    for i in range(low_a, high_a):
      run[1:] = np.where(part == x[i], run[:-1] + 1, 0)
      j = int(run.argmax())
      if run[j] > best:
        best, end_a, end_b = int(run[j]), i + 1, low_b + j
    if not best:
      continue
    found += best
    start_a, start_b = end_a - best, end_b - best
    if low_a < start_a and low_b < start_b:
      todo.append((low_a, start_a, low_b, start_b))
    if end_a < high_a and end_b < high_b:
      todo.append((end_a, high_a, end_b, high_b))
  return found


def step(text: str, think: str = 'required') -> str | None:
  """The part of a completion that is scored; None: its form is broken.

  Args:
    think: 'required': `<think>...</think>` once, closed, at the start (the
      chat template may have opened it), then the step. 'optional': the same, or
      neither mark anywhere. 'none': all of it is the step.

  An empty step is a broken form.
  """
  text = text.strip()
  if think != 'none' and not (
    think == 'optional' and '<think>' not in text and '</think>' not in text
  ):
    thought, closed, text = text.partition('</think>')
    opened = thought.count('<think>')
    if (
      not closed
      or opened > 1
      or (opened and not thought.startswith('<think>'))
      or '<think>' in text
      or '</think>' in text
    ):
      return None
  return text.strip() or None
