"""Which control rewards are barely or not related to correctness?

They are those of "Spurious Rewards: Rethinking Training Signals in RLVR"
(arXiv:2506.10947), controls that keep only part of another reward, and
combinators. The paper's format reward is `format(boxed)`; its compound rewards
are made with `inverse` and `all_of`.

What is random here is a hash of a seed, of all task ids and completions of the
batch in order, and of the row's index. Unlike a random generator, whose state
would have to be in the checkpoint, this gives a resumed run the same bits. A
hash of the row alone would always give equal completions equal rewards, so that
a policy could learn which texts are rewarded; here one changed character
anywhere in the batch draws everything anew, and equal completions of a group
differ by their index.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task, uniform
from rlvr_jax.verifiers import answer
from rlvr_jax.verifiers.extraction import extract

READ = 100_000  # characters at the end that are searched for repetitions
PERIODS = (10, 256)  # minimum and maximum length of a pattern, characters
TIMES = 10  # consecutive occurrences that count as repetition


@registry.register('reward')
def random(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  p: float = 0.5,
  seed: int = 0,
) -> list[base.RewardResult]:
  """1 with probability p, independent of the completion; else 0.

  Hashed from the batch, see above. Two rewards with the same seed have the same
  bits.

  Args:
    tasks, transcripts: n rows.
    p: in [0, 1].
    seed: of the hash.

  Raises:
    ValueError: p is not in [0, 1].
  """
  base.check_finite(p=p)
  if not 0 <= p <= 1:
    raise ValueError(f'p={p} must be a probability, in [0, 1].')
  return _results('random', _coins('random', seed, tasks, transcripts, p))


@registry.register('reward')
def constant(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  value: float = 1.0,
) -> list[base.RewardResult]:
  """`value` for every row: no information, and no group with spread.

  Estimators that compare members give it no gradient at all.
  """
  base.check_finite(value=value)
  return [base.RewardResult(value, {'constant': value}) for _ in transcripts]


@registry.register('reward')
def contains(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  text: str,
) -> list[base.RewardResult]:
  """1 where the completion contains `text`, ignoring case, else 0.

  Example: `contains(python)`.

  Raises:
    ValueError: text is empty or not a string.
  """
  if not isinstance(text, str) or not text:
    raise ValueError(
      f'text={registry.show(text)}: give a non-empty string, as in '
      'contains(python).'
    )
  needle = text.casefold()
  return _results(
    'contains', [needle in t.completion.casefold() for t in transcripts]
  )


@registry.register('reward')
def no_repetition(
  tasks: Sequence[Task], transcripts: Sequence[base.Transcript]
) -> list[base.RewardResult]:
  """0 where the completion repeats itself (see `repeats`), else 1."""
  return _results(
    'no_repetition', [not repeats(t.completion) for t in transcripts]
  )


@registry.register('reward')
def majority(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  timeout_s: float = 3.0,
) -> list[base.RewardResult]:
  """1 where the answer equals the initial model's majority answer, else 0.

  These labels come from scripts/label.py; the config key `labels` is the path
  of its file. The verdict still uses the gold answer.

  Args:
    tasks, transcripts: n rows.
    timeout_s: limit on verifying one symbolic answer.

  Raises:
    ValueError: a task has no label.
  """
  return _results('majority', _equals_label(tasks, transcripts, timeout_s))


@registry.register('reward')
def incorrect(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  timeout_s: float = 3.0,
) -> list[base.RewardResult]:
  """`majority`, for training only on tasks whose majority answer is wrong.

  Raises:
    ValueError: a task has no label, or its label is not known to be wrong.
  """
  for task in tasks:
    if task.data.get('label_right') is not False:
      raise ValueError(
        f'Task {registry.show(task.id)} has no label that is known to be wrong, '
        'which the reward incorrect needs: set the config key labels to a file '
        'of scripts/label.py.'
      )
  return _results('incorrect', _equals_label(tasks, transcripts, timeout_s))


@registry.register('reward')
def inverse(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  reward: registry.Spec,
) -> list[base.RewardResult]:
  """1 - r of another reward, as in `inverse(format(boxed))`.

  A row that the other reward refuses stays refused.
  """
  rows = registry.get('reward', reward)(tasks, transcripts)
  return [row._replace(value=1.0 - row.value) for row in rows]


@registry.register('reward')
def flip(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  reward: registry.Spec,
  rate: float = 0.1,
  seed: int = 0,
) -> list[base.RewardResult]:
  """Another 0/1 reward seen through noise: 1 - r with probability `rate`.

  `flip(outcome, 0.1)` has a tenth of false positives and of false negatives,
  independent of the completion. Which rows are flipped is hashed from the
  batch, as in `random`, and independent of the bits of `random`; a row that the
  other reward refuses stays refused. 0 is the other reward, 1 its `inverse`,
  0.5 says nothing.

  Raises:
    ValueError: rate is not in [0, 1]; the other reward is neither 0 nor 1.
  """
  base.check_finite(rate=rate)
  if not 0 <= rate <= 1:
    raise ValueError(f'rate={rate} must be a probability, in [0, 1].')
  rows = registry.get('reward', reward)(tasks, transcripts)
  for row in rows:
    if _has_value(row) and row.value not in (0, 1):
      raise ValueError(
        f'flip({reward}): the reward is {row.value} for a row, and only 0 and '
        '1 can be flipped. Give one that is 0 or 1, such as outcome.'
      )
  flips = _coins('flip', seed, tasks, transcripts, rate)
  return [
    row._replace(value=1.0 - row.value) if flipped else row
    for row, flipped in zip(rows, flips, strict=True)
  ]


@registry.register('reward')
def permuted(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  reward: registry.Spec,
  seed: int = 0,
) -> list[base.RewardResult]:
  """Another reward's values, shuffled among the rows of the same task.

  Every task keeps the distribution of its rewards, and so does every group
  (the same turns of its dialogues, where messages are rewarded), but they say
  nothing of the completions: a control for what of an effect is due to the
  rewards' distribution. All orders are equally likely, hashed from the batch,
  see above. A row that the other reward refuses stays refused.
  """
  rows = registry.get('reward', reward)(tasks, transcripts)
  places: dict[tuple, list[int]] = {}
  for i, (task, t) in enumerate(zip(tasks, transcripts, strict=True)):
    if _has_value(rows[i]):
      turn = None if t.turn is None else t.turn.index
      places.setdefault((task.id, turn), []).append(i)
  batch, out = _digest(tasks, transcripts), list(rows)
  for to in places.values():
    order = sorted(to, key=lambda i: uniform(2**64, 'permuted', seed, batch, i))
    for place, i in zip(to, order, strict=True):
      out[place] = rows[i]
  return out


@registry.register('reward')
def all_of(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *rewards: registry.Spec,
) -> list[base.RewardResult]:
  """1 where all rewards are 1, else 0: `all_of(format(boxed), outcome)`.

  Each reward is logged under its own name. A row that one of them refuses is
  refused.

  Raises:
    ValueError: a reward repeats.
  """
  funcs = [base.get(spec) for spec in rewards]
  combined = base.combine(funcs, rewards, [1.0] * len(rewards))
  return [
    row._replace(value=float(all(row.parts.get(r) == 1 for r in rewards)))
    for row in combined(tasks, transcripts)
  ]


def repeats(text: str) -> bool:
  """Whether a pattern of 10 to 256 characters repeats 10 times in a row.

  Only the last `READ` characters are searched. A pattern of n characters
  repeats 10 times exactly if 9n consecutive characters each equal the one n
  positions later. Such a run contains at least 4 consecutive multiples of 2n,
  so those positions are tested first: ordinary text costs 247 comparisons of a
  small part of it (a few milliseconds), and of all of it at worst.
  """
  data = text[-READ:].encode('utf-32-le', 'surrogatepass')
  x = np.frombuffer(data, np.uint32)
  for n in range(PERIODS[0], PERIODS[1] + 1):
    if len(x) < TIMES * n:
      return False
    current, shifted = x[:-n], x[n:]
    if (
      _longest_run(current[:: 2 * n] == shifted[:: 2 * n]) >= 4
      and _longest_run(current == shifted) >= (TIMES - 1) * n
    ):
      return True
  return False


def _longest_run(equal: np.ndarray) -> int:
  """Returns the length of the longest run of True in a bool[N]."""
  gaps = np.flatnonzero(~equal)
  if not len(gaps):
    return len(equal)
  inside = np.diff(gaps).max() - 1 if len(gaps) > 1 else 0
  return max(gaps[0], inside, len(equal) - 1 - gaps[-1])


def _equals_label(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  timeout_s: float,
) -> list[bool]:
  """Whether each completion's answer equals the label of its task."""
  for task in tasks:
    if 'label' not in task.data:
      raise ValueError(
        f'Task {registry.show(task.id)} has no label: set the config key labels '
        'to a file of scripts/label.py.'
      )
  verdicts = answer.verify(
    [task.data['label'] for task in tasks],
    [t.completion for t in transcripts],
    timeout_s=timeout_s,
    truncated=[t.cut for t in transcripts],
    rules=transcripts[0].rules if transcripts else extract.RULES,
  )
  return [v == enums.Verdict.CORRECT for v in verdicts]


def _digest(
  tasks: Sequence[Task], transcripts: Sequence[base.Transcript]
) -> str:
  """Hash of all task ids and completions of a batch, in order."""
  digest = hashlib.blake2b(digest_size=32)
  for task, transcript in zip(tasks, transcripts, strict=True):
    for text in (task.id, transcript.completion):
      data = text.encode('utf-8', 'surrogatepass')
      # With the length in front, no two batches give the same bytes.
      digest.update(f'{len(data)}:'.encode() + data)
  return digest.hexdigest()


def _coins(
  name: str,
  seed: int,
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  p: float,
) -> list[bool]:
  """For each row, True with probability p: a hash of the batch and the row."""
  batch, bits = _digest(tasks, transcripts), 2**53
  return [
    uniform(bits, name, seed, batch, row) < p * bits
    for row in range(len(transcripts))
  ]


def _has_value(row: base.RewardResult) -> bool:
  return not row.refused and math.isfinite(row.value)


def _results(name: str, values: Iterable[bool]) -> list[base.RewardResult]:
  return [base.RewardResult(float(v), {name: float(v)}) for v in values]
