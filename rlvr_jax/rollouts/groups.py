"""Groups of scored rollouts, and the metrics of a step's rollouts."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax import enums, hosts, types
from rlvr_jax.envs import judgment_tasks, strategy_form
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import branches
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import confidence


class Collected(NamedTuple):
  """P groups of G rollouts with scores, texts and rewards.

  Attributes:
    episodes: of dialogues, [P][G] of (Episode, rewards of its turns, beliefs
      f32[K+1] or None).
    means: further metrics, as sums and counts.
    judgments: rollouts of a judge that are trained too, and their scores.
    log_fields: [P][G], further fields of the log records: see `log_records`.
    faults: of branches, of the B rows: see `branches.fault`.
    lesson: what a teacher judges, if there is one.
  """

  tasks: list[Task]  # P
  rollout: types.Rollout
  score: types.Score
  transcripts: list[list[base.Transcript]]  # [P][G]
  results: list[list[base.RewardResult]]  # [P][G]
  episodes: list[list[tuple]] | None = None
  log_fields: list[list[dict]] | None = None
  faults: list[str] | None = None
  means: Mapping[str, tuple[float, float]] = {}
  judgments: tuple[types.Rollout, types.Score] | None = None
  lesson: types.Lesson | None = None


def agreed(reward: base.Reward) -> base.Reward:
  """The reward whose results are the first host's: a reward may be random."""

  def of_first(tasks, transcripts):
    results = reward(tasks, transcripts)
    if hosts.count() == 1:
      return results
    plain = [
      (float(r.value), {k: float(v) for k, v in r.parts.items()}, r.refused)
      for r in results
    ]
    return [base.RewardResult(*row) for row in hosts.agreed(plain)]

  return of_first


def metrics(
  parts: Sequence[Collected], informative: np.ndarray
) -> dict[str, float]:
  """Metrics of a step: means over all sampled groups, trained or not.

  Args:
    informative: bool[P] of all parts concatenated: see
      `algorithm.informative`.
  """
  rows = [
    (c, p, g)
    for c in parts
    for p in range(len(c.tasks))
    for g in range(len(c.results[p]))
  ]
  results = [c.results[p][g] for c, p, g in rows]
  transcripts = [c.transcripts[p][g] for c, p, g in rows]
  correct = np.concatenate(
    [c.score.verdict == enums.Verdict.CORRECT for c in parts]
  )
  refused = np.array([r.refused for r in results])
  value = np.array([r.value for r in results])
  stds = [  # ddof=0 (TRL's reward_std has ddof=1)
    np.std([r.value for r in group if not r.refused] or [0.0])
    for c in parts
    for group in c.results
  ]
  mean = lambda x: float(np.mean(x)) if len(x) else float('nan')
  names = sorted({name for r in results for name in r.parts})
  verdicts = np.array([t.verdict for t in transcripts])
  tasks = [c.tasks[p] for c, p, _ in rows]
  texts = [t.completion for t in transcripts]
  usage = strategy_form.usage(tasks, texts, verdicts == enums.Verdict.CORRECT)
  usage |= judgment_tasks.usage(tasks, texts)
  return {
    'reward': mean(value[~refused]),
    'reward_std': mean(stds),
    **{
      f'rewards/{name}': mean(
        [r.parts[name] for r in results if name in r.parts]
      )
      for name in names
    },
    'rewards/refused': mean(refused),
    'accuracy': mean(correct),
    **{f'verdict/{v.name.lower()}': mean(verdicts == v) for v in enums.Verdict},
    'verdict/fallback': mean([t.fallback for t in transcripts]),
    'verdict/timeout': mean([t.timed_out for t in transcripts]),
    'frac_reward_zero_std': 1.0 - mean(informative),
    'frac_groups_all_fail': mean(~correct.any(-1)),
    'frac_groups_all_pass': mean(correct.all(-1)),
    'completions/mean_length': mean([t.num_tokens for t in transcripts]),
    'completions/uncertainty_words': mean(
      [confidence.uncertainty_words(text) for text in texts]
    ),
    'completions/clipped_ratio': mean(
      [t.stop == enums.Stop.LENGTH for t in transcripts]
    ),
    **usage,
    **_branches(parts),
    **_answers(transcripts),
    **_means(parts),
    **_signal(parts, informative),
  }


