"""One batch of tasks to rollouts with rewards: questions, or dialogues."""

from collections.abc import Callable

import numpy as np

from rlvr_jax import types
from rlvr_jax.models import sampler, sharding
from rlvr_jax.ops import estimators
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import episode, judge, single_turn
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
    answer: who replies in a dialogue, from `judge.oracle`.
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
    batch = lambda r: put(types.flatten(r, zeros(r), False))
    return lambda r: sharding.to_host(run.forward(params, batch(r)))

  def questions(tasks, params, trained, key, clock):
    sample, greedy = samplers(
      c, algo, tasks, tokenizer, teacher, params, draw, key, how
    )
    return single_turn.collect(
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
    return judge.collect(
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
      believe=judge.believer(
        c, params, frozen, model=run.model, tokenizer=tokenizer, put=put
      ),
      clock=clock,
    )

  return dialogues if talks else questions


def samplers(c, algo, tasks, tokenizer, teacher, params, draw, key, how):
  """(sample, greedy or None) for `single_turn.collect` on these tasks."""
  if c.method == 'sft':
    rows = single_turn.targets(tasks, tokenizer, c.max_completion_length)
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
    lines = judge.demonstrations(tasks, c.num_generations)
    return episode.script(lines, tokenizer, judge.limits(c))
  if c.method != 'rl' and teacher.model is not None:
    params, model = teacher.sampler, teacher.model
  return episode.policy(
    params,
    model=model,
    how=how,
    put=put,
    key=key,
    group=c.num_generations,
    limits=judge.limits(c),
  )
