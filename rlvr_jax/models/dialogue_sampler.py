"""Many dialogues at once, turn after turn, over one KV cache.

All rows write to the same columns of the cache, so that writing is a slice; a
row that has nothing to write there leaves a hole, which nobody attends to. The
last token of a row is not in the cache yet: it comes first in the next inputs.
Letters: as in `sampler`, and M columns, F tokens inputs, K turns, E probe tokens.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlvr_jax.enums import Stop
from rlvr_jax.models import layers, sampler


class DialogueCache(NamedTuple):
  """What the policy has read of every dialogue."""

  prefix: list  # per layer, keys and values of the prompts [P,...]
  seen: jax.Array  # bool[P,1,1,S]: the prompts' tokens, without the last one
  cache: list  # per layer, keys [B,kv heads,C,M] and values [B,kv heads,M,C]
  written: jax.Array  # bool[B,M]: the column holds a token of the row
  count: jax.Array  # i32[B]: tokens read, the prompt's too
  used: jax.Array  # i32[]: columns in use


def _placed(cache: DialogueCache) -> DialogueCache:
  """Each device keeps its own rows: a cache of zeros alone would be on all."""
  put = nn.with_logical_constraint
  pairs = lambda layers: [
    tuple(put(x, ('batch', 'kv_heads', None, None)) for x in pair)
    for pair in layers
  ]
  return cache._replace(
    prefix=pairs(cache.prefix),
    cache=pairs(cache.cache),
    written=put(cache.written, ('batch', None)),
    count=put(cache.count, ('batch',)),
  )


@functools.partial(jax.jit, static_argnames=('model', 'group', 'columns'))
def prefill(
  params, prompt, length, *, model, group: int, columns: int
) -> DialogueCache:
  """Reads prompts [P,S] of `length` tokens, all but the last of each.

  Args:
    params: the sampler's layout, from `transformer.unstack`.
    columns: M, for all tokens that are read and sampled later.
  """
  c = model.config
  p, s = prompt.shape
  block = layers.Block(c, model.dtype, model.param_dtype)
  positions = jnp.broadcast_to(jnp.arange(s)[None], (p, s))
  table = layers.rope_table(positions, c)
  x, kv = sampler.embed_tokens(params, model, prompt), []
  for layer in params['layers']:
    x, pair = block.apply({'params': layer}, x, table, layers.causal(s))
    kv.append(pair)
  b = p * group
  empty = lambda *of: jnp.zeros((b, c.num_kv_heads, *of), model.dtype)
  cache = DialogueCache(
    prefix=kv,
    seen=(jnp.arange(s)[None] < length[:, None] - 1)[:, None, None],
    cache=[
      (empty(c.head_dim, columns), empty(columns, c.head_dim)) for _ in kv
    ],
    written=jnp.zeros((b, columns), bool),
    count=jnp.repeat(length - 1, group),
    used=jnp.zeros((), jnp.int32),
  )
  return _placed(cache)


def forward_with_cache(params, model, x, positions, cache, sees, own):
  """Hidden states [B,F,D] of x, and its keys and values per layer.

  Args:
    sees: bool, broadcastable to [B,1,F,M]: columns of the cache.
    own: bool, broadcastable to [B,1,F,F].
  """
  block = layers.Block(model.config, model.dtype, model.param_dtype)
  table, pairs = layers.rope_table(positions, model.config), []
  for layer, prefix, turns in zip(
    params['layers'], cache.prefix, cache.cache, strict=True
  ):
    q, k, v = block.apply({'params': layer}, x, table, method='project')
    kv = layers.lay_out(k, v)
    sources = (
      layers.KeysValues(*prefix, cache.seen),
      layers.KeysValues(*turns, sees),
      layers.KeysValues(*kv, own),
    )
    y = layers.attend(q, sources)
    x = block.apply({'params': layer}, x, y, method='finish')
    pairs.append(kv)
  return x, pairs


def _read(params, model, cache, inputs, length):
  """The cache after `length` of inputs [B,F], and their states [B,F,D]."""
  f = inputs.shape[1]
  real = jnp.arange(f)[None] < length[:, None]  # [B,F]
  x, pairs = forward_with_cache(
    params,
    model,
    sampler.embed_tokens(params, model, inputs),
    cache.count[:, None] + jnp.arange(f)[None],
    cache,
    cache.written[:, None, None],
    layers.causal(f) & real[:, None, None],
  )
  put = jax.lax.dynamic_update_slice_in_dim
  written = [
    (put(ck, k, cache.used, 3), put(cv, v, cache.used, 2))
    for (ck, cv), (k, v) in zip(cache.cache, pairs, strict=True)
  ]
  cache = cache._replace(
    cache=written,
    written=put(cache.written, real, cache.used, 1),
    count=cache.count + length,
    # The columns after the longest are free: what is there is written over.
    used=cache.used + length.max(),
  )
  return _placed(cache), x


@functools.partial(
  jax.jit, static_argnames=('model', 'sampling'), donate_argnames='cache'
)
def decode_turn(params, cache, inputs, length, live, key, *, model, sampling):
  """Reads what each dialogue has new, then lets the live ones speak.

  Args:
    cache: given away.
    inputs: i32[B,F], right-padded: the row's last token, then what the other
      side says up to where the policy begins. F + N columns must be free.
    length: i32[B], 0 for a row that reads nothing.
    live: bool[B]: rows that speak.
    key: PRNG key, or one for each prompt; see `sampler.sample`.
    sampling: `sampler.Sampling`, whose `compact_batch` is not used.

  Returns:
    cache; `Sampled`, of length 0 where not live; i32[], the columns that were
    in use when the policy began.
  """
  n, b = sampling.max_new_tokens, len(inputs)
  cache, x = _read(params, model, cache, inputs, length)
  used = cache.used
  last = jnp.maximum(length - 1, 0)[:, None, None]
  final = functools.partial(sampler.final_logits, params, model)
  pick = functools.partial(sampler.sample_step, sampling=sampling)
  prompts = len(cache.seen)
  u = sampler.uniforms(key, prompts, b // prompts, n)
  start = cache.count
  put = jax.lax.dynamic_update_slice_in_dim

  def step(carry):
    state, cache = carry
    i = state['i'] - 1  # index of the token that is read now
    # Not the row's last token: that one is read with the next turn.
    speaks = ~state['done']
    x, pairs = forward_with_cache(
      params,
      model,
      sampler.embed_tokens(params, model, state['last'][:, None]),
      start[:, None] + i,
      cache,
      cache.written[:, None, None],
      jnp.ones((1, 1, 1, 1), bool),
    )
    at = cache.used
    cache = cache._replace(
      cache=[
        (put(ck, k, at, 3), put(cv, v, at, 2))
        for (ck, cv), (k, v) in zip(cache.cache, pairs, strict=True)
      ],
      written=put(cache.written, speaks[:, None], at, 1),
      count=cache.count + speaks,
      used=at + 1,
    )
    return pick(final(x[:, 0]), state), cache

  def opened():
    x0 = jnp.take_along_axis(x, last, axis=1)[:, 0]
    return pick(final(x0), sampler.initial_state(u) | {'done': ~live})

  quiet = lambda: sampler.initial_state(u) | {'done': ~live}
  state = jax.lax.cond(live.any(), opened, quiet)
  state, cache = jax.lax.while_loop(
    lambda t: (t[0]['i'] < n) & (~t[0]['done']).any(), step, (state, cache)
  )
  stop = jnp.where(state['done'], Stop.END, Stop.LENGTH).astype(jnp.int32)
  drawn = sampler.Sampled(state['tokens'], state['logp'], state['length'], stop)
  return cache, drawn, used


@functools.partial(jax.jit, static_argnames='model')
def append(params, cache, inputs, length, *, model) -> DialogueCache:
  """The cache after `length` tokens of inputs [B,F], such as whole dialogues."""
  return _read(params, model, cache, inputs, length)[0]
