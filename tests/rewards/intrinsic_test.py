"""Lengths, and the policy's own probabilities."""

import types

import numpy as np
import pytest

from rlvr_jax import codes, registry, signals
from rlvr_jax.envs.core import Task
from rlvr_jax.rewards import core, extract

TASK = Task('t', 'q', '4', 'math', {})


def values(spec, *rows):
  graded = registry.get('reward', spec)([TASK] * len(rows), rows)
  return [g.value for g in graded]


def row(tokens=3, seen=None, text='#### 4'):
  return core.Transcript(
    text, tokens, codes.Stop.END, codes.Verdict.WRONG, seen
  )


def test_overlong_of_dapo():
  spec = 'overlong(max_length=20480, buffer=4096)'
  lengths = (1, 16_384, 18_432, 20_480, 21_000)
  want = [0, 0, -0.5, -1, -1]
  assert values(spec, *map(row, lengths)) == pytest.approx(want)
  half = 'overlong(max_length=20480, buffer=4096, factor=0.5)'
  assert values(half, row(18_432)) == pytest.approx([-0.25])
  with pytest.raises(ValueError, match='buffer=0'):
    values('overlong(max_length=8, buffer=0)', row())


def test_length_penalty_is_a_line():
  assert values('length_penalty(per_token=0.01)', row(0), row(50)) == [0, -0.5]
  assert values('length_penalty(per_token=-1.0)', row(2)) == [2]


def test_signals_are_passed_on():
  seen = core.Signals(0.4, 2.5, 0.75)
  assert values('self_certainty', row(seen=seen)) == [2.5]
  assert values('token_entropy', row(seen=seen)) == [-0.4]
  assert values('answer_probability', row(seen=seen)) == [0.75]
  none = seen._replace(answer_probability=None)
  assert values('answer_probability(missing=-1.0)', row(seen=none)) == [-1]
  with pytest.raises(ValueError, match='signals'):
    values('token_entropy', row())


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    (r'4 so \boxed{4} and 4 again', '4'),
    ('4 #### 4\n<confidence>0.4</confidence>', '4'),
    ('<answer>12</answer> 12', '12'),
    ('the answer is 7. Then 8', '7'),
    ('first 3 then 31', '31'),
  ],
)
def test_answer_span_is_where_final_reads(text, answer):
  start, end = extract.answer_span(text, numeric=True)
  assert text[start:end] == answer == extract.final(text, numeric=True)
  assert (
    start
    == {'4 so': 12, '4 ##': 7, '<ans': 8, 'the ': 14, 'firs': 13}[text[:4]]
  )


def test_no_answer_has_no_span():
  assert extract.answer_span('nothing here', numeric=True) is None


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
  )
  sampled = types.SimpleNamespace(tokens=ids, length=np.array([4]))
  (got,) = signals.attach(
    [row(4, text='so #### 12')], turn, sampled, outputs, decode
  )
  assert got.signals.entropy == 2.5
  assert got.signals.self_certainty == 4
  assert got.signals.answer_probability == pytest.approx((0.5 + 0.25) / 2)
  assert signals.answer_tokens('so', ids[0, :1], decode) is None
