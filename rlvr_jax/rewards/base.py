"""What a reward is: rows of text in, a value and named parts out.

Correctness is a `Verdict`, found once before any reward and carried beside
it, so that shaping or weighting rewards cannot move the accuracy.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rlvr_jax import annotations, enums, registry
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract


class Signals(NamedTuple):
  """What the policy's own probabilities say of a completion.

  Of the policy that drew it, at the temperature of training.
  """

  entropy: float  # mean over its tokens of the entropy, nats
  self_certainty: float  # mean over its tokens of KL(uniform || p_t), nats
  answer_probability: float | None  # mean over the final answer's tokens


class Turn(NamedTuple):
  """Where a message stands in its dialogue, and what came of it."""

  index: int
  turns: int  # of the whole dialogue
  kind: str  # of the reply
  won: bool  # the whole dialogue is
  last: bool


class Transcript(NamedTuple):
  """One completion, as rewards see it."""

  # Text of the sampled tokens but for the end token; U+FFFD for a token that
  # has no text.
  completion: str
  num_tokens: int
  stop: enums.Stop
  verdict: enums.Verdict  # verified once, before the rewards
  signals: Signals | None = None  # where a reward asks: see `needs_signals`
  turn: Turn | None = None  # of a message in a dialogue
  kinds: tuple[str, ...] = ()  # of the replies, for a whole dialogue
  # The thought that the prompt opens ('<think>...'), '' for none; None where
  # nobody says.
  prefill: str | None = None
  fallback: bool = False  # nothing marked the answer that was judged
  timed_out: bool = False  # its check ran out of time
  rules: extract.Rules = extract.RULES  # by which it was found

  @property
  def cut(self) -> bool:
    """Whether the length limit ended it."""
    return self.stop == enums.Stop.LENGTH


class RewardResult(NamedTuple):
  """One row's reward.

  A refused row has no reward (its value is 0 and means nothing): the caller
  drops it from its group and counts it.
  """

  value: float
  # Each part under its own name, never weighted. One part alone is the value
  # itself; several are logged beside it.
  parts: dict[str, float]
  refused: bool = False


Reward = Callable[[Sequence[Task], Sequence[Transcript]], list[RewardResult]]


@registry.trial('reward')
def _trial(reward):
  reward([], [])


@registry.register('reward')
def outcome(
  tasks: Sequence[Task],
  transcripts: Sequence[Transcript],
  *,
  correct: float = 1.0,
  wrong: float = 0.0,
  unverifiable: str = 'wrong',
) -> list[RewardResult]:
  """`correct` for a CORRECT verdict, else `wrong`.

  Args:
    unverifiable: what an UNVERIFIABLE row gets: 'wrong' (its answer could not
      be read or checked, which is the model's doing) or 'refuse' (no reward;
      the row leaves its group).

  Raises:
    ValueError: an option out of range.
  """
  if unverifiable not in ('wrong', 'refuse'):
    raise ValueError(
      f"unverifiable={registry.show(unverifiable)}: choose 'wrong' or 'refuse'."
    )
  check_finite(correct=correct, wrong=wrong)
  out = []
  for transcript in transcripts:
    if (
      transcript.verdict == enums.Verdict.UNVERIFIABLE
      and unverifiable == 'refuse'
    ):
      out.append(RewardResult(0.0, {}, refused=True))
      continue
    right = transcript.verdict == enums.Verdict.CORRECT
    value = float(correct if right else wrong)
    out.append(RewardResult(value, {'outcome': value}))
  return out


def build(specs: Sequence[str], weights: Sequence[float]) -> Reward:
  """`combine` of the rewards that `specs` name, under these names.

  Raises:
    ValueError: see `registry.get`, `combine` and the rewards.
  """
  funcs = []
  for spec in specs:
    with registry.naming('reward_funcs', spec):
      funcs.append(registry.get('reward', spec))
  with registry.naming('reward_funcs and reward_weights'):
    return combine(funcs, specs, weights)


def reads_signals(reward):
  """Decorator: marks a reward that reads `Transcript.signals`."""
  reward.reads_signals = True
  return reward


def needs_signals(specs: Sequence[str]) -> bool:
  """Whether a reward of `specs`, or one within it, reads the signals."""
  return any(
    getattr(fn, 'reads_signals', False)
    for spec in specs
    for fn in registry.named('reward', spec).values()
  )


def combine(
  funcs: Sequence[Reward], names: Sequence[str], weights: Sequence[float]
) -> Reward:
  """The weighted sum of rewards: value = sum_i weights[i] * value_i.

  `parts` holds each function's own value under its name, without its weight,
  and the parts of a function that has several, as `all_of` has, under theirs.
  A row is refused if any function refuses it or gives it NaN or an infinity
  (even with weight 0), or if the sum is infinite; its parts are then those
  that are finite.

  Args:
    funcs: n rewards; TRL calls them reward_funcs.
    names: n different names, for metrics and error messages.
    weights: n finite numbers; TRL calls them reward_weights.

  Raises:
    ValueError: lengths differ or are 0, a name comes twice, a weight is not
      finite. When called: the numbers of tasks and transcripts differ, or a
      function returns another number of rows, or something else than
      `RewardResult` (the message names it).
  """
  funcs, names, weights = tuple(funcs), tuple(names), tuple(weights)
  if not funcs or not len(funcs) == len(names) == len(weights):
    raise ValueError(
      f'{len(funcs)} reward functions, {len(names)} names, {len(weights)} '
      'weights: give one name and one weight for each, and at least one.'
    )
  if len(set(names)) < len(names):
    raise ValueError(f'Reward names {list(names)} repeat: rename one.')
  check_finite(**dict(zip(names, weights)))

  def combined(tasks, transcripts):
    if len(tasks) != len(transcripts):
      raise ValueError(
        f'{len(tasks)} tasks for {len(transcripts)} transcripts: give the '
        'task of each row.'
      )
    columns = []
    for name, func in zip(names, funcs):
      rows = _rows(name, func(tasks, transcripts))
      if len(rows) != len(transcripts):
        raise ValueError(
          f'Reward {registry.show(name)} returned {len(rows)} rows for '
          f'{len(transcripts)} completions: it must return one for each.'
        )
      columns.append(rows)
    return [_add(names, weights, row) for row in zip(*columns)]

  return combined


def check_finite(**values: float) -> None:
  """ValueError naming the first value that is no number of a sane size.

  Up to 1e15: the squares of rewards must be finite in float32.
  """
  for name, value in values.items():
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) <= annotations.LARGEST:
      raise ValueError(
        f'{name}={registry.show(value)}: give a finite number, of size '
        f'{annotations.LARGEST:g} at most.'
      )


def _rows(name: str, rows) -> list[RewardResult]:
  """What a reward returned, with plain floats; ValueError names the reward."""
  remedy = (
    'it must return a list with a `RewardResult(value, parts)` for each row.'
  )
  if not isinstance(rows, Sequence) or isinstance(rows, str):
    raise ValueError(
      f'Reward {registry.show(name)} returned {registry.show(rows)}: {remedy}'
    )
  out = []
  for row in rows:
    if not isinstance(row, RewardResult) or not isinstance(row.parts, Mapping):
      raise ValueError(
        f'Reward {registry.show(name)} returned {registry.show(row)} for a '
        f'row: {remedy}'
      )
    parts = {str(k): _number(name, v) for k, v in row.parts.items()}
    out.append(RewardResult(_number(name, row.value), parts, bool(row.refused)))
  return out


def _number(name: str, x) -> float:
  """A number of Python, NumPy or JAX as a float; NaN and infinities too."""
  try:
    if isinstance(x, str | bytes):
      raise TypeError
    return float(x)
  except (TypeError, ValueError, OverflowError) as e:
    raise ValueError(
      f'Reward {registry.show(name)} returned the value {registry.show(x)} for '
      'a row: give a number, or RewardResult(0.0, {}, refused=True) for none.'
    ) from e


def _add(names, weights, row: Sequence[RewardResult]) -> RewardResult:
  values = [part.value for part in row]
  own = {
    name: value
    for name, value, part in zip(names, values, row)
    if math.isfinite(value) and not part.refused
  }
  parts = {}
  for part in row:
    if len(part.parts) > 1:
      parts |= {k: v for k, v in part.parts.items() if math.isfinite(v)}
  parts |= own
  if len(own) == len(names):
    total = sum(w * v for w, v in zip(weights, values))
    if math.isfinite(total):
      return RewardResult(total, parts)
  return RewardResult(0.0, parts, refused=True)
