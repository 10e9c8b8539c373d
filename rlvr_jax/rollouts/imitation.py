"""Targets of method='sft': worked solutions and demonstrated messages."""

from collections.abc import Sequence

import numpy as np

from rlvr_jax import enums
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.models import sampler
from rlvr_jax.tasks import Task


def targets(
  tasks: Sequence[Task], tokenizer: Tokenizer, max_completion_length: int
) -> sampler.Sampled:
  """The tasks' worked solutions in the form of samples, end token included.

  Raises:
    ValueError: a task without `data['solution']`, or one whose solution has
      more than max_completion_length tokens.
  """
  n = max_completion_length
  tokens = np.zeros((len(tasks), n), np.int32)
  length = np.zeros(len(tasks), np.int32)
  for i, task in enumerate(tasks):
    if not isinstance(task.data.get('solution'), str):
      raise ValueError(
        f"Task {task.id!r} has no worked solution, which method='sft' "
        "imitates: its environment must give data['solution'], a string, as "
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


def demonstrations(tasks: Sequence[Task], group: int) -> list[list[str]]:
  """The demonstrated messages of each row: `group` rows per task.

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
