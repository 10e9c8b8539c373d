"""Tasks: single steps of worked solutions, the training tasks of SRL.

A solution of N steps gives N - 1 tasks (Deng et al. 2025, arXiv 2510.25992,
section 3): the prompt is the question and the expert's steps 1..k-1, the
target is step k, for k = 1..N-1. The last step, which states the answer, is a
target only with `last=True`.
"""

import bisect
import itertools
from collections.abc import Sequence

from rlvr_jax import registry
from rlvr_jax.envs import split_solution
from rlvr_jax.tasks import Env, Lazy, Task, check_int

MOST_SOLUTIONS = 20_000  # of a split that are split into steps


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
  """The tasks of `env`: single steps to train on, whole problems to evaluate.

  train: step tasks. data['expert'] is the expert's step, data['solution'] the
  target of supervised training (the step, after an empty thought with
  `think`). Their verifier is 'step': CORRECT if the step equals the expert's
  up to white space. validation, test: unchanged problems of `env`; validation
  is its last train problems, which give no step tasks.

  Args:
    env: an environment whose tasks have data['solution'].
    by: how solutions are split, see `split_solution.split`; solutions that
      come in steps (jsonl) are not split again.
    titles: the prompt states the title of the requested step (a footnote of
      the paper; the title may give the step away).
    last: the last step is a target too.
    whole: one task per solution, whose target is the whole solution: the
      paper's baseline.
    also_whole: every problem is a train task unchanged, in addition.
    only_whole: unchanged problems and no step tasks: outcome rewards on the
      same problems.
    think: prompts request <think>...</think> before the step.
    terse: prompts without instructions, for small models.
    validation: problems held out for choosing a checkpoint.

  Raises:
    ValueError: an option is out of range, a task has no solution, or no
      solution has enough steps.
  """
  if whole + also_whole + only_whole > 1:
    raise ValueError(
      f'steps(whole={whole}, also_whole={also_whole}, only_whole={only_whole}): '
      'set at most one of them.'
    )
  with registry.naming('env', env):
    source = registry.get('env', env)()
  train = source['train']
  check_int('validation', validation, low=0, high=len(train) - 1)
  count = min(len(train) - validation, MOST_SOLUTIONS)
  split_solution.split('', by)  # refuses an unknown `by` before any task
  counts = []  # train tasks of each solution
  for i in range(count):
    n = len(_steps(train[i], by))
    n = min(n, 1) if whole else n if last else max(n - 1, 0)
    counts.append(1 if only_whole else n + also_whole)
  ends = list(itertools.accumulate(counts))
  if not ends or not ends[-1]:
    raise ValueError(
      f'steps({env}, by={registry.show(by)}): no solution has '
      f'{1 if whole or last else 2} steps. Choose another `by`.'
    )

  def make(index: int) -> Task:
    i = bisect.bisect_right(ends, index)
    k = index - (ends[i - 1] if i else 0)
    if only_whole or (also_whole and k + 1 == counts[i]):
      return train[i]._replace(id=f'train-{index}')
    return _task(index, train[i], k, by, titles, whole, think, terse)

  start = len(train) - validation
  return {
    'train': Lazy(ends[-1], make, train),
    'validation': Lazy(validation, lambda i: train[start + i], train),
    'test': source['test'],
  }


def _steps(task: Task, by: str) -> list[split_solution.Step]:
  if 'steps' in task.data:
    return [split_solution.Step(*step) for step in task.data['steps']]
  solution = task.data.get('solution')
  if not isinstance(solution, str):
    raise ValueError(
      f"Task {registry.show(task.id)} has no data['solution'] to split into "
      'steps: choose an environment with worked solutions, such as gsm8k, chain '
      "or a jsonl file with 'solution' or 'steps'."
    )
  return split_solution.split(solution, by)


def _task(
  index: int,
  task: Task,
  k: int,
  by: str,
  titles: bool,
  whole: bool,
  think: bool,
  terse: bool,
) -> Task:
  """Builds the task whose target is step k, or the whole solution."""
  solution_steps = _steps(task, by)
  expert = task.data['solution'].strip() if whole else solution_steps[k].text
  before = [] if whole else [s.text for s in solution_steps[:k]]
  title = solution_steps[k].title if titles and not whole else ''
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


def _terse(
  question: str, before: Sequence[str], title: str, whole: bool, think: bool
) -> str:
  if whole:
    return question
  return '\n'.join([question, *before, f'{title}>'])


def _prompt(
  question: str, before: Sequence[str], title: str, whole: bool, think: bool
) -> str:
  parts = [question]
  if whole:
    request = 'Solve this step by step.'
  else:
    if before:
      numbered = '\n'.join(f'{i}. {s}' for i, s in enumerate(before, 1))
      parts.append(f'The solution so far:\n{numbered}')
    quoted = f', "{title}"' if title else ''
    request = f'Write the next step{quoted} and nothing after it.'
  if think:
    request += ' Think first, between <think> and </think>, then write it.'
  return '\n\n'.join([*parts, request])
