"""Sampler mismatch: known weights, levels, masks."""

import functools

import jax
import numpy as np
import pytest

from rlvr_jax import registry

W = np.float32([[0.5, 1, 2, 8]])
SPECS = [
  'truncate',
  'truncate(sequence)',
  'truncate(normalize=True)',
  'truncate(sequence, normalize=True)',
  'drop',
  'drop(token)',
]


@functools.cache
def build(spec):
  return jax.jit(registry.get('correction', spec))


def run(spec, w, mask=None):
  """The weights for given ratios; the sampler has log-prob -3."""
  sampler = np.full(np.shape(w), -3, np.float32)
  trainer = np.log(np.float32(w)) + sampler
  mask = np.ones(sampler.shape, bool) if mask is None else mask
  return np.asarray(build(spec)(trainer, sampler, mask))


@pytest.mark.parametrize(
  ('spec', 'want'),
  [
    ('truncate', [0.5, 1, 2, 2]),
    ('truncate(normalize=True)', [0.363636, 0.727273, 1.454545, 1.454545]),
    ('truncate(high=5, low=0.5)', [0.5, 1, 2, 5]),
    ('truncate(low=0.75)', [0.75, 1, 2, 2]),
    ('drop(token)', [0.5, 1, 2, 0]),
    ('drop(token, high=5, low=0.75)', [0, 1, 2, 0]),
    ('drop', [0, 0, 0, 0]),  # the product is 8
    ('drop(high=9)', [8, 8, 8, 8]),
    ('drop(high=9, low=8.5)', [0, 0, 0, 0]),
    ('truncate(sequence)', [2, 2, 2, 2]),
    ('truncate(sequence, 10)', [8, 8, 8, 8]),
  ],
)
def test_known_answers(spec, want):
  np.testing.assert_allclose(run(spec, W)[0], want, rtol=2e-6)


@pytest.mark.parametrize('spec', SPECS)
def test_equal_policies_have_weight_one(spec):
  got = run(spec, np.ones((2, 3)))
  np.testing.assert_array_equal(got, np.ones((2, 3)))


def test_normalised_rows_have_mean_one_whatever_their_length():
  w = [[1.5, 0.5, 1], [3, 1, 1]]
  mask = np.array([[True, True, True], [True, False, False]])
  got = run('truncate(sequence, high=2, normalize=True)', w, mask)
  want = np.array([0.75, 2]) / ((0.75 + 2) / 2)
  np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
  np.testing.assert_allclose(got[1], [want[1], 0, 0], rtol=1e-6)
  got = run('truncate(normalize=True)', w, mask)
  np.testing.assert_allclose(got[mask].mean(), 1, rtol=1e-6)


def test_untruncated_weights_make_the_sampler_unbiased():
  """E_q[w f] = E_p[f], and truncation lowers it where p > 2 q."""
  p, q, f = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5], [1.0, 2.0, 5.0]])
  weight = run('truncate(high=1e3)', (p / q)[None])[0]
  np.testing.assert_allclose((q * weight * f).sum(), (p * f).sum(), rtol=1e-6)
  weight = run('truncate', (p / q)[None])[0]
  np.testing.assert_allclose(
    (q * weight * f).sum(), (p * f).sum() - (3 - 2) * 0.2 * 1, rtol=1e-6
  )


@pytest.mark.parametrize('spec', SPECS)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf, 50])
def test_masked_positions_are_not_counted(spec, garbage):
  rng = np.random.default_rng(0)
  trainer, sampler = -rng.exponential(size=(2, 3, 5)).astype(np.float32)
  mask = rng.random((3, 5)) < 0.6
  mask[1] = False
  dirty = [np.where(mask, x, np.float32(garbage)) for x in (trainer, sampler)]
  got = np.asarray(build(spec)(*dirty, mask))
  np.testing.assert_array_equal(got, build(spec)(trainer, sampler, mask))
  np.testing.assert_array_equal(got[~mask], 0)
  nothing = build(spec)(*dirty, mask & ~mask)
  np.testing.assert_array_equal(nothing, np.zeros((3, 5)))


@pytest.mark.parametrize('spec', SPECS)
def test_the_weight_is_a_constant(spec):
  fn = registry.get('correction', spec)
  x, mask = np.full((2, 3), -1, np.float32), np.ones((2, 3), bool)
  total = lambda a, b: fn(a, b, mask).sum()
  for grad in jax.grad(total, argnums=(0, 1))(x + 0.01, x):
    np.testing.assert_array_equal(grad, 0)


def test_log_ratios_are_clamped_for_a_row_as_a_whole():
  """Two tokens of +-30 cancel; each alone stops at 20."""
  logp = np.float32([[30, -30], [30, 0]])
  mask = np.ones((2, 2), bool)
  got = build('truncate(sequence, 1e15)')(logp, 0 * logp, mask)
  np.testing.assert_allclose(got, [[1, 1], [np.exp(20)] * 2], rtol=1e-5)
  got = build('truncate(token, 1e15)')(logp, 0 * logp, mask)
  np.testing.assert_allclose(got[0], np.exp([20, -20]), rtol=1e-5)


@pytest.mark.parametrize(
  'spec',
  ['truncate(row)', 'drop(high=0)', 'truncate(low=-1)', 'drop(low=4)'],
)
def test_bad_options_are_refused(spec):
  with pytest.raises(ValueError, match=spec.partition('(')[0] + r'\('):
    registry.get('correction', spec)
