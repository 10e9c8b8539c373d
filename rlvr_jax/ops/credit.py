"""Credit: the per-turn rewards of one trajectory to per-turn scores.

A credit function has the form

  credit(reward [K], belief [K+1] | None, turns bool[K]) -> f32[K]

where `reward[k]` is what turn k earned, `belief[k]` the log-probability of
the truth before turn k (`belief[K]`: after the last), and `turns[k]` says
that turn k took place. Turns that did not take place score 0, and nothing
that stands in their slots, NaN included, reaches the others.
"""

import jax
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


@registry.register('credit')
def stepwise(
  reward: Real[types.Array, 'K'],
  belief: Real[types.Array, 'K+1'] | None,
  turns: Bool[types.Array, 'K'],
  *,
  gamma: float | int = 1.0,
) -> Float[Array, 'K']:
  """Rewards to go: c_k = r_k + gamma c_{k+1}, over the turns that took place.

  A turn is paid for itself and what came after it, not for what came before.
  gamma = 0 leaves each turn its own reward; K = 1 is `outcome`.

  Raises:
    ValueError: gamma outside [0, 1].
  """
  del belief
  if not 0 <= gamma <= 1:
    raise ValueError(f'stepwise(gamma={gamma}): gamma must be in [0, 1].')

  def back(later, at):
    r, took_place = at
    now = jnp.where(took_place, r + gamma * later, later)
    return now, jnp.where(took_place, now, 0.0)

  reward = masked.keep(reward, turns)
  zero = jnp.zeros((), reward.dtype)
  return jax.lax.scan(back, zero, (reward, turns), reverse=True)[1]
