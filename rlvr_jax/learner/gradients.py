"""Gradient accumulation: loss and gradient of a batch, over micro-batches."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.learner import loss as losses
from rlvr_jax.learner import optimizer
from rlvr_jax.models import micro_batch, token_logprobs, transformer
from rlvr_jax.ops import masked
from rlvr_jax.ops import surrogate as surrogates
from rlvr_jax.ops.ratio import Ratio, divide


class Spread(NamedTuple):
  """How the gradient is spread over the N micro-batches of a batch.

  With u_p the gradient of group p, the inner products of different groups say
  how far they agree: `train_step.update` has them from the difference of
  ||sum_i g_i||^2 and sum_i ||g_i||^2, since g_i is the sum of the u_p of
  micro-batch i. Only pairs of groups in different micro-batches are seen.
  All of it adds over batches.

  Attributes:
    squares: f32[] sum_i ||g_i||^2, of the trained parameters.
    live: f32[] L, groups that may have a gradient.
    live_squares: f32[] sum_i L_i^2, L_i of them in micro-batch i.
  """

  squares: jax.Array
  live: jax.Array
  live_squares: jax.Array


def norm_sq(tree: Any) -> jax.Array:
  """f32[]: sum of the squares of all elements."""
  square = lambda x: jnp.sum(jnp.square(x.astype(jnp.float32)))
  return sum(map(square, jax.tree.leaves(tree)), jnp.float32(0))


def gradients(
  params: Any, batch: types.Batch, **options: Any
) -> tuple[jax.Array, dict[str, Ratio], dict[str, jax.Array]]:
  """Loss, metrics and gradient: the first three results of `accumulate`."""
  return accumulate(params, batch, **options)[:3]


def accumulate(
  params: Any,
  batch: types.Batch,
  *,
  algorithm: algorithms.Algorithm,
  model: transformer.Decoder,
  temperature: float,
  trainable: str,
  shapes: micro_batch.Shapes,
  teacher: token_logprobs.Teacher | None = None,
  look: jax.Array | bool = True,
) -> tuple[jax.Array, dict[str, Ratio], dict[str, jax.Array], Spread]:
  """Loss, metrics and gradient of a batch, accumulated over micro-batches.

  Groups without gradient are skipped: those whose advantages are all 0, if no
  other term of the loss reaches them. The loss is a sum over micro-batches,
  divided by the denominator of the whole batch; so neither the number of
  micro-batches nor skipping changes it. A surrogate that selects tokens by
  statistics of the whole batch needs a forward pass of the batch beforehand.

  Metrics cover all trained tokens. The skipped groups' come from a forward
  pass without gradient (about a third of the cost of training them), or from
  the pass that selected tokens.

  Args:
    teacher: of `algorithm.distill`, which judges the tokens of batch.taught.
    look: bool[]; False leaves out the forward pass of skipped groups. If there
      are any, metrics of the policy's outputs then have denominator 0: over
      the trained groups alone they would be biased.

  Returns:
    loss f32[]; metrics as `Ratio`s by name; gradient, float32, a flat dict as
    `optimizer.split` makes it; how it is spread over the micro-batches.
  """
  trained, frozen = optimizer.split(params, trainable)
  den = losses.loss_denominator(algorithm, batch, group=shapes.group)
  scale = losses.taught_scale(algorithm, batch)
  everywhere = losses.reaches_every_token(algorithm)
  has_gradient = losses.may_have_gradient(algorithm, batch)
  forward = functools.partial(
    micro_batch.forward,
    params,
    model=model,
    temperature=temperature,
    shapes=shapes,
  )
  choose, outputs = surrogates.choose(algorithm.surrogate), None
  if choose is not None:
    outputs = forward(batch)
    chosen = choose(outputs.logp, batch.logp_old, batch.adv, batch.mask)
    batch = batch.replace(chosen=chosen)
  live = micro_batch.per_group(has_gradient, shapes)
  part, count = micro_batch.micro_batches(batch, live, shapes)

  def loss_and_metrics(out, rows):
    """loss `Ratio`; (metrics, largest |logp - logp_old|)."""
    loss, metrics = losses.loss(
      algorithm,
      out.logp,
      rows,
      entropy=out.entropy,
      value=out.value,
      compared=out.compared,
      scale=scale,
      group=shapes.group,
    )
    if algorithm.reward_loss is not None:  # none of the tokens is predicted
      none = Ratio(jnp.float32(0), jnp.float32(0))
      unknown = ('entropy', 'sampler_trainer/logp_diff_mean')
      return loss, (metrics | dict.fromkeys(unknown, none), jnp.float32(0))
    out = jax.lax.stop_gradient(out)
    tokens = masked.count(rows.mask)
    gap = jnp.abs(masked.keep(out.logp - rows.logp_old, rows.mask))
    entropy = masked.keep(out.entropy, rows.mask)
    metrics = metrics | {
      'entropy': Ratio(entropy.sum(), tokens),
      'sampler_trainer/logp_diff_mean': Ratio(gap.sum(), tokens),
    }
    return loss, (metrics, gap.max())

  def objective(trained, rows, states, capacity):
    out = micro_batch.outputs(
      optimizer.join(trained, frozen),
      rows,
      capacity,
      model=model,
      temperature=temperature,
      shapes=shapes,
      teacher=teacher,
      states=states,
    )
    loss, metrics = loss_and_metrics(out, rows)
    return divide(Ratio(loss.num, den)), metrics

  def grad(trained, rows):
    states = ()
    if teacher is not None:
      states = micro_batch.teacher_states(teacher, params, rows, shapes)
    run = functools.partial(
      jax.value_and_grad(objective, has_aux=True), trained, rows, states
    )
    return micro_batch.packed(run, rows.mask, shapes)

  def merge(one, other):
    (metrics, gap), (metrics_i, gap_i) = one, other
    return jax.tree.map(jnp.add, metrics, metrics_i), jnp.maximum(gap, gap_i)

  # Which metrics there are, without tracing the model for it.
  rows0 = jax.eval_shape(part, 0)
  out0 = token_logprobs.zeros(rows0.mask.shape, model)
  shapes0 = jax.eval_shape(loss_and_metrics, out0, rows0)[1]
  metrics0 = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes0)
  # Summed in float32: many small terms would vanish in bfloat16.
  grads0 = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), trained)

  def body(state):
    i, loss, metrics, grads, squares = state
    (loss_i, metrics_i), grads_i = grad(trained, part(i))
    added = jax.tree.map(jnp.add, grads, grads_i)
    squares = squares + _step_sq(added, grads)
    return i + 1, loss + loss_i, merge(metrics, metrics_i), added, squares

  start = (
    jnp.zeros((), jnp.int32),
    jnp.zeros((), jnp.float32),
    metrics0,
    grads0,
    jnp.float32(0),
  )
  _, loss, totals, grads, squares = jax.lax.while_loop(
    lambda s: s[0] < count, body, start
  )
  complete = True  # the metrics cover all trained tokens
  if not everywhere:
    skipped = micro_batch.left_out(live, shapes)[:, None]
    rest = batch.replace(mask=batch.mask & skipped)
    if outputs is None:
      complete = look | ~rest.mask.any()
      outputs = forward(rest.replace(mask=rest.mask & look))
    totals = merge(totals, loss_and_metrics(outputs, rest)[1])
  metrics, gap = totals
  tokens = masked.count(batch.mask)
  metrics['sampler_trainer/logp_diff_max'] = Ratio(
    gap, (tokens > 0).astype(jnp.float32)
  )
  metrics = {
    k: Ratio(r.num, jnp.where(complete, r.den, 0.0)) for k, r in metrics.items()
  }
  metrics['advantage/nonzero_frac'] = Ratio(
    masked.count(batch.mask & (batch.adv != 0)), tokens
  )
  return loss, metrics, grads, _spread(squares, live, shapes)


def _step_sq(new, old) -> jax.Array:
  """f32[]: ||new - old||^2, of sums of gradients."""
  # From the sums, and behind a barrier: another use of a micro-batch's own
  # gradient would change how XLA fuses it into the sum, and so its rounding.
  new, old = jax.lax.optimization_barrier((new, old))
  return norm_sq(jax.tree.map(jnp.subtract, new, old))


def _spread(squares, live, shapes) -> Spread:
  """`Spread` where live groups, bool[P], come first: all but one are full."""
  size, total = shapes.groups_per_micro_batch, live.sum()
  full, rest = jnp.divmod(total, size)
  sizes = full * size**2 + rest**2
  return Spread(squares, total.astype(jnp.float32), sizes.astype(jnp.float32))
