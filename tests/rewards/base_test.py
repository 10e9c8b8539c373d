"""Rewards and their weighted sum."""

import math

import numpy as np
import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base

V = enums.Verdict


def rows(*verdicts, text=''):
  return [base.Transcript(text, 3, enums.Stop.END, v) for v in verdicts]


def const(*values):
  def reward(tasks, transcripts):
    return [base.RewardResult(v, {}) for v in values]

  return reward


def test_outcome_of_every_verdict():
  batch = rows(V.CORRECT, V.WRONG, V.NO_ANSWER, V.UNVERIFIABLE)
  plain = base.outcome([None] * 4, batch)
  assert [g.value for g in plain] == [1, 0, 0, 0]
  assert plain[0] == base.RewardResult(1.0, {'outcome': 1.0}, refused=False)
  signed = registry.get('reward', 'outcome(correct=2, wrong=-1)')
  assert [g.value for g in signed([None] * 4, batch)] == [2, -1, -1, -1]
  strict = base.outcome([None] * 4, batch, unverifiable='refuse')
  assert [g.refused for g in strict] == [False, False, False, True]
  assert strict[3].value == 0
  with pytest.raises(ValueError, match="'wrong' or 'refuse'"):
    base.outcome([], [], unverifiable='drop')
  with pytest.raises(ValueError, match='correct=nan'):
    base.outcome([], [], correct=math.nan)


def test_combine_weights_the_sum_and_not_the_parts():
  reward = base.combine([const(1, 0), const(0.5, 4)], ['a', 'b'], [2, -0.25])
  out = reward([None] * 2, rows(V.CORRECT, V.WRONG))
  assert out == [
    base.RewardResult(1.875, {'a': 1.0, 'b': 0.5}),
    base.RewardResult(-1.0, {'a': 0.0, 'b': 4.0}),
  ]


def test_weights_do_not_change_the_accuracy():
  batch = rows(V.CORRECT, V.WRONG, V.UNVERIFIABLE)
  funcs = [base.outcome, const(5, 5, 5)]
  values, accuracies = set(), set()
  for weights in ([1, 0], [0, 1], [-3, 0.5]):
    before = [t.verdict for t in batch]
    out = base.combine(funcs, ['outcome', 'bonus'], weights)([None] * 3, batch)
    values.add(tuple(g.value for g in out))
    assert [g.parts['outcome'] for g in out] == [1, 0, 0]
    assert [t.verdict for t in batch] == before
    accuracies.add(sum(t.verdict == V.CORRECT for t in batch) / 3)
  assert len(values) == 3
  assert accuracies == {1 / 3}


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('weight', [1.0, 0.0])
def test_a_value_that_is_not_finite_refuses_its_row_alone(bad, weight):
  reward = base.combine(
    [const(1, bad, 1), const(2, 2, 2)], ['a', 'b'], [weight, 1]
  )
  out = reward([None] * 3, rows(V.CORRECT, V.CORRECT, V.WRONG))
  assert [g.refused for g in out] == [False, True, False]
  assert out[1] == base.RewardResult(0.0, {'b': 2.0}, refused=True)
  assert out[0] == out[2] == base.RewardResult(weight + 2, {'a': 1.0, 'b': 2.0})


def test_refusal_survives_and_overflow_is_refused():
  batch = rows(V.UNVERIFIABLE)
  strict = registry.get('reward', "outcome(unverifiable='refuse')")
  inner = base.combine([strict], ['outcome'], [1])
  outer = base.combine([inner, const(1)], ['x', 'y'], [1, 1])
  assert outer([None], batch) == [
    base.RewardResult(0.0, {'y': 1.0}, refused=True)
  ]
  huge = base.combine([const(1e308)], ['huge'], [1e10])
  assert huge([None], batch)[0].refused


def test_zero_is_a_reward_and_not_a_missing_one():
  out = base.combine([const(0.0)], ['a'], [1])([None], rows(V.WRONG))
  assert out == [base.RewardResult(0.0, {'a': 0.0}, refused=False)]


