"""Which weights does a teacher have? The policy's, old ones, another model's.

weights       of the teacher
live          the policy's as they are, a constant in the gradient
initial       those before training
ema           a moving average of the trained parameters, e + a (w - e) after
              each update (SDPO, arXiv:2601.20802: a = 0.05 or 0.01)
trust_region  two models, whose logits are mixed: 1 - a of the initial ones and
              a of the live ones (the same paper)

or those of another model, teacher.name.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rlvr_jax import types
from rlvr_jax.learner import optimizer
from rlvr_jax.models import token_logprobs, transformer
from rlvr_jax.ops.divergence import Divergence

KEEPS_INITIAL = ('initial', 'trust_region')  # weights that are read all along


def start(trained: Any) -> Any:
  """The moving average at step 0: the trained parameters, in float32.

  A small rate would have no effect in bfloat16.
  """
  return jax.tree.map(lambda x: x.astype(jnp.float32), trained)


def abstract_average(trained: Any) -> Any:
  """Shapes and shardings of `start`."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding),
    trained,
  )


def average(old: Any, trained: Any, rate: float) -> Any:
  """The moving average after an update; None stays None."""
  if old is None:
    return None
  move = lambda e, w: e + rate * (w.astype(jnp.float32) - e)
  return jax.tree.map(move, old, trained)


def averaged_params(state: types.TrainState, trainable: str) -> Any:
  """All parameters, with the moving average in place of the trained ones."""
  trained, frozen = optimizer.split(state.params, trainable)
  cast = lambda e, w: e.astype(w.dtype)
  return optimizer.join(jax.tree.map(cast, state.teacher, trained), frozen)


def models(
  weights: str,
  rate: float,
  state: types.TrainState,
  kept: Any,
  *,
  model: transformer.Decoder,
  other: transformer.Decoder | None,
  trainable: str,
  divergence: Divergence,
) -> token_logprobs.Teacher:
  """The teacher of an update: see the module.

  Args:
    weights, rate: of the config's `teacher` section.
    kept: parameters of the other model, or the initial ones; None for weights
      that the state has.
    model: the policy's.
    other: of teacher.name; None: the policy teaches itself.
  """
  if other is not None:
    made, shares = ((other, kept),), (1.0,)
  elif weights == 'initial':
    made, shares = ((model, kept),), (1.0,)
  elif weights == 'ema':
    made, shares = ((model, averaged_params(state, trainable)),), (1.0,)
  elif weights == 'trust_region':
    made, shares = ((model, kept), (model, None)), (1.0 - rate, rate)
  else:
    made, shares = ((model, None),), (1.0,)
  return token_logprobs.Teacher(made, shares, divergence)
