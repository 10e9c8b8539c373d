"""Rewards without labels, from the policy's own probabilities.

A row's `signals` are those of the policy that sampled it, constants to the
gradient.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlvr_jax import registry
from rlvr_jax.rewards import core

if TYPE_CHECKING:
  from rlvr_jax.envs import core as envs


@registry.register('reward')
def self_certainty(
  tasks: Sequence['envs.Task'], transcripts: Sequence[core.Transcript]
) -> list[core.Graded]:
  """Mean over tokens of KL(uniform || policy), nats, >= 0.

  INTUITOR (Zhao et al. 2025, arXiv:2505.19590). Driven by the tail of the
  distribution, unlike the entropy.
  """
  del tasks
  return _grade('self_certainty', transcripts, lambda s: s.self_certainty)


@registry.register('reward')
def token_entropy(
  tasks: Sequence['envs.Task'], transcripts: Sequence[core.Transcript]
) -> list[core.Graded]:
  """Minus the mean entropy of a token, nats, in [-log V, 0].

  RENT (Prabhudesai et al. 2025, arXiv:2505.22660).
  """
  del tasks
  return _grade('token_entropy', transcripts, lambda s: 0.0 - s.entropy)


@registry.register('reward')
def answer_probability(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  missing: float = 0.0,
) -> list[core.Graded]:
  """Mean probability of the final answer's tokens, in [0, 1].

  CRew (Du et al. 2025, arXiv:2510.13501): a mean of probabilities, not a
  product. `missing` where there is no answer.
  """
  del tasks
  core.check_finite(missing=missing)
  of = lambda s: s.answer_probability
  return _grade(
    'answer_probability',
    transcripts,
    lambda s: float(missing) if of(s) is None else of(s),
  )


def _grade(name, transcripts, value):
  if any(t.signals is None for t in transcripts):
    raise ValueError(
      f'The reward {name!r} reads the probabilities of the policy, which these '
      'transcripts lack: give each its `signals`, as training does.'
    )
  values = [float(value(t.signals)) for t in transcripts]
  return [core.Graded(x, {name: x}) for x in values]
