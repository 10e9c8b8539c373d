"""Log-probabilities of rows under a policy: the trainer's side.

The sampler returns the same numbers for the tokens that it drew; the gap is a
metric of every run.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlvr_jax import sharding
from rlvr_jax.models import transformer
from rlvr_jax.ops import logprob


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
  logp, entropy = _from_hidden(
    params, hidden[:, :-1], tokens[:, 1:], temperature, chunk
  )
  pad = lambda x: jnp.pad(x, ((0, 0), (1, 0)))
  return pad(logp), pad(entropy)


def _from_hidden(params, hidden, targets, temperature, chunk):
  """`logprob.from_hidden`; on a mesh, each shard of the rows by itself.

  A shard has its own copy of the head, gathered over fsdp once. Gradients of
  the head are then added over shards once, not after each chunk of rows.
  """
  head = transformer.head_weight(params)
  parts = sharding.batch_shards_in_use()
  run = functools.partial(
    logprob.from_hidden, temperature=temperature, chunk=max(chunk // parts, 1)
  )
  if parts == 1 or hidden.ndim != 3 or len(hidden) % parts:
    return run(hidden, head, targets)
  put = nn.with_logical_constraint
  cut = lambda x: x.reshape(parts, -1, *x.shape[1:])
  heads = jnp.broadcast_to(head[None], (parts, *head.shape))
  out = jax.vmap(run)(
    put(cut(hidden), ('batch', None, None, 'act_embed')),
    put(heads, ('batch', 'vocab', 'act_embed')),
    put(cut(targets), ('batch', None, None)),
  )
  return tuple(x.reshape(targets.shape) for x in out)


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


def group_logprobs(
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
):
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

  Returns:
    logp f32[B,T], entropy f32[B,T].
  """
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
  inputs, positions = targets[:, :m], column[:, :m]
  rows = transformer.Rows(inputs, positions, start)
  run = functools.partial(model.apply, {'params': params}, prompt, rows)

  if capacity is None:
    h_prompt, h_rows = run()
    last = jnp.take_along_axis(h_prompt, (start - 1)[:, None, None], axis=1)
    head_in = jnp.concatenate(
      [jnp.repeat(last, group, axis=0), h_rows[:, : n - 1]], axis=1
    )
    head_in = nn.with_logical_constraint(head_in, ('batch', None, 'act_embed'))
    which, goal = None, targets
  else:
    # Causal: a position is needed if any later token of its row is wanted.
    later = jnp.cumsum(wanted[:, ::-1], -1)[:, ::-1] > 0
    later = jnp.pad(later[:, 1:], ((0, 0), (0, m - (n - 1))))
    live = wanted.reshape(-1, group * n).any(-1)
    shared = live[:, None] & (jnp.arange(max_prompt)[None] < start[:, None])
    need = jnp.concatenate([shared.reshape(-1), later.reshape(-1)])
    slot = jnp.nonzero(need, size=capacity, fill_value=need.size)[0]
    (hidden,) = run(slot=slot)
    size = min(capacity, b * n)
    which = jnp.nonzero(wanted.reshape(-1), size=size, fill_value=b * n)[0]
    row, col = jnp.divmod(jnp.minimum(which, b * n - 1), n)
    before = jnp.where(
      col == 0,
      row // group * max_prompt + start[row // group] - 1,
      shared.size + row * m + jnp.maximum(col - 1, 0),
    )
    place = jnp.cumsum(need)[before] - 1
    head_in = jnp.take(hidden[0], place, axis=0, mode='clip')
    goal = targets.reshape(-1)[jnp.minimum(which, b * n - 1)]

  out = _from_hidden(params, head_in, goal, temperature, chunk)

  def spread(x):
    """Back to [B,T]."""
    if which is not None:
      x = jnp.zeros((b * n,), x.dtype).at[which].set(x, mode='drop')
    back = jnp.arange(t)[None] - jnp.repeat(start, group)[:, None]
    x = jnp.take_along_axis(x.reshape(b, n), jnp.clip(back, 0, n - 1), axis=1)
    return jnp.where(mask & (back >= 0) & (back < n), x, 0.0)

  return spread(out[0]), spread(out[1])
