"""Step tasks out of worked solutions: what SRL trains on.

A solution of N steps gives N - 1 tasks (Deng et al. 2025, arXiv 2510.25992,
section 3): the question and the expert's steps 1..k-1 are the prompt, step k
is the target, k = 1..N-1. The last step, which has the answer, is a target
only with `last=True`.
"""

import bisect
import itertools
from collections.abc import Sequence

from rlvr_jax import registry
from rlvr_jax.envs import split_solution as split_lib
from rlvr_jax.tasks import Env, Lazy, Task, check_int

CHECKED = 20_000  # solutions of a split that are cut into steps


@registry.register('env')
def steps(
  *,
  env: registry.Spec,
  by: str = 'line',
  titles: bool = False,
  last: bool = False,
  whole: bool = False,
  also_whole: bool = False,
  only_whole: bool = False,
  think: bool = True,
  terse: bool = False,
  validation: int = 60,
) -> Env:
  """The tasks of `env` step by step to train on, whole ones to evaluate.

  train: step tasks. data['expert'] is the expert's step, data['solution'] what
  supervised training imitates (the step, after an empty thought with `think`).
  Their verifier is 'step': CORRECT when the step equals the expert's but for
  white space. validation, test: whole problems of `env`, as they are; the
  former are its last train problems, which give no steps.

  Args:
    env: an environment whose tasks have data['solution'].
    by: how solutions are cut, see `text.steps.split`; one that comes in steps
      (jsonl) stays as it is.
    titles: the prompt names the title of the step that is asked for (a
      footnote of the paper; it may give the step away).
    last: the last step is a target too.
    whole: one task a solution, whose target is all of it: the baseline.
    also_whole: every problem is a train task as it is, too.
    only_whole: problems as they are, and no steps: outcome reward on what the
      others train on.
    think: prompts ask for <think>...</think> before the step.
    terse: prompts without instructions, for small models.
    validation: whole problems kept for choosing a checkpoint.

  Raises:
    ValueError: an option out of range, a task without a solution, or no
      solution with as many steps as it takes.
  """
  if whole + also_whole + only_whole > 1:
    raise ValueError(
      f'steps(whole={whole}, also_whole={also_whole}, only_whole={only_whole}): '
      'one of them at most.'
    )
  with registry.naming('env', env):
    source = registry.get('env', env)()
  train = source['train']
  check_int('validation', validation, low=0, high=len(train) - 1)
  count = min(len(train) - validation, CHECKED)
  split_lib.split('', by)  # refuses a bad `by` before any task
  counts = []
  for i in range(count):
    n = len(_steps(train[i], by))
    n = min(n, 1) if whole else n if last else max(n - 1, 0)
    counts.append(1 if only_whole else n + also_whole)
  ends = list(itertools.accumulate(counts))
  if not ends or not ends[-1]:
    raise ValueError(
      f'steps({env}, by={registry.show(by)}): no solution has {1 if whole or last else 2} '
      'steps. Split them in another way.'
    )
  how = (by, titles, whole, think, terse)

  def make(index):
    i = bisect.bisect_right(ends, index)
    k = index - (ends[i - 1] if i else 0)
    if only_whole or (also_whole and k + 1 == counts[i]):
      return train[i]._replace(id=f'train-{index}')
    return _task(index, train[i], k, *how)

  start = len(train) - validation
  return {
    'train': Lazy(ends[-1], make, train),
    'validation': Lazy(validation, lambda i: train[start + i], train),
    'test': source['test'],
  }


def _steps(task, by) -> list[split_lib.Step]:
  if 'steps' in task.data:
    return [split_lib.Step(*step) for step in task.data['steps']]
  solution = task.data.get('solution')
  if not isinstance(solution, str):
    raise ValueError(
      f"Task {registry.show(task.id)} has no data['solution'] to cut into steps: take an "
      'environment with worked solutions, such as gsm8k, chain or a jsonl file '
      "with 'solution' or 'steps'."
    )
  return split_lib.split(solution, by)


def _task(index, task, k, by, titles, whole, think, terse) -> Task:
  found = _steps(task, by)
  expert = task.data['solution'].strip() if whole else found[k].text
  before = [] if whole else [s.text for s in found[:k]]
  title = found[k].title if titles and not whole else ''
  prompt = (_terse if terse else _prompt)(
    task.question, before, title, whole, think
  )
  target = f'<think>\n</think>\n{expert}' if think else expert
  return Task(
    f'train-{index}',
    prompt,
    expert,
    'step',
    {'expert': expert, 'solution': target, 'of': task.id, 'step': k},
  )


def _terse(question, before, title, whole, think) -> str:
  if whole:
    return question
  return '\n'.join([question, *before, f'{title}>'])


def _prompt(question, before: Sequence[str], title, whole, think) -> str:
  parts = [question]
  if whole:
    ask = 'Solve this step by step.'
  else:
    if before:
      done = '\n'.join(f'{i}. {s}' for i, s in enumerate(before, 1))
      parts.append(f'The solution so far:\n{done}')
    named = f', "{title}"' if title else ''
    ask = f'Write the next step{named} and nothing after it.'
  if think:
    ask += ' Think first, between <think> and </think>, then write it.'
  return '\n\n'.join([*parts, ask])
