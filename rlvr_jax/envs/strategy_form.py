"""Which strategy did a completion use? Judged by its form, not its answer."""

import functools
import math
import re
from collections.abc import Sequence

from rlvr_jax.envs import strategies
from rlvr_jax.tasks import Task

_ANSWER = r'(?:#### [0-9]|\\boxed\{[0-9]\})'
_CONFIDENCE = r'(?:\n<confidence>[0-9.]{1,8}</confidence>)?'


def classify(task: Task, completion: str) -> str | None:
  """Returns the strategy of `envs.strategies` that the whole text matches.

  A scratchpad must have exactly one step for each term of the task; whether
  its steps or the answer are right does not matter. None if no form matches,
  or if the task has no `data['strategy']`.
  """
  if 'strategy' not in task.data:
    return None
  for name, form in _forms(task.data['terms']):
    if form.fullmatch(completion):
      return name
  return None


@functools.lru_cache
def _forms(terms: int) -> list[tuple[str, re.Pattern[str]]]:
  prefixes = {
    'scratchpad': f'(?:[a-z][0-9]){{{terms}}} ',
    'direct': '',
    'decoy': 'min [a-z][0-9] ',
  }
  return [
    (name, re.compile(prefixes[name] + _ANSWER + _CONFIDENCE))
    for name in strategies.NAMES
  ]


def usage(
  tasks: Sequence[Task],
  completions: Sequence[str],
  right: Sequence[bool],
) -> dict[str, float]:
  """Returns the share and the accuracy of each strategy as metrics.

  Args:
    tasks: n tasks, the one of each completion; completions of tasks without
      strategies are ignored.
    completions: n texts.
    right: n, whether the verdict is CORRECT.

  Returns:
    `strategy/NAME`, the share of the completions, for every strategy and
    'none' (no form matches); the shares add up to 1.
    `strategy_accuracy/NAME`, the accuracy of these completions, NaN if there
    are none. {} if no task has strategies.

  Raises:
    ValueError: lengths differ.
  """
  used: dict[str, list[bool]] = {n: [] for n in (*strategies.NAMES, 'none')}
  for task, completion, is_right in zip(tasks, completions, right, strict=True):
    if 'strategy' in task.data:
      used[classify(task, completion) or 'none'].append(bool(is_right))
  total = sum(map(len, used.values()))
  if not total:
    return {}
  mean = lambda x: sum(x) / len(x) if x else math.nan
  return {f'strategy/{n}': len(x) / total for n, x in used.items()} | {
    f'strategy_accuracy/{n}': mean(x) for n, x in used.items()
  }
