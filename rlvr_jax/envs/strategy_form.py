"""Which strategy a completion used: told from its form, never its answer."""

import functools
import math
import re
from collections.abc import Sequence

from rlvr_jax.envs import strategies
from rlvr_jax.tasks import Task

_ANSWER = r'(?:#### [0-9]|\\boxed\{[0-9]\})'
_CONFIDENCE = r'(?:\n<confidence>[0-9.]{1,8}</confidence>)?'


def classify(task: Task, completion: str) -> str | None:
  """The strategy of `envs.strategies` whose form the whole text has.

  A scratchpad has a step for each term of the task, no more and no fewer;
  whether steps or answer are right does not matter. None: another form, or a
  task without strategies (no `data['strategy']`).
  """
  if 'strategy' not in task.data:
    return None
  for name, form in _forms(task.data['terms']):
    if form.fullmatch(completion):
      return name
  return None


@functools.lru_cache
def _forms(terms: int):
  leads = {
    'scratchpad': f'(?:[a-z][0-9]){{{terms}}} ',
    'direct': '',
    'decoy': 'min [a-z][0-9] ',
  }
  return [
    (name, re.compile(leads[name] + _ANSWER + _CONFIDENCE))
    for name in strategies.NAMES
  ]


def usage(
  tasks: Sequence[Task],
  completions: Sequence[str],
  right: Sequence[bool],
) -> dict[str, float]:
  """How often each strategy was used and how often it was right.

  Args:
    tasks: n tasks, the one of each completion; those without strategies are
      left out.
    completions: n texts.
    right: n, whether the verdict is CORRECT.

  Returns:
    `strategy/NAME`, the share of the completions, for every strategy and
    'none' (no form of the three); the shares add up to 1.
    `strategy_accuracy/NAME`, the share of these that is right, NaN where
    there are none. {} if no task has strategies.

  Raises:
    ValueError: lengths differ.
  """
  used: dict[str, list[bool]] = {n: [] for n in (*strategies.NAMES, 'none')}
  for task, text, ok in zip(tasks, completions, right, strict=True):
    if 'strategy' in task.data:
      used[classify(task, text) or 'none'].append(bool(ok))
  total = sum(map(len, used.values()))
  if not total:
    return {}
  mean = lambda x: sum(x) / len(x) if x else math.nan
  return {f'strategy/{n}': len(x) / total for n, x in used.items()} | {
    f'strategy_accuracy/{n}': mean(x) for n, x in used.items()
  }
