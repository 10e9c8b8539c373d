"""Distillation: the divergence from a teacher's logits, in chunks of them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlvr_jax import types
from rlvr_jax.ops import divergence as divergences
from rlvr_jax.ops import logprob
from rlvr_jax.ops.divergence import Divergence


class Comparison(NamedTuple):
  """Of each token, f32[*R,M]; only `divergence` has a gradient."""

  divergence: Array  # nats; its gradient is that which the divergence defines
  logq: Array  # log-prob of the token under the teacher
  entropy: Array  # of the teacher, nats


def compare(
  hidden: Float[Array, '*r m d'],
  head: Float[Array, 'v d'],
  *rest: types.Array,
  divergence: Divergence,
  shares: tuple[float, ...] = (1.0,),
  temperature: float = 1.0,
  chunk: int = 1024,
) -> Comparison:
  """The divergence of a student from its teacher at each position.

  p = softmax(hidden head^T / temperature) is the student's distribution; the
  teacher's logits are a weighted sum, of one model or several:

    q = softmax(sum_i shares_i other_i other_head_i^T / temperature)

  which for shares 1 - a and a is the trust region of SDPO (arXiv:2601.20802),
  q ~ q_ref^(1-a) q_live^a. The teacher is a constant. At most `chunk` rows of
  logits [chunk, V] of each model exist at a time; with more than one chunk the
  backward pass recomputes them.

  Args:
    rest: hidden states [*R,M,E] and head [V,E] of each model of the teacher in
      turn, then the sampled tokens i32[*R,M].
  """
  *others, targets = jax.lax.stop_gradient(rest)
  heads, states = tuple(others[1::2]), others[::2]
  if len(heads) != len(shares):
    raise ValueError(
      f'{len(heads)} models of a teacher for {len(shares)} shares of logits.'
    )
  fixed = (divergence, shares, temperature)
  keep = logprob.chunks(targets.shape, chunk) == 1

  def flat(hidden, targets, *states):
    rows = lambda x: x.reshape(-1, x.shape[-1])
    pairs = tuple(zip(map(rows, states), heads, strict=True))
    out = _compare(rows(hidden), head, targets.reshape(-1), pairs, fixed, keep)
    return tuple(x.reshape(targets.shape) for x in out)

  out = logprob.by_chunks(
    flat, (hidden, targets, *states), targets.shape, chunk
  )
  # What is not differentiated must not look as if it were.
  return Comparison(out[0], *jax.lax.stop_gradient(out[1:]))


def _forward(hidden, head, targets, pairs, fixed):
  """((divergence, logq, entropy) [N], gradient by the student's logits)."""
  divergence, shares, temperature = fixed
  logits = functools.partial(logprob.logits_of, temperature=temperature)
  logp = jax.nn.log_softmax(logits(hidden, head))
  mixed = [logits(*pair) for pair in pairs]
  if len(mixed) > 1:
    mixed = [sum(s * z for s, z in zip(shares, mixed, strict=True))]
  logq = jax.nn.log_softmax(mixed[0])
  value, slope = divergences.value_and_slope(logp, logq, targets, divergence)
  entropy = -jnp.sum(jnp.exp(logq) * logq, -1)
  return (value, divergences.at(logq, targets), entropy), slope


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _compare(hidden, head, targets, pairs, fixed, keep):
  return _forward(hidden, head, targets, pairs, fixed)[0]


def _compare_fwd(hidden, head, targets, pairs, fixed, keep):
  out, slope = _forward(hidden, head, targets, pairs, fixed)
  return out, (hidden, head, targets, pairs, slope if keep else None)


def _compare_bwd(fixed, keep, saved, grads):
  hidden, head, targets, pairs, slope = saved
  if not keep:
    slope = _forward(hidden, head, targets, pairs, fixed)[1]
  dz = grads[0][:, None] * slope
  return *logprob.from_logits(dz, hidden, head, fixed[2]), None, None


_compare.defvjp(_compare_fwd, _compare_bwd)
