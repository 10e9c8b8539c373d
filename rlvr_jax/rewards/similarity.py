"""How similar is a step to the expert's? The reward of SRL.

Deng et al. (2025, arXiv 2510.25992, section 3) use R = 2 M / T from Python's
difflib.SequenceMatcher: M is the number of elements in matching blocks (the
longest common block, then recursively on both sides of it), T the number of
elements of both sequences. What the paper leaves open is an option here: the
unit of an element; the order of the arguments, which matters because ties are
broken by position; and `autojunk`, on by default in difflib, which ignores
frequent elements if the second sequence has 200 or more. With characters
nearly all are ignored, and the reward collapses at that length.
"""

from collections.abc import Sequence

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import pool
from rlvr_jax.verifiers.step_text import ratio, step

TIMEOUT_S = 10.0


@registry.register('reward')
def similarity(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  unit: str = 'char',
  autojunk: bool = False,
  order: str = 'prediction_first',
  think: str = 'required',
  failure: float = -1.0,
) -> list[base.RewardResult]:
  """`ratio` of the completion's step (see `step`) and the expert's.

  The expert's step is data['expert'], or else the worked solution
  data['solution']. The ratio is computed in worker processes; a row that takes
  more than 10 seconds is refused.

  Args:
    tasks, transcripts: n rows.
    unit, autojunk: see `ratio`.
    order: 'prediction_first' or 'expert_first'.
    think: 'required', 'optional' or 'none'; see `step`.
    failure: reward of a malformed completion.

  Raises:
    ValueError: an option is out of range, or a task has no expert text.
  """
  base.check_finite(failure=failure)
  ratio('', '', unit=unit)
  for name, value, choices in (
    ('order', order, ('prediction_first', 'expert_first')),
    ('think', think, ('required', 'optional', 'none')),
    ('autojunk', autojunk, (True, False)),
  ):
    if value not in choices:
      raise ValueError(
        f'{name}={registry.show(value)}: choose one of {choices}.'
      )
  predictions = [step(t.completion, think) for t in transcripts]
  jobs = []
  for task, prediction in zip(tasks, predictions):
    expert = task.data.get('expert', task.data.get('solution'))
    if not isinstance(expert, str):
      raise ValueError(
        f'Task {registry.show(task.id)} has no expert text to compare with: its '
        "environment must give data['expert'] or data['solution'], as "
        'steps(...) does.'
      )
    if prediction is not None:
      first, second = prediction, expert
      if order == 'expert_first':
        first, second = second, first
      jobs.append(
        dict(prediction=first, expert=second, unit=unit, autojunk=autojunk)
      )
  replies = iter(
    pool.run('similarity', jobs, timeout_s=TIMEOUT_S) if jobs else ()
  )
  out = []
  for prediction in predictions:
    value = failure
    if prediction is not None:
      reply = next(replies)
      if reply.failure:
        out.append(base.RewardResult(0.0, {}, refused=True))
        continue
      value = reply.value
    malformed = float(prediction is None)
    parts = {'similarity': float(value), 'similarity_failure': malformed}
    out.append(base.RewardResult(float(value), parts))
  return out
