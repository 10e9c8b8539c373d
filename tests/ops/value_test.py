"""The critic's loss: known answer, both branches, masks."""

import functools

import jax
import numpy as np
import pytest

from rlvr_jax.ops import value


@functools.cache
def build(clip):
  fn = functools.partial(value.value_loss, clip=clip)
  both = jax.value_and_grad(
    lambda *args: (lambda x: (x.sum(), x))(fn(*args)), has_aux=True
  )
  return jax.jit(both)


def run(clip, v, old, returns, mask=None):
  v, old, returns = (np.atleast_2d(np.float32(x)) for x in (v, old, returns))
  mask = np.ones(v.shape, bool) if mask is None else np.atleast_2d(mask)
  (_, loss), grad = build(clip)(v, old, returns, mask)
  return np.asarray(loss), np.asarray(grad)


def test_known_answer_and_no_gradient_where_the_clipped_branch_wins():
  loss, grad = run(0.2, 0.9, 0.5, 1)
  np.testing.assert_allclose(loss, 0.045, rtol=1e-6)
  np.testing.assert_array_equal(grad, 0)
  loss, grad = run(0.5, 0.9, 0.5, 1)
  np.testing.assert_allclose([loss, grad], [[[0.005]], [[-0.1]]], rtol=1e-5)


def test_both_branches_match_the_formula_and_its_slope():
  v, returns = np.meshgrid(np.linspace(-1, 1, 9), [-0.9, -0.05, 0.3, 1.1])
  old = np.full(v.shape, 0.06)  # no v lies on a kink

  def want(v):
    near = np.clip(v, old - 0.2, old + 0.2)
    return 0.5 * np.maximum((v - returns) ** 2, (near - returns) ** 2)

  loss, grad = run(0.2, v, old, returns)
  np.testing.assert_allclose(loss, want(v), rtol=1e-5, atol=1e-7)
  slope = (want(v + 1e-6) - want(v - 1e-6)) / 2e-6
  np.testing.assert_allclose(grad, slope, rtol=1e-5, atol=1e-6)
  # Moved beyond clip towards the return: the two cases without gradient.
  far = np.abs(v - old) > 0.2
  towards = np.abs(np.clip(v, -0.15, 0.25) - returns) > np.abs(v - returns)
  np.testing.assert_array_equal(grad[far & towards], 0)
  assert grad[far & ~towards].all()


@pytest.mark.parametrize('clip', [None, 0, 100])
def test_without_clipping_it_is_half_the_squared_error(clip):
  v, old, returns = np.random.default_rng(0).normal(size=(3, 2, 5))
  loss, grad = run(clip, v, old, returns)
  np.testing.assert_allclose(loss, 0.5 * (v - returns) ** 2, rtol=1e-5)
  np.testing.assert_allclose(grad, v - returns, rtol=1e-5)


def test_old_values_and_returns_are_constants():
  v, old, returns = np.random.default_rng(1).normal(size=(3, 2, 5))
  args = [np.float32(x) for x in (v, old, returns)]
  loss = lambda *args: value.value_loss(*args, v == v, clip=0.2).sum()
  for grad in jax.grad(loss, argnums=(1, 2))(*args):
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize('garbage', [np.nan, np.inf, 7.0])
@pytest.mark.parametrize('clip', [None, 0.2])
def test_masked_positions_leak_nothing(clip, garbage):
  args = np.random.default_rng(2).normal(size=(3, 2, 5))
  mask = np.arange(10).reshape(2, 5) % 3 > 0
  clean = run(clip, *args, mask)
  dirty = run(clip, *np.where(mask, args, garbage), mask)
  for a, b in zip(clean, dirty, strict=True):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(b[~mask], 0)


def test_a_negative_clip_is_refused():
  with pytest.raises(ValueError, match=r'value_loss\(clip=-1\)'):
    run(-1, 0, 0, 0)
