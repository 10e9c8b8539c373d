"""What is the text of a step, and how similar is it to an expert's step?

R = 2 M / T (Deng et al. 2025, arXiv 2510.25992, section 3), as in Python's
difflib.SequenceMatcher: M counts the elements in matching blocks, T the
elements of both sequences.
"""

import difflib
import re
from collections.abc import Sequence

import numpy as np

from rlvr_jax import registry

UNITS = {
  'char': list,
  'word': str.split,
  # Words, numbers and single signs, without white space.
  'token': re.compile(r'[^\W\d_]+|\d+|[^\w\s]|_').findall,
}
LONGEST = 10_000  # most elements of a sequence that are compared
_SMALL = 40_000  # table cells up to which difflib is faster
_WORK = 10**9  # most table cells, a row costing 5,000 more: a few seconds


def ratio(
  prediction: str, expert: str, *, unit: str = 'char', autojunk: bool = False
) -> float:
  """Returns 2 M / T of two texts, in [0, 1]; 1 for two empty texts.

  Equal to difflib.SequenceMatcher(None, prediction, expert, autojunk).ratio()
  on lists of units, but with bounded cost: only the first 10,000 elements of a
  sequence are compared (T counts all), and blocks not found within `_WORK`
  comparisons count as unmatched. Both limits can only lower the value.

  Args:
    unit: char, word (split at white space) or token (words, numbers, signs).
    autojunk: see difflib.SequenceMatcher.

  Raises:
    ValueError: unknown unit.
  """
  if unit not in UNITS:
    raise ValueError(
      f'unit={registry.show(unit)}{registry.nearest(unit, UNITS)} Choose one of: '
      f'{", ".join(UNITS)}.'
    )
  a, b = UNITS[unit](prediction), UNITS[unit](expert)
  total = len(a) + len(b)
  if a == b:  # also if both are empty
    return 1.0
  a, b = a[:LONGEST], b[:LONGEST]
  if autojunk or len(a) * len(b) <= _SMALL:
    matcher = difflib.SequenceMatcher(None, a, b, autojunk)
    return 2 * sum(n for *_, n in matcher.get_matching_blocks()) / total
  return 2 * _matched(a, b) / total


def _matched(a: Sequence, b: Sequence) -> int:
  """Counts the elements in matching blocks, as difflib does without junk.

  Repeatedly takes the longest block (the first in a, then in b, of equal ones)
  from the table of common suffixes, computed one whole row at a time.
  """
  ids: dict = {}
  x, y = (
    np.array([ids.setdefault(e, len(ids)) for e in s], np.int32) for s in (a, b)
  )
  todo, matched, work = [(0, len(x), 0, len(y))], 0, 0
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
    matched += best
    start_a, start_b = end_a - best, end_b - best
    if low_a < start_a and low_b < start_b:
      todo.append((low_a, start_a, low_b, start_b))
    if end_a < high_a and end_b < high_b:
      todo.append((end_a, high_a, end_b, high_b))
  return matched


def step(text: str, think: str = 'required') -> str | None:
  """Returns the part of a completion that is scored, None for a wrong format.

  An empty step is a wrong format too.

  Args:
    text: the completion.
    think: 'required': the completion begins with one closed
      `<think>...</think>` (the chat template may have opened it), and the rest
      is the step. 'optional': the same, or no think tag anywhere. 'none': all
      of it is the step.
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
