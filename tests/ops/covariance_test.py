"""Clip-Cov and KL-Cov: chosen tokens, losses, splits into micro-batches."""

import functools

import jax
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import covariance, ratio, surrogate

SPECS = ['clip_cov(0.2, 0.2, ratio=0.1, cov_low=0.1)', 'kl_cov(ratio=0.1)']
# The worked example: A and p of four tokens, and their covariances.
ADV = np.float32([[1, 1, -1, -1]])
LOGP = np.log(np.float32([[0.9, 0.1, 0.5, 0.05]]))
COV = [[1.418846, -0.778379, -0.831059, 1.471526]]
FULL = np.ones((1, 4), bool)


@functools.cache
def build(spec):
  return jax.jit(registry.get('surrogate', spec))


@functools.cache
def picker(spec):
  return jax.jit(surrogate.choose(registry.get('surrogate', spec)))


@functools.cache
def slope(spec):
  fn = registry.get('surrogate', spec)
  return jax.jit(jax.grad(lambda x, *rest: fn(x, *rest)[0].sum()))


def batch(seed=0, shape=(6, 50)):
  rng = np.random.default_rng(seed)
  old = -rng.exponential(size=shape)
  logp = old + 0.3 * rng.normal(size=shape)
  adv = rng.normal(size=shape)
  mask = rng.random(shape) < 0.7
  return *map(np.float32, (logp, old, adv)), mask


def test_covariance_of_the_worked_example():
  got = covariance.covariance(LOGP, ADV, FULL)
  np.testing.assert_allclose(got, COV, rtol=1e-5)


def test_the_choice_of_the_worked_example():
  """Candidates 0 and 3 between 1 and 5; the largest is token 3."""
  pick = lambda spec: np.asarray(picker(spec)(LOGP, LOGP, ADV, FULL))[0]
  both = [True, False, False, True]
  np.testing.assert_array_equal(pick('clip_cov(ratio=0.5)'), both)
  assert pick('clip_cov').sum() == 1  # max(1, int(2e-4 * 4))
  assert pick('clip_cov')[[1, 2]].sum() == 0
  np.testing.assert_array_equal(
    pick('clip_cov(cov_low=1.45)'), [False, False, False, True]
  )
  assert not pick('clip_cov(cov_low=2)').any()
  np.testing.assert_array_equal(pick('kl_cov'), [False, False, False, True])
  np.testing.assert_array_equal(pick('kl_cov(ratio=0.5)'), both)
  assert pick('kl_cov(ratio=1)').all()


@pytest.mark.parametrize('ratio_', [2e-4, 0.01, 0.3, 1 / 3, 1])
@pytest.mark.parametrize('name', ['clip_cov', 'kl_cov'])
def test_the_number_chosen_is_exact(name, ratio_):
  logp, old, adv, mask = batch(1, (8, 625))
  mask[:] = True
  spec = f'{name}(ratio={ratio_!r})'
  if name == 'clip_cov':
    spec = spec[:-1] + ', low=9, high=9, cov_low=-1e9, cov_high=1e9)'
  for tokens in (5000, 4999, 100, 3, 0):
    mask.flat[tokens:] = False
    chosen = np.asarray(picker(spec)(logp, old, adv, mask))
    want = min(tokens, max(1, int(ratio_ * tokens)))
    assert chosen.sum() == want, tokens
    assert not chosen[~mask].any()


def test_clip_cov_never_takes_more_than_there_are_nor_what_is_clipped():
  logp, old, adv, mask = batch(2)
  spec = 'clip_cov(0.2, 0.2, ratio=1, cov_low=0.2, cov_high=2)'
  got = np.asarray(picker(spec)(logp, old, adv, mask))
  a, x = adv - adv[mask].mean(), logp - logp[mask].mean()
  rho = np.exp(logp - old)
  cut = ((adv > 0) & (rho > 1.2)) | ((adv < 0) & (rho < 0.8))
  between = (a * x > 0.2) & (a * x < 2)
  np.testing.assert_array_equal(got, mask & between & ~cut)
  assert (mask & between & cut).any()