def _branches(parts: Sequence[Collected]) -> dict[str, float]:
  """Shares of branches that were dropped, where rows are branches."""
  faults = [x for c in parts for x in c.faults or ()]
  return {
    f'branches/{name}': float(np.mean([x == name for x in faults]))
    for name in branches.FAULTS
    if faults
  }


def _answers(transcripts: Sequence[base.Transcript]) -> dict[str, float]:
  """Share of rows whose final answer was located, where there are signals.

  The others have no answer_gap and no answer_probability.
  """
  seen = [t.signals for t in transcripts if t.signals is not None]
  if not seen:
    return {}
  found = [s.answer_probability is not None for s in seen]
  return {'completions/answer_located': float(np.mean(found))}


def _means(parts: Sequence[Collected]) -> dict[str, float]:
  """The further metrics of all parts; NaN for a mean over nothing."""
  out = {}
  for name in dict.fromkeys(name for c in parts for name in c.means):
    total, count = np.sum([c.means.get(name, (0, 0)) for c in parts], 0)
    out[name] = float(total / count) if count else float('nan')
  return out


def _signal(
  parts: Sequence[Collected], informative: np.ndarray
) -> dict[str, float]:
  """How much the verdicts and rewards of the groups tell about the policy.

  With c_g in {0, 1} whether row g of a group of G is correct and r its mean:
    pass_variance: mean of r (1 - r) G / (G - 1), an estimate without bias of
      p (1 - p) at the pass rate p of each problem.
    informative_groups: share of groups with spread, 1 - frac_reward_zero_std.
    bits: mean of the entropy of r, in bits; groups with both kinds of row have
      1 / (2 G ln 2) added, which removes its bias to first order (Miller 1955)
      and makes values above 1 possible.
    agreement: squared correlation of reward and c around the means of their
      group, all rows of a step together: the share of the variance of either
      that the other explains (phi^2 for rewards of 0 and 1).

  A refused row is a row that is not correct, as in `accuracy`; it has no reward
  and is left out of `agreement`. A dialogue is one row. A group of one has no
  variance and leaves the first and third mean. NaN for a mean over nothing, and
  for `agreement` where rewards or verdicts differ in no group.
  """
  correct = [
    row == enums.Verdict.CORRECT for c in parts for row in c.score.verdict
  ]
  results = [group for c in parts for group in c.results]
  variance, bits = [], []
  products = np.zeros(3)  # sums of reward c, reward^2, c^2 around the means
  for right, group in zip(correct, results, strict=True):
    n, r = len(right), float(right.mean())
    if n > 1:
      variance.append(r * (1 - r) * n / (n - 1))
      mixed = 0 < r < 1
      bits.append(
        -r * np.log2(r) - (1 - r) * np.log2(1 - r) + 1 / (2 * n * np.log(2))
        if mixed
        else 0.0
      )
    valid = np.array([not x.refused for x in group], bool)
    if valid.any():
      reward = np.array([x.value for x in group])[valid]
      # Where all are equal, the mean's rounding must not pass for spread.
      spread = reward - (reward.mean() if np.ptp(reward) else reward)
      c = right[valid] - right[valid].mean()
      products += spread @ c, spread @ spread, c @ c
  both, rewards, verdicts = products
  mean = lambda x: float(np.mean(x)) if len(x) else float('nan')
  return {
    'signal/pass_variance': mean(variance),
    'signal/informative_groups': mean(informative),
    'signal/bits': mean(bits),
    'signal/agreement': float(both / rewards * both / verdicts)
    if rewards > 0 and verdicts > 0
    else float('nan'),
  }
