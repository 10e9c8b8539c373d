"""Samples in parts: the host reads what has ended while devices go on.

So answers can be checked while others are still sampled.
"""

import functools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax

from rlvr_jax.models import sampler, transformer

# A part ends when 1 in so many rows goes on.
_PARTS = (2, 4, 8)


def sample(
  params: transformer.Params,
  prompt: jax.Array,
  length: jax.Array,
  key: jax.Array,
  *,
  model: transformer.Decoder,
  sampling: sampler.Sampling,
  group: int = 1,
) -> Iterator[sampler.Sampled]:
  """`sampler.sample`, read while it goes on: the last item is its result.

  An item has what is sampled when a half of the rows have ended, when three
  quarters have, and so on; `stop` is Stop.NONE in rows that go on. Operations
  and shapes are those of `sampler.sample`, so the results are equal. Nothing
  here waits: asked for an item, it dispatches what makes it.

  Arguments are those of `sampler.sample`.
  """
  options: dict[str, Any] = {'model': model, 'sampling': sampling}
  rows = len(prompt) * group
  at = _first_token(params, prompt, length, key, group=group, **options)
  smaller = sampler.sizes(rows, sampling)[1:]
  for size in smaller or [rows // k for k in _PARTS if rows >= k]:
    at, sampled = _go_on(params, *at, size, **options)
    yield sampled
    if smaller:
      at = _smaller(*at, size=size, group=group)
  yield _go_on(params, *at, 0, **options)[1]


def _placed(at: sampler.Decoding) -> sampler.Decoding:
  """Sharded by rows, before and after each part: else each would compile."""

  def place(x):
    axes = {0: (), 4: ('batch', 'kv_heads', None, None)}
    names = axes.get(x.ndim, ('batch', *(None,) * (x.ndim - 1)))
    return nn.with_logical_constraint(x, names)

  return jax.tree.map(place, at)


@functools.partial(jax.jit, static_argnames=('model', 'sampling', 'group'))
def _first_token(params, prompt, length, key, *, model, sampling, group):
  options = {'model': model, 'sampling': sampling, 'group': group}
  return _placed(
    sampler.begin(params, prompt, length, key, rank=None, **options)
  )


@functools.partial(
  jax.jit, static_argnames=('model', 'sampling'), donate_argnames='state'
)
def _go_on(params, prefix, state, out, live, *, model, sampling):
  options = {'model': model, 'sampling': sampling}
  at = sampler.decode(
    params, sampler.Decoding(prefix, state, out), live, **options
  )
  # Whole on every device: it is read while they are at the next part, when no
  # collective could run.
  whole = lambda x: nn.with_logical_constraint(x, (None,) * x.ndim)
  return _placed(at), jax.tree.map(whole, sampler.completions(at, sampling))


@functools.partial(jax.jit, static_argnames=('size', 'group'))
def _smaller(prefix, state, out, *, size, group):
  return _placed(
    sampler.compact(sampler.Decoding(prefix, state, out), size, group)
  )
