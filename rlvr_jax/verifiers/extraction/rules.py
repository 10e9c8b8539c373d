"""Conventions on where an answer stands, on which graders differ."""

from collections.abc import Mapping
from typing import NamedTuple

from rlvr_jax.verifiers.maths.conventions import DEFAULT


class Rules(NamedTuple):
  """Conventions on which graders differ: the config keys `verifier.*`.

  require_mark: no answer without a box, <answer>, #### or 'the answer is'.
  unfinished_thought: a thought that never closes has no answer ('none'), or
    is read as a reply ('read').
  truncated: of a text that a limit cut, only a marked answer counts ('marked'),
    or it is read as others are ('read'): for answers that fill the limit.
  boxes: of several boxes for one value, the last counts ('last'), or they
    must agree ('agree').
  hedges: '3 or 5' is no answer ('refuse'), or its first number ('first', as
    with GSM8K's regular expression).
  percent and what follows it: see `maths.conventions.Conventions`.
  """

  require_mark: bool = False
  unfinished_thought: str = 'none'
  truncated: str = 'marked'
  boxes: str = 'last'
  hedges: str = 'refuse'
  percent: str = DEFAULT.percent
  thousands: str = DEFAULT.thousands
  semicolons: bool = DEFAULT.semicolons
  ratios: str = DEFAULT.ratios
  domain: str = DEFAULT.domain
  approximate: float = DEFAULT.approximate


RULES = Rules()


def rules_of(settings: Mapping) -> Rules:
  """`Rules` of a config's `verifier`, whose values `limits` has checked."""
  return Rules(*(settings[name] for name in Rules._fields))
