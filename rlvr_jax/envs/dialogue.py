"""Environments that talk back: values in, values out.

A dialogue is a task whose `verifier` names a game of GAMES. `task.question` is
what the policy reads first; after each of its messages the game replies. All
functions here take the task and the policy's messages so far, and nothing
else, so a dialogue that was written down can be played again.
"""

import importlib
from collections.abc import Sequence
from typing import NamedTuple

from rlvr_jax.tasks import Task


class Reply(NamedTuple):
  """What the other side says to the policy's last message."""

  text: str  # what the policy reads next
  kind: str  # 'yes', 'no', 'invalid', 'repeated', 'finished'
  done: bool  # the game is over after this
  won: bool


# The module that plays a game: it has the functions below.
GAMES = {'guessing': 'rlvr_jax.envs.guessing'}


def is_dialogue(task: Task) -> bool:
  """Whether the task is played turn by turn."""
  return task.verifier in GAMES


def _game(task):
  found = GAMES[task.verifier]
  return importlib.import_module(found) if isinstance(found, str) else found


def reply(task: Task, said: Sequence[str]) -> Reply:
  """The reply to said[-1], which follows the other messages."""
  return _game(task).reply(task, said)


def replay(task: Task, said: Sequence[str]) -> list[Reply]:
  """Every reply of a dialogue.

  Raises:
    ValueError: messages after the game was over.
  """
  out = []
  for k in range(len(said)):
    if out and out[-1].done:
      raise ValueError(
        f'Task {task.id!r} was over after {k} of {len(said)} messages: drop '
        'the others.'
      )
    out.append(reply(task, said[: k + 1]))
  return out


def elicit(task: Task) -> tuple[str, str, str]:
  """(before, truth, after): what the policy would say if it knew."""
  return _game(task).elicit(task)


def posterior(task: Task, said: Sequence[str]) -> list[float] | None:
  """log p(truth | replies), nats, at first and after each message: K+1 of
  them; None where the game has no exact one."""
  return _game(task).posterior(task, said)


def information(task: Task, said: Sequence[str]) -> list[float] | None:
  """Bits that each message's reply was expected to bring, under the exact
  posterior before it; None where there is none."""
  return _game(task).information(task, said)


def judge_prompt(task: Task, said: Sequence[str]) -> list[dict]:
  """Chat messages that ask a language model for the reply to said[-1]."""
  return _game(task).judge_prompt(task, said)


def judged(task: Task, said: Sequence[str], raw: str) -> Reply:
  """The reply that a language model's text `raw` amounts to, verified."""
  return _game(task).judged(task, said, raw)
