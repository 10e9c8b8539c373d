"""Vectors of groups whose tokens a teacher judges.

With a teacher the gradient of a row is no multiple of its score vectors, and
what the teacher reads depends on the row's group. So a group has one vector, by
the path of training: contexts, batch, `learner.gradients`.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rlvr_jax import algorithm as algorithms
from rlvr_jax import checks, registry, types
from rlvr_jax.evaluation import evaluate
from rlvr_jax.experiment import Experiment
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import batches, gradients, loss
from rlvr_jax.learner import teacher as teachers
from rlvr_jax.models import micro_batch, sharding, transformer
from rlvr_jax.rollouts import groups, lessons
from rlvr_jax.signal_map import advantages, vectors
from rlvr_jax.signal_map.signals import DISTILLATION, Signal


def check(name: str, x: Experiment) -> None:
  """ValueError for a signal with a teacher that cannot judge these rows."""
  with registry.naming('signal', name):
    if x.is_dialogue:
      raise ValueError(
        f'{DISTILLATION} is measured on single answers, and '
        f'{registry.show(x.config.env)} has dialogues.'
      )
    checks.check_config(x.config, x.mesh)


class Groups(NamedTuple):
  """Vectors of a signal's groups.

  Attributes:
    vectors: f32[X,2m,M], of each problem's groups, those of a half together.
    taught: share of the rows that the teacher judges.
  """

  vectors: np.ndarray
  taught: float


def of_groups(
  x: Experiment,
  signal: Signal,
  policy: FrozenModel,
  collected: groups.Collected,
  index: np.ndarray,
  *,
  workdir: str | pathlib.Path,
  size: int,
  progress: Callable[[int], None] = lambda done: None,
) -> Groups:
  """Minus the gradient of each group's loss; see `Groups`.

  As in `advantages.row_weights` the denominator of the loss is a constant, the
  mean over all groups. A term that is added to the outcome's (`use=add`) is a
  mean over the teacher's tokens of the group, where training has one of the
  batch.

  Args:
    x: of `samples.config_for` with the signal's teacher.
    policy: the checkpoint.
    collected: single answers [X,n].
    index: i[X,2,m,G] of `advantages.members`.
    workdir: of the run, for teacher.weights='initial' or 'trust_region'.
    size: of the sketch; 0: the whole gradient.
    progress: called with the number of groups done, of X*2*m.
  """
  c, kept = x.config, None
  if x.teacher is not None:
    kept = x.teacher.params
  elif c.teacher.weights in teachers.KEEPS_INITIAL:
    kept = x.checkpoint(workdir, 0, scoring=True).params
  problems, halves, m, group = index.shape
  shards = sharding.batch_shards(x.mesh)
  gradient = functools.partial(
    _gradient,
    policy.params,
    kept,
    algorithm=signal.algorithm,
    weights=c.teacher.weights,
    rate=c.teacher.rate,
    other=x.matched,
    model=policy.model,
    temperature=c.temperature,
    trainable=c.optimizer.trainable,
    shapes=micro_batch.Shapes(
      group=group,
      max_prompt=c.max_prompt_length,
      groups_per_micro_batch=shards,
      chunk=c.logits_chunk,
      pack=False,  # packing compiles longer than it saves
    ),
    size=size,
  )
  made: list[list[np.ndarray]] = [[] for _ in range(problems)]
  dens, taught = [], []
  done = 0
  progress(done)
  for half in range(halves):
    for place in range(m):
      batch = _batch(
        x, signal, policy, collected, index[:, half : half + 1, place]
      )
      taught.append(np.asarray(batch.taught).any(-1).mean())
      for problem in range(problems):
        one = vectors.pad(_rows(batch, problem, group), shards * group)
        den, vector = sharding.to_host(gradient(sharding.to_mesh(one)))
        dens.append(den)
        made[problem].append(vector * den)
        done += 1
        progress(done)
  mean = max(float(np.mean(dens)), 1e-30)
  return Groups(np.array(made, np.float32) / mean, float(np.mean(taught)))


def _rows(batch: types.Batch, number: int, group: int) -> types.Batch:
  """Those of one group."""
  own = slice(number * group, (number + 1) * group)
  return jax.tree.map(lambda a: np.asarray(a)[own], batch)


def _batch(x, signal, policy, collected, members) -> types.Batch:
  """The rows of the groups `members` i[X,1,G], with what the teacher judges."""
  c = x.config
  rollout, score = advantages.scored(
    signal, c, collected, members[:, :, None, :]
  )
  picked = [
    [collected.transcripts[p][i] for i in row]
    for p, row in enumerate(members[:, 0])
  ]
  part = collected._replace(
    rollout=rollout, score=score, transcripts=picked, log_fields=None
  )
  encode = evaluate.encoder(c, policy)
  lesson = lessons.teach(c, part, encode).lesson
  return batches.make_batch(c, signal.algorithm, rollout, score, lesson)


@functools.partial(
  jax.jit,
  static_argnames=(
    'algorithm',
    'weights',
    'rate',
    'other',
    'model',
    'temperature',
    'trainable',
    'shapes',
    'size',
  ),
)
def _gradient(
  params: Any,
  kept: Any,
  batch: types.Batch,
  *,
  algorithm: algorithms.Algorithm,
  weights: str,
  rate: float,
  other: transformer.Decoder | None,
  model: transformer.Decoder,
  trainable: str,
  shapes: micro_batch.Shapes,
  size: int,
  temperature: float,
) -> tuple[jax.Array, jax.Array]:
  """(denominator of the loss, vector f32[M]) of one group."""
  teacher = teachers.models(
    weights,
    rate,
    None,
    kept,
    model=model,
    other=other,
    trainable=trainable,
    divergence=algorithm.divergence,
  )
  _, _, grads = gradients.gradients(
    params,
    batch,
    algorithm=algorithm,
    model=model,
    temperature=temperature,
    trainable=trainable,
    shapes=shapes,
    teacher=teacher,
    look=False,
  )
  den = loss.loss_denominator(algorithm, batch, group=shapes.group)
  return den, vectors.of_gradient(grads, size)