def test_kl_cov_takes_the_largest():
  logp, old, adv, mask = batch(3)
  got = np.asarray(picker('kl_cov(ratio=0.1)')(logp, old, adv, mask))
  cov = (adv - adv[mask].mean()) * (logp - logp[mask].mean())
  cov = np.where(mask, cov, -np.inf)
  count = int(0.1 * mask.sum())
  assert got.sum() == count
  assert cov[got].min() > np.sort(cov.ravel())[-count - 1]


def test_the_random_subset_is_even_over_candidates_and_changes_with_the_seed():
  _, old, adv, mask = batch(4, (40, 50))
  mask[:] = True
  bounds = 'cov_low=-1e9, cov_high=1e9'
  spec = f'clip_cov(9, 9, 0.25, {bounds})'
  chosen = np.asarray(picker(spec)(old, old, adv, mask))
  other = np.asarray(picker(spec[:-1] + ', seed=1)')(old, old, adv, mask))
  assert chosen.sum() == other.sum() == 500
  # 125 expected in common, and 12.5 in a row, with deviations of 8.7 and 3.
  assert 80 < (chosen & other).sum() < 170
  assert chosen.sum(1).max() < 30
  assert chosen.sum(0).max() < 25


@pytest.mark.parametrize('spec', SPECS)
def test_padding_changes_no_choice(spec):
  args = batch(5)
  want = np.asarray(picker(spec)(*args))
  wide = [np.pad(x, ((0, 3), (0, 17))) for x in args]
  got = np.asarray(picker(spec)(*wide))
  np.testing.assert_array_equal(got[:6, :50], want)
  assert got.sum() == want.sum()


@pytest.mark.parametrize('spec', SPECS)
def test_cutting_the_batch_changes_neither_the_loss_nor_its_gradient(spec):
  """With the whole batch's choice; without it, each part has its own choice."""
  args = batch(6)
  chosen = picker(spec)(*args)
  loss, metrics = build(spec)(*args)
  parts = [[x[i : i + 2] for x in (*args, chosen)] for i in (0, 2, 4)]
  of_parts = [build(spec)(*p) for p in parts]
  same = functools.partial(np.testing.assert_allclose, rtol=2e-6)
  same(np.concatenate([p[0] for p in of_parts]), loss)
  total = sum(float(p[0].sum()) for p in of_parts)
  np.testing.assert_allclose(total, float(loss.sum()), rtol=1e-5)
  of_rows = np.concatenate([slope(spec)(*p) for p in parts])
  same(of_rows, slope(spec)(*args))
  for name, m in metrics.items():
    num = sum(float(p[1][name].num) for p in of_parts)
    np.testing.assert_allclose(num, float(m.num), rtol=1e-5)
  alone = np.concatenate([build(spec)(*p[:4])[0] for p in parts])
  assert np.abs(alone - np.asarray(loss)).max() > 0.01


def test_clip_cov_is_clip_with_the_chosen_loss_at_zero():
  args = batch(7)
  chosen = np.asarray(picker(SPECS[0])(*args))
  loss, metrics = build(SPECS[0])(*args)
  plain, before = build('clip(0.2, 0.2)')(*args)
  np.testing.assert_array_equal(loss, np.where(chosen, 0, plain))
  grad = slope(SPECS[0])(*args)
  want = np.where(chosen, 0, slope('clip(0.2, 0.2)')(*args))
  np.testing.assert_array_equal(grad, want)
  more = float(metrics['clip_ratio'].num - before['clip_ratio'].num)
  assert more == chosen.sum() > 0


def test_the_default_clip_of_clip_cov_is_zero_to_two():
  logp = np.log(np.float32([[0.01, 1.9, 3, 3]]))
  adv = np.float32([[-1, 1, 1, -1]])
  loss, _ = build('clip_cov')(logp, 0 * logp, adv, FULL, ~FULL)
  np.testing.assert_allclose(loss, [[0.01, -1.9, -2, 3]], rtol=1e-6)


