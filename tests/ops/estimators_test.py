"""Estimators: known answers, identities, expectations by enumeration."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry

JIT = pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])
RELATIVE = ['grpo', 'grpo(ddof=0)', 'dr_grpo', 'rloo']
FLAT = [*RELATIVE, 'max_rl']  # 0 in a group without spread
NAN = np.float32('nan')
SIZE = 8


@functools.cache
def build(spec, jit):
  fn = registry.get('estimator', spec)
  return jax.jit(fn) if jit else fn


@functools.cache
def with_jacobian(spec, jit):
  fn = registry.get('estimator', spec)

  def both(score, valid):
    return fn(score, valid), jax.jacrev(fn)(score, valid)

  return jax.jit(both) if jit else both


@functools.cache
def many(spec):
  return jax.jit(jax.vmap(registry.get('estimator', spec)))


def run(spec, jit, score, valid=None):
  score = np.asarray(score, np.float32)
  size = len(score)
  valid = np.ones(size, bool) if valid is None else np.asarray(valid)
  # Padding to one shape: every test shares the compiled function.
  score = np.pad(score, (0, SIZE - size), constant_values=NAN)
  valid = np.pad(valid, (0, SIZE - size))
  return np.asarray(build(spec, jit)(score, valid))[:size]


def reference(name, score, valid, eps=1e-6, ddof=1):
  """Independent, in float64, with numpy's own statistics."""
  out = np.zeros(len(score))
  kept = score[valid].astype(np.float64)
  if name == 'reinforce':
    out[valid] = kept
  if len(kept) < 2 or name == 'reinforce':
    return out
  if name == 'rloo':
    adv = [r - np.delete(kept, i).mean() for i, r in enumerate(kept)]
  else:
    adv = kept - kept.mean()
    if name == 'grpo':
      adv = adv / (kept.std(ddof=ddof) + eps)
  out[valid] = adv
  return out


@JIT
@pytest.mark.parametrize(
  ('spec', 'score', 'want'),
  [
    ('grpo', [1, 0, 0, 1], [0.866024, -0.866024, -0.866024, 0.866024]),
    ('grpo(1e-4)', [1, 0, 0, 1], [0.865875, -0.865875, -0.865875, 0.865875]),
    ('dr_grpo', [1, 0, 0, 1], [0.5, -0.5, -0.5, 0.5]),
    ('rloo', [1, 0, 0, 1], [0.666667, -0.666667, -0.666667, 0.666667]),
    ('grpo', [1, 0, 0, 0], [1.499997] + [-0.499999] * 3),
    ('dr_grpo', [1, 0, 0, 0], [0.75, -0.25, -0.25, -0.25]),
    ('rloo', [1, 0, 0, 0], [1] + [-0.333333] * 3),
    ('reinforce', [1, 0, -2.5, 0], [1, 0, -2.5, 0]),
    ('psr', [1, 0, 0, 1], [1, 0, 0, 1]),
    ('nsr', [1, 0, 0, 1], [0, -1, -1, 0]),
    ('weighted_reinforce', [1, 0, 0, 1], [0.1, -1, -1, 0.1]),
    ('weighted_reinforce(1)', [1, 0, 0, 1], [1, -1, -1, 1]),
    ('pass_at_k', [1, 0, 0, 0], [1.999996, 0, 0, 0]),
    ('baseline(0.25)', [1, 0, -2.5, 0], [0.75, -0.25, -2.75, -0.25]),
    ('max_rl', [1, 0, 0, 0], [2.999988] + [-0.999996] * 3),
    ('max_rl', [1, 0, 0, 1], [0.999998, -0.999998, -0.999998, 0.999998]),
    ('max_rl(eps=0)', [1, 0, 0, 0], [3, -1, -1, -1]),
    ('max_rl(uncentred)', [1, 0, 0, 0], [3.999984, 0, 0, 0]),
    ('max_rl(uncentred)', [1, 1], [0.999999, 0.999999]),
    ('max_rl(uncentred)', [0, 0], [0, 0]),
    ('max_rl(kept)', [1, 0, 0, 0], [2.999988] + [-0.999996] * 3),
    ('max_rl(kept)', [1, 1, 1], [0, 0, 0]),
    ('max_rl(kept)', [0, 0, 0], [-1, -1, -1]),
    ('max_rl(kept)', [-1, 1, -1], [-1, -1, -1]),
    ('pass_at_k', [1, 1, 0, 0], [0, 0, 0, 0]),
    ('pass_at_k', [0.5, 2, 1, 0], [0, 1.171079, 0, 0]),
    ('grpo(ddof=0)', [1] + [0] * 7, [2.645751] + [-0.377964] * 7),
    ('grpo(ddof=0)', [1, 0, 0, 0], [1.732051] + [-0.577350] * 3),
  ],
)
def test_known_answers(jit, spec, score, want):
  rtol = 5e-6 if 'ddof' in spec else 2e-6  # those are for eps = 0
  np.testing.assert_allclose(run(spec, jit, score), want, rtol=rtol)


