"""GAE: known answers, its two limits, and masked tokens."""

import functools

import jax
import numpy as np
import pytest

from rlvr_jax.ops import gae, masked

compiled = jax.jit(gae.gae, static_argnames=('gamma', 'lam'))
FNS = pytest.mark.parametrize('fn', [gae.gae, compiled], ids=['eager', 'jit'])


def run(fn, rewards, values, mask=None, *, gamma, lam):
  rewards, values = np.float32(rewards), np.float32(values)
  mask = np.ones(len(rewards), bool) if mask is None else np.asarray(mask)
  out = fn(rewards, values, mask, gamma=gamma, lam=lam)
  return tuple(map(np.asarray, out))


@FNS
@pytest.mark.parametrize(
  ('gamma', 'lam', 'want'),
  [
    (1.0, 1.0, [0.5, 0.4, 0.3]),
    (1.0, 0.95, [0.46575, 0.385, 0.3]),
    (0.9, 0.8, [0.21712, 0.246, 0.3]),
  ],
)
def test_known_answers(fn, gamma, lam, want):
  values = [0.5, 0.6, 0.7]
  adv, returns = run(fn, [0, 0, 1], values, gamma=gamma, lam=lam)
  np.testing.assert_allclose(adv, want, rtol=1e-6)
  np.testing.assert_allclose(returns, adv + values, rtol=1e-6)
  if gamma == lam == 1:
    np.testing.assert_allclose(returns, 1, rtol=1e-6)


def test_the_limits_of_lam():
  rng = np.random.default_rng(0)
  rewards, values = rng.normal(size=(2, 9))
  adv, returns = run(compiled, rewards, values, gamma=0.9, lam=0.0)
  error = rewards + 0.9 * np.append(values[1:], 0) - values
  np.testing.assert_allclose(adv, error, rtol=1e-5, atol=1e-6)
  _, returns = run(compiled, rewards, values, gamma=0.9, lam=1.0)
  power = 0.9 ** np.arange(9)
  want = [rewards[t:] @ power[: 9 - t] for t in range(9)]
  np.testing.assert_allclose(returns, want, rtol=1e-5, atol=1e-6)


@FNS
@pytest.mark.parametrize('garbage', [np.nan, np.inf, 7.0])
def test_masked_tokens_are_skipped(fn, garbage):
  rewards, values = np.full((2, 7), garbage)
  at = [1, 2, 5]
  mask = np.isin(np.arange(7), at)
  rewards[at], values[at] = [0, 0, 1], [0.5, 0.6, 0.7]
  adv, returns = run(fn, rewards, values, mask, gamma=0.9, lam=0.8)
  np.testing.assert_allclose(adv[at], [0.21712, 0.246, 0.3], rtol=1e-6)
  np.testing.assert_array_equal(adv[~mask], 0)
  np.testing.assert_array_equal(returns[~mask], 0)
  adv, returns = run(fn, rewards, values, ~mask & mask, gamma=1.0, lam=1.0)
  assert not adv.any()
  assert not returns.any()


@pytest.mark.parametrize('option', [{'gamma': 1.1}, {'lam': -0.1}])
def test_bad_options_are_refused(option):
  (name,) = option
  with pytest.raises(ValueError, match=rf'gae\({name}='):
    run(gae.gae, [1], [0], **({'gamma': 1.0, 'lam': 1.0} | option))


def test_whitening():
  """The advantages of REINFORCE++: 18 tokens, mean 8/18, var .261438."""
  reward, length = [1, 0, 0, 0, 1, 1, 1, 0], [2, 4, 1, 3, 2, 2, 2, 2]
  mask = np.arange(5) < np.array(length)[:, None]
  x = np.where(mask, np.float32(reward)[:, None], np.nan)
  white = jax.jit(functools.partial(masked.whiten))
  got = np.asarray(white(x, mask))
  np.testing.assert_allclose(got[0, 0], 1.086534, rtol=1e-5)
  np.testing.assert_allclose(got[1, :4], -0.869227, rtol=1e-5)
  np.testing.assert_array_equal(got[~mask], 0)
  for flat in (mask & (np.arange(8) == 0)[:, None], mask & ~mask):
    np.testing.assert_array_equal(white(np.full(x.shape, 0.9), flat), 0)
