"""Estimates of the divergence from a reference policy, per token.

  kl(logp [B,T], logp_ref [B,T]) -> f32[B,T]     in nats

With d = logp - logp_ref and tokens drawn from the policy, all but k2 are
unbiased as *values* of KL(pi || ref) (Schulman 2020, joschu.net/blog/kl-approx).
As *losses*, which is how they are used here, they differ in what they pull on:

  k1  expected gradient 0: E[grad log pi] = 0. It adds noise and no pull.
  k2  grad KL(pi || ref), the divergence one usually means.
  k3  grad KL(ref || pi), the other direction; in logits pi - ref.

So k2 is the one to minimise, k3 the one to match published runs (TRL `beta`,
verl `low_var_kl`), k1 the one to read. The reference is a constant.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked

MAX_LOG_RATIO = 20.0


@registry.register('kl')
def k1(
  logp: Float[types.Array, 'B T'], logp_ref: Float[types.Array, 'B T']
) -> Float[Array, 'B T']:
  """d. Unbiased, noisy, of either sign; as a loss it does nothing."""
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
  """e^-d - 1 + d. Unbiased, never negative; pulls as KL(ref || pi).

  d is clamped to +-20 as in verl, so a wild log-prob gives a large finite
  value and no gradient. verl clamps the value to 10 as well; this does not.
  """
  d = _difference(logp, logp_ref)
  return _k3(jnp.clip(d, -MAX_LOG_RATIO, MAX_LOG_RATIO))


def _difference(logp, logp_ref):
  return masked.real(logp) - jax.lax.stop_gradient(masked.real(logp_ref))


@jax.custom_jvp
def _k3(d):
  """expm1(-d) + d. The derivative is stated, as 1 - (1 + expm1) rounds."""
  return jnp.expm1(-d) + d


@_k3.defjvp
def _k3_jvp(primals, tangents):
  (d,), (dot,) = primals, tangents
  return _k3(d), -jnp.expm1(-d) * dot
