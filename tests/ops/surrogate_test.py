"""Surrogates: known answers, clip gradients, masks, the ratio clamp."""

import functools

import jax
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import masked, ratio

JIT = pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])
SPECS = [
  'reinforce',
  'clip',
  'clip(0.2, 0.28)',
  'dual_clip',
  'gspo(0.2, 0.2)',
  'cispo',
]


@functools.cache
def build(spec, jit):
  """(loss, metrics) and d sum(loss) / d logp, compiled once per shape."""
  fn = registry.get('surrogate', spec)

  def both(logp, old, adv, mask):
    (_, aux), grad = jax.value_and_grad(
      lambda x: (lambda r: (r[0].sum(), r))(fn(x, old, adv, mask)),
      has_aux=True,
    )(logp)
    return *aux, grad

  return jax.jit(both) if jit else both


def run(spec, jit, logp, old, adv, mask=None):
  logp, old, adv = (np.atleast_2d(np.float32(x)) for x in (logp, old, adv))
  rows, width = logp.shape
  mask = np.ones(logp.shape, bool) if mask is None else np.atleast_2d(mask)
  # Masked padding to one shape: every test shares the compiled function.
  pad = lambda x: np.pad(x, ((0, 7 - rows), (0, 12 - width)))
  out = build(spec, jit)(pad(logp), pad(old), pad(adv), pad(mask))
  loss, metrics, grad = jax.device_get(out)
  return loss[:rows, :width], metrics, grad[:rows, :width]


def reference(spec, rho, adv):
  """The textbook formulas, in float64."""
  name, _, args = spec.partition('(')
  high = 0.28 if args else 0.2
  loss = np.maximum(-adv * rho, -adv * np.clip(rho, 0.8, 1 + high))
  if name == 'dual_clip':
    loss = np.where(adv < 0, np.minimum(loss, -3 * adv), loss)
  return loss


@JIT
@pytest.mark.parametrize(
  ('spec', 'adv', 'want'),
  [
    ('clip', 1, [-0.5, -1.2, -1.2, -1.2]),
    ('clip(low=0.2, high=0.28)', 1, [-0.5, -1.25, -1.28, -1.28]),
    ('clip', -1, [0.8, 1.25, 1.5, 4]),
    ('dual_clip', -1, [0.8, 1.25, 1.5, 3]),
    ('dual_clip', 1, [-0.5, -1.2, -1.2, -1.2]),
    ('dual_clip(c=1.3)', -1, [0.8, 1.25, 1.3, 1.3]),
  ],
)
def test_known_losses(jit, spec, adv, want):
  rho = np.array([0.5, 1.25, 1.5, 4])
  loss, _, _ = run(spec, jit, np.log(rho) - 5, np.full(4, -5), np.full(4, adv))
  np.testing.assert_allclose(loss[0], want, rtol=1e-6)


@JIT
def test_reinforce_logit_gradient(jit):
  """pi = (.7, .2, .1), y = 0, A = 1: loss gradient -(onehot - pi)."""
  logits = np.log(np.float32([0.7, 0.2, 0.1]))
  logp, vjp = jax.vjp(lambda z: jax.nn.log_softmax(z)[:1], logits)
  _, _, grad = run('reinforce', jit, logp, logp, [1])
  np.testing.assert_allclose(vjp(grad[0])[0], [-0.3, 0.2, 0.1], atol=1e-6)


@JIT
@pytest.mark.parametrize('spec', ['clip', 'clip(0.2, 0.28)', 'dual_clip'])
def test_gradients_match_finite_differences(jit, spec):
  """Every sign of A on both sides of every kink."""
  rho, adv = np.meshgrid(
    [0.05, 0.5, 0.79, 0.81, 1, 1.19, 1.21, 1.27, 1.29, 2.9, 3.1, 50],
    [-2, -1, -0.1, 0, 0.1, 1, 2],
  )
  log_rho = np.log(rho)
  loss, metrics, grad = run(spec, jit, log_rho - 3, np.full(rho.shape, -3), adv)
  np.testing.assert_allclose(loss, reference(spec, rho, adv), rtol=2e-6)
  up = reference(spec, np.exp(log_rho + 1e-6), adv)
  down = reference(spec, np.exp(log_rho - 1e-6), adv)
  slope = (up - down) / 2e-6
  np.testing.assert_allclose(grad, slope, rtol=1e-5, atol=1e-7)
  cut = (slope == 0) & (adv != 0)
  np.testing.assert_array_equal(grad[cut], 0)
  np.testing.assert_allclose(
    ratio.divide(metrics['clip_ratio']), cut.mean(), rtol=1e-6
  )
  np.testing.assert_allclose(
    ratio.divide(metrics['ratio']), rho.mean(), rtol=1e-5
  )


