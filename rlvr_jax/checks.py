"""Start-up checks: what cannot work is refused before anything is computed."""

import jax.numpy as jnp

from rlvr_jax import data, evaluate, rollout, sampler, sharding
from rlvr_jax.envs import core as envs
from rlvr_jax.envs import labels
from rlvr_jax.ops import estimators
from rlvr_jax.rewards import core

METHODS = ('rl', 'sft', 'distill', 'rejection')
CHECK_PROMPTS = 20_000  # prompts of a split whose length is checked at start


def check_config(c, mesh) -> None:
  """ValueError for settings that cannot work together, all at once."""
  shards = sharding.batch_shards(mesh)
  rules = []

  def rule(holds, text):
    if not holds:
      rules.append(text)

  for name in (
    'total_steps',
    'train_batch_size',
    'num_generations',
    'max_prompt_length',
    'max_completion_length',
    'num_iterations',
    'groups_per_micro_batch',
    'logits_chunk',
    'log_every',
    'save_every',
    'max_to_keep',
    'max_skipped_updates',
  ):
    rule(c[name] >= 1, f'{name}={c[name]} must be at least 1')
  for name in (
    'max_resample_batches',
    'eval_every',
    'log_transcripts',
    'train_tasks',
  ):
    rule(c[name] >= 0, f'{name}={c[name]} must be at least 0')
  for name in ('num_tasks', 'samples', 'batch_size'):
    rule(c.eval[name] >= 1, f'eval.{name}={c.eval[name]} must be at least 1')
  rule(c.temperature > 0, f'temperature={c.temperature} must be above 0')
  rule(c.verify_timeout_s > 0, 'verify_timeout_s must be above 0')
  for name in ('dtype', 'param_dtype'):
    known = ('float32', 'bfloat16')
    rule(
      c.model[name] in known,
      f'model.{name}={c.model[name]!r} must be one of {known}',
    )
  sizes = {
    'train_batch_size': c.train_batch_size,
    'groups_per_micro_batch': c.groups_per_micro_batch,
    'eval.batch_size': c.eval.batch_size,
  }
  for name, size in sizes.items():
    rule(
      size % shards == 0,
      f'{name}={size} must be a multiple of data*fsdp={shards}: every device '
      'takes an equal part',
    )
  if c.groups_per_micro_batch >= 1:
    rule(
      c.train_batch_size % c.groups_per_micro_batch == 0,
      f'train_batch_size={c.train_batch_size} must be a multiple of '
      f'groups_per_micro_batch={c.groups_per_micro_batch}',
    )
  rule(
    c.method in METHODS,
    f'method={c.method!r} must be one of {", ".join(METHODS)}',
  )
  if c.method == 'sft':
    rule(
      c.num_generations == 1,
      f"num_generations={c.num_generations} must be 1 with method='sft': a "
      'task has one solution',
    )
  if c.method == 'distill':
    rule(c.teacher.name, "method='distill' needs a teacher.name")
  if c.method in ('rl', 'sft'):
    rule(
      not c.teacher.name,
      f'teacher.name={c.teacher.name!r} is not read by method={c.method!r}: '
      "set it to '', or method='distill' or 'rejection'",
    )
  rule(
    c.method == 'distill' or not c.teacher.logits,
    f"teacher.logits needs method='distill', not {c.method!r}",
  )
  if rules:
    raise ValueError(f'Config: {"; ".join(rules)}.')
  sampler.check(evaluate.sampling(c, ()))


def check_algorithm(c, algo) -> None:
  """ValueError for a method that has nothing to learn from in this config."""
  if c.method != 'rl':
    return
  if algo.critic is not None:
    if c.max_resample_batches:
      raise ValueError(
        f'max_resample_batches={c.max_resample_batches} with '
        f'algo.estimate={c.algo.estimate!r}: a critic learns from groups '
        'without spread too. Set max_resample_batches=0.'
      )
    return
  if 'greedy' in estimators.takes(algo.estimate):
    return  # compares with a greedy row
  # Right or wrong: `nsr` gives 0 to the one, and not to the other.
  alone = [algo.estimate(jnp.full(1, r), jnp.ones(1, bool)) for r in (1.0, 0.0)]
  if c.num_generations == 1 and not any(float(a[0]) for a in alone):
    if estimators.is_whole_batch(algo.estimate) and c.train_batch_size > 1:
      pair = jnp.array([[1.0], [0.0]])
      if jnp.any(algo.estimate(pair, jnp.ones((2, 1), bool))):
        return
    raise ValueError(
      f'num_generations=1 with algo.estimate={c.algo.estimate!r}: a group of '
      'one has no other member to compare with, so every advantage is 0. Set '
      "num_generations to 2 or more, or algo.estimate='reinforce'."
    )


def check_model(c, config) -> None:
  """ValueError if rows are longer than the model's positions."""
  longest = c.max_prompt_length + c.max_completion_length
  if longest > config.max_position:
    raise ValueError(
      f'max_prompt_length + max_completion_length = {longest} is more than '
      f"the model's {config.max_position} positions."
    )


def training_tasks(c, tasks):
  """The first train_tasks of a split, with labels where a reward reads them.

  Raises:
    ValueError: fewer tasks than that; no file of labels for a reward that reads them, or one that
      nobody reads, or of other tasks.
  """
  if c.train_tasks > len(tasks):
    raise ValueError(
      f'train_tasks={c.train_tasks}: the train split of {c.env} has only '
      f'{len(tasks)}. Set it to that or less, or to 0 for all of them.'
    )
  wanted = core.needs_labels(c.reward_funcs)
  if bool(wanted) != bool(c.labels):
    raise ValueError(
      f'reward_funcs={c.reward_funcs} reads labels ({", ".join(wanted)}): make '
      'them with scripts/label.py and set labels to their file.'
      if wanted
      else f'labels={c.labels!r} is read by the rewards majority and incorrect '
      "only, which reward_funcs does not name: set labels=''."
    )
  if wanted:
    tasks = labels.attach(tasks, c.labels, wanted)
  count = min(c.train_tasks or len(tasks), len(tasks))
  return envs.Lazy(count, lambda i: tasks[i])


def check_tasks(c, tasks, held_out, encode, tokenizer) -> None:
  """ValueError for prompts or solutions beyond the limit, or missing."""
  some = [tasks[i] for i in range(min(len(tasks), CHECK_PROMPTS))]
  data.check_prompts(some + held_out, encode, c.max_prompt_length)
  if c.method == 'sft':
    rollout.targets(some, tokenizer, c.max_completion_length)
