"""Enums that both halves of the ground floor share. Imports nothing."""

import enum


class Verdict(enum.IntEnum):
  """What a verifier says of one completion, against one gold answer."""

  CORRECT = 0
  WRONG = 1
  NO_ANSWER = 2  # nothing that could be an answer was found
  UNVERIFIABLE = 3  # the check failed, or ran out of time or memory


class Stop(enum.IntEnum):
  """Why a row stopped."""

  NONE = 0  # the row never ran (padding)
  END = 1  # the model said an end token
  LENGTH = 2  # the limit on new tokens cut it


class Stream(enum.IntEnum):
  """Who owns which random stream: fold_in(key(seed), stream).

  The initial weights take key(seed) itself.
  """

  EVALUATION = 1  # then by task and round: `evaluation.evaluate.keys`
  ROLLOUTS = 2  # then by step and attempt: `rollouts.collector`
  LABELS = 3  # then by place in the split and round: scripts/label.py
