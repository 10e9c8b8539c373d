"""Parts of the decoder: norm, rotary embedding, attention, block.

Letters: B rows, T tokens, D width, H heads, K key-value heads, C channels of
a head, S keys of a source, R rows of a source (R divides B).
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax.models import lora as lora_lib
from rlvr_jax.models.model_config import ModelConfig, Rope

FEW_ROWS = 128  # see `product`
NEG = -1e30  # finite, so that a fully masked row gives no NaN


class KeysValues(NamedTuple):
  """Keys and values to attend to; row r serves rows r*B/R .. (r+1)*B/R - 1.

  The layout lets products with a cache run without copying it.
  """

  k: jax.Array  # [R,K,C,S]
  v: jax.Array  # [R,K,S,C]
  mask: jax.Array  # bool, broadcastable to [R,B/R,T,S]
  live: jax.Array | None = None  # bool[]; False: nothing is seen, nor read


def rope_frequencies(rope: Rope, head_dim: int) -> tuple[np.ndarray, float]:
  """Angular frequencies f32[head_dim/2] and the factor on cos and sin.

  default: theta^(-2i/d); linear: divided by `factor`; llama3: low frequencies
  divided, high ones unchanged, interpolated between (Llama 3.1); yarn:
  interpolated by rotations per context (Peng et al. 2023, arXiv:2309.00071,
  section 3.2), cos and sin scaled by 0.1 ln(factor) + 1.
  """
  i = np.arange(0, head_dim, 2, dtype=np.float64)
  freq = rope.theta ** (-i / head_dim)
  if rope.kind == 'linear':
    freq = freq / rope.factor
  elif rope.kind == 'llama3':
    turns = rope.original_max_position * freq / (2 * math.pi)
    low, high = rope.low_freq_factor, rope.high_freq_factor
    keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
    freq = keep * freq + (1 - keep) * freq / rope.factor
  elif rope.kind == 'yarn':

    def index(rotations):  # channel with this many rotations per context
      length = rope.original_max_position / (rotations * 2 * math.pi)
      return head_dim * math.log(length) / (2 * math.log(rope.theta))

    low = max(math.floor(index(rope.beta_fast)), 0)
    high = min(math.ceil(index(rope.beta_slow)), head_dim - 1)
    ramp = (np.arange(head_dim // 2) - low) / max(high - low, 1e-3)
    keep = 1 - np.clip(ramp, 0.0, 1.0)
    freq = keep * freq + (1 - keep) * freq / rope.factor
    scale = rope.attention_factor or 0.1 * math.log(rope.factor) + 1.0
    return freq.astype(np.float32), scale
  return freq.astype(np.float32), 1.0


Table = tuple[jax.Array, jax.Array]


def rope_tables(
  positions: jax.Array, config: ModelConfig
) -> tuple[Table, Table]:
  """Tables of positions i32[B,T] for layers that do not slide, and that do."""
  table = rope_table(positions, config)
  if not config.sliding:
    return table, table
  return table, rope_table(positions, config, config.local_rope)


def rope_table(
  positions: jax.Array, config: ModelConfig, rope: Rope | None = None
) -> Table:
  """cos and sin, f32[B,T,1,C/2], of positions i32[B,T]; `rope` the config's."""
  freq, scale = rope_frequencies(rope or config.rope, config.head_dim)
  angle = (
    positions[..., None, None].astype(jnp.float32) * freq[None, None, None]
  )
  return jnp.cos(angle) * scale, jnp.sin(angle) * scale


