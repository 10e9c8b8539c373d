"""Groups of scored rollouts: chosen, summed up, written down."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax import enums, types
from rlvr_jax.envs import strategy_form
from rlvr_jax.rewards import base


class Collected(NamedTuple):
  """P groups of G, with what people read of them."""

  tasks: list  # P
  rollout: types.Rollout
  score: types.Score
  transcripts: list[list[base.Transcript]]  # [P][G]
  graded: list[list[base.RewardResult]]  # [P][G]
  episodes: list | None = None  # [P][G], of dialogues: `episode_scores.collect`
  log_fields: list[list[dict]] | None = None  # [P][G], for `lines`


def select(parts: Sequence[Collected], keep: Sequence, count: int):
  """The kept groups of several collections, in order, padded to `count`.

  A padding group has length 1, no sampled token and no turn: it weighs
  nothing anywhere. Shapes stay fixed, so nothing compiles again.

  Args:
    parts: collections of the same G and T.
    keep: bool[P] for each of them.
    count: P of the result; surplus groups are dropped.
  """
  chosen = [np.flatnonzero(k) for k in keep]

  def gather(field):
    rows = [np.asarray(field(c))[i] for c, i in zip(parts, chosen, strict=True)]
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


def metrics(parts: Sequence[Collected], informative) -> dict[str, float]:
  """Means over every group that was sampled, kept or not.

  Args:
    informative: bool[P] of all parts together: groups with spread.
  """
  rows = [
    (c, p, g)
    for c in parts
    for p in range(len(c.tasks))
    for g in range(len(c.graded[p]))
  ]
  graded = [c.graded[p][g] for c, p, g in rows]
  completions = [c.transcripts[p][g] for c, p, g in rows]
  right = np.concatenate(
    [c.score.verdict == enums.Verdict.CORRECT for c in parts]
  )
  refused = np.array([g.refused for g in graded])
  value = np.array([g.value for g in graded])
  stds = [  # of a group, divided by G (TRL's reward_std: by G - 1)
    np.std([g.value for g in group if not g.refused] or [0.0])
    for c in parts
    for group in c.graded
  ]
  mean = lambda x: float(np.mean(x)) if len(x) else float('nan')
  names = sorted({name for g in graded for name in g.parts})
  verdicts = np.array([t.verdict for t in completions])
  used = strategy_form.usage(
    [c.tasks[p] for c, p, _ in rows],
    [t.completion for t in completions],
    verdicts == enums.Verdict.CORRECT,
  )
  return {
    'reward': mean(value[~refused]),
    'reward_std': mean(stds),
    **{
      f'rewards/{name}': mean(
        [g.parts[name] for g in graded if name in g.parts]
      )
      for name in names
    },
    'rewards/refused': mean(refused),
    'accuracy': mean(right),
    **{f'verdict/{v.name.lower()}': mean(verdicts == v) for v in enums.Verdict},
    'verdict/fallback': mean([t.fallback for t in completions]),
    'verdict/timeout': mean([t.timed_out for t in completions]),
    'frac_reward_zero_std': 1.0 - mean(informative),
    'frac_groups_all_fail': mean(~right.any(-1)),
    'frac_groups_all_pass': mean(right.all(-1)),
    'completions/mean_length': mean([t.num_tokens for t in completions]),
    'completions/clipped_ratio': mean(
      [t.stop == enums.Stop.LENGTH for t in completions]
    ),
    **used,
  }


def has_reward_spread(collected: Collected, low: float) -> np.ndarray:
  """bool[P]: the std of a group's rewards, divided by their number, is above
  `low` (Deng et al. 2025, arXiv 2510.25992, section 3). All of them for 0."""
  rows = [
    [g.value for g in group if not g.refused] or [0.0]
    for group in collected.graded
  ]
  return np.array([low == 0 or np.std(values) > low for values in rows])


def lines(collected: Collected, split: str, limit: int) -> list[dict]:
  """Readable records, the first `limit` rows, a group after the other."""
  out = []
  for p, task in enumerate(collected.tasks):
    rows = zip(collected.transcripts[p], collected.graded[p], strict=True)
    for i, (t, g) in enumerate(rows):
      if len(out) == limit:
        return out
      line = record(task, t, split) | {'reward': g.value, 'parts': g.parts}
      out.append(
        line | (collected.log_fields[p][i] if collected.log_fields else {})
      )
  return out


def record(task, t: base.Transcript, split: str) -> dict:
  """What rollouts.jsonl says of one completion."""
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