@JIT
def test_gspo_has_one_ratio_per_row(jit):
  """Token ratios 1.5, .8 and 1: their geometric mean, clipped as a whole."""
  old = np.full((2, 3), -2.0)
  logp = old + np.log([[1.5, 0.8, 1], [0.5, 1, 1]])
  adv = np.array([[1.0, 1, 1], [-2, -2, -2]])
  s = np.exp((logp - old).mean(1))
  np.testing.assert_allclose(s[0], 1.062659, rtol=1e-6)
  loss, metrics, grad = run('gspo(0.3, 0.3)', jit, logp, old, adv)
  want = np.repeat((-adv[:, 0] * s)[:, None], 3, axis=1)
  np.testing.assert_allclose(loss, want, rtol=1e-6)
  np.testing.assert_allclose(grad, want, rtol=1e-6)  # s grad log pi
  assert ratio.divide(metrics['clip_ratio']) == 0
  loss, metrics, grad = run('gspo', jit, logp, old, adv)
  np.testing.assert_allclose(loss[0], -1.0004, rtol=1e-6)
  np.testing.assert_allclose(loss[1], 2 * (1 - 3e-4), rtol=1e-6)
  np.testing.assert_array_equal(grad, 0)
  assert ratio.divide(metrics['clip_ratio']) == 1


@JIT
def test_gspo_leaves_masked_tokens_out_of_the_mean(jit):
  logp, old = np.log([[1.5, 9, 0.8]]), np.zeros((1, 3))
  mask = np.array([[True, False, True]])
  loss, _, _ = run('gspo(1, 1)', jit, logp, old, -np.ones((1, 3)), mask)
  want = np.sqrt(1.5 * 0.8)
  np.testing.assert_allclose(loss[0], [want, 0, want], rtol=1e-6)


@JIT
@pytest.mark.parametrize(
  ('spec', 'at_half', 'at_six'),
  [('cispo(0.2, 0.2)', 0.8, 1.2), ('cispo', 0.5, 5), ('cispo(high=9)', 0.5, 6)],
)
def test_cispo_clips_the_weight_and_keeps_the_gradient(
  jit, spec, at_half, at_six
):
  rho, adv = np.array([0.5, 6, 0.5, 6]), np.array([1, 1, -2, -2])
  logp = np.log(rho) - 3
  loss, metrics, grad = run(spec, jit, logp, np.full(4, -3), adv)
  weight = np.array([at_half, at_six] * 2)
  np.testing.assert_allclose(grad[0], -weight * adv, rtol=1e-6)
  np.testing.assert_allclose(loss[0], -weight * adv * logp, rtol=1e-6)
  np.testing.assert_allclose(
    ratio.divide(metrics['clip_ratio']), np.mean(weight != rho)
  )


def test_zero_gradient_exactly_where_the_clip_binds():
  """Signs written out, since an inverted clip passes many softer tests."""
  table = [  # rho, A, clip gradient, dual_clip gradient
    (1.5, 1, 0, 0),
    (0.5, 1, -0.5, -0.5),
    (0.5, -1, 0, 0),
    (1.5, -1, 1.5, 1.5),
    (4, -1, 4, 0),
    (4, 1, 0, 0),
  ]
  rho, adv, clip, dual = np.array(table).T
  zero = np.zeros(len(table))
  np.testing.assert_allclose(
    run('clip', True, np.log(rho), zero, adv)[2][0], clip, rtol=1e-6
  )
  np.testing.assert_allclose(
    run('dual_clip', True, np.log(rho), zero, adv)[2][0], dual, rtol=1e-6
  )


