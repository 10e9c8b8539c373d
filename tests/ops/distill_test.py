"""How a teacher's word enters the loss: advantages, weights, ratios."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import distill


def get(spec):
  return registry.get('distill', spec)()


ADV = jnp.array([[1.0, 1.0, -2.0, -2.0, 0.0, 1.0]])
LOGP = jnp.log(jnp.array([[0.5, 0.3, 0.5, 0.3, 0.5, 0.5]]))
LOGQ = jnp.log(jnp.array([[0.2, 0.6, 0.2, 0.6, 0.2, 0.9]]))
TAUGHT = jnp.array([[True, True, True, True, True, False]])
MASK = jnp.ones((1, 6), bool)


def reshaped(spec, adv=ADV, logp=LOGP, logq=LOGQ):
  made = get(spec)
  return np.asarray(distill.reshaped(made, adv, logp, logq, TAUGHT, MASK))[0]


def test_the_advantage_of_on_policy_distillation():
  gap = [-0.916291, 0.693147] * 2 + [-0.916291, 0.0]
  np.testing.assert_allclose(reshaped('advantage'), gap, atol=1e-6)
  np.testing.assert_allclose(
    reshaped('advantage(weight=0.1, outcome=0.9)'),
    0.9 * ADV[0] + 0.1 * np.array(gap),
    atol=1e-6,
  )
  clipped = np.clip(gap, -0.5, 0.5)
  np.testing.assert_allclose(reshaped('advantage(clip=0.5)'), clipped)


def test_reweighting_never_flips_the_outcome():
  # exp(d) is 0.4 and 2 for a right row, 2.5 and 0.5 for a wrong one.
  np.testing.assert_allclose(
    reshaped('reweight'), [0.9, 1.1, -2.2, -1.8, 0, 1.0], rtol=1e-6
  )
  np.testing.assert_allclose(
    reshaped('reweight(mix=1.0, clip=0.7)'),
    [0.4, 1.7, -3.4, -1.0, 0, 1.0],
    rtol=1e-6,
  )
  rng = np.random.default_rng(0)
  adv, logp, logq = (
    jnp.asarray(rng.normal(size=(1, 6)) * 30, jnp.float32) for _ in range(3)
  )
  for spec in ('reweight', 'reweight(mix=1.0, clip=0.99)'):
    out = reshaped(spec, adv, logp, logq)
    np.testing.assert_array_equal(np.sign(out), np.sign(adv[0]))
  np.testing.assert_array_equal(reshaped('reweight(mix=0.0)'), ADV[0])


def test_what_is_not_taught_or_not_trained_does_not_matter():
  bad = jnp.where(TAUGHT, LOGQ, jnp.nan)
  for spec in ('reweight', 'advantage'):
    np.testing.assert_array_equal(reshaped(spec, logq=bad), reshaped(spec))
  out = distill.weighted(
    get('loss(ratio_cap=2.0)'),
    jnp.array([[1.0, 1, 1, 1, 1, jnp.nan]]),
    LOGP,
    LOGP - jnp.log(jnp.array([[1.0, 1.5, 2.0, 9.0, 0.5, 1.0]])),
    TAUGHT,
  )
  np.testing.assert_allclose(out[0], [1, 1.5, 2, 2, 0.5, 0], rtol=1e-6)


def test_uses():
  assert get('loss')[:2] == (1.0, False)
  assert get('add(weight=0.1)')[:2] == (0.1, True)
  assert not get('advantage').outcome
  assert get('reweight').outcome
  assert get('advantage(outcome=0.5)').outcome


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('reweight(mix=1.5)', 'sign of an advantage could flip'),
    ('reweight(clip=1.0)', 'sign of an advantage could flip'),
    ('add(weight=-1.0)', 'weight=-1.0 must be'),
    ('loss(ratio_cap=-2.0)', 'ratio_cap=-2.0'),
  ],
)
def test_bad_options_are_refused(spec, message):
  with pytest.raises(ValueError, match=message):
    get(spec)
