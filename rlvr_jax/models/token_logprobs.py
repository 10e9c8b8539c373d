"""Log-probs, entropies and values of given tokens under a policy (training).

The sampler returns the same log-probs for the tokens that it sampled; their
difference is logged as sampler_trainer/logp_diff_*.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rlvr_jax import types
from rlvr_jax.models import sharding, transformer
from rlvr_jax.ops import distillation, logprob
from rlvr_jax.ops.divergence import Divergence


class Outputs(NamedTuple):
  """Per-token outputs of a policy: f32[B,T], 0 outside the mask."""

  logp: jax.Array  # log-prob of the token, nats
  entropy: jax.Array  # of the next-token distribution there, nats
  value: jax.Array | None = None  # of the state before the token (critic)
  certainty: jax.Array | None = None  # KL(U || p), nats
  gap: jax.Array | None = None  # of the two largest probabilities
  compared: distillation.Comparison | None = None  # with a teacher


def zeros(
  shape: tuple[int, int],
  model: transformer.Decoder,
  *,
  certainty: bool = False,
) -> Outputs:
  """0 for each output that `group_outputs` has without a teacher, [B,T]."""
  some = lambda wanted: jnp.zeros(shape) if wanted else None
  return Outputs(
    some(True),
    some(True),
    value=some(model.value_head),
    certainty=some(certainty),
    gap=some(certainty),
  )


def token_logprobs(
  params: transformer.Params,
  tokens: jax.Array,
  *,
  model: transformer.Decoder,
  temperature: float = 1.0,
  chunk: int = 1024,
) -> tuple[jax.Array, jax.Array]:
  """log p(tokens[:, t] | tokens[:, :t]) and entropy there, in nats.

  Args:
    params: parameters in the training layout.
    tokens: i32[B,T], right-padded; results at padding are meaningless.
    temperature: logits are divided by it, as in the sampler.
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
  """f(*args), f from `ops/logprob.py`; on a mesh, vmapped over shards of rows.

  Arguments alternate: rows, a head, rows, a head. Each shard has its own copy
  of a head, gathered over fsdp once; so the head's gradients are summed over
  shards once, not after each chunk.
  """
  parts = sharding.batch_shards_in_use()
  f = functools.partial(f, chunk=max(chunk // parts, 1))
  hidden = args[0]
  if parts == 1 or hidden.ndim != 3 or len(hidden) % parts:
    return f(*args)
  constrain = nn.with_logical_constraint

  def cut(x):
    names = ('batch', None, None, 'act_embed')[: x.ndim + 1]
    return constrain(x.reshape(parts, -1, *x.shape[1:]), names)

  def copy(head):
    heads = jnp.broadcast_to(head[None], (parts, *head.shape))
    return constrain(heads, ('batch', 'vocab', 'act_embed'))

  out = jax.vmap(f)(*(copy(x) if i % 2 else cut(x) for i, x in enumerate(args)))
  shape = hidden.shape[:2]
  return jax.tree.map(lambda x: x.reshape(shape), out)


def _start(mask, group, max_prompt):
  """i32[P]: first position where the rows of a group may differ, in 1..S."""
  t = mask.shape[1]
  first = jnp.where(mask.any(-1), jnp.argmax(mask, -1), t)
  return jnp.clip(first.reshape(-1, group).min(-1), 1, max_prompt)


def span(
  mask: types.Array,
  group: int,
  max_prompt: int,
  start: jax.Array | None = None,
) -> jax.Array:
  """i32[]: number of positions that `group_outputs` needs with packing.

  Per group with a token in the mask: its prompt once, and each row from there
  to its last token in the mask.

  Args:
    start: i32[P], where the rows of a group part; by default as late as may be.
  """
  t = mask.shape[1]
  start = _start(mask, group, max_prompt) if start is None else start
  end = jnp.where(mask.any(-1), t - jnp.argmax(mask[:, ::-1], -1), 0)
  rows = jnp.maximum(end - jnp.repeat(start, group), 0).sum()
  live = mask.reshape(-1, group * t).any(-1)
  return rows + jnp.where(live, start, 0).sum()


class _View(NamedTuple):
  """Rows as the model's inputs, and the maps from its outputs back to rows."""

  prompt: jax.Array  # i32[P,S]
  rows: transformer.Continuations
  slot: jax.Array | None  # packed: positions that pass through the layers
  before: Callable  # the model's hidden states -> those before each target
  targets: jax.Array  # the tokens to predict: [B,N], or a packed list [M]
  spread: Callable  # a value per target -> [B,T], 0 outside the mask
  grid: Callable  # vectors per target -> [B,N,D], N columns from the start on
  pick: Callable  # the inverse of `grid`


def _view(tokens, mask, group, max_prompt, capacity, start=None) -> _View:
  """The `_View` of rows [B,T]; packed if there is a capacity."""
  b, t = tokens.shape
  n = t - max_prompt
  if start is None:
    start = _start(mask, group, max_prompt)  # [P]
  prompt = tokens[::group, :max_prompt]
  column = jnp.repeat(start, group)[:, None] + jnp.arange(n)[None]  # [B,N]
  index = jnp.minimum(column, t - 1)
  take = lambda x: jnp.take_along_axis(x, index, axis=1)
  targets, wanted = take(tokens), take(mask) & (column < t)

  # Token n of a row is predicted from input n-1; the first from the prompt.
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

    whole = lambda x: x
    return _View(prompt, rows, None, before, targets, back, whole, whole)

  # A position is needed if any later token of its row is in the mask.
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
  targets = targets.reshape(-1)[jnp.minimum(which, b * n - 1)]
  before = lambda hidden: jnp.take(hidden[0], place, axis=0, mode='clip')

  def grid(x):
    out = jnp.zeros((b * n, *x.shape[1:]), x.dtype)
    return out.at[which].set(x, mode='drop').reshape(b, n, *x.shape[1:])

  def pick(x):
    return jnp.take(x.reshape(b * n, -1), which, axis=0, mode='clip')

  spread = lambda x: back(grid(x))
  return _View(prompt, rows, slot, before, targets, spread, grid, pick)


class Teacher(NamedTuple):
  """What a policy is compared with: see `ops.distillation.compare`.

  Attributes:
    models: (model, params) of each; params None: the policy's own, constant.
    shares: of their logits in the teacher's.
    divergence: what is measured.
  """

  models: tuple[tuple[transformer.Decoder, transformer.Params | None], ...]
  shares: tuple[float, ...]
  divergence: Divergence


def teacher_start(
  mask: types.Array, rows: types.TeacherRows, group: int, max_prompt: int
) -> tuple[jax.Array, jax.Array]:
  """(mask of the teacher's rows bool[B,T+C], start i32[B] of their columns).

  The same tokens as those of `mask` and, counted from the start, in the same
  columns as in the student's rows.
  """
  wide = jnp.arange(rows.tokens.shape[1])[None] - rows.shift[:, None]
  inside = (wide >= 0) & (wide < mask.shape[1])
  at = jnp.clip(wide, 0, mask.shape[1] - 1)
  theirs = jnp.take_along_axis(mask, at, axis=1) & inside
  start = jnp.repeat(_start(mask, group, max_prompt), group) + rows.shift
  most = max_prompt + rows.tokens.shape[1] - mask.shape[1]
  return theirs, jnp.clip(start, 1, most)


def states_before(
  params: transformer.Params,
  tokens: types.Array,
  mask: types.Array,
  *,
  model: transformer.Decoder,
  group: int,
  max_prompt: int,
  capacity: int | None,
  start: jax.Array | None = None,
) -> jax.Array:
  """Hidden states from which the tokens in the mask are predicted, [B,N,D].

  Column n is of the token at start + n, N = T - max_prompt. Other arguments as
  for `group_outputs`; `start` as for `span`.
  """
  view = _view(tokens, mask, group, max_prompt, capacity, start)
  states = model.apply(
    {'params': params}, view.prompt, view.rows, slot=view.slot
  )
  return view.grid(view.before(*states))


def group_outputs(
  params: transformer.Params,
  tokens: types.Array,
  mask: types.Array,
  *,
  model: transformer.Decoder,
  temperature: float,
  group: int,
  max_prompt: int,
  chunk: int = 1024,
  capacity: int | None = None,
  certainty: bool = False,
  teacher: Teacher | None = None,
  states: tuple[jax.Array | None, ...] = (),
) -> Outputs:
  """`token_logprobs` where `mask` holds, 0 elsewhere, with less computation.

  Rows of a group share everything before their first sampled token, which is
  computed once per group. With `capacity`, only positions that a token in the
  mask depends on pass through the layers and the head, as one flat list.

  Args:
    tokens: i32[B,T], B = P*group, the rows of a group adjacent.
    mask: bool[B,T], sampled tokens to score.
    group: rows per prompt.
    max_prompt: S; prompts have at most S tokens and rows at most T-S after
      their prompt.
    capacity: None, or a number of at least `span(mask, ...)`.
    certainty: whether to compute certainty and gap.
    teacher: what the policy is compared with.
    states: of each model of the teacher, from `states_before`; None: the
      policy's own.

  Returns:
    `Outputs`; `value` where the model has a value head.
  """
  view = _view(tokens, mask, group, max_prompt, capacity)
  run = functools.partial(model.apply, {'params': params})
  hidden = view.before(*run(view.prompt, view.rows, slot=view.slot))
  head = transformer.head_weight(params)

  def per_token(f, *args):
    f = functools.partial(f, temperature=temperature)
    return jax.tree.map(view.spread, _by_shards(f, args, chunk))

  logp, entropy = per_token(logprob.from_hidden, hidden, head, view.targets)
  out = Outputs(logp, entropy)
  if model.value_head:
    out = out._replace(value=view.spread(transformer.value(params, hidden)))
  if certainty:
    kl, gap = per_token(logprob.certainty, hidden, head)
    out = out._replace(certainty=kl, gap=gap)
  if teacher is not None:
    args = [hidden, head]
    for grid, (_, weights) in zip(states, teacher.models, strict=True):
      args.append(hidden if grid is None else view.pick(grid))
      weights = params if weights is None else weights
      args.append(transformer.head_weight(weights))
    compare = functools.partial(
      distillation.compare,
      divergence=teacher.divergence,
      shares=teacher.shares,
    )
    out = out._replace(compared=per_token(compare, *args, view.targets))
  return out
