"""The policy's own probabilities of the rows that it sampled."""

import types

import numpy as np
import pytest

from rlvr_jax import enums
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import certainty_signals
from rlvr_jax.tasks import Task

TASK = Task('t', 'q', '4', 'math', {})


def row(tokens=3, seen=None, text='#### 4'):
  return base.Transcript(
    text, tokens, enums.Stop.END, enums.Verdict.WRONG, seen
  )


def test_signals_of_rows_by_hand():
  """Answer tokens by characters: 'so', ' #### ', '1', '2' of 'so #### 12'."""
  words = ['so', ' #### ', '1', '2']
  decode = lambda ids: ''.join(words[i] for i in ids)
  ids = np.array([[0, 1, 2, 3]])
  turn = np.array([[-1, 0, 0, 0, 0]])
  p = np.array([[1.0, 0.9, 0.8, 0.5, 0.25]])
  outputs = types.SimpleNamespace(
    logp=np.log(p),
    entropy=np.array([[9.0, 1, 2, 3, 4]]),
    certainty=np.array([[9.0, 5, 5, 5, 1]]),
    gap=np.array([[9.0, 0.8, 0.6, 0.25, 0.5]]),
  )
  sampled = types.SimpleNamespace(tokens=ids, length=np.array([4]))
  (got,) = certainty_signals.attach(
    [row(4, text='so #### 12')], turn, sampled, outputs, decode
  )
  assert got.signals.entropy == 2.5
  assert got.signals.self_certainty == 4
  assert got.signals.answer_probability == pytest.approx((0.5 + 0.25) / 2)
  assert got.signals.answer_gap == pytest.approx((0.25 + 0.5) / 2)
  assert certainty_signals.answer_tokens('so', ids[0, :1], decode) is None
