"""Can this config's teacher work? Checks at start, part of `checks`."""

from collections.abc import Callable, Sequence

import ml_collections

from rlvr_jax import registry
from rlvr_jax.envs import dialogue
from rlvr_jax.registry import show
from rlvr_jax.rollouts import context as contexts
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import dispatch


def rules(c: ml_collections.ConfigDict) -> list[tuple[bool, str]]:
  """(holds, what must hold) of the settings of a teacher.

  Raises:
    ValueError: a spec that the registry refuses.
  """
  t, use = c.teacher, c.algo.distill
  with registry.naming('teacher.context'):
    registry.get('context', t.context)
    name, args, options = registry.parse(t.context)
  distill = None
  if use:
    with registry.naming('algo.distill'):
      distill = registry.get('distill', use)()
  judges = f'algo.distill={show(use)}'
  needs = contexts.needs(t.context)
  template = contexts.TEMPLATES.get(t.template)
  out = [
    (
      not use or c.method in ('rl', 'distill'),
      f"{judges} needs method='rl' or 'distill', not {show(c.method)}",
    ),
    (
      bool(use) or c.method in ('distill', 'rejection') or not t.name,
      f'teacher.name={show(t.name)} is not read by method={show(c.method)} '
      "without algo.distill: set it to '', or algo.distill='loss', or "
      "method='distill' or 'rejection'",
    ),
    (
      c.method == 'rl' or distill is None or distill.weight > 0,
      f"{judges} changes advantages, which method='distill' has none of: take "
      "'loss' or 'add'",
    ),
    (
      c.method == 'rl' or name == 'none',
      f"teacher.context={show(t.context)} needs method='rl': in "
      f'{show(c.method)} nobody reads it',
    ),
    (
      bool(use) or (name == 'none' and t.weights == 'live'),
      f'teacher.context={show(t.context)} and teacher.weights='
      f"{show(t.weights)} need algo.distill, such as 'loss'",
    ),
    (
      not t.name or t.weights == 'live',
      f'teacher.weights={show(t.weights)} is of the policy; teacher.name='
      f"{show(t.name)} has its own: set one of them to 'live' or ''",
    ),
    (
      distill is None
      or distill.outcome
      or bool(t.name)
      or (t.weights, name) != ('live', 'none'),
      f"{judges} with teacher.context='none' and live weights: the teacher is "
      'the student, so that loss and gradient are 0. Set teacher.name, another '
      'teacher.weights or a teacher.context',
    ),
    (
      distill is None or distill.outcome or not c.max_resample_batches,
      f'max_resample_batches={c.max_resample_batches} waits for rewards that '
      f'differ, and {judges} reads none: set it to 0',
    ),
    (
      'sibling' not in needs
      or c.num_generations > 1
      or True in (*args, *options.values()),
      f'num_generations={c.num_generations} with teacher.context='
      f'{show(t.context)}: a row has no sibling. Take 2 or more',
    ),
    (
      'others' not in needs or c.train_batch_size > 1,
      f'train_batch_size={c.train_batch_size} with teacher.context='
      f'{show(t.context)}: there is no other task. Take 2 or more',
    ),
    (
      template is not None,
      f'teacher.template={show(t.template)} must be one of '
      f'{", ".join(contexts.TEMPLATES)}',
    ),
    (
      template is None
      or template.feedback is not None
      or 'feedback' not in contexts.NEEDS.get(name, ()),
      f'teacher.template={show(t.template)} has no place for the feedback of '
      f"teacher.context={show(t.context)}: take 'sdpo' or 'plain'",
    ),
    (
      not t.accuracy_every
      or (bool(use) and (bool(t.name) or t.weights != 'trust_region')),
      f'teacher.accuracy_every={t.accuracy_every} needs algo.distill, and '
      'weights that can answer: a trust_region is two models. Set it to 0',
    ),
  ]
  return out


def check_tasks(
  c: ml_collections.ConfigDict,
  tasks: Sequence[Task],
  encode: Callable[[Task], list[int]],
) -> None:
  """ValueError for tasks that lack what the teacher is to be told.

  Or whose context is longer than teacher.max_context_length, where it is known
  beforehand: solutions of the tasks, and the placebo.
  """
  t = c.teacher
  needs = contexts.needs(t.context)
  name = registry.parse(t.context)[0]
  single = not dialogue.is_dialogue(tasks[0])
  if c.algo.distill and single and t.skip_tokens >= c.max_completion_length:
    raise ValueError(
      f'teacher.skip_tokens={t.skip_tokens} leaves no token to judge of rows of '
      f'max_completion_length={c.max_completion_length}. Lower it.'
    )
  for task in tasks if 'feedback' in needs else ():
    if task.verifier not in (*dispatch.VERIFIERS, *dialogue.GAMES):
      raise ValueError(
        f'teacher.context={show(t.context)}: the verifier {task.verifier!r} of '
        f'task {task.id!r} says nothing about a completion. Take another '
        'context.'
      )
  if not {'gold', 'demonstration'} & {*needs} and name != 'placebo':
    return
  context = registry.get('context', t.context)
  template = contexts.TEMPLATES[t.template]
  for i, task in enumerate(tasks):
    found = context(tasks, [[]] * len(tasks), i, 0)
    read = found and contexts.told(
      task, found, template, remove_thinking=t.remove_thinking
    )
    if read is None:
      raise ValueError(
        f'teacher.context={show(t.context)}: task {task.id!r} has none. Its '
        "environment must give data['solution'], as gsm8k, chain and jsonl "
        "files do (or data['demonstration']); 'gold(answer=True)' tells the "
        'answer alone.'
      )
    more = len(encode(read)) - len(encode(task))
    if more > t.max_context_length:
      raise ValueError(
        f'teacher.context={show(t.context)} adds {more} tokens to the prompt of '
        f'task {task.id!r}; teacher.max_context_length is '
        f'{t.max_context_length}. Raise it, or take the task out of the data.'
      )
