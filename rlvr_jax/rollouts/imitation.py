"""Rows that tasks hold: worked solutions, demonstrated messages, pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlvr_jax import enums
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.models import sampler
from rlvr_jax.tasks import Task

# What of a task's data the rows of its group are, and what these are called.
SOLUTION = {'solution': 'worked solution'}
PAIR = {'chosen': 'chosen completion', 'rejected': 'rejected completion'}
LABELLED = {'completion': 'completion with a label'}


def fields(c: Any) -> Mapping[str, str]:
  """Those of the tasks that a config trains on."""
  if c.method == 'sft':
    return SOLUTION
  return LABELLED if c.num_generations == 1 else PAIR


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
          + {
            'solution': 'gsm8k and jsonl files with a solution do for '
            "method='sft'.",
            'completion': "labelled(path=...) does for method='reward_model'.",
          }.get(field, "pairs(path=...) does for method='preference'.")
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


def labels(
  tasks: Sequence[Task], fields: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray]:
  """(label, margin) f32[P,G] of the rows of `targets`, for a reward model.

  The label is 1 of a row that should score high and -1 of one that should score
  low: of the chosen and the rejected one, or by data['label']. The margin is
  data['margin'], 0 where a task has none.
  """
  if fields is LABELLED:
    label = [[1.0 if t.data['label'] else -1.0] for t in tasks]
  else:
    label = [[1.0, -1.0] for _ in tasks]
  margin = [[t.data.get('margin', 0.0)] * len(fields) for t in tasks]
  return np.array(label, np.float32), np.array(margin, np.float32)


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
