"""What is a reward, and how are several of them weighted and summed?

A reward maps rows of text to a value and named parts. Correctness is a
`Verdict`, computed once before any reward and passed along with the text, so
that shaping or weighting rewards cannot change the accuracy.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from rlvr_jax import annotations, enums, registry
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract


class Signals(NamedTuple):
  """Confidence of the policy in a completion.

  Computed under the policy that sampled it, at the training temperature.
  """

  entropy: float  # mean over tokens, nats
  self_certainty: float  # mean over tokens of KL(uniform || p_t), nats
  # Mean over the final answer's tokens; None without a final answer.
  answer_probability: float | None
  # Mean over the same tokens of the gap of the two largest probabilities.
  answer_gap: float | None = None


class Judged(NamedTuple):
  """What a judging model said: see `judged.judge`."""

  value: float | None  # the reward; None: nothing readable


class Turn(NamedTuple):
  """The position of a message in its dialogue, and the outcome."""

  index: int
  turns: int  # number of turns of the whole dialogue
  kind: str  # of the reply to this message
  won: bool  # whether the whole dialogue is won
  last: bool
  # The whole dialogue as one completion, on its last turn.
  dialogue: 'Transcript | None' = None


class Transcript(NamedTuple):
  """One completion and what rewards may use of it."""

  # Text of the sampled tokens without the end token; U+FFFD for a token that
  # is no valid text.
  completion: str
  num_tokens: int
  stop: enums.Stop
  verdict: enums.Verdict  # computed once, before the rewards
  signals: Signals | None = None  # if a reward reads them: `needs_signals`
  # {name: score} by reward models, if a reward reads them: `reward_models`;
  # NaN where a model could give none.
  model_scores: Mapping[str, float] | None = None
  turn: Turn | None = None  # for one message of a dialogue
  kinds: tuple[str, ...] = ()  # of all replies, for a whole dialogue
  # The start of the thought that the prompt contains ('<think>...'), '' for
  # none; None if unknown.
  prefill: str | None = None
  fallback: bool = False  # the verified answer was not marked as final
  timed_out: bool = False  # verification reached its time limit
  rules: extract.Rules = extract.RULES  # used to extract the answer
  # What is wrong with the completion, '' for nothing; None if nobody asked.
  # May quote the completion.
  feedback: str | None = None
  judged: Judged | None = None  # if a reward reads it: `judged.settings`

  @property
  def cut(self) -> bool:
    """Whether the completion was truncated by the length limit."""
    return self.stop == enums.Stop.LENGTH


class RewardResult(NamedTuple):
  """The reward of one row.

  A refused row has no reward (its value is 0 and meaningless): the caller
  drops it from its group and counts it.
  """

  value: float
  # {name: unweighted part}. A single part is the value itself; several are
  # logged in addition to it.
  parts: dict[str, float]
  refused: bool = False


Reward = Callable[[Sequence[Task], Sequence[Transcript]], list[RewardResult]]
_F = TypeVar('_F', bound=Callable)


@registry.trial('reward')
def _trial(reward: Reward) -> None:
  reward([], [])  # a reward raises on bad options even without rows


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
    tasks, transcripts: n rows.
    correct: reward of a CORRECT row.
    wrong: reward of any other row.
    unverifiable: reward of an UNVERIFIABLE row, whose answer could not be
      parsed or checked: 'wrong' (the same as a wrong answer) or 'refuse' (no
      reward; the row is dropped from its group).

  Raises:
    ValueError: an option is out of range.
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
    is_correct = transcript.verdict == enums.Verdict.CORRECT
    value = float(correct if is_correct else wrong)
    out.append(RewardResult(value, {'outcome': value}))
  return out


def build(specs: Sequence[str], weights: Sequence[float]) -> Reward:
  """Builds the rewards of `specs` and combines them under these names.

  Raises:
    ValueError: see `registry.get`, `combine` and the rewards.
  """
  funcs = []
  for spec in specs:
    with registry.naming('reward_funcs', spec):
      funcs.append(get(spec))
  with registry.naming('reward_funcs and reward_weights'):
    return combine(funcs, specs, weights)


def get(spec: str) -> Reward:
  """The reward that `spec` names; of turns if one within it is.

  Raises:
    ValueError: see `registry.get`.
  """
  func = registry.get('reward', spec)
  if any(map(is_of_turns, registry.named('reward', spec).values())):
    func = of_turns(functools.partial(func))
  return func


def of_turns(reward: _F) -> _F:
  """Decorator: marks a reward of the single turns of dialogues.

  It gets a row for each turn. The others are given once a dialogue, on its last
  turn: see `combine`. What is made of a reward of turns is one too, so
  `inverse(win)` pays for each turn without a win: write `inverse(outcome)`.
  """
  reward.of_turns = True
  return reward


def is_of_turns(reward: Reward) -> bool:
  """Whether `reward` has the mark of `of_turns`."""
  return getattr(reward, 'of_turns', False)


def reads_signals(reward: _F) -> _F:
  """Decorator: marks a reward that reads `Transcript.signals`."""
  reward.reads_signals = True
  return reward


def needs_signals(specs: Sequence[str]) -> bool:
  """Whether a reward of `specs`, or one nested in it, reads the signals."""
  return any(
    getattr(fn, 'reads_signals', False)
    for spec in specs
    for fn in registry.named('reward', spec).values()
  )


def reward_models(specs: Sequence[str]) -> list[str]:
  """Names of the models in each `reward_model(name)` of specs, nested too."""
  names: dict[str, None] = {}
  for spec in specs:
    with registry.naming('reward_funcs', spec):
      name, args, options = registry.parse(spec)
    values = [*args, *options.values()]
    if name == 'reward_model' and values:
      names[str(values[0])] = None
    inner = [x for x in values if type(x) is registry.Spec]
    names |= dict.fromkeys(reward_models(inner))
  return list(names)


def combine(
  funcs: Sequence[Reward], names: Sequence[str], weights: Sequence[float]
) -> Reward:
  """Returns the weighted sum of rewards: value = sum_i weights[i] * value_i.

  `parts` has the unweighted value of each function under its name, and the
  parts of functions with several parts (such as `all_of`) under theirs. A row
  is refused if any function refuses it or returns NaN or an infinity for it
  (even with weight 0), or if the sum is infinite; its parts are then the
  finite ones.

  Where rows are turns of dialogues, a function without the mark of `of_turns`
  sees each dialogue once, as `Turn.dialogue`: its value is the last turn's, and
  that of the others is 0. So `outcome` or `constant` does not pay for turns. If
  there is such a function, a dialogue whose last turn is refused is refused in
  all turns.

  Args:
    funcs: n rewards; TRL's reward_funcs.
    names: n distinct names, for metrics and error messages.
    weights: n finite numbers; TRL's reward_weights.

  Raises:
    ValueError: lengths differ or are 0, a name repeats, or a weight is not
      finite. From the returned function: the numbers of tasks and transcripts
      differ, or a function returns another number of rows or anything but
      `RewardResult`, or raises ValueError itself (the message names the
    function). Other exceptions of a function pass, with a note that names it.
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

  def combined(
    tasks: Sequence[Task], transcripts: Sequence[Transcript]
  ) -> list[RewardResult]:
    if len(tasks) != len(transcripts):
      raise ValueError(
        f'{len(tasks)} tasks for {len(transcripts)} transcripts: give one task '
        'for each row.'
      )
    ask = lambda name, func: _asked(name, func, tasks, transcripts)
    columns = map(ask, names, funcs)
    rows = [_add(names, weights, row) for row in zip(*columns)]
    if not all(map(is_of_turns, funcs)):
      refused = False  # the last turn of the dialogue
      for i, t in reversed(list(enumerate(transcripts))):
        if t.turn is None or t.turn.last:
          refused = rows[i].refused
        elif refused:
          rows[i] = rows[i]._replace(value=0.0, refused=True)
    return rows

  return of_turns(combined) if any(map(is_of_turns, funcs)) else combined


