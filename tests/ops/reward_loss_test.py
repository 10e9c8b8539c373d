"""Losses of scores: known values, gradients by hand, groups, bad options."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import ratio, reward_loss

JIT = pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])


def run(spec, *args, jit=True):
  """(loss, its derivatives by the first two), f32[N] each."""
  fn = registry.get('reward_loss', spec)
  args = [
    jnp.float32(x) for x in np.broadcast_arrays(*map(np.atleast_1d, args))
  ]

  def both(*args):
    out, pull = jax.vjp(lambda a, b: fn(a, b, *args[2:]), *args[:2])
    return out, *pull(jnp.ones_like(out))

  return jax.device_get((jax.jit(both) if jit else both)(*args))


def sigma(x):
  return 1 / (1 + np.exp(-np.float64(x)))


@JIT
@pytest.mark.parametrize(
  ('margin', 'want'), [(0, 0.693147), (1, 0.313262), (2, 0.126928)]
)
def test_bradley_terry_at_the_margins_of_the_card(jit, margin, want):
  got, up, down = run('bradley_terry', 3.0 + margin, 3.0, jit=jit)
  np.testing.assert_allclose(got, want, atol=1e-6)
  np.testing.assert_allclose(up, -sigma(-margin), rtol=1e-6)
  np.testing.assert_allclose(down, -up)
  # A margin that is asked for takes the lead away.
  for spec, of_row in ((f'bradley_terry(margin={margin})', 0.0),
                       ('bradley_terry', margin)):  # fmt: skip
    got = run(spec, 3.0 + margin, 3.0, of_row, jit=jit)[0]
    np.testing.assert_allclose(got, math.log(2), rtol=1e-6)


@JIT
def test_formulas_and_gradients_by_hand(jit):
  rng = np.random.default_rng(0)
  a, b, m = 3 * rng.normal(size=(3, 64)).astype(np.float32)
  m = np.abs(m)
  d = np.float64(a) - b
  got, up, down = run('bradley_terry(margin=0.5, center=0.1)', a, b, m, jit=jit)
  pull = 0.2 * (np.float64(a) + b)
  want = np.log1p(np.exp(0.5 + m - d)) + 0.1 * (np.float64(a) + b) ** 2
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)
  slope = sigma(0.5 + m - d)
  np.testing.assert_allclose(up, pull - slope, rtol=1e-5, atol=2e-6)
  np.testing.assert_allclose(down, pull + slope, rtol=1e-5, atol=2e-6)
  label = rng.uniform(size=64).astype(np.float32)
  got, up, _ = run('bce', a, label, jit=jit)
  want = label * np.log1p(np.exp(-np.float64(a)))
  want += (1 - label) * np.log1p(np.exp(np.float64(a)))
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6)
  np.testing.assert_allclose(up, sigma(a) - label, rtol=1e-5, atol=2e-6)


def test_what_moves_nothing():
  """A constant on both scores, without centring; the order, with it alone."""
  a, b = np.float32([1.0, -2.0]), np.float32([0.5, 3.0])
  np.testing.assert_allclose(
    run('bradley_terry', a + 8, b + 8), run('bradley_terry', a, b), rtol=1e-6
  )
  centred = run('bradley_terry(center=1.0)', a, b)[0]
  squares = centred - run('bradley_terry', a, b)[0]
  np.testing.assert_allclose(squares, (a + b) ** 2, rtol=1e-5)
  # The cross-entropy of a pair's two rows, at opposite scores, is twice that.
  pair = run('bce', a, 1.0)[0] + run('bce', -a, 0.0)[0]
  np.testing.assert_allclose(pair, 2 * run('bradley_terry', a, 0.0)[0])


def test_extreme_scores_stay_finite():
  big = np.float32([1e30, -1e30, 0.0])
  for out in (
    run('bradley_terry', big, -big),
    run('bce', big, [0.0, 1.0, 1.0]),
  ):
    assert all(np.isfinite(x).all() for x in out)
  assert run('bradley_terry', -500.0, 500.0)[0] == pytest.approx(1000.0)


def of_group(spec, *args):
  fn = registry.get('reward_loss', spec)
  loss, metrics = reward_loss.of_group(fn, *map(jnp.asarray, args))
  return (
    float(ratio.divide(loss)),
    float(loss.den),
    {
      k.removeprefix('rewards/'): float(ratio.divide(r))
      for k, r in metrics.items()
    },
  )


def test_groups_of_two_and_more():
  cost = lambda d: math.log1p(math.exp(-d))
  score, label = np.float32([2.0, 0.5]), np.float32([1, -1])
  margin, all_in = np.float32([0.5, 0.5]), np.array([True, True])
  loss, count, metrics = of_group('bradley_terry', score, label, margin, all_in)
  assert (loss, count) == (pytest.approx(cost(1.0)), 1)
  want = {'chosen': 2.0, 'rejected': 0.5, 'margins': 1.5, 'accuracies': 1.0}
  assert metrics == pytest.approx(want)
  # The label says which is chosen, not the place.
  swapped = of_group('bradley_terry', score, -label, 0 * margin, all_in)
  assert swapped[0] == pytest.approx(cost(-1.5))
  assert swapped[2]['accuracies'] == 0
  # A tie is wrong, as in TRL.
  tie = of_group('bradley_terry', 0 * score, label, 0 * margin, all_in)
  assert (tie[0], tie[2]['accuracies']) == (pytest.approx(math.log(2)), 0)
  # Rows that are not valid may hold anything.
  nan = np.float32([2.0, 0.5, np.nan])
  wide = of_group(
    'bradley_terry', nan, np.float32([1, -1, np.nan]),
    np.float32([0.5, 0.5, np.inf]), np.array([True, True, False]),
  )  # fmt: skip
  assert wide == (pytest.approx(loss), count, pytest.approx(metrics))
  alone = of_group(
    'bradley_terry', score, label, margin, all_in & [True, False]
  )
  assert alone[:2] == (0, 0)
  # All pairs of a better and a worse row.
  loss, count, _ = of_group(
    'bradley_terry', np.float32([3, 1, 0]), np.float32([1, 1, -1]),
    np.zeros(3, np.float32), np.ones(3, bool),
  )  # fmt: skip
  assert (loss, count) == (pytest.approx((cost(3) + cost(1)) / 2), 2)


def test_rows_with_labels():
  cost = lambda x: math.log1p(math.exp(-x))
  ones = np.ones(2, bool)
  pair = of_group(
    'bce', np.float32([2.0, -1.0]), np.float32([1, -1]), np.zeros(2), ones
  )
  assert pair[:2] == (pytest.approx((cost(2) + cost(1)) / 2), 2)
  assert pair[2] == pytest.approx(
    {'chosen': 2.0, 'rejected': -1.0, 'margins': 3.0, 'accuracies': 1.0}
  )
  one = of_group(
    'bce', np.float32([2.0]), np.float32([-1]), np.zeros(1), ones[:1]
  )
  assert one[:2] == (pytest.approx(cost(-2)), 1)
  assert one[2]['accuracies'] == 0


@pytest.mark.parametrize(
  ('spec', 'says'),
  [
    ('bradley_terry(margin=-1.0)', 'margin must be in'),
    ('bradley_terry(center=-0.1)', 'center must be in'),
    ('bradley', "Did you mean 'bradley_terry'"),
    ('bradley_terry(centre=0.1)', "Did you mean 'center'"),
  ],
)
def test_bad_specs_are_refused(spec, says):
  with pytest.raises(ValueError, match=says):
    registry.get('reward_loss', spec)
