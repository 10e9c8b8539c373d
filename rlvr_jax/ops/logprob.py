"""Log-probability and entropy of given tokens, without holding all logits.

Nothing outside this file shifts: `logp[:, t]` belongs to `tokens[:, t]`.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def from_hidden(
  hidden: Float[Array, 'm d'],
  head: Float[Array, 'v d'],
  targets: Int[Array, ' m'],
  *,
  temperature: float = 1.0,
  chunk: int = 1024,
) -> tuple[Float[Array, ' m'], Float[Array, ' m']]:
  """log p(target) and entropy, in nats, of softmax(hidden head^T / temperature).

  Hidden states at position t-1 are paired with the token at t by the caller.
  At most `chunk` rows of logits [chunk, V] live at a time; the backward pass
  computes them again: with p = softmax(z) and H its entropy,

    dlogp_y/dz = 1[y] - p        dH/dz = -p (log p + H).

  Targets outside [0, V) give log p of no token (the value is -logsumexp):
  mask them. Returns two f32[M].
  """
  m, d = hidden.shape
  if m <= chunk:
    return _logprob(hidden, head, targets, temperature)
  count = -(-m // chunk)
  pad = count * chunk - m
  hidden = jnp.pad(hidden, ((0, pad), (0, 0))).reshape(count, chunk, d)
  targets = jnp.pad(targets, (0, pad)).reshape(count, chunk)

  def body(_, x):
    return None, _logprob(x[0], head, x[1], temperature)

  _, (logp, entropy) = jax.lax.scan(body, None, (hidden, targets))
  return logp.reshape(-1)[:m], entropy.reshape(-1)[:m]


def _logits(hidden, head, temperature):
  z = jax.lax.dot_general(
    hidden,
    head.astype(hidden.dtype),
    (((1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  return z if temperature == 1.0 else z / temperature


def _forward(hidden, head, targets, temperature):
  z = _logits(hidden, head, temperature)
  top = z.max(-1, keepdims=True)
  e = jnp.exp(z - top)
  total = e.sum(-1)
  lse = jnp.log(total) + top[:, 0]
  entropy = lse - (e * z).sum(-1) / total
  # A comparison instead of a gather: it stays local on a sharded vocabulary.
  hit = _hit(z.shape, targets)
  logp = jnp.where(hit, z, 0.0).sum(-1) - lse
  return logp, entropy, lse


def _hit(shape, targets):
  return jax.lax.broadcasted_iota(jnp.int32, shape, 1) == targets[:, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _logprob(hidden, head, targets, temperature):
  return _forward(hidden, head, targets, temperature)[:2]


def _logprob_fwd(hidden, head, targets, temperature):
  logp, entropy, lse = _forward(hidden, head, targets, temperature)
  return (logp, entropy), (hidden, head, targets, lse, entropy)


def _logprob_bwd(temperature, saved, grads):
  hidden, head, targets, lse, entropy = saved
  g_logp, g_entropy = grads
  logp = _logits(hidden, head, temperature) - lse[:, None]
  p = jnp.exp(logp)
  dz = jnp.where(_hit(p.shape, targets), g_logp[:, None], 0.0)
  dz = dz - p * (
    g_logp[:, None] + g_entropy[:, None] * (logp + entropy[:, None])
  )
  dz = (dz if temperature == 1.0 else dz / temperature).astype(hidden.dtype)
  d_hidden = jnp.dot(dz, head.astype(hidden.dtype))
  d_head = jax.lax.dot_general(
    dz, hidden, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
  )
  return d_hidden, d_head.astype(head.dtype), None


_logprob.defvjp(_logprob_fwd, _logprob_bwd)
