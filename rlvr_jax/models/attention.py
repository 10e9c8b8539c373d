"""How do rows attend to their prompts and to themselves?

kind     computes
dense    all scores of a layer, [B,H,T,S]: the fastest for short rows
blocked  blocks of them, one at a time, and again in the backward pass: memory
         grows with T instead of T^2, in plain JAX (flash attention,
         arXiv:2205.14135)
splash   the same, by JAX's Pallas kernel for TPUs; on any other platform the
         kernel is interpreted, which is slow and for tests

Letters as in `layers`; G rows of a group, W the window. All kinds give the same
result up to rounding: position t of a row sees its prompt and its own s <= t,
with a window of W those at most W - 1 positions back.
"""

import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from rlvr_jax.models import kv_cache, layers

KINDS = ('dense', 'blocked', 'splash')
# Longer rows are computed in blocks where no kind is named and no TPU is there.
DENSE_COLUMNS = 1024
BLOCK = 512  # columns of a block, or all of them if they are fewer
LANES = 128  # of a TPU: what sizes are padded to for the kernel
# What `blocked` and `splash` save for their backward passes.
SAVED = 'attention'


class Prefix(NamedTuple):
  """Prompts [P,S] that rows continue, those of a prompt adjacent."""

  k: jax.Array  # [P,S,K,C]
  v: jax.Array  # [P,S,K,C]
  length: jax.Array  # i32[P], at least 1; row n is at position length + n
  laid_out: kv_cache.Pair | None = None  # k and v, from `kv_cache.lay_out`


