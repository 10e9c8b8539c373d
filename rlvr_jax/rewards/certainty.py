"""How confident is the policy in its own tokens? Rewards without gold answers.

They read `Transcript.signals`, which the training loop computes if a reward
needs them (see `base.needs_signals`). Sources: INTUITOR (arXiv:2505.19590),
RENT (arXiv:2505.22660), CRew (arXiv:2510.13501), RLSF (arXiv:2507.21931).
"""

import math
from collections.abc import Sequence

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task

SCALES = ('none', 'minmax', '2c-1')


@registry.register('reward')
@base.reads_signals
def self_certainty(
  tasks: Sequence[Task], transcripts: Sequence[base.Transcript]
) -> list[base.RewardResult]:
  """Mean over tokens of KL(uniform || p_t), nats, at least 0 (INTUITOR).

  It is dominated by the tail of p_t, unlike log V minus the entropy. The
  official code omits the constant -log V, which cancels in group advantages.

  Raises:
    ValueError: a transcript has no signals.
  """
  return _results(
    'self_certainty', [s.self_certainty for s in _signals(transcripts)]
  )


@registry.register('reward')
@base.reads_signals
def token_entropy(
  tasks: Sequence[Task], transcripts: Sequence[base.Transcript]
) -> list[base.RewardResult]:
  """Minus the mean token entropy, nats, in [-log V, 0] (RENT).

  Raises:
    ValueError: a transcript has no signals.
  """
  return _results('token_entropy', [-s.entropy for s in _signals(transcripts)])


@registry.register('reward')
@base.reads_signals
def answer_probability(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  missing: float = 0.0,
) -> list[base.RewardResult]:
  """Mean probability of the final answer's tokens, in [0, 1] (CRew).

  An arithmetic mean of probabilities, not their product or geometric mean.

  Args:
    tasks, transcripts: n rows.
    missing: reward of a completion without a final answer.

  Raises:
    ValueError: missing is not finite, or a transcript has no signals.
  """
  base.check_finite(missing=missing)
  probabilities = [s.answer_probability for s in _signals(transcripts)]
  return _results(
    'answer_probability', [missing if p is None else p for p in probabilities]
  )


@registry.register('reward')
@base.reads_signals
def answer_gap(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  scale: str = 'none',
  missing: float | None = None,
) -> list[base.RewardResult]:
  """Mean gap of the two largest probabilities at the final answer's tokens.

  In [0, 1]: CoT decoding's confidence (arXiv:2402.10200, sec. 2.2), which RLSF
  ranks by. At (0.5, 0.4, 0.1) it is 0.1, whichever token was written; with the
  first, `answer_probability` is 0.5. The policy's own confidence and not its
  being right: where a confident answer is wrong, this teaches it.

  Args:
    tasks, transcripts: n rows.
    scale: see `rescale`; 'minmax' is over the rows of a task.
    missing: reward of a completion without a final answer, not rescaled; None
      refuses it, so that it leaves its group.

  Raises:
    ValueError: an option is out of range, or a transcript has no signals.
  """
  rescale([], scale)
  if missing is not None:
    base.check_finite(missing=missing)
  gaps = [s.answer_gap for s in _signals(transcripts)]
  by_task: dict[str, list[int]] = {}
  for i, gap in enumerate(gaps):
    if gap is not None and math.isfinite(gap):
      by_task.setdefault(tasks[i].id, []).append(i)
  for rows in by_task.values():
    for i, x in zip(rows, rescale([gaps[i] for i in rows], scale), strict=True):
      gaps[i] = x
  refused = base.RewardResult(0.0, {}, refused=True)
  values = [missing if gap is None else gap for gap in gaps]
  return [
    refused if x is None else _results('answer_gap', [x])[0] for x in values
  ]


def rescale(values: Sequence[float], scale: str) -> list[float]:
  """Confidences on another scale; it keeps their order.

  'none': as they are; '2c-1': 2c - 1, from [0, 1] to [-1, 1]; 'minmax': the
  least to -1, the largest to 1, and 0 for all where they are equal. RLSF
  rescales 'linearly to [-1, 1]' and does not say which of the two it means.

  Raises:
    ValueError: no such scale.
  """
  if scale not in SCALES:
    raise ValueError(
      f'scale={registry.show(scale)} must be one of '
      f'{", ".join(map(repr, SCALES))}.'
    )
  if scale == 'none' or not values:
    return list(values)
  low, high = (min(values), max(values)) if scale == 'minmax' else (0.0, 1.0)
  if low == high:
    return [0.0] * len(values)
  return [2 * (x - low) / (high - low) - 1 for x in values]


def _signals(transcripts: Sequence[base.Transcript]) -> list[base.Signals]:
  missing = sum(t.signals is None for t in transcripts)
  if missing:
    raise ValueError(
      f'{missing} of {len(transcripts)} transcripts have no signals: build '
      'them with `Transcript(..., signals=Signals(...))` from the log-probs '
      'of the policy where `base.needs_signals(reward_funcs)` holds.'
    )
  return [t.signals for t in transcripts]


def _results(name: str, values: Sequence[float]) -> list[base.RewardResult]:
  return [base.RewardResult(float(v), {name: float(v)}) for v in values]
