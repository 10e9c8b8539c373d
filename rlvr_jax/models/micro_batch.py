"""A batch in micro-batches: groups of rows, packed, through a policy."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlvr_jax import types
from rlvr_jax.models import sharding, token_logprobs


class Shapes(NamedTuple):
  """Static sizes of an update."""

  group: int  # rows per prompt
  max_prompt: int  # columns of the prompt; the others are the completion's
  groups_per_micro_batch: int
  chunk: int  # rows of logits at a time
  pack: bool  # skip padding inside a micro-batch (one device only)


def capacities(shapes: Shapes, columns: int) -> tuple[int, ...]:
  """Sizes, in tokens, between which a packed micro-batch chooses."""
  group = shapes.max_prompt + shapes.group * columns
  full = shapes.groups_per_micro_batch * group
  sizes = {-(-full * k // 8) for k in (2, 3, 4, 5, 6, 8)}  # each is compiled
  return tuple(sorted(s for s in sizes if s >= min(full, 512)))


def packed(f, micro, shapes: Shapes):
  """f(capacity) with the least capacity that holds the micro-batch.

  Gradients belong inside f: to differentiate the choice would keep room for
  what every branch saves.
  """
  if not shapes.pack:
    return f(None)
  sizes = capacities(shapes, micro.tokens.shape[1] - shapes.max_prompt)
  span = token_logprobs.span(micro.mask, shapes.group, shapes.max_prompt)
  branch = jnp.searchsorted(jnp.array(sizes), span)
  return jax.lax.switch(branch, [functools.partial(f, n) for n in sizes])


def outputs(params, micro, capacity, *, shapes: Shapes, **how):
  """`token_logprobs.group_outputs` of a micro-batch; `how`: model, temperature."""
  return token_logprobs.group_outputs(
    params,
    micro.tokens,
    micro.mask,
    group=shapes.group,
    max_prompt=shapes.max_prompt,
    chunk=shapes.chunk,
    capacity=capacity,
    **how,
  )


def micro_batches(batch: types.Batch, live, shapes: Shapes):
  """(i -> micro-batch i, how many are needed): groups that are live first."""
  if len(live) % shapes.groups_per_micro_batch:
    raise ValueError(
      f'{len(live)} groups cannot be cut into micro-batches of '
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


def left_out(live, shapes: Shapes):
  """bool[B]: the rows of groups that are in none of the `micro_batches`."""
  rank = jnp.argsort(jnp.argsort(~live, stable=True))
  visited = -(-live.sum() // shapes.groups_per_micro_batch)
  return jnp.repeat(
    rank >= visited * shapes.groups_per_micro_batch, shapes.group
  )


def per_group(x, shapes):
  return x.reshape(-1, shapes.group, x.shape[-1]).any((-1, -2))


def forward(
  params, batch, *, model, temperature, shapes, certainty: bool = False
) -> token_logprobs.Outputs:
  """What these weights say of `batch.tokens`: f32[B,T], 0 outside the mask."""
  batch = types.Batch(
    tokens=batch.tokens, mask=batch.mask, adv=None, logp_old=None, logp_ref=None
  )
  live = per_group(batch.mask, shapes)
  micro, count = micro_batches(batch, live, shapes)
  order = jnp.argsort(~live, stable=True)
  rows = shapes.groups_per_micro_batch * shapes.group
  how = dict(
    model=model, temperature=temperature, shapes=shapes, certainty=certainty
  )

  def run(i):
    part = micro(i)
    return packed(lambda n: outputs(params, part, n, **how), part, shapes)

  def body(state):
    i, out = state
    put = lambda to, x: jax.lax.dynamic_update_slice_in_dim(to, x, i * rows, 0)
    return i + 1, jax.tree.map(put, out, run(i))

  zeros = lambda x: jnp.zeros(batch.tokens.shape, x.dtype)
  start = jax.tree.map(zeros, jax.eval_shape(run, 0))
  _, out = jax.lax.while_loop(lambda s: s[0] < count, body, (0, start))
  group = jnp.arange(shapes.group)[None]
  back = jnp.argsort(order)[:, None] * shapes.group + group
  return jax.tree.map(lambda x: jnp.take(x, back.reshape(-1), axis=0), out)


def scorer(model, mesh, *, temperature, shapes, certainty: bool = False):
  """The compiled `forward`: (parameters, batch) -> Outputs, rows on `mesh`."""
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
