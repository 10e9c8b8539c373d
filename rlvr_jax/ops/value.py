"""The value loss of a critic (PPO)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlvr_jax import types
from rlvr_jax.ops import masked


def value_loss(
  value: Float[types.Array, 'B T'],
  value_old: Float[types.Array, 'B T'],
  returns: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  clip: float | int | None,
) -> Float[Array, 'B T']:
  """max((V - R)^2, (V' - R)^2) / 2, V' = V clipped to V_old +- clip.

  Per token, 0 where the mask is false, not yet averaged (an aggregate does
  that). Where the clipped error is the larger one, V has moved far enough
  towards R and has no gradient. V_old and the returns R (from `gae`) are
  constants. clip = 0 or None: (V - R)^2 / 2. Defaults: verl 0.5, TRL 0.2.

  Raises:
    ValueError: clip negative.
  """
  if clip is not None and not clip >= 0:
    raise ValueError(
      f'value_loss(clip={clip}) must be >= 0; write 0 or None for no clipping.'
    )
  value, returns = masked.keep(value, mask), masked.keep(returns, mask)
  error = jnp.square(value - jax.lax.stop_gradient(returns))
  if clip:
    old = masked.keep(value_old, mask)
    near = jnp.clip(value, old - clip, old + clip)
    clipped = jax.lax.stop_gradient(jnp.square(near - returns))
    error = jnp.where(clipped > error, clipped, error)
  return jnp.where(mask, 0.5 * error, 0.0)
