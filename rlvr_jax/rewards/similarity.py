"""Similarity of a step with an expert's: the reward of SRL.

After Deng et al. (2025, arXiv 2510.25992, section 3): R = 2 M / T, where M
counts the elements of matching blocks (the longest common block, then the same
on either side of it) and T those of both sequences; Python's
difflib.SequenceMatcher, which the paper names. What the paper leaves open is
an option here: the unit of an element, the order of the arguments (ties are
broken by position, so it matters), and `autojunk`, difflib's default, which
drops frequent elements of a second sequence of 200 or more: for characters
that is nearly all of them, and the reward collapses at that length.
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
  """`ratio` of the completion's step with the expert's; see `step`.

  The expert's is data['expert'], or the worked solution data['solution']. It is
  computed in worker processes; a row that takes longer than 10 seconds there is
  refused.

  Args:
    unit, autojunk: see `ratio`.
    order: prediction_first or expert_first.
    think: required, optional or none; see `step`.
    failure: for a broken form.

  Raises:
    ValueError: an option out of range, or a task without an expert's text.
  """
  base.check_finite(failure=failure)
  ratio('', '', unit=unit)
  for name, value, known in (
    ('order', order, ('prediction_first', 'expert_first')),
    ('think', think, ('required', 'optional', 'none')),
    ('autojunk', autojunk, (True, False)),
  ):
    if value not in known:
      raise ValueError(f'{name}={registry.show(value)}: choose one of {known}.')
  said = [step(t.completion, think) for t in transcripts]
  jobs = []
  for task, text in zip(tasks, said):
    expert = task.data.get('expert', task.data.get('solution'))
    if not isinstance(expert, str):
      raise ValueError(
        f"Task {registry.show(task.id)} has no expert's text to compare with: its "
        "environment must give data['expert'] or data['solution'], as steps(...) "
        'does.'
      )
    if text is not None:
      pair = (text, expert)[:: 1 if order == 'prediction_first' else -1]
      jobs.append(
        dict(prediction=pair[0], expert=pair[1], unit=unit, autojunk=autojunk)
      )
  replies = iter(
    pool.run('similarity', jobs, timeout_s=TIMEOUT_S) if jobs else ()
  )
  out = []
  for text in said:
    value = failure
    if text is not None:
      reply = next(replies)
      if reply.failure:
        out.append(base.RewardResult(0.0, {}, refused=True))
        continue
      value = reply.value
    broken = float(text is None)
    parts = {'similarity': float(value), 'similarity_failure': broken}
    out.append(base.RewardResult(float(value), parts))
  return out
