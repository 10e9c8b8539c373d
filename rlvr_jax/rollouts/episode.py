"""Dialogues with an environment: many games advance together, turn by turn.

The host's side of `turns`: who speaks, what the other side replies, which
rows go on. A row holds the prompt and all that was said, exactly as it was
sampled or fed; only the policy's own tokens belong to a turn.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rlvr_jax import enums
from rlvr_jax.envs import dialogue
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


class Game(NamedTuple):
  """One dialogue; the last reply is not in its tokens."""

  task: Any
  said: list[str]  # the policy's messages
  replies: list[dialogue.Reply]
  stops: list[enums.Stop]
  tokens: list[int]  # of prompt, messages and replies
  turn: list[int]  # -1 for a token that was not sampled
  logp: list[float]
  heard: list[
    int
  ]  # tokens at the moments before turn 0, 1, ...; after the last
  rest: list[int]  # the last reply's tokens

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
      [t for t in self.turn if t >= 0], minlength=len(self.said)
    ).tolist()


class Speaker(NamedTuple):
  """Who plays. Rows are games; arrays are the host's.

  begin: prompt i32[P,S], length i32[P] -> session.
  turn: session, fed i32[B,F], length i32[B], live bool[B], k -> session,
    Sampled, columns of the session's memory that were in use by then.
  """

  begin: Callable
  turn: Callable


def policy(params, *, model, how, put, key, group, limits: Limits) -> Speaker:
  """The model speaks. `put` places host arrays; key as for `dialogue_sampler.turn`."""
  fold = jax.random.fold_in
  at = jax.vmap(fold, in_axes=(0, None)) if key.ndim else fold

  def begin(prompt, length):
    return dialogue_sampler.begin(
      params,
      put(prompt),
      put(length),
      model=model,
      group=group,
      columns=limits.columns,
    )

  def turn(memory, fed, length, live, k):
    memory, drawn, heard = dialogue_sampler.turn(
      params,
      memory,
      put(fed),
      put(length),
      put(live),
      at(key, k),
      model=model,
      how=how,
    )
    return memory, sharding.to_host(drawn), int(heard)

  return Speaker(begin, turn)


def script(scripts: Sequence[Sequence[str]], tokenizer, limits) -> Speaker:
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

  def turn(session, fed, length, live, k):
    b = len(fed)
    tokens, size = np.zeros((b, n), np.int32), np.zeros(b, np.int32)
    for row in np.flatnonzero(live):
      if k < len(rows[row]):
        ids = rows[row][k]
        tokens[row, : len(ids)], size[row] = ids, len(ids)
    stop = np.full(b, enums.Stop.END, np.int32)
    logp = np.zeros((b, n), np.float32)
    return session, sampler.Sampled(tokens, logp, size, stop), 0

  return Speaker(lambda prompt, length: None, turn)


def table(tasks, said) -> list[dialogue.Reply]:
  """The replies of environments that answer by themselves."""
  return [dialogue.reply(t, s) for t, s in zip(tasks, said, strict=True)]


def play(
  tasks: Sequence,
  speaker: Speaker,
  *,
  encode: Callable,
  tokenizer,
  group: int,
  max_prompt_length: int,
  limits: Limits,
  oracle: Callable = table,
) -> tuple[list[Game], Any, np.ndarray]:
  """`group` games of each task, played to their ends.

  A game ends when the environment says so, at the limits, or when the speaker
  has nothing to say. Rows that have ended wait; shapes stay as they are.

  Args:
    encode: task -> prompt ids.
    oracle: (tasks, messages so far of each) -> a Reply to each.

  Returns:
    B = P*group games, those of a task adjacent; the session, which has read
    all replies; i32[k+1], columns of its memory in use at each moment.

  Raises:
    ValueError: a prompt or a reply beyond the limits.
  """
  prompt, length = single_turn.encode_prompts(tasks, encode, max_prompt_length)
  rows = [(i, task) for i, task in enumerate(tasks) for _ in range(group)]
  games = []
  for i, task in rows:
    ids = prompt[i, : length[i]].tolist()
    blank = [-1] * len(ids), [0.0] * len(ids)
    games.append(Game(task, [], [], [], ids, *blank, [len(ids)], []))
  session = speaker.begin(prompt, length)
  fed = [[g.tokens[-1]] for g in games]
  live, bounds = np.ones(len(games), bool), []

  def listen(live, k):
    nonlocal session
    tokens = np.zeros((len(games), limits.fed), np.int32)
    size = np.array([len(f) for f in fed], np.int32)
    for row, new in enumerate(fed):
      tokens[row, : len(new)] = new
    session, drawn, heard = speaker.turn(session, tokens, size, live, k)
    bounds.append(heard)
    return drawn

  for k in range(limits.turns):
    drawn = listen(live, k)
    live &= drawn.length > 0
    fed = [[] for _ in games]
    speaking = np.flatnonzero(live)
    for row in speaking:
      size = drawn.length[row]
      ids = drawn.tokens[row, :size].tolist()
      g = games[row]
      g.tokens.extend(ids)
      g.turn.extend([k] * size)
      g.logp.extend(drawn.logp[row, :size].tolist())
      g.stops.append(enums.Stop(int(drawn.stop[row])))
      g.said.append(single_turn.text_of(tokenizer, ids))
    replies = oracle(
      [games[r].task for r in speaking], [games[r].said for r in speaking]
    )
    for row, reply in zip(speaking, replies, strict=True):
      g = games[row]
      g.replies.append(reply)
      between = _between(tokenizer, reply.text, g.tokens[-1])
      if len(between) > limits.reply:
        raise ValueError(
          f'The reply {reply.text[:60]!r} takes {len(between)} tokens with the '
          f'chat template; dialogue.max_reply_length is {limits.reply}. Raise '
          'it.'
        )
      fed[row] = [g.tokens[-1], *between]
      g.heard.append(len(g.tokens) + len(between))
      start = length[rows[row][0]]
      full = g.heard[-1] - start + limits.message > limits.length
      refused = sum(r.kind == 'invalid' for r in g.replies)
      out = limits.invalid and refused >= limits.invalid
      if reply.done or full or out or k + 1 == limits.turns:
        live[row] = False
        g.rest.extend(between)
      else:
        g.tokens.extend(between)
        g.turn.extend([-1] * len(between))
        g.logp.extend([0.0] * len(between))
    if not live.any():
      break
  listen(np.zeros(len(games), bool), k + 1)
  return games, session, np.array(bounds, np.int32)


@functools.lru_cache(4096)
def _frames(tokenizer, text, ended):
  return tokenizer.encode_reply(text, ended)


def _between(tokenizer, text: str, last: int) -> list[int]:
  return _frames(tokenizer, text, last in tokenizer.end_ids)
