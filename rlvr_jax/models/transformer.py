"""The decoder: embedding, a scanned stack of blocks, output head, value head.

Prompts and the rows that continue them pass through the layers together. A
group shares its prompt, so the prompt is computed once and the rows attend to
it. A plain forward pass has prompts and no continuations.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax.models import attention, kv_cache, layers
from rlvr_jax.models.lora import Lora
from rlvr_jax.models.model_config import ModelConfig

Params = Mapping[str, Any]  # nested, leaves are arrays


class Continuations(NamedTuple):
  """Rows that continue prompts: N columns, B rows, P divides B."""

  tokens: jax.Array  # i32[B,N]
  positions: jax.Array  # i32[B,N]
  prompt_length: jax.Array  # i32[P]


class Packing(NamedTuple):
  """Maps between prompts [P,S], rows [B,N] and a flat list of M positions.

  Norms and matrix products run on the flat list, so they skip padding;
  attention runs on unpacked rows.
  """

  slot: jax.Array  # i32[M]: p*S + s, or P*S + b*N + n; larger: unused
  prompt: tuple[int, int]  # P, S
  rows: tuple[int, int]  # B, N

  def unpack(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[1,M,...] -> [P,S,...], [B,N,...]; 0 at positions not in the list."""
    cut = math.prod(self.prompt)
    out = jnp.zeros((cut + math.prod(self.rows), *x.shape[2:]), x.dtype)
    out = out.at[self.slot].set(x[0], mode='drop')
    return (
      out[:cut].reshape(*self.prompt, *x.shape[2:]),
      out[cut:].reshape(*self.rows, *x.shape[2:]),
    )

  def pack(self, prompt: jax.Array, rows: jax.Array) -> jax.Array:
    """[P,S,...], [B,N,...] -> [1,M,...]."""
    flat = [x.reshape(-1, *x.shape[2:]) for x in (prompt, rows)]
    return jnp.take(jnp.concatenate(flat), self.slot, axis=0, mode='clip')[None]


class Decoder(nn.Module):
  """Maps tokens to final hidden states; `head_weight` maps those to logits.

  Kernels are [*out, *in] (q [H,C,D], out [D,H,C], gate [F,D], down [D,F]),
  layers stacked on a leading axis.

  Attributes:
    config: the architecture.
    dtype: of computation. Softmax, norms and logits are always float32.
    param_dtype: of parameters.
    remat: recompute each layer in the backward pass, matrix products included.
    attention: its kind, see `models.attention`; '' for the best.
    value_head: adds the parameters that `value` uses, initialised to 0.
    lora: adds adapters; applied where the parameters have them.
  """

  config: ModelConfig
  dtype: jnp.dtype = jnp.float32
  param_dtype: jnp.dtype = jnp.float32
  remat: bool = False
  attention: str = ''
  value_head: bool = False
  lora: Lora | None = None

  @property
  def value_dtype(self) -> jnp.dtype:
    """Of the value head: float32 beside adapters, which are trained in it."""
    return self.param_dtype if self.lora is None else jnp.dtype('float32')

  def setup(self) -> None:
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
        self.value_dtype,
      )
      self.value_bias = self.param(
        'value_bias',
        nn.with_logical_partitioning(zeros, ()),
        (),
        self.value_dtype,
      )
    self.final_norm = layers.final_norm(c, self.param_dtype)
    # Cheap operations are always recomputed in the backward pass: storing and
    # loading them takes as long, and half as much memory again.
    policies = jax.checkpoint_policies
    keep = (
      None
      if self.remat
      else policies.save_from_both_policies(
        policies.dots_saveable,
        policies.save_only_these_names(attention.SAVED),
      )
    )
    # Argument 5 of _Layer.__call__, with self as 0, is `shapes`.
    body = nn.remat(_Layer, policy=keep, prevent_cse=False, static_argnums=(5,))
    self.layers = nn.scan(
      body,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      in_axes=(*(nn.broadcast,) * 4, 0),
      length=c.num_layers,
      # It traces the body twice. Random weights depend on how often it is.
      check_constancy_invariants=self.is_initializing(),
      metadata_params={nn.PARTITION_NAME: 'layers'},
    )(c, self.dtype, self.param_dtype, self.attention, self.lora)

  def embed(self, tokens: jax.Array) -> jax.Array:
    """Token embeddings [...,T,D] in the compute dtype."""
    # Gathered over fsdp first: a lookup in a table with sharded columns would
    # lose the sharding of the rows.
    table = nn.with_logical_constraint(self.embedding, ('vocab', 'act_embed'))
    x = scaled(jnp.take(table, tokens, axis=0).astype(self.dtype), self.config)
    return nn.with_logical_constraint(x, ('batch', None, 'act_embed'))

  def __call__(
    self,
    tokens: jax.Array,
    rows: Continuations | None = None,
    slot: jax.Array | None = None,
  ) -> tuple[jax.Array, ...]:
    """Final hidden states, after the last norm.

    Args:
      tokens: i32[P,S], right-padded. Under causal attention, padding on the
        right needs no mask.
      rows: continuations of these prompts, or None.
      slot: with rows, i32[M]: the positions to compute, see `Packing`. No
        position in it may attend to one that is left out.

    Returns:
      ([P,S,D],); with rows ([P,S,D], [B,N,D]); with slot ([1,M,D],).
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
    tables = tuple(layers.rope_tables(i, self.config) for i in positions)
    slides = jnp.array(self.config.sliding) if self.config.sliding else None
    x = tuple(map(_residual, x))
    x, _ = self.layers(x, tables, lengths, slot, shapes, slides)
    x = tuple(map(_whole, x))
    return tuple(self.final_norm(a) for a in x)


def decoder(settings: Any, config: ModelConfig, **fields: Any) -> Decoder:
  """The `Decoder` of an architecture, computed as `settings` say.

  Args:
    settings: has `dtype`, `param_dtype`, `remat` and `attention`, as the
      config's `model`.
    fields: other fields of `Decoder`.
  """
  return Decoder(
    config,
    dtype=jnp.dtype(settings.dtype),
    param_dtype=jnp.dtype(settings.param_dtype),
    remat=settings.remat,
    attention=settings.attention,
    **fields,
  )


class _Layer(nn.Module):
  """One layer: the body of the scan over layers."""

  config: ModelConfig
  dtype: jnp.dtype
  param_dtype: jnp.dtype
  attention: str
  lora: Lora | None

  @nn.compact
  def __call__(self, x, tables, lengths, slot, shapes, slides):
    block = layers.Block(
      self.config, self.dtype, self.param_dtype, self.lora, name='block'
    )
    x = tuple(_whole(_residual(a)) for a in x)
    tables = [
      whole
      if slides is None
      else jax.tree.map(functools.partial(jnp.where, slides), local, whole)
      for whole, local in tables
    ]
    qkv = [block.project(a, t) for a, t in zip(x, tables, strict=True)]
    if slot is not None:
      packing = Packing(slot, *shapes)
      qkv = zip(*map(packing.unpack, qkv[0]), strict=True)
    y, prefix = [], None
    # Shapes are traced with a token or two, without a mesh.
    kind = 'dense' if self.is_initializing() else self.attention
    for q, k, v in qkv:
      kv = kv_cache.lay_out(k, v)  # once, for both that attend to prompts
      y.append(
        attention.attend(
          q,
          k,
          v,
          prefix,
          kind=kind,
          window=self.config.window if slides is not None else 0,
          sliding=slides,
          laid_out=kv,
        )
      )
      if lengths is not None:
        prefix = attention.Prefix(k, v, lengths, kv)
    if slot is not None:
      y = [packing.pack(*y)]
    return tuple(map(_residual, map(block.finish, x, y))), None


def _whole(x):
  """The residual stream [B,T,D] as a layer needs it: each row's, whole."""
  return nn.with_logical_constraint(x, ('batch', None, 'act_embed'))


