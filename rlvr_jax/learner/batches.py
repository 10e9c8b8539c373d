"""The training batch of a step: rows of its rollouts, with token weights.

method     rows                        weight of a token
rl         samples of the policy       its advantage
sft        solutions of the tasks      1
distill    samples of the teacher      1
rejection  samples of the teacher, or  1 in a correct row; other rows are
           of the policy without one   masked
"""

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types


def make_batch(
  c,
  algorithm: algorithms.Algorithm,
  rollout: types.Rollout,
  score: types.Score,
) -> types.Batch:
  """The rows [B,T] of a step's groups, as host arrays; `c` is the config."""
  weights = algorithms.token_weights(algorithm, c.method, rollout, score)
  out = types.flatten(rollout, weights, c.mask_truncated_completions)
  if c.method != 'rl':
    # Rows of weight 0 leave the denominator of the loss too.
    out = out.replace(mask=out.mask & (out.adv != 0))
  return out
