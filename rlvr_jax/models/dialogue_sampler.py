"""Many dialogues at once, turn after turn, over one KV cache.

All rows write to the same columns of the cache, so that writing is a slice; a
row that has nothing to write there leaves a hole, which nobody attends to. The
last token of a row is not in the cache yet: it is the first one fed next.
Letters: as in `sampler`, and M columns, F tokens fed, K turns, E probe tokens.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlvr_jax.enums import Stop
from rlvr_jax.models import layers, sampler


class Memory(NamedTuple):
  """What the policy has read of every dialogue."""

  prefix: list  # per layer, keys and values of the prompts [P,...]
  seen: jax.Array  # bool[P,1,1,S]: the prompts' tokens, without the last one
  cache: list  # per layer, keys [B,kv heads,C,M] and values [B,kv heads,M,C]
  written: jax.Array  # bool[B,M]: the column holds a token of the row
  count: jax.Array  # i32[B]: tokens read, the prompt's too
  used: jax.Array  # i32[]: columns in use


def _placed(memory: Memory) -> Memory:
  """Each device keeps its own rows: a cache of zeros alone would be on all."""
  put = nn.with_logical_constraint
  pairs = lambda layers: [
    tuple(put(x, ('batch', 'kv_heads', None, None)) for x in pair)
    for pair in layers
  ]
  return memory._replace(
    prefix=pairs(memory.prefix),
    cache=pairs(memory.cache),
    written=put(memory.written, ('batch', None)),
    count=put(memory.count, ('batch',)),
  )


@functools.partial(jax.jit, static_argnames=('model', 'group', 'columns'))
def begin(params, prompt, length, *, model, group: int, columns: int) -> Memory:
  """Reads prompts [P,S] of `length` tokens, all but the last of each.

  Args:
    params: the sampler's layout, from `transformer.unstack`.
    columns: M, for all that is fed and drawn later.
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
  memory = Memory(
    prefix=kv,
    seen=(jnp.arange(s)[None] < length[:, None] - 1)[:, None, None],
    cache=[
      (empty(c.head_dim, columns), empty(columns, c.head_dim)) for _ in kv
    ],
    written=jnp.zeros((b, columns), bool),
    count=jnp.repeat(length - 1, group),
    used=jnp.zeros((), jnp.int32),
  )
  return _placed(memory)


def through(params, model, x, positions, memory, sees, own):
  """Hidden states [B,F,D] of x, and its keys and values per layer.

  Args:
    sees: bool, broadcastable to [B,1,F,M]: columns of the cache.
    own: bool, broadcastable to [B,1,F,F].
  """
  block = layers.Block(model.config, model.dtype, model.param_dtype)
  table, pairs = layers.rope_table(positions, model.config), []
  for layer, prefix, cache in zip(
    params['layers'], memory.prefix, memory.cache, strict=True
  ):
    q, k, v = block.apply({'params': layer}, x, table, method='project')
    kv = layers.lay_out(k, v)
    sources = (
      layers.Source(*prefix, memory.seen),
      layers.Source(*cache, sees),
      layers.Source(*kv, own),
    )
    y = layers.attend(q, sources)
    x = block.apply({'params': layer}, x, y, method='finish')
    pairs.append(kv)
  return x, pairs


def _read(params, model, memory, fed, length):
  """Memory after `length` of the tokens fed [B,F], their states [B,F,D]."""
  f = fed.shape[1]
  real = jnp.arange(f)[None] < length[:, None]  # [B,F]
  x, pairs = through(
    params,
    model,
    sampler.embed_tokens(params, model, fed),
    memory.count[:, None] + jnp.arange(f)[None],
    memory,
    memory.written[:, None, None],
    layers.causal(f) & real[:, None, None],
  )
  put = jax.lax.dynamic_update_slice_in_dim
  cache = [
    (put(ck, k, memory.used, 3), put(cv, v, memory.used, 2))
    for (ck, cv), (k, v) in zip(memory.cache, pairs, strict=True)
  ]
  memory = memory._replace(
    cache=cache,
    written=put(memory.written, real, memory.used, 1),
    count=memory.count + length,
    # The columns after the longest are free: what is there is written over.
    used=memory.used + length.max(),
  )
  return _placed(memory), x


@functools.partial(
  jax.jit, static_argnames=('model', 'how'), donate_argnames='memory'
)
def turn(params, memory, fed, length, live, key, *, model, how):
  """Reads what each dialogue has new, then lets the live ones speak.

  Args:
    memory: given away.
    fed: i32[B,F], right-padded: the row's last token, then what the other
      side says up to where the policy begins. F + N columns must be free.
    length: i32[B], 0 for a row that reads nothing.
    live: bool[B]: rows that speak.
    key: PRNG key, or one for each prompt; see `sampler.sample`.
    how: `sampler.Sampling`, whose `shrink` is not used.

  Returns:
    memory; `Sampled`, of length 0 where not live; i32[], the columns that were
    in use when the policy began.
  """
  n, b = how.max_new_tokens, len(fed)
  memory, x = _read(params, model, memory, fed, length)
  heard = memory.used
  last = jnp.maximum(length - 1, 0)[:, None, None]
  final = functools.partial(sampler.final_logits, params, model)
  pick = functools.partial(sampler.book, how=how)
  prompts = len(memory.seen)
  u = sampler.uniforms(key, prompts, b // prompts, n)
  start = memory.count
  put = jax.lax.dynamic_update_slice_in_dim

  def step(carry):
    state, memory = carry
    i = state['i'] - 1  # index of the token fed now
    # Not the row's last token: that one is fed with the next turn.
    speaks = ~state['done']
    x, pairs = through(
      params,
      model,
      sampler.embed_tokens(params, model, state['last'][:, None]),
      start[:, None] + i,
      memory,
      memory.written[:, None, None],
      jnp.ones((1, 1, 1, 1), bool),
    )
    at = memory.used
    memory = memory._replace(
      cache=[
        (put(ck, k, at, 3), put(cv, v, at, 2))
        for (ck, cv), (k, v) in zip(memory.cache, pairs, strict=True)
      ],
      written=put(memory.written, speaks[:, None], at, 1),
      count=memory.count + speaks,
      used=at + 1,
    )
    return pick(final(x[:, 0]), state), memory

  def opened():
    x0 = jnp.take_along_axis(x, last, axis=1)[:, 0]
    return pick(final(x0), sampler.fresh(u) | {'done': ~live})

  quiet = lambda: sampler.fresh(u) | {'done': ~live}
  state = jax.lax.cond(live.any(), opened, quiet)
  state, memory = jax.lax.while_loop(
    lambda t: (t[0]['i'] < n) & (~t[0]['done']).any(), step, (state, memory)
  )
  stop = jnp.where(state['done'], Stop.END, Stop.LENGTH).astype(jnp.int32)
  drawn = sampler.Sampled(state['tokens'], state['logp'], state['length'], stop)
  return memory, drawn, heard


@functools.partial(jax.jit, static_argnames='model')
def read(params, memory, fed, length, *, model) -> Memory:
  """Memory after `length` tokens of fed [B,F]: whole dialogues, say."""
  return _read(params, model, memory, fed, length)[0]
