"""Batches to train on: rows of a step's rollouts and what each token weighs.

method     rows                        weight of a token
rl         the policy's samples        its advantage
sft        the tasks' solutions        1
distill    the teacher's samples       1
rejection  the teacher's, or the       1 in a correct row; other rows
           policy's samples            are not trained
"""

import numpy as np

from rlvr_jax import algorithm as algorithms
from rlvr_jax import enums, types


def weights(c, algo, rolled: types.Rollout, scored: types.Score) -> np.ndarray:
  """f32[P,G,T]: what multiplies -log pi of a token, up to the surrogate.

  A critic's advantages come later, see `train_step.prepare`: here they are the
  rewards at the ends of turns.
  """
  sampled = np.asarray(rolled.turn) >= 0
  if c.method == 'rl':
    if algo.critic is not None:
      return np.asarray(algorithms.turn_rewards(rolled, scored))
    return np.asarray(algorithms.advantages(algo, rolled, scored))
  kept = np.asarray(scored.verdict) == enums.Verdict.CORRECT
  if c.method != 'rejection':
    kept = np.ones_like(kept)
  return (sampled & kept[..., None]).astype(np.float32)


def batch(c, algo, rolled: types.Rollout, scored: types.Score) -> types.Batch:
  """Rows [B,T] to train on: host arrays."""
  adv = weights(c, algo, rolled, scored)
  out = types.flatten(rolled, adv, c.mask_truncated_completions)
  if c.method != 'rl':
    # Rows that do not count are not in the mean either.
    out = out.replace(mask=out.mask & (out.adv != 0))
  return out
