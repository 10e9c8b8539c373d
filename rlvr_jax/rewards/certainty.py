"""How confident is the policy in its own tokens? Rewards without gold answers.

They read `Transcript.signals`, which the training loop computes if a reward
needs them (see `base.needs_signals`). Sources: INTUITOR (arXiv:2505.19590),
RENT (arXiv:2505.22660), CRew (arXiv:2510.13501).
"""

from collections.abc import Sequence

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task


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