def _asked(
  name: str,
  func: Reward,
  tasks: Sequence[Task],
  transcripts: Sequence[Transcript],
) -> list[RewardResult]:
  """What `func` gives to each row: see `combine` for turns of dialogues."""
  each, at = is_of_turns(func), enumerate(transcripts)
  asked = [i for i, t in at if each or t.turn is None or t.turn.last]
  shown = [transcripts[i] for i in asked]
  hint = ''
  if not each and any(t.turn is not None for t in shown):
    shown = [t if t.turn is None else t.turn.dialogue for t in shown]
    hint = (
      ' It sees whole dialogues: mark one that reads turns `base.of_turns`.'
    )
    if None in shown:
      raise ValueError(
        f'Reward {registry.show(name)} is for whole dialogues, and there is '
        'none with a last turn: give `Turn.dialogue`.'
      )
  with _naming(name, hint):
    returned = func([tasks[i] for i in asked], shown)
  rows = _rows(name, returned)
  if len(rows) != len(asked):
    raise ValueError(
      f'Reward {registry.show(name)} returned {len(rows)} rows for '
      f'{len(asked)} completions: it must return one for each.'
    )
  of_row = dict(zip(asked, rows))
  earlier = RewardResult(0.0, {})
  return [of_row.get(i, earlier) for i in range(len(transcripts))]


