"""Trial calls that refuse bad options when the registry looks a function up.

Without them a bad option would fail at the first batch. The arrays are
abstract: nothing is computed.
"""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlvr_jax import registry
from rlvr_jax.ops import surrogate as surrogates

ROWS = jax.ShapeDtypeStruct((1, 2), jnp.float32)
MASK = jax.ShapeDtypeStruct((1, 2), bool)
ROW = jax.ShapeDtypeStruct((2,), jnp.float32)
BELIEF = jax.ShapeDtypeStruct((3,), jnp.float32)
VALID = jax.ShapeDtypeStruct((2,), bool)


@registry.trial('credit')
def credit(fn: Callable) -> None:
  jax.eval_shape(fn, ROW, BELIEF, VALID)


@registry.trial('estimator')
def estimator(fn: Callable) -> None:
  parameters = inspect.signature(fn).parameters
  if 'mask' in parameters:  # for a critic: rewards, values, mask
    jax.eval_shape(fn, ROW, ROW, VALID)
    return
  greedy = jax.ShapeDtypeStruct((), jnp.float32)
  extra = {'length': ROW, 'greedy': greedy, 'surprise': ROW}
  extra = {k: v for k, v in extra.items() if k in parameters}
  jax.eval_shape(fn, ROW, VALID, **extra)


@registry.trial('surrogate')
def surrogate(fn: Callable) -> None:
  args: tuple[jax.ShapeDtypeStruct, ...] = (ROWS, ROWS, ROWS, MASK)
  if (choose := surrogates.choose(fn)) is not None:
    jax.eval_shape(choose, *args)
    args = (*args, MASK)
  jax.eval_shape(fn, *args)


@registry.trial('correction')
def correction(fn: Callable) -> None:
  jax.eval_shape(fn, ROWS, ROWS, MASK)


@registry.trial('aggregate')
def aggregate(fn: Callable) -> None:
  jax.eval_shape(fn, ROWS, MASK)


@registry.trial('kl')
def kl(fn: Callable) -> None:
  jax.eval_shape(fn, ROWS, ROWS)