def platform() -> str:
  """Of the devices of the enclosing mesh, which may be none of this host's."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return device.platform if device else jax.default_backend()


def chosen(kind: str, columns: int) -> str:
  """The kind for rows of so many columns: `kind`, or where it is '' the best.

  On a TPU splash, of rows of a single block (prompts) dense, which is the same
  there and compiles faster; elsewhere dense, and blocked beyond DENSE_COLUMNS.
  """
  if kind:
    return kind
  if platform() == 'tpu':
    return 'dense' if columns <= BLOCK else 'splash'
  return 'dense' if columns <= DENSE_COLUMNS else 'blocked'


def warning(kind: str) -> str:
  """What to tell of a kind on the mesh in use; '' for nothing."""
  if kind != 'splash' or platform() == 'tpu':
    return ''
  return (
    f"model.attention='splash' on a {platform()}: the kernel for TPUs is "
    "interpreted here, which is slow. '' takes what suits the device."
  )


def attend(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  prefix: Prefix | None = None,
  *,
  kind: str = 'dense',
  window: int = 0,
  sliding: jax.Array | None = None,
  laid_out: kv_cache.Pair | None = None,
) -> jax.Array:
  """Causal attention of rows to their prompts and themselves: [B,T,H,C].

  Args:
    q: [B,T,H,C].
    k, v: [B,T,K,C].
    prefix: the prompts, B = P*G; None: rows start at position 0.
    kind: see the module; '' for the best.
    window: W; 0 for none.
    sliding: bool[], whether this layer has the window; None: yes.
    laid_out: k and v, from `kv_cache.lay_out`; None: `dense` makes it.
  """
  columns = q.shape[1] + (0 if prefix is None else prefix.k.shape[1])
  kind = chosen(kind, columns)
  window = window if 0 < window < columns else None
  if kind == 'splash':
    run = lambda w: _joined(
      q, k, v, prefix, functools.partial(_splash, window=w), LANES
    )
    if window and sliding is not None:  # the kernel's mask is static
      return jax.lax.cond(sliding, lambda: run(window), lambda: run(None))
    return run(window)
  if window and sliding is not None:
    window = jnp.where(sliding, window, columns)
  if kind == 'dense':
    own = laid_out or kv_cache.lay_out(k, v)
    return _dense(q, own, prefix, window)
  if kind == 'blocked':
    width = jnp.asarray(columns if window is None else window, jnp.int32)
    run = lambda q, k, v, first, shape: blocked(q, k, v, first, width, shape)
    return _joined(q, k, v, prefix, run, 1)
  raise ValueError(f'No attention {kind!r}. Known: {", ".join(KINDS)}.')


def _dense(q, own, prefix, window):
  t, sources = q.shape[1], ()
  if prefix is not None:
    column = jnp.arange(prefix.k.shape[1])[None]
    seen = (column < prefix.length[:, None])[:, None, None]  # [P,1,1,S]
    if window is not None:
      position = prefix.length[:, None] + jnp.arange(t)[None]  # [P,T]
      near = position[:, :, None] - column[:, None] < window
      seen = seen & near[:, None]
    kv = prefix.laid_out or kv_cache.lay_out(prefix.k, prefix.v)
    sources = (layers.KeysValues(*kv, seen),)
  own = layers.KeysValues(*own, layers.causal(t, window))
  return layers.attend(q, (*sources, own))


def _joined(q, k, v, prefix, run, lanes):
  """Attention to prompt and row as one sequence of keys, by `run`.

  Prompts are moved to the right, up to their rows, so that a distance between
  columns is one between positions. Query t is at column t + offset; columns
  before a row's `first` are padding.

  Args:
    run: (q [B,H,T,C] scaled, k and v [B,K,L,C], first i32[B], shape) -> as q.
    lanes: what block and channels are multiples of.
  """
  b, t, _, c = q.shape
  block = min(BLOCK, _up(t, lanes))
  total = 0 if prefix is None else prefix.k.shape[1]
  tail = _up(t, block) - t
  offset = _up(total, block)
  first = jnp.zeros((b,), jnp.int32)
  if prefix is not None:
    group = b // len(prefix.length)
    shift = total - prefix.length
    at = jnp.maximum(jnp.arange(total)[None] - shift[:, None], 0)
    at = at[:, :, None, None]
    right = lambda x: jnp.repeat(jnp.take_along_axis(x, at, 1), group, axis=0)
    k = jnp.concatenate([right(prefix.k), k], axis=1)
    v = jnp.concatenate([right(prefix.v), v], axis=1)
    first = jnp.repeat(shift, group).astype(jnp.int32) + offset - total
  wide = _up(c, lanes) - c

  def pad(x, front):
    x = jnp.pad(x, ((0, 0), (front, tail), (0, 0), (0, wide)))
    return x.transpose(0, 2, 1, 3)

  q = pad(q * jnp.asarray(c**-0.5, q.dtype), 0)
  k, v = pad(k, offset - total), pad(v, offset - total)
  out = run(q, k, v, first, _Shape(block, offset))
  return out.transpose(0, 2, 1, 3)[:, :t, :, :c]


def _up(n, multiple):
  return -(-n // multiple) * multiple


class _Shape(NamedTuple):
  """Which columns see which: query t is at column t + offset."""

  block: int
  offset: int

  def keys(self, i, window):
    """Blocks of keys lo..hi - 1 that block i of queries sees any of."""
    low = jnp.maximum(i * self.block + self.offset - window + 1, 0)
    high = (i + 1) * self.block - 1 + self.offset
    return low // self.block, high // self.block + 1

  def queries(self, j, window, count):
    """Blocks of queries lo..hi - 1, of `count`, that see any of block j."""
    low = jnp.maximum(j * self.block - self.offset, 0) // self.block
    last = (j + 1) * self.block - 1 + window - 1 - self.offset
    high = jnp.minimum(jnp.maximum(last, -1) // self.block + 1, count)
    return low, jnp.maximum(high, low)

  def mask(self, i, j, first, window):
    """bool[B,1,1,block,block] of block i of queries and j of keys."""
    at = (i * self.block + self.offset + jnp.arange(self.block))[:, None]
    key = (j * self.block + jnp.arange(self.block))[None]
    seen = (key <= at) & (at - key < window)
    real = key >= first[:, None]
    return seen[None, None, None] & real[:, None, None, None]


##### blocked #####


def _cut(x, i, block):
  """Block i of axis -2."""
  return jax.lax.dynamic_slice_in_dim(x, i * block, block, x.ndim - 2)


def _scores(q, k):
  """f32[B,K,G,block,block] of q [B,K,G,block,C] and k [B,K,block,C]."""
  return jnp.einsum(
    'bkgqc,bksc->bkgqs', q, k, preferred_element_type=jnp.float32
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def blocked(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  first: jax.Array,
  window: jax.Array,
  shape: _Shape,
) -> jax.Array:
  """Attention of q [B,H,T,C], scaled, to k, v [B,K,L,C] in blocks: [B,H,T,C].

  Args:
    first: i32[B], first column of keys that may be seen.
    window: i32[], W; at least L for none.
    shape: T and L are multiples of its block.
  """
  return _blocked(q, k, v, first, window, shape)[0]


def _blocked(q, k, v, first, window, shape):
  """(output [B,H,T,C], log of the sums f32[B,H,T])."""
  b, h, t, c = q.shape
  heads, n = k.shape[1], shape.block
  groups = q.reshape(b, heads, h // heads, t, c)

  def row(_, i):
    qi = _cut(groups, i, n)

    def step(j, state):
      top, total, out = state
      s = _scores(qi, _cut(k, j, n))
      s = jnp.where(shape.mask(i, j, first, window), s, layers.NEG)
      new = jnp.maximum(top, s.max(-1, keepdims=True))
      # Masked scores are far below any other: after the first block with one
      # that is not, what they added is multiplied by 0.
      w, scale = jnp.exp(s - new), jnp.exp(top - new)
      value = jnp.einsum(
        'bkgqs,bksc->bkgqc',
        w.astype(v.dtype),
        _cut(v, j, n),
        preferred_element_type=jnp.float32,
      )
      total = total * scale + w.sum(-1, keepdims=True)
      return new, total, out * scale + value

    shape_of = (b, heads, h // heads, n)
    zeros = lambda last: jnp.zeros((*shape_of, last), jnp.float32)
    start = zeros(1) + layers.NEG, zeros(1), zeros(c)
    top, total, out = jax.lax.fori_loop(*shape.keys(i, window), step, start)
    return None, ((out / total).astype(q.dtype), (top + jnp.log(total))[..., 0])

  _, (out, log) = jax.lax.scan(row, None, jnp.arange(t // n))
  whole = lambda x: jnp.moveaxis(x, 0, 3).reshape(b, h, t, *x.shape[5:])
  return whole(out), whole(log)


def _blocked_fwd(q, k, v, first, window, shape):
  out, log = _blocked(q, k, v, first, window, shape)
  out, log = checkpoint_name(out, SAVED), checkpoint_name(log, SAVED)
  return out, (q, k, v, first, window, out, log)


def _blocked_bwd(shape, saved, grad):
  q, k, v, first, window, out, log = saved
  b, h, t, c = q.shape
  heads, n = k.shape[1], shape.block
  fold = lambda x: x.reshape(b, heads, h // heads, t, -1)
  # sum_s p_s dp_s = sum_c grad_c out_c (flash attention, appendix B)
  product = grad.astype(jnp.float32) * out.astype(jnp.float32)
  delta = fold(product.sum(-1))
  q_, grad_, log_ = fold(q), fold(grad), fold(log)

  def column(dq, j):
    kj, vj = _cut(k, j, n), _cut(v, j, n)

    def step(i, state):
      dq, dk, dv = state
      qi, gi = _cut(q_, i, n), _cut(grad_, i, n)
      mask = shape.mask(i, j, first, window)
      p = jnp.exp(_scores(qi, kj) - _cut(log_, i, n))
      p = jnp.where(mask, p, 0.0)
      into = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
      dv = dv + into('bkgqs,bkgqc->bksc', p.astype(gi.dtype), gi)
      ds = p * (_scores(gi, vj) - _cut(delta, i, n))
      ds = ds.astype(q.dtype)
      dk = dk + into('bkgqs,bkgqc->bksc', ds, qi)
      more = into('bkgqs,bksc->bkgqc', ds, kj)
      dq = jax.lax.dynamic_update_slice_in_dim(
        dq, _cut(dq, i, n) + more, i * n, 3
      )
      return dq, dk, dv

    zeros = jnp.zeros((b, heads, n, c), jnp.float32)
    dq, dk, dv = jax.lax.fori_loop(
      *shape.queries(j, window, t // n), step, (dq, zeros, zeros)
    )
    return dq, (dk.astype(k.dtype), dv.astype(v.dtype))

  dq, (dk, dv) = jax.lax.scan(
    column,
    jnp.zeros(q_.shape, jnp.float32),
    jnp.arange(k.shape[2] // n),
  )
  whole = lambda x: jnp.moveaxis(x, 0, 2).reshape(k.shape)
  return dq.reshape(q.shape).astype(q.dtype), whole(dk), whole(dv), None, None


blocked.defvjp(_blocked_fwd, _blocked_bwd)


##### splash #####


def _splash(q, k, v, first, shape, *, window):
  """`blocked` by the kernel; on a mesh, each device its rows and heads."""
  from jax.experimental.pallas.ops.tpu import splash_attention as splash

  interpret = platform() != 'tpu'

  def local(q, k, v, first):
    t, columns = q.shape[2], k.shape[2]
    seen = jnp.arange(columns)[None] >= first[:, None]
    ids = splash.SegmentIds(
      jnp.ones((len(q), t), jnp.int32), seen.astype(jnp.int32)
    )
    kernel = _kernel(q.shape[1], t, columns, shape, window, interpret)
    return jax.vmap(kernel)(q, k, v, ids)

  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return local(q, k, v, first)
  # A kernel cannot be partitioned by the compiler. Rows that the devices do not
  # divide (the one that shapes are traced with) are computed by all of them.
  rows, _, heads, _ = nn.logical_to_mesh_axes(('batch', None, 'heads', None))
  shards = math.prod(mesh.shape[a] for a in rows or ())
  rows = rows if len(q) % shards == 0 else None
  x = PartitionSpec(rows, heads)
  return jax.shard_map(
    local,
    in_specs=(x, x, x, PartitionSpec(rows)),
    out_specs=x,
    check_vma=False,
  )(q, k, v, first)


def _kernel(heads, rows, columns, shape, window, interpret):
  """The kernel for q [heads,rows,C] and keys of so many columns."""
  from jax.experimental.pallas.ops.tpu import splash_attention as splash

  mask = splash.CausalMask((rows, columns), shape.offset)
  if window:
    back = (window - 1, 0)
    mask = splash.LocalMask((rows, columns), back, shape.offset)
  n = shape.block
  return splash.make_splash_mha_single_device(
    splash.MultiHeadMask([mask] * heads),
    block_sizes=splash.BlockSizes(
      block_q=n,
      block_kv=n,
      block_q_dkv=n,
      block_kv_dkv=n,
      block_q_dq=n,
      block_kv_dq=n,
    ),
    residual_checkpoint_name=SAVED,
    interpret=interpret,
  )
