"""One update: gradients summed over micro-batches, then the optimiser."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import optax

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.learner import gradients, optimizer
from rlvr_jax.learner import teacher as teachers
from rlvr_jax.models import (
  lora,
  micro_batch,
  sharding,
  token_logprobs,
  transformer,
)
from rlvr_jax.ops import masked, positions
from rlvr_jax.ops.ratio import Ratio, divide

# Largest magnitude that an update may give a parameter. An MLP multiplies three
# parameters and a norm's scale, which overflows float32 if all are much larger.
# The largest in published models are key biases of a few hundred.
LARGEST = 1e4


def prepare(
  params: Any,
  batch: types.Batch,
  reward: jax.Array,
  *,
  algorithm: algorithms.Algorithm,
  model: transformer.Decoder,
  temperature: float,
  shapes: micro_batch.Shapes,
) -> tuple[types.Batch, dict[str, jax.Array]]:
  """Completes a batch by a forward pass of the trainer, before its updates.

  With a critic, its values give advantages and returns by GAE. With a reward_kl
  each token pays for its divergence from the reference before that:

    r_t - reward_kl_weight kl(log pi_t, log ref_t),

  a constant, with the trainer's log pi before the update (InstructGPT, Ouyang
  et al. 2022, arXiv:2203.02155, eq. 2; `kl_coef` of TRL's PPOTrainer,
  use_kl_in_reward of verl). The metric reward_kl is its mean over tokens, nats.
  With a correction, its weight for the mismatch of sampler and trainer
  multiplies the advantage (every surrogate is proportional to the advantage),
  and the trainer's log-probs replace logp_old.

  Args:
    reward: f32[B,T], each turn's reward at its last token; for a critic.
  """
  out = micro_batch.forward(
    params, batch, model=model, temperature=temperature, shapes=shapes
  )
  mask, tokens = batch.mask, masked.count(batch.mask)
  tokens = jnp.where(tokens == 0, jnp.nan, tokens)  # means over none are NaN
  metrics = {}
  if algorithm.reward_kl is not None:
    kl = algorithm.reward_kl(
      masked.keep(out.logp, mask), masked.keep(batch.logp_ref, mask)
    )
    kl = masked.keep(kl, mask)
    reward = reward - algorithm.reward_kl_weight * kl
    metrics['reward_kl'] = jnp.sum(kl) / tokens
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


def gaps(
  params: Any,
  batch: types.Batch,
  *,
  model: transformer.Decoder,
  temperature: float,
  shapes: micro_batch.Shapes,
) -> dict[str, jax.Array]:
  """Mean |log p - logp_old| by the place of a token in its row, nats.

  Metrics by the names of `positions.means`; NaN where no row has a token. By a
  forward pass of its own: within an update, XLA would round gradients
  otherwise.
  """
  out = micro_batch.forward(
    params, batch, model=model, temperature=temperature, shapes=shapes
  )
  gap = jnp.abs(masked.keep(out.logp - batch.logp_old, batch.mask))
  return {
    f'sampler_trainer/logp_diff_by_position/{name}': jnp.where(
      mean.den == 0, jnp.nan, divide(mean)
    )
    for name, mean in positions.means(gap, batch.mask).items()
  }


def update(
  state: types.TrainState,
  batches: Sequence[types.Batch],
  *,
  algorithm: algorithms.Algorithm,
  model: transformer.Decoder,
  tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  temperature: float,
  trainable: str,
  shapes: Sequence[micro_batch.Shapes],
  teacher: token_logprobs.Teacher | None = None,
  teacher_rate: float = 0.0,
  look: jax.Array | bool = True,
) -> tuple[types.TrainState, dict[str, jax.Array]]:
  """One optimiser step on one or several batches.

  Loss and gradient are sums over the batches, each divided by its own
  denominator. Metrics are means over the tokens of all batches.

  The update is skipped (`update_skipped` is 1, parameters and optimiser state
  do not change) if any of these holds:
  - Loss, gradient, new parameters or new optimiser state are not finite.
  - A log-prob of the sampler or trainer, or an entropy, is not finite. This
    detects a broken policy also on a batch without gradient.
  - A parameter grows beyond `LARGEST`: it is finite, but products of several
    such parameters are not.
  - The policy is deterministic: entropy and gradient are exactly 0 although a
    token has a negative advantage. No later update could change it.

  A batch without gradient (`batch_empty` is 1) does not change them either:
  AdamW would still move the parameters by its momentum.

  `update/moved_frac` is the share of trained parameters whose value changed.

  `signal/cross` is the sum of <u_p, u_q> over the `signal/pairs` ordered pairs
  of groups with gradient in different micro-batches, u_p the gradient of group
  p: ||sum_i g_i||^2 - sum_i ||g_i||^2 over micro-batches i, and L^2 - sum_i
  L_i^2. L is `signal/live`, ||sum_i g_i||^2 is `signal/norm_sq`, before
  clipping. `reporting.signal_window` estimates the share of signal from them.
  Pairs are counted because live groups come first: micro-batches are not
  exchangeable. Micro-batches of all batches count alike, also pairs of groups
  from different batches. With no pair (one micro-batch, or at most one live
  group) cross is NaN: nothing is known. A skipped update has NaN in all four.
  Derived here; the noise scale is McCandlish et al. 2018, arXiv 1812.06162.

  Args:
    batches: each has its own B and T.
    shapes: of each batch.
    tx, schedule: from `optimizer`, for the parameters that match `trainable`.
    teacher, look: see `gradients`.
    teacher_rate: a of the moving average e of a state that has one, which
      becomes e + a (parameters - e) when an update is applied.

  Returns:
    the new state; f32[] metrics by name. Means over no tokens are NaN.
  """
  parts = [
    gradients.accumulate(
      state.params,
      batch,
      algorithm=algorithm,
      model=model,
      temperature=temperature,
      trainable=trainable,
      shapes=batch_shapes,
      teacher=teacher,
      look=look,
    )
    for batch, batch_shapes in zip(batches, shapes, strict=True)
  ]
  loss, ratios, grads, spread = functools.reduce(_add, parts)
  norm, gap = optax.tree.norm(grads), ratios['sampler_trainer/logp_diff_max']
  trained, frozen = optimizer.split(state.params, trainable)
  updates, opt_state = tx.update(grads, state.opt_state, trained)
  moved = optax.apply_updates(trained, updates)
  entropy = ratios['entropy']
  logp_old = [masked.keep(b.logp_old, b.mask) for b in batches]
  outputs = logp_old, entropy.num, gap.num
  finite = _finite((loss, norm, outputs, opt_state)) & _bounded(moved, trained)
  empty = norm == 0
  has_negative = functools.reduce(
    jnp.logical_or, [(b.mask & (b.adv < 0)).any() for b in batches]
  )
  stuck = empty & has_negative & (entropy.num == 0) & (entropy.den > 0)
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
  metrics |= {
    k: jnp.where(skipped, jnp.nan, x) for k, x in _signal(grads, spread).items()
  }
  state = types.TrainState(
    step=state.step + 1,
    params=optimizer.join(choose(moved, trained), frozen),
    opt_state=choose(opt_state, state.opt_state),
    teacher=choose(
      teachers.average(state.teacher, moved, teacher_rate), state.teacher
    ),
  )
  return state, metrics


def _add(one, other):
  """Sums of two results of `gradients`; the maximum of logp_diff_max."""
  name = 'sampler_trainer/logp_diff_max'
  gap = Ratio(*map(jnp.maximum, one[1][name], other[1][name]))
  loss, ratios, grads, spread = jax.tree.map(jnp.add, one, other)
  return loss, ratios | {name: gap}, grads, spread


def _signal(grads, spread: gradients.Spread) -> dict[str, jax.Array]:
  """The signal/* metrics of an update: see `update`."""
  norm_sq = gradients.norm_sq(grads)
  pairs = spread.live**2 - spread.live_squares
  return {
    'signal/norm_sq': norm_sq,
    'signal/cross': jnp.where(pairs > 0, norm_sq - spread.squares, jnp.nan),
    'signal/pairs': pairs,
    'signal/live': spread.live,
  }


def _finite(tree) -> jax.Array:
  """bool[]: no leaf has a NaN or an infinity."""
  return _all([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)])


def _bounded(new, old) -> jax.Array:
  """bool[]: no parameter is NaN, or grows beyond `LARGEST`."""
  bounded = lambda a, b: (jnp.abs(a) <= jnp.maximum(LARGEST, jnp.abs(b))).all()
  return _all(jax.tree.leaves(jax.tree.map(bounded, new, old)))


def _all(flags: list[jax.Array]) -> jax.Array:
  """Whether all of bool[] are true.

  By a product, which the compiler computes once: it would copy a chain of `and`
  into every select that depends on it, one for each parameter and moment, and
  that took a fifth of the time to compile an update.
  """
  false = (~jnp.stack(flags)).astype(jnp.float32)
  return jnp.dot(false, false) == 0


def _moved(new, old) -> jax.Array:
  """f32[]: the share of elements that differ."""
  # Rows are counted in integers: adding 1 to a float32 of 2^24 has no effect.
  rows = lambda a, b: (a != b).sum(-1) if a.ndim else a != b
  count = lambda a, b: rows(a, b).astype(jnp.float32).sum()
  counts = jax.tree.leaves(jax.tree.map(count, new, old))
  # A Python float: the size of a 7B model overflows int32.
  return sum(counts) / float(sum(x.size for x in jax.tree.leaves(new)))


def abstract_state(
  model: transformer.Decoder,
  tx: optax.GradientTransformation,
  trainable: str,
  mesh: jax.sharding.Mesh,
  average: bool = False,
) -> types.TrainState:
  """Shapes, dtypes and shardings of the training state.

  Moments have the sharding of their parameter; everything else that the
  optimiser keeps is replicated.

  Args:
    average: whether it has a moving average, for a teacher.
  """
  params = sharding.abstract_params(model, mesh)
  trained, _ = optimizer.split(params, trainable)
  replicated = sharding.replicated(mesh)

  def place(path, leaf):
    keys = [p.key for p in path if isinstance(p, jax.tree_util.DictKey)]
    same = [trained[k].sharding for k in keys if k in trained]
    where = same[0] if same else replicated
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

  opt_state = jax.tree_util.tree_map_with_path(
    place, jax.eval_shape(tx.init, trained)
  )
  return types.TrainState(
    step=jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated),
    params=params,
    opt_state=opt_state,
    teacher=teachers.abstract_average(trained) if average else None,
  )


def saved(state: types.TrainState) -> types.TrainState:
  """What a checkpoint holds: all; with adapters, not the base that they have.

  `restored` is the inverse.
  """
  if not lora.present(traverse.flatten_dict(state.params, sep='/')):
    return state
  return state.replace(params=lora.own(state.params))


def restored(state: types.TrainState, params: Any) -> types.TrainState:
  """The state of a checkpoint, with what it does not hold from `params`."""
  return state.replace(params=lora.join(params, state.params))


def shardings_of(abstract: types.TrainState) -> types.TrainState:
  """The shardings of `abstract_state`."""
  return jax.tree.map(lambda x: x.sharding, abstract)


def new_state(
  params: Any,
  *,
  tx: optax.GradientTransformation,
  trainable: str,
  abstract: types.TrainState,
) -> types.TrainState:
  """The training state at step 0, with the shardings of `abstract`.

  `params` are donated.
  """

  def make(params):
    trained, _ = optimizer.split(params, trainable)
    return types.TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=tx.init(trained),
      teacher=None if abstract.teacher is None else teachers.start(trained),
    )

  return jax.jit(make, out_shardings=shardings_of(abstract), donate_argnums=0)(
    params
  )
