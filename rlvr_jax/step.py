"""One update: micro-batches, gradient sums, one division, the optimiser."""

import functools
import math

import jax
import jax.numpy as jnp
import optax

from rlvr_jax import algorithm as algorithms
from rlvr_jax import micro, optim, sharding, types
from rlvr_jax.codes import Stop
from rlvr_jax.ops import masked
from rlvr_jax.ops import surrogate as surrogates
from rlvr_jax.ops.ratio import Ratio, divide


def prepare(params, batch, reward, *, algorithm, model, temperature, shapes):
  """What the trainer's own view of a batch adds to it before its updates.

  With a correction, logp_old becomes the trainer's, and the advantage is
  weighted by its distance from the sampler's (every surrogate is proportional
  to the advantage). With a critic, advantages and returns come from its values
  by GAE.

  Args:
    reward: f32[B,T], of each turn at its last token. For a critic.

  Returns:
    the batch; dict of f32[] metrics, the sampler-trainer gap among them.
  """
  out = micro.forward(
    params, batch, model=model, temperature=temperature, shapes=shapes
  )
  mask, tokens = batch.mask, jnp.maximum(masked.count(batch.mask), 1.0)
  metrics = {}
  if algorithm.critic is not None:
    critic = algorithm.critic
    adv, returns = jax.vmap(critic.gae)(reward, out.value, mask)
    error = masked.variance(returns - out.value, mask)
    spread = masked.variance(returns, mask)
    metrics |= {
      'critic/value_mean': jnp.sum(out.value) / tokens,
      'critic/return_mean': jnp.sum(returns) / tokens,
      'critic/explained_variance': jnp.where(
        spread > 0, 1 - error / jnp.where(spread > 0, spread, 1.0), jnp.nan
      ),
    }
    if critic.whiten:
      adv = masked.whiten(adv, mask)
    batch = batch.replace(adv=adv, value=out.value, returns=returns)
  if algorithm.correction is not None:
    weight = algorithm.correction(out.logp, batch.logp_old, mask)
    gap = jnp.abs(out.logp - batch.logp_old) * mask
    metrics |= {
      'sampler_trainer/weight_mean': jnp.sum(weight) / tokens,
      'sampler_trainer/logp_diff_mean': jnp.sum(gap) / tokens,
      'sampler_trainer/logp_diff_max': jnp.max(gap),
    }
    batch = batch.replace(adv=batch.adv * weight, logp_old=out.logp)
  return batch, metrics


def gradients(
  params,
  batch,
  *,
  algorithm,
  model,
  temperature,
  trainable,
  shapes,
  teacher=None,
):
  """Loss, metrics and the gradient of the whole batch.

  Micro-batches of groups that carry gradient (a non-zero advantage, or a term
  of the loss without one) are visited; the others would add exactly 0. Every
  sum is divided once, by the denominator of the whole batch, so that neither
  the number of micro-batches nor skipping changes the result. For the same
  reason a surrogate that selects tokens by statistics of the batch makes its
  choice before: one more forward pass.

  Args:
    teacher: (model, params): the loss is the divergence from it.

  Returns:
    loss f32[]; dict of `Ratio`s; gradient, a flat dict (see `optim.split`).
  """
  trained, frozen = optim.split(params, trainable)
  den = algorithms.loss_denominator(algorithm, batch.mask)
  everywhere = algorithms.reaches_every_token(algorithm)
  useful = batch.mask if everywhere else batch.mask & (batch.adv != 0)
  choose = surrogates.choose(algorithm.surrogate)
  if choose is not None:
    now = micro.forward(
      params, batch, model=model, temperature=temperature, shapes=shapes
    )
    chosen = choose(now.logp, batch.logp_old, batch.adv, batch.mask)
    batch = batch.replace(chosen=chosen)
  live = micro.per_group(useful, shapes)
  part, count = micro.micro_batches(batch, live, shapes)

  def objective(trained, rows, capacity):
    out = micro.outputs(
      optim.join(trained, frozen),
      rows,
      capacity,
      model=model,
      temperature=temperature,
      shapes=shapes,
      teacher=teacher,
    )
    loss, metrics = algorithms.loss(
      algorithm,
      out.logp,
      rows,
      entropy=out.entropy,
      value=out.value,
      divergence=out.divergence,
    )
    tokens = rows.mask.sum().astype(jnp.float32)
    out = jax.lax.stop_gradient(out)
    gap = jnp.abs(out.logp - rows.logp_old) * rows.mask
    metrics = metrics | {
      'entropy': Ratio(out.entropy.sum(), tokens),
      'sampler_trainer/logp_diff_mean': Ratio(gap.sum(), tokens),
    }
    return divide(Ratio(loss.num, den)), (metrics, gap.max())

  def grad(trained, rows):
    run = functools.partial(
      jax.value_and_grad(objective, has_aux=True), trained, rows
    )
    return micro.packed(run, rows, shapes)

  shape = jax.eval_shape(grad, trained, jax.eval_shape(part, 0))
  zeros = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
  (loss0, (metrics0, gap0)), grads0 = zeros(shape)
  # Summed in float32: many small terms would vanish in bfloat16.
  grads0 = jax.tree.map(lambda x: x.astype(jnp.float32), grads0)

  def body(state):
    i, loss, metrics, gap, grads = state
    (loss_i, (metrics_i, gap_i)), grads_i = grad(trained, part(i))
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
  shapes: micro.Shapes,
  teacher=None,
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
    teacher=teacher,
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
  """[P,G,T] -> rows [B,T]. `mask_truncated` masks rows cut by the limit.

  They leave the loss and its denominator; in their group's statistics, which
  `adv` comes from, they stay. Of a dialogue the last message's stop counts, for
  the whole row.
  """
  mask = rollout.turn >= 0
  if mask_truncated:
    mask = mask & (rollout.stop != Stop.LENGTH)[..., None]
  return types.Batch(
    tokens=rows(rollout.tokens),
    mask=rows(mask),
    adv=rows(adv),
    logp_old=rows(rollout.logp),
    logp_ref=None,
  )


def rows(x):
  """[P,G,T] -> [B,T]"""
  return x.reshape(math.prod(x.shape[:2]), -1)
