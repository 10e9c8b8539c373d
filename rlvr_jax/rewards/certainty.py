"""Rewards that need no gold answer: how sure the policy is of its own words.

They read `Transcript.signals`, which training fills in for them (see
`base.needs_signals`). Sources: INTUITOR (arXiv:2505.19590), RENT
(arXiv:2505.22660), CRew (arXiv:2510.13501).
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

  The tail of p_t drives it: it is not log V minus the entropy. The method's
  own code adds log V, which group advantages do not see.

  Raises:
    ValueError: a transcript without signals.
  """
  return _graded(
    'self_certainty', [s.self_certainty for s in _signals(transcripts)]
  )


@registry.register('reward')
@base.reads_signals
def token_entropy(
  tasks: Sequence[Task], transcripts: Sequence[base.Transcript]
) -> list[base.RewardResult]:
  """Minus the mean entropy of a token, nats, in [-log V, 0] (RENT).

  Raises:
    ValueError: a transcript without signals.
  """
  return _graded('token_entropy', [-s.entropy for s in _signals(transcripts)])


@registry.register('reward')
@base.reads_signals
def answer_probability(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  missing: float = 0.0,
) -> list[base.RewardResult]:
  """Mean probability of the final answer's tokens, in [0, 1] (CRew).

  A mean of probabilities, neither their product nor the exponential of a mean
  log.

  Args:
    missing: of a completion without a final answer.

  Raises:
    ValueError: missing is not finite, a transcript without signals.
  """
  base.check_finite(missing=missing)
  said = [s.answer_probability for s in _signals(transcripts)]
  return _graded(
    'answer_probability', [missing if p is None else p for p in said]
  )


def _signals(transcripts: Sequence[base.Transcript]) -> list[base.Signals]:
  lacking = sum(t.signals is None for t in transcripts)
  if lacking:
    raise ValueError(
      f'{lacking} of {len(transcripts)} transcripts have no signals: build '
      'them with `Transcript(..., signals=Signals(...))` from the log-probs '
      'of the policy where `base.needs_signals(reward_funcs)` holds.'
    )
  return [t.signals for t in transcripts]


def _graded(name: str, values: Sequence[float]) -> list[base.RewardResult]:
  return [base.RewardResult(float(v), {name: float(v)}) for v in values]