def test_kl_cov_adds_the_distance_where_chosen_and_never_clips():
  rho = np.float32([[0.5, 4, 4, 0.5]])
  adv = np.float32([[1, 1, -1, -1]])
  chosen = np.array([[True, False, True, False]])
  args = (np.log(rho) - 3, np.full_like(rho, -3), adv, FULL, chosen)
  for coef in (1, 0.1):
    spec = f'kl_cov(coef={coef})'
    loss, metrics = build(spec)(*args)
    log = np.where(chosen, coef * np.abs(np.log(rho)), 0)
    np.testing.assert_allclose(loss, -adv * rho + log, rtol=1e-6)
    sign = np.where(chosen, coef * np.sign(np.log(rho)), 0)
    np.testing.assert_allclose(slope(spec)(*args), -adv * rho + sign, rtol=1e-6)
    assert ratio.divide(metrics['clip_ratio']) == 0


@pytest.mark.parametrize('chosen', [False, True])
def test_on_policy_kl_cov_is_plain_policy_gradient(chosen):
  logp, _, adv, mask = batch(8)
  all_or_none = np.full(mask.shape, chosen)
  grad = slope('kl_cov')(logp, logp, adv, mask, all_or_none)
  np.testing.assert_array_equal(grad, np.where(mask, -adv, 0))


@pytest.mark.parametrize('spec', SPECS)
@pytest.mark.parametrize('garbage', [np.nan, np.inf, -np.inf])
def test_masked_positions_leak_nothing(spec, garbage):
  *args, mask = batch(9)
  mask[2] = False
  dirty = [np.where(mask, x, np.float32(garbage)) for x in args]
  for fn in (build(spec), picker(spec), slope(spec)):
    a, b = fn(*args, mask), fn(*dirty, mask)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
      np.testing.assert_array_equal(x, y)
  # A masked token in a given choice is ignored.
  everywhere = np.ones_like(mask)
  loss, metrics = build(spec)(*dirty, mask, everywhere)
  np.testing.assert_array_equal(loss[~mask], 0)
  assert float(metrics['clip_ratio'].num) <= mask.sum()
  assert np.isfinite(slope(spec)(*dirty, mask, everywhere)).all()


@pytest.mark.parametrize('spec', SPECS)
def test_the_choice_and_the_old_policy_are_constants(spec):
  fn = registry.get('surrogate', spec)
  logp, old, adv, mask = batch(10)
  wild = old + np.float32([[30.0], [-30], [0], [0], [0], [0]])
  loss, grad = (
    build(spec)(wild, old, adv, mask)[0],
    slope(spec)(wild, old, adv, mask),
  )
  assert np.isfinite(loss).all()
  np.testing.assert_array_equal(grad[:2], 0)
  by_old = jax.grad(lambda x: fn(logp, x, adv, mask)[0].sum())(old)
  np.testing.assert_array_equal(by_old, 0)


def test_choose_binds_what_the_surrogate_was_bound_to():
  for spec in ('reinforce', 'clip(0.2)', 'gspo', 'cispo'):
    assert surrogate.choose(registry.get('surrogate', spec)) is None
  fn = registry.get('surrogate', 'kl_cov(ratio=0.5, coef=3)')
  outer = functools.partial(functools.partial(fn), ratio=1.0)
  assert surrogate.choose(fn)(LOGP, LOGP, ADV, FULL).sum() == 2
  assert surrogate.choose(outer)(LOGP, LOGP, ADV, FULL).sum() == 4
  # Options that the surrogate and its choice share are passed on.
  fn = registry.get('surrogate', 'clip_cov(0.1, 0.3, 0.5, 0.2, 4, 7)')
  assert surrogate.choose(fn).keywords == {
    'low': 0.1,
    'high': 0.3,
    'ratio': 0.5,
    'cov_low': 0.2,
    'cov_high': 4,
    'seed': 7,
  }


@pytest.mark.parametrize(
  'spec',
  [
    'clip_cov(-0.1)',
    'clip_cov(ratio=2)',
    'kl_cov(0)',
    'clip_cov(cov_low=5)',
    'kl_cov(coef=-1)',
  ],
)
def test_bad_options_are_refused(spec):
  with pytest.raises(ValueError, match=r'must be|in \(0, 1\]'):
    registry.get('surrogate', spec)