@JIT
def test_on_policy_all_have_the_same_gradient(jit):
  rng = np.random.default_rng(0)
  logp, adv = -rng.exponential(size=(3, 5)), rng.normal(size=(3, 5))
  for spec in SPECS:
    _, metrics, grad = run(spec, jit, logp, logp, adv)
    np.testing.assert_allclose(grad, -adv, rtol=1e-6)
    assert ratio.divide(metrics['clip_ratio']) == 0
    assert ratio.divide(metrics['ratio']) == 1


@JIT
@pytest.mark.parametrize('spec', SPECS)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf])
def test_masked_positions_leak_nothing(jit, spec, garbage):
  rng = np.random.default_rng(1)
  logp, old = -rng.exponential(size=(2, 3, 5))
  adv = rng.normal(size=(3, 5))
  mask = rng.random((3, 5)) < 0.5
  mask[1] = False
  clean = run(spec, jit, logp, old, adv, mask)
  dirty = (np.where(mask, x, garbage) for x in (logp, old, adv))
  got = run(spec, jit, *dirty, mask)
  for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(got), strict=True):
    np.testing.assert_array_equal(a, b)
  for x in (got[0], got[2]):
    np.testing.assert_array_equal(x[~mask], 0)


@JIT
@pytest.mark.parametrize('spec', SPECS)
def test_an_empty_mask_gives_zeros(jit, spec):
  nan = np.full((2, 3), np.nan)
  loss, metrics, grad = run(spec, jit, nan, nan, nan, np.zeros((2, 3), bool))
  np.testing.assert_array_equal(loss, 0)
  np.testing.assert_array_equal(grad, 0)
  for m in metrics.values():
    assert (m.num, m.den, ratio.divide(m)) == (0, 0, 0)


@JIT
@pytest.mark.parametrize('spec', ['clip', 'dual_clip'])
def test_extreme_log_ratios_stay_finite_and_have_no_gradient(jit, spec):
  gap = np.array([25, 200, -25, -200, np.inf, -np.inf])
  far = masked.MAX_LOG_RATIO * np.sign(gap)
  for sign in (1, -1):
    adv = np.full(6, sign)
    loss, _, grad = run(spec, jit, gap, np.zeros(6), adv)
    np.testing.assert_allclose(
      loss[0], reference(spec, np.exp(far), adv), rtol=1e-5
    )
    np.testing.assert_array_equal(grad, 0)


def test_just_inside_the_clamp_the_gradient_is_the_loss():
  loss, _, grad = run('clip', True, [19.5], [0], [-1])
  np.testing.assert_allclose(loss, np.exp([[19.5]]), rtol=1e-5)
  np.testing.assert_allclose(grad, loss, rtol=1e-6)


@pytest.mark.parametrize('spec', SPECS)
def test_the_old_policy_is_a_constant(spec):
  fn = registry.get('surrogate', spec)
  x = np.full((1, 3), -1, np.float32)
  adv, mask = np.ones((1, 3), np.float32), np.ones((1, 3), bool)
  grad = jax.grad(lambda old: fn(x, old, adv, mask)[0].sum())(x - 0.1)
  np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize('spec', SPECS)
def test_metrics_carry_no_gradient(spec):
  fn = registry.get('surrogate', spec)
  x = np.full((1, 3), -1, np.float32)
  mask = np.ones((1, 3), bool)

  def total(logp):
    metrics = fn(logp, x, x, mask)[1]
    return sum(m.num for m in metrics.values())

  np.testing.assert_array_equal(jax.grad(total)(x), 0)


@pytest.mark.parametrize(
  'spec', ['clip(-0.1)', 'clip(high=-1)', 'dual_clip(c=1)', 'dual_clip(low=-1)']
)
def test_bad_options_are_refused(spec):
  x = np.zeros((1, 1), np.float32)
  with pytest.raises(ValueError, match='must be'):
    registry.get('surrogate', spec)(x, x, x, x == 0)
