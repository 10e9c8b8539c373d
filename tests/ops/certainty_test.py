"""Self-certainty: known answers, and how it differs from entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax.ops import logprob


def both(z):
  """Self-certainty and gap of logits f32[*R,V]."""
  z = jnp.asarray(z)
  out = logprob.certainty(
    jnp.atleast_2d(z), jnp.eye(z.shape[-1], dtype=z.dtype)
  )
  return [x.reshape(z.shape[:-1]) for x in out]


def certainty(z):
  return both(z)[0]


compiled = jax.jit(certainty)


@pytest.mark.parametrize('fn', [certainty, compiled])
def test_known_answers(fn):
  p = np.array([[0.25] * 4, [0.7, 0.1, 0.1, 0.1], [0.97, 0.01, 0.01, 0.01]])
  logits = np.float32(np.log([p, p]) + 5)  # invariant to a shift of logits
  got = fn(logits)
  want = [0, 0.429813, 2.075198]
  np.testing.assert_allclose(got, [want] * 2, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(fn(np.float32([2, 1, 0, -1])), 0.553895, rtol=1e-5)


def test_the_tail_drives_it_where_entropy_sees_the_head():
  p = np.float32([[0.5, 0.4999, 0.0001], [0.7, 0.15, 0.15]])
  got = compiled(np.log(p))
  np.testing.assert_allclose(got, [2.4337, 0.2850], atol=1e-4)
  below = np.log(3) + (p * np.log(p)).sum(-1)
  np.testing.assert_allclose(below, [0.4045, 0.2798], atol=1e-4)


def test_it_is_the_divergence_from_uniform():
  z = np.random.default_rng(0).normal(size=(5, 11)).astype(np.float32)
  p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
  want = (np.log(1 / 11) - np.log(p)).mean(-1)
  np.testing.assert_allclose(compiled(z), want, rtol=1e-5)


def test_large_and_half_precision_logits():
  got = compiled(np.float32([1e4, 0, 0, -1e4]))
  np.testing.assert_allclose(got, 1e4 - np.log(4), rtol=1e-6)
  assert compiled(jnp.zeros(4, jnp.bfloat16)).dtype == jnp.float32


def test_gap_of_the_two_largest_probabilities():
  p = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.9, 0.05, 0.05]])
  gap = jax.jit(lambda z: both(z)[1])
  got = gap(np.float32(np.log(p) - 3))
  np.testing.assert_allclose(got, [0.5, 0.1, 0.85], rtol=1e-5)
  np.testing.assert_allclose(got.mean(), 0.483333, rtol=1e-5)
  # The mean probability of tokens (0, 1, 0) ranks otherwise.
  assert p[range(3), [0, 1, 0]].mean() == pytest.approx(0.666667, abs=1e-6)
  order = [2, 0, 1]
  np.testing.assert_allclose(gap(np.float32(np.log(p[:, order]))), got, 1e-5)


def test_the_gap_of_extreme_distributions():
  z = np.zeros((4, 6), np.float32)  # uniform
  z[1, 3] = 1e4  # one-hot
  z[2, :2] = 50.0  # two equal ones
  z[3, 4] = -1e4
  np.testing.assert_allclose(both(z)[1], [0, 1, 0, 0], atol=1e-6)
  assert both(np.float32([[2.0]]))[1] == 1  # one token