def rotate(x: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Split-half rotary embedding of x [B,T,H,C], as in Hugging Face."""
  cos, sin = (a.astype(x.dtype) for a in table)
  a, b = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def causal(n: int, window: int | jax.Array | None = None) -> jax.Array:
  """Causal mask bool[1,1,n,n]: t attends to t - window < s <= t."""
  mask = jnp.tril(jnp.ones((n, n), bool))
  if window is not None:
    at = jnp.arange(n)
    mask = mask & (at[:, None] - at[None] < window)
  return mask[None, None]


def attend(q: jax.Array, sources: tuple[KeysValues, ...]) -> jax.Array:
  """Softmax attention of q [B,T,H,C] over the union of all sources.

  Each source is reduced on its own (max, sum, weighted values) and the results
  are merged, as in split (flash-decoding) attention: keys that rows share, such
  as a group's prompt, are read once, in one product. Returns [B,T,H,C].
  """
  parts = []
  for source in sources:
    part = functools.partial(_reduced, q, source)
    if source.live is None:
      parts.append(part())
    else:
      nothing = functools.partial(_nothing, q.shape)
      parts.append(jax.lax.cond(source.live, part, nothing))
  if len(parts) == 1:
    out, total, _ = parts[0]
    return (out / total).astype(q.dtype)
  top = functools.reduce(jnp.maximum, [p[2] for p in parts])
  scale = [jnp.exp(p[2] - top) for p in parts]
  num = sum(p[0] * s for p, s in zip(parts, scale, strict=True))
  den = sum(p[1] * s for p, s in zip(parts, scale, strict=True))
  return (num / den).astype(q.dtype)


def _reduced(q, source):
  """(weighted values, sum of weights, largest score): f32[B,T,H,C or 1]."""
  b, t, h, c = q.shape
  k, v, mask, _ = source
  r, heads, _, s = k.shape
  fold, per = b // r, h // heads
  q_ = q.reshape(r, fold * t, heads, per, c).swapaxes(1, 2)
  q_ = q_.reshape(r, heads, fold * t * per, c)
  score = jnp.einsum(
    'rkqc,rkcs->rkqs', q_, k, preferred_element_type=jnp.float32
  ) * (c**-0.5)
  mask = jnp.broadcast_to(mask, (r, fold, t, s)).reshape(r, 1, fold * t, s)
  score = jnp.where(jnp.repeat(mask, per, axis=2), score, NEG)
  top = jax.lax.stop_gradient(score.max(-1, keepdims=True))
  weight = jnp.exp(score - top)
  out = jnp.einsum(
    'rkqs,rksc->rkqc',
    weight.astype(v.dtype),
    v,
    preferred_element_type=jnp.float32,
  )

  def per_row(x):
    x = x.reshape(r, heads, fold * t, per, -1).swapaxes(1, 2)
    return x.reshape(b, t, h, -1)

  return per_row(out), per_row(weight.sum(-1, keepdims=True)), per_row(top)


def _nothing(shape):
  """`_reduced` of a source that no query sees."""
  zeros = lambda last: jnp.zeros((*shape[:3], last), jnp.float32)
  return zeros(shape[3]), zeros(1), zeros(1) + NEG


class RMSNorm(nn.Module):
  """x / rms(x) * scale over the last axis, in float32.

  With `unit_offset` times 1 + scale.
  """

  eps: float
  param_dtype: jnp.dtype
  axis_name: str | None = 'norm'
  unit_offset: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    one = nn.initializers.zeros if self.unit_offset else nn.initializers.ones
    init = nn.with_logical_partitioning(one, (self.axis_name,))
    scale = self.param('scale', init, (x.shape[-1],), self.param_dtype)
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
    scale = scale.reshape((1,) * (x.ndim - 1) + scale.shape)
    scale = scale.astype(jnp.float32)
    if self.unit_offset:
      scale = 1.0 + scale
    return (y * scale).astype(x.dtype)


def final_norm(config: ModelConfig, param_dtype: jnp.dtype) -> RMSNorm:
  """The norm after the last layer; within a layer there are more of them."""
  return RMSNorm(config.norm_eps, param_dtype, unit_offset=config.unit_offset)


class Linear(nn.Module):
  """y = kernel x (+ bias) over the last `num_in` axes of x.

  The kernel is [*out, *in], as in Hugging Face's files. With an adapter in the
  parameters, plus (alpha/r) B (A x): see `lora`.
  """

  out: tuple[int, ...]
  axes: tuple[str, ...]  # logical names of the kernel's axes
  dtype: jnp.dtype
  param_dtype: jnp.dtype
  init_std: float
  num_in: int = 1
  use_bias: bool = False
  lora: lora_lib.Lora | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    inputs = x.shape[-self.num_in :]
    init = nn.with_logical_partitioning(
      nn.initializers.normal(self.init_std), self.axes
    )
    shape = self.out + inputs
    kernel = self.param('kernel', init, shape, self.param_dtype)
    rows = x.shape[: -self.num_in]
    y = product(
      x.astype(self.dtype).reshape(math.prod(rows), math.prod(inputs)),
      kernel.astype(self.dtype).reshape(math.prod(self.out), -1),
    ).reshape(*rows, *self.out)
    if self.use_bias:
      zeros = nn.with_logical_partitioning(
        nn.initializers.zeros_init(), self.axes[: len(self.out)]
      )
      bias = self.param('bias', zeros, self.out, self.param_dtype)
      y = y + bias.astype(self.dtype).reshape((1,) * len(rows) + self.out)
    made = self.is_initializing() and self.lora and self.name in self.lora.on
    if made or self.has_variable('params', lora_lib.A):
      y = y + self._adapter(x, inputs).reshape(y.shape)
    return y

  def _adapter(self, x: jax.Array, inputs: tuple[int, ...]) -> jax.Array:
    """(alpha/r) B (A x): [rows, outputs]."""
    rank, size = self.lora.rank, math.prod(inputs)
    axes = self.axes[: len(self.out)], self.axes[len(self.out) :]
    uniform = lambda key, shape, dtype: jax.random.uniform(
      key, shape, dtype, -(size**-0.5), size**-0.5
    )
    named = nn.with_logical_partitioning
    a = self.param(
      lora_lib.A,
      named(uniform, ('lora', *axes[1])),
      (rank, *inputs),
      jnp.float32,
    )
    b = self.param(
      lora_lib.B,
      named(nn.initializers.zeros_init(), (*axes[0], 'lora')),
      (*self.out, rank),
      jnp.float32,
    )
    low = product(
      x.astype(self.dtype).reshape(-1, size),
      a.astype(self.dtype).reshape(rank, size),
    )
    high = product(low, b.astype(self.dtype).reshape(math.prod(self.out), rank))
    return self.lora.scale * high


def product(
  x: jax.Array, w: jax.Array, dtype: jnp.dtype | None = None
) -> jax.Array:
  """x [M,I] times w [O,I] transposed: [M,O], accumulated in `dtype`.

  For a few rows on a CPU, w x^T is up to twice as fast as x w^T, which repacks
  the large operand; the barriers keep XLA from undoing the transposition.
  """
  dtype = dtype or x.dtype

  def direct(x, w):
    return jax.lax.dot_general(
      x, w, (((1,), (1,)), ((), ())), preferred_element_type=dtype
    )

  def transposed(x, w):
    y = jax.lax.dot_general(
      w,
      jax.lax.optimization_barrier(x.T),
      (((1,), (0,)), ((), ())),
      preferred_element_type=dtype,
    )
    return jax.lax.optimization_barrier(y).T

  if x.shape[0] > FEW_ROWS:
    return direct(x, w)
  # Chosen at lowering: a host may compile for devices that it does not have.
  return jax.lax.platform_dependent(x, w, cpu=transposed, default=direct)


class Block(nn.Module):
  """One decoder layer. Pre-norm, OLMo 2's post-norm, or Gemma's both."""

  config: ModelConfig
  dtype: jnp.dtype
  param_dtype: jnp.dtype
  lora: lora_lib.Lora | None = None

  def setup(self) -> None:
    c = self.config

    def linear(out, axes, num_in=1, use_bias=False):
      return Linear(
        out,
        axes,
        self.dtype,
        self.param_dtype,
        c.init_std,
        num_in=num_in,
        use_bias=use_bias,
        lora=self.lora,
      )

    q, kv = (c.num_heads, c.head_dim), (c.num_kv_heads, c.head_dim)
    self.q = linear(q, ('heads', 'head_dim', 'embed'), use_bias=c.qkv_bias)
    self.k = linear(kv, ('kv_heads', 'head_dim', 'embed'), use_bias=c.qkv_bias)
    self.v = linear(kv, ('kv_heads', 'head_dim', 'embed'), use_bias=c.qkv_bias)
    self.out = linear(
      (c.width,), ('embed', 'heads', 'head_dim'), num_in=2, use_bias=c.out_bias
    )
    self.gate = linear((c.mlp_width,), ('mlp', 'embed'), use_bias=c.mlp_bias)
    self.up = linear((c.mlp_width,), ('mlp', 'embed'), use_bias=c.mlp_bias)
    self.down = linear((c.width,), ('embed', 'mlp'), use_bias=c.mlp_bias)
    norm = lambda: final_norm(c, self.param_dtype)
    self.attn_norm, self.mlp_norm = norm(), norm()
    if c.sandwich_norm:
      self.attn_out_norm, self.mlp_out_norm = norm(), norm()
    if c.qk_norm:
      self.q_norm, self.k_norm = norm(), norm()

  def project(
    self, x: jax.Array, table: tuple[jax.Array, jax.Array]
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries [B,T,H,C], keys and values [B,T,K,C] of the residual x [B,T,D].

    `lay_out` brings keys and values into the layout of `KeysValues`.
    """
    c = self.config
    y = x if c.post_norm else self.attn_norm(x)
    q, k, v = self.q(y), self.k(y), self.v(y)
    if c.qk_norm == 'head':
      q, k = self.q_norm(q), self.k_norm(k)
    elif c.qk_norm == 'full':  # one norm over all heads together
      flat = lambda a: a.reshape(*a.shape[:2], -1)
      q = self.q_norm(flat(q)).reshape(q.shape)
      k = self.k_norm(flat(k)).reshape(k.shape)
    q = nn.with_logical_constraint(q, ('batch', None, 'heads', None))
    k = nn.with_logical_constraint(k, ('batch', None, 'kv_heads', None))
    v = nn.with_logical_constraint(v, ('batch', None, 'kv_heads', None))
    q = rotate(q, table)
    if c.query_size not in (0, c.head_dim):  # attention divides by head_dim^0.5
      q = q * jnp.asarray((c.head_dim / c.query_size) ** 0.5, q.dtype)
    return q, rotate(k, table), v

  def finish(self, x: jax.Array, y: jax.Array) -> jax.Array:
    """The rest of the layer, from the attention output y [B,T,H,C]."""
    c = self.config
    y = self.out(y)
    if c.sandwich_norm:
      y = self.attn_out_norm(y)
    x = x + (self.attn_norm(y) if c.post_norm else y)
    y = x if c.post_norm else self.mlp_norm(x)
    gate = self.gate(y)
    gate = nn.silu(gate) if c.activation == 'silu' else nn.gelu(gate)
    y = gate * self.up(y)
    y = self.down(nn.with_logical_constraint(y, ('batch', None, 'mlp')))
    if c.sandwich_norm:
      y = self.mlp_out_norm(y)
    x = x + (self.mlp_norm(y) if c.post_norm else y)
    return nn.with_logical_constraint(x, ('batch', None, 'act_embed'))
