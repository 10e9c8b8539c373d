"""What does a reward model give a completion?

The scores are computed on the device, once a row, before the rewards are: see
`rollouts.reward_scores`.
"""

from collections.abc import Sequence

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task


@registry.register('reward')
def reward_model(
  tasks: Sequence[Task], transcripts: Sequence[base.Transcript], *, name: str
) -> list[base.RewardResult]:
  """The score of a completion by a reward model, any real number.

  Rows that the model can give none (NaN, or longer than it reads) are refused.

  Args:
    tasks, transcripts: n rows.
    name: the directory of a run of method='reward_model', or its config, such
      as 'configs/reward_model.py', which is then trained first.

  Raises:
    ValueError: a transcript has no score by that model.
  """
  out = []
  for t in transcripts:
    if name not in (t.model_scores or ()):
      raise ValueError(
        f'a transcript has no score by {registry.show(name)}: build it with '
        '`Transcript(..., model_scores={name: score})`, as '
        '`rollouts.reward_scores.attach` does.'
      )
    value = float(t.model_scores[name])
    out.append(base.RewardResult(value, {'reward_model': value}))
  return out
