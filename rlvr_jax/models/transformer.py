"""The decoder: embedding, a scanned stack of blocks, head.

Two streams go through the layers together: prompts, and rows that continue
them. A group shares its prompt, so the prompt is computed once and its rows
attend to it. A plain forward pass is a prompt stream without rows.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax.models import layers
from rlvr_jax.models.model_config import ModelConfig


class Rows(NamedTuple):
  """Continuations of prompts. B rows, B a multiple of P; N columns."""

  tokens: jax.Array  # i32[B,N]
  positions: jax.Array  # i32[B,N]
  prompt_length: jax.Array  # i32[P]


class Packing(NamedTuple):
  """Between prompts [P,S] and rows [B,N], and a list of M of their positions.

  Norms and matrix products skip padding so; attention still sees rows.
  """

  slot: jax.Array  # i32[M]: p*S + s, or P*S + b*N + n; beyond: nothing
  prompt: tuple[int, int]  # P, S
  rows: tuple[int, int]  # B, N

  def unpack(self, x):
    """[1,M,...] -> [P,S,...], [B,N,...], zeros where there is no position."""
    cut = math.prod(self.prompt)
    out = jnp.zeros((cut + math.prod(self.rows), *x.shape[2:]), x.dtype)
    out = out.at[self.slot].set(x[0], mode='drop')
    return (
      out[:cut].reshape(*self.prompt, *x.shape[2:]),
      out[cut:].reshape(*self.rows, *x.shape[2:]),
    )

  def pack(self, prompt, rows):
    """[P,S,...], [B,N,...] -> [1,M,...]."""
    flat = [x.reshape(-1, *x.shape[2:]) for x in (prompt, rows)]
    return jnp.take(jnp.concatenate(flat), self.slot, axis=0, mode='clip')[None]


class Decoder(nn.Module):
  """Maps tokens to final hidden states; `head_weight` maps those to logits.

  Kernels are [*out, *in] (q [H,C,D], out [D,H,C], gate [F,D], down [D,F]),
  layers stacked on a leading axis.

  Attributes:
    config: the architecture.
    dtype: of computation. Softmax, norms and logits are float32 always.
    param_dtype: of parameters.
    remat: recompute each layer in the backward pass, its products too.
    value_head: has the parameters that `value` reads, zero at first.
  """

  config: ModelConfig
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32
  remat: bool = False
  value_head: bool = False

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
    if self.value_head:
      zeros = nn.initializers.zeros
      self.value_kernel = self.param(
        'value_kernel',
        nn.with_logical_partitioning(zeros, ('embed',)),
        (c.width,),
        self.param_dtype,
      )
      self.value_bias = self.param(
        'value_bias',
        nn.with_logical_partitioning(zeros, ()),
        (),
        self.param_dtype,
      )
    self.final_norm = layers.RMSNorm(c.norm_eps, self.param_dtype)
    # Cheap pieces are computed again in the backward pass in any case: to
    # store and read them takes as long, and half as much memory again.
    keep = None if self.remat else jax.checkpoint_policies.dots_saveable
    # Argument 5 of __call__, self counted, is `shapes`.
    body = nn.remat(_Layer, policy=keep, prevent_cse=False, static_argnums=(5,))
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

  def __call__(self, tokens, rows: Rows | None = None, slot=None):
    """Final hidden states, after the last norm.

    Args:
      tokens: i32[P,S], right-padded. Causal attention needs no mask for it.
      rows: continuations of these prompts, or None.
      slot: with rows, i32[M]: the positions to compute, see `Packing`. Those
        that are left out must be seen by none of them.

    Returns:
      a tuple of [P,S,D] and, with rows, [B,N,D]; with slot of [1,M,D] alone.
    """
    p, s = tokens.shape
    ids = [tokens]
    positions = [jnp.broadcast_to(jnp.arange(s)[None], (p, s))]
    lengths = shapes = None
    if rows is not None:
      ids, positions = [*ids, rows.tokens], [*positions, rows.positions]
      lengths = rows.prompt_length
    if slot is not None:
      shapes = (tokens.shape, rows.tokens.shape)
      packing = Packing(slot, *shapes)
      ids, positions = [packing.pack(*ids)], [packing.pack(*positions)]
    x = tuple(self.embed(i) for i in ids)
    tables = tuple(layers.rope_table(i, self.config) for i in positions)
    x, _ = self.layers(x, tables, lengths, slot, shapes)
    return tuple(self.final_norm(a) for a in x)


def decoder(settings, config: ModelConfig, **more) -> Decoder:
  """The architecture `config` as a config's `model` section wants it computed.

  Args:
    settings: `dtype`, `param_dtype` and `remat`.
    more: other fields of `Decoder`.
  """
  return Decoder(
    config,
    dtype=jnp.dtype(settings.dtype),
    param_dtype=jnp.dtype(settings.param_dtype),
    remat=settings.remat,
    **more,
  )


class _Layer(nn.Module):
  """A block as the body of the scan over layers."""

  config: ModelConfig
  dtype: jnp.dtype
  param_dtype: jnp.dtype

  @nn.compact
  def __call__(self, x, tables, lengths, slot, shapes):
    block = layers.Block(
      self.config, self.dtype, self.param_dtype, name='block'
    )
    qkv = [block.project(a, t) for a, t in zip(x, tables, strict=True)]
    if slot is not None:
      packing = Packing(slot, *shapes)
      qkv = zip(*map(packing.unpack, qkv[0]), strict=True)
    y, prefix = [], ()
    for q, k, v in qkv:
      kv, t = layers.lay_out(k, v), q.shape[1]
      own = layers.Source(*kv, layers.causal(t))
      y.append(layers.attend(q, (*prefix, own)))
      if lengths is not None:
        seen = jnp.arange(t)[None] < lengths[:, None]
        prefix = (layers.Source(*kv, seen[:, None, None]),)
    if slot is not None:
      y = [packing.pack(*y)]
    return tuple(map(block.finish, x, y)), None


def head_weight(params) -> jax.Array:
  """[V,D] of the (possibly tied) head."""
  return params['head'] if 'head' in params else params['embedding']


def value(params, hidden) -> jax.Array:
  """f32[...]: the critic's estimate from final hidden states [...,D]."""
  x = hidden.astype(jnp.float32)
  return x @ params['value_kernel'].astype(jnp.float32) + params[
    'value_bias'
  ].astype(jnp.float32)


def with_value(model: Decoder, params, place):
  """Parameters with the value head that the model has and they may lack.

  `place` as for `io.load.load`: (path, host array) -> leaf.
  """
  if not model.value_head or 'value_kernel' in params:
    return params
  zeros = lambda name, *of: place(
    (name,), np.zeros(of, jnp.dtype(model.param_dtype))
  )
  return {
    **params,
    'value_kernel': zeros('value_kernel', model.config.width),
    'value_bias': zeros('value_bias'),
  }


def logits(params, tokens, *, model: Decoder) -> jax.Array:
  """f32[B,T,V] of i32[B,T]: all of them, for tests and small vocabularies."""
  (hidden,) = model.apply({'params': params}, tokens)
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
