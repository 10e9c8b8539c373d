"""One update: micro-batches, gradient sums, one division, the optimiser."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.learner import optimizer
from rlvr_jax.models import micro_batch, sharding
from rlvr_jax.ops import masked
from rlvr_jax.ops import surrogate as surrogates
from rlvr_jax.ops.ratio import Ratio, divide

# A parameter that grows beyond it ends in products that float32 cannot hold:
# an MLP multiplies three of them and a norm's scale. Of models in use the
# largest, biases of keys, are of some hundreds.
LARGEST = 1e4


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
  out = micro_batch.forward(
    params, batch, model=model, temperature=temperature, shapes=shapes
  )
  mask, tokens = batch.mask, masked.count(batch.mask)
  tokens = jnp.where(tokens == 0, jnp.nan, tokens)  # a mean over none is NaN
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
    gap = jnp.where(mask, jnp.abs(out.logp - batch.logp_old), 0.0)
    metrics |= {
      'sampler_trainer/weight_mean': jnp.sum(weight) / tokens,
      'sampler_trainer/logp_diff_mean': jnp.sum(gap) / tokens,
      'sampler_trainer/logp_diff_max': jnp.max(gap) + 0 * tokens,
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
  look=True,
):
  """Loss, metrics and the gradient of the whole batch.

  Micro-batches of groups that carry gradient (a non-zero advantage, or a term
  of the loss without one) are visited; the others would add exactly 0. Every
  sum is divided once, by the denominator of the whole batch, so that neither
  the number of micro-batches nor skipping changes the result. For the same
  reason a surrogate that selects tokens by statistics of the batch makes its
  choice before: one more forward pass.

  Metrics are over all trained tokens. Groups that were not visited pass
  forward for them, without gradient, unless that pass was made for the choice:
  about a third of what they would cost to train.

  Args:
    teacher: (model, params): the loss is the divergence from it.
    look: bool[]; without it that pass is left out, and where it was needed the
      metrics are means over nothing: never over the visited groups alone.

  Returns:
    loss f32[]; dict of `Ratio`s; gradient, a flat dict (see `optimizer.split`), in
    float32.
  """
  trained, frozen = optimizer.split(params, trainable)
  den = algorithms.loss_denominator(algorithm, batch.mask)
  everywhere = algorithms.reaches_every_token(algorithm)
  useful = batch.mask if everywhere else batch.mask & (batch.adv != 0)
  forward = functools.partial(
    micro_batch.forward,
    params,
    model=model,
    temperature=temperature,
    shapes=shapes,
  )
  choose, now = surrogates.choose(algorithm.surrogate), None
  if choose is not None:
    now = forward(batch)
    chosen = choose(now.logp, batch.logp_old, batch.adv, batch.mask)
    batch = batch.replace(chosen=chosen)
  live = micro_batch.per_group(useful, shapes)
  part, count = micro_batch.micro_batches(batch, live, shapes)

  def tell(out, rows):
    """loss `Ratio`; (metrics, the largest gap to the sampler)."""
    loss, metrics = algorithms.loss(
      algorithm,
      out.logp,
      rows,
      entropy=out.entropy,
      value=out.value,
      divergence=out.divergence,
    )
    out = jax.lax.stop_gradient(out)
    tokens = masked.count(rows.mask)
    gap = jnp.abs(masked.keep(out.logp - rows.logp_old, rows.mask))
    entropy = masked.keep(out.entropy, rows.mask)
    metrics = metrics | {
      'entropy': Ratio(entropy.sum(), tokens),
      'sampler_trainer/logp_diff_mean': Ratio(gap.sum(), tokens),
    }
    return loss, (metrics, gap.max())

  def objective(trained, rows, capacity):
    out = micro_batch.outputs(
      optimizer.join(trained, frozen),
      rows,
      capacity,
      model=model,
      temperature=temperature,
      shapes=shapes,
      teacher=teacher,
    )
    loss, told = tell(out, rows)
    return divide(Ratio(loss.num, den)), told

  def grad(trained, rows):
    run = functools.partial(
      jax.value_and_grad(objective, has_aux=True), trained, rows
    )
    return micro_batch.packed(run, rows, shapes)

  def merge(told, more):
    (metrics, gap), (metrics_i, gap_i) = told, more
    return jax.tree.map(jnp.add, metrics, metrics_i), jnp.maximum(gap, gap_i)

  shape = jax.eval_shape(grad, trained, jax.eval_shape(part, 0))
  zeros = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
  (loss0, told0), grads0 = zeros(shape)
  # Summed in float32: many small terms would vanish in bfloat16.
  grads0 = jax.tree.map(lambda x: x.astype(jnp.float32), grads0)

  def body(state):
    i, loss, told, grads = state
    (loss_i, told_i), grads_i = grad(trained, part(i))
    grads = jax.tree.map(jnp.add, grads, grads_i)
    return i + 1, loss + loss_i, merge(told, told_i), grads

  start = (jnp.zeros((), jnp.int32), loss0, told0, grads0)
  _, loss, told, grads = jax.lax.while_loop(lambda s: s[0] < count, body, start)
  whole = True  # metrics are of all trained tokens
  if not everywhere and teacher is None:
    left = micro_batch.left_out(live, shapes)[:, None]
    rest = batch.replace(mask=batch.mask & left)
    if now is None:
      whole = look | ~rest.mask.any()
      now = forward(rest.replace(mask=rest.mask & look))
    told = merge(told, tell(now, rest)[1])
  metrics, gap = told
  tokens = masked.count(batch.mask)
  metrics['sampler_trainer/logp_diff_max'] = Ratio(
    gap, (tokens > 0).astype(jnp.float32)
  )
  metrics = {
    k: Ratio(r.num, jnp.where(whole, r.den, 0.0)) for k, r in metrics.items()
  }
  metrics['advantage/nonzero_frac'] = Ratio(
    masked.count(batch.mask & (batch.adv != 0)), tokens
  )
  return loss, metrics, grads


def update(
  state: types.TrainState,
  batches: Sequence[types.Batch],
  *,
  algorithm,
  model,
  tx,
  schedule,
  temperature: float,
  trainable: str,
  shapes: Sequence[micro_batch.Shapes],
  teacher=None,
  look=True,
):
  """One optimiser step on one or several batches; others: see `gradients`.

  The gradient is the sum over the batches, each divided by its own
  denominator; so is the loss. Metrics are means over the tokens of all.

  Parameters and optimiser state stay as they were, and `update_skipped` is 1,
  where one of these is not finite:

  - the loss, or the gradient;
  - what sampler or trainer say of the tokens (log-prob, entropy), also of a
    batch without gradient;
  - what the optimiser makes of the gradient: new parameters, its new state.

  So it is where a parameter grows beyond `LARGEST`: it may be finite, and the
  products of such ones are not. And where a token has a negative advantage, and
  no other could take its place: entropy and gradient are exactly 0, and will be
  for ever. A batch without any gradient (`batch_empty`) changes nothing either:
  AdamW would still move by its momentum.
  `update/moved_frac` is the share of trained parameters that are another
  number now.

  Args:
    batches: rows of different lengths may be in different batches.
    shapes: of each batch.

  Returns:
    the new state; dict of f32[] metrics. Means over no tokens are NaN.
  """
  parts = [
    gradients(
      state.params,
      batch,
      algorithm=algorithm,
      model=model,
      temperature=temperature,
      trainable=trainable,
      shapes=of,
      teacher=teacher,
      look=look,
    )
    for batch, of in zip(batches, shapes, strict=True)
  ]
  loss, ratios, grads = functools.reduce(_add, parts)
  norm, gap = optax.tree.norm(grads), ratios['sampler_trainer/logp_diff_max']
  trained, frozen = optimizer.split(state.params, trainable)
  updates, opt_state = tx.update(grads, state.opt_state, trained)
  moved = optax.apply_updates(trained, updates)
  entropy = ratios['entropy']
  logp_old = [masked.keep(b.logp_old, b.mask) for b in batches]
  told = logp_old, entropy.num, gap.num
  finite = _finite((loss, norm, told, opt_state)) & _sound(moved, trained)
  empty = norm == 0
  unwanted = functools.reduce(
    jnp.logical_or, [(b.mask & (b.adv < 0)).any() for b in batches]
  )
  stuck = empty & unwanted & (entropy.num == 0) & (entropy.den > 0)
  skipped = ~finite | stuck
  apply = ~skipped & ~empty
  choose = lambda new, old: jax.tree.map(
    lambda a, b: jnp.where(apply, a, b), new, old
  )
  metrics = {
    k: jnp.where(r.den == 0, jnp.nan, divide(r)) for k, r in ratios.items()
  }
  metrics |= {
    'loss': loss,
    'grad_norm': norm,
    'learning_rate': jnp.asarray(
      schedule(optimizer.applied(state.opt_state)), jnp.float32
    ),
    'update/moved_frac': apply * _moved(moved, trained),
    'update_skipped': skipped.astype(jnp.float32),
    'batch_empty': empty.astype(jnp.float32),
  }
  state = types.TrainState(
    step=state.step + 1,
    params=optimizer.join(choose(moved, trained), frozen),
    opt_state=choose(opt_state, state.opt_state),
  )
  return state, metrics


def _add(one, other):
  """Sums of what `gradients` returns; of the largest gap, the larger one."""
  name = 'sampler_trainer/logp_diff_max'
  gap = Ratio(*map(jnp.maximum, one[1][name], other[1][name]))
  loss, ratios, grads = jax.tree.map(jnp.add, one, other)
  return loss, ratios | {name: gap}, grads


def _finite(tree):
  """bool[]: no leaf has a NaN or an infinity."""
  return functools.reduce(
    jnp.logical_and, [jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]
  )


def _sound(new, old):
  """bool[]: no parameter is NaN, or grows beyond `LARGEST`."""
  held = lambda a, b: (jnp.abs(a) <= jnp.maximum(LARGEST, jnp.abs(b))).all()
  return functools.reduce(
    jnp.logical_and, jax.tree.leaves(jax.tree.map(held, new, old))
  )


def _moved(new, old):
  """f32[]: the share of elements that differ."""
  # Rows are counted as integers: a float32 cannot count beyond 2^24 by ones.
  rows = lambda a, b: (a != b).sum(-1) if a.ndim else a != b
  count = lambda a, b: rows(a, b).astype(jnp.float32).sum()
  counts = jax.tree.leaves(jax.tree.map(count, new, old))
  # A Python float: 7B parameters are more than an int32 holds.
  return sum(counts) / float(sum(x.size for x in jax.tree.leaves(new)))


def abstract_state(model, tx, trainable: str, mesh) -> types.TrainState:
  """The state's shapes and shardings; moments lie where their parameter is."""
  params = sharding.abstract_params(model, mesh)
  trained, _ = optimizer.split(params, trainable)
  alone = sharding.replicated(mesh)

  def place(path, leaf):
    keys = [p.key for p in path if isinstance(p, jax.tree_util.DictKey)]
    same = [trained[k].sharding for k in keys if k in trained]
    where = same[0] if same else alone
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  opt_state = jax.tree_util.tree_map_with_path(
    place, jax.eval_shape(tx.init, trained)
  )
  return types.TrainState(
    step=jax.ShapeDtypeStruct((), jnp.int32, sharding=alone),
    params=params,
    opt_state=opt_state,
  )


def shardings_of(abstract):
  return jax.tree.map(lambda x: x.sharding, abstract)


def new_state(params, *, tx, trainable: str, abstract):
  """The state of a run that starts. `params` are donated."""

  def make(params):
    return types.TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=tx.init(optimizer.split(params, trainable)[0]),
    )

  return jax.jit(make, out_shardings=shardings_of(abstract), donate_argnums=0)(
    params
  )
