"""One batch of tasks to rollouts with rewards: questions, or dialogues."""

from collections.abc import Callable

import numpy as np

from rlvr_jax import converse, play, rollout
from rlvr_jax.learner import train_step
from rlvr_jax.models import sampler, sharding
from rlvr_jax.ops import estimators
from rlvr_jax.rewards import base
from rlvr_jax.verifiers.extraction import extract


def make(
  c,
  algo,
  run,
  *,
  talks: bool,
  encode: Callable,
  tokenizer,
  reward: base.Reward,
  teacher,
  answer: Callable,
  frozen,
  how: sampler.Sampling,
  put: Callable,
) -> Callable:
  """(tasks, params to sample with, to train, key, clock) -> Collected.

  Args:
    run: `programs.Programs`.
    talks: whether the tasks are dialogues.
    teacher: `source.Teacher`.
    answer: who replies in a dialogue, from `converse.oracle`.
    frozen: the initial policy's parameters, where its beliefs are asked for.
    how: how the policy samples.
  """

  def draw(params, prompt, length, key, how, group, model=run.model):
    out = sampler.sample(
      params, put(prompt), put(length), key, model=model, how=how, group=group
    )
    return sharding.to_host(out)

  def view(params):
    """The policy's own view of a rollout, where a reward asks for it."""
    if not base.needs_signals(c.reward_funcs):
      return None
    zeros = lambda r: np.zeros(r.tokens.shape, np.float32)
    batch = lambda r: put(train_step.flatten(r, zeros(r), False))
    return lambda r: sharding.to_host(run.forward(params, batch(r)))

  def questions(tasks, params, trained, key, clock):
    sample, greedy = samplers(
      c, algo, tasks, tokenizer, teacher, params, draw, key, how
    )
    return rollout.collect(
      tasks,
      sample,
      encode=encode,
      tokenizer=tokenizer,
      reward=reward,
      group=c.num_generations,
      max_prompt_length=c.max_prompt_length,
      timeout_s=c.verify_timeout_s,
      rules=extract.rules_of(c.verifier),
      greedy=greedy,
      view=view(trained),
      clock=clock,
    )

  def dialogues(tasks, params, trained, key, clock):
    del trained
    return converse.collect(
      c,
      tasks,
      speaker(
        c,
        tasks,
        tokenizer,
        teacher,
        params,
        key,
        how._replace(shrink=False),
        model=run.model,
        put=put,
      ),
      encode=encode,
      tokenizer=tokenizer,
      answer=answer,
      reward=reward,
      believe=converse.believer(
        c, params, frozen, model=run.model, tokenizer=tokenizer, put=put
      ),
      clock=clock,
    )

  return dialogues if talks else questions


def samplers(c, algo, tasks, tokenizer, teacher, params, draw, key, how):
  """(sample, greedy or None) for `rollout.collect` on these tasks."""
  if c.method == 'sft':
    rows = rollout.targets(tasks, tokenizer, c.max_completion_length)
    return (lambda prompt, length: rows), None
  model = {}
  if c.method != 'rl' and teacher.model is not None:
    params, model = teacher.sampler, {'model': teacher.model}

  def sample(prompt, length):
    return draw(params, prompt, length, key, how, c.num_generations, **model)

  if c.method != 'rl' or 'greedy' not in estimators.takes(algo.estimate):
    return sample, None
  best = how._replace(temperature=0.0)
  return sample, lambda prompt, length: draw(
    params, prompt, length, key, best, 1
  )


def speaker(c, tasks, tokenizer, teacher, params, key, how, *, model, put):
  """Who plays the games of a batch: see the table in `source`."""
  if c.method == 'sft':
    lines = converse.demonstrations(tasks, c.num_generations)
    return play.script(lines, tokenizer, converse.limits(c))
  if c.method != 'rl' and teacher.model is not None:
    params, model = teacher.sampler, teacher.model
  return play.policy(
    params,
    model=model,
    how=how,
    put=put,
    key=key,
    group=c.num_generations,
    limits=converse.limits(c),
  )
