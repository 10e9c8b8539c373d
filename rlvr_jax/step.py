"""One update: micro-batches, gradient sums, one division, the optimiser."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rlvr_jax import algorithm as algorithms
from rlvr_jax import logprobs, optim, sharding, types
from rlvr_jax.codes import Stop
from rlvr_jax.ops.ratio import Ratio, divide


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


def _packed(f, micro, shapes: Shapes):
  """f(capacity) with the least capacity that holds the micro-batch.

  Gradients belong inside f: to differentiate the choice would keep room for
  what every branch saves.
  """
  if not shapes.pack:
    return f(None)
  sizes = capacities(shapes, micro.tokens.shape[1] - shapes.max_prompt)
  span = logprobs.span(micro.mask, shapes.group, shapes.max_prompt)
  branch = jnp.searchsorted(jnp.array(sizes), span)
  return jax.lax.switch(branch, [functools.partial(f, n) for n in sizes])


def _micro_logprobs(params, micro, capacity, *, model, temperature, shapes):
  return logprobs.group_logprobs(
    params,
    micro.tokens,
    micro.mask,
    model=model,
    temperature=temperature,
    group=shapes.group,
    max_prompt=shapes.max_prompt,
    chunk=shapes.chunk,
    capacity=capacity,
  )


def _micro_batches(batch: types.Batch, live, shapes: Shapes):
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


def _per_group(x, shapes):
  return x.reshape(-1, shapes.group, x.shape[-1]).any((-1, -2))


def reference_logprobs(params, batch, *, model, temperature, shapes):
  """f32[B,T]: `batch.tokens` under other weights, 0 outside the mask."""
  batch = batch.replace(logp_ref=None)
  live = _per_group(batch.mask, shapes)
  micro, count = _micro_batches(batch, live, shapes)
  order = jnp.argsort(~live, stable=True)
  rows = shapes.groups_per_micro_batch * shapes.group

  def body(state):
    i, out = state
    rows_i = micro(i)
    logp = _packed(
      lambda capacity: _micro_logprobs(
        params,
        rows_i,
        capacity,
        model=model,
        temperature=temperature,
        shapes=shapes,
      )[0],
      rows_i,
      shapes,
    )
    return i + 1, jax.lax.dynamic_update_slice_in_dim(out, logp, i * rows, 0)

  zeros = jnp.zeros(batch.tokens.shape, jnp.float32)
  _, out = jax.lax.while_loop(lambda s: s[0] < count, body, (0, zeros))
  group = jnp.arange(shapes.group)[None]
  back = jnp.argsort(order)[:, None] * shapes.group + group
  return jnp.take(out, back.reshape(-1), axis=0)


def gradients(
  params, batch, *, algorithm, model, temperature, trainable, shapes
):
  """Loss, metrics and the gradient of the whole batch.

  Micro-batches of groups that carry gradient (a non-zero advantage, or a kl)
  are visited; the others would add exactly 0. Every sum is divided once, by
  the denominator of the whole batch, so that neither the number of
  micro-batches nor skipping changes the result.

  Returns:
    loss f32[]; dict of `Ratio`s; gradient, a flat dict (see `optim.split`).
  """
  trained, frozen = optim.split(params, trainable)
  den = algorithms.loss_denominator(algorithm, batch.mask)
  useful = batch.mask if algorithm.kl else batch.mask & (batch.adv != 0)
  live = _per_group(useful, shapes)
  micro, count = _micro_batches(batch, live, shapes)

  def objective(trained, rows, capacity):
    logp, entropy = _micro_logprobs(
      optim.join(trained, frozen),
      rows,
      capacity,
      model=model,
      temperature=temperature,
      shapes=shapes,
    )
    loss, metrics = algorithms.loss(algorithm, logp, rows)
    tokens = rows.mask.sum().astype(jnp.float32)
    gap = jax.lax.stop_gradient(jnp.abs(logp - rows.logp_old) * rows.mask)
    metrics = metrics | {
      'entropy': Ratio(jax.lax.stop_gradient(entropy).sum(), tokens),
      'sampler_trainer/logp_diff_mean': Ratio(gap.sum(), tokens),
    }
    return divide(Ratio(loss.num, den)), (metrics, gap.max())

  def grad(trained, rows):
    run = functools.partial(
      jax.value_and_grad(objective, has_aux=True), trained, rows
    )
    return _packed(run, rows, shapes)

  shape = jax.eval_shape(grad, trained, jax.eval_shape(micro, 0))
  zeros = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
  (loss0, (metrics0, gap0)), grads0 = zeros(shape)
  # Summed in float32: many small terms would vanish in bfloat16.
  grads0 = jax.tree.map(lambda x: x.astype(jnp.float32), grads0)

  def body(state):
    i, loss, metrics, gap, grads = state
    (loss_i, (metrics_i, gap_i)), grads_i = grad(trained, micro(i))
    add = lambda a, b: jax.tree.map(jnp.add, a, b)
    return (
      i + 1,
      loss + loss_i,
      add(metrics, metrics_i),
      jnp.maximum(gap, gap_i),
      add(grads, grads_i),
    )

  start = (jnp.zeros((), jnp.int32), loss0, metrics0, gap0, grads0)
  _, loss, metrics, gap, grads = jax.lax.while_loop(
    lambda s: s[0] < count, body, start
  )
  grads = jax.tree.map(lambda g, x: g.astype(x.dtype), grads, trained)
  metrics['sampler_trainer/logp_diff_max'] = Ratio(
    gap, (count > 0).astype(jnp.float32)
  )
  metrics['advantage/nonzero_frac'] = Ratio(
    (batch.mask & (batch.adv != 0)).sum().astype(jnp.float32),
    batch.mask.sum().astype(jnp.float32),
  )
  return loss, metrics, grads


def update(
  state: types.TrainState,
  batch: types.Batch,
  *,
  algorithm,
  model,
  tx,
  schedule,
  temperature: float,
  trainable: str,
  shapes: Shapes,
):
  """One optimiser step on a batch.

  A loss or gradient that is not finite leaves parameters and optimiser state
  as they were; `update_skipped` is 1 then. So does a batch without any
  gradient (`batch_empty`): AdamW would still move by its momentum.

  Returns:
    the new state; dict of f32[] metrics. Means over no tokens are NaN.
  """
  loss, ratios, grads = gradients(
    state.params,
    batch,
    algorithm=algorithm,
    model=model,
    temperature=temperature,
    trainable=trainable,
    shapes=shapes,
  )
  norm = optax.tree.norm(grads)
  finite = jnp.isfinite(loss) & jnp.isfinite(norm)
  empty = norm == 0
  apply = finite & ~empty
  trained, frozen = optim.split(state.params, trainable)
  updates, opt_state = tx.update(grads, state.opt_state, trained)
  moved = optax.apply_updates(trained, updates)
  choose = lambda new, old: jax.tree.map(
    lambda a, b: jnp.where(apply, a, b), new, old
  )
  metrics = {
    k: jnp.where(r.den == 0, jnp.nan, divide(r)) for k, r in ratios.items()
  }
  metrics |= {
    'loss': loss,
    'grad_norm': norm,
    'learning_rate': jnp.asarray(schedule(_applied(state)), jnp.float32),
    'update_skipped': (~finite).astype(jnp.float32),
    'batch_empty': empty.astype(jnp.float32),
  }
  state = types.TrainState(
    step=state.step + 1,
    params=optim.join(choose(moved, trained), frozen),
    opt_state=choose(opt_state, state.opt_state),
    key=state.key,
  )
  return state, metrics


def _applied(state):
  """i32[]: updates that moved the parameters; the schedule counts these."""
  return optax.tree_utils.tree_get_all_with_path(state.opt_state, 'count')[0][1]


def abstract_state(model, tx, trainable: str, mesh) -> types.TrainState:
  """The state's shapes and shardings; moments lie where their parameter is."""
  shapes, shardings = sharding.params_shardings(model, mesh)
  params = jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    shapes,
    shardings,
  )
  trained, _ = optim.split(params, trainable)
  alone = sharding.replicated(mesh)

  def place(path, leaf):
    keys = [p.key for p in path if isinstance(p, jax.tree_util.DictKey)]
    same = [trained[k].sharding for k in keys if k in trained]
    where = same[0] if same else alone
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  opt_state = jax.tree_util.tree_map_with_path(
    place, jax.eval_shape(tx.init, trained)
  )
  key = jax.eval_shape(jax.random.key, 0)
  return types.TrainState(
    step=jax.ShapeDtypeStruct((), jnp.int32, sharding=alone),
    params=params,
    opt_state=opt_state,
    key=jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=alone),
  )


def shardings_of(abstract):
  return jax.tree.map(lambda x: x.sharding, abstract)


def new_state(params, seed: int, *, tx, trainable: str, abstract):
  """The state of a run that starts. `params` are donated."""

  def make(params):
    return types.TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=tx.init(optim.split(params, trainable)[0]),
      key=jax.random.key(seed),
    )

  return jax.jit(make, out_shardings=shardings_of(abstract), donate_argnums=0)(
    params
  )


def flatten(rollout: types.Rollout, adv, mask_truncated: bool) -> types.Batch:
  """[P,G,T] -> rows [B,T]. `mask_truncated` drops rows cut by the limit."""
  b = math.prod(rollout.tokens.shape[:2])
  flat = lambda x: x.reshape(b, -1)
  mask = rollout.turn >= 0
  if mask_truncated:
    mask = mask & (rollout.stop != Stop.LENGTH)[..., None]
  return types.Batch(
    tokens=flat(rollout.tokens),
    mask=flat(mask),
    adv=flat(adv),
    logp_old=flat(rollout.logp),
    logp_ref=None,
  )
