"""Dialogues with an environment: a batch of episodes advances turn by turn.

The host's part of `models.dialogue_sampler`: it queries the environment and
decides which rows continue. A row holds the prompt and all messages and replies
with exactly the token ids that were sampled or read; only sampled tokens belong
to a turn.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rlvr_jax import enums
from rlvr_jax.envs import dialogue
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import dialogue_sampler, sampler, sharding
from rlvr_jax.rollouts import episode_end, single_turn
from rlvr_jax.rollouts.episode_end import Limits
from rlvr_jax.tasks import Task

# (tasks, messages so far of each) -> a reply to each
Oracle = Callable[
  [Sequence[Task], Sequence[Sequence[str]]], list[dialogue.Reply]
]


class Episode(NamedTuple):
  """One dialogue. `tokens` ends with the last message.

  Attributes:
    messages, replies, stops: of each turn.
    tokens: of the prompt, the messages and the replies between them.
    turn, logp: of each token; -1 and 0 where it was not sampled.
    context_ends: number of tokens before each turn; last, that with last_reply.
    last_reply: its tokens.
  """

  task: Task
  messages: list[str]
  replies: list[dialogue.Reply]
  stops: list[enums.Stop]
  tokens: list[int]
  turn: list[int]
  logp: list[float]
  context_ends: list[int]
  last_reply: list[int]

  @property
  def won(self) -> bool:
    return bool(self.replies) and self.replies[-1].won

  @property
  def verdict(self) -> enums.Verdict:
    return enums.Verdict.CORRECT if self.won else enums.Verdict.WRONG

  @property
  def counts(self) -> list[int]:
    """Number of sampled tokens in each turn."""
    return np.bincount(
      [t for t in self.turn if t >= 0], minlength=len(self.messages)
    ).tolist()


class Actor(NamedTuple):
  """What writes the messages of a batch of episodes. Host arrays.

  begin: (prompt i32[P,S], length i32[P]) -> cache.
  turn: (cache, inputs i32[B,F], length i32[B], live bool[B], k) -> cache,
    Sampled, number of cache columns in use before this message.
  """

  begin: Callable[[np.ndarray, np.ndarray], Any]
  turn: Callable[..., tuple[Any, sampler.Sampled, int]]


def policy_actor(
  policy: FrozenModel,
  sampling: sampler.Sampling,
  key: jax.Array,
  *,
  group: int,
  limits: Limits,
) -> Actor:
  """Messages sampled from a model.

  Args:
    key: a PRNG key, or one for each prompt: see `dialogue_sampler.decode_turn`.
  """
  params, model = policy.sampler_params, policy.model
  fold = jax.random.fold_in
  at = jax.vmap(fold, in_axes=(0, None)) if key.ndim else fold
  to_mesh = sharding.to_mesh

  def begin(prompt, length):
    return dialogue_sampler.prefill(
      params,
      to_mesh(prompt),
      to_mesh(length),
      model=model,
      group=group,
      columns=limits.columns,
    )

  def turn(cache, inputs, length, live, k):
    cache, sampled, used = dialogue_sampler.decode_turn(
      params,
      cache,
      to_mesh(inputs),
      to_mesh(length),
      to_mesh(live),
      at(key, k),
      model=model,
      sampling=sampling,
    )
    return cache, sharding.to_host(sampled), int(used)

  return Actor(begin, turn)


def scripted_actor(
  scripts: Sequence[Sequence[str]], tokenizer: Tokenizer, limits: Limits
) -> Actor:
  """Messages given in advance, a list for each row; after them, none.

  Raises:
    ValueError: a message that is longer than the limit.
  """
  n = limits.message
  rows = [
    [tokenizer.encode_answer(text) for text in script] for script in scripts
  ]
  for script, row in zip(scripts, rows, strict=True):
    for text, ids in zip(script, row, strict=True):
      if len(ids) > n:
        raise ValueError(
          f'The scripted message {text[:60]!r} has {len(ids)} tokens with its '
          f'end token; max_completion_length is {n}. Raise it.'
        )

  def turn(cache, inputs, length, live, k):
    b = len(inputs)
    tokens, size = np.zeros((b, n), np.int32), np.zeros(b, np.int32)
    for row in np.flatnonzero(live):
      if k < len(rows[row]):
        ids = rows[row][k]
        tokens[row, : len(ids)], size[row] = ids, len(ids)
    stop = np.full(b, enums.Stop.END, np.int32)
    logp = np.zeros((b, n), np.float32)
    return cache, sampler.Sampled(tokens, logp, size, stop), 0

  return Actor(lambda prompt, length: None, turn)


def env_replies(
  tasks: Sequence[Task], messages: Sequence[Sequence[str]]
) -> list[dialogue.Reply]:
  """Replies that the environments themselves compute: an `Oracle`."""
  return [dialogue.reply(t, s) for t, s in zip(tasks, messages, strict=True)]


def run_episodes(
  tasks: Sequence[Task],
  actor: Actor,
  *,
  encode: Callable[[Task], Sequence[int]],
  tokenizer: Tokenizer,
  group: int,
  max_prompt_length: int,
  limits: Limits,
  oracle: Oracle = env_replies,
) -> tuple[list[Episode], Any, np.ndarray]:
  """Runs `group` episodes of each task to their ends.

  An episode ends when the environment ends it, at a limit, or when the actor
  writes no token. Ended rows stay in the batch, so that shapes are constant.

  Args:
    encode: task -> prompt ids.
    oracle: (tasks, messages so far of each) -> a Reply to each.

  Returns:
    B = P*group episodes, those of a task adjacent; the actor's cache, which
    holds all replies; i32[k+1], number of its columns in use before each of
    the k turns that were run, then after the last.

  Raises:
    ValueError: a prompt or a reply beyond the limits.
  """
  prompt, length = single_turn.encode_prompts(tasks, encode, max_prompt_length)
  rows = [(i, task) for i, task in enumerate(tasks) for _ in range(group)]
  episodes = []
  for i, task in rows:
    ids = prompt[i, : length[i]].tolist()
    turn, logp = [-1] * len(ids), [0.0] * len(ids)
    episodes.append(Episode(task, [], [], [], ids, turn, logp, [len(ids)], []))
  cache = actor.begin(prompt, length)
  inputs = [[e.tokens[-1]] for e in episodes]
  live, bounds = np.ones(len(episodes), bool), []

  for k in range(limits.turns):
    cache, sampled, used = actor.turn(
      cache, *_padded(inputs, limits.fed), live, k
    )
    bounds.append(used)
    live &= sampled.length > 0
    inputs = [[] for _ in episodes]
    active = np.flatnonzero(live)
    for row in active:
      size = sampled.length[row]
      ids = sampled.tokens[row, :size].tolist()
      e = episodes[row]
      e.tokens.extend(ids)
      e.turn.extend([k] * size)
      e.logp.extend(sampled.logp[row, :size].tolist())
      e.stops.append(enums.Stop(int(sampled.stop[row])))
      e.messages.append(tokenizer.decode(ids))
    replies = oracle(
      [episodes[row].task for row in active],
      [episodes[row].messages for row in active],
    )
    for row, reply in zip(active, replies, strict=True):
      e = episodes[row]
      e.replies.append(reply)
      between = _between(tokenizer, reply.text, e.tokens[-1])
      if len(between) > limits.reply:
        raise ValueError(
          f'The reply {reply.text[:60]!r} takes {len(between)} tokens with the '
          f'chat template; dialogue.max_reply_length is {limits.reply}. Raise '
          'it.'
        )
      inputs[row] = [e.tokens[-1], *between]
      e.context_ends.append(len(e.tokens) + len(between))
      after_prompt = e.context_ends[-1] - length[rows[row][0]]
      if episode_end.is_over(e.replies, after_prompt, limits):
        live[row] = False
        e.last_reply.extend(between)
      else:
        e.tokens.extend(between)
        e.turn.extend([-1] * len(between))
        e.logp.extend([0.0] * len(between))
    if not live.any():
      break
  # The last replies go into the cache too: beliefs are measured after them.
  none_live = np.zeros(len(episodes), bool)
  cache, _, used = actor.turn(
    cache, *_padded(inputs, limits.fed), none_live, k + 1
  )
  bounds.append(used)
  return episodes, cache, np.array(bounds, np.int32)


def _padded(
  rows: Sequence[Sequence[int]], width: int
) -> tuple[np.ndarray, np.ndarray]:
  """(tokens i32[B,width], length i32[B]), right-padded with 0."""
  tokens = np.zeros((len(rows), width), np.int32)
  for row, ids in enumerate(rows):
    tokens[row, : len(ids)] = ids
  return tokens, np.array([len(ids) for ids in rows], np.int32)


@functools.lru_cache(4096)
def _encoded_reply(tokenizer, text, ended):
  return tokenizer.encode_reply(text, ended)


def _between(tokenizer: Tokenizer, text: str, last: int) -> list[int]:
  """Ids of a reply with the template's around it, after token `last`."""
  return _encoded_reply(tokenizer, text, last in tokenizer.end_ids)
