"""Rewards with little or nothing to do with correctness, and their algebra.

"Spurious Rewards: Rethinking Training Signals in RLVR" (arXiv:2506.10947)
trains on these as controls. Each is 0 or 1 a row; its format reward is
`format(boxed)` and its compounds are `inverse` and `all_of`.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task, uniform
from rlvr_jax.verifiers import answer
from rlvr_jax.verifiers.extraction import extract

READ = 100_000  # characters at the end that are searched for repetitions
PERIODS = (10, 256)  # characters of a pattern, at least and at most
TIMES = 10  # occurrences in a row that count as repetition


@registry.register('reward')
def random(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  p: float = 0.5,
  seed: int = 0,
) -> list[base.RewardResult]:
  """1 with probability p, whatever a row says; else 0.

  A row's bit is a hash of the seed, of all task ids and completions of the
  batch in order, and of the row's place. A generator's state would have to be
  kept for a resumed run to draw the same bits; this is a function of what is
  graded. A hash of the row alone would give equal completions equal rewards,
  always: a policy could learn which words pay. Here one changed character
  anywhere in the batch draws all bits anew, and equal completions of a group
  differ by their places. Two rewards with the same seed draw the same bits.

  Args:
    p: in [0, 1].

  Raises:
    ValueError: p is not in [0, 1].
  """
  base.check_finite(p=p)
  if not 0 <= p <= 1:
    raise ValueError(f'p={p} must be a probability, in [0, 1].')
  digest = hashlib.blake2b(digest_size=32)
  for task, transcript in zip(tasks, transcripts, strict=True):
    for text in (task.id, transcript.completion):
      data = text.encode('utf-8', 'surrogatepass')
      # The length first, so that no two batches join to the same bytes.
      digest.update(f'{len(data)}:'.encode() + data)
  batch, bits = digest.hexdigest(), 2**53
  return _graded(
    'random',
    [
      uniform(bits, 'random', seed, batch, row) < p * bits
      for row in range(len(transcripts))
    ],
  )


@registry.register('reward')
def contains(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  text: str,
) -> list[base.RewardResult]:
  """1 where the completion holds `text`, in any case; `contains(python)`.

  Raises:
    ValueError: text is empty or no string.
  """
  if not isinstance(text, str) or not text:
    raise ValueError(
      f'text={registry.show(text)}: give some text, as in contains(python).'
    )
  sought = text.casefold()
  return _graded(
    'contains', [sought in t.completion.casefold() for t in transcripts]
  )


@registry.register('reward')
def no_repetition(
  tasks: Sequence[Task], transcripts: Sequence[base.Transcript]
) -> list[base.RewardResult]:
  """0 where the completion repeats itself (see `repeats`), else 1."""
  return _graded(
    'no_repetition', [not repeats(t.completion) for t in transcripts]
  )


@registry.register('reward')
def majority(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  timeout_s: float = 3.0,
) -> list[base.RewardResult]:
  """1 where the answer equals the majority answer of the starting model.

  The label comes from a file of scripts/label.py, which the config key
  `labels` names; the verdict stays that of the gold answer.

  Args:
    timeout_s: limit on checking one symbolic answer.

  Raises:
    ValueError: a task without a label.
  """
  return _graded('majority', _says_label(tasks, transcripts, timeout_s))


@registry.register('reward')
def incorrect(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  timeout_s: float = 3.0,
) -> list[base.RewardResult]:
  """`majority`, on tasks whose majority answer is wrong and on no others.

  Raises:
    ValueError: a task without a label, or whose label is not known wrong.
  """
  for task in tasks:
    if task.data.get('label_right') is not False:
      raise ValueError(
        f'Task {registry.show(task.id)} has no label that is known to be wrong, which the '
        'reward incorrect needs: set the config key labels to a file of '
        'scripts/label.py.'
      )
  return _graded('incorrect', _says_label(tasks, transcripts, timeout_s))


@registry.register('reward')
def inverse(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  reward: registry.Spec,
) -> list[base.RewardResult]:
  """1 - r of another reward, as in `inverse(format(boxed))`.

  A row that the other refuses stays refused.
  """
  rows = registry.get('reward', reward)(tasks, transcripts)
  return [row._replace(value=1.0 - row.value) for row in rows]


@registry.register('reward')
def all_of(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *rewards: registry.Spec,
) -> list[base.RewardResult]:
  """1 where all parts are 1, else 0: `all_of(format(boxed), outcome)`.

  Each part is logged under its own name. A row that one refuses is refused.

  Raises:
    ValueError: a part comes twice.
  """
  funcs = [registry.get('reward', spec) for spec in rewards]
  together = base.combine(funcs, rewards, [1.0] * len(rewards))
  return [
    row._replace(value=float(all(row.parts.get(r) == 1 for r in rewards)))
    for row in together(tasks, transcripts)
  ]


def repeats(text: str) -> bool:
  """Whether a pattern of 10 to 256 characters comes 10 times in a row.

  Reads the last `READ` characters. A pattern of n characters comes 10 times
  in a row exactly where 9n characters in a row equal the one n places on.
  Every 2n-th of these is looked at first, of which 4 in a row must be equal
  then; so the time for ordinary text is 247 comparisons of a small part of it
  (a few milliseconds), and of all of it at worst.
  """
  data = text[-READ:].encode('utf-32-le', 'surrogatepass')
  x = np.frombuffer(data, np.uint32)
  for n in range(PERIODS[0], PERIODS[1] + 1):
    if len(x) < TIMES * n:
      return False
    here, there = x[:-n], x[n:]
    if (
      _longest_run(here[:: 2 * n] == there[:: 2 * n]) >= 4
      and _longest_run(here == there) >= (TIMES - 1) * n
    ):
      return True
  return False


def _longest_run(equal: np.ndarray) -> int:
  """Length of the longest run of True."""
  gaps = np.flatnonzero(~equal)
  if not len(gaps):
    return len(equal)
  inside = np.diff(gaps).max() - 1 if len(gaps) > 1 else 0
  return max(gaps[0], inside, len(equal) - 1 - gaps[-1])


def _says_label(tasks, transcripts, timeout_s) -> list[bool]:
  for task in tasks:
    if 'label' not in task.data:
      raise ValueError(
        f'Task {registry.show(task.id)} has no label: set the config key labels to a file '
        'of scripts/label.py.'
      )
  verdicts = answer.verify(
    [task.data['label'] for task in tasks],
    [t.completion for t in transcripts],
    timeout_s=timeout_s,
    truncated=[t.cut for t in transcripts],
    rules=transcripts[0].rules if transcripts else extract.RULES,
  )
  return [v == enums.Verdict.CORRECT for v in verdicts]


def _graded(name: str, right) -> list[base.RewardResult]:
  return [base.RewardResult(float(r), {name: float(r)}) for r in right]
