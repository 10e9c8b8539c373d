"""Log-probability and entropy of given tokens, without holding all logits.

Nothing outside this file shifts: `logp[:, t]` belongs to `tokens[:, t]`.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def from_hidden(
  hidden: Float[Array, '*r m d'],
  head: Float[Array, 'v d'],
  targets: Int[Array, '*r m'],
  *,
  temperature: float = 1.0,
  chunk: int = 1024,
) -> tuple[Float[Array, '*r m'], Float[Array, '*r m']]:
  """log p(target) and entropy, in nats, of softmax(hidden head^T / temperature).

  Hidden states at position t-1 are paired with the token at t by the caller.
  At most `chunk` rows of logits [chunk, V] live at a time (or one of each of
  the leading axes, if they are more). If there are more rows, the backward pass
  computes the logits again. With p = softmax(z) and H its entropy,

    dlogp_y/dz = 1[y] - p        dH/dz = -p (log p + H).

  Chunks are cut along m only, so a leading axis that is sharded over devices
  stays so in every chunk.

  Targets outside [0, V) give log p of no token (the value is -logsumexp):
  mask them. Returns two f32[*R,M].
  """
  *r, m, d = hidden.shape
  rows = math.prod(r)
  size = max(chunk // max(rows, 1), 1)

  whole = m <= size  # one chunk: its logits may as well be kept

  def flat(hidden, targets):
    out = _logprob(
      hidden.reshape(-1, d), head, targets.reshape(-1), temperature, whole
    )
    return tuple(x.reshape(targets.shape) for x in out)

  if whole:
    return flat(hidden, targets)
  count = -(-m // size)
  size = -(-m // count)  # even chunks: the last one is not mostly padding
  pad = [(0, 0)] * len(r) + [(0, count * size - m)]

  def cut(x, width):
    x = jnp.pad(x, pad + [(0, 0)] * (len(width)))
    return jnp.moveaxis(x.reshape(*r, count, size, *width), len(r), 0)

  _, out = jax.lax.scan(
    lambda _, x: (None, flat(*x)), None, (cut(hidden, (d,)), cut(targets, ()))
  )
  join = lambda x: jnp.moveaxis(x, 0, len(r)).reshape(*r, -1)[..., :m]
  return join(out[0]), join(out[1])


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
  return logp, entropy, lse, z


def _hit(shape, targets):
  return jax.lax.broadcasted_iota(jnp.int32, shape, 1) == targets[:, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _logprob(hidden, head, targets, temperature, keep):
  return _forward(hidden, head, targets, temperature)[:2]


def _logprob_fwd(hidden, head, targets, temperature, keep):
  logp, entropy, lse, z = _forward(hidden, head, targets, temperature)
  z = z if keep else None
  return (logp, entropy), (hidden, head, targets, lse, entropy, z)


def _logprob_bwd(temperature, keep, saved, grads):
  hidden, head, targets, lse, entropy, z = saved
  g_logp, g_entropy = grads
  z = z if keep else _logits(hidden, head, temperature)
  logp = z - lse[:, None]
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
