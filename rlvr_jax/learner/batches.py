"""Batches to train on: rows of a step's rollouts and what each token weighs.

method     rows                        weight of a token
rl         the policy's samples        its advantage
sft        the tasks' solutions        1
distill    the teacher's samples       1
rejection  the teacher's, or the       1 in a correct row; other rows
           policy's samples            are not trained
"""

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types


def make_batch(
  c,
  algorithm: algorithms.Algorithm,
  rollout: types.Rollout,
  score: types.Score,
) -> types.Batch:
  """Rows [B,T] to train on: host arrays."""
  weights = algorithms.token_weights(algorithm, c.method, rollout, score)
  out = types.flatten(rollout, weights, c.mask_truncated_completions)
  if c.method != 'rl':
    # Rows that do not count are not in the mean either.
    out = out.replace(mask=out.mask & (out.adv != 0))
  return out
