"""Who answers in a dialogue: the environment, or a model that knows the truth."""

from collections.abc import Callable

import jax
import numpy as np

from rlvr_jax.envs import dialogue
from rlvr_jax.io import frozen_model
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sampler, sharding
from rlvr_jax.rollouts import episode


def make_oracle(c, asked: FrozenModel | None) -> Callable:
  """(tasks, messages so far of each) -> a Reply to each.

  Args:
    asked: the model of dialogue.oracle; None: the environment answers itself.
  """
  if asked is None:
    return episode.env_replies
  tokenizer = asked.tokenizer
  sampling = sampler.Sampling(
    c.dialogue.max_oracle_length, tokenizer.end_ids, temperature=0.0
  )

  def encode(item):
    task, messages = item
    ids = tokenizer.encode_messages(dialogue.judge_prompt(task, messages))
    # The oldest questions give way: what repeats them is found without it.
    while len(ids) > c.dialogue.max_oracle_prompt and len(messages) > 1:
      messages = messages[1:]
      ids = tokenizer.encode_messages(dialogue.judge_prompt(task, messages))
    return ids

  def replies_to(tasks, messages):
    items = list(zip(tasks, messages, strict=True))
    replies = []
    # Batches of one shape, whatever number of dialogues is left.
    shards = sharding.batch_shards_in_use()
    size = sharding.whole(c.dialogue.oracle_batch_size, shards)
    for start in range(0, len(items), size):
      some = items[start : start + size]
      full = some + some[:1] * (size - len(some))
      prompt, length = _prompts(full, encode, c.dialogue.max_oracle_prompt)
      drawn = sharding.to_host(
        frozen_model.sample(asked, prompt, length, jax.random.key(0), sampling)
      )
      for row, (task, texts) in enumerate(some):
        ids = drawn.tokens[row, : drawn.length[row]]
        raw = tokenizer.decode(ids)
        replies.append(dialogue.judged(task, texts, raw))
    return replies

  return replies_to


def _prompts(items, encode, size: int):
  """(tokens i32[B,S], length i32[B]); ValueError for one beyond S."""
  tokens = np.zeros((len(items), size), np.int32)
  length = np.zeros(len(items), np.int32)
  for row, item in enumerate(items):
    ids = encode(item)
    if len(ids) > size:
      raise ValueError(
        f'The oracle has to read {len(ids)} tokens about task {item[0].id!r}; '
        f'dialogue.max_oracle_prompt is {size}. Raise it.'
      )
    tokens[row, : len(ids)], length[row] = ids, len(ids)
  return tokens, length
