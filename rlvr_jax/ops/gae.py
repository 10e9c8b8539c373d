"""Generalised advantage estimation (GAE) from a critic's values (PPO)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


@registry.register('estimator')
def gae(
  rewards: Float[types.Array, 'T'],
  values: Float[types.Array, 'T'],
  mask: Bool[types.Array, 'T'],
  *,
  gamma: float | int = 1.0,
  lam: float | int = 1.0,
) -> tuple[Float[Array, 'T'], Float[Array, 'T']]:
  """Advantages and returns of one row (Schulman et al. 2015, arXiv:1506.02438).

    delta_t = r_t + gamma V_{t+1} - V_t     A_t = delta_t + gamma lam A_{t+1}

  and the return A_t + V_t, over the tokens where the mask holds: the tokens
  between them (a prompt, an environment's reply) are skipped, so t+1 is the
  next such token. After the last one V and A are 0, also in a truncated row:
  its value is not bootstrapped. lam = 1 gives the discounted return minus V,
  lam = 0 the one-step TD error. Both results are 0 where the mask is false.
  `masked.whiten` normalises advantages over the whole batch, as verl does.

  Raises:
    ValueError: gamma or lam outside [0, 1].
  """
  for name, x in (('gamma', gamma), ('lam', lam)):
    if not 0 <= x <= 1:
      raise ValueError(f'gae({name}={x}): {name} must be in [0, 1].')
  rewards, values = masked.keep(rewards, mask), masked.keep(values, mask)

  def back(carry, token):
    value, advantage = carry  # of the next token in the mask
    r, v, m = token
    new = r + gamma * value - v + gamma * lam * advantage
    carry = jnp.where(m, v, value), jnp.where(m, new, advantage)
    return carry, jnp.where(m, new, 0.0)

  zero = jnp.zeros((), rewards.dtype)
  _, advantages = jax.lax.scan(
    back, (zero, zero), (rewards, values, mask), reverse=True
  )
  return advantages, jnp.where(mask, advantages + values, 0.0)
