"""What is one turn of a dialogue worth? Each row is one policy message.

The official code of ΔBelief-RL (Auzina et al. 2026, arXiv 2602.12342) adds to
every turn t of a game of n turns

  2 [won] - 0.05 n [n > 1] - 5 [invalid_t] - [repeated_t]

which is the sum of `win(2.0, every)`, `length(-0.05, every)`, `invalid(-5.0)`
and `repeated(-1.0)`. With 'last', the first two are added to the last turn
only, as in its outcome baseline.
"""

from collections.abc import Callable, Sequence

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task


@registry.register('reward')
@base.of_turns
def win(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = 1.0,
  at: str = 'last',
) -> list[base.RewardResult]:
  """`value` on the last turn, or on every turn, of a game that is won.

  Args:
    tasks, transcripts: n rows.
    value: the reward.
    at: 'last' or 'every'.

  Raises:
    ValueError: an option is out of range, or a row is not a turn of a dialogue.
  """
  applies = _applies_at(at)
  return _scaled('win', transcripts, value, lambda t: t.won and applies(t))


@registry.register('reward')
@base.of_turns
def length(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = -0.05,
  at: str = 'every',
) -> list[base.RewardResult]:
  """`value` * n on the last turn, or on every turn, of a game of n > 1 turns.

  As in the official code: on every one of n turns, the sum is value * n**2.
  For a constant cost per turn use `turn_cost`.

  Args:
    tasks, transcripts: n rows.
    value: the reward per turn of the game.
    at: 'last' or 'every'.

  Raises:
    ValueError: see `win`.
  """
  applies = _applies_at(at)
  scale = lambda t: t.turns if t.turns > 1 and applies(t) else 0
  return _scaled('length', transcripts, value, scale)


@registry.register('reward')
@base.of_turns
def turn_cost(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = -0.05,
) -> list[base.RewardResult]:
  """`value` on every turn. Raises: see `win`."""
  return _scaled('turn_cost', transcripts, value, lambda t: 1)


@registry.register('reward')
@base.of_turns
def invalid(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = -1.0,
) -> list[base.RewardResult]:
  """`value` on every invalid turn. Raises: see `win`."""
  return _scaled('invalid', transcripts, value, lambda t: t.kind == 'invalid')


@registry.register('reward')
@base.of_turns
def repeated(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = -0.2,
) -> list[base.RewardResult]:
  """`value` on every turn that repeats an earlier one. Raises: see `win`."""
  return _scaled('repeated', transcripts, value, lambda t: t.kind == 'repeated')


def _applies_at(at: str) -> Callable[[base.Turn], bool]:
  if at not in ('last', 'every'):
    raise ValueError(f"at={registry.show(at)}: choose 'last' or 'every'.")
  return lambda t: t.last or at == 'every'


def _scaled(
  name: str,
  transcripts: Sequence[base.Transcript],
  value: float,
  scale: Callable[[base.Turn], float],
) -> list[base.RewardResult]:
  """Returns value * scale(turn) for each row."""
  base.check_finite(value=value)
  out = []
  for transcript in transcripts:
    if transcript.turn is None:
      raise ValueError(
        f'Reward {registry.show(name)} is for turns of a dialogue, but the tasks '
        'are single questions: choose another reward, or an env such as '
        "'guessing()'."
      )
    reward = 0.0 + value * scale(transcript.turn)
    out.append(base.RewardResult(reward, {name: reward}))
  return out
