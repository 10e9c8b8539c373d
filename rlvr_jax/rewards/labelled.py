"""Agreement with labels that a model's own samples gave, not with the truth.

scripts/label.py makes them; `envs/labels.py` puts them into the tasks' data.
The verdict stays that of the true answer.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlvr_jax import codes, registry
from rlvr_jax.rewards import answer, core

if TYPE_CHECKING:
  from rlvr_jax.envs import core as envs


@registry.register('reward')
def majority(
  tasks: Sequence['envs.Task'], transcripts: Sequence[core.Transcript]
) -> list[core.Graded]:
  """1 where the answer equals the untrained model's most frequent one.

  Spurious Rewards (arXiv:2506.10947): the label is fixed before training.

  Raises:
    ValueError: a task without labels.
  """
  return _agree('majority', tasks, transcripts)


@registry.register('reward')
def incorrect(
  tasks: Sequence['envs.Task'], transcripts: Sequence[core.Transcript]
) -> list[core.Graded]:
  """1 where the answer equals a label that is wrong.

  The label is the untrained model's most frequent answer, on tasks where that
  is wrong; other tasks are left out of training (arXiv:2506.10947).

  Raises:
    ValueError: a task without such a label.
  """
  return _agree('incorrect', tasks, transcripts)


def _agree(name, tasks, transcripts):
  labels = [task.data.get('labels', {}).get(name) for task in tasks]
  if None in labels:
    task = tasks[labels.index(None)]
    raise ValueError(
      f'Task {task.id!r} has no label for the reward {name!r}: make labels '
      'with scripts/label.py and name their file in the config key `labels`.'
    )
  said = answer.verify(labels, [t.completion for t in transcripts])
  values = [float(v == codes.Verdict.CORRECT) for v in said]
  return [core.Graded(x, {name: x}) for x in values]