def _residual(x):
  """The same between layers, where the backward pass keeps it."""
  return nn.with_logical_constraint(x, ('batch', None, 'residual'))


def scaled(x: jax.Array, config: ModelConfig) -> jax.Array:
  """Embeddings as the first layer takes them: Gemma's times sqrt(width)."""
  if not config.scaled_embedding:
    return x
  return x * jnp.asarray(config.width**0.5, x.dtype)


def head_weight(params: Params) -> jax.Array:
  """Weight [V,D] of the output head; the embedding if tied."""
  return params['head'] if 'head' in params else params['embedding']


def value(params: Params, hidden: jax.Array) -> jax.Array:
  """The critic's values f32[...] of final hidden states [...,D]."""
  x = hidden.astype(jnp.float32)
  return x @ params['value_kernel'].astype(jnp.float32) + params[
    'value_bias'
  ].astype(jnp.float32)


def with_value(
  model: Decoder,
  params: Params,
  place: Callable[[tuple[str, ...], np.ndarray], Any],
) -> Params:
  """`params`, plus a zero value head if the model has one and they lack it.

  `place` as for `io.load.load`: (path, host array) -> leaf.
  """
  if not model.value_head or 'value_kernel' in params:
    return params
  zeros = lambda name, *of: place(
    (name,), np.zeros(of, jnp.dtype(model.value_dtype))
  )
  return {
    **params,
    'value_kernel': zeros('value_kernel', model.config.width),
    'value_bias': zeros('value_bias'),
  }


def logits(params: Params, tokens: jax.Array, *, model: Decoder) -> jax.Array:
  """All logits f32[B,T,V] of tokens i32[B,T]; for tests, small vocabularies."""
  (hidden,) = model.apply({'params': params}, tokens)
  return jnp.einsum(
    'btd,vd->btv',
    hidden,
    head_weight(params).astype(hidden.dtype),
    preferred_element_type=jnp.float32,
  )


def init(model: Decoder, key: jax.Array) -> Params:
  """Random parameters; logical axes as metadata (`flax.linen.meta` boxes)."""
  return model.init(key, jnp.zeros((1, 2), jnp.int32))['params']


@functools.partial(jax.jit, static_argnames='num_layers')
def unstack(params: Params, num_layers: int) -> Params:
  """The sampler's layout: the stacked layers as a tuple of trees."""
  block = params['layers']['block']
  layer = lambda i: jax.tree.map(lambda a: a[i], block)
  return {**params, 'layers': tuple(map(layer, range(num_layers)))}
