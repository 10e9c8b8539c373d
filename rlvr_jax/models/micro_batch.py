"""Splits a batch into micro-batches of groups, packs and scores them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rlvr_jax import types
from rlvr_jax.models import sharding, token_logprobs, transformer


class Shapes(NamedTuple):
  """Static sizes of an update."""

  group: int  # rows per prompt, or of a part of a group
  max_prompt: int  # columns of the prompt; the rest are the completion's
  groups_per_micro_batch: int
  chunk: int  # rows of logits at a time
  pack: bool  # skip padding inside a micro-batch (one device only)
  parts: int = 1  # of each group; each has the prompt anew, as if a group


def capacities(shapes: Shapes, columns: int) -> tuple[int, ...]:
  """The compiled sizes of a packed micro-batch, in tokens, ascending."""
  group = shapes.max_prompt + shapes.group * columns
  full = shapes.groups_per_micro_batch * group
  sizes = {-(-full * k // 8) for k in (2, 3, 4, 5, 6, 8)}  # few: each compiles
  return tuple(sorted(s for s in sizes if s >= min(full, 512)))


def packed(
  f: Callable[[int | None], Any],
  mask: types.Array,
  shapes: Shapes,
  start: jax.Array | None = None,
) -> Any:
  """f(capacity) with the smallest capacity that holds the micro-batch.

  Take gradients inside f: differentiating the switch would allocate the
  residuals of every branch.

  Args:
    mask: bool[B,T] of the micro-batch.
    start: see `token_logprobs.span`.
  """
  if not shapes.pack:
    return f(None)
  sizes = capacities(shapes, mask.shape[1] - shapes.max_prompt)
  span = token_logprobs.span(mask, shapes.group, shapes.max_prompt, start)
  branch = jnp.searchsorted(jnp.array(sizes), span)
  return jax.lax.switch(branch, [functools.partial(f, n) for n in sizes])


def outputs(
  params: transformer.Params,
  micro: types.Batch,
  capacity: int | None,
  *,
  shapes: Shapes,
  **options: Any,
) -> token_logprobs.Outputs:
  """`token_logprobs.group_outputs` of a micro-batch, with its other options."""
  return token_logprobs.group_outputs(
    params,
    micro.tokens,
    micro.mask,
    group=shapes.group,
    max_prompt=shapes.max_prompt,
    chunk=shapes.chunk,
    capacity=capacity,
    **options,
  )


def teacher_states(
  teacher: token_logprobs.Teacher,
  params: transformer.Params,
  micro: types.Batch,
  shapes: Shapes,
) -> tuple[jax.Array | None, ...]:
  """Hidden states of each model of a teacher: `group_outputs`'s `states`.

  Its rows have their own prompts, one for each row, and so their own packing.
  Where it reads the policy's rows by the policy's weights, its states are the
  policy's: None.

  Args:
    params: of the policy.
  """
  rows, mask, tokens, start = micro.teacher, micro.mask, micro.tokens, None
  if rows is not None:
    mask, start = token_logprobs.teacher_start(
      mask, rows, shapes.group, shapes.max_prompt
    )
    tokens = rows.tokens
    shapes = shapes._replace(
      group=1,
      max_prompt=shapes.max_prompt + tokens.shape[1] - micro.tokens.shape[1],
      groups_per_micro_batch=shapes.groups_per_micro_batch * shapes.group,
    )

  def states(model, weights):
    if weights is None and rows is None:
      return None
    run = lambda capacity: token_logprobs.states_before(
      params if weights is None else weights,
      tokens,
      mask,
      model=model,
      group=shapes.group,
      max_prompt=shapes.max_prompt,
      capacity=capacity,
      start=start,
    )
    return jax.lax.stop_gradient(packed(run, mask, shapes, start))

  return tuple(states(*each) for each in teacher.models)


def micro_batches(
  batch: types.Batch, live: jax.Array, shapes: Shapes
) -> tuple[Callable[[jax.Array], types.Batch], jax.Array]:
  """(i -> micro-batch i, number of micro-batches needed), live groups first.

  Args:
    live: bool[P], groups that must be in one of them.

  Raises:
    ValueError: groups_per_micro_batch does not divide the number of groups.
  """
  if len(live) % shapes.groups_per_micro_batch:
    raise ValueError(
      f'{len(live)} groups cannot be split into micro-batches of '
      f'{shapes.groups_per_micro_batch}: groups_per_micro_batch must divide '
      'their number.'
    )
  rows = shapes.groups_per_micro_batch * shapes.group
  order = jnp.argsort(~live, stable=True)
  index = order[:, None] * shapes.group + jnp.arange(shapes.group)[None]
  index = index.reshape(-1)

  def micro(i):
    at = jax.lax.dynamic_slice_in_dim(index, i * rows, rows)
    return jax.tree.map(lambda x: jnp.take(x, at, axis=0), batch)

  count = live.sum().astype(jnp.int32)
  return micro, -(-count // shapes.groups_per_micro_batch)


def left_out(live: jax.Array, shapes: Shapes) -> jax.Array:
  """bool[B]: rows whose group is in none of the `micro_batches`."""
  rank = jnp.argsort(jnp.argsort(~live, stable=True))
  visited = -(-live.sum() // shapes.groups_per_micro_batch)
  return jnp.repeat(
    rank >= visited * shapes.groups_per_micro_batch, shapes.group
  )


def per_group(x: types.Array, shapes: Shapes) -> jax.Array:
  """bool[P]: whether any token of a group is True in x bool[B,T]."""
  return x.reshape(-1, shapes.group, x.shape[-1]).any((-1, -2))


def forward(
  params: transformer.Params,
  batch: types.Batch,
  *,
  model: transformer.Decoder,
  temperature: float,
  shapes: Shapes,
  certainty: bool = False,
) -> token_logprobs.Outputs:
  """Log-probs and entropies of `batch.tokens` f32[B,T], 0 outside the mask."""
  return _each(
    params,
    batch,
    lambda out: out,
    shapes,
    model=model,
    temperature=temperature,
    certainty=certainty,
  )


def values(
  params: transformer.Params,
  batch: types.Batch,
  *,
  model: transformer.Decoder,
  shapes: Shapes,
) -> jax.Array:
  """The value head's values f32[B,T], 0 outside the mask; no logits."""
  value = lambda out: out.value
  return _each(params, batch, value, shapes, model=model, temperature=1.0)


