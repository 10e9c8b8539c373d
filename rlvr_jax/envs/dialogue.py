"""What does a multi-turn environment reply to the policy's messages?

A dialogue is a task whose `verifier` names a game in GAMES. `task.question` is
the first message to the policy; the game replies to each message of the
policy. The functions here depend on nothing but the task and the policy's
messages so far, so a logged dialogue can be replayed.
"""

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from rlvr_jax.tasks import Task


class Reply(NamedTuple):
  """The environment's reply to one message of the policy."""

  text: str  # the next message to the policy
  kind: str  # 'yes', 'no', 'invalid', 'repeated', 'finished'
  done: bool  # whether the game ends with this reply
  won: bool  # whether the policy has won


# The module that implements each game, with the functions from `reply` on.
GAMES: dict[str, str | ModuleType] = {'guessing': 'rlvr_jax.envs.guessing'}


def is_dialogue(task: Task) -> bool:
  """Whether the task is a multi-turn dialogue."""
  return task.verifier in GAMES


def _game(task: Task) -> ModuleType:
  game = GAMES[task.verifier]
  return importlib.import_module(game) if isinstance(game, str) else game


def reply(task: Task, messages: Sequence[str]) -> Reply:
  """Returns the reply to messages[-1], given the policy's earlier messages."""
  return _game(task).reply(task, messages)


def elicit(task: Task) -> tuple[str, str, str]:
  """Returns (prefix, truth, suffix), the message that states the true answer.

  The policy's belief is its probability of `truth` between the two.
  """
  return _game(task).elicit(task)


def posterior(task: Task, messages: Sequence[str]) -> list[float] | None:
  """Returns log p(truth | replies), nats, before and after each of K messages.

  K+1 values; None if the game has no exact posterior.
  """
  return _game(task).posterior(task, messages)


def information(task: Task, messages: Sequence[str]) -> list[float] | None:
  """Returns the expected information gain of each message's reply, bits.

  The expectation is under the exact posterior before the message; None if the
  game has no exact posterior.
  """
  return _game(task).information(task, messages)


def feedback(
  task: Task, messages: Sequence[str], replies: Sequence[Reply]
) -> str:
  """Says which rules the policy's messages broke, by turn, counted from 1.

  A function of the arguments alone, at most 400 characters. It says nothing of
  the true answer that the replies do not say.

  Args:
    messages, replies: K of each.

  Returns:
    Sentences; '' for a game that is won, or if nothing is to be said.
  """
  if replies and replies[-1].won:
    return ''
  return _game(task).feedback(task, messages, replies)


def judge_prompt(task: Task, messages: Sequence[str]) -> list[dict[str, str]]:
  """Returns a chat prompt that has a language model reply to messages[-1]."""
  return _game(task).judge_prompt(task, messages)


def judged(task: Task, messages: Sequence[str], raw: str) -> Reply:
  """Returns the verified reply that a language model's output `raw` states."""
  return _game(task).judged(task, messages, raw)
