"""What method='sft' imitates: worked solutions, messages of demonstrations."""

import numpy as np

from rlvr_jax import enums
from rlvr_jax.models import sampler


def targets(tasks, tokenizer, max_completion_length: int) -> sampler.Sampled:
  """The tasks' worked solutions as if they had been sampled, end token too.

  Raises:
    ValueError: a task without `data['solution']`, or one whose solution has
      more than max_completion_length tokens: names it and the remedy.
  """
  n = max_completion_length
  tokens = np.zeros((len(tasks), n), np.int32)
  length = np.zeros(len(tasks), np.int32)
  for i, task in enumerate(tasks):
    if not isinstance(task.data.get('solution'), str):
      raise ValueError(
        f"Task {task.id!r} has no worked solution, which method='sft' "
        "imitates: its environment must give data['solution'], a text, as "
        'gsm8k and jsonl files with a solution do.'
      )
    ids = tokenizer.encode_answer(task.data['solution'])
    if len(ids) > n:
      raise ValueError(
        f'The solution of task {task.id!r} has {len(ids)} tokens with its end '
        f'token; max_completion_length is {n}. Raise max_completion_length, '
        'or take the task out of the data.'
      )
    tokens[i, : len(ids)], length[i] = ids, len(ids)
  stop = np.full(len(tasks), enums.Stop.END, np.int32)
  return sampler.Sampled(tokens, np.zeros((len(tasks), n)), length, stop)


def demonstrations(tasks, group: int) -> list[list[str]]:
  """The messages that method='sft' imitates, for each row.

  Raises:
    ValueError: a task without data['demonstration'].
  """
  for task in tasks:
    if not task.data.get('demonstration'):
      raise ValueError(
        f"Task {task.id!r} has no data['demonstration'], the messages that "
        "method='sft' imitates in a dialogue."
      )
  return [t.data['demonstration'] for t in tasks for _ in range(group)]
