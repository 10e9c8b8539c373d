"""Aggregates: known answers; invariance to splits, padding and row order."""

import functools

import jax
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import ratio

JIT = pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])
SPECS = [
  'token_mean',
  'seq_mean_token_mean',
  'seq_mean_token_sum',
  'constant(4)',
]
each = pytest.mark.parametrize('spec', SPECS)


divide = jax.jit(ratio.divide)


@functools.cache
def build(spec, jit):
  fn = registry.get('aggregate', spec)

  def both(x, mask):
    out, vjp = jax.vjp(lambda y: fn(y, mask).num, x)
    return fn(x, mask), vjp(jax.numpy.ones_like(out))[0]

  run = jax.jit(both) if jit else both
  return lambda *args: jax.device_get(run(*args))


def value(spec, jit, x, mask):
  got = build(spec, jit)(np.float32(x), np.asarray(mask))[0]
  return np.asarray(divide(got))


def case(rng, rows=12, width=6):
  x = rng.normal(size=(rows, width)).astype(np.float32)
  mask = rng.random((rows, width)) < 0.6
  mask[rng.integers(rows)] = False
  return x, mask


@JIT
@pytest.mark.parametrize(
  ('spec', 'want'), list(zip(SPECS, [10 / 6, 1.5, 5, 1.25]))
)
def test_known_answers(jit, spec, want):
  x = [[1, 1, 9, 9], [2, 2, 2, 2], [7, 7, 7, 7]]
  mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
  pad = lambda a: np.pad(a, ((0, 9), (0, 2)))
  got = value(spec, jit, pad(x), pad(mask))
  np.testing.assert_allclose(got, want, rtol=1e-6)


@each
def test_random_cases_match_a_loop(spec):
  rng = np.random.default_rng(0)
  for _ in range(20):
    x, mask = case(rng)
    rows = [r[m].astype(np.float64) for r, m in zip(x, mask) if m.any()]
    want = {
      'token_mean': np.concatenate(rows).mean(),
      'seq_mean_token_mean': np.mean([r.mean() for r in rows]),
      'seq_mean_token_sum': np.mean([r.sum() for r in rows]),
      'constant(4)': np.mean([r.sum() / 4 for r in rows]),
    }[spec]
    np.testing.assert_allclose(
      value(spec, True, x, mask), want, rtol=1e-4, atol=1e-6
    )


@each
def test_micro_batches_at_random_splits_add_up(spec):
  """Summed num over one den: value and gradient do not depend on the split."""
  rng = np.random.default_rng(1)
  x, mask = case(rng)
  fn = build(spec, True)
  whole, grad = fn(x, mask)
  for size in (6, 3):
    order = rng.permutation(12)
    parts = [fn(x[i], mask[i]) for i in order.reshape(-1, size)]
    same(parts, whole)
    got = np.concatenate([g for _, g in parts])
    np.testing.assert_allclose(got, grad[order], rtol=1e-6)
  for count in (2, 5, 12):  # of uneven sizes: the other rows left empty
    owner = rng.integers(count, size=(12, 1))
    parts = [fn(x, mask & (owner == i)) for i in range(count)]
    same(parts, whole)
    np.testing.assert_allclose(sum(g for _, g in parts), grad, rtol=1e-6)


def same(parts, whole):
  num, den = (sum(r[i] for r, _ in parts) for i in (0, 1))
  np.testing.assert_allclose(num, whole.num, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(den, whole.den)


@each
def test_padding_and_row_order_change_nothing(spec):
  rng = np.random.default_rng(2)
  x, mask = case(rng)
  base = value(spec, True, x, mask)
  wide = np.pad(x, ((0, 0), (0, 5)), constant_values=np.nan)
  longer = np.pad(mask, ((0, 0), (0, 5)))
  np.testing.assert_allclose(value(spec, True, wide, longer), base, rtol=1e-5)
  tall = np.pad(x, ((0, 4), (0, 0)), constant_values=np.nan)
  more = np.pad(mask, ((0, 4), (0, 0)))
  np.testing.assert_allclose(value(spec, True, tall, more), base, rtol=1e-5)
  order = rng.permutation(len(x))
  np.testing.assert_allclose(
    value(spec, True, x[order], mask[order]), base, rtol=1e-5
  )


@each
@JIT
def test_masked_positions_leak_nothing(jit, spec):
  rng = np.random.default_rng(3)
  x, mask = case(rng)
  want = build(spec, jit)(np.where(mask, x, 0), mask)
  for garbage in (np.nan, np.inf):
    got = build(spec, jit)(np.where(mask, x, np.float32(garbage)), mask)
    for a, b in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
      np.testing.assert_array_equal(a, b)


@each
@JIT
def test_den_is_a_function_of_the_mask(jit, spec):
  rng = np.random.default_rng(4)
  x, mask = case(rng)
  want = {
    'token_mean': mask.sum(),
    'seq_mean_token_mean': mask.any(1).sum(),
    'seq_mean_token_sum': mask.any(1).sum(),
    'constant(4)': 4 * mask.any(1).sum(),
  }[spec]
  for values in (x, x * 0, x + np.float32('nan')):
    assert build(spec, jit)(values, mask)[0].den == want


@each
@JIT
def test_an_empty_mask_gives_zero(jit, spec):
  x, mask = np.full((12, 6), np.nan, np.float32), np.zeros((12, 6), bool)
  got, grad = build(spec, jit)(x, mask)
  assert (got.num, got.den, ratio.divide(got)) == (0, 0, 0)
  np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize('spec', ['constant(0)', 'constant(n=-4)'])
def test_bad_constants_are_refused(spec):
  x = np.zeros((1, 1), np.float32)
  with pytest.raises(ValueError, match='must be > 0'):
    registry.get('aggregate', spec)(x, x == 0)
