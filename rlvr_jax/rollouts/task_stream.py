"""The stream of tasks: a function of the seed and a position.

Nothing is kept between calls, so a run resumes from the number of tasks it
has taken.
"""

from collections.abc import Callable, Sequence
from concurrent import futures

from rlvr_jax.tasks import Task, check_int, permute


def tasks_at(
  tasks: Sequence[Task], *, seed: int, position: int, count: int
) -> list[Task]:
  """Tasks `position`, ..., `position + count - 1` of an endless stream.

  With n tasks, positions e*n, ..., e*n + n - 1 are epoch e: a permutation of
  all tasks that (seed, e) names (`permute`), each of them exactly once.
  The cost is O(count) whatever n and position are.

  Raises:
    ValueError: no tasks, a negative position or count.
  """
  n = len(tasks)
  if n == 0:
    raise ValueError('There are no tasks to draw from: the split is empty.')
  check_int('position', position, low=0)
  check_int('count', count, low=0)
  out = []
  for k in range(position, position + count):
    epoch, i = divmod(k, n)
    out.append(tasks[permute(i, n, 'epoch', seed, epoch)])
  return out


def shard(items: Sequence, index: int, count: int) -> Sequence:
  """The slice of `items` that process `index` of `count` takes.

  Slices are contiguous, equal and in order, so all of them joined are
  `items`.

  Raises:
    ValueError: a bad index, or items that `count` does not divide.
  """
  check_int('count', count, low=1)
  check_int('index', index, low=0, high=count - 1)
  size, left = divmod(len(items), count)
  if left:
    raise ValueError(
      f'{len(items)} items do not divide among {count} processes: take '
      f'{max(1, size) * count} or {(size + 1) * count} of them.'
    )
  return items[index * size : (index + 1) * size]


def check_prompts(
  tasks: Sequence[Task],
  encode: Callable[[Task], Sequence[int]],
  max_prompt_length: int,
  *,
  on_long: str = 'error',
) -> Sequence[Task]:
  """The tasks whose prompt fits; nothing is ever cut.

  Encodes every task given: for a long procedural split, call it on the tasks
  of a step instead.

  Args:
    tasks: the tasks to check.
    encode: task -> token ids of its whole rendered prompt.
    max_prompt_length: most tokens that a prompt may have.
    on_long: 'error' refuses a long prompt, 'drop' leaves its task out.

  Returns:
    `tasks` itself if all fit, else a list of those that do.

  Raises:
    ValueError: a prompt too long under 'error', no task left under 'drop',
      an empty prompt, or another `on_long`.
  """
  check_int('max_prompt_length', max_prompt_length, low=1)
  if on_long not in ('error', 'drop'):
    raise ValueError(f"on_long={on_long!r} must be 'error' or 'drop'.")
  # Templates are rendered in other processes, several at a time.
  with futures.ThreadPoolExecutor(8) as threads:
    lengths = list(threads.map(lambda task: len(encode(task)), tasks))
  if 0 in lengths:
    name = tasks[lengths.index(0)].id
    raise ValueError(
      f'The prompt of task {name!r} has no tokens: check the chat template.'
    )
  long = [i for i, n in enumerate(lengths) if n > max_prompt_length]
  if not long:
    return tasks
  if on_long == 'error' or len(long) == len(lengths):
    some = ', '.join(f'{tasks[i].id!r} has {lengths[i]}' for i in long[:5])
    more = f', and {len(long) - 5} more' if len(long) > 5 else ''
    raise ValueError(
      f'{len(long)} of {len(lengths)} prompts are longer than '
      f'max_prompt_length={max_prompt_length} tokens: {some}{more}. Prompts '
      f'are never cut: set max_prompt_length={max(lengths)}'
      + (
        ', or take these tasks out of the data.'
        if on_long == 'error'
        else '; dropping would leave no task.'
      )
    )
  dropped = set(long)
  return [task for i, task in enumerate(tasks) if i not in dropped]
