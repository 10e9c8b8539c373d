"""Statistics from a Gram matrix equal those of the vectors themselves."""

import numpy as np
import pytest

from rlvr_jax.ops import signal as signal_ops
from rlvr_jax.signal_map import lines, measure

X, N, K, M, GROUP = 7, 32, 2, 40, 4
KEYS = ('total', 'within', 'second', 'noise_scale', 'omega', 'root', 'snr1')


def made(seed=0, shift=1.0, x=X):
  """Vectors [x,N,K,M] with a mean that problems partly share; partitions."""
  rng = np.random.default_rng(seed)
  vectors = rng.normal(size=(x, N, K, M)) + shift * rng.normal(size=M)
  partitions = []
  for _ in range(3):
    index = np.stack(
      [
        np.stack([h * N // 2 + rng.permutation(N // 2) for h in range(2)])
        for _ in range(x)
      ]
    ).reshape(x, 2, -1, GROUP)
    partitions.append((index, rng.normal(size=(*index.shape, K)) + 0.5))
  right = rng.random((x, N)) < 0.4
  return vectors, partitions, right


def gram_of(vectors):
  flat = vectors.reshape(-1, vectors.shape[-1])
  return flat @ flat.T, np.arange(len(flat)).reshape(vectors.shape[:-1])


def of_vectors(vectors, partitions):
  """Group gradients [3,X,2,m,M], by their definition."""
  return np.stack(
    [
      np.stack(
        [
          np.einsum('hmgk,hmgkv->hmv', a, v[i]) / GROUP
          for v, i, a in zip(vectors, index, adv, strict=True)
        ]
      )
      for index, adv in partitions
    ]
  )


def summary(vectors, partitions, right, rollouts=64, keep=None):
  gram, ids = gram_of(vectors)
  estimate = measure.of_groups(gram, ids, partitions, 5.0)
  ref = measure.reference(ids, right, len(gram))
  products = measure.products(gram, estimate, ref, own_tasks=True)
  return measure.summary(estimate, products, rollouts, keep)


def test_squared_norms_and_ratios_of_them():
  vectors, partitions, right = made()
  g = of_vectors(vectors, partitions)
  means = g.mean((0, 2, 3))  # of problems
  out = summary(vectors, partitions, right)
  total = signal_ops.pair_mean(means)
  second = (g**2).sum(-1).mean()
  within = np.mean(
    [signal_ops.pair_mean(g[p, x, h]) for p in range(3) for x in range(X)
     for h in range(2)]
  )  # fmt: skip
  np.testing.assert_allclose(out['total'], total)
  np.testing.assert_allclose(out['second'], second)
  np.testing.assert_allclose(out['within'], within)
  np.testing.assert_allclose(out['omega'], total / within)
  np.testing.assert_allclose(out['snr1'], within / (second - within))
  np.testing.assert_allclose(
    out['noise_scale'], signal_ops.noise_scale(total, second, GROUP)
  )
  # The closed form of the same number, from SNR of one problem and omega.
  np.testing.assert_allclose(
    out['noise_scale'],
    signal_ops.batch_scale(out['snr1'], out['omega'], GROUP),
  )


def test_the_direction():
  vectors, partitions, right = made()
  score = vectors.sum(2)
  halves = [slice(0, N // 2), slice(N // 2, N)]
  grad = np.stack(
    [
      np.stack(
        [
          # (r_i - mean of the others) s_i = n/(n-1) (r_i - mean) s_i
          ((r[h] - r[h].mean()) @ s[h]) / (N // 2 - 1)
          for r, s in zip(right.astype(float), score, strict=True)
        ]
      )
      for h in halves
    ]
  )
  g = of_vectors(vectors, partitions).mean(0)
  mine, theirs = g.mean((1, 2)), grad.mean(0)
  dot = signal_ops.pair_mean(theirs, mine)
  ref, total = signal_ops.pair_mean(theirs), signal_ops.pair_mean(mine)
  out = summary(vectors, partitions, right)
  np.testing.assert_allclose(
    out['root'],
    signal_ops.root(dot, ref, total, out['second'], GROUP, 64),
  )
  by_half = g.mean(2)
  same = (
    np.einsum('xv,xv->', grad[0], by_half[:, 1])
    + np.einsum('xv,xv->', grad[1], by_half[:, 0])
  ) / (2 * X)
  own = np.einsum('xv,xv->', *grad) / X
  expected = same / np.sqrt(own * out['within']) if own > 0 else np.nan
  np.testing.assert_allclose(out['cos_within'], expected)


def test_errors_are_those_of_leaving_out_one_problem():
  vectors, partitions, right = made(shift=2.0)
  whole = summary(vectors, partitions, right)
  logs = []
  for x in range(X):
    keep = np.arange(X) != x
    part = summary(vectors, partitions, right, keep=keep)
    alone = summary(
      vectors[keep], [(i[keep], a[keep]) for i, a in partitions], right[keep]
    )
    for key in KEYS:
      np.testing.assert_allclose(part[key], alone[key], rtol=1e-9)
    logs.append(part['log_noise_scale'])
  logs = np.array(logs)
  se = np.sqrt((X - 1) / X * ((logs - logs.mean()) ** 2).sum())
  np.testing.assert_allclose(whole['log_noise_scale_se'], se)


def test_repeated_rows_share_a_vector():
  vectors, partitions, right = made()
  gram, ids = gram_of(vectors)
  copies = gram[np.ix_([0, 0, 1], [0, 0, 1])]
  np.testing.assert_array_equal(copies[0], copies[1])
  same = vectors.copy()
  same[:, 1] = same[:, 0]  # rollouts 0 and 1 of each problem are equal
  out = summary(same, partitions, right)
  gram, ids = gram_of(same)
  ids = ids.copy()
  ids[:, 1] = ids[:, 0]
  estimate = measure.of_groups(gram, ids, partitions, 5.0)
  ref = measure.reference(ids, right, len(gram))
  shared = measure.summary(
    estimate, measure.products(gram, estimate, ref, True), 64, None
  )
  for key in KEYS:
    np.testing.assert_allclose(shared[key], out[key], rtol=1e-9)


def test_halves_and_problems_have_no_order():
  vectors, partitions, right = made()
  out = summary(vectors, partitions, right)
  order = np.random.default_rng(1).permutation(X)
  moved = summary(
    vectors[order], [(i[order], a[order]) for i, a in partitions], right[order]
  )
  swap = np.r_[N // 2 : N, 0 : N // 2]
  back = np.argsort(swap)
  swapped = summary(
    vectors[:, swap],
    [(back[i][:, ::-1], a[:, ::-1]) for i, a in partitions],
    right[:, swap],
  )
  for key in (*KEYS, 'cos_within', 'log_noise_scale_se'):
    np.testing.assert_allclose(moved[key], out[key], rtol=1e-9)
    np.testing.assert_allclose(swapped[key], out[key], rtol=1e-9)


@pytest.mark.parametrize('scale', [0.0, 7.0, -1.0])
def test_a_factor_on_all_advantages(scale):
  vectors, partitions, right = made(shift=2.0)
  out = summary(vectors, partitions, right)
  scaled = summary(vectors, [(i, scale * a) for i, a in partitions], right)
  if not scale:
    assert scaled['second'] == 0
    assert scaled['noise_scale'] == np.inf
    assert scaled['root'] == 0
    assert np.isnan(scaled['cos'])
    return
  np.testing.assert_allclose(scaled['noise_scale'], out['noise_scale'])
  np.testing.assert_allclose(scaled['root'], np.sign(scale) * out['root'])


def test_other_problems_than_the_references():
  vectors, _partitions, right = made(shift=2.0)
  others, their_partitions, _ = made(seed=5, shift=2.0, x=4)
  both = np.concatenate([vectors, others])
  gram, ids = gram_of(both)
  estimate = measure.of_groups(gram, ids[X:], their_partitions, 5.0)
  ref = measure.reference(ids[:X], right, len(gram))
  products = measure.products(gram, estimate, ref, own_tasks=False)
  out = measure.summary(estimate, products, 64, None)
  means = of_vectors(others, their_partitions).mean((0, 2, 3))
  np.testing.assert_allclose(out['total'], signal_ops.pair_mean(means))
  grads = np.einsum('xr,rv->xv', ref.mean(0), both.reshape(-1, M))
  dot = grads.mean(0) @ means.mean(0)  # all pairs: no problem is in both
  norm = signal_ops.pair_mean(grads)
  np.testing.assert_allclose(
    out['root'],
    signal_ops.root(dot, norm, out['total'], out['second'], GROUP, 64),
  )
  assert np.isnan(out['cos_within'])


def test_imitation_is_a_row_of_each_problem():
  vectors, _, _ = made(shift=2.0)
  gram, ids = gram_of(vectors)
  estimate = measure.of_rows(gram, ids[:, 0], 9.0)
  rows = vectors[:, 0].sum(1)
  ref = measure.reference(ids, np.ones((X, N), bool), len(gram))
  out = measure.summary(
    estimate, measure.products(gram, estimate, ref, False), 64, None
  )
  np.testing.assert_allclose(out['total'], signal_ops.pair_mean(rows))
  np.testing.assert_allclose(out['second'], signal_ops.second(rows))
  assert np.isnan(out['omega'])
  assert np.isnan(out['snr1'])
  assert np.isfinite(out['noise_scale'])


def test_two_problems_have_no_errors_and_one_has_no_signal():
  vectors, partitions, right = made()
  two = summary(vectors, partitions, right, keep=np.arange(X) < 2)
  assert np.isnan(two['log_noise_scale_se'])
  one = summary(vectors, partitions, right, keep=np.arange(X) < 1)
  assert np.isnan(one['total'])
  assert np.isnan(one['root'])


def test_agreement_leaves_out_refused_rows():
  value = np.array([[1.0, 0, 0, 9], [0, 1, 1, 0]])
  right = np.array([[True, False, False, True], [False, True, True, False]])
  valid = np.array([[True, True, True, False], [True, True, True, True]])
  assert lines._agreement(value, right, valid) == pytest.approx(1)
  value[0, 3] = 0  # what a refused row holds
  assert lines._agreement(value, right, valid) == pytest.approx(1)
  assert lines._agreement(value, right, np.ones_like(valid)) < 1
  assert np.isnan(lines._agreement(value, right, np.zeros_like(valid)))
  equal = np.full((1, 7), 0.1)
  mixed = np.arange(7)[None] < 3
  assert np.isnan(lines._agreement(equal, mixed, np.ones_like(mixed)))
