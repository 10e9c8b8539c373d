"""The state and the parts with which a run starts, or goes on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlvr_jax import resume, types
from rlvr_jax.evaluation import evaluator
from rlvr_jax.experiment import Experiment, Pretrained
from rlvr_jax.io import checkpoint
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import train_step
from rlvr_jax.models import sharding, transformer
from rlvr_jax.rollouts import (
  collector,
  context,
  lessons,
  model_judge,
  oracle,
  reward_scores,
)


class Run(NamedTuple):
  """What the loop uses beside the experiment; read-only.

  Attributes:
    resumed: whether the state comes from a checkpoint.
    policy: model and tokenizer, without weights.
    read: digests of tasks and models, see `digests`.
    reference: the initial policy, of the KL term, the preference or the
      teacher; None without one.
    examine: lets the teacher answer; None if it never does.
    collect: makes the rollouts of a step.
    evaluate: evaluates on the held-out tasks.
  """

  resumed: bool
  policy: FrozenModel
  read: dict[str, str]
  reference: FrozenModel | None
  examine: lessons.Examiner | None
  collect: collector.Collector
  evaluate: evaluator.Evaluator


def start(
  x: Experiment, pretrained: Pretrained, saved: checkpoint.Checkpointer
) -> tuple[Run, types.TrainState, resume.Progress]:
  """The run's first state: from a checkpoint, else pretrained, else random.

  Call it within `sharding.use(x.mesh)`. A new state takes over (by donation)
  the weights of `pretrained`.

  Args:
    saved: the run's open checkpoints.
  """
  c, programs = x.config, x.programs
  policy = pretrained.policy._replace(params=None)
  found = saved.restore(programs.abstract)
  resumed = found is not None
  initial = None
  if not resumed or x.needs_initial:
    initial = _initial_params(x, pretrained.policy.params)
  reference = believer = None
  if x.keeps_initial:
    # A copy, where the new state is about to take over the weights.
    kept = initial if resumed else jax.tree.map(jnp.copy, initial)
    reference = policy._replace(params=kept)
  if x.believes_initially:
    believer = policy._replace(sampler_params=programs.to_sampler(initial))
  if resumed:
    state, extra, _ = found
    progress = resume.Progress.of(extra)
  else:
    state = train_step.new_state(
      initial,
      tx=programs.tx,
      trainable=c.optimizer.trainable,
      abstract=programs.abstract,
    )
    progress = resume.Progress()
  reply = oracle.make_oracle(c, x.oracle)
  collect = collector.Collector(
    config=c,
    algorithm=x.algorithm,
    policy=policy,
    reward=x.reward,
    stream=x.stream,
    sampling=collector.training_sampling(c, policy.tokenizer.end_ids, x.mesh),
    teacher=x.teacher,
    oracle=reply,
    initial=believer,
    forward=programs.forward,
    attach_scores=reward_scores.attach(c, x.reward_models, x.mesh),
    judge=None
    if x.judged is None
    else model_judge.ModelJudge(c.judge, x.judged, x.judge),
    feedback=x.algorithm.distill is not None
    and 'feedback' in context.needs(c.teacher.context),
  )
  evaluation = evaluator.Evaluator(c, policy, x.eval_tasks, reply, x.mesh)
  examine = None
  if c.teacher.accuracy_every:
    one = x.teacher or policy
    if c.teacher.weights == 'initial':
      one = policy._replace(
        sampler_params=programs.to_sampler(reference.params)
      )
    examine = lessons.Examiner(c, one, policy.tokenizer, collect.sampling)
  read = pretrained.read
  run = Run(resumed, policy, read, reference, examine, collect, evaluation)
  return run, state, progress


def _initial_params(x: Experiment, loaded):
  """The policy's weights before training, in the training layout."""
  programs = x.programs
  if loaded is None:
    key = jax.random.key(x.config.seed)
    return sharding.init_params(programs.model, key, x.mesh)
  place = sharding.placer(programs.abstract.params)
  return transformer.with_value(programs.model, loaded, place)
