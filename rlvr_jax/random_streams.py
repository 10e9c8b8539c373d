"""Random streams: who owns which number, derived from the seed."""

import enum


class Stream(enum.IntEnum):
  """Owner of each random stream, fold_in(key(seed), stream).

  Parameter initialisation uses key(seed) itself.
  """

  EVALUATION = 1  # then by task and round: `evaluation.evaluate.keys`
  ROLLOUTS = 2  # then by step and attempt: `rollouts.collector`
  LABELS = 3  # then by place in the split and round: scripts/label.py
  ROUNDING = 4  # then by update: `learner.optimizer.stochastic`, bfloat16
  SIGNAL_MAP = 5  # then by place: `signal_map.samples.stream`
  JUDGMENTS = 6  # within ROLLOUTS, by attempt: `rollouts.model_judge`
  TEACHER = 7  # then by step: `rollouts.lessons`, what a teacher answers
  ADAPTERS = 8  # `io.adapters.start`: their values before training
