"""One small call of a function of each kind, when it is looked up.

So what an option cannot be is said at once, and not at the first batch. The
arrays are abstract: nothing is computed.
"""

import inspect

import jax
import jax.numpy as jnp

from rlvr_jax import registry
from rlvr_jax.ops import surrogate as surrogates

ROWS = jax.ShapeDtypeStruct((1, 2), jnp.float32)
MASK = jax.ShapeDtypeStruct((1, 2), bool)
ROW = jax.ShapeDtypeStruct((2,), jnp.float32)
VALID = jax.ShapeDtypeStruct((2,), bool)


@registry.trial('credit')
def credit(fn):
  jax.eval_shape(fn, ROW, jax.ShapeDtypeStruct((3,), jnp.float32), VALID)


@registry.trial('estimator')
def estimator(fn):
  takes = inspect.signature(fn).parameters
  if 'mask' in takes:  # a critic's
    jax.eval_shape(fn, ROW, ROW, VALID)
    return
  more = {'length': ROW, 'greedy': jax.ShapeDtypeStruct((), jnp.float32)}
  more = {k: v for k, v in more.items() if k in takes}
  jax.eval_shape(fn, ROW, VALID, **more)


@registry.trial('surrogate')
def surrogate(fn):
  args = (ROWS, ROWS, ROWS, MASK)
  if (choose := surrogates.choose(fn)) is not None:
    jax.eval_shape(choose, *args)
    args = (*args, MASK)
  jax.eval_shape(fn, *args)


@registry.trial('correction')
def correction(fn):
  jax.eval_shape(fn, ROWS, ROWS, MASK)


@registry.trial('aggregate')
def aggregate(fn):
  jax.eval_shape(fn, ROWS, MASK)


@registry.trial('kl')
def kl(fn):
  jax.eval_shape(fn, ROWS, ROWS)
