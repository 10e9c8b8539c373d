"""What the other files share: dtypes, and sums that a mask guards."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from rlvr_jax import types


def real(x: Shaped[types.Array, '*S']) -> Float[Array, '*S']:
  """x as floats of at least 32 bits: bool, int and bfloat16 to float32."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def keep(
  x: Shaped[types.Array, '*S'], mask: Bool[types.Array, '*S']
) -> Float[Array, '*S']:
  """x where the mask holds, else 0.

  Apply it to inputs: what follows then never sees the NaN or infinity of a
  masked place, neither in its value nor in its gradient (0 * inf is NaN).
  """
  return jnp.where(mask, real(x), 0.0)


def count(mask: Bool[types.Array, '*S']) -> Float[Array, '']:
  """How many places the mask holds, as float32."""
  return jnp.sum(mask).astype(jnp.float32)


def above_min(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """score - min of the valid members; 0 for the invalid ones.

  Equal members give exactly 0 whatever their value, where score - mean does
  not (eight times 0.9 in float32 has another mean). A large common offset
  costs no precision. The minimum counts as a constant in the gradient: right
  for every function that a common shift does not change.
  """
  score = keep(score, valid)
  low = jnp.min(score, where=valid, initial=jnp.inf)
  return jnp.where(valid, score - jax.lax.stop_gradient(low), 0.0)


def has_spread(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Bool[Array, '']:
  """Two valid members differ. Decided by max > min, exact in any float."""
  return jnp.any(above_min(score, valid) > 0)


def centred(
  x: Shaped[types.Array, '*S'], mask: Bool[types.Array, '*S']
) -> Float[Array, '*S']:
  """x - mean over the masked places, 0 elsewhere; exactly 0 if all are equal."""
  x, n = keep(x, mask), count(mask)
  low = jnp.min(x, where=mask, initial=jnp.inf)
  x = jnp.where(mask, x - jax.lax.stop_gradient(low), 0.0)
  return jnp.where(mask, x - jnp.sum(x) / jnp.maximum(n, 1.0), 0.0)


def variance(
  x: Shaped[types.Array, '*S'], mask: Bool[types.Array, '*S']
) -> Float[Array, '']:
  """Of the masked places, with divisor n-1; 0 for fewer than two places."""
  squares = jnp.sum(jnp.square(centred(x, mask)))
  return squares / jnp.maximum(count(mask) - 1.0, 1.0)


def whiten(
  x: Shaped[types.Array, '*S'],
  mask: Bool[types.Array, '*S'],
  *,
  eps: float = 1e-8,
) -> Float[Array, '*S']:
  """(x - mean) / sqrt(var + eps) over the masked places, 0 elsewhere.

  var has the divisor n-1, as in verl. Fewer than two places, or equal ones,
  give 0.
  """
  return centred(x, mask) * jax.lax.rsqrt(variance(x, mask) + eps)
