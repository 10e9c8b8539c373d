"""The replies of a dialogue: from its environment, or a model as oracle."""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from rlvr_jax.envs import dialogue
from rlvr_jax.io import frozen_model
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sampler, sharding
from rlvr_jax.rollouts import episode
from rlvr_jax.rollouts.episode import Oracle
from rlvr_jax.tasks import Task


def make_oracle(c, model: FrozenModel | None) -> Oracle:
  """(tasks, messages so far of each) -> a Reply to each.

  Args:
    model: of dialogue.oracle; None: the environment computes the replies.
  """
  if model is None:
    return episode.env_replies
  tokenizer = model.tokenizer
  sampling = sampler.Sampling(
    c.dialogue.max_oracle_length, tokenizer.end_ids, temperature=0.0
  )

  def encode(item):
    task, messages = item
    ids = tokenizer.encode_messages(dialogue.judge_prompt(task, messages))
    # The oldest messages are dropped to fit. Repeated questions are detected
    # without the model, so it does not need them.
    while len(ids) > c.dialogue.max_oracle_prompt and len(messages) > 1:
      messages = messages[1:]
      ids = tokenizer.encode_messages(dialogue.judge_prompt(task, messages))
    return ids

  def replies_to(tasks, messages):
    items = list(zip(tasks, messages, strict=True))
    replies = []
    # Batches of one shape, so that sampling compiles once.
    shards = sharding.batch_shards_in_use()
    size = sharding.whole(c.dialogue.oracle_batch_size, shards)
    for start in range(0, len(items), size):
      batch = items[start : start + size]
      padded = batch + batch[:1] * (size - len(batch))
      prompt, length = _prompts(padded, encode, c.dialogue.max_oracle_prompt)
      sampled = sharding.to_host(
        frozen_model.sample(model, prompt, length, jax.random.key(0), sampling)
      )
      for row, (task, history) in enumerate(batch):
        ids = sampled.tokens[row, : sampled.length[row]]
        raw = tokenizer.decode(ids)
        replies.append(dialogue.judged(task, history, raw))
    return replies

  return replies_to


def _prompts(
  items: Sequence[tuple[Task, Sequence[str]]],
  encode: Callable[[tuple], Sequence[int]],
  size: int,
) -> tuple[np.ndarray, np.ndarray]:
  """(tokens i32[B,S], length i32[B]); ValueError beyond S = `size` tokens."""
  tokens = np.zeros((len(items), size), np.int32)
  length = np.zeros(len(items), np.int32)
  for row, item in enumerate(items):
    ids = encode(item)
    if len(ids) > size:
      raise ValueError(
        f"The oracle's prompt for task {item[0].id!r} has {len(ids)} tokens; "
        f'dialogue.max_oracle_prompt is {size}. Raise it.'
      )
    tokens[row, : len(ids)], length[row] = ids, len(ids)
  return tokens, length
