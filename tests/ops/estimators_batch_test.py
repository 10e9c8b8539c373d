"""Estimators that need lengths, greedy scores, surprises, the whole batch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import estimators

NAN = np.float32('nan')
# Rewards and lengths of the worked example of REINFORCE++: 18 tokens.
REWARDS = np.float32([[1, 0, 0, 0], [1, 1, 1, 0]])
LENGTHS = np.float32([[2, 4, 1, 3], [2, 2, 2, 2]])
BATCH = [
  'gpg',
  'gpg(verl)',
  'reinforce_plus_plus',
  'reinforce_plus_plus_baseline',
  'grpo(scale_rewards=batch)',
  'surprise_baseline',
]
CENTRED = ['gpg', 'gpg(verl)', 'grpo(scale_rewards=batch)']


@functools.cache
def build(spec):
  fn = registry.get('estimator', spec)
  return jax.jit(fn), jax.jit(jax.jacrev(fn))


def run(spec, score, *more, valid=None):
  score = np.asarray(score)
  valid = np.ones(score.shape, bool) if valid is None else np.asarray(valid)
  return np.asarray(build(spec)[0](score, valid, *more))


@pytest.mark.parametrize(
  ('spec', 'score', 'more', 'want'),
  [
    ('opo', [1, 0, 0, 1], [[2, 4, 1, 3]], [0.5, -0.5, -0.5, 0.5]),
    ('opo', [1, 0, 0, 0], [[2, 4, 1, 3]], [0.8, -0.2, -0.2, -0.2]),
    ('opo', [1, 0, 0, 0], [], [0.75, -0.25, -0.25, -0.25]),
    ('remax', [1, 0, 0, 0], [1], [0, -1, -1, -1]),
    ('remax', [0.5, 0, 2, 0.5], [0.5], [0, -0.5, 1.5, 0]),
    ('gpg(verl)', [1, 0, 0, 0], [], [3, -1, -1, -1]),
    ('gpg', [1, 0, 0, 0], [], [0.75, -0.25, -0.25, -0.25]),
    (
      'gpg',
      [[1, 0, 0, 0], [1, 1, 1, 1]],
      [],
      [[1.5, -0.5, -0.5, -0.5], [0] * 4],
    ),
    (
      'gpg(verl)',
      [[1, 0, 0, 0], [1, 1, 1, 1]],
      [],
      [[1.2, -0.4, -0.4, -0.4], [0] * 4],
    ),
    (
      'reinforce_plus_plus',
      REWARDS,
      [LENGTHS],
      np.where(REWARDS == 1, 1.086534, -0.869227),
    ),
    (
      'reinforce_plus_plus_baseline',
      REWARDS,
      [LENGTHS],
      [[1.818119] + [-0.519462] * 3, [0.649328] * 3 + [-1.688253]],
    ),
    ('grpo(scale_rewards=none)', [1, 0, 0, 1], [], [0.5, -0.5, -0.5, 0.5]),
    (
      'surprise_baseline',
      [[1, 0], [0, 0]],
      [[[1, 4], [3, 1]]],
      [[1, -1 / 5], [-1 / 6, -1 / 8]],
    ),
    ('surprise_baseline', [1, 0, 0, 1], [[0, 1, 0, 3]], [0.25, -1, -0.75, 1]),
    ('surprise_baseline', [1, 0, 0], [[0, 0, 2]], [1, 0, 0]),
    (
      # Eight rewards, half of them 1: their std is sqrt(2/7).
      'grpo(scale_rewards=batch)',
      REWARDS,
      [],
      (REWARDS - [[0.25], [0.75]]) / (np.sqrt(2 / 7) + 1e-6),
    ),
  ],
)
def test_known_answers(spec, score, more, want):
  fn = registry.get('estimator', spec)
  score, more = np.float32(score), [np.asarray(np.float32(x)) for x in more]
  eager = fn(score, np.ones(score.shape, bool), *more)
  for got in (eager, run(spec, score, *more)):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('baseline', [False, True])
def test_reinforce_plus_plus_whitens_written_out_tokens(baseline):
  """Repeat each return for every token, and whiten as numpy would."""
  rng = np.random.default_rng(0)
  score = rng.normal(size=(3, 5)).astype(np.float32)
  length = rng.integers(0, 6, size=(3, 5)).astype(np.float32)
  valid = rng.random((3, 5)) < 0.8
  x = np.where(valid, score, 0)
  if baseline:
    x = x - (x.sum(1) / valid.sum(1))[:, None]
  tokens = np.repeat(x[valid], length[valid].astype(int))
  std = np.sqrt(tokens.var(ddof=1) + 1e-8)
  want = np.where(valid, (x - tokens.mean()) / std, 0)
  spec = 'reinforce_plus_plus' + '_baseline' * baseline
  dirty = (np.where(valid, a, NAN) for a in (score, length))
  got = run(spec, *dirty, valid=valid)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('spec', BATCH)
def test_no_lengths_are_equal_lengths_and_one_group_is_a_batch(spec):
  rng = np.random.default_rng(1)
  score = rng.normal(size=(2, 4)).astype(np.float32)
  np.testing.assert_array_equal(run(spec, score[0]), run(spec, score[:1])[0])
  if 'length' in estimators.takes(registry.get('estimator', spec)):
    ones = np.ones(score.shape, np.float32)
    np.testing.assert_array_equal(run(spec, score, ones), run(spec, score))


def test_opo_with_equal_lengths_is_dr_grpo():
  score = np.float32([0.3, 1, 0, 0.25])
  want = run('dr_grpo', score)
  np.testing.assert_array_equal(run('opo', score), want)
  got = run('opo', score, np.full(4, 7, np.float32))
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_opo_weighs_its_advantages_to_zero():
  """sum l A = 0; a member of length 0 does not affect the baseline."""
  score = np.float32([0.3, 1, 5, 0.25])
  length = np.float32([3, 1, 0, 8])
  got = run('opo', score, length)
  np.testing.assert_allclose(length @ got, 0, atol=1e-6)
  np.testing.assert_allclose(got[2], 5 - (0.9 + 1 + 2) / 12, rtol=1e-6)
  np.testing.assert_array_equal(run('opo', score, 0 * length), 0)


def test_remax_is_shifted_reinforce():
  score = np.float32([0.3, 1, 0, 0.25])
  greedy = np.asarray(np.float32(0.4))
  want = run('reinforce', score) - greedy
  np.testing.assert_array_equal(run('remax', score, greedy), want)
  both = jax.vmap(registry.get('estimator', 'remax'))
  got = both(REWARDS, REWARDS == REWARDS, np.float32([1, 0]))
  np.testing.assert_array_equal(got, REWARDS - [[1], [0]])


@pytest.mark.parametrize(
  'other', ['grpo(scale_rewards=group)', 'grpo(1e-6, 1, none)']
)
def test_grpo_goes_group_by_group_by_default(other):
  name = 'dr_grpo' if 'none' in other else 'grpo'
  want = np.stack([run(name, s) for s in REWARDS])
  np.testing.assert_array_equal(run(other, REWARDS), want)


def test_the_std_of_the_batch_is_that_of_all_its_valid_scores():
  rng = np.random.default_rng(2)
  score = rng.normal(size=(3, 5)).astype(np.float32)
  valid = rng.random((3, 5)) < 0.7
  got = run(
    'grpo(scale_rewards=batch, eps=1e-4)',
    np.where(valid, score, NAN),
    valid=valid,
  )
  centred = np.stack([run('dr_grpo', s, valid=v) for s, v in zip(score, valid)])
  std = score[valid].std(ddof=1)
  np.testing.assert_allclose(got, centred / (std + 1e-4), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('spec', [*BATCH, 'opo'])
@pytest.mark.parametrize('size', [1, 3, 8])
def test_equal_scores_give_exactly_zero(spec, size):
  for value in (0.9, 1 / 3, 1e30, -7e-20, 0):
    score = np.full((2, size), value, np.float32)
    length = np.arange(1, 2 * size + 1, dtype=np.float32).reshape(2, size)
    score, length = (score[0], length[0]) if spec == 'opo' else (score, length)
    takes = 'length' in estimators.takes(registry.get('estimator', spec))
    got = run(spec, score, *[length] * takes)
    np.testing.assert_array_equal(got, np.zeros_like(score))


@pytest.mark.parametrize('spec', CENTRED)
def test_an_equal_group_beside_a_mixed_one_gives_exactly_zero(spec):
  got = run(spec, np.float32([[0.9] * 3, [1, 0, 0]]))
  np.testing.assert_array_equal(got[0], 0)
  assert got[1].all()


def test_an_equal_group_has_a_gradient_under_reinforce_plus_plus():
  score = np.float32([[1, 1, 1], [1, 0, 0]])
  assert (run('reinforce_plus_plus', score)[0] > 0).all()
  # In the baseline variant it needs lengths that differ.
  name = 'reinforce_plus_plus_baseline'
  np.testing.assert_allclose(run(name, score)[0], 0, atol=1e-6)
  length = np.float32([[1, 1, 1], [1, 2, 3]])
  assert (run(name, score, length)[0] > 0.1).all()


@pytest.mark.parametrize('spec', [*BATCH, 'opo'])
@pytest.mark.parametrize('alive', [0, 1, 2])
def test_few_members_give_no_nan_in_value_or_gradient(spec, alive):
  valid = np.zeros((2, 3), bool)
  valid[0, :alive] = True
  score = np.where(valid, np.float32(0.9), NAN)
  length = np.where(valid, np.float32(2), NAN)
  if spec == 'opo':
    valid, score, length = valid[0], score[0], length[0]
  takes = 'length' in estimators.takes(registry.get('estimator', spec))
  more = [length] * takes
  np.testing.assert_array_equal(run(spec, score, *more, valid=valid), 0)
  jacobian = np.asarray(build(spec)[1](score, valid, *more))
  assert np.isfinite(jacobian).all()
  np.testing.assert_array_equal(jacobian[~valid], 0)


@pytest.mark.parametrize('spec', BATCH)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf, 1e30])
def test_invalid_members_neither_count_nor_leak(spec, garbage):
  rng = np.random.default_rng(3)
  score = rng.integers(0, 3, size=(3, 4)).astype(np.float32)
  valid = rng.random((3, 4)) < 0.7
  clean = run(spec, np.where(valid, score, 0), valid=valid)
  dirty = np.where(valid, score, np.float32(garbage))
  np.testing.assert_array_equal(run(spec, dirty, valid=valid), clean)
  np.testing.assert_array_equal(clean[~valid], 0)
  jacobian = np.asarray(build(spec)[1](dirty, valid))
  assert np.isfinite(jacobian).all()
  # [P,G,P,G]: neither from an invalid member nor to one.
  np.testing.assert_array_equal(jacobian[:, :, ~valid], 0)
  np.testing.assert_array_equal(jacobian[~valid], 0)


@pytest.mark.parametrize('spec', ['opo', 'remax'])
def test_invalid_members_of_one_group_do_not_either(spec):
  valid = np.array([True, False, True, True])
  more = np.float32([2, NAN, 1, 5]) if spec == 'opo' else np.ones(())
  score = np.float32([1, NAN, 0, 2])
  got = run(spec, score, more, valid=valid)
  baseline = (2 * 1 + 0 + 5 * 2) / 8 if spec == 'opo' else 1
  want = np.where(valid, [1, 0, 0, 2] - np.float32(baseline), 0)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  jacobian = np.asarray(build(spec)[1](score, valid, more))
  assert np.isfinite(jacobian).all()
  np.testing.assert_array_equal(jacobian[:, ~valid], 0)


@pytest.mark.parametrize('spec', [*BATCH, 'opo', 'remax'])
@pytest.mark.parametrize('dtype', [np.int32, bool, jnp.bfloat16])
def test_integers_and_bools_are_computed_in_float32(spec, dtype):
  score = np.array([[1, 0, 0, 1], [1, 0, 1, 1]])
  score = score if spec in BATCH else score[0]
  more = [np.ones((), dtype)] if spec == 'remax' else []
  got = build(spec)[0](jnp.asarray(score, dtype), score == score, *more)
  assert got.dtype == jnp.float32
  more = [np.ones((), np.float32)] if spec == 'remax' else []
  np.testing.assert_array_equal(got, run(spec, np.float32(score), *more))


@pytest.mark.parametrize(
  ('spec', 'shift', 'scale'),
  [
    ('opo', True, 3),
    ('gpg', True, 3),
    ('grpo(scale_rewards=batch)', True, 1),
    ('reinforce_plus_plus', True, 1),
    ('reinforce_plus_plus_baseline', True, 1),
    ('surprise_baseline', True, 3),
    ('gpg(verl)', False, 3),
  ],
)
def test_shift_and_scale(spec, shift, scale):
  score = np.float32([[1, 0, 0, 0.5], [2, 1, 1, 0]])
  score, length = (score[0], LENGTHS[0]) if spec == 'opo' else (score, LENGTHS)
  takes = 'length' in estimators.takes(registry.get('estimator', spec))
  more = [length] * takes
  base = run(spec, score, *more)
  same = np.allclose(run(spec, score + 64, *more), base, rtol=1e-5)
  assert same == shift
  np.testing.assert_allclose(
    run(spec, 3 * score, *more), scale * base, rtol=1e-5, atol=1e-7
  )


@pytest.mark.parametrize(
  ('spec', 'names', 'whole'),
  [
    ('grpo', set(), False),
    ('grpo(scale_rewards=group)', set(), False),
    ('grpo(eps=1e-4, scale_rewards=batch)', set(), True),
    ('rloo', set(), False),
    ('weighted_reinforce(0.5)', set(), False),
    ('opo', {'length'}, False),
    ('remax', {'greedy'}, False),
    ('gpg', set(), True),
    ('gpg(verl)', set(), True),
    ('reinforce_plus_plus', {'length'}, True),
    ('reinforce_plus_plus_baseline', {'length'}, True),
    ('surprise_baseline', {'surprise'}, True),
  ],
)
def test_what_an_estimator_needs_is_known_before_it_is_called(
  spec, names, whole
):
  fn = registry.get('estimator', spec)
  for seen in (fn, functools.partial(fn)):
    assert estimators.takes(seen) == names
    assert estimators.is_whole_batch(seen) is whole


def test_the_outer_partial_decides():
  inner = registry.get('estimator', 'grpo(scale_rewards=batch)')
  outer = functools.partial(inner, scale_rewards='group')
  assert not estimators.is_whole_batch(outer)


def test_remax_has_the_exact_expected_gradient():
  """p = (.6, .3, .1), reward (1, 0, 0), for any score of the greedy answer."""
  p = np.array([0.6, 0.3, 0.1])
  remax = registry.get('estimator', 'remax')
  for greedy in (0, 1, 0.3):
    adv = np.asarray(
      remax(np.float32([1, 0, 0]), np.ones(3, bool), np.asarray(greedy))
    )
    gradient = (p * adv) @ (np.eye(3) - p)
    np.testing.assert_allclose(gradient, [0.24, -0.18, -0.06], atol=1e-7)


def test_expected_gradient_of_opo_by_enumeration():
  """Equal lengths: (G-1)/G times the true gradient, as for the group mean."""
  p = np.array([0.6, 0.3, 0.1])
  draws = np.array(list(itertools.product(range(3), repeat=3)))
  weight = np.prod(p[draws], axis=1)
  score = (draws == 0).astype(np.float32)
  length = np.full(score.shape, 5, np.float32)
  opo = jax.vmap(registry.get('estimator', 'opo'))
  adv = np.asarray(opo(score, score == score, length))
  gradient = np.einsum('n,ng,ngv->v', weight, adv, np.eye(3)[draws] - p) / 3
  np.testing.assert_allclose(gradient, [0.16, -0.12, -0.04], atol=1e-6)


@pytest.mark.parametrize(
  'spec', ['gpg(other)', 'grpo(scale_rewards=all)', 'grpo(0, 1, batch)']
)
def test_bad_options_are_refused(spec):
  with pytest.raises(ValueError, match=spec.partition('(')[0] + r'\('):
    registry.get('estimator', spec)


def test_a_surprise_baseline_of_one_group_with_equal_surprise_is_rloo():
  score = np.float32([0.3, 1, 0, 0.25])
  for more in ([], [np.full(4, 0.7, np.float32)]):
    got = run('surprise_baseline', score, *more)
    np.testing.assert_allclose(got, run('rloo', score), rtol=1e-6, atol=1e-7)


def test_a_surprise_baseline_stays_among_the_rewards():
  """One row has all but a rounding error of the surprise."""
  surprise = np.float32([[1e8, 0.3, 0.1, 0.2]])
  got = run('surprise_baseline', np.float32([[1, 0, 1, 0]]), surprise)
  assert (np.abs(got) <= 1).all()


def test_a_surprise_baseline_has_the_exact_expected_gradient():
  """Two prompts with other policies, rewards and weights; all 81 batches."""
  p = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
  reward = np.float32([[1, 0, 0], [0, 1, 0.5]])
  surprise = np.square(1 - p).astype(np.float32)
  draws = np.array(list(itertools.product(range(3), repeat=4)))
  draws = draws.reshape(-1, 2, 2)
  prompt = np.arange(2)[:, None]
  weight = np.prod(p[prompt, draws], axis=(1, 2))
  fn = jax.jit(jax.vmap(registry.get('estimator', 'surprise_baseline')))
  adv = np.asarray(
    fn(reward[prompt, draws], draws == draws, surprise[prompt, draws])
  )
  direction = np.eye(3)[draws] - p[prompt]
  got = np.einsum('n,npg,npgv->pv', weight, adv, direction) / 2
  want = np.einsum('py,pyv->pv', p * reward, np.eye(3) - p[:, None])
  np.testing.assert_allclose(got, want, atol=1e-6)
