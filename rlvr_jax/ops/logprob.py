"""Log-probs and entropy of tokens, in chunks of logits.

`models.token_logprobs` pairs hidden states with targets; nothing here shifts.
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
  """log p(target) and entropy in nats; p = softmax(hidden head^T/temperature).

  The caller pairs the hidden state at position t-1 with the token at t. At most
  `chunk` rows of logits [chunk, V] exist at a time (or one per entry of the
  leading axes, if those are more). With more than one chunk, the backward pass
  recomputes the logits. With p = softmax(z) and entropy H,

    dlogp_y/dz = 1[y] - p        dH/dz = -p (log p + H).

  Chunks split the axis m only, so a leading axis that is sharded over devices
  stays sharded in every chunk.

  A target outside [0, V) is no token (its value is -logsumexp): mask it.
  Returns two f32[*R,M].
  """

  def flat(hidden, targets, *, keep):
    d = hidden.shape[-1]
    out = _logprob(
      hidden.reshape(-1, d), head, targets.reshape(-1), temperature, keep
    )
    return tuple(x.reshape(targets.shape) for x in out)

  keep = chunks(targets.shape, chunk) == 1  # then logits are not recomputed
  run = functools.partial(flat, keep=keep)
  return by_chunks(run, (hidden, targets), targets.shape, chunk)


def certainty(
  hidden: Float[Array, '*r m d'],
  head: Float[Array, 'v d'],
  *,
  temperature: float = 1.0,
  chunk: int = 1024,
) -> tuple[Float[Array, '*r m'], Float[Array, '*r m']]:
  """Self-certainty KL(U || p) and gap p1 - p2, with p as in `from_hidden`.

    KL(U || p) = logsumexp(z) - mean(z) - log V        U uniform over V tokens

  in nats is INTUITOR's self-certainty (arXiv:2505.19590, eq. 1; its code omits
  -log V). p1 >= p2 are the two largest probabilities, whichever token was
  written: their gap in [0, 1] is the confidence of CoT decoding
  (arXiv:2402.10200, sec. 2.2) and RLSF (arXiv:2507.21931). Neither has a
  gradient. Returns two f32[*R,M].
  """

  def both(hidden):
    z = logits_of(hidden.reshape(-1, hidden.shape[-1]), head, temperature)
    lse = jax.nn.logsumexp(z, -1)
    kl = lse - z.mean(-1) - math.log(z.shape[-1])
    # Not top_k, which would gather a sharded vocabulary.
    other = ~hit(z.shape, jnp.argmax(z, -1))
    second = jnp.max(z, -1, where=other, initial=-jnp.inf)
    gap = jnp.exp(z.max(-1) - lse) - jnp.exp(second - lse)
    return tuple(x.reshape(hidden.shape[:-1]) for x in (kl, gap))

  hidden, head = jax.lax.stop_gradient((hidden, head))
  return by_chunks(both, (hidden,), hidden.shape[:-1], chunk)


def chunks(shape: tuple[int, ...], chunk: int) -> int:
  """Number of chunks [*R, size] for [*R, M] with at most `chunk` rows each."""
  *r, m = shape
  return -(-m // max(chunk // max(math.prod(r), 1), 1))


def by_chunks(f, arrays, shape, chunk):
  """Maps f over equal chunks of arrays [*R,M,...] along M; joins the results.

  f takes chunks [*R,size,...] and returns a tuple of [*R,size].
  """
  *r, m = shape
  count = chunks(shape, chunk)
  if count <= 1:
    return f(*arrays)
  size = -(-m // count)  # equal chunks: the last one is not mostly padding

  def cut(x):
    width = x.shape[len(r) + 1 :]
    pad = [(0, 0)] * len(r) + [(0, count * size - m)] + [(0, 0)] * len(width)
    x = jnp.pad(x, pad).reshape(*r, count, size, *width)
    return jnp.moveaxis(x, len(r), 0)

  _, out = jax.lax.scan(
    lambda _, x: (None, f(*x)), None, tuple(map(cut, arrays))
  )
  join = lambda x: jnp.moveaxis(x, 0, len(r)).reshape(*r, -1)[..., :m]
  return tuple(map(join, out))


def logits_of(hidden, head, temperature):
  z = jax.lax.dot_general(
    hidden,
    head.astype(hidden.dtype),
    (((1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  return z if temperature == 1.0 else z / temperature


def _forward(hidden, head, targets, temperature):
  z = logits_of(hidden, head, temperature)
  top = z.max(-1, keepdims=True)
  e = jnp.exp(z - top)
  total = e.sum(-1)
  lse = jnp.log(total) + top[:, 0]
  entropy = lse - (e * z).sum(-1) / total
  # A comparison instead of a gather: it stays local on a sharded vocabulary.
  at = hit(z.shape, targets)
  logp = jnp.where(at, z, 0.0).sum(-1) - lse
  return logp, entropy, lse, z


def hit(shape: tuple[int, ...], targets: Int[Array, 'n']) -> Array:
  """bool[N,V]: where the column is the row's target."""
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
  z = z if keep else logits_of(hidden, head, temperature)
  logp = z - lse[:, None]
  p = jnp.exp(logp)
  dz = jnp.where(hit(p.shape, targets), g_logp[:, None], 0.0)
  dz = dz - p * (
    g_logp[:, None] + g_entropy[:, None] * (logp + entropy[:, None])
  )
  return *from_logits(dz, hidden, head, temperature), None


def from_logits(
  dz: Float[Array, 'n v'],
  hidden: Float[Array, 'n d'],
  head: Float[Array, 'v d'],
  temperature: float,
) -> tuple[Float[Array, 'n d'], Float[Array, 'v d']]:
  """Gradients by hidden states and head, of dz by the logits / temperature."""
  dz = (dz if temperature == 1.0 else dz / temperature).astype(hidden.dtype)
  d_hidden = jnp.dot(dz, head.astype(hidden.dtype))
  d_head = jax.lax.dot_general(
    dz, hidden, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
  )
  return d_hidden, d_head.astype(head.dtype)


_logprob.defvjp(_logprob_fwd, _logprob_bwd)
