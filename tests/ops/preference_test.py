"""Preference losses: known values, gradients by hand, what moves nothing."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import preference

JIT = pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])
SPECS = (
  'dpo',
  'dpo(beta=0.5, label_smoothing=0.1)',
  'robust(beta=0.5, label_smoothing=0.1)',
  'ipo(beta=0.2)',
  'hinge(beta=0.3)',
  'simpo(beta=2.0, gamma=0.5)',
)


@functools.cache
def build(spec, jit):
  fn = registry.get('preference', spec)

  def both(*args):
    out, pull = jax.vjp(lambda a, b: fn(a, b, *args[2:]), *args[:2])
    return out, *pull(jnp.ones_like(out))

  return jax.jit(both) if jit else both


def run(spec, chosen, rejected, ref_chosen=0.0, ref_rejected=0.0, jit=True):
  """(loss, its derivatives by chosen and rejected), f32[N] each."""
  n = max(np.size(x) for x in (chosen, rejected))
  args = [
    np.broadcast_to(np.float32(x), n)
    for x in (chosen, rejected, ref_chosen, ref_rejected)
  ]
  return jax.device_get(build(spec, jit)(*args))


def sigma(x):
  return 1 / (1 + np.exp(-np.float64(x)))


@JIT
def test_dpo_of_the_reference_itself_is_log_two(jit):
  got, up, down = run('dpo(beta=0.1)', -3.0, -7.0, -3.0, -7.0, jit=jit)
  np.testing.assert_allclose(got, math.log(2), rtol=1e-6)
  np.testing.assert_allclose([up, down], [[-0.05], [0.05]], rtol=1e-6)


@JIT
@pytest.mark.parametrize(
  ('spec', 'h', 'want'),
  [
    # The numbers of a margin of u = 0.6 without and with smoothing.
    ('dpo(beta=0.2)', 3.0, 0.437488),
    ('dpo(beta=0.2, label_smoothing=0.01)', 3.0, 0.443488),
    # Bradley-Terry at margins 0, 1, 2.
    ('dpo(beta=1.0)', 0.0, 0.693147),
    ('dpo(beta=1.0)', 1.0, 0.313262),
    ('dpo(beta=1.0)', 2.0, 0.126928),
    ('ipo(beta=0.1)', 2.0, 9.0),
    ('ipo(beta=0.1)', 5.0, 0.0),
    ('hinge(beta=0.1)', 4.0, 0.6),
    ('hinge(beta=0.1)', 11.0, 0.0),
    ('simpo(beta=2.0, gamma=0.5)', 0.25, 0.693147),
    ('simpo(beta=1.0, gamma=0.0)', 1.0, 0.313262),
    ('robust(beta=1.0)', 1.0, 0.313262),
  ],
)
def test_known_values(jit, spec, h, want):
  got, _, _ = run(spec, -5.0 + h, -5.0, jit=jit)
  np.testing.assert_allclose(got, want, atol=1e-6)


@JIT
def test_formulas_and_gradients_by_hand(jit):
  rng = np.random.default_rng(0)
  a, b, ra, rb = -5 * rng.exponential(size=(4, 64)).astype(np.float32)
  h = np.float64(a) - ra - b + rb
  plain = np.float64(a) - b
  cost = lambda u: np.log1p(np.exp(-u))
  for spec, value, slope in [
    ('dpo(beta=0.3)', cost(0.3 * h), -0.3 * sigma(-0.3 * h)),
    (
      'dpo(beta=0.3, label_smoothing=0.1)',
      0.9 * cost(0.3 * h) + 0.1 * cost(-0.3 * h),
      -0.3 * (0.9 - sigma(0.3 * h)),
    ),
    (
      'robust(beta=0.3, label_smoothing=0.1)',
      (0.9 * cost(0.3 * h) - 0.1 * cost(-0.3 * h)) / 0.8,
      -0.3 * (0.9 * sigma(-0.3 * h) + 0.1 * sigma(0.3 * h)) / 0.8,
    ),
    ('ipo(beta=0.3)', (h - 1 / 0.6) ** 2, 2 * (h - 1 / 0.6)),
    ('hinge(beta=0.3)', np.maximum(0, 1 - 0.3 * h), -0.3 * (0.3 * h < 1)),
    (
      'simpo(beta=0.3, gamma=0.2)',
      cost(0.3 * plain - 0.2),
      -0.3 * sigma(0.2 - 0.3 * plain),
    ),
  ]:
    got, up, down = run(spec, a, b, ra, rb, jit=jit)
    np.testing.assert_allclose(got, value, rtol=1e-5, atol=2e-6, err_msg=spec)
    np.testing.assert_allclose(up, slope, rtol=1e-5, atol=2e-6, err_msg=spec)
    np.testing.assert_allclose(down, -up, err_msg=spec)


def test_smoothing_mixes_both_orders():
  """The share e of a label is that of the other order of the pair."""
  e = 0.3
  one = run(f'dpo(beta=1.0, label_smoothing={e})', 2.0, 0.0)[0]
  swapped = run(f'dpo(beta=1.0, label_smoothing={e})', 0.0, 2.0)[0]
  plain, other = run('dpo(beta=1.0)', 2.0, 0.0)[0], run('dpo(1.0)', 0.0, 2.0)[0]
  np.testing.assert_allclose(one, (1 - e) * plain + e * other, rtol=1e-6)
  np.testing.assert_allclose(swapped, (1 - e) * other + e * plain, rtol=1e-6)
  np.testing.assert_allclose(one + swapped, plain + other, rtol=1e-6)


def test_minima():
  """ipo at 1/(2 beta); dpo with smoothing at log((1-e)/e) / beta."""
  for spec, h in [
    ('ipo(beta=0.25)', 2.0),
    ('dpo(beta=0.5, label_smoothing=0.1)', math.log(9) / 0.5),
  ]:
    low, slope, _ = run(spec, h, 0.0)
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    for near in (h - 0.5, h + 0.5):
      assert run(spec, near, 0.0)[0] > low
  slope = run('hinge(beta=0.5)', [1.9, 2.1, 50.0], 0.0)[1]
  np.testing.assert_array_equal(slope, np.float32([-0.5, 0, 0]))


def test_robust_is_right_on_average_over_flipped_labels():
  e, h = 0.2, np.float32([-3.0, 0.3, 2.0])
  spec = f'robust(beta=0.7, label_smoothing={e})'
  mean = (1 - e) * run(spec, h, 0.0)[0] + e * run(spec, 0.0, h)[0]
  np.testing.assert_allclose(mean, run('dpo(beta=0.7)', h, 0.0)[0], rtol=1e-5)


@pytest.mark.parametrize('spec', SPECS)
def test_what_both_completions_share_moves_nothing(spec):
  a, b = np.float32([-3.0, -8.0]), np.float32([-4.0, -2.0])
  want = run(spec, a, b, -1.0, -2.0)
  for c in (-16.0, 4.0):  # exact in float32
    for args in (
      (a + c, b + c, -1.0, -2.0),
      (a, b, c - 1, c - 2),
      (a + c, b, c - 1, -2.0) if 'simpo' not in spec else (a, b, c, -2.0),
    ):
      for x, y in zip(run(spec, *args), want):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


@JIT
@pytest.mark.parametrize('spec', SPECS)
def test_log_probs_of_megabytes_are_finite(jit, spec):
  for values in run(spec, [-1e6, -3.0], [-3.0, -1e6], jit=jit):
    assert np.isfinite(values).all()
  loss, slope, _ = run('dpo(beta=1.0)', [-1e6, 1e6], 0.0, jit=jit)
  np.testing.assert_array_equal(loss, np.float32([1e6, 0]))
  np.testing.assert_array_equal(slope, np.float32([-1, 0]))


def test_lengths_make_log_probs_means():
  a, b, n, m = (np.float32([x]) for x in (-12.0, -8.0, 4.0, 2.0))
  zero = 0 * a
  simpo = registry.get('preference', 'simpo(beta=2.0, gamma=0.5)')
  want = simpo(a / n, b / m)
  np.testing.assert_allclose(simpo(a, b, zero, zero, n, m), want, rtol=1e-6)
  np.testing.assert_allclose(want, np.log1p(np.exp(-1.5)), rtol=1e-6)
  ipo = registry.get('preference', 'ipo(beta=1.0, average=True)')
  # (-12 + 8) / 4 - (-8 + 6) / 2 = 0.
  got = ipo(a, b, a + 4, b + 2, n, m)
  np.testing.assert_allclose(got, 0.25, rtol=1e-6)
  plain = registry.get('preference', 'ipo(beta=1.0)')
  np.testing.assert_allclose(plain(a, b, a + 4, b + 2, n, m), 2.5**2, rtol=1e-6)


def test_what_a_preference_needs():
  needs = {
    spec: preference.needs_reference(registry.get('preference', spec))
    for spec in SPECS
  }
  assert needs == {spec: 'simpo' not in spec for spec in SPECS}
  lengths = [
    name
    for name in registry.names('preference')
    if preference.takes_lengths(registry.get('preference', name))
  ]
  assert lengths == ['ipo', 'simpo']


@pytest.mark.parametrize(
  ('spec', 'says'),
  [
    ('dpo(beta=0.0)', 'beta=0.0.*must be in'),
    ('ipo(beta=-1.0)', 'beta=-1.0'),
    ('hinge(beta=0)', 'beta=0'),
    ('dpo(label_smoothing=0.5)', 'label_smoothing=0.5.*swap'),
    ('robust(label_smoothing=-0.1)', 'label_smoothing=-0.1'),
    ('simpo(gamma=-1.0)', 'gamma=-1.0'),
    ('dop', "Did you mean 'dpo'"),
    ('dpo(epsilon=0.1)', 'no option'),
  ],
)
def test_bad_options_are_refused_when_looked_up(spec, says):
  with pytest.raises(ValueError, match=says):
    registry.get('preference', spec)


@pytest.mark.parametrize(
  'spec', ['all(margin=-1)', 'all(cap=-1)', 'best_worst(margin=-0.1)']
)
def test_bad_selections_are_refused(spec):
  with pytest.raises(ValueError, match='must be 0 or more'):
    registry.get('pairs', spec)


# --- groups ---------------------------------------------------------------


def group(spec, logp, ref, length, rank, valid):
  fn = functools.partial(preference.of_group, registry.get('preference', spec))
  put = lambda x: None if x is None else jnp.asarray(x, jnp.float32)
  return fn(put(logp), put(ref), put(length), put(rank), np.array(valid, bool))


def test_pairs_are_of_members_with_unequal_ranks():
  got = preference.pairs(np.float32([2, 1, 2, 9]), np.array([1, 1, 1, 0], bool))
  want = np.zeros((4, 4), bool)
  want[0, 1] = want[2, 1] = True
  np.testing.assert_array_equal(got, want)


@functools.cache
def selection(spec, jit):
  fn = registry.get('pairs', spec)
  return jax.jit(fn) if jit else fn


def chosen(spec, rank, valid=None, jit=True):
  """The pairs (i, j) that a function of kind 'pairs' makes."""
  valid = np.ones(len(rank), bool) if valid is None else np.array(valid, bool)
  out = selection(spec, jit)(np.float32(rank), valid)
  return [tuple(x) for x in np.argwhere(np.asarray(out)).tolist()]


@JIT
def test_which_pairs_of_a_group(jit):
  run = functools.partial(chosen, jit=jit)
  rank = [2.0, 1.0, 1.0, 0.0]
  assert run('all', rank) == [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]
  assert run('all(margin=1.5)', rank) == [(0, 3)]
  assert run('all(margin=3)', rank) == []
  # Equal differences in the order of the members.
  assert run('all(cap=3)', rank) == [(0, 1), (0, 2), (0, 3)]
  assert run('all(cap=99)', rank) == run('all', rank)
  assert run('best_worst', rank) == [(0, 3)] == run('all(cap=1)', rank)
  assert run('best_worst(margin=2.1)', rank) == []
  assert run('best_worst', [1.0, 1.0]) == run('best_worst', [1.0]) == []
  # Members that are not valid never matter, whatever stands there.
  rank = [np.inf, 1.0, np.nan, 0.0]
  assert run('best_worst', rank, [0, 1, 0, 1]) == [(1, 3)]
  assert run('all(cap=2)', rank, [0, 0, 0, 1]) == []
  # A difference that is the margin but for rounding is large enough.
  assert run('all(margin=0.2)', np.float32([0.5, 0.3]) - 7) == [(0, 1)]


def test_pairs_do_not_depend_on_a_shift_of_the_ranks():
  """So that scores of a file and advantages of a step make the same pairs."""
  rng = np.random.default_rng(3)
  for _ in range(20):
    score = rng.integers(0, 8, 8) / 8  # its mean is exact
    centred = score - score.mean()
    for spec in ('all', 'all(margin=0.25, cap=4)', 'best_worst'):
      assert chosen(spec, score) == chosen(spec, centred)


@pytest.mark.parametrize('spec', SPECS)
def test_a_group_is_the_sum_of_its_pairs(spec):
  """And what stands in a member that is not valid never matters."""
  logp, ref = [-3.0, -5.0, -4.0, np.nan], [-4.0, -4.5, -2.0, np.nan]
  length, rank = [2, 5, 3, 0], [1.0, 0.0, 3.0, np.nan]
  valid = [1, 1, 1, 0]
  loss, metrics = group(spec, logp, ref, length, rank, valid)
  fn = registry.get('preference', spec)
  want = []
  for i, j in ((0, 1), (2, 0), (2, 1)):
    args = [np.float32([x]) for x in (logp[i], logp[j], ref[i], ref[j])]
    if preference.takes_lengths(fn):
      args += [np.float32([length[i]]), np.float32([length[j]])]
    want.append(float(fn(*args)[0]))
  np.testing.assert_allclose(loss.num, sum(want), rtol=1e-6)
  assert loss.den == 3
  assert all(r.den == 3 and np.isfinite(r.num) for r in metrics.values())

  def total(x):
    return group(spec, x, ref, length, rank, valid)[0].num

  grad = jax.grad(total)(np.float32(logp))
  assert np.isfinite(grad).all()
  assert grad[3] == 0


def test_metrics_are_those_of_trl():
  _, got = group(
    'dpo(beta=0.5)', [-3.0, -5.0], [-4.0, -5.5], [2, 9], [1, -1], [1, 1]
  )
  assert {k: float(r.num / r.den) for k, r in got.items()} == {
    'rewards/chosen': 0.5,
    'rewards/rejected': 0.25,
    'rewards/margins': 0.25,
    'rewards/accuracies': 1.0,
    'logps/chosen': -3.0,
    'logps/rejected': -5.0,
  }
  _, got = group(
    'simpo(beta=2.0)', [-3.0, -5.0], None, [2, 10], [1, -1], [1, 1]
  )
  assert float(got['rewards/chosen'].num) == -3.0
  assert float(got['rewards/rejected'].num) == -1.0
  assert float(got['rewards/accuracies'].num) == 0.0


def test_a_group_without_a_pair_has_no_gradient():
  for rank, valid in (([1, 1], [1, 1]), ([1, -1], [1, 0]), ([1, -1], [0, 0])):

    def total(x, rank=rank, valid=valid):
      return group('ipo', x, [-1.0, -2.0], [1, 1], rank, valid)[0].num

    value, grad = jax.value_and_grad(total)(np.float32([-3.0, -4.0]))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


def test_a_missing_reference_is_an_error():
  with pytest.raises(ValueError, match='compute logp_ref, or take simpo'):
    group('dpo', [-3.0, -5.0], None, [2, 9], [1, -1], [1, 1])


@jax.jit
def toy(start, gap):
  """Logits f32[P,K] of K candidates after DPO on their pairs by the gaps."""
  fn = registry.get('preference', 'dpo(beta=0.2)')
  ref, valid = jax.nn.log_softmax(start), jnp.ones(start.shape, bool)
  of_group = jax.vmap(functools.partial(preference.of_group, fn))

  def loss(logits):
    logp = jax.nn.log_softmax(logits)
    parts, _ = of_group(logp, ref, jnp.ones(start.shape), gap, valid)
    return parts.num.sum() / parts.den.sum()

  step = lambda x, _: (x - 20.0 * jax.grad(loss)(x), None)
  return jax.lax.scan(step, start, length=200)[0]


def greedy_accuracy_after(right, gap):
  """(before, after); at first each policy prefers its first candidate."""
  start = np.zeros(right.shape, np.float32)
  start[:, 0] = 0.5
  after = np.asarray(toy(start, np.float32(gap))).argmax(-1)[:, None]
  return right[:, 0].mean(), np.take_along_axis(right, after, 1).mean()


def test_confidence_teaches_what_it_goes_with_and_nothing_else():
  """Where the sure answers are wrong, the same code unlearns the right ones."""
  rng = np.random.default_rng(0)
  right = rng.permuted(np.tile([1.0, 0.0, 0.0, 0.0], (40, 1)), axis=1)
  noise = 0.3 * rng.random(right.shape)
  before, after = greedy_accuracy_after(right, 0.5 + 0.4 * right - noise)
  assert (before, after) == (right[:, 0].mean(), 1.0)
  flipped = greedy_accuracy_after(right, 0.5 - 0.4 * right + noise)
  assert flipped == (before, 0.0)
  # Without a correlation the sure answers win, whatever they are.
  lucky = (right.argmax(-1) == noise.argmax(-1)).mean()
  assert greedy_accuracy_after(right, noise) == (before, lucky)
