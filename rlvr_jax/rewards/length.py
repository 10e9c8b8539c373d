"""Penalties on length, in tokens; the end token counts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlvr_jax import registry
from rlvr_jax.rewards import core

if TYPE_CHECKING:
  from rlvr_jax.envs import core as envs


@registry.register('reward')
def overlong(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  max_length: int,
  buffer: int,
  factor: float = 1.0,
) -> list[core.Graded]:
  """-factor * (n - (max_length - buffer)) / buffer, within [-factor, 0].

  DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13; there max_length
  20,480 and buffer 4,096): rows within `buffer` of the limit lose more and
  more. verl's recipe has no floor, which is never reached where generation
  stops at max_length.

  Raises:
    ValueError: not 1 <= buffer <= max_length, or factor negative.
  """
  del tasks
  core.check_finite(factor=factor)
  if not 1 <= buffer <= max_length or factor < 0:
    raise ValueError(
      f'overlong(max_length={max_length}, buffer={buffer}, factor={factor}): '
      '1 <= buffer <= max_length and factor >= 0 must hold.'
    )
  out = []
  for t in transcripts:
    over = (t.num_tokens - (max_length - buffer)) / buffer
    value = 0.0 - factor * min(max(over, 0.0), 1.0)
    out.append(core.Graded(value, {'overlong': value}))
  return out


@registry.register('reward')
def length_penalty(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  per_token: float,
) -> list[core.Graded]:
  """-per_token * n for n tokens. A negative per_token rewards length."""
  del tasks
  core.check_finite(per_token=per_token)
  values = [0.0 - per_token * t.num_tokens for t in transcripts]
  return [core.Graded(x, {'length_penalty': x}) for x in values]
