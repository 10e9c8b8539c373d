"""Per-token estimates of the KL divergence from a reference policy.

  kl(logp [B,T], logp_ref [B,T]) -> f32[B,T]     in nats

With d = logp - logp_ref and tokens sampled from the policy, k1 and k3 are
unbiased as *values* of KL(pi || ref); k2 is biased (Schulman 2020,
joschu.net/blog/kl-approx). As *losses*, which is how they are used here, they
differ in their expected gradient:

  k1  0, since E[grad log pi] = 0: noise, and no pull to the reference.
  k2  grad KL(pi || ref), the divergence that is usually meant.
  k3  grad KL(ref || pi), the other direction; pi - ref for the logits.

So minimise k2, use k3 to match published runs (TRL `beta`, verl `low_var_kl`),
and report k1. The reference is a constant.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


@registry.register('kl')
def k1(
  logp: Float[types.Array, 'B T'], logp_ref: Float[types.Array, 'B T']
) -> Float[Array, 'B T']:
  """d. Unbiased, noisy, of either sign; as a loss its mean gradient is 0."""
  return _difference(logp, logp_ref)


@registry.register('kl')
def k2(
  logp: Float[types.Array, 'B T'], logp_ref: Float[types.Array, 'B T']
) -> Float[Array, 'B T']:
  """d^2 / 2. Biased in value; its expected gradient is grad KL(pi || ref)."""
  return 0.5 * jnp.square(_difference(logp, logp_ref))


@registry.register('kl')
def k3(
  logp: Float[types.Array, 'B T'], logp_ref: Float[types.Array, 'B T']
) -> Float[Array, 'B T']:
  """e^-d - 1 + d. Unbiased, never negative; its gradient is KL(ref || pi)'s.

  d is clamped to +-20 as in verl, so an extreme log-prob gives a large finite
  value and no gradient. verl also clamps the value to 10; this does not.
  """
  return _k3(masked.clamp_log_ratio(_difference(logp, logp_ref)))


def _difference(logp, logp_ref):
  return masked.real(logp) - jax.lax.stop_gradient(masked.real(logp_ref))


@jax.custom_jvp
def _k3(d):
  """expm1(-d) + d. Its derivative is explicit: 1 - (1 + expm1) rounds."""
  return jnp.expm1(-d) + d


@_k3.defjvp
def _k3_jvp(primals, tangents):
  (d,), (dot,) = primals, tangents
  return _k3(d), -jnp.expm1(-d) * dot