def test_a_wrong_number_of_rows_names_the_function():
  reward = base.combine([const(1), const(1, 2)], ['good', 'bad'], [1, 1])
  with pytest.raises(ValueError, match="'bad' returned 2 rows for 1"):
    reward([None], rows(V.WRONG))
  with pytest.raises(ValueError, match='2 tasks for 1 transcripts'):
    reward([None] * 2, rows(V.WRONG))
  floats = base.combine([lambda tasks, transcripts: [1.0]], ['f'], [1])
  with pytest.raises(ValueError, match=r"'f' returned 1\.0"):
    floats([None], rows(V.WRONG))


@pytest.mark.parametrize(
  ('names', 'weights', 'message'),
  [
    (['a'], [1], '2 reward functions, 1 names'),
    (['a', 'a'], [1, 1], 'repeat'),
    (['a', 'b'], [1, math.inf], 'b=inf'),
    (['a', 'b'], [1, '2'], "b='2'"),
  ],
)
def test_combine_checks_its_arguments(names, weights, message):
  with pytest.raises(ValueError, match=message):
    base.combine([const(1), const(1)], names, weights)


def test_rewards_by_name():
  assert {'format', 'outcome'} <= set(registry.names('reward'))
  with pytest.raises(ValueError, match='needs pattern'):
    registry.get('reward', 'format')


G = base.RewardResult


@pytest.mark.parametrize(
  'returned',
  [
    None,
    1.0,
    'x',
    {},
    [None],
    [1.0],
    ['x'],
    [(1.0, {})],
    [G(None, {})],
    [G('1', {})],
    [G([1.0], {})],
    [G(1.0, None)],
    [G(1.0, {'a': None})],
    [G(np.ones(2), {})],
    [G(10**400, {})],
    [],
    [G(1.0, {})] * 2,
    np.ones(1),
  ],
  ids=repr,
)
def test_invalid_return_values_of_a_reward_are_refused(returned):
  bad = base.combine([lambda tasks, transcripts: returned], ['bad'], [1.0])
  with pytest.raises(ValueError, match="'bad' returned") as info:
    bad([None], rows(V.CORRECT))
  assert len(str(info.value)) < 600


@pytest.mark.parametrize('one', [np.float32(1), np.int64(1), np.array(1.0), 1])
def test_numbers_of_every_kind_become_floats(one):
  reward = base.combine(
    [lambda tasks, transcripts: (G(one, {'a': one, 'b': one}),)], ['f'], [2.0]
  )
  (row,) = reward([None], rows(V.CORRECT))
  assert row == G(2.0, {'a': 1.0, 'b': 1.0, 'f': 1.0})
  assert {type(x) for x in (row.value, *row.parts.values())} == {float}


def test_a_reward_of_nan_is_refused_for_its_row_alone():
  values = [np.float32('nan'), float('inf'), 1.0]
  reward = base.combine(
    [lambda tasks, transcripts: [G(v, {}) for v in values]], ['f'], [1.0]
  )
  got = reward([None] * 3, rows(V.CORRECT, V.CORRECT, V.CORRECT))
  assert [row.refused for row in got] == [True, True, False]


def test_refusals_of_a_spec_name_the_key():
  for spec in ('outcom', 'outcome(unverifiable=x)', 'inverse(format(x))'):
    with pytest.raises(ValueError, match=r'^reward_funcs=') as info:
      base.build([spec], [1.0])
    assert spec in str(info.value)
  with pytest.raises(ValueError, match='reward_weights'):
    base.build(['outcome'], [1.0, 1.0])


def test_what_a_reward_raises_names_it():
  def raising(error):
    def reward(tasks, transcripts):
      raise error

    return base.combine([const(1.0), reward], ['a', 'mine(x=1)'], [1.0, 1.0])

  with pytest.raises(ValueError, match=r"Reward 'mine\(x=1\)': no label") as e:
    raising(ValueError('no label'))([None], rows(V.WRONG))
  assert isinstance(e.value.__cause__, ValueError)
  with pytest.raises(KeyError) as e:
    raising(KeyError('gold'))([None], rows(V.WRONG))
  assert e.value.__notes__ == ["Raised by reward 'mine(x=1)'."]
