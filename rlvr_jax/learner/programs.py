"""The compiled functions of a run: what training calls and slices compile."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from rlvr_jax import algorithm as algorithms
from rlvr_jax.learner import optimizer, train_step
from rlvr_jax.models import micro_batch, sharding, transformer


class Programs(NamedTuple):
  """`abstract` describes the state: shapes, dtypes, shardings."""

  model: transformer.Decoder
  abstract: Any
  tx: Any
  to_sampler: Callable  # training parameters -> the sampler's
  update: Callable  # (state, batches, teacher's parameters or None, look)
  forward: Callable  # (parameters, batch) -> Outputs
  prepare: Callable  # (parameters, batch, reward) -> batch, metrics


def prompts_per_micro_batch(c, mesh) -> int:
  """Prompts of a micro-batch, in equal parts for the devices.

  The least common multiple of groups_per_micro_batch and data*fsdp, which
  divides train_batch_size, as both of them do.
  """
  return math.lcm(c.groups_per_micro_batch, sharding.batch_shards(mesh))


def build(
  c,
  mesh,
  algo: algorithms.Algorithm,
  config,
  *,
  teacher: transformer.Decoder | None = None,
  certainty: bool = False,
) -> Programs:
  """The programs of config `c` for the architecture `config`.

  Args:
    teacher: whose distribution `update` is to match, if any.
    certainty: whether `forward` computes the self-certainty.
  """
  model = transformer.decoder(
    c.model, config, value_head=algo.critic is not None
  )
  updates = c.total_steps * c.num_iterations
  tx = optimizer.make_optimizer(c.optimizer, updates, c.seed)
  abstract = train_step.abstract_state(model, tx, c.optimizer.trainable, mesh)
  shared = dict(
    model=model,
    temperature=c.temperature,
    shapes=micro_batch.Shapes(
      group=c.num_generations,
      max_prompt=c.max_prompt_length,
      groups_per_micro_batch=prompts_per_micro_batch(c, mesh),
      chunk=c.logits_chunk,
      pack=mesh.size == 1,
    ),
  )
  of_update = shared | {'shapes': (shared['shapes'],)}

  def update(state, batches, teacher_params=None, look=True):
    return train_step.update(
      state,
      batches,
      algorithm=algo,
      tx=tx,
      schedule=optimizer.make_schedule(c.optimizer, updates),
      trainable=c.optimizer.trainable,
      teacher=None if teacher is None else (teacher, teacher_params),
      look=look,
      **of_update,
    )

  rows = sharding.rows(mesh)
  return Programs(
    model=model,
    abstract=abstract,
    tx=tx,
    to_sampler=sharding.to_sampler(model, mesh),
    update=jax.jit(
      update,
      donate_argnums=0,
      out_shardings=(train_step.shardings_of(abstract), None),
    ),
    forward=micro_batch.scorer(mesh=mesh, certainty=certainty, **shared),
    prepare=jax.jit(
      functools.partial(train_step.prepare, algorithm=algo, **shared),
      out_shardings=(rows, None),
    ),
  )
