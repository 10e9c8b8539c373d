"""Verdicts and stop reasons."""

import enum


class Verdict(enum.IntEnum):
  """A verifier's result for one completion against one gold answer."""

  CORRECT = 0
  WRONG = 1
  NO_ANSWER = 2  # no candidate answer was found
  UNVERIFIABLE = 3  # the verifier failed, or ran out of time or memory


class Stop(enum.IntEnum):
  """Why sampling of a row stopped."""

  NONE = 0  # the row was not sampled (padding)
  END = 1  # an end token was sampled
  LENGTH = 2  # truncated at the limit on new tokens
