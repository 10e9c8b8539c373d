"""Credit: the per-turn rewards of one trajectory to per-turn scores.

A credit function has the form

  credit(reward [K], belief [K+1] | None, turns bool[K]) -> f32[K]

where `reward[k]` is what turn k earned, `belief[k]` the log-probability of
the truth before turn k (`belief[K]`: after the last), and `turns[k]` says
that turn k took place. Turns that did not take place score 0, and nothing
that stands in their slots, NaN included, reaches the others.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


@registry.register('credit')
def outcome(
  reward: Real[types.Array, 'K'],
  belief: Real[types.Array, 'K+1'] | None,
  turns: Bool[types.Array, 'K'],
) -> Float[Array, 'K']:
  """Every turn gets the whole trajectory's reward: c_k = sum_j r_j.

  With K = 1 it is the reward itself. `belief` is not used.
  """
  del belief
  reward = masked.keep(reward, turns)
  return jnp.where(turns, jnp.sum(reward), 0.0)
