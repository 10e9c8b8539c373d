"""Can this config work? Checks at start, before anything is computed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from rlvr_jax import config as config_lib
from rlvr_jax import config_limits, enums, registry, teacher_checks
from rlvr_jax.envs import dialogue
from rlvr_jax.models import model_config, sharding
from rlvr_jax.ops import estimators
from rlvr_jax.registry import show
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import (
  episode,
  episode_end,
  imitation,
  reward_scores,
  task_stream,
)
from rlvr_jax.rollouts.task_sampling import TaskSampling
from rlvr_jax.tasks import Env, Lazy, Task

CHECK_PROMPTS = 20_000  # training prompts whose length is checked at start


def check_values(c: ml_collections.ConfigDict) -> None:
  """ValueError for a missing key or a value outside its limits."""
  flat = config_lib.flatten(c)
  config_limits.check(flat)
  config_limits.check_complete(flat)


def check_config(c: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> None:
  """ValueError that lists all settings that cannot work together."""
  check_values(c)
  shards = sharding.batch_shards(mesh)
  rules = []

  def rule(holds, text):
    if not holds:
      rules.append(text)

  d = c.dialogue
  rule(
    not d.max_length or d.max_length >= c.max_completion_length,
    f'dialogue.max_length={d.max_length} must be 0, or at least '
    f'max_completion_length={c.max_completion_length}: the first message',
  )
  rule(
    c.method == 'rl' or not d.belief,
    f"dialogue.belief={show(d.belief)} is read only by method='rl': set it "
    "to ''",
  )
  rule(
    d.belief or not d.belief_on_win,
    'dialogue.belief_on_win=True needs a dialogue.belief',
  )
  rule(
    c.max_resample_batches or not c.min_reward_std,
    f'min_reward_std={c.min_reward_std} filters only with max_resample_batches',
  )
  rule(
    not c.keep_best or c.eval_every % c.save_every == 0,
    f'keep_best={show(c.keep_best)} needs a checkpoint at each evaluation: '
    f'eval_every={c.eval_every} must be a multiple of '
    f'save_every={c.save_every}',
  )
  # Sizes that cannot change the result, such as eval.batch_size, are rounded up
  # instead.
  rule(
    c.train_batch_size % shards == 0,
    f'train_batch_size={c.train_batch_size} must be a multiple of '
    f'data*fsdp={shards}: every device takes an equal part',
  )
  rule(
    c.total_steps * c.num_iterations < 2**31,
    f'total_steps={c.total_steps} * num_iterations={c.num_iterations} must be '
    'below 2**31: updates are counted in 32 bits',
  )
  rule(
    c.train_batch_size % c.groups_per_micro_batch == 0,
    f'train_batch_size={c.train_batch_size} must be a multiple of '
    f'groups_per_micro_batch={c.groups_per_micro_batch}',
  )
  rule(
    c.num_generations % c.parts_per_group == 0,
    f'parts_per_group={c.parts_per_group} must divide '
    f'num_generations={c.num_generations}: parts have equally many rows',
  )
  rule(
    c.parts_per_group == 1 or not (c.algo.preference or c.algo.reward_loss),
    f'parts_per_group={c.parts_per_group} must be 1 with algo.preference or '
    'algo.reward_loss, which compare all rows of a group',
  )
  if c.method == 'sft':
    rule(
      c.num_generations == 1,
      f"num_generations={c.num_generations} must be 1 with method='sft': a "
      'task has one solution',
    )
  algo, of_pairs = c.algo, c.method == 'preference'
  rule(
    c.method in ('preference', 'rl') if algo.preference else not of_pairs,
    f'algo.preference={show(algo.preference)} with method={show(c.method)}: '
    "method='preference' needs one, such as 'dpo(beta=0.1)', 'rl' may have one, "
    "any other method ''",
  )
  if algo.preference:
    rule(
      c.num_generations == 2 or (c.num_generations > 2 and not of_pairs),
      f'num_generations={c.num_generations} with algo.preference='
      f"{show(algo.preference)}: a pair is two rows of a group. method='rl' "
      "needs 2 or more, method='preference' 2",
    )
  if c.method == 'distill':
    rule(c.teacher.name, "method='distill' needs a teacher.name")
  rules += reward_scores.broken_rules(c)
  for each in teacher_checks.rules(c):
    rule(*each)
  if rules:
    raise ValueError(f'Config: {"; ".join(rules)}.')


def check_algorithm(c: ml_collections.ConfigDict, algo: Any) -> None:
  """ValueError if every advantage would be 0 in this config.

  `algo` is the `algorithm.Algorithm` of the config.
  """
  if c.method != 'rl':
    return
  if algo.critic is not None:
    if c.max_resample_batches:
      raise ValueError(
        f'max_resample_batches={c.max_resample_batches} with '
        f'algo.estimate={show(c.algo.estimate)}: a critic learns from groups '
        'without spread too. Set max_resample_batches=0.'
      )
    return
  if algo.distill is not None and algo.distill.everywhere:
    return  # a teacher's word needs no group
  if 'greedy' in estimators.takes(algo.estimate):
    return  # the baseline is a greedy row
  # Both rewards: `nsr` gives 0 to a right row, but not to a wrong one.
  alone = [algo.estimate(jnp.full(1, r), jnp.ones(1, bool)) for r in (1.0, 0.0)]
  if c.num_generations == 1 and not any(float(a[0]) for a in alone):
    if estimators.is_whole_batch(algo.estimate) and c.train_batch_size > 1:
      pair = jnp.array([[1.0], [0.0]])
      if jnp.any(algo.estimate(pair, jnp.ones((2, 1), bool))):
        return
    raise ValueError(
      f'num_generations=1 with algo.estimate={show(c.algo.estimate)}: a group '
      'of one has no other member to compare with, so every advantage is 0. '
      "Set num_generations to 2 or more, or algo.estimate='reinforce'."
    )


def check_dialogue(
  c: ml_collections.ConfigDict,
  algo: Any,
  is_dialogue: bool,
  config: model_config.ModelConfig,
) -> None:
  """ValueError for settings that need a dialogue, or that exclude one."""
  wants = registry.parse(c.algo.credit)[0] == 'delta_belief'
  if wants and c.method == 'rl' and not (is_dialogue and c.dialogue.belief):
    raise ValueError(
      f'algo.credit={show(c.algo.credit)} needs the belief before and after '
      "each turn: set dialogue.belief to 'current' or 'initial', in an "
      'environment of several turns such as guessing().'
    )
  of_turns = [
    name
    for spec in c.reward_funcs
    for name, fn in registry.named('reward', spec).items()
    if base.is_of_turns(fn)
  ]
  if not is_dialogue:
    if of_turns:
      raise ValueError(
        f'Reward {show(of_turns[0])} is for turns of a dialogue; '
        f'env={show(c.env)} asks single questions. Take another reward, or an '
        'env such as guessing().'
      )
    return
  reward_scores.check_dialogue(c)
  if algo.preference is not None:
    raise ValueError(
      f'algo.preference={show(c.algo.preference)} compares single answers; '
      f"env={show(c.env)} is a dialogue. Take another env, or set it to ''."
    )
  if base.needs_signals(c.reward_funcs):
    raise ValueError(
      f"reward_funcs={c.reward_funcs}: one of them reads the policy's "
      'probabilities, which works on single answers only; this env is a '
      'dialogue.'
    )
  if 'greedy' in estimators.takes(algo.estimate):
    raise ValueError(
      f'algo.estimate={show(c.algo.estimate)} uses a greedy completion as the '
      'baseline, which works on single answers only; this env is a dialogue. '
      'Take another estimator.'
    )
  told = registry.parse(c.teacher.context)[0] != 'none' and not c.teacher.name
  more = c.teacher.max_context_length if algo.distill and told else 0
  most = config.max_position
  episode_end.check_positions(c, most, 'the model', context=more)
  episode_end.check_positions(c, most, 'the model', evaluating=True)


def environment(c: ml_collections.ConfigDict) -> Env:
  """The environment c.env: tasks by split. ValueError names the key."""
  with registry.naming('env', c.env):
    env = registry.get('env', c.env)()
    _check_env(env)
    return env


def _check_env(env: object) -> None:
  """ValueError unless it maps names of splits to sequences of `Task`.

  Of each split the first task is built.
  """
  rule = "an env returns {'train': tasks, 'test': tasks}, sequences of `Task`"
  if not isinstance(env, Mapping):
    raise ValueError(f'it returned {show(env)}: {rule}.')
  for name, tasks in env.items():
    if not isinstance(tasks, Sequence) or isinstance(tasks, str):
      raise ValueError(f'its split {show(name)} is {show(tasks)}: {rule}.')
    if not len(tasks):
      continue
    task = tasks[0]
    if not isinstance(task, Task):
      raise ValueError(f'{show(name)} has the task {show(task)}: {rule}.')
    for field, value in task._asdict().items():
      kind = Task.__annotations__[field]
      if not isinstance(value, kind):
        raise ValueError(
          f'task {show(task.id)} has {field}={show(value)}, which must be of '
          f'type {kind.__name__}.'
        )


def eval_tasks(c: ml_collections.ConfigDict, env: Env) -> list[Task]:
  """The first eval.num_tasks tasks of eval.split.

  Raises:
    ValueError: the environment has no such split, or it is empty.
  """
  if not len(env.get(c.eval.split, ())):
    raise ValueError(
      f'eval.split={show(c.eval.split)}: {c.env} has '
      f'{", ".join(f"{n} ({len(t)} tasks)" for n, t in env.items())}.'
    )
  split = env[c.eval.split]
  return [split[i] for i in range(min(c.eval.num_tasks, len(split)))]


def training_tasks(
  c: ml_collections.ConfigDict, tasks: Sequence[Task]
) -> Sequence[Task]:
  """The first c.train_tasks tasks, 0: all.

  Raises:
    ValueError: there are fewer, or none at all.
  """
  if not len(tasks):
    raise ValueError(
      f"env={show(c.env)} has no task in a split 'train': make one, or raise "
      'the option that its size comes from.'
    )
  if c.train_tasks > len(tasks):
    raise ValueError(
      f'train_tasks={c.train_tasks}: the train split of {c.env} has only '
      f'{len(tasks)}. Set it to that or less, or to 0 for all of them.'
    )
  if not c.train_tasks:
    return tasks
  if isinstance(tasks, list):
    return tasks[: c.train_tasks]
  of = getattr(tasks, 'of', None)
  return Lazy(c.train_tasks, lambda i: tasks[i], of)


def task_sampling(c: ml_collections.ConfigDict) -> TaskSampling:
  """How c.task_sampling chooses tasks; ValueError if the method forbids it."""
  with registry.naming('task_sampling', c.task_sampling):
    sampling = registry.get('task_sampling', c.task_sampling)()
  if c.method != 'rl' and sampling.log_weight is not None:
    raise ValueError(
      f"task_sampling={show(c.task_sampling)} needs method='rl', not "
      f"{show(c.method)}: it follows the policy's own verdicts. Set "
      "task_sampling='uniform'."
    )
  return sampling


def check_tasks(
  c: ml_collections.ConfigDict,
  tasks: Sequence[Task],
  eval_tasks: Sequence[Task],
  encode: Callable[[Task], list[int]],
  tokenizer: Any,
) -> None:
  """ValueError for prompts, solutions or pairs that are too long or missing.

  Checks the first CHECK_PROMPTS training tasks. They may hold no task that
  the policy is evaluated on, with the same question and answer, unless
  eval.split is 'train'. Dialogues may: a base model that knows the world is
  trained on all its secrets.
  """
  first = [tasks[i] for i in range(min(len(tasks), CHECK_PROMPTS))]
  if c.eval.split != 'train' and not dialogue.is_dialogue(tasks[0]):
    _check_disjoint(c, first, eval_tasks)
  task_stream.check_prompts([*first, *eval_tasks], encode, c.max_prompt_length)
  teacher_checks.check_tasks(c, first, encode)
  if c.method in ('preference', 'reward_model'):
    rows = [*first, *(eval_tasks if c.method == 'reward_model' else ())]
    fields = imitation.fields(c)
    imitation.targets(rows, tokenizer, c.max_completion_length, fields)
  if c.method == 'sft':
    if dialogue.is_dialogue(tasks[0]):
      scripts = imitation.demonstrations(first, 1)
      episode.scripted_actor(scripts, tokenizer, episode_end.dialogue_limits(c))
    else:
      imitation.targets(first, tokenizer, c.max_completion_length)


def _check_disjoint(c, train: Sequence[Task], held_out: Sequence[Task]) -> None:
  """ValueError if a task of `held_out` is in `train` too."""

  def what(t):
    # Pairs may share the question, and their answer is the chosen text.
    other = t.data.get('rejected') if t.verifier == 'pair' else None
    return t.question, t.answer, other

  asked = {what(t): t for t in train}
  both = [t for t in held_out if what(t) in asked]
  if both:
    t = both[0]
    raise ValueError(
      f'env={show(c.env)}: {len(both)} of {len(held_out)} tasks of '
      f'{show(c.eval.split)} are in train too, such as {show(t.id)} and '
      f'{show(asked[what(t)].id)}, {show(t.question)}. Splits '
      'share no question, else an evaluation measures what was learnt by '
      "heart: give them disjoint parts of the data, or set eval.split='train' "
      'to measure that.'
    )


def check_reward(
  c: ml_collections.ConfigDict, reward: base.Reward, tasks: Sequence[Task]
) -> None:
  """Calls the reward once, so that it fails here and not after a compilation.

  It gets the first two training tasks, each with an empty completion whose
  verdict is WRONG; in a dialogue this is the only turn, and invalid. What it
  gives is not looked at.

  Raises:
    ValueError: what `rewards.base.combine` refuses. Other exceptions pass.
  """
  rows = [tasks[i] for i in range(min(2, len(tasks)))]
  empty = base.Transcript('', 1, enums.Stop.END, enums.Verdict.WRONG)
  empty = empty._replace(judged=base.Judged(0.0))
  if base.needs_signals(c.reward_funcs):
    empty = empty._replace(signals=base.Signals(0.0, 0.0, None))
  scores = dict.fromkeys(base.reward_models(c.reward_funcs), 0.0)
  empty = empty._replace(model_scores=scores)
  if dialogue.is_dialogue(rows[0]):
    turn = base.Turn(0, 1, 'invalid', won=False, last=True, dialogue=empty)
    empty = empty._replace(turn=turn)
  with registry.naming('reward_funcs'):
    reward(rows, [empty] * len(rows))
