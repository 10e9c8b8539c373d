"""The optimiser of a config: AdamW, schedule, clipping, trainable subset."""

import re
from typing import Any

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import optax

from rlvr_jax import config_limits, registry
from rlvr_jax.models import lora, sharding
from rlvr_jax.random_streams import Stream

_KEYS = (
  'learning_rate',
  'value_learning_rate',
  'schedule',
  'warmup_steps',
  'b1',
  'b2',
  'eps',
  'weight_decay',
  'max_grad_norm',
)

# Printed at the start of a run with bfloat16 parameters.
NARROW = (
  'model.param_dtype=bfloat16: weights are kept in bfloat16, and at '
  'optimizer.learning_rate={:g} updates are rounded stochastically, which keeps '
  'their mean: where an update is smaller than the spacing of bfloat16 numbers, '
  'most weights do not change and a few change by a whole spacing. '
  'update/moved_frac is the share that changed.'
)


def make_schedule(c, total_updates: int) -> optax.Schedule:
  """Update number -> learning rate: linear warm-up, then `c.schedule`.

  `linear` and `cosine` end at 0 after `total_updates`.

  Args:
    c: the config's `optimizer` section.
  """
  peak, warmup = c.learning_rate, c.warmup_steps
  decay_steps = max(total_updates - warmup, 1)
  if c.schedule == 'constant':
    main = optax.constant_schedule(peak)
  elif c.schedule == 'linear':
    main = optax.linear_schedule(peak, 0.0, decay_steps)
  else:
    main = optax.cosine_decay_schedule(peak, decay_steps)
  if not warmup:
    return main
  # Warm-up starts at peak/warmup, not at 0: the first update is not wasted.
  ramp = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
  return optax.join_schedules([ramp, main], [warmup])


def make_optimizer(
  c, total_updates: int, seed: int = 0
) -> optax.GradientTransformation:
  """Clipping by global norm (`max_grad_norm`, 0: none), then AdamW.

  Weight decay applies to matrices only, not to norms and biases. The value
  head's rate is `value_learning_rate`, if set, on the same schedule. bfloat16
  parameters are rounded stochastically: see `stochastic`.

  Args:
    c: the config's `optimizer` section.
    total_updates: for the schedule.
    seed: of stochastic rounding.

  Raises:
    ValueError: a setting outside `config_limits.RULES`.
  """
  config_limits.check({f'optimizer.{name}': getattr(c, name) for name in _KEYS})
  adamw = optax.adamw(
    make_schedule(c, total_updates),
    b1=c.b1,
    b2=c.b2,
    eps=c.eps,
    weight_decay=c.weight_decay,
    mask=lambda flat: {k: sharding.is_matrix(k) for k in flat},
  )
  parts = [adamw]
  if c.max_grad_norm:
    parts = [optax.clip_by_global_norm(c.max_grad_norm), *parts]
  if c.value_learning_rate:
    if not c.learning_rate:
      raise ValueError(
        'optimizer.value_learning_rate is relative to learning_rate, which is '
        '0: raise it.'
      )
    scale = optax.scale(c.value_learning_rate / c.learning_rate)
    is_value = lambda flat: {k: k.startswith('value_') for k in flat}
    parts = [*parts, optax.masked(scale, is_value)]
  return stochastic(parts[0] if len(parts) == 1 else optax.chain(*parts), seed)


def applied(opt_state: Any) -> jax.Array:
  """i32[]: number of applied updates, which the schedule counts.

  Skipped and empty updates are not counted.
  """
  return optax.tree_utils.tree_get_all_with_path(opt_state, 'count')[0][1]


def stochastic(
  tx: optax.GradientTransformation, seed: int
) -> optax.GradientTransformation:
  """`tx` with bfloat16 parameters and moments: float32, stochastic rounding.

  bfloat16 arrays are cast to float32 for `tx`, and the new values are rounded
  up or down at random with probabilities that keep the mean (Zamirai et al.
  2020, arXiv:2010.06192). Rounding to nearest would lose a step of 1e-6 on a
  weight of 0.02 every time, as the next bfloat16 is 1.2e-4 away; rounded
  stochastically, one such weight in a hundred moves by 1.2e-4. The random
  numbers depend on seed and update alone, not on the mesh. float32 arrays are
  not rounded: without bfloat16 arrays the result is exactly that of `tx`.
  """
  is_bf16 = lambda x: x.dtype == jnp.bfloat16
  to_f32 = lambda x: x.astype(jnp.float32) if is_bf16(x) else x

  def update(grads, state, params):
    old = (state, params)
    if not any(map(is_bf16, jax.tree.leaves(old))):
      return tx.update(grads, state, params)
    state, params = jax.tree.map(to_f32, old)
    updates, state = tx.update(jax.tree.map(to_f32, grads), state, params)
    new, tree = jax.tree.flatten((state, optax.apply_updates(params, updates)))
    key = jax.random.fold_in(jax.random.key(seed), Stream.ROUNDING)
    key = jax.random.fold_in(key, applied(old[0]))
    keys = jax.random.split(key, len(new))
    new = [
      round_at_random(k, x) if is_bf16(before) else x
      for k, x, before in zip(keys, new, jax.tree.leaves(old), strict=True)
    ]
    state, new_params = jax.tree.unflatten(tree, new)
    # params + (new - params) is exactly new in float32, unless the step is far
    # larger than the weight.
    step = lambda n, p, u: to_f32(n) - p if is_bf16(n) else u
    return jax.tree.map(step, new_params, params, updates), state

  return optax.GradientTransformation(tx.init, update)


def round_at_random(key: jax.Array, x: jax.Array) -> jax.Array:
  """Stochastic rounding of f32 to bfloat16: the mean over keys is x."""
  noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
  low = jax.lax.bitcast_convert_type(
    (bits >> 16).astype(jnp.uint16), jnp.bfloat16
  )
  return jnp.where(jnp.isfinite(x), low, x.astype(jnp.bfloat16))


def split(
  params: Any, trainable: str
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """(trained, frozen) parameters: flat dicts 'path/of/leaf' -> array.

  Gradients and optimiser state exist for the trained ones only. Of parameters
  with adapters, these and a value head are trained: `models.lora`.

  Args:
    trainable: a regular expression, searched in each path.

  Raises:
    ValueError: it is no regular expression, or matches no path.
  """
  flat = traverse.flatten_dict(params, sep='/')
  config_limits.check({'optimizer.trainable': trainable})
  pattern = re.compile(trainable)
  able = [k for k in flat if lora.is_own(k)] if lora.present(flat) else flat
  trained = {k: flat[k] for k in able if pattern.search(k)}
  if not trained:
    raise ValueError(
      f'optimizer.trainable={registry.show(trainable)} matches no parameter. '
      f'Parameters: {", ".join(sorted(able))}.'
    )
  return trained, {k: v for k, v in flat.items() if k not in trained}


def join(
  trained: dict[str, jax.Array], frozen: dict[str, jax.Array]
) -> dict[str, Any]:
  """The parameter tree: the inverse of `split`."""
  return traverse.unflatten_dict({**frozen, **trained}, sep='/')
