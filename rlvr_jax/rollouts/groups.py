"""Groups of scored rollouts: selection, metrics, log records."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax import enums, types
from rlvr_jax.envs import strategy_form
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task


class Collected(NamedTuple):
  """P groups of G rollouts with scores, texts and rewards.

  Attributes:
    episodes: of dialogues, [P][G] of (Episode, rewards of its turns, beliefs
      f32[K+1] or None).
    log_fields: [P][G], further fields of the log records: see `lines`.
  """

  tasks: list[Task]  # P
  rollout: types.Rollout
  score: types.Score
  transcripts: list[list[base.Transcript]]  # [P][G]
  results: list[list[base.RewardResult]]  # [P][G]
  episodes: list[list[tuple]] | None = None
  log_fields: list[list[dict]] | None = None


def select(
  parts: Sequence[Collected], keep: Sequence[np.ndarray], count: int
) -> tuple[types.Rollout, types.Score]:
  """The chosen groups of several collections, in order, padded to `count`.

  A padding group has length 1, no sampled token and no turn, so it enters
  neither loss nor metrics. Shapes are constant: nothing compiles again.

  Args:
    parts: collections of the same G and T.
    keep: bool[P] for each of them.
    count: P of the result; surplus groups are dropped.
  """
  indices = [np.flatnonzero(k) for k in keep]

  def gather(field):
    rows = [
      np.asarray(field(c))[i] for c, i in zip(parts, indices, strict=True)
    ]
    rows = np.concatenate(rows)[:count]
    return np.pad(rows, [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1))

  rollout = types.Rollout(
    tokens=gather(lambda c: c.rollout.tokens),
    length=np.maximum(gather(lambda c: c.rollout.length), 1),
    turn=gather(lambda c: c.rollout.turn + 1) - 1,
    logp=gather(lambda c: c.rollout.logp),
    stop=gather(lambda c: c.rollout.stop),
  )
  score = types.Score(
    reward=gather(lambda c: c.score.reward),
    turns=gather(lambda c: c.score.turns),
    belief=None
    if parts[0].score.belief is None
    else gather(lambda c: c.score.belief),
    verdict=gather(lambda c: c.score.verdict),
    greedy=None
    if parts[0].score.greedy is None
    else gather(lambda c: c.score.greedy),
  )
  return rollout, score


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
  usage = strategy_form.usage(
    [c.tasks[p] for c, p, _ in rows],
    [t.completion for t in transcripts],
    verdicts == enums.Verdict.CORRECT,
  )
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
    'completions/clipped_ratio': mean(
      [t.stop == enums.Stop.LENGTH for t in transcripts]
    ),
    **usage,
  }


def has_reward_spread(collected: Collected, min_std: float) -> np.ndarray:
  """bool[P]: groups whose reward std (ddof=0) is above `min_std`.

  All groups for min_std=0. The filter of Deng et al. 2025, arXiv 2510.25992,
  section 3.
  """
  groups = [
    [r.value for r in group if not r.refused] or [0.0]
    for group in collected.results
  ]
  return np.array([min_std == 0 or np.std(g) > min_std for g in groups])


def lines(collected: Collected, split: str, limit: int) -> list[dict]:
  """Records for rollouts.jsonl: the first `limit` rows, group by group."""
  out = []
  for p, task in enumerate(collected.tasks):
    rows = zip(collected.transcripts[p], collected.results[p], strict=True)
    for i, (t, r) in enumerate(rows):
      if len(out) == limit:
        return out
      line = record(task, t, split) | {'reward': r.value, 'parts': r.parts}
      out.append(
        line | (collected.log_fields[p][i] if collected.log_fields else {})
      )
  return out


def record(task: Task, t: base.Transcript, split: str) -> dict:
  """The fields of rollouts.jsonl for one completion."""
  return {
    'split': split,
    'id': task.id,
    'question': task.question,
    'answer': task.answer,
    'completion': t.completion,
    'tokens': t.num_tokens,
    'verdict': t.verdict.name,
    'fallback': t.fallback,
    'timed_out': t.timed_out,
    'stop': t.stop.name,
  }
