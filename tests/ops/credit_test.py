"""Credit: known answers, turns that never took place, K = 1."""

import jax
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import credit

WRAPS = pytest.mark.parametrize(
  'wrap', [lambda f: f, jax.jit], ids=['eager', 'jit']
)
NAN = np.float32('nan')


@WRAPS
@pytest.mark.parametrize(
  ('reward', 'turns', 'want'),
  [
    ([0.9], [True], [0.9]),
    ([0.9], [False], [0]),
    ([0.25, 0.5, 1], [True, True, True], [1.75, 1.75, 1.75]),
    ([0.25, 0.5, 0], [True, True, False], [0.75, 0.75, 0]),
    ([0, 0], [False, False], [0, 0]),
  ],
)
def test_outcome_known_answers(wrap, reward, turns, want):
  got = wrap(credit.outcome)(
    np.array(reward, np.float32), None, np.array(turns)
  )
  np.testing.assert_array_equal(got, np.array(want, np.float32))


@WRAPS
def test_a_turn_that_never_took_place_leaks_nothing(wrap):
  fn = wrap(registry.get('credit', 'outcome'))
  reward = np.array([1, NAN, 2, np.inf], np.float32)
  turns = np.array([True, False, True, False])
  belief = np.full(5, NAN, np.float32)
  np.testing.assert_array_equal(fn(reward, belief, turns), [3, 0, 3, 0])
  grad = jax.grad(lambda r: fn(r, belief, turns).sum())(reward)
  np.testing.assert_array_equal(grad, [2, 0, 2, 0])


def test_integer_and_bool_rewards_become_float32():
  turns = np.array([True, True])
  for reward in (np.array([1, 2]), np.array([1, 2], np.int8)):
    got = credit.outcome(reward, None, turns)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [3, 3])


@WRAPS
@pytest.mark.parametrize(
  ('gamma', 'reward', 'turns', 'want'),
  [
    (1.0, [1, 2, 4], [True] * 3, [7, 6, 4]),
    (0.5, [1, 2, 4], [True] * 3, [3, 4, 4]),
    (0.0, [1, 2, 4], [True] * 3, [1, 2, 4]),
    # A turn that did not take place is no step of the discount.
    (0.5, [1, NAN, 4], [True, False, True], [3, 0, 4]),
    (1.0, [0.9], [True], [0.9]),
    (1.0, [NAN, NAN], [False, False], [0, 0]),
  ],
)
def test_rewards_to_go(wrap, gamma, reward, turns, want):
  fn = registry.get('credit', f'stepwise(gamma={gamma})')
  got = wrap(fn)(np.array(reward, np.float32), None, np.array(turns))
  np.testing.assert_allclose(got, np.array(want, np.float32))


def test_rewards_to_go_of_one_turn_are_the_outcome():
  args = np.array([0.7], np.float32), None, np.array([True])
  np.testing.assert_array_equal(
    registry.get('credit', 'stepwise')(*args),
    registry.get('credit', 'outcome')(*args),
  )
  with pytest.raises(ValueError, match=r'gamma=1\.5'):
    registry.get('credit', 'stepwise(gamma=1.5)')(*args)
