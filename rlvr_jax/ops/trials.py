"""Trial calls that refuse bad options when the registry looks a function up.

Without them a bad option would fail at the first batch, and a bad estimator
not at all. Arrays are abstract, so nothing is computed, except that an
estimator is held against its contract on a few groups, once.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import registry
from rlvr_jax.ops import estimators
from rlvr_jax.ops import preference as preferences
from rlvr_jax.ops import reward_loss as reward_losses
from rlvr_jax.ops import surrogate as surrogates

ROWS = jax.ShapeDtypeStruct((1, 2), jnp.float32)
MASK = jax.ShapeDtypeStruct((1, 2), bool)
ROW = jax.ShapeDtypeStruct((2,), jnp.float32)
BELIEF = jax.ShapeDtypeStruct((3,), jnp.float32)
VALID = jax.ShapeDtypeStruct((2,), bool)
GROUP = 4  # members of the groups that estimators are tried on


def _abstract(fn: Callable, *args: Any, **kwargs: Any) -> Any:
  """`jax.eval_shape`; a decision in Python on a value is a ValueError."""
  try:
    return jax.eval_shape(fn, *args, **kwargs)
  except (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
  ) as e:
    why = str(e).splitlines()[0].split(' See https')[0]
    raise ValueError(
      'it needs the values of its arrays while JAX compiles it, which has '
      'none. Write jnp.where(condition, a, b) for `if`, `and`, `or` and '
      'x[mask], and jnp for np, float and int '
      f'({registry.show(why)}).'
    ) from e


@registry.trial('credit')
def credit(fn: Callable) -> None:
  _abstract(fn, ROW, BELIEF, VALID)


@registry.trial('estimator')
def estimator(fn: Callable) -> None:
  """Refuses an estimator that does not give one finite advantage for each.

  Raises:
    ValueError: the result is no f32[G], or f32[P,G] for a batch of P groups
      where it takes whole batches; it is NaN or infinite in a group of equal
      scores; an invalid member gets anything but 0, or changes what others get.
  """
  parameters = inspect.signature(fn).parameters
  if 'mask' in parameters:  # for a critic: rewards, values, mask
    for out in _abstract(fn, ROW, ROW, VALID):
      _check_shape(out, ROW.shape)
    return
  shapes: list[tuple[int, ...]] = [(GROUP,)]
  if estimators.is_whole_batch(fn):
    shapes.append((2, GROUP))
  for shape in shapes:
    score = jax.ShapeDtypeStruct(shape, jnp.float32)
    valid = jax.ShapeDtypeStruct(shape, bool)
    extra = _extra(fn, score, jax.ShapeDtypeStruct(shape[:-1], jnp.float32))
    _check_shape(_abstract(fn, score, valid, **extra), shape)
  bound: dict[str, Any] = {}
  while isinstance(fn, functools.partial):
    bound, fn = fn.keywords | bound, fn.func
  _check_contract(fn, tuple(sorted(bound.items())))


def _extra(fn: Callable, by_member: Any, by_group: Any) -> dict[str, Any]:
  """What an estimator takes besides score and valid."""
  return {
    name: by_group if name == 'greedy' else by_member
    for name in estimators.takes(fn)
  }


def _check_shape(out: Any, shape: tuple[int, ...]) -> None:
  rule = 'return one advantage for each, as float32'
  if not hasattr(out, 'shape') or not hasattr(out, 'dtype'):
    raise ValueError(
      f'it returned {registry.show(out)} for scores {list(shape)}: {rule}.'
    )
  if out.shape != shape or out.dtype != jnp.float32:
    raise ValueError(
      f'it returned {out.dtype}{list(out.shape)} for scores {list(shape)}: '
      f'{rule}.'
    )


# Groups of equal scores, one without a valid member, and groups that differ
# only where members are not valid.
_SCORES = np.array(
  [
    [0, 0, 0, 0],
    [1, 1, 1, 1],
    [1, 1, 1, 1],
    [1, 0, 0.5, 0.25],
    [1, 0, 9, -7],
    [1, 0, np.nan, np.inf],
  ],
  np.float32,
)
_VALID = np.array([[1] * 4] * 2 + [[0] * 4] + [[1, 1, 0, 0]] * 3, bool)


@functools.lru_cache(256)  # it compiles, which takes tenths of a second
def _check_contract(fn: Callable, options: tuple[tuple[str, Any], ...]) -> None:
  """ValueError if `fn` breaks a rule of `estimators` on one of few groups."""
  estimate = functools.partial(fn, **dict(options))

  def one(score, valid):
    extra = _extra(estimate, jnp.ones(GROUP), jnp.float32(0.5))
    return estimate(score, valid, **extra)

  with jax.ensure_compile_time_eval():  # also while something else is traced
    out = np.asarray(jax.jit(jax.vmap(one))(_SCORES, _VALID))
  for i, whose in enumerate(('equal scores', 'equal scores', 'no member')):
    if not np.isfinite(out[i]).all():
      raise ValueError(
        f'it returned {out[i].tolist()} for {_SCORES[i].tolist()}: in a group '
        f'of {whose} advantages are finite. Add a small number to what you '
        'divide by, or replace a divisor of 0 by jnp.where.'
      )
  for i in range(3, len(_SCORES)):
    if not np.allclose(out[3], out[i], rtol=1e-5) or out[i][2:].any():
      raise ValueError(
        f'it returned {out[3].tolist()} for {_SCORES[3].tolist()} and '
        f'{out[i].tolist()} for {_SCORES[i].tolist()}, whose last two members '
        'are not valid: they get 0, and what stands there must not matter. '
        'Write score = jnp.where(valid, score, 0.0) first, count members by '
        'valid.sum(), and return jnp.where(valid, advantages, 0.0).'
      )


@registry.trial('surrogate')
def surrogate(fn: Callable) -> None:
  args: tuple[jax.ShapeDtypeStruct, ...] = (ROWS, ROWS, ROWS, MASK)
  if (choose := surrogates.choose(fn)) is not None:
    _abstract(choose, *args)
    args = (*args, MASK)
  _abstract(fn, *args)


@registry.trial('correction')
def correction(fn: Callable) -> None:
  _abstract(fn, ROWS, ROWS, MASK)


@registry.trial('aggregate')
def aggregate(fn: Callable) -> None:
  _abstract(fn, ROWS, MASK)


@registry.trial('kl')
def kl(fn: Callable) -> None:
  _abstract(fn, ROWS, ROWS)


@registry.trial('preference')
def preference(fn: Callable) -> None:
  """Refuses a preference that does not give one loss for each pair."""
  args = [ROW] * 4 + [ROW] * 2 * preferences.takes_lengths(fn)
  _check_losses(_abstract(fn, *args), 'pair')


@registry.trial('reward_loss')
def reward_loss(fn: Callable) -> None:
  """Refuses a reward loss that does not give one loss for each pair or row."""
  takes = 'margins' in inspect.signature(fn).parameters
  what = 'row' if reward_losses.of_rows(fn) else 'pair'
  _check_losses(_abstract(fn, *[ROW] * (2 + takes)), what)


def _check_losses(out: Any, what: str) -> None:
  if getattr(out, 'shape', None) != ROW.shape or out.dtype != jnp.float32:
    raise ValueError(
      f'it returned {registry.show(out)} for {ROW.shape[0]} {what}s: return one '
      'loss for each, as float32.'
    )


@registry.trial('pairs')
def pairs(fn: Callable) -> None:
  """Refuses one that does not say of each two members if they are a pair."""
  out = _abstract(fn, ROW, VALID)
  if getattr(out, 'shape', None) != (2, 2) or out.dtype != bool:
    raise ValueError(
      f'it returned {registry.show(out)} for a group of 2: return bool[2,2], '
      'whether the first member is preferred to the second.'
    )
