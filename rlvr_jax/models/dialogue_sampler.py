"""Samples the turns of a batch of dialogues with one shared KV cache.

All rows write to the same columns of the cache, so a write is a slice update; a
row with nothing to write there leaves a hole, to which nothing attends. The
last token of a row is not in the cache yet: it is the first of the next inputs.
Letters: as in `sampler`; M cache columns, F input tokens.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlvr_jax.enums import Stop
from rlvr_jax.models import (
  kv_cache,
  layers,
  sampler,
  sampler_layers,
  transformer,
)


class DialogueCache(NamedTuple):
  """KV cache of every dialogue: shared prompts, then the turns of each row."""

  prefix: list  # per layer, keys and values of the prompts [P,...]
  seen: jax.Array  # bool[P,1,1,S]: the prompt's tokens but the last
  cache: list  # per layer, the blocks of `kv_cache`, of M columns together
  written: jax.Array  # bool[B,M]: the column holds a token of the row
  count: jax.Array  # i32[B]: tokens in the cache, with the prompt
  used: jax.Array  # i32[]: columns in use


def _placed(cache: DialogueCache) -> DialogueCache:
  """The cache sharded by rows; new arrays of zeros would be replicated."""
  constrain = nn.with_logical_constraint
  place = lambda x: constrain(x, ('batch', 'kv_heads', None, None))
  pairs = lambda layers: jax.tree.map(place, layers)
  return cache._replace(
    prefix=pairs(cache.prefix),
    cache=pairs(cache.cache),
    written=constrain(cache.written, ('batch', None)),
    count=constrain(cache.count, ('batch',)),
  )


@functools.partial(jax.jit, static_argnames=('model', 'group', 'columns'))
def prefill(
  params: transformer.Params,
  prompt: jax.Array,
  length: jax.Array,
  *,
  model: transformer.Decoder,
  group: int,
  columns: int,
) -> DialogueCache:
  """The cache after all but the last token of prompts [P,S] of `length` [P].

  Args:
    params: the sampler's layout, from `transformer.unstack`.
    group: dialogues per prompt.
    columns: M, enough for all later inputs and sampled tokens.
  """
  c = model.config
  p, s = prompt.shape
  positions = jnp.broadcast_to(jnp.arange(s)[None], (p, s))
  tables = layers.rope_tables(positions, c)
  x, kv = sampler_layers.embed_tokens(params, model, prompt), []
  for i, layer in enumerate(params['layers']):
    x, pair = sampler_layers.prefill(model, i, layer, x, tables)
    kv.append(pair)
  b = p * group
  cache = DialogueCache(
    prefix=kv,
    seen=(jnp.arange(s)[None] < length[:, None] - 1)[:, None, None],
    cache=kv_cache.allocate(c, b, columns, model.dtype),
    written=jnp.zeros((b, columns), bool),
    count=jnp.repeat(length - 1, group),
    used=jnp.zeros((), jnp.int32),
  )
  return _placed(cache)


def forward_with_cache(
  params: transformer.Params,
  model: transformer.Decoder,
  x: jax.Array,
  positions: jax.Array,
  cache: DialogueCache,
  sees: jax.Array,
  own: jax.Array,
) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
  """Last hidden states [B,F,D] of embeddings x, and (k, v) of each layer.

  Args:
    x: [B,F,D].
    positions: i32[B,F].
    sees: bool, broadcastable to [B,1,F,M]: mask over the cache's columns.
    own: bool, broadcastable to [B,1,F,F]: mask over x itself.
  """
  config = model.config
  block = layers.Block(config, model.dtype, model.param_dtype)
  tables, pairs = layers.rope_tables(positions, config), []
  masks = cache.seen, sees, own
  masks = masks, _near(masks, positions, cache, config.window)
  for i, layer in enumerate(params['layers']):
    slides = bool(config.window_of(i))
    seen_here, sees_here, own_here = masks[slides]
    q, k, v = block.apply(
      {'params': layer}, x, tables[slides], method='project'
    )
    kv = kv_cache.lay_out(k, v)
    sources = (
      layers.KeysValues(*cache.prefix[i], seen_here),
      *kv_cache.sources(cache.cache[i], sees_here, cache.used),
      layers.KeysValues(*kv, own_here),
    )
    y = layers.attend(q, sources)
    x = block.apply({'params': layer}, x, y, method='finish')
    pairs.append(kv)
  return x, pairs


def _near(masks, positions, cache, window):
  """The masks of `forward_with_cache` for layers that slide."""
  seen, sees, own = masks
  prompts = len(seen)
  before = positions.reshape(prompts, -1, positions.shape[1])[..., None]
  column = jnp.arange(seen.shape[-1])[None, None, None]
  # Of a column with a token, the row's tokens up to there are written.
  at = cache.seen.sum((1, 2, 3)).repeat(len(positions) // prompts)[:, None]
  at = at + jnp.cumsum(cache.written, -1) - 1
  distance = lambda to: positions[:, None, :, None] - to[:, None, None]
  return (
    seen & (before - column < window),
    sees & (distance(at) < window),
    own & (distance(positions) < window),
  )


def _read(params, model, cache, inputs, length):
  """The cache after `length` tokens of inputs [B,F]; hidden states [B,F,D]."""
  f = inputs.shape[1]
  real = jnp.arange(f)[None] < length[:, None]  # [B,F]
  x, pairs = forward_with_cache(
    params,
    model,
    sampler_layers.embed_tokens(params, model, inputs),
    cache.count[:, None] + jnp.arange(f)[None],
    cache,
    cache.written[:, None, None],
    layers.causal(f) & real[:, None, None],
  )
  write = jax.lax.dynamic_update_slice_in_dim
  grown = [
    kv_cache.write(old, new, cache.used)
    for old, new in zip(cache.cache, pairs, strict=True)
  ]
  cache = cache._replace(
    cache=grown,
    written=write(cache.written, real, cache.used, 1),
    count=cache.count + length,
    # Columns after the longest row's stay free: later writes replace them.
    used=cache.used + length.max(),
  )
  return _placed(cache), x


@functools.partial(
  jax.jit, static_argnames=('model', 'sampling'), donate_argnames='cache'
)
def decode_turn(
  params: transformer.Params,
  cache: DialogueCache,
  inputs: jax.Array,
  length: jax.Array,
  live: jax.Array,
  key: jax.Array,
  *,
  model: transformer.Decoder,
  sampling: sampler.Sampling,
) -> tuple[DialogueCache, sampler.Sampled, jax.Array]:
  """Appends each dialogue's new inputs, then samples a turn in the live ones.

  Args:
    cache: donated.
    inputs: i32[B,F], right-padded: the row's last token, then the other side's
      message up to the start of the policy's turn. F + N columns must be free.
    length: i32[B], 0 for a row without new inputs.
    live: bool[B]: rows that sample a turn.
    key: PRNG key, or one for each prompt; see `sampler.sample`.
    sampling: `compact_batch` is not used.

  Returns:
    cache; `Sampled`, with length 0 where not live; i32[], the number of columns
    in use when sampling began.
  """
  n, b = sampling.max_new_tokens, len(inputs)
  cache, x = _read(params, model, cache, inputs, length)
  used = cache.used
  last = jnp.maximum(length - 1, 0)[:, None, None]
  final = functools.partial(sampler_layers.final_logits, params, model)
  next_token = functools.partial(sampler.sample_step, sampling=sampling)
  prompts = len(cache.seen)
  u = sampler.uniforms(key, prompts, b // prompts, n)
  start = cache.count
  write = jax.lax.dynamic_update_slice_in_dim

  def step(carry):
    state, cache = carry
    i = state['i'] - 1  # index of the input token
    # A row's last token is not cached here: it comes with the next inputs.
    running = ~state['done']
    x, pairs = forward_with_cache(
      params,
      model,
      sampler_layers.embed_tokens(params, model, state['last'][:, None]),
      start[:, None] + i,
      cache,
      cache.written[:, None, None],
      jnp.ones((1, 1, 1, 1), bool),
    )
    at = cache.used
    cache = cache._replace(
      cache=[
        kv_cache.write(old, new, at)
        for old, new in zip(cache.cache, pairs, strict=True)
      ],
      written=write(cache.written, running[:, None], at, 1),
      count=cache.count + running,
      used=at + 1,
    )
    return next_token(final(x[:, 0]), state), cache

  def first_token():
    x0 = jnp.take_along_axis(x, last, axis=1)[:, 0]
    return next_token(final(x0), sampler.initial_state(u) | {'done': ~live})

  no_token = lambda: sampler.initial_state(u) | {'done': ~live}
  state = jax.lax.cond(live.any(), first_token, no_token)
  state, cache = jax.lax.while_loop(
    lambda t: (t[0]['i'] < n) & (~t[0]['done']).any(), step, (state, cache)
  )
  stop = jnp.where(state['done'], Stop.END, Stop.LENGTH).astype(jnp.int32)
  sampled = sampler.Sampled(
    state['tokens'], state['logp'], state['length'], stop
  )
  return cache, sampled, used


@functools.partial(jax.jit, static_argnames='model')
def append(
  params: transformer.Params,
  cache: DialogueCache,
  inputs: jax.Array,
  length: jax.Array,
  *,
  model: transformer.Decoder,
) -> DialogueCache:
  """The cache after `length` tokens of inputs [B,F], up to whole dialogues."""
  return _read(params, model, cache, inputs, length)[0]
