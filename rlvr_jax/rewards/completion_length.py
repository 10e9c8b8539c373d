"""How are long completions penalised? In sampled tokens, with the end token.

The reward `length` counts the turns of a dialogue: see `dialogue_turns`.
"""

from collections.abc import Sequence

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task


@registry.register('reward')
def overlong(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  max_length: int,
  buffer: int,
  factor: float = 1.0,
) -> list[base.RewardResult]:
  """0 up to max_length - buffer tokens, then linear to -factor at max_length.

  DAPO's soft overlong punishment (arXiv:2503.14476):
  -factor * clip((l - (max_length - buffer)) / buffer, 0, 1) for l tokens. As
  in the paper, the penalty is constant beyond max_length; in verl it keeps
  growing.

  Args:
    tasks, transcripts: n rows.
    max_length: tokens; usually max_completion_length.
    buffer: tokens, in 1..max_length.
    factor: the penalty at max_length and beyond, at least 0.

  Raises:
    ValueError: an option is out of range.
  """
  for name, value in (('max_length', max_length), ('buffer', buffer)):
    base.check_finite(**{name: value})
    if not isinstance(value, int):
      raise ValueError(
        f'{name}={registry.show(value)} must be a whole number of tokens.'
      )
  if not 1 <= buffer <= max_length:
    raise ValueError(
      f'buffer={buffer} must be in 1..max_length={max_length}: the penalty '
      'grows over the last `buffer` tokens.'
    )
  _check_not_negative(factor=factor)
  out = []
  for transcript in transcripts:
    excess = (transcript.num_tokens - (max_length - buffer)) / buffer
    value = 0.0 - factor * min(max(excess, 0.0), 1.0)
    out.append(base.RewardResult(value, {'overlong': value}))
  return out


@registry.register('reward')
def length_penalty(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  per_token: float,
) -> list[base.RewardResult]:
  """-per_token for each sampled token.

  Raises:
    ValueError: per_token is negative or not finite.
  """
  _check_not_negative(per_token=per_token)
  values = [0.0 - per_token * t.num_tokens for t in transcripts]
  return [base.RewardResult(v, {'length_penalty': v}) for v in values]


def _check_not_negative(**values: float) -> None:
  base.check_finite(**values)
  for name, value in values.items():
    if value < 0:
      raise ValueError(f'{name}={value} must be at least 0: it is a penalty.')