@contextlib.contextmanager
def _naming(name: str, hint: str = '') -> Iterator[None]:
  """Within it, an exception says which reward raised it.

  Other types than ValueError are mistakes in a reward's code: they keep their
  traceback, which scripts print with the note.
  """
  try:
    yield
  except Exception as e:
    if type(e) is ValueError:
      raise ValueError(f'Reward {registry.show(name)}: {e}') from e
    e.add_note(f'Raised by reward {registry.show(name)}.{hint}')
    raise


def check_finite(**values: float) -> None:
  """Raises ValueError naming the first value that is not a finite number.

  The limit on the size is 1e15: squared rewards must be finite in float32.
  """
  for name, value in values.items():
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= annotations.LARGEST:
      raise ValueError(
        f'{name}={registry.show(value)}: give a finite number of at most '
        f'{annotations.LARGEST:g} in size.'
      )


def _rows(name: str, rows: object) -> list[RewardResult]:
  """Checks what the reward `name` returned and converts numbers to floats."""
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


def _number(name: str, x: object) -> float:
  """Converts a Python, NumPy or JAX number, even NaN, to a float."""
  try:
    if isinstance(x, str | bytes):
      raise TypeError
    return float(x)
  except (TypeError, ValueError, OverflowError) as e:
    raise ValueError(
      f'Reward {registry.show(name)} returned the value {registry.show(x)} for '
      'a row: give a number, or RewardResult(0.0, {}, refused=True) for none.'
    ) from e


def _add(
  names: Sequence[str],
  weights: Sequence[float],
  results: Sequence[RewardResult],
) -> RewardResult:
  """Combines the results of all functions for one row."""
  values = [result.value for result in results]
  finite_values = {
    name: result.value
    for name, result in zip(names, results)
    if math.isfinite(result.value) and not result.refused
  }
  parts = {}
  for result in results:
    if len(result.parts) > 1:
      parts |= {k: v for k, v in result.parts.items() if math.isfinite(v)}
  parts |= finite_values
  if len(finite_values) == len(names):
    total = sum(w * v for w, v in zip(weights, values))
    if math.isfinite(total):
      return RewardResult(total, parts)
  return RewardResult(0.0, parts, refused=True)
