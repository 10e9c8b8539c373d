"""Optimiser from config: AdamW, schedule, clipping, trainable subset."""

import re

import flax.traverse_util as traverse
import optax

SCHEDULES = ('constant', 'linear', 'cosine')


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
  elif c.schedule == 'cosine':
    after = optax.cosine_decay_schedule(peak, rest)
  else:
    raise ValueError(
      f'optimizer.schedule={c.schedule!r} must be one of {SCHEDULES}.'
    )
  if not warm:
    return after
  # Update i of the warm-up has rate peak (i+1)/warm: no update is wasted.
  up = optax.linear_schedule(peak / warm, peak, max(warm - 1, 1))
  return optax.join_schedules([up, after], [warm])


def make_optimizer(c, total_updates: int) -> optax.GradientTransformation:
  """Clip by global norm (`max_grad_norm`, 0 for none), then AdamW.

  Weight decay acts on matrices only, as is usual: norms and biases have one
  axis besides the stacked layers'.
  """
  for name in ('learning_rate', 'weight_decay', 'max_grad_norm'):
    if getattr(c, name) < 0:
      raise ValueError(f'optimizer.{name}={getattr(c, name)} must be >= 0.')
  adamw = optax.adamw(
    make_schedule(c, total_updates),
    b1=c.b1,
    b2=c.b2,
    eps=c.eps,
    weight_decay=c.weight_decay,
    mask=lambda flat: {k: decays(k) for k in flat},
  )
  if not c.max_grad_norm:
    return adamw
  return optax.chain(optax.clip_by_global_norm(c.max_grad_norm), adamw)


def decays(path: str) -> bool:
  """Whether weight decay acts on the parameter: not on norms and biases."""
  return not path.endswith(('/scale', '/bias'))


def split(params, trainable: str):
  """(trained, frozen): flat dicts 'path/of/leaf' -> array.

  `trainable` is a regular expression searched in the path. Gradients and
  optimiser state exist for the first dict only.

  Raises:
    ValueError: it matches nothing (names the paths).
  """
  flat = traverse.flatten_dict(params, sep='/')
  pattern = re.compile(trainable)
  trained = {k: v for k, v in flat.items() if pattern.search(k)}
  if not trained:
    raise ValueError(
      f'optimizer.trainable={trainable!r} matches no parameter. Parameters: '
      f'{", ".join(sorted(flat))}.'
    )
  return trained, {k: v for k, v in flat.items() if k not in trained}


def join(trained, frozen):
  """Inverse of `split`."""
  return traverse.unflatten_dict({**frozen, **trained}, sep='/')
