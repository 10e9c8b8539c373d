"""Rows that tasks hold: worked solutions, demonstrated messages, pairs."""

from collections.abc import Mapping, Sequence

import numpy as np

from rlvr_jax import enums
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.models import sampler
from rlvr_jax.tasks import Task

# What of a task's data the rows of its group are, and what these are called.
SOLUTION = {'solution': 'worked solution'}
PAIR = {'chosen': 'chosen completion', 'rejected': 'rejected completion'}


def targets(
  tasks: Sequence[Task],
  tokenizer: Tokenizer,
  max_completion_length: int,
  fields: Mapping[str, str] = SOLUTION,
) -> sampler.Sampled:
  """Texts of the tasks in the form of samples, end token included.

  Args:
    tasks: P tasks.
    tokenizer: of the policy.
    max_completion_length: N.
    fields: of `Task.data`, one for each row of a group: {field: its name}.

  Returns:
    B = P*len(fields) rows, those of a task in the order of the fields.

  Raises:
    ValueError: a task without one of the fields, or one whose text has more
      than max_completion_length tokens.
  """
  n, rows = max_completion_length, []
  for task in tasks:
    for field, name in fields.items():
      text = task.data.get(field)
      if not isinstance(text, str):
        raise ValueError(
          f'Task {task.id!r} has no {name}, which this method trains on: its '
          f'environment must give data[{field!r}], a string, as '
          + (
            "gsm8k and jsonl files with a solution do for method='sft'."
            if fields is SOLUTION
            else "pairs(path=...) does for method='preference'."
          )
        )
      ids = tokenizer.encode_answer(text)
      if len(ids) > n:
        raise ValueError(
          f'The {name} of task {task.id!r} has {len(ids)} tokens with its end '
          f'token; max_completion_length is {n}. Raise max_completion_length, '
          'or take the task out of the data.'
        )
      rows.append(ids)
  tokens = np.zeros((len(rows), n), np.int32)
  for i, ids in enumerate(rows):
    tokens[i, : len(ids)] = ids
  length = np.array([len(ids) for ids in rows], np.int32)
  stop = np.full(len(rows), enums.Stop.END, np.int32)
  return sampler.Sampled(tokens, np.zeros((len(rows), n)), length, stop)


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