@pytest.mark.parametrize('name', ['grpo', 'dr_grpo', 'rloo', 'reinforce'])
def test_random_groups_match_numpy(name):
  rng = np.random.default_rng(0)
  score = rng.normal(size=(200, 6)).astype(np.float32)
  score[::3] = rng.integers(0, 2, size=score[::3].shape)
  valid = rng.random(score.shape) < 0.7
  want = [reference(name, s, v) for s, v in zip(score, valid)]
  got = many(name)(np.where(valid, score, NAN), valid)
  np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
  np.testing.assert_array_equal(np.asarray(got)[~valid], 0)


@JIT
@pytest.mark.parametrize('spec', FLAT)
@pytest.mark.parametrize('size', [1, 2, 3, 5, 8])
def test_equal_groups_give_exactly_zero(jit, spec, size):
  for value in (0.9, 0.1, 1 / 3, -1e-3, 1e30, -7e-20, 0):
    got = run(spec, jit, np.full(size, value))
    np.testing.assert_array_equal(got, np.zeros(size))


@pytest.mark.parametrize('spec', FLAT)
def test_equal_groups_of_any_size_without_padding(spec):
  for size in (13, 64):
    score = np.full((1, size), 0.9, np.float32)
    got = many(spec)(score, np.ones(score.shape, bool))
    np.testing.assert_array_equal(got, np.zeros(score.shape))


def test_the_mean_of_equal_float32_scores_does_differ():
  """The reason for the test above: plain r - mean is not 0."""
  score = np.full(8, 0.9, np.float32)
  mean = functools.reduce(np.add, score) / np.float32(8)
  assert mean != score[0]


@JIT
@pytest.mark.parametrize('spec', FLAT)
@pytest.mark.parametrize(
  'valid', [[False] * 8, [False, True] + [False] * 6, [True] * 8]
)
def test_no_nan_in_value_or_gradient_of_flat_groups(jit, spec, valid):
  valid = np.array(valid)
  score = np.where(valid, np.float32(0.9), NAN)
  value, jacobian = jax.device_get(with_jacobian(spec, jit)(score, valid))
  np.testing.assert_array_equal(value, np.zeros(8))
  assert np.isfinite(jacobian).all()
  np.testing.assert_array_equal(jacobian[:, ~valid], 0)


@JIT
@pytest.mark.parametrize(
  'spec',
  [*FLAT, 'reinforce', 'baseline(0.3)', 'max_rl(kept)', 'max_rl(uncentred)'],
)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf, 1e30])
def test_invalid_members_neither_count_nor_leak(jit, spec, garbage):
  valid = np.array([True, False, True, True, False, True, True, True])
  score = np.float32([1, garbage, 0, 0.25, garbage, 0, 1, 2])
  got, jacobian = jax.device_get(with_jacobian(spec, jit)(score, valid))
  np.testing.assert_array_equal(got[~valid], 0)
  alone = run(spec, jit, score[valid])
  np.testing.assert_allclose(got[valid], alone, rtol=1e-6)
  assert np.isfinite(jacobian).all()
  np.testing.assert_array_equal(jacobian[:, ~valid], 0)


