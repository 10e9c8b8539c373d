"""Masked sums, means and variances; float promotion; the log-ratio clamp."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from rlvr_jax import types

MAX_LOG_RATIO = 20.0  # as in verl; exp(20) = 4.9e8


def clamp_log_ratio(d: Float[Array, '*S']) -> Float[Array, '*S']:
  """d clipped to +-MAX_LOG_RATIO, so that exp(d) stays finite.

  Beyond the clamp there is no gradient.
  """
  return jnp.clip(d, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def real(x: Shaped[types.Array, '*S']) -> Float[Array, '*S']:
  """x in at least float32: bool, int and bfloat16 become float32."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def keep(
  x: Shaped[types.Array, '*S'], mask: Bool[types.Array, '*S']
) -> Float[Array, '*S']:
  """x where the mask holds, else 0.

  Apply it to inputs: a NaN or infinity at a masked position then affects
  neither later values nor gradients (0 * inf is NaN).
  """
  return jnp.where(mask, real(x), 0.0)


def count(mask: Bool[types.Array, '*S']) -> Float[Array, '']:
  """Number of positions where the mask holds, as float32."""
  return jnp.sum(mask).astype(jnp.float32)


def above_min(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """score - min over the valid members; 0 for the invalid ones.

  Equal members give exactly 0 for any value; score - mean does not (the
  float32 mean of eight times 0.9 is not 0.9). A large common offset costs no
  precision. The minimum is a constant in the gradient, which is correct for
  every function that is invariant to a common shift.
  """
  score = keep(score, valid)
  low = jnp.min(score, where=valid, initial=jnp.inf)
  return jnp.where(valid, score - jax.lax.stop_gradient(low), 0.0)


def has_spread(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Bool[Array, '']:
  """Whether two valid members differ; max > min, exact in any float dtype."""
  return jnp.any(above_min(score, valid) > 0)


def centred(
  x: Shaped[types.Array, '*S'], mask: Bool[types.Array, '*S']
) -> Float[Array, '*S']:
  """x - mean(x) where the mask holds, else 0; exactly 0 if all x are equal."""
  x, n = keep(x, mask), count(mask)
  low = jnp.min(x, where=mask, initial=jnp.inf)
  x = jnp.where(mask, x - jax.lax.stop_gradient(low), 0.0)
  return jnp.where(mask, x - jnp.sum(x) / jnp.maximum(n, 1.0), 0.0)


def variance(
  x: Shaped[types.Array, '*S'], mask: Bool[types.Array, '*S']
) -> Float[Array, '']:
  """Sample variance (ddof=1) where the mask holds; 0 for fewer than two."""
  squares = jnp.sum(jnp.square(centred(x, mask)))
  return squares / jnp.maximum(count(mask) - 1.0, 1.0)


def whiten(
  x: Shaped[types.Array, '*S'],
  mask: Bool[types.Array, '*S'],
  *,
  eps: float = 1e-8,
) -> Float[Array, '*S']:
  """(x - mean) / sqrt(var + eps) where the mask holds, else 0.

  var has ddof=1, as in verl. Fewer than two values, or equal values, give 0.
  """
  return centred(x, mask) * jax.lax.rsqrt(variance(x, mask) + eps)
