"""When does an episode end? Its limits, and the rule."""

from collections.abc import Sequence
from typing import NamedTuple

from rlvr_jax.envs import dialogue


class Limits(NamedTuple):
  """Upper limits of one episode. Lengths are in tokens."""

  turns: int  # K
  message: int  # N, one message of the policy with its end token
  reply: int  # one reply with the chat template's tokens around it
  length: int  # everything after the prompt
  invalid: int  # total of invalid turns that ends the episode; 0: no limit

  @property
  def fed(self) -> int:
    """F: a reply, and before it the last token of the message."""
    return self.reply + 1

  @property
  def columns(self) -> int:
    """M: columns of the cache for everything after the prompt."""
    return self.turns * (self.fed + self.message) + self.fed


def dialogue_limits(c, *, evaluating: bool = False) -> Limits:
  """Turn and token limits of a config's dialogues.

  Args:
    evaluating: eval.max_turns applies and the length limit scales with it.
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


def check_positions(
  c, most: int, whose: str, *, context: int = 0, evaluating: bool = False
) -> None:
  """ValueError for dialogues that may be longer than a model's positions.

  Args:
    most: its positions.
    whose: who it is, for the message.
    context: most tokens that it reads more than the policy, as a teacher.
    evaluating: see `dialogue_limits`.
  """
  limits = dialogue_limits(c, evaluating=evaluating)
  longest = c.max_prompt_length + context + limits.length + limits.fed
  if longest > most:
    key = f'{"eval" if evaluating else "dialogue"}.max_turns={limits.turns}'
    teacher = ' before its teacher' if context else ''
    raise ValueError(
      f'With {key} a dialogue may have {longest} tokens{teacher}, more than '
      f"{whose}'s {most} positions. Lower it, or dialogue.max_length"
      f'{", or teacher.max_context_length" if context else ""}.'
    )


def is_over(
  replies: Sequence[dialogue.Reply], after_prompt: int, limits: Limits
) -> bool:
  """Whether an episode ends with its last reply.

  It does when the environment says so, after the last turn, after too many
  invalid turns, and where another message might exceed the length.

  Args:
    replies: one for each turn so far.
    after_prompt: tokens after the prompt, the last reply's included.
  """
  invalid = sum(r.kind == 'invalid' for r in replies)
  return (
    replies[-1].done
    or len(replies) == limits.turns
    or (limits.invalid > 0 and invalid >= limits.invalid)
    or after_prompt + limits.message > limits.length
  )
