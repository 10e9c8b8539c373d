"""The jitted programs of a run: update, log-probs, sampler's parameters."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.learner import optimizer, train_step
from rlvr_jax.learner import teacher as teachers
from rlvr_jax.models import (
  lora,
  micro_batch,
  model_config,
  sharding,
  token_logprobs,
  transformer,
)


class Programs(NamedTuple):
  """The policy's architecture and optimiser, and jitted functions of them.

  Attributes:
    abstract: shapes, dtypes and shardings of the training state.
    to_sampler: parameters -> the same in the sampler's layout.
    update: (state, batches, kept, look) -> state, metrics: see
      `train_step.update`; `kept` as in `teacher.models`, or of a policy with
      adapters those before training (None: off). The state is donated.
    forward: (parameters, batch) -> outputs of the batch's tokens.
    prepare: (parameters, batch, reward) -> batch, metrics: see
      `train_step.prepare`.
    gaps: (parameters, batch) -> metrics: see `train_step.gaps`.
  """

  model: transformer.Decoder
  abstract: types.TrainState
  tx: optax.GradientTransformation
  to_sampler: Callable[[Any], Any]
  update: Callable[..., tuple[types.TrainState, dict[str, jax.Array]]]
  forward: Callable[[Any, types.Batch], token_logprobs.Outputs]
  prepare: Callable[..., tuple[types.Batch, dict[str, jax.Array]]]
  gaps: Callable[[Any, types.Batch], dict[str, jax.Array]]


def prompts_per_micro_batch(c, mesh: jax.sharding.Mesh) -> int:
  """Prompts in a micro-batch, a multiple of the number of batch shards.

  With parts_per_group, parts of groups, each with its prompt.

  The least common multiple of groups_per_micro_batch and data*fsdp. Both
  divide train_batch_size, so it does too.
  """
  return math.lcm(c.groups_per_micro_batch, sharding.batch_shards(mesh))


def build(
  c,
  mesh: jax.sharding.Mesh,
  algo: algorithms.Algorithm,
  config: model_config.ModelConfig,
  *,
  teacher: transformer.Decoder | None = None,
  certainty: bool = False,
  judgments: int = 0,
) -> Programs:
  """The programs of run config `c` for the architecture `config`.

  Args:
    teacher: of teacher.name, if it judges the rows.
    certainty: whether `forward` computes certainty and gap.
    judgments: rows of each prompt in a second batch, of the policy's
      judgments; 0: there is none.
  """
  model = transformer.decoder(
    c.model, config, value_head=algo.value_head, lora=lora.of(c.model.lora)
  )
  updates = c.total_steps * c.num_iterations
  tx = optimizer.make_optimizer(c.optimizer, updates, c.seed)
  trainable, weights = c.optimizer.trainable, c.teacher.weights
  averages = algo.distill is not None and not teacher and weights == 'ema'
  abstract = train_step.abstract_state(model, tx, trainable, mesh, averages)
  shared = dict(
    model=model,
    temperature=c.temperature,
    shapes=micro_batch.Shapes(
      group=c.num_generations // c.parts_per_group,
      max_prompt=c.max_prompt_length,
      groups_per_micro_batch=prompts_per_micro_batch(c, mesh),
      chunk=c.logits_chunk,
      pack=mesh.size == 1,
      parts=c.parts_per_group,
    ),
  )
  shapes = [shared['shapes']]
  if judgments:
    shapes.append(
      shared['shapes']._replace(
        group=judgments, max_prompt=c.judge.max_prompt_length, parts=1
      )
    )
  for_update = shared | {'shapes': tuple(shapes)}

  def update(state, batches, kept=None, look=True):
    taught_by = None
    if algo.distill is not None:
      if model.lora and not teacher:  # kept are adapters, or none
        kept = lora.swap(state.params, kept)
      taught_by = teachers.models(
        weights,
        c.teacher.rate,
        state,
        kept,
        model=model,
        other=teacher,
        trainable=trainable,
        divergence=algo.divergence,
      )
    return train_step.update(
      state,
      batches,
      algorithm=algo,
      tx=tx,
      schedule=optimizer.make_schedule(c.optimizer, updates),
      trainable=trainable,
      teacher=taught_by,
      teacher_rate=c.teacher.rate,
      look=look,
      **for_update,
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
    gaps=jax.jit(functools.partial(train_step.gaps, **shared)),
  )
