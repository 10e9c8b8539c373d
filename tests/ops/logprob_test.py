import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax.ops import logprob

M, D, V = 7, 5, 11


def _inputs(seed=0, m=M, scale=1.0):
  rng = np.random.default_rng(seed)
  hidden = rng.standard_normal((m, D), dtype=np.float32) * scale
  head = rng.standard_normal((V, D), dtype=np.float32)
  return (
    jnp.asarray(hidden),
    jnp.asarray(head),
    jnp.asarray(rng.integers(0, V, m)),
  )


def _plain(hidden, head, targets, temperature=1.0):
  """The definition, with every logit in memory."""
  logp = jax.nn.log_softmax(hidden @ head.T / temperature)
  at = jnp.take_along_axis(logp, targets[:, None], axis=1)[:, 0]
  return at, -(jnp.exp(logp) * logp).sum(-1)


def _graded(f, weights):
  """Values, and gradients of a sum of both: it sees both cotangents."""

  def g(hidden, head, targets):
    logp, entropy = f(hidden, head, targets)
    total = (logp * weights[0]).sum() + (entropy * weights[1]).sum()
    return total, (logp, entropy)

  return jax.jit(jax.value_and_grad(g, argnums=(0, 1), has_aux=True))


def test_known_answers():
  # Logits 0 and log 3: p = 1/4 and 3/4.
  hidden, head = jnp.ones((2, 1)), jnp.log(jnp.array([[1.0], [3.0]]))
  logp, entropy = logprob.from_hidden(hidden, head, jnp.array([0, 1]))
  np.testing.assert_allclose(logp, np.log([0.25, 0.75]), rtol=1e-6)
  want = 2 * np.log(2) - 0.75 * np.log(3)
  np.testing.assert_allclose(entropy, [want, want], rtol=1e-6)
  # A head of zeros is uniform: -log V and log V.
  logp, entropy = logprob.from_hidden(
    jnp.ones((3, D)), jnp.zeros((V, D)), jnp.array([0, 5, 10])
  )
  np.testing.assert_allclose(logp, [-np.log(V)] * 3, rtol=1e-6)
  np.testing.assert_allclose(entropy, [np.log(V)] * 3, rtol=1e-6)


@pytest.mark.parametrize(
  ('temperature', 'chunk', 'shape'),
  [
    (1.0, 1024, (7,)),
    (0.7, 3, (7,)),
    (2.5, 1, (7,)),
    (0.7, 5, (2, 4)),  # two rows at a time: 2 x 2 positions
    (1.0, 1, (2, 4)),  # never less than a position of every row
  ],
)
def test_value_and_gradient_equal_autodiff_of_log_softmax(
  temperature, chunk, shape
):
  m = int(np.prod(shape))
  hidden, head, targets = _inputs(m=m)
  rng = np.random.default_rng(1)
  # Includes rows with weight 0 and rows where only the entropy counts.
  weights = rng.standard_normal((2, m)).astype(np.float32)
  weights[0, 2] = weights[1, 3] = weights[0, 4] = weights[1, 4] = 0.0

  def fused(hidden, head, targets):
    out = logprob.from_hidden(
      hidden.reshape(*shape, D),
      head,
      targets.reshape(shape),
      temperature=temperature,
      chunk=chunk,
    )
    assert out[0].shape == out[1].shape == shape
    return tuple(x.reshape(-1) for x in out)

  plain = functools.partial(_plain, temperature=temperature)
  got = _graded(fused, weights)(hidden, head, targets)
  want = _graded(plain, weights)(hidden, head, targets)
  (_, got_values), got_grads = got
  (_, want_values), want_grads = want
  for a, b in zip(got_values + got_grads, want_values + want_grads):
    np.testing.assert_allclose(a, b, atol=2e-5)
  # A row without weight has a gradient of exactly 0.
  assert not np.asarray(got_grads[0][4]).any()


