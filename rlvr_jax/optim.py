"""Optimiser from config: AdamW, schedule, clipping, trainable subset."""

import re

import flax.traverse_util as traverse
import optax

from rlvr_jax import limits, registry

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


def make_optimizer(c, total_updates: int) -> optax.GradientTransformation:
  """Clip by global norm (`max_grad_norm`, 0 for none), then AdamW.

  Weight decay acts on matrices only, as is usual: norms and biases have one
  axis besides the stacked layers'. A value head may have its own rate,
  `value_learning_rate`, on the same schedule.

  Raises:
    ValueError: a setting outside `limits.RULES`.
  """
  limits.check({f'optimizer.{name}': getattr(c, name) for name in _KEYS})
  adamw = optax.adamw(
    make_schedule(c, total_updates),
    b1=c.b1,
    b2=c.b2,
    eps=c.eps,
    weight_decay=c.weight_decay,
    mask=lambda flat: {k: decays(k) for k in flat},
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
  return parts[0] if len(parts) == 1 else optax.chain(*parts)


def decays(path: str) -> bool:
  """Whether weight decay acts on the parameter: not on norms and biases."""
  return not path.endswith(('/scale', '/bias', 'value_bias'))


def split(params, trainable: str):
  """(trained, frozen): flat dicts 'path/of/leaf' -> array.

  `trainable` is a regular expression searched in the path. Gradients and
  optimiser state exist for the first dict only.

  Raises:
    ValueError: it is no regular expression, or matches nothing (names the
      paths).
  """
  flat = traverse.flatten_dict(params, sep='/')
  limits.check({'optimizer.trainable': trainable})
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
