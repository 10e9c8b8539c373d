"""KL estimates: known values, and the gradient of each as a loss."""

import functools

import jax
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import masked

JIT = pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])
P = np.array([0.5, 0.3, 0.2])
Q = np.array([0.25, 0.5, 0.25])


@functools.cache
def build(name, jit):
  fn = registry.get('kl', name)

  def both(logp, ref):
    out, vjp = jax.vjp(lambda x: fn(x, ref), logp)
    return out, vjp(jax.numpy.ones_like(out))[0]

  return jax.jit(both) if jit else both


def run(name, jit, logp, ref):
  pad = lambda x: np.pad(np.float32(x), (0, 64 - len(x)))[None]
  out = jax.device_get(build(name, jit)(pad(logp), pad(ref)))
  return [x[0, : len(logp)] for x in out]


@JIT
@pytest.mark.parametrize(
  ('name', 'want'), [('k1', 0.693147), ('k2', 0.240227), ('k3', 0.193147)]
)
def test_known_values(jit, name, want):
  got, _ = run(name, jit, np.log([0.5]), np.log([0.25]))
  np.testing.assert_allclose(got, want, atol=1e-6)


@JIT
@pytest.mark.parametrize(
  ('name', 'mean', 'gradient'),
  [
    ('k1', 0.148697, [0, 0, 0]),
    ('k2', 0.164234, [0.272225, -0.197857, -0.074368]),
    ('k3', 0.148697, [0.25, -0.2, -0.05]),
  ],
)
def test_expected_value_and_gradient_by_enumeration(jit, name, mean, gradient):
  """k1 as a loss is a no-op, k2 is grad KL(p||q), k3 is p - q."""
  value, slope = run(name, jit, np.log(P), np.log(Q))
  np.testing.assert_allclose(P @ value, mean, atol=1e-6)
  # d log p_y / d logits = onehot(y) - p
  grad = (P * slope) @ (np.eye(3) - P)
  np.testing.assert_allclose(grad, gradient, atol=1e-6)


def test_k2_has_the_gradient_of_kl_at_random_policies():
  rng = np.random.default_rng(0)
  for _ in range(5):
    p, q = rng.dirichlet(np.ones(6), size=2)
    _, slope = run('k2', True, np.log(p), np.log(q))
    got = (p * slope) @ (np.eye(6) - p)
    gap = np.log(p / q)
    np.testing.assert_allclose(got, p * (gap - p @ gap), atol=1e-6)


@JIT
def test_formulas_on_random_gaps(jit):
  rng = np.random.default_rng(1)
  ref = -rng.exponential(size=64).astype(np.float32)
  logp = -rng.exponential(size=64).astype(np.float32)
  d = logp.astype(np.float64) - ref
  for name, value, slope in [
    ('k1', d, np.ones(64)),
    ('k2', d**2 / 2, d),
    ('k3', np.exp(-d) - 1 + d, 1 - np.exp(-d)),
  ]:
    got, grad = run(name, jit, logp, ref)
    np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-6)


@JIT
@pytest.mark.parametrize('name', ['k1', 'k2', 'k3'])
def test_zero_and_flat_at_equal_policies(jit, name):
  got, grad = run(name, jit, [-1.7, -30, 0], [-1.7, -30, 0])
  np.testing.assert_array_equal(got, 0)
  np.testing.assert_array_equal(grad, 1 if name == 'k1' else 0)


@JIT
def test_k3_keeps_its_digits_near_the_reference(jit):
  d = np.float32([1e-2, -1e-3, 1e-4])
  got, grad = run('k3', jit, d, 0 * d)
  exact = d.astype(np.float64)
  np.testing.assert_allclose(got, np.expm1(-exact) + exact, rtol=2e-3)
  np.testing.assert_allclose(grad, -np.expm1(-exact), rtol=1e-6)
  assert (got >= 0).all()


@JIT
def test_k3_of_extreme_gaps_is_finite_and_has_no_gradient(jit):
  gap = [25, -25, 300, -300, -np.inf, np.inf]
  got, grad = run('k3', jit, gap, np.zeros(6))
  far = masked.MAX_LOG_RATIO * np.sign(gap)
  np.testing.assert_allclose(got, np.exp(-far) - 1 + far, rtol=1e-5)
  np.testing.assert_array_equal(grad, 0)
  got, grad = run('k3', jit, [-19.5], [0])
  np.testing.assert_allclose(grad, 1 - np.exp([19.5]), rtol=1e-5)


@pytest.mark.parametrize('name', ['k1', 'k2', 'k3'])
def test_the_reference_is_a_constant(name):
  fn = registry.get('kl', name)
  x = np.full((1, 3), -1, np.float32)
  np.testing.assert_array_equal(jax.grad(lambda r: fn(x, r).sum())(x + 0.5), 0)
