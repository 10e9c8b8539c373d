"""Rewards for a stated confidence q, given whether the answer was right, c.

RLCR (Damani et al. 2025, arXiv:2507.16806): R = c - (q - c)^2, that is
`outcome` + `brier`. A score's value is minus its loss S(q, c). For a proper
score the best q is the chance p of being right; for lambda c - S(q, c) to
prefer the likelier of two calibrated answers as well, S(p, 1) - S(p, 0) must
be below lambda: true of `brier` and `spherical` with lambda = 1, not of
`log_score`, whose lambda must exceed log((1-eps)/eps).

The authors' code adds f/2 + f c/2 + f (1 - (q - c)^2)/2 with f = `confident`:
weights 1, 1/2, 1/2 on `confident`, `all_of(outcome, confident)` and
`brier(malformed=0.0)`. There, a right answer without a readable confidence
earns nothing.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlvr_jax import codes, registry
from rlvr_jax.rewards import confidence, core

if TYPE_CHECKING:
  from rlvr_jax.envs import core as envs


@registry.register('reward')
def confident(
  tasks: Sequence['envs.Task'], transcripts: Sequence[core.Transcript]
) -> list[core.Graded]:
  """1 where `confidence.parse` reads a confidence, else 0."""
  del tasks
  read = [confidence.parse(t.completion) is not None for t in transcripts]
  return [core.Graded(float(x), {'confident': float(x)}) for x in read]


@registry.register('reward')
def brier(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  malformed: float = -1.0,
) -> list[core.Graded]:
  """-(q - c)^2, in [-1, 0]; proper. `malformed` without a confidence."""
  del tasks
  loss = lambda q, c: (q - c) ** 2
  return _score('brier', loss, transcripts, malformed)


@registry.register('reward')
def spherical(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  malformed: float = -1.0,
) -> list[core.Graded]:
  """q_c / sqrt(q^2 + (1-q)^2) - 1 with q_1 = q, q_0 = 1 - q; proper."""
  del tasks
  loss = lambda q, c: 1 - (q if c else 1 - q) / math.hypot(q, 1 - q)
  return _score('spherical', loss, transcripts, malformed)


@registry.register('reward')
def log_score(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  eps: float = 0.01,
  malformed: float | None = None,
) -> list[core.Graded]:
  """log q where right, log(1 - q) where wrong, q clipped to [eps, 1-eps].

  Proper inside the range; nats. `malformed` is the worst value, log eps,
  unless given.

  Raises:
    ValueError: eps outside (0, 0.5).
  """
  del tasks
  if not 0 < eps < 0.5:
    raise ValueError(f'log_score(eps={eps}): eps must be in (0, 0.5).')
  low = math.log(eps) if malformed is None else malformed

  def loss(q, c):
    q = min(max(q, eps), 1 - eps)
    return -math.log(q if c else 1 - q)

  return _score('log_score', loss, transcripts, low)


@registry.register('reward')
def absolute(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  malformed: float = -1.0,
) -> list[core.Graded]:
  """-|q - c|. Improper: the best q is 0 or 1, whichever p is nearer to."""
  del tasks
  loss = lambda q, c: abs(q - c)
  return _score('absolute', loss, transcripts, malformed)


def _score(name, loss, transcripts, malformed):
  core.check_finite(malformed=malformed)
  out = []
  for t in transcripts:
    q = confidence.parse(t.completion)
    right = t.verdict == codes.Verdict.CORRECT
    value = float(malformed) if q is None else 0.0 - loss(q, right)
    out.append(core.Graded(value, {name: value}))
  return out
