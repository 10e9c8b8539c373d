"""What do reward models give to completions? Scores, once a row, on the device.

A reward model reads text and not the policy's tokens: prompt and completion are
rendered by its own tokenizer and chat template, with the system prompt that it
was trained with, as the rows that it was trained on were. So policy and reward
model may have any two vocabularies, and a completion whose sampled tokens are
not those that its text encodes to is scored as its text. The score is read
after the last token: the end token, or where the limit cut a completion, which
then has none, the last token before.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rlvr_jax import registry, types
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import micro_batch, sharding
from rlvr_jax.ops import reward_loss as reward_losses
from rlvr_jax.registry import show
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import single_turn
from rlvr_jax.tasks import Task

SMALLEST = 16  # columns; then powers of two, so that few programs compile


def scores(
  model: FrozenModel,
  tasks: Sequence[Task],
  completions: Sequence[tuple[str, bool]],
  *,
  mesh: jax.sharding.Mesh,
  groups: int,
) -> np.ndarray:
  """Scores f32[B] of the completions of P tasks, B/P of each, by their head.

  NaN for a row that the model cannot read: longer than its positions, or with a
  text that its tokenizer refuses.

  Args:
    model: with `params` and a value head.
    completions: (text, whether it ended by itself), those of a task adjacent.
    groups: tasks in a micro-batch, a multiple of the mesh's batch shards.
  """
  group, config = len(completions) // len(tasks), model.model.config
  prompts = [
    single_turn.encode_task(task, model.tokenizer, model.system_prompt)
    for task in tasks
  ]
  rows = []  # (ids of the prompt, of the completion), or None
  for i, (text, ended) in enumerate(completions):
    ids = _answer(model.tokenizer, text, ended)
    prompt = prompts[i // group]
    fits = ids is not None and len(prompt) + len(ids) <= config.max_position
    rows.append((prompt, ids) if fits else None)
  s = _columns([len(row[0]) for row in rows if row is not None])
  t = s + _columns([len(row[1]) for row in rows if row is not None]) + 1
  b = sharding.whole(len(tasks), groups) * group
  tokens, mask = np.zeros((b, t), np.int32), np.zeros((b, t), bool)
  for row, of in enumerate(rows):
    if of is not None:
      first, last = len(of[0]), len(of[0]) + len(of[1])
      tokens[row, :last] = [*of[0], *of[1]]
      # A value is that of the state before a token: the row's stands after it.
      mask[row, first : last + 1] = True
  zeros = np.zeros((b, t), np.float32)
  score = micro_batch.value_scorer(
    model.model,
    mesh,
    shapes=micro_batch.Shapes(
      group=group,
      max_prompt=s,
      groups_per_micro_batch=groups,
      chunk=1,  # of logits, which there are none of
      pack=mesh.size == 1,
    ),
  )
  batch = sharding.to_mesh(types.Batch(tokens, mask, zeros, zeros, None))
  value = sharding.to_host(score(model.params, batch))
  return np.array(
    [
      np.nan if of is None else value[row, len(of[0]) + len(of[1])]
      for row, of in enumerate(rows)
    ],
    np.float32,
  )


def attach(
  c: Any, models: Mapping[str, FrozenModel], mesh: jax.sharding.Mesh
) -> Callable[[Sequence[Task], list[base.Transcript]], list[base.Transcript]]:
  """(P tasks, their B transcripts) -> the transcripts with `model_scores`.

  Args:
    c: the config.
    models: by the names that reward_funcs have; without any, the transcripts
      stay as they are.
  """
  groups = groups_of(c, mesh)

  def with_scores(tasks, transcripts):
    if not models:
      return transcripts
    texts = [(t.completion, not t.cut) for t in transcripts]
    by_name = {
      name: scores(model, tasks, texts, mesh=mesh, groups=groups).tolist()
      for name, model in models.items()
    }
    return [
      t._replace(model_scores={name: x[i] for name, x in by_name.items()})
      for i, t in enumerate(transcripts)
    ]

  return with_scores


def groups_of(c: Any, mesh: jax.sharding.Mesh) -> int:
  """Tasks in a micro-batch, as `learner.programs.prompts_per_micro_batch`."""
  return math.lcm(c.groups_per_micro_batch, sharding.batch_shards(mesh))


def broken_rules(c: Any) -> list[str]:
  """What of a config keeps it from training, or asking, a reward model."""
  rules, spec, here = [], c.algo.reward_loss, c.method == 'reward_model'
  if here != bool(spec):
    rules.append(
      f'algo.reward_loss={show(spec)} with method={show(c.method)}: '
      "method='reward_model' needs one, such as 'bradley_terry', any other "
      "method ''"
    )
  elif here:
    with registry.naming('algo.reward_loss'):
      of_rows = reward_losses.of_rows(registry.get('reward_loss', spec))
    if c.num_generations != 2 and not (of_rows and c.num_generations == 1):
      rules.append(
        f'num_generations={c.num_generations} with algo.reward_loss='
        f'{show(spec)}: set it to 2, the rows of a pair'
        + (', or to 1, a row with a label' if of_rows else '')
      )
    if c.max_resample_batches:
      rules.append(
        f'max_resample_batches={c.max_resample_batches} is for sampled groups: '
        "set it to 0 with method='reward_model'"
      )
  if base.reward_models(c.reward_funcs) and c.method != 'rl':
    rules.append(
      f'reward_funcs={c.reward_funcs} with method={show(c.method)}: a reward '
      "model is asked by method='rl' alone"
    )
  return rules


def check_dialogue(c: Any) -> None:
  """Raises ValueError, for a dialogue, where a row's score is of an answer."""
  for key, used in (
    ('method', c.method == 'reward_model'),
    ('reward_funcs', base.reward_models(c.reward_funcs)),
  ):
    if used:
      raise ValueError(
        f'{key}={c[key]!r}: a reward model scores single answers; '
        f'env={show(c.env)} is a dialogue. Take another env.'
      )


def _answer(tokenizer: Tokenizer, text: str, ended: bool) -> list[int] | None:
  try:
    ids = tokenizer.encode_answer(text)
  except ValueError:  # what a policy wrote, which no run may end for
    return None
  return ids if ended else ids[:-1]


def _columns(lengths: Sequence[int]) -> int:
  """The smallest power of two that holds all, and is at least `SMALLEST`."""
  return 1 << (max([SMALLEST, *lengths]) - 1).bit_length()
