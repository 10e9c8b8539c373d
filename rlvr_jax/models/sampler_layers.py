"""The decoder in the sampler's layout: embedding, layers on prompts, logits."""

import jax
import jax.numpy as jnp

from rlvr_jax.models import attention, kv_cache, layers, transformer


def prefill(
  model: transformer.Decoder,
  i: int,
  layer: transformer.Params,
  x: jax.Array,
  tables: tuple[layers.Table, layers.Table],
) -> tuple[jax.Array, kv_cache.Pair]:
  """Layer i on prompts: x [P,S,D], and keys and values for the cache.

  Args:
    layer: its parameters.
    tables: from `layers.rope_tables`.
  """
  window = model.config.window_of(i)
  block = layers.Block(model.config, model.dtype, model.param_dtype)
  table = tables[bool(window)]
  q, k, v = block.apply({'params': layer}, x, table, method='project')
  y = attention.attend(q, k, v, kind=model.attention, window=window)
  x = block.apply({'params': layer}, x, y, method='finish')
  return x, kv_cache.lay_out(k, v)


def embed_tokens(
  params: transformer.Params, model: transformer.Decoder, tokens: jax.Array
) -> jax.Array:
  """Token embeddings [...,D] in the compute dtype."""
  x = jnp.take(params['embedding'], tokens, axis=0).astype(model.dtype)
  return transformer.scaled(x, model.config)


def final_logits(
  params: transformer.Params, model: transformer.Decoder, x: jax.Array
) -> jax.Array:
  """Logits f32[M,V] of the last block's output [M,D]."""
  norm = layers.final_norm(model.config, model.param_dtype)
  x = norm.apply({'params': params['final_norm']}, x)
  head = transformer.head_weight(params).astype(x.dtype)
  return layers.product(x, head, jnp.float32)
