"""Optimiser from config: AdamW, schedule, clipping, trainable subset."""

import re

import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import optax

from rlvr_jax import config_limits, registry
from rlvr_jax.models import sharding

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

# What a run with such parameters says at start.
NARROW = (
  'model.param_dtype=bfloat16: weights are kept in bfloat16, and at '
  'optimizer.learning_rate={:g} an update is rounded up or down at random, so '
  'that its mean is right: where it is smaller than the step between two '
  'bfloat16 numbers, most weights stay in one update and a few take a whole '
  'step. update/moved_frac shows how many.'
)


def make_schedule(c, total_updates: int):
  """Update number -> learning rate: linear warm-up, then `c.schedule`.

  `linear` and `cosine` end at 0 after `total_updates`.
  """
  peak, warm = c.learning_rate, c.warmup_steps
  rest = max(total_updates - warm, 1)
  if c.schedule == 'constant':
    after = optax.constant_schedule(peak)
  elif c.schedule == 'linear':
    after = optax.linear_schedule(peak, 0.0, rest)
  else:
    after = optax.cosine_decay_schedule(peak, rest)
  if not warm:
    return after
  # Update i of the warm-up has rate peak (i+1)/warm: no update is wasted.
  up = optax.linear_schedule(peak / warm, peak, max(warm - 1, 1))
  return optax.join_schedules([up, after], [warm])


def make_optimizer(
  c, total_updates: int, seed: int = 0
) -> optax.GradientTransformation:
  """Clip by global norm (`max_grad_norm`, 0 for none), then AdamW.

  Weight decay acts on matrices only, as is usual: norms and biases have one
  axis besides the stacked layers'. A value head may have its own rate,
  `value_learning_rate`, on the same schedule. Of bfloat16 parameters see
  `stochastic`; `seed` is of its random numbers.

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
    faster = optax.scale(c.value_learning_rate / c.learning_rate)
    of_value = lambda flat: {k: k.startswith('value_') for k in flat}
    parts = [*parts, optax.masked(faster, of_value)]
  return stochastic(parts[0] if len(parts) == 1 else optax.chain(*parts), seed)


def applied(opt_state):
  """i32[]: updates that moved the parameters; the schedule counts these."""
  return optax.tree_utils.tree_get_all_with_path(opt_state, 'count')[0][1]


def stochastic(tx, seed: int) -> optax.GradientTransformation:
  """`tx` in float32 on parameters and moments that are kept in bfloat16.

  Rounded to nearest, a step of 1e-6 on a weight of 0.02, whose neighbours are
  1.2e-4 away, is lost every time. So what `tx` makes of them is rounded at
  random, up or down with odds that keep the mean (as in Zamirai et al. 2020,
  arXiv:2010.06192): one weight in a hundred takes a step a hundred times too
  long. The numbers depend on seed and update alone, not on the mesh. Float32
  arrays are not touched: with no others the result is that of `tx`.
  """
  narrow = lambda x: x.dtype == jnp.bfloat16
  wide = lambda x: x.astype(jnp.float32) if narrow(x) else x

  def update(grads, state, params):
    kept = (state, params)
    if not any(map(narrow, jax.tree.leaves(kept))):
      return tx.update(grads, state, params)
    state, params = jax.tree.map(wide, kept)
    updates, state = tx.update(jax.tree.map(wide, grads), state, params)
    moved = optax.apply_updates(params, updates)
    new, tree = jax.tree.flatten((state, moved))
    key = jax.random.fold_in(jax.random.key(seed), applied(kept[0]))
    keys = jax.random.split(key, len(new))
    new = [
      round_at_random(k, x) if narrow(old) else x
      for k, x, old in zip(keys, new, jax.tree.leaves(kept), strict=True)
    ]
    state, moved = jax.tree.unflatten(tree, new)
    # Their sum is exact, for any step that is not far larger than the weight.
    step = lambda m, p, u: wide(m) - p if narrow(m) else u
    return jax.tree.map(step, moved, params, updates), state

  return optax.GradientTransformation(tx.init, update)


def round_at_random(key, x: jax.Array) -> jax.Array:
  """f32 to one of the two bfloat16 next to it, whose mean over keys is x."""
  noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
  low = jax.lax.bitcast_convert_type(
    (bits >> 16).astype(jnp.uint16), jnp.bfloat16
  )
  return jnp.where(jnp.isfinite(x), low, x.astype(jnp.bfloat16))


def split(params, trainable: str):
  """(trained, frozen): flat dicts 'path/of/leaf' -> array.

  `trainable` is a regular expression searched in the path. Gradients and
  optimiser state exist for the first dict only.

  Raises:
    ValueError: it is no regular expression, or matches nothing (names the
      paths).
  """
  flat = traverse.flatten_dict(params, sep='/')
  config_limits.check({'optimizer.trainable': trainable})
  pattern = re.compile(trainable)
  trained = {k: v for k, v in flat.items() if pattern.search(k)}
  if not trained:
    raise ValueError(
      f'optimizer.trainable={registry.show(trainable)} matches no parameter. '
      'Parameters: '
      f'{", ".join(sorted(flat))}.'
    )
  return trained, {k: v for k, v in flat.items() if k not in trained}


def join(trained, frozen):
  """Inverse of `split`."""
  return traverse.unflatten_dict({**frozen, **trained}, sep='/')
