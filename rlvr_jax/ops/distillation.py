"""Distillation from logits: KL of the student from a teacher, in chunks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlvr_jax.ops import logprob


def divergence(
  hidden: Float[Array, '*r m d'],
  head: Float[Array, 'v d'],
  other: Float[Array, '*r m e'],
  other_head: Float[Array, 'v e'],
  *,
  temperature: float = 1.0,
  chunk: int = 1024,
) -> Float[Array, '*r m']:
  """Per-token KL(q || p) in nats, q of a teacher and p of the student.

    KL(q || p) = sum_v q_v (log q_v - log p_v)

  p = softmax(hidden head^T / temperature); q likewise from `other`, a constant.
  dKL/dz = p - q for the student's logits z. The distillation loss of Hinton et
  al. (2015, arXiv:1503.02531), without their factor T^2. The backward pass
  recomputes the logits.
  """
  other, other_head = jax.lax.stop_gradient((other, other_head))

  @jax.checkpoint
  def kl(hidden, other):
    rows = lambda x: x.reshape(-1, x.shape[-1])
    p = jax.nn.log_softmax(logprob.logits_of(rows(hidden), head, temperature))
    q = jax.nn.log_softmax(
      logprob.logits_of(rows(other), other_head, temperature)
    )
    out = jnp.sum(jnp.exp(q) * (q - p), -1)
    return (out.reshape(hidden.shape[:-1]),)

  return logprob.by_chunks(kl, (hidden, other), hidden.shape[:-1], chunk)[0]
