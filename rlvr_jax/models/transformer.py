"""The decoder: embedding, a scanned stack of blocks, head.

Two streams go through the layers together: prompts, and rows that continue
them. A group shares its prompt, so the prompt is computed once and its rows
attend to it. A plain forward pass is a prompt stream without rows.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlvr_jax.models import layers
from rlvr_jax.models.config import ModelConfig


class Rows(NamedTuple):
  """Continuations of prompts. B rows, B a multiple of P; N columns.

  With `slot`, x holds only M of the B*N positions, one flat list: matrix
  products skip padding, attention still sees rows.
  """

  tokens: jax.Array  # i32[B,N], or i32[M] with slot
  positions: jax.Array  # i32[B,N], or i32[M] with slot
  prompt_length: jax.Array  # i32[P]
  slot: jax.Array | None = None  # i32[M] flat index b*N + n of each position
  shape: tuple[int, int] | None = None  # (B, N) with slot


class Decoder(nn.Module):
  """Maps tokens to final hidden states; `head_weight` maps those to logits.

  Kernels are [*out, *in] (q [H,C,D], out [D,H,C], gate [F,D], down [D,F]),
  layers stacked on a leading axis.

  Attributes:
    config: the architecture.
    dtype: of computation. Softmax, norms and logits are float32 always.
    param_dtype: of parameters.
    remat: recompute each layer in the backward pass.
  """

  config: ModelConfig
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32
  remat: bool = False

  def setup(self):
    c = self.config
    init = nn.initializers.normal(c.init_std)
    self.embedding = self.param(
      'embedding',
      nn.with_logical_partitioning(init, ('vocab', 'embed')),
      (c.vocab_size, c.width),
      self.param_dtype,
    )
    if not c.tied:
      self.head = self.param(
        'head',
        nn.with_logical_partitioning(init, ('vocab', 'embed')),
        (c.vocab_size, c.width),
        self.param_dtype,
      )
    self.final_norm = layers.RMSNorm(c.norm_eps, self.param_dtype)
    body = _Layer
    if self.remat:  # argument 5 of __call__, self counted, is `static`
      body = nn.remat(_Layer, prevent_cse=False, static_argnums=(5,))
    self.layers = nn.scan(
      body,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      in_axes=(nn.broadcast,) * 4,
      length=c.num_layers,
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )(c, self.dtype, self.param_dtype)

  def embed(self, tokens):
    # Gathered over fsdp: looked up in columns, rows would lose their sharding.
    table = nn.with_logical_constraint(self.embedding, ('vocab', 'act_embed'))
    x = jnp.take(table, tokens, axis=0).astype(self.dtype)
    return nn.with_logical_constraint(x, ('batch', None, 'act_embed'))

  def __call__(self, tokens, rows: Rows | None = None, keep_kv: bool = False):
    """Final hidden states, after the last norm.

    Args:
      tokens: i32[P,S], right-padded. Causal attention needs no mask for it.
      rows: continuations of these prompts, or None.
      keep_kv: return keys and values of the prompts.

    Returns:
      hidden [P,S,D]; hidden of rows ([B,N,D], or [1,M,D] with slot) or None;
      (k, v) of the prompts, each [L,P,S,K,C], or None.
    """
    p, s = tokens.shape
    positions = jnp.broadcast_to(jnp.arange(s)[None], (p, s))
    tables = [layers.rope_table(positions, self.config)]
    x = [self.embed(tokens)]
    lengths = slot = shape = None
    if rows is not None:
      flat = rows.slot is not None
      row_tokens = rows.tokens[None] if flat else rows.tokens
      row_positions = rows.positions[None] if flat else rows.positions
      x.append(self.embed(row_tokens))
      tables.append(layers.rope_table(row_positions, self.config))
      lengths = rows.prompt_length
      slot, shape = rows.slot, rows.shape
    static = (keep_kv, shape)
    x, kv = self.layers(tuple(x), tuple(tables), lengths, slot, static)
    x = [self.final_norm(a) for a in x]
    return x[0], (x[1] if rows is not None else None), kv


class Packing(NamedTuple):
  """Between a flat list of M positions and rows [B,N]."""

  slot: jax.Array
  shape: tuple[int, int]

  def unpack(self, x):
    """[1,M,H,C] -> [B,N,H,C], zeros where there is no position."""
    b, n = self.shape
    out = jnp.zeros((b * n, *x.shape[2:]), x.dtype)
    return out.at[self.slot].set(x[0], mode='drop').reshape(b, n, *x.shape[2:])

  def pack(self, x):
    """[B,N,H,C] -> [1,M,H,C]."""
    b, n = self.shape
    flat = x.reshape(b * n, *x.shape[2:])
    return jnp.take(flat, self.slot, axis=0, mode='clip')[None]


class _Layer(nn.Module):
  """A block as the body of the scan over layers."""

  config: ModelConfig
  dtype: jnp.dtype
  param_dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, tables, lengths, slot, static):
    keep_kv, shape = static
    packing = None if slot is None else Packing(slot, shape)
    block = layers.Block(
      self.config, self.dtype, self.param_dtype, name='block'
    )
    s = x[0].shape[1]
    prompt, kv = block(x[0], tables[0], layers.causal(s))
    out = [prompt]
    if len(x) > 1:
      q, k, v = block.project(x[1], tables[1])
      if packing is not None:
        q, k, v = (packing.unpack(a) for a in (q, k, v))
      seen = jnp.arange(s)[None] < lengths[:, None]
      sources = (
        layers.Source(*kv, seen[:, None, None]),
        layers.Source(k, v, layers.causal(k.shape[1])),
      )
      y = layers.attend(q, sources)
      y = packing.pack(y) if packing is not None else y
      out.append(block.finish(x[1], y))
    return tuple(out), (kv if keep_kv else None)


def head_weight(params) -> jax.Array:
  """[V,D] of the (possibly tied) head."""
  return params['head'] if 'head' in params else params['embedding']


def logits(params, tokens, *, model: Decoder) -> jax.Array:
  """f32[B,T,V] of i32[B,T]: all of them, for tests and small vocabularies."""
  hidden, _, _ = model.apply({'params': params}, tokens)
  return jnp.einsum(
    'btd,vd->btv',
    hidden,
    head_weight(params).astype(hidden.dtype),
    preferred_element_type=jnp.float32,
  )


def init(model: Decoder, key: jax.Array):
  """Parameters with logical axes as metadata (`flax.linen.meta` boxes)."""
  return model.init(key, jnp.zeros((1, 2), jnp.int32))['params']


@functools.partial(jax.jit, static_argnames='num_layers')
def unstack(params, num_layers: int):
  """The sampler's layout: the stacked layers as a tuple of trees."""
  block = params['layers']['block']
  layer = lambda i: jax.tree.map(lambda a: a[i], block)
  return {**params, 'layers': tuple(map(layer, range(num_layers)))}
