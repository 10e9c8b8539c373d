"""The endless stream of training tasks: a function of seed and position.

There is no other state, so a run resumes from its position alone.
"""

from collections.abc import Callable, Sequence
from concurrent import futures

from rlvr_jax.tasks import Task, check_int, permute


def tasks_at(
  tasks: Sequence[Task], *, seed: int, position: int, count: int
) -> list[Task]:
  """Tasks `position`, ..., `position + count - 1` of an endless stream.

  With n tasks, positions e*n, ..., e*n + n - 1 are epoch e: a permutation of
  all tasks that depends on (seed, e) only (see `permute`). The cost is
  O(count), whatever n and position are.

  Raises:
    ValueError: no tasks, a negative position or count.
  """
  n = len(tasks)
  if n == 0:
    raise ValueError('There are no tasks to sample from: the split is empty.')
  check_int('position', position, low=0)
  check_int('count', count, low=0)
  out = []
  for k in range(position, position + count):
    epoch, i = divmod(k, n)
    out.append(tasks[permute(i, n, 'epoch', seed, epoch)])
  return out


def check_prompts(
  tasks: Sequence[Task],
  encode: Callable[[Task], Sequence[int]],
  max_prompt_length: int,
) -> None:
  """Raises ValueError for a prompt that is empty or does not fit.

  Prompts are never truncated. Encodes every task given: for a long procedural
  split, pass the tasks of a step.

  Args:
    tasks: the tasks to check.
    encode: task -> token ids of its whole rendered prompt.
    max_prompt_length: most tokens that a prompt may have.
  """
  check_int('max_prompt_length', max_prompt_length, low=1)
  # Templates are rendered in other processes, several at a time.
  with futures.ThreadPoolExecutor(8) as threads:
    lengths = list(threads.map(lambda task: len(encode(task)), tasks))
  if 0 in lengths:
    name = tasks[lengths.index(0)].id
    raise ValueError(
      f'The prompt of task {name!r} has no tokens: check the chat template.'
    )
  too_long = [i for i, n in enumerate(lengths) if n > max_prompt_length]
  if too_long:
    named = ', '.join(f'{tasks[i].id!r} has {lengths[i]}' for i in too_long[:5])
    rest = f', and {len(too_long) - 5} more' if len(too_long) > 5 else ''
    raise ValueError(
      f'{len(too_long)} of {len(lengths)} prompts are longer than '
      f'max_prompt_length={max_prompt_length} tokens: {named}{rest}. Prompts '
      f'are never truncated: set max_prompt_length={max(lengths)}, or take '
      'these tasks out of the data.'
    )