def _each(params, batch, select, shapes, *, model, certainty=False, **options):
  """`select` of the outputs of each micro-batch, put together again."""
  # Only tokens and mask are gathered.
  unused = ('adv', 'logp_old', 'logp_ref', 'chosen', 'value', 'returns')
  unused = (*unused, 'margin', 'taught', 'teacher')
  batch = batch.replace(**dict.fromkeys(unused))
  live = per_group(batch.mask, shapes)
  micro, count = micro_batches(batch, live, shapes)
  order = jnp.argsort(~live, stable=True)
  rows = shapes.groups_per_micro_batch * shapes.group

  def run(i):
    part = micro(i)
    kw = options | dict(model=model, shapes=shapes, certainty=certainty)
    of_size = lambda n: select(outputs(params, part, n, **kw))
    return packed(of_size, part.mask, shapes)

  def body(state):
    i, out = state
    write = lambda to, x: jax.lax.dynamic_update_slice_in_dim(
      to, x, i * rows, 0
    )
    return i + 1, jax.tree.map(write, out, run(i))

  start = select(
    token_logprobs.zeros(batch.tokens.shape, model, certainty=certainty)
  )
  _, out = jax.lax.while_loop(lambda s: s[0] < count, body, (0, start))
  group = jnp.arange(shapes.group)[None]
  back = jnp.argsort(order)[:, None] * shapes.group + group
  return jax.tree.map(lambda x: jnp.take(x, back.reshape(-1), axis=0), out)


@functools.lru_cache(8)
def scorer(
  model: transformer.Decoder,
  mesh: Mesh,
  *,
  temperature: float,
  shapes: Shapes,
  certainty: bool = False,
) -> Callable[[transformer.Params, types.Batch], token_logprobs.Outputs]:
  """The jitted `forward`: (parameters, batch) -> Outputs, rows on `mesh`.

  Equal arguments give the same function, so that it compiles once.
  """
  return jax.jit(
    functools.partial(
      forward,
      model=model,
      temperature=temperature,
      shapes=shapes,
      certainty=certainty,
    ),
    out_shardings=sharding.rows(mesh),
  )


@functools.lru_cache(32)
def value_scorer(
  model: transformer.Decoder, mesh: Mesh, *, shapes: Shapes
) -> Callable[[transformer.Params, types.Batch], jax.Array]:
  """The jitted `values`: (parameters, batch) -> f32[B,T], rows on `mesh`."""
  return jax.jit(
    functools.partial(values, model=model, shapes=shapes),
    out_shardings=sharding.rows(mesh),
  )