def test_large_logits_stay_finite_and_exact():
  # Logits of 1e4: a naive exponential overflows. The gap decides.
  hidden = jnp.array([[1e4, 0.0], [-1e4, 0.0]])
  head = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  logp, entropy = logprob.from_hidden(hidden, head, jnp.array([1, 1]))
  np.testing.assert_allclose(logp, [-1e4, 0.0], rtol=1e-6)
  np.testing.assert_allclose(entropy, [0.0, 0.0], atol=1e-6)
  grads = jax.grad(
    lambda h: sum(
      x.sum() for x in logprob.from_hidden(h, head, jnp.ones(2, int))
    )
  )(hidden)
  assert np.isfinite(grads).all()


def test_bfloat16_hidden_states_stay_near_float32():
  hidden, head, targets = _inputs(m=32, scale=0.5)
  low = hidden.astype(jnp.bfloat16)
  got = logprob.from_hidden(low, head, targets)
  assert all(x.dtype == jnp.float32 for x in got)
  # Products of bfloat16 are accumulated in float32, so that the only error is
  # the rounding of the factors: of relative size 2^-9 each.
  exact = _plain(
    low.astype(jnp.float32),
    head.astype(jnp.bfloat16).astype(jnp.float32),
    targets,
  )
  np.testing.assert_allclose(got, exact, atol=2e-5)
  logits = np.abs(np.asarray(hidden)) @ np.abs(np.asarray(head)).T
  bound = 4 * 2**-9 * logits.max()  # of logit and logsumexp, two factors
  np.testing.assert_allclose(
    got[0], _plain(hidden, head, targets)[0], atol=bound
  )


def test_gradients_have_the_dtype_of_their_argument():
  hidden, head, targets = _inputs()
  grads = jax.grad(
    lambda h, w: logprob.from_hidden(h, w, targets)[0].sum(), argnums=(0, 1)
  )(hidden.astype(jnp.bfloat16), head)
  assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.float32]


def test_a_target_outside_the_vocabulary_is_minus_logsumexp():
  hidden, head, _ = _inputs(m=1)
  logp, _ = logprob.from_hidden(hidden, head, jnp.array([V]))
  want = -jax.nn.logsumexp(hidden @ head.T, axis=-1)
  np.testing.assert_allclose(logp, want, atol=1e-5)


@pytest.mark.parametrize(
  ('p', 'entropy', 'slope', 'logp_slope'),
  [
    (
      [0.7, 0.2, 0.1],
      0.801819,
      [-0.311601, 0.161524, 0.150077],
      [0.3, -0.2, -0.1],
    ),
    (
      [0.6, 0.3, 0.1],
      0.897946,
      [-0.232272, 0.091808, 0.140464],
      [0.4, -0.3, -0.1],
    ),
  ],
)
def test_gradients_by_logit(p, entropy, slope, logp_slope):
  """dH/dz = -p (log p + H) and dlogp_y/dz = onehot - p, of three tokens."""
  logits, eye = jnp.log(jnp.array([p])), jnp.eye(3)
  fn = lambda z: logprob.from_hidden(z, eye, jnp.array([0]))
  (_, got), vjp = jax.vjp(fn, logits)
  one, zero = jnp.ones(1), jnp.zeros(1)
  np.testing.assert_allclose(got[0], entropy, atol=1e-6)
  by_entropy, by_logp = vjp((zero, one))[0][0], vjp((one, zero))[0][0]
  np.testing.assert_allclose(by_entropy, slope, atol=1e-6)
  np.testing.assert_allclose(by_logp, logp_slope, atol=1e-6)
  p, total = np.array(p), -(np.array(p) * np.log(p)).sum()
  np.testing.assert_allclose(by_entropy, -p * (np.log(p) + total), atol=1e-6)
  # A common shift of all logits changes nothing.
  np.testing.assert_allclose([by_entropy.sum(), by_logp.sum()], 0, atol=1e-6)
