"""How sure a distribution over the vocabulary is."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlvr_jax import types
from rlvr_jax.ops import masked


def self_certainty(
  logits: Float[types.Array, '*S V'],
) -> Float[Array, '*S']:
  """KL(U || p) = -mean_v log p_v - log V, in nats; p = softmax(logits).

  The reward of INTUITOR, averaged there over a row's tokens
  (arXiv:2505.19590; the authors' code leaves out the constant log V). 0 for
  the uniform distribution, without bound above: it is driven by the least
  likely tokens, so it is not log V minus the entropy. A logit of -inf gives
  infinity.
  """
  z = masked.real(logits)
  z = z - jax.lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True))
  total = jnp.log(jnp.sum(jnp.exp(z), axis=-1))
  return total - jnp.mean(z, axis=-1) - math.log(z.shape[-1])
