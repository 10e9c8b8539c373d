"""Facts about whole methods, by enumeration: estimator and surrogate at once.

A policy of one token is a softmax over its logits; every answer and every
vector of rewards is weighed by its probability, so nothing is sampled.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry

RANDOM = ['grpo', 'dr_grpo', 'rloo', 'grpo(ddof=0)']


@functools.cache
def by_logits(spec):
  """d E[loss] / d logits, over answers with given weights and advantages."""
  surrogate = registry.get('surrogate', spec)

  def expected(logits, old, weight, answer, adv):
    logp = jax.nn.log_softmax(logits)[answer][:, None]
    before = jax.nn.log_softmax(old)[answer][:, None]
    loss, _ = surrogate(logp, before, adv[:, None], jnp.ones(logp.shape, bool))
    return (weight * loss[:, 0]).sum()

  return jax.jit(jax.grad(expected))


def gradient(spec, p, p_old, weight, answer, adv):
  logs = [np.log(np.float32(x)) for x in (p, p_old)]
  rest = np.float32(weight), np.asarray(answer), np.float32(adv)
  return np.asarray(by_logits(spec)(*logs, *rest))


def estimate(spec, score):
  fn = jax.vmap(registry.get('estimator', spec))
  score = np.float32(score)
  return np.asarray(fn(score, score == score))


def coin_groups(rate, size):
  """(weight, scores) of every number of successes among `size` flips."""
  count = np.arange(size + 1)
  ways = np.array([math.comb(size, c) for c in count])
  weight = ways * rate**count * (1 - rate) ** (size - count)
  return weight, (np.arange(size) < count[:, None]).astype(np.float32)


@pytest.mark.parametrize('surrogate', ['reinforce', 'clip', 'cispo'])
@pytest.mark.parametrize(
  ('spec', 'factor'), [('psr', 1), ('nsr', 1), ('weighted_reinforce', 1.1)]
)
def test_psr_and_nsr_both_follow_the_chance_of_being_right(
  surrogate, spec, factor
):
  """On-policy, minus the gradient is that of P(right), or (1 + w) times it."""
  p, right = np.array([0.5, 0.2, 0.2, 0.1]), np.array([1, 0, 1, 0])
  adv = estimate(spec, right[:, None])[:, 0]
  got = -gradient(surrogate, p, p, p, range(4), adv)
  chance = lambda z: (jax.nn.softmax(z) * right).sum()
  want = factor * np.asarray(jax.grad(chance)(jnp.log(jnp.float32(p))))
  np.testing.assert_allclose(got, want, atol=1e-7)


@pytest.mark.parametrize(
  ('spec', 'score', 'push', 'after'),
  [
    ('nsr', 0, [-0.4, 0.3, 0.1], [0.438277, 0.441291, 0.120433]),
    ('psr', 1, [0.4, -0.3, -0.1], [0.741080, 0.184005, 0.074915]),
  ],
)
def test_one_step_redistributes_in_logits(spec, score, push, after):
  p = np.array([0.6, 0.3, 0.1])
  adv = estimate(spec, [[score]])[0]
  step = -gradient('reinforce', p, p, [1], [0], adv)
  np.testing.assert_allclose(step, push, atol=1e-6)
  moved = p * np.exp(step)
  np.testing.assert_allclose(moved / moved.sum(), after, atol=2e-6)


@pytest.mark.parametrize(
  ('rate', 'psr', 'nsr'),
  [(0.1, 0.1222, 0.433), (0.5, 0.2787, 0.3087), (0.9, 0.379, 0.1282)],
)
def test_psr_is_noisy_on_easy_prompts_and_nsr_on_hard_ones(rate, psr, nsr):
  """One sample: equal means, but not equal variances (sum over logits)."""
  wrong = 1 - rate
  p = np.array([0.7 * rate, 0.3 * rate, 0.6 * wrong, 0.4 * wrong])
  direction = np.eye(4) - p
  for spec, want in (('psr', psr), ('nsr', nsr)):
    x = estimate(spec, [[1], [1], [0], [0]]) * direction
    mean = p @ x
    got = p @ (x**2).sum(1) - (mean**2).sum()
    np.testing.assert_allclose(got, want, atol=6e-5)


@pytest.mark.parametrize(
  ('rate', 'want'), [(0.2, -0.78), (0.5, -0.45), (0.9, -0.01)]
)
def test_mean_advantage_of_weighted_reinforce(rate, want):
  adv = estimate('weighted_reinforce', [[1], [0]])[:, 0]
  np.testing.assert_allclose([rate, 1 - rate] @ adv, want, atol=1e-6)


@pytest.mark.parametrize(
  ('rate', 'want'),
  [(0.5, 0.468177), (0.3, 0.425470), (0.7, 0.425470), (0.001, 0.003732)],
)
def test_mean_positive_advantage_of_a_random_reward(rate, want):
  """P(A > 0) E[A | A > 0] for 16 coin flips; as much below 0."""
  weight, score = coin_groups(rate, 16)
  adv = estimate('grpo', score)
  np.testing.assert_allclose(
    weight @ np.maximum(adv, 0).mean(1), want, atol=2e-6
  )
  np.testing.assert_allclose(weight @ adv.mean(1), 0, atol=1e-6)


def test_one_success_in_sixteen():
  adv = estimate('grpo', [[1] + [0] * 15])[0]
  np.testing.assert_allclose(adv, [3.75] + [-0.25] * 15, rtol=1e-5)


def enumerated(p_old, rate, spec, size=3):
  """(weight, answer, adv) of a member of a group with random rewards."""
  weight, score = coin_groups(rate, size)
  adv = estimate(spec, score)
  cases = [
    (q * w / size, y, a)
    for (y, q), (w, group) in itertools.product(
      enumerate(p_old), zip(weight, adv)
    )
    for a in group
  ]
  return (np.array(x) for x in zip(*cases))


@pytest.mark.parametrize('spec', RANDOM)
@pytest.mark.parametrize(
  'surrogate', ['reinforce', 'clip', 'dual_clip(0.1, 0.3)', 'cispo']
)
def test_on_policy_a_random_reward_moves_nothing(spec, surrogate):
  """No token is clipped, so there is no bias."""
  p = np.array([0.85, 0.1, 0.05])
  got = gradient(surrogate, p, p, *enumerated(p, 0.3, spec))
  np.testing.assert_allclose(got, 0, atol=1e-6)


@pytest.mark.parametrize('spec', RANDOM)
def test_off_policy_clipping_gives_a_random_reward_a_direction(spec):
  """mu E[grad rho 1(rho < 1-e) - grad rho 1(rho > 1+e)]; none unclipped."""
  old, p = np.array([0.5, 0.3, 0.2]), np.array([0.52, 0.38, 0.1])
  weight, answer, adv = enumerated(old, 0.3, spec)
  rho = p / old
  assert (np.array([rho[0] < 1.2, rho[1] > 1.2, rho[2] < 0.8])).all()
  slope = rho[:, None] * (np.eye(3) - p)  # of rho, by answer
  mu = weight @ np.maximum(adv, 0)
  want = mu * (old[2] * slope[2] - old[1] * slope[1])
  got = -gradient('clip', p, old, weight, answer, adv)
  np.testing.assert_allclose(got, want, atol=1e-6)
  assert np.abs(want).max() > 0.03
  free = gradient('clip(1, 9)', p, old, weight, answer, adv)
  np.testing.assert_allclose(free, 0, atol=1e-6)


def test_clip_thresholds_of_a_likely_and_a_rare_token():
  """A token of .85 is never cut upwards; one of .02 is at .024 and .016."""
  old = np.float32([[0.85, 0.02, 0.02, 0.02, 0.02]])
  new = np.float32([[0.999, 0.0239, 0.0241, 0.0161, 0.0159]])
  adv = np.float32([[1, 1, 1, -1, -1]])
  clip = registry.get('surrogate', 'clip')
  loss = lambda x: clip(x, np.log(old), adv, adv == adv)[0].sum()
  grad = np.asarray(jax.grad(loss)(np.log(new)))
  np.testing.assert_array_equal(grad[0] != 0, [True, True, False, True, False])
