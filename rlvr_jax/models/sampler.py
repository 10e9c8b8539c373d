"""Samples completions: one prefill per prompt, then decoding with a KV cache.

Token ids in, token ids out, in one jitted program. Letters: P prompts, G
samples of each, B = P*G rows, S prompt columns, N new tokens, V vocabulary.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlvr_jax.enums import Stop
from rlvr_jax.models import kv_cache, layers, sampler_layers, transformer


class Sampling(NamedTuple):
  """Sampling settings. Hashable: a static argument of jit.

  temperature 0 is greedy: the argmax, with log-prob 0 (probability 1). top_k 0
  and top_p 1.0 do not truncate the distribution. `compact_batch`: when most
  rows have ended, the others continue in a smaller batch (see `sizes`); only
  for one device, since rows move.

  `branch` K > 0: nothing is random. A row starts with one of the K most likely
  first tokens, by its rank, and goes on greedily (CoT decoding,
  arXiv:2402.10200). Log-probs are those at `temperature`, of all tokens; top_k
  and top_p are not read.
  """

  max_new_tokens: int
  end_ids: tuple[int, ...]
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  compact_batch: bool = False
  branch: int = 0


class Sampled(NamedTuple):
  """The sampled completions."""

  tokens: jax.Array  # i32[B,N], 0 after the row's end
  logp: jax.Array  # f32[B,N], after temperature, top-k, top-p; 0 after end
  length: jax.Array  # i32[B], with the end token
  stop: jax.Array  # i32[B], an `enums.Stop`


def sizes(rows: int, sampling: Sampling) -> tuple[int, ...]:
  """Batch sizes: the initial one, then the one after each compaction.

  Each size compiles another loop, so there are few, and only where rows may be
  long enough to pay for it.
  """
  if not sampling.compact_batch or sampling.max_new_tokens < 128:
    return (rows,)
  return (rows, *(rows // k for k in (2, 4) if rows // k >= 4))


def truncate(logits: jax.Array, sampling: Sampling) -> jax.Array:
  """Logits [B,V] after top-k, then top-p; -inf for the removed tokens.

  top-k keeps k tokens; top-p keeps the smallest set of most likely tokens with
  mass >= top_p, up to a rounding margin of 1e-6. Among equally likely tokens
  lower ids come first.
  """
  few = 0 < sampling.top_k < logits.shape[-1]
  if not few and sampling.top_p == 1:
    return logits
  if few:
    order = jax.lax.top_k(logits, sampling.top_k)[0]
  else:
    order = jnp.sort(logits, axis=-1, descending=True)
  count = jnp.full((len(order), 1), order.shape[-1])
  if sampling.top_p < 1:
    p = jax.nn.softmax(order)
    before = jnp.cumsum(p, -1) - p  # mass of the more likely tokens
    count = (before < sampling.top_p - 1e-6).sum(-1, keepdims=True).clip(min=1)
  least = jnp.take_along_axis(order, count - 1, axis=-1)
  above, equal = logits > least, logits == least
  room = count - above.sum(-1, keepdims=True)

  def first(equal):
    return equal & (jnp.cumsum(equal, -1) <= room)

  # Ties are rare, and a cumulative sum over the vocabulary is not free.
  tied = (equal.sum(-1, keepdims=True) > room).any()
  keep = above | jax.lax.cond(tied, first, lambda equal: equal, equal)
  return jnp.where(keep, logits, -jnp.inf)


def draw(
  logits: jax.Array, u: jax.Array, sampling: Sampling
) -> tuple[jax.Array, jax.Array]:
  """One token per row, by inverting the cumulative distribution at u.

  One uniform number per row replaces V Gumbel variates. The vocabulary is
  split into blocks: first the block is found by its mass, then the token.

  Args:
    logits: f32[B,V].
    u: f32[B] in [0, 1), of 23 bits: the probability of a token rarer than
      1.2e-7 is quantised to steps of that; the mass of a tail is exact.

  Returns:
    token i32[B]; its log-prob f32[B], after temperature and truncation.
  """
  if sampling.temperature == 0:
    return jnp.argmax(logits, -1).astype(jnp.int32), jnp.zeros(len(logits))
  z = logits if sampling.temperature == 1 else logits / sampling.temperature
  if sampling.top_k or sampling.top_p < 1:
    z = truncate(z, sampling)
  top = z.max(-1, keepdims=True)
  e = jnp.exp(z - top)
  b, v = e.shape
  # The number of blocks is a power of two: a vocabulary sharded over `tensor`
  # stays sharded.
  blocks = 1 << (v.bit_length() // 2)
  width = -(-v // blocks)
  e = jnp.pad(e, ((0, 0), (0, blocks * width - v))).reshape(b, blocks, width)
  mass = e.sum(-1)
  cumulative = jnp.cumsum(mass, -1)
  target = u[:, None] * cumulative[:, -1:]
  block = _with_mass(mass, (cumulative <= target).sum(-1))
  take = lambda x, i: jnp.take_along_axis(x, i[:, None], axis=1)[:, 0]
  before = take(cumulative, block) - take(mass, block)
  inside = jnp.take_along_axis(e, block[:, None, None], axis=1)[:, 0]
  index = (jnp.cumsum(inside, -1) <= target - before[:, None]).sum(-1)
  index = _with_mass(inside, index)
  token = (block * width + index).astype(jnp.int32)
  logp = jnp.log(take(inside, index)) - jnp.log(mass.sum(-1))
  return token, logp


def _with_mass(x, i):
  """Index of each row's first positive entry from i on, else of its last one.

  Rounded sums may end on an entry without mass, and u < 1 may still round up
  to the total mass.
  """
  n = x.shape[-1]
  i = jnp.minimum(i, n - 1 - jnp.argmax(x[:, ::-1] > 0, -1))
  return jnp.argmax((x > 0) & (jnp.arange(n)[None] >= i[:, None]), -1)


def branch(
  logits: jax.Array, rank: jax.Array | None, sampling: Sampling
) -> tuple[jax.Array, jax.Array]:
  """The token of each row's rank, 0 the most likely; returned as by `draw`.

  Of equally likely tokens lower ids come first.

  Args:
    logits: f32[B,V].
    rank: i32[B], below sampling.branch, which is at most V; None: all 0.
  """
  if rank is None:
    token = jnp.argmax(logits, -1)
  else:
    order = jax.lax.top_k(logits, sampling.branch)[1]
    token = jnp.take_along_axis(order, rank[:, None], axis=1)[:, 0]
  z = logits / sampling.temperature
  written = jnp.take_along_axis(z, token[:, None], axis=1)[:, 0]
  return token.astype(jnp.int32), written - jax.nn.logsumexp(z, -1)


def uniforms(key: jax.Array, prompts: int, group: int, n: int) -> jax.Array:
  """Uniform numbers f32[B,n] of one key, or of keys [P] (see `sample`)."""
  if key.ndim:
    u = jax.vmap(lambda k: jax.random.uniform(k, (group, n)))(key)
    u = u.reshape(prompts * group, n)
  else:
    u = jax.random.uniform(key, (prompts * group, n))
  return nn.with_logical_constraint(u, ('batch', None))  # sliced every step


def initial_state(u: jax.Array) -> dict[str, jax.Array]:
  """The state of `sample_step` before the first token, from uniforms [B,N]."""
  b, n = u.shape
  return {
    'u': u,
    'tokens': jnp.zeros((b, n), jnp.int32),
    'logp': jnp.zeros((b, n), jnp.float32),
    'length': jnp.zeros((b,), jnp.int32),
    'done': jnp.zeros((b,), bool),
    'last': jnp.zeros((b,), jnp.int32),
    'i': jnp.zeros((), jnp.int32),
  }


def sample_step(
  logits: jax.Array,
  state: dict[str, Any],
  *,
  sampling: Sampling,
  rank: jax.Array | None = None,
) -> dict[str, Any]:
  """Samples the tokens at index i and writes them into the state.

  Args:
    rank: see `branch`, for the first token.
  """
  i = state['i']
  if sampling.branch:
    token, logp = branch(logits, rank, sampling)
  else:
    u = jax.lax.dynamic_index_in_dim(state['u'], i, 1, False)
    token, logp = draw(logits, u, sampling)
  live = ~state['done']
  token = jnp.where(live, token, 0)
  write = lambda to, x: jax.lax.dynamic_update_slice_in_dim(
    to, x[:, None], i, 1
  )
  ends = jnp.array(sampling.end_ids, jnp.int32)
  ended = live & (token[:, None] == ends[None]).any(-1)
  return state | {
    'tokens': write(state['tokens'], token),
    'logp': write(state['logp'], jnp.where(live, logp, 0.0)),
    'length': state['length'] + live,
    'done': state['done'] | ended,
    'last': token,
    'i': i + 1,
  }


class Decoding(NamedTuple):
  """A batch between its first token and its last, on the devices.

  `prefix`: keys and values of the prompts, a pair for each layer, and their
  lengths i32[P]. `state`: of `sample_step`, with the KV cache, of the rows that
  are in the batch. `out`: of all B rows, once some have left it.
  """

  prefix: tuple[list[kv_cache.Pair], jax.Array]
  state: dict[str, Any]
  out: dict[str, jax.Array] | None = None


_OUT = ('tokens', 'logp', 'length', 'done')


def begin(params, prompt, length, key, *, model, sampling, group, rank):
  """Prefill, each prompt once, and the first token: a `Decoding`."""
  c = model.config
  p, s = prompt.shape
  b, n = p * group, sampling.max_new_tokens
  positions = jnp.broadcast_to(jnp.arange(s)[None], (p, s))
  tables = layers.rope_tables(positions, c)
  x, kv = sampler_layers.embed_tokens(params, model, prompt), []
  for i, layer in enumerate(params['layers']):
    x, pair = sampler_layers.prefill(model, i, layer, x, tables)
    kv.append(pair)
  last = jnp.take_along_axis(x, (length - 1)[:, None, None], axis=1)[:, 0]
  logits = jnp.repeat(
    sampler_layers.final_logits(params, model, last), group, axis=0
  )
  u = uniforms(key, p, group, n)
  state: dict[str, Any] = initial_state(u) | {
    'row': jnp.arange(b),
    'start': jnp.repeat(length, group),
    'cache': kv_cache.allocate(c, b, n, model.dtype),
  }
  if sampling.branch and rank is None:
    rank = jnp.tile(jnp.arange(group), p)
  state = sample_step(logits, state, sampling=sampling, rank=rank)
  return Decoding((kv, length), state)


def decode(params, at: Decoding, live, *, model, sampling) -> Decoding:
  """Goes on while more than `live` rows have not ended."""
  c, n = model.config, sampling.max_new_tokens
  block = layers.Block(c, model.dtype, model.param_dtype)
  kv, length = at.prefix
  prompt_at = jnp.arange(kv[0][1].shape[2])[None]
  seen = prompt_at < length[:, None]  # [P,S]

  def step(state):
    i = state['i'] - 1  # index of the input token
    tables = layers.rope_tables(state['start'][:, None] + i, c)
    at = jnp.arange(n)
    mask = at <= i
    x = sampler_layers.embed_tokens(params, model, state['last'][:, None])
    caches = []
    for l, layer in enumerate(params['layers']):
      (pk, pv), cache, window = kv[l], state['cache'][l], c.window_of(l)
      seen_here, mask_here, first = seen, mask, 0
      if window:
        first = i - window + 1
        seen_here = seen & (prompt_at - length[:, None] >= first)
        mask_here = mask & (at >= first)
      table = tables[bool(window)]
      q, k, v = block.apply({'params': layer}, x, table, method='project')
      cache = kv_cache.write(cache, kv_cache.lay_out(k, v), i)
      sources = (
        layers.KeysValues(pk, pv, seen_here[:, None, None]),
        *kv_cache.sources(cache, mask_here[None, None, None], i + 1, first),
      )
      y = layers.attend(q, sources)
      x = block.apply({'params': layer}, x, y, method='finish')
      caches.append(cache)
    logits = sampler_layers.final_logits(params, model, x[:, 0])
    return sample_step(logits, state | {'cache': caches}, sampling=sampling)

  state = jax.lax.while_loop(
    lambda t: (t['i'] < n) & ((~t['done']).sum() > live), step, at.state
  )
  return at._replace(state=state)


def _rows(at: Decoding) -> dict[str, jax.Array]:
  """What has been sampled, of all B rows."""
  part = {k: at.state[k] for k in _OUT}
  if at.out is None:
    return part
  row = at.state['row']
  return jax.tree.map(lambda to, x: to.at[row].set(x), at.out, part)


def compact(at: Decoding, size: int, group: int) -> Decoding:
  """The `size` rows that go on, in a smaller batch.

  Args:
    group: rows of a prompt.
  """
  out, state = _rows(at), dict(at.state)
  keep = jnp.argsort(state['done'], stable=True)[:size]
  take = lambda tree, at: jax.tree.map(lambda x: jnp.take(x, at, 0), tree)
  i = state.pop('i')
  state = take(state, keep) | {'i': i}
  # One prompt per row: a row of the first batch has that of its group.
  prompt = keep if at.out is not None else state['row'] // group
  return Decoding(take(at.prefix, prompt), state, out)


def completions(at: Decoding, sampling: Sampling) -> Sampled:
  """The completions so far; Stop.NONE in rows that have not ended."""
  out = _rows(at)
  cut = at.state['i'] >= sampling.max_new_tokens
  going = jnp.where(cut, Stop.LENGTH, Stop.NONE)
  stop = jnp.where(out['done'], Stop.END, going).astype(jnp.int32)
  return Sampled(out['tokens'], out['logp'], out['length'], stop)


@functools.partial(jax.jit, static_argnames=('model', 'sampling', 'group'))
def sample(
  params: transformer.Params,
  prompt: jax.Array,
  length: jax.Array,
  key: jax.Array,
  *,
  model: transformer.Decoder,
  sampling: Sampling,
  group: int = 1,
  rank: jax.Array | None = None,
) -> Sampled:
  """Samples `group` completions of each prompt.

  Args:
    params: the sampler's layout, from `transformer.unstack`.
    prompt: i32[P,S], right-padded.
    length: i32[P], at least 1.
    key: PRNG key. Row b uses u[b, n] at step n, so tokens do not depend on the
      sharding of rows. Or keys [P], one per prompt: then they do not depend on
      the other prompts of the batch either.
    group: samples per prompt.
    rank: i32[B] of the first tokens, with `sampling.branch`; None: the rows of
      a prompt have 0, 1, ..., group - 1.

  Returns:
    `Sampled` with B = P*group rows, those of a prompt adjacent.
  """
  options: dict[str, Any] = {'model': model, 'sampling': sampling}
  at = begin(params, prompt, length, key, group=group, rank=rank, **options)
  for size in sizes(prompt.shape[0] * group, sampling)[1:]:
    at = compact(decode(params, at, size, **options), size, group)
  return completions(decode(params, at, 0, **options), sampling)