@JIT
def test_rloo_and_grpo_are_dr_grpo_rescaled(jit):
  rng = np.random.default_rng(1)
  for _ in range(5):
    score = rng.normal(size=SIZE).astype(np.float32)
    centred = run('dr_grpo', jit, score)
    np.testing.assert_allclose(
      run('rloo', jit, score), 8 / 7 * centred, rtol=1e-6
    )
    np.testing.assert_allclose(
      run('grpo', jit, score),
      centred / (score.std(ddof=1) + 1e-6),
      rtol=1e-5,
    )


@pytest.mark.parametrize('spec', RELATIVE)
def test_shift_scale_and_order(spec):
  """Invariant to shift, to scale if divided by a std; equivariant to order."""
  rng = np.random.default_rng(2)
  score = rng.integers(-8, 8, size=6) / np.float32(4)
  base = run(spec, True, score)
  np.testing.assert_array_equal(run(spec, True, score + 4096), base)
  scale = 1 if 'grpo' in spec and spec != 'dr_grpo' else 3
  np.testing.assert_allclose(
    run(spec, True, 3 * score), scale * base, rtol=1e-5
  )
  order = rng.permutation(6)
  np.testing.assert_allclose(
    run(spec, True, score[order]), base[order], rtol=1e-6
  )


@pytest.mark.parametrize('name', ['grpo', 'dr_grpo', 'rloo', 'reinforce'])
def test_jacobian_matches_finite_differences(name):
  score = np.float32([1, 0.25, -0.5, 0.75, 0, 0, 2, 1])
  valid = np.array([True, True, False, True, True, True, False, True])
  got = with_jacobian(name, True)(score, valid)[1]
  step = 1e-5
  want = np.stack(
    [
      (
        reference(name, score + step * e, valid)
        - reference(name, score - step * e, valid)
      )
      / (2 * step)
      for e in np.eye(SIZE)
    ],
    axis=1,
  )
  np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize('spec', FLAT)
@pytest.mark.parametrize('rate', [0.1, 0.5, 0.8])
def test_a_random_reward_has_expected_advantage_zero(spec, rate):
  """All 8 outcomes of three coin flips, weighted by probability."""
  flips = np.array(list(itertools.product([0, 1], repeat=3)), np.float32)
  weight = np.prod(np.where(flips == 1, rate, 1 - rate), axis=1)
  adv = many(spec)(flips, np.ones(flips.shape, bool))
  np.testing.assert_allclose(weight @ np.asarray(adv), np.zeros(3), atol=1e-6)


@pytest.mark.parametrize(
  ('spec', 'want'),
  [
    ('reinforce', [0.24, -0.18, -0.06]),
    ('rloo', [0.24, -0.18, -0.06]),
    ('dr_grpo', [0.16, -0.12, -0.04]),  # (G-1)/G times the true gradient
    ('grpo', [0.277128, -0.207846, -0.069282]),  # biased by its std
  ],
)
def test_expected_policy_gradient_by_enumeration(spec, want):
  """p = (.6, .3, .1), reward (1, 0, 0), all 27 groups of three samples."""
  p = np.array([0.6, 0.3, 0.1])
  draws = np.array(list(itertools.product(range(3), repeat=3)))
  weight = np.prod(p[draws], axis=1)
  score = (draws == 0).astype(np.float32)
  adv = np.asarray(many(spec)(score, np.ones(score.shape, bool)))
  direction = np.eye(3)[draws] - p
  gradient = np.einsum('n,ng,ngv->v', weight, adv, direction) / 3
  np.testing.assert_allclose(gradient, want, atol=2e-6)


@JIT
@pytest.mark.parametrize('spec', ['psr', 'nsr', 'weighted_reinforce'])
def test_each_member_counts_by_itself(jit, spec):
  """Invalid ones get 0 and affect no other; a group of one is allowed."""
  valid = np.array([True, False, True, True])
  got = run(spec, jit, [1, np.nan, 0, 1], valid)
  want = [run(spec, jit, [r])[0] for r in (1, 0, 1)]
  np.testing.assert_array_equal(got, [want[0], 0, want[1], want[2]])


