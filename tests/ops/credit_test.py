"""Credit: known answers, turns that did not take place, K = 1."""

import jax
import jax.numpy as jnp
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
    # A turn that did not take place is not discounted over.
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


##### delta_belief #####

STEPS = np.log(np.array([0.1, 0.2, 0.1, 0.4], np.float32))
ALL = np.ones(3, bool)


def gain(spec, belief=STEPS, turns=ALL, reward=(0.0, 0.0, 0.0)):
  credit = registry.get('credit', spec)
  return credit(np.array(reward, np.float32), belief, turns)


@pytest.mark.parametrize(
  ('spec', 'expected'),
  [
    ('delta_belief(weight=0.1)', [0.0693147, 0, 0.1386294]),
    ('delta_belief', [0.0693147, 0, 0.1386294]),
    ('delta_belief(1.0, none)', [0.6931472, -0.6931472, 1.3862944]),
    ('delta_belief(1.0, tanh)', [0.6, -0.6, 0.8823529]),
    ('delta_belief(1.0, none, clip=1.0)', [0.6931472, -0.6931472, 1.0]),
    ('delta_belief(1.0, normalise=centre)', [0, -0.6931472, 0.6931472]),
    ('delta_belief(1.0, normalise=std)', [0, -1.2247449, 1.2247449]),
  ],
)
def test_delta_belief_of_known_beliefs(spec, expected):
  np.testing.assert_allclose(gain(spec), expected, atol=1e-6)


def test_delta_belief_without_a_relu_telescopes():
  total = gain('delta_belief(1.0, none)').sum()
  assert float(total) == pytest.approx(float(STEPS[-1] - STEPS[0]), abs=1e-6)


def test_delta_belief_with_weight_0_is_the_reward():
  out = gain('delta_belief(weight=0)', reward=(1.0, -2.0, 0.5))
  np.testing.assert_array_equal(out, [1.0, -2.0, 0.5])


def test_delta_belief_adds_the_turns_own_reward():
  out = gain('delta_belief(weight=0.1)', reward=(1.0, -2.0, 0.5))
  np.testing.assert_allclose(out, [1.0693147, -2.0, 0.6386294], atol=1e-6)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_delta_belief_ignores_values_after_the_end(bad):
  belief = np.concatenate([STEPS[:2], [bad, bad]]).astype(np.float32)
  turns = np.array([True, False, False])
  for spec in ('delta_belief', 'delta_belief(normalise=std)'):
    out = gain(spec, belief, turns, (1.0, bad, bad))
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[1:], 0)
  out = gain('delta_belief', belief, turns, (1.0, bad, bad))
  np.testing.assert_allclose(out[0], 1.0693147, atol=1e-6)


def test_delta_belief_that_is_not_finite_counts_as_zero():
  f = registry.get('credit', 'delta_belief(weight=1.0)')
  belief = np.array([-np.inf, -1.0, -np.inf, 0.0])
  got = f(np.zeros(3), belief, np.ones(3, bool))
  np.testing.assert_array_equal(got, np.zeros(3))
  clipped = registry.get('credit', 'delta_belief(weight=1.0, clip=2.0)')
  np.testing.assert_array_equal(
    clipped(np.zeros(3), belief, np.ones(3, bool)), [2.0, 0.0, 2.0]
  )


def test_delta_belief_of_equal_gains_normalises_to_zero():
  belief = np.array([-3, -2, -1, 0], np.float32) * 0.5
  for how in ('centre', 'std'):
    np.testing.assert_array_equal(
      gain(f'delta_belief(normalise={how})', belief), 0
    )


def test_delta_belief_has_no_gradient_in_the_belief():
  credit = registry.get('credit', 'delta_belief')
  g = jax.grad(lambda b: credit(jnp.zeros(3), b, ALL).sum())(jnp.array(STEPS))
  np.testing.assert_array_equal(g, 0)


@pytest.mark.parametrize(
  ('spec', 'match'),
  [
    ('delta_belief(transform=relu)', 'transform'),
    ('delta_belief(normalise=max)', 'normalise'),
    ('delta_belief(clip=-1)', 'clip'),
  ],
)
def test_delta_belief_refuses_bad_options(spec, match):
  with pytest.raises(ValueError, match=match):
    gain(spec)


def test_delta_belief_without_beliefs_says_how_to_get_them():
  with pytest.raises(ValueError, match=r'dialogue\.belief'):
    gain('delta_belief', None)
