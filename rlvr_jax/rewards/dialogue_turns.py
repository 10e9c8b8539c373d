"""Rewards of turns in a dialogue: each row is one message of the policy.

ΔBelief-RL's official code (Auzina et al. 2026, arXiv 2602.12342) adds to every
turn t of a game of n turns

  2 [won] - 0.05 n [n > 1] - 5 [invalid_t] - [repeated_t]

which is `win(2.0, every)`, `length(-0.05, every)`, `invalid(-5.0)` and
`repeated(-1.0)` together; with 'last' the first two fall on the last turn
alone, as in its outcome baseline.
"""

from collections.abc import Callable, Sequence

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task


@registry.register('reward')
def win(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = 1.0,
  at: str = 'last',
) -> list[base.RewardResult]:
  """`value` for a game that is won, on its last turn or on every one.

  Raises:
    ValueError: an option out of range, or a row that is no turn of a dialogue.
  """
  here = _place(at)
  return _graded('win', transcripts, value, lambda t: t.won and here(t))


@registry.register('reward')
def length(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = -0.05,
  at: str = 'every',
) -> list[base.RewardResult]:
  """`value` * n for a game of n > 1 turns, on its last turn or on every one.

  The official code's: on every one of n turns, it makes value * n**2 in all.
  A constant cost of a turn is `turn_cost`.

  Raises:
    ValueError: as `win`.
  """
  here = _place(at)
  size = lambda t: t.turns if t.turns > 1 and here(t) else 0
  return _graded('length', transcripts, value, size)


@registry.register('reward')
def turn_cost(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = -0.05,
) -> list[base.RewardResult]:
  """`value` for each turn. Raises ValueError as `win`."""
  return _graded('turn_cost', transcripts, value, lambda t: 1)


@registry.register('reward')
def invalid(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = -1.0,
) -> list[base.RewardResult]:
  """`value` for a turn against the rules. Raises ValueError as `win`."""
  return _graded('invalid', transcripts, value, lambda t: t.kind == 'invalid')


@registry.register('reward')
def repeated(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = -0.2,
) -> list[base.RewardResult]:
  """`value` for a turn that asks what was asked. Raises ValueError as `win`."""
  return _graded('repeated', transcripts, value, lambda t: t.kind == 'repeated')


def _place(at: str) -> Callable[[base.Turn], bool]:
  if at not in ('last', 'every'):
    raise ValueError(f"at={registry.show(at)}: choose 'last' or 'every'.")
  return lambda t: t.last or at == 'every'


def _graded(name, transcripts, value, times):
  base.check_finite(value=value)
  out = []
  for transcript in transcripts:
    if transcript.turn is None:
      raise ValueError(
        f'Reward {registry.show(name)} is for turns of a dialogue, and the tasks are single '
        "questions: take another reward, or an env such as 'guessing()'."
      )
    x = 0.0 + value * times(transcript.turn)
    out.append(base.RewardResult(x, {name: x}))
  return out