def test_positive_and_negative_parts_add_up():
  """psr + nsr, and weight 1, are REINFORCE on rewards of 1 and -1."""
  score = np.random.default_rng(4).integers(0, 2, 8).astype(np.float32)
  both = run('psr', True, score) + run('nsr', True, score)
  np.testing.assert_array_equal(both, 2 * score - 1)
  np.testing.assert_array_equal(
    run('weighted_reinforce(1)', True, score), 2 * score - 1
  )
  np.testing.assert_array_equal(
    run('weighted_reinforce(0)', True, score), run('nsr', True, score)
  )


@pytest.mark.parametrize(
  ('spec', 'factor'),
  [('psr', 1), ('nsr', 1), ('weighted_reinforce', 1.1)],
)
def test_both_parts_have_the_same_expected_gradient(spec, factor):
  """(.24, -.18, -.06) for p = (.6, .3, .1), the first right: one sample."""
  p = np.array([0.6, 0.3, 0.1])
  adv = np.asarray(
    many(spec)(np.array([[1.0], [0], [0]]), np.ones((3, 1), bool))
  )
  gradient = (p[:, None] * adv * (np.eye(3) - p)).sum(0)
  want = factor * np.array([0.24, -0.18, -0.06])
  np.testing.assert_allclose(gradient, want, atol=1e-7)


@pytest.mark.parametrize('size', [1, 2, 4, 8])
@pytest.mark.parametrize(
  ('spec', 'more'),
  [('max_rl', 0), ('max_rl(uncentred)', 1), ('max_rl(kept)', 1)],
)
def test_max_rl_truncates_log_p_at_its_order(spec, more, size):
  """Mean advantages of q (1 - q^T), T = G - 1 or G, by enumeration.

  E[A_i s_i] = (E[A_i r_i] q - E[A_i (1 - r_i)] p) Delta for one member.
  """
  score = np.array(list(itertools.product([0, 1], repeat=size)), np.float32)
  adv = np.asarray(many(spec)(score, np.ones(score.shape, bool)), np.float64)
  for p in (0.01, 0.3, 0.9):
    q = 1 - p
    weight = np.prod(np.where(score == 1, p, q), axis=1)[:, None]
    x = adv * np.where(score == 1, q, -p)
    want = q * (1 - q ** (size - 1 + more))
    # eps = 1e-6 beside a mean of at least 1/8.
    np.testing.assert_allclose((weight * x).sum(0), want, rtol=1e-5, atol=1e-7)


def test_a_constant_baseline_goes_from_psr_to_nsr():
  score = np.random.default_rng(5).integers(0, 2, 8)
  for value, name in ((0, 'psr'), (1, 'nsr')):
    got = run(f'baseline({value})', True, score)
    np.testing.assert_array_equal(got, run(name, True, score))
  with pytest.raises(ValueError, match='needs value'):
    registry.get('estimator', 'baseline')


@JIT
def test_pass_at_k_gives_the_best_valid_member_its_gap(jit):
  valid = np.array([True, False, True, True])
  got = run('pass_at_k', jit, [0.5, np.inf, 2, 1], valid)
  std = np.std([0.5, 2, 1], ddof=1)
  np.testing.assert_allclose(got, [0, 0, 1 / std, 0], rtol=1e-5)
  for flat in ([False] * 4, [False, True, False, False]):
    got = run('pass_at_k', jit, [0.5, 3, 2, 1], np.array(flat))
    np.testing.assert_array_equal(got, 0)


@pytest.mark.parametrize('dtype', [np.int32, jnp.bfloat16])
def test_results_are_float32(dtype):
  score = jnp.asarray([1, 0, 0, 1, 0, 0, 0, 1], dtype)
  for spec in ('grpo', 'reinforce'):
    got = build(spec, True)(score, np.ones(SIZE, bool))
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, run(spec, True, score))


@pytest.mark.parametrize(
  'spec',
  [
    'grpo(0)',
    'grpo(eps=-1)',
    'grpo(ddof=2)',
    'pass_at_k(0)',
    'weighted_reinforce(-0.1)',
    'weighted_reinforce(1e999)',
    'max_rl(theirs)',
    'max_rl(eps=-1)',
  ],
)
def test_bad_options_are_refused(spec):
  with pytest.raises(ValueError, match=spec.partition('(')[0] + r'\('):
    registry.get('estimator', spec)
