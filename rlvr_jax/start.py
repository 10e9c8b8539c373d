"""The state and the parts with which a run starts, or goes on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlvr_jax import resume, types
from rlvr_jax.evaluation import evaluator
from rlvr_jax.experiment import Experiment, Pretrained
from rlvr_jax.io import checkpoint, frozen_model
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import train_step
from rlvr_jax.models import lora, transformer
from rlvr_jax.rollouts import (
  collector,
  context,
  lessons,
  model_judge,
  oracle,
  reward_scores,
)


class Initial(NamedTuple):
  """The weights of the policy before training.

  A policy with adapters has them still: they are its base, with the adapters
  of that time or none. No second copy is kept, and none may be: an update takes
  the arrays over, by donation.

  Attributes:
    model: the policy's.
    kept: a copy of all parameters; with adapters, of those of model.adapter,
      None without it.
  """

  model: transformer.Decoder
  kept: Any

  def params(self, now: Any) -> Any:
    """The parameters before training.

    Args:
      now: the policy's parameters, not donated yet.
    """
    return lora.swap(now, self.kept) if self.model.lora else self.kept


class Run(NamedTuple):
  """What the loop uses beside the experiment; read-only.

  Attributes:
    resumed: whether the state comes from a checkpoint.
    policy: model and tokenizer, without weights.
    read: digests of tasks and models, see `digests`.
    initial: the policy before training, of the KL term, the preference or the
      teacher; None without one.
    examine: lets the teacher answer; None if it never does.
    collect: makes the rollouts of a step.
    evaluate: evaluates on the held-out tasks.
  """

  resumed: bool
  policy: FrozenModel
  read: dict[str, str]
  initial: Initial | None
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
  found = saved.restore(train_step.saved(programs.abstract))
  resumed = found is not None
  first = None
  if not resumed or x.needs_initial:
    first = frozen_model.starting_params(
      c,
      programs.model,
      pretrained.policy.params,
      pretrained.adapters,
      x.mesh,
    )
  initial = believer = None
  if programs.model.lora:
    before = lora.adapters(first) if pretrained.adapters else None
    initial = Initial(programs.model, jax.tree.map(jnp.copy, before))
  elif x.keeps_initial:
    # A copy, where the new state is about to take over the weights.
    kept = first if resumed else jax.tree.map(jnp.copy, first)
    initial = Initial(programs.model, kept)
  if x.believes_initially:
    believer = _believer(x, policy, initial, first)
  if resumed:
    state, extra, _ = found
    if programs.model.lora:
      state = train_step.restored(state, first)
    progress = resume.Progress.of(extra)
  else:
    state = train_step.new_state(
      first,
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
    examine = lessons.Examiner(
      c, one, policy.tokenizer, collect.sampling, reply
    )
  read = pretrained.read
  run = Run(resumed, policy, read, initial, examine, collect, evaluation)
  return run, state, progress


def _believer(
  x: Experiment, policy: FrozenModel, initial: Initial | None, first: Any
) -> Callable[[Any], FrozenModel]:
  """(the policy's parameters) -> the policy before training, to sample.

  With adapters it is made anew for each step, and gone after it.

  Args:
    first: the parameters before training.
  """
  convert = x.programs.to_sampler
  if x.programs.model.lora:
    return lambda now: policy._replace(
      sampler_params=convert(initial.params(now))
    )
  believer = policy._replace(sampler_params=convert(first))
  return lambda now: believer
