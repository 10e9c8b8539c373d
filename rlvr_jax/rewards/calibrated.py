r"""Is a stated confidence calibrated? Rewards that are negated scoring rules.

c is 1 for a CORRECT verdict, else 0; q is the confidence that
`confidence.parse` reads; S(q, c) is a loss, and the reward is -S. A scoring
rule is proper if E[-S(q, c)] over c ~ Bernoulli(p) is maximal at q = p.

The reward of RLCR (arXiv:2507.16806) in the paper is R = c - (q - c)^2:

  reward_funcs = ('outcome', 'brier'), reward_weights = (1.0, 1.0)

The official code has 0.5 f + 0.5 f c + 0.5 f (1 - (q - c)^2) with f = 1 for a
well-formed row, else 0: that is 0.5 (R + 2) for well-formed rows, else 0.

  reward_funcs = ('confident', 'all_of(outcome, confident)',
                  'brier(malformed=0.0)'), reward_weights = (1.0, 0.5, 0.5)

With `format(tabc)` instead of `confident`, a well-formed row needs all the tags
that the official code requires. The weight of correctness must exceed
S(p, 1) - S(p, 0) for all p that occur, else a deliberately wrong answer with
q = 0 has a higher reward than an honest one: the smallest such weight is 1 for
`brier`, and log((1 - eps) / eps) for `log_score`.
"""

import math
from collections.abc import Callable, Sequence

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import confidence


@registry.register('reward')
def confident(
  tasks: Sequence[Task], transcripts: Sequence[base.Transcript]
) -> list[base.RewardResult]:
  """1 where a confidence can be parsed (`confidence.parse`), else 0."""
  values = [
    float(confidence.parse(t.completion) is not None) for t in transcripts
  ]
  return [base.RewardResult(v, {'confident': v}) for v in values]


@registry.register('reward')
def brier(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  malformed: float = -1.0,
) -> list[base.RewardResult]:
  """-(q - c)^2, in [-1, 0]. Proper.

  Args:
    tasks, transcripts: n rows.
    malformed: reward of a row whose confidence cannot be parsed; the default
      is the minimum of the score.

  Raises:
    ValueError: malformed is not finite.
  """
  return _score('brier', transcripts, lambda q, c: -((q - c) ** 2), malformed)


@registry.register('reward')
def log_score(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  eps: float = 0.01,
  malformed: float | None = None,
) -> list[base.RewardResult]:
  """log q if c = 1, else log(1 - q), with q clipped to [eps, 1 - eps].

  In [log(eps), log(1 - eps)]. Proper for p in [eps, 1 - eps]; outside, all q
  on p's side of the bound have the same reward.

  Args:
    tasks, transcripts: n rows.
    eps: in (0, 0.5).
    malformed: see `brier`; None for log(eps).

  Raises:
    ValueError: eps is out of range, or malformed is not finite.
  """
  base.check_finite(eps=eps)
  if not 0 < eps < 0.5:
    raise ValueError(f'eps={eps} must be in (0, 0.5).')
  rule = lambda q, c: math.log(min(max(q if c else 1 - q, eps), 1 - eps))
  worst = math.log(eps) if malformed is None else malformed
  return _score('log_score', transcripts, rule, worst)


@registry.register('reward')
def spherical(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  malformed: float = -1.0,
) -> list[base.RewardResult]:
  """q_c / sqrt(q^2 + (1 - q)^2) - 1, q_1 = q, q_0 = 1 - q; in [-1, 0]. Proper.

  Args and Raises: see `brier`.
  """
  rule = lambda q, c: (q if c else 1 - q) / math.hypot(q, 1 - q) - 1
  return _score('spherical', transcripts, rule, malformed)


@registry.register('reward')
def absolute(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  malformed: float = -1.0,
) -> list[base.RewardResult]:
  """-|q - c|, in [-1, 0]. Not proper: q = 1 is optimal if p > 1/2, else q = 0.

  Args and Raises: see `brier`.
  """
  return _score('absolute', transcripts, lambda q, c: -abs(q - c), malformed)


def _score(
  name: str,
  transcripts: Sequence[base.Transcript],
  rule: Callable[[float, int], float],
  malformed: float,
) -> list[base.RewardResult]:
  """Applies rule(q, c) to every row with a confidence."""
  base.check_finite(malformed=malformed)
  out = []
  for transcript in transcripts:
    q = confidence.parse(transcript.completion)
    c = int(transcript.verdict == enums.Verdict.CORRECT)
    value = float(malformed if q is None else rule(q, c))
    out.append(base.RewardResult(value, {name: value}))
  return out
