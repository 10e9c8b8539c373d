"""Dialogues with an environment: many episodes advance together, turn by turn.

The host's side of `models.dialogue_sampler`: who speaks, what the environment
replies, which rows go on. A row holds the prompt and all messages and replies,
exactly as they were sampled or fed; only sampled tokens belong to a turn.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rlvr_jax import enums
from rlvr_jax.envs import dialogue
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import dialogue_sampler, sampler, sharding
from rlvr_jax.rollouts import single_turn


class Limits(NamedTuple):
  """Of one game. Lengths are in tokens."""

  turns: int  # K
  message: int  # N, of the policy in one turn; the end token counts
  reply: int  # between two messages, the template's words included
  length: int  # of all that follows the prompt
  invalid: int  # turns in all that the rules refuse, then it is over; 0: any

  @property
  def fed(self) -> int:
    return self.reply + 1

  @property
  def columns(self) -> int:
    return self.turns * (self.fed + self.message) + self.fed


def dialogue_limits(c, *, evaluating: bool = False) -> Limits:
  """Limits of a config's dialogues.

  Args:
    evaluating: eval.max_turns applies, and the length grows in proportion.
  """
  d, turns = c.dialogue, c.dialogue.max_turns
  message = c.max_completion_length
  length = d.max_length or turns * (message + d.max_reply_length)
  if evaluating and c.eval.max_turns:
    length = -(-length * c.eval.max_turns // turns)
    turns = c.eval.max_turns
  return Limits(
    turns=turns,
    message=message,
    reply=d.max_reply_length,
    length=length,
    invalid=d.max_invalid_turns,
  )


class Episode(NamedTuple):
  """One dialogue; the last reply is not in its tokens."""

  task: Any
  messages: list[str]  # the policy's
  replies: list[dialogue.Reply]
  stops: list[enums.Stop]
  tokens: list[int]  # of prompt, messages and replies
  turn: list[int]  # -1 for a token that was not sampled
  logp: list[float]
  # Number of tokens before turn 0, 1, ...; after the last reply.
  context_ends: list[int]
  last_reply: list[int]  # its tokens, which are not trained on

  @property
  def won(self) -> bool:
    return bool(self.replies) and self.replies[-1].won

  @property
  def verdict(self) -> enums.Verdict:
    return enums.Verdict.CORRECT if self.won else enums.Verdict.WRONG

  @property
  def counts(self) -> list[int]:
    """Sampled tokens of each turn."""
    return np.bincount(
      [t for t in self.turn if t >= 0], minlength=len(self.messages)
    ).tolist()


class Actor(NamedTuple):
  """Who plays. Rows are episodes; arrays are the host's.

  begin: (prompt i32[P,S], length i32[P]) -> session.
  turn: (session, inputs i32[B,F], length i32[B], live bool[B], k) -> session,
    Sampled, columns of the session's cache in use before this message.
  """

  begin: Callable
  turn: Callable


def policy_actor(
  asked: FrozenModel, sampling, key, *, group: int, limits: Limits
) -> Actor:
  """The model speaks. `key` as for `dialogue_sampler.turn`."""
  params, model = asked.sampler_params, asked.model
  fold = jax.random.fold_in
  at = jax.vmap(fold, in_axes=(0, None)) if key.ndim else fold
  to_mesh = sharding.to_mesh

  def begin(prompt, length):
    return dialogue_sampler.begin(
      params,
      to_mesh(prompt),
      to_mesh(length),
      model=model,
      group=group,
      columns=limits.columns,
    )

  def turn(cache, inputs, length, live, k):
    cache, sampled, used = dialogue_sampler.turn(
      params,
      cache,
      to_mesh(inputs),
      to_mesh(length),
      to_mesh(live),
      at(key, k),
      model=model,
      how=sampling,
    )
    return cache, sharding.to_host(sampled), int(used)

  return Actor(begin, turn)


def scripted_actor(
  scripts: Sequence[Sequence[str]], tokenizer, limits
) -> Actor:
  """Speaks what is written, a list of messages for each row, then nothing.

  Raises:
    ValueError: a message that is longer than the limit.
  """

  n = limits.message
  rows = [
    [tokenizer.encode_answer(text) for text in lines] for lines in scripts
  ]
  for lines, ids in zip(scripts, rows, strict=True):
    for text, row in zip(lines, ids, strict=True):
      if len(row) > n:
        raise ValueError(
          f'The scripted message {text[:60]!r} has {len(row)} tokens with its '
          f'end token; max_completion_length is {n}. Raise it.'
        )

  def turn(session, inputs, length, live, k):
    b = len(inputs)
    tokens, size = np.zeros((b, n), np.int32), np.zeros(b, np.int32)
    for row in np.flatnonzero(live):
      if k < len(rows[row]):
        ids = rows[row][k]
        tokens[row, : len(ids)], size[row] = ids, len(ids)
    stop = np.full(b, enums.Stop.END, np.int32)
    logp = np.zeros((b, n), np.float32)
    return session, sampler.Sampled(tokens, logp, size, stop), 0

  return Actor(lambda prompt, length: None, turn)


def env_replies(tasks, messages) -> list[dialogue.Reply]:
  """The replies of environments that answer by themselves."""
  return [dialogue.reply(t, s) for t, s in zip(tasks, messages, strict=True)]


def run_episodes(
  tasks: Sequence,
  actor: Actor,
  *,
  encode: Callable,
  tokenizer,
  group: int,
  max_prompt_length: int,
  limits: Limits,
  oracle: Callable = env_replies,
) -> tuple[list[Episode], Any, np.ndarray]:
  """`group` episodes of each task, played to their ends.

  A game ends when the environment says so, at the limits, or when the speaker
  has nothing to say. Rows that have ended wait; shapes stay as they are.

  Args:
    encode: task -> prompt ids.
    oracle: (tasks, messages so far of each) -> a Reply to each.

  Returns:
    B = P*group episodes, those of a task adjacent; the session, which has read
    all replies; i32[k+1], columns of its memory in use at each moment.

  Raises:
    ValueError: a prompt or a reply beyond the limits.
  """
  prompt, length = single_turn.encode_prompts(tasks, encode, max_prompt_length)
  rows = [(i, task) for i, task in enumerate(tasks) for _ in range(group)]
  episodes = []
  for i, task in rows:
    ids = prompt[i, : length[i]].tolist()
    blank = [-1] * len(ids), [0.0] * len(ids)
    episodes.append(Episode(task, [], [], [], ids, *blank, [len(ids)], []))
  session = actor.begin(prompt, length)
  inputs = [[g.tokens[-1]] for g in episodes]
  live, bounds = np.ones(len(episodes), bool), []

  for k in range(limits.turns):
    session, drawn, used = actor.turn(
      session, *_padded(inputs, limits.fed), live, k
    )
    bounds.append(used)
    live &= drawn.length > 0
    inputs = [[] for _ in episodes]
    speaking = np.flatnonzero(live)
    for row in speaking:
      size = drawn.length[row]
      ids = drawn.tokens[row, :size].tolist()
      g = episodes[row]
      g.tokens.extend(ids)
      g.turn.extend([k] * size)
      g.logp.extend(drawn.logp[row, :size].tolist())
      g.stops.append(enums.Stop(int(drawn.stop[row])))
      g.messages.append(tokenizer.decode(ids))
    replies = oracle(
      [episodes[r].task for r in speaking],
      [episodes[r].messages for r in speaking],
    )
    for row, reply in zip(speaking, replies, strict=True):
      g = episodes[row]
      g.replies.append(reply)
      between = _between(tokenizer, reply.text, g.tokens[-1])
      if len(between) > limits.reply:
        raise ValueError(
          f'The reply {reply.text[:60]!r} takes {len(between)} tokens with the '
          f'chat template; dialogue.max_reply_length is {limits.reply}. Raise '
          'it.'
        )
      inputs[row] = [g.tokens[-1], *between]
      g.context_ends.append(len(g.tokens) + len(between))
      start = length[rows[row][0]]
      full = g.context_ends[-1] - start + limits.message > limits.length
      refused = sum(r.kind == 'invalid' for r in g.replies)
      out = limits.invalid and refused >= limits.invalid
      if reply.done or full or out or k + 1 == limits.turns:
        live[row] = False
        g.last_reply.extend(between)
      else:
        g.tokens.extend(between)
        g.turn.extend([-1] * len(between))
        g.logp.extend([0.0] * len(between))
    if not live.any():
      break
  nobody = np.zeros(len(episodes), bool)
  session, _, used = actor.turn(
    session, *_padded(inputs, limits.fed), nobody, k + 1
  )
  bounds.append(used)
  return episodes, session, np.array(bounds, np.int32)


def _padded(rows, width: int) -> tuple[np.ndarray, np.ndarray]:
  """(tokens i32[B,width], length i32[B])"""
  tokens = np.zeros((len(rows), width), np.int32)
  for row, ids in enumerate(rows):
    tokens[row, : len(ids)] = ids
  return tokens, np.array([len(ids) for ids in rows], np.int32)


@functools.lru_cache(4096)
def _frames(tokenizer, text, ended):
  return tokenizer.encode_reply(text, ended)


def _between(tokenizer, text: str, last: int) -> list[int]:
  return _frames(tokenizer, text, last in tokenizer.end_ids)
