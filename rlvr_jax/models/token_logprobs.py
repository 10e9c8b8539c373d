"""Log-probabilities of rows under a policy: the trainer's side.

The sampler returns the same numbers for the tokens that it drew; the gap is a
metric of every run.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlvr_jax.models import sharding, transformer
from rlvr_jax.ops import logprob


class Outputs(NamedTuple):
  """What a policy says of the tokens of rows: f32[B,T], 0 outside the mask."""

  logp: jax.Array  # log-prob of the token, nats
  entropy: jax.Array  # of the distribution that it came from, nats
  value: jax.Array | None = None  # critic's, of the state before the token
  certainty: jax.Array | None = None  # KL(U || p), nats
  divergence: jax.Array | None = None  # KL(teacher || p), nats


def token_logprobs(
  params, tokens, *, model, temperature: float = 1.0, chunk: int = 1024
):
  """log p(tokens[:, t] | tokens[:, :t]) and entropy there, in nats.

  Args:
    params: parameters in the training layout.
    tokens: i32[B,T], right-padded; values at padding mean nothing.
    model: `transformer.Decoder`.
    temperature: logits are divided by it, as the sampler's are.
    chunk: rows of logits [chunk, V] that exist at a time.

  Returns:
    logp f32[B,T], entropy f32[B,T]; both 0 at index 0.
  """
  (hidden,) = model.apply({'params': params}, tokens)
  logp, entropy = _by_shards(
    functools.partial(logprob.from_hidden, temperature=temperature),
    (hidden[:, :-1], transformer.head_weight(params), tokens[:, 1:]),
    chunk,
  )
  pad = lambda x: jnp.pad(x, ((0, 0), (1, 0)))
  return pad(logp), pad(entropy)


def _by_shards(f, args, chunk):
  """f(*args) of `ops/logprob.py`; on a mesh, each shard of the rows by itself.

  Arguments alternate: rows, a head, rows, a head. A shard has its own copy of
  a head, gathered over fsdp once; the head's gradients are then added over
  shards once, not after each chunk.
  """
  parts = sharding.batch_shards_in_use()
  f = functools.partial(f, chunk=max(chunk // parts, 1))
  hidden = args[0]
  if parts == 1 or hidden.ndim != 3 or len(hidden) % parts:
    return f(*args)
  put = nn.with_logical_constraint

  def cut(x):
    names = ('batch', None, None, 'act_embed')[: x.ndim + 1]
    return put(x.reshape(parts, -1, *x.shape[1:]), names)

  def copy(head):
    heads = jnp.broadcast_to(head[None], (parts, *head.shape))
    return put(heads, ('batch', 'vocab', 'act_embed'))

  out = jax.vmap(f)(*(copy(x) if i % 2 else cut(x) for i, x in enumerate(args)))
  shape = hidden.shape[:2]
  return jax.tree.map(lambda x: x.reshape(shape), out)


def _start(mask, group, max_prompt):
  """i32[P]: where the rows of each group stop being the same."""
  t = mask.shape[1]
  first = jnp.where(mask.any(-1), jnp.argmax(mask, -1), t)
  return jnp.clip(first.reshape(-1, group).min(-1), 1, max_prompt)


def span(mask, group: int, max_prompt: int):
  """i32[]: positions of each group's prompt and of its rows after that, up to
  the last masked token; none of a group without such a token."""
  t = mask.shape[1]
  start = _start(mask, group, max_prompt)
  end = jnp.where(mask.any(-1), t - jnp.argmax(mask[:, ::-1], -1), 0)
  rows = jnp.maximum(end - jnp.repeat(start, group), 0).sum()
  live = mask.reshape(-1, group * t).any(-1)
  return rows + jnp.where(live, start, 0).sum()


class _View(NamedTuple):
  """Rows as the model wants them, and the way back."""

  prompt: jax.Array  # i32[P,S]
  rows: transformer.Continuations
  slot: jax.Array | None  # packed: positions that pass through the layers
  before: Callable  # the model's hidden states -> those before each goal
  goal: jax.Array  # the tokens to predict: [B,N], or a packed list [M]
  spread: Callable  # something of each goal -> [B,T], 0 outside the mask


def _view(tokens, mask, group, max_prompt, capacity) -> _View:
  b, t = tokens.shape
  n = t - max_prompt
  start = _start(mask, group, max_prompt)  # [P]
  prompt = tokens[::group, :max_prompt]
  column = jnp.repeat(start, group)[:, None] + jnp.arange(n)[None]  # [B,N]
  index = jnp.minimum(column, t - 1)
  take = lambda x: jnp.take_along_axis(x, index, axis=1)
  targets, wanted = take(tokens), take(mask) & (column < t)

  # Row n predicts from its n-1-th input; the first comes from the prompt.
  m = max(n - 1, 1)
  rows = transformer.Continuations(targets[:, :m], column[:, :m], start)

  def back(x):
    """[B,N] -> [B,T]."""
    at = jnp.arange(t)[None] - jnp.repeat(start, group)[:, None]
    x = jnp.take_along_axis(x, jnp.clip(at, 0, n - 1), axis=1)
    return jnp.where(mask & (at >= 0) & (at < n), x, 0.0)

  if capacity is None:

    def before(h_prompt, h_rows):
      last = jnp.take_along_axis(h_prompt, (start - 1)[:, None, None], axis=1)
      hidden = jnp.concatenate(
        [jnp.repeat(last, group, axis=0), h_rows[:, : n - 1]], axis=1
      )
      return nn.with_logical_constraint(hidden, ('batch', None, 'act_embed'))

    return _View(prompt, rows, None, before, targets, back)

  # Causal: a position is needed if any later token of its row is wanted.
  later = jnp.cumsum(wanted[:, ::-1], -1)[:, ::-1] > 0
  later = jnp.pad(later[:, 1:], ((0, 0), (0, m - (n - 1))))
  live = wanted.reshape(-1, group * n).any(-1)
  shared = live[:, None] & (jnp.arange(max_prompt)[None] < start[:, None])
  need = jnp.concatenate([shared.reshape(-1), later.reshape(-1)])
  slot = jnp.nonzero(need, size=capacity, fill_value=need.size)[0]
  size = min(capacity, b * n)
  which = jnp.nonzero(wanted.reshape(-1), size=size, fill_value=b * n)[0]
  row, col = jnp.divmod(jnp.minimum(which, b * n - 1), n)
  source = jnp.where(
    col == 0,
    row // group * max_prompt + start[row // group] - 1,
    shared.size + row * m + jnp.maximum(col - 1, 0),
  )
  place = jnp.cumsum(need)[source] - 1
  goal = targets.reshape(-1)[jnp.minimum(which, b * n - 1)]
  before = lambda hidden: jnp.take(hidden[0], place, axis=0, mode='clip')

  def unpack(x):
    x = jnp.zeros((b * n,), x.dtype).at[which].set(x, mode='drop')
    return back(x.reshape(b, n))

  return _View(prompt, rows, slot, before, goal, unpack)


def group_outputs(
  params,
  tokens,
  mask,
  *,
  model,
  temperature: float,
  group: int,
  max_prompt: int,
  chunk: int = 1024,
  capacity: int | None = None,
  certainty: bool = False,
  teacher: tuple | None = None,
) -> Outputs:
  """`token_logprobs` where `mask` holds, 0 elsewhere, for less work.

  Rows of a group share everything before their first sampled token: that is
  computed once per group. With `capacity`, only positions that lead to a
  masked token pass through the layers and the head, in one flat list.

  Args:
    tokens: i32[B,T], B = P*group, the rows of a group adjacent.
    mask: bool[B,T], sampled tokens that count.
    group: rows per prompt.
    max_prompt: S; prompts have at most S tokens and rows at most T-S after
      their prompt.
    capacity: None, or a number that is at least `span` of the mask.
    certainty: whether to compute it.
    teacher: (model, params) of the policy to compute the divergence from.

  Returns:
    `Outputs`; `value` where the model has a value head.
  """
  view = _view(tokens, mask, group, max_prompt, capacity)

  def states(model, params):
    run = functools.partial(model.apply, {'params': params})
    return view.before(*run(view.prompt, view.rows, slot=view.slot))

  def read(f, *args):
    f = functools.partial(f, temperature=temperature)
    return jax.tree.map(view.spread, _by_shards(f, args, chunk))

  hidden, head = states(model, params), transformer.head_weight(params)
  logp, entropy = read(logprob.from_hidden, hidden, head, view.goal)
  out = Outputs(logp, entropy)
  if model.value_head:
    out = out._replace(value=view.spread(transformer.value(params, hidden)))
  if certainty:
    out = out._replace(certainty=read(logprob.self_certainty, hidden, head))
  if teacher is not None:
    other = states(*teacher), transformer.head_weight(teacher[1])
    apart = read(logprob.divergence, hidden, head, *other)
    out = out._replace(divergence=apart)
  return out
