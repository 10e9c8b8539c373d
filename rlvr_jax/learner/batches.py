"""The training batch of a step: rows of its rollouts, with token weights.

method     rows                        weight of a token
rl         samples of the policy       its advantage
sft        solutions of the tasks      1
distill    samples of the teacher      1
rejection  samples of the teacher, or  1 in a correct row; other rows are
           of the policy without one   masked
preference chosen and rejected text    1 and -1: only which is higher matters
           of the tasks
reward_    completions of the tasks    its label, 1 or -1, after its last token:
  model    with a label                see `labelled`

With `algo.distill` a teacher judges rows of 'rl' and 'distill' besides.
"""

import numpy as np

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.enums import Stop


def make_batch(
  c,
  algorithm: algorithms.Algorithm,
  rollout: types.Rollout,
  score: types.Score,
  lesson: types.Lesson | None = None,
) -> types.Batch:
  """The rows [B,T] of a step's groups, as host arrays; `c` is the config.

  Args:
    lesson: what a teacher judges; with `algo.distill` alone.
  """
  if c.method == 'reward_model':
    return labelled(rollout, score)
  weights = algorithms.token_weights(algorithm, c.method, rollout, score)
  out = types.flatten(rollout, weights)
  if c.mask_truncated_completions:
    out = mask_truncated(out, rollout)
  if c.method == 'rl' and algorithm.preference is not None:
    # A row without a reward has advantage 0, which would rank it.
    graded = np.asarray(score.turns).any(-1).reshape(-1, 1)
    out = out.replace(mask=out.mask & graded)
  if c.method != 'rl':
    # Rows of weight 0 leave the denominator of the loss too.
    out = out.replace(mask=out.mask & (out.adv != 0))
  if lesson is not None:
    out = out.replace(taught=out.mask & types.rows(lesson.taught))
    if lesson.tokens is not None:
      teacher = types.TeacherRows(
        types.rows(lesson.tokens), np.asarray(lesson.shift).reshape(-1)
      )
      out = out.replace(teacher=teacher)
      types.check_teacher(out)
    if algorithm.distill is not None and not algorithm.distill.outcome:
      # Whole rows: a mask begins where the rows of a group part.
      out = out.replace(mask=out.mask & out.taught.any(-1, keepdims=True))
  return out


def mask_truncated(batch: types.Batch, rollout: types.Rollout) -> types.Batch:
  """The batch without the rows that the limit cut (`Stop.LENGTH`).

  They leave the loss and its denominator, but not their group's statistics, on
  which the advantages are based. In a dialogue the stop of the last turn
  decides for the whole row.
  """
  whole = np.asarray(rollout.stop).reshape(-1, 1) != Stop.LENGTH
  return batch.replace(mask=batch.mask & whole)


def labelled(rollout: types.Rollout, score: types.Score) -> types.Batch:
  """Rows [B,T+1] whose score is the value after their last token.

  A value is that of the state before a token, so the score of the whole row
  stands one column after it. There the advantage is the row's label, its
  reward, and margin its margin; both are 0 elsewhere.
  """
  wide = lambda x: np.pad(types.rows(np.asarray(x)), ((0, 0), (0, 1)))
  own = wide(np.asarray(rollout.turn) >= 0)
  at = np.arange(own.shape[1]) == np.reshape(rollout.length, (-1, 1))
  at &= own.any(-1, keepdims=True)
  there = lambda x: np.where(at, np.reshape(x, (-1, 1)), 0).astype(np.float32)
  return types.Batch(
    tokens=wide(rollout.tokens),
    mask=own | at,
    adv=there(score.reward),
    logp_old=np.zeros(own.shape, np.float32),
    logp_ref=None,
    margin=there(score.margin),
  )
