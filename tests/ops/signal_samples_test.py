"""Estimates from sampled gradients: unbiased over every possible sample."""

import itertools

import numpy as np
import pytest

from rlvr_jax.ops import signal

PI = np.array([0.35, 0.4, 0.25])
SCORES = (np.eye(3) - PI) @ np.array([[2.0, 0.5], [-1.0, 0.3], [0.4, -1.2]])
RIGHT = np.array([True, False, False])


def samples(n):
  """All draws [3^n, n] of n answers and their probabilities."""
  draws = np.array(list(itertools.product(range(3), repeat=n)))
  return draws, np.prod(PI[draws], axis=1)


# --- facts ----------------------------------------------------------------


def test_facts_are_unbiased_over_all_samples_of_a_policy():
  """Given any number of right ones; two right answers and one wrong."""
  right = np.array([True, True, False])
  mean = lambda x, of: PI[of] @ x[of] / PI[of].sum()
  delta = mean(SCORES, right) - mean(SCORES, ~right)
  squares = np.square(SCORES).sum(-1)
  want = [delta @ delta, mean(squares, right), mean(squares, ~right)]
  draws, chance = samples(5)
  for count in (2, 3):
    chosen = right[draws].sum(-1) == count
    got = [
      signal.facts(SCORES[d] @ SCORES[d].T, right[d]) for d in draws[chosen]
    ]
    weight = chance[chosen] / chance[chosen].sum()
    np.testing.assert_allclose(weight @ np.array(got)[:, 1:], want, rtol=1e-12)
    assert {f.p for f in got} == {count / 5}


def test_an_unbiased_square_can_be_negative():
  gram = np.outer([1, -1, 0, 0], [1, -1, 0, 0])
  assert signal.facts(gram, [True, True, False, False]).d2 == -1


def test_facts_are_nan_with_fewer_than_two_of_a_kind():
  gram = np.diag([1.0, 2, 3, 4])
  got = signal.facts(gram, [True, False, False, False])
  np.testing.assert_array_equal(got, [0.25, np.nan, np.nan, 3])
  got = signal.facts(gram, [True] * 4)
  np.testing.assert_array_equal(got, [1, np.nan, 2.5, np.nan])
  got = signal.facts(gram, [True, True, False, False])
  np.testing.assert_array_equal(got, [0.5, 0, 1.5, 3.5])
  assert np.isnan(signal.facts(np.zeros((0, 0)), [])).all()
  with pytest.raises(ValueError, match=r'shape \(4, 4\) for 3'):
    signal.facts(gram, [True] * 3)


# --- means of pairs -------------------------------------------------------


def test_pair_means_are_unbiased_where_squares_of_means_are_not():
  draws, chance = samples(3)
  other = np.array([[1.0, 0], [0, 2], [1, 1]])
  squared = np.square(PI @ (SCORES + 1)).sum()
  got = [signal.pair_mean(SCORES[d] + 1) for d in draws]
  np.testing.assert_allclose(chance @ got, squared, rtol=1e-12)
  got = [signal.pair_mean(SCORES[d] + 1, other[d]) for d in draws]
  want = (PI @ (SCORES + 1)) @ (PI @ other)
  np.testing.assert_allclose(chance @ got, want, rtol=1e-12)
  plug_in = [np.square((SCORES[d] + 1).mean(0)).sum() for d in draws]
  assert chance @ plug_in > 1.1 * squared


def test_pair_means_of_known_rows():
  a = np.float32([[1, 0], [0, 2], [3, 1]])
  b = np.float32([[1, 1], [1, 0], [0, 1]])
  product = a @ b.T
  want = product[~np.eye(3, dtype=bool)].mean()
  np.testing.assert_allclose(signal.pair_mean(a, b), want)
  np.testing.assert_allclose(signal.second(a), (1 + 4 + 10) / 3)
  assert np.isnan(signal.pair_mean(a[:1]))
  assert np.isnan(signal.second(a[:0]))


def test_coherence_of_known_problems():
  same, orthogonal = np.ones((4, 3)), np.eye(4)
  for fixed in (False, True):
    assert signal.coherence(same, same, fixed=fixed) == 1
  assert signal.coherence(orthogonal, orthogonal) == 0
  assert signal.coherence(orthogonal, orthogonal, fixed=True) == 1 / 4
  two = np.array([[1.0, 0], [-1, 0]])
  assert signal.coherence(two, two) == -1
  assert signal.coherence(two, two, fixed=True) == 0
  assert signal.coherence(2 * same, 5 * same) == 1
  assert np.isnan(signal.coherence(same, -same))
  assert np.isnan(signal.coherence(0 * same, 0 * same))
  assert np.isnan(signal.coherence(same[:1], same[:1]))


def test_coherence_does_not_count_the_noise_of_a_problem_as_its_own():
  """Numerator and denominator have the exact means over all halves."""
  mu = np.array([[1.0, 0.5], [0.2, -0.3]])
  noise = np.array(
    [[1.0, 2], [-1, -2]]
  )  # of a half: one of two, equally likely
  top, low, fixed = [], [], []
  for sign in itertools.product(range(2), repeat=4):
    a, b = mu + noise[list(sign[:2])], mu + noise[list(sign[2:])]
    own = np.vdot(a, b) / 2
    low.append(own)
    if own > 0:
      top.append(signal.coherence(a, b) * own)
      fixed.append(signal.coherence(a, b, fixed=True) * own)
    else:
      assert np.isnan(signal.coherence(a, b))
      top.append(signal.pair_mean(a, b))
      fixed.append((top[-1] + own) / 2)
  np.testing.assert_allclose(np.mean(low), np.vdot(mu, mu) / 2)
  np.testing.assert_allclose(np.mean(top), mu[0] @ mu[1])
  np.testing.assert_allclose(np.mean(fixed), np.square(mu.mean(0)).sum())


# --- batches of several problems ------------------------------------------


def problem_groups():
  """Three problems' group gradients [X, outcomes, M] and probabilities."""
  rng = np.random.default_rng(0)
  gradient = rng.normal(size=(3, 4, 2)) + np.array([1.0, 0.5])
  chance = rng.dirichlet(np.ones(4), size=3)
  mu = np.einsum('xo,xom->xm', chance, gradient)
  return gradient, chance, mu


def moments_of(mu, gradient, chance):
  mean_sq = np.square(mu).sum(-1).mean()
  variance = np.einsum(
    'xo,xom->x', chance, np.square(gradient - mu[:, None])
  ).mean()
  return mean_sq, variance


def test_a_batch_of_fixed_problems_by_enumeration():
  gradient, chance, mu = problem_groups()
  mean_sq, variance = moments_of(mu, gradient, chance)
  omega = np.square(mu.mean(0)).sum() / mean_sq
  total, second = np.zeros(2), 0.0
  for o in itertools.product(range(4), repeat=3):
    weight = np.prod([chance[x, o[x]] for x in range(3)])
    batch = np.mean([gradient[x, o[x]] for x in range(3)], axis=0)
    total, second = total + weight * batch, second + weight * batch @ batch
  want = total @ total / (second - total @ total)
  got = signal.batch_snr(mean_sq / variance, omega, 3)
  np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_batch_of_drawn_problems_by_enumeration():
  """Two groups of problems drawn with replacement: SNR is N / N_k."""
  gradient, chance, mu = problem_groups()
  mean_sq, variance = moments_of(mu, gradient, chance)
  omega = np.square(mu.mean(0)).sum() / mean_sq
  weight, rows = (chance / 3).ravel(), gradient.reshape(12, 2)
  batch = (rows[:, None] + rows[None]) / 2
  both = weight[:, None] * weight[None]
  total = np.einsum('ij,ijm->m', both, batch)
  second = (both * np.square(batch).sum(-1)).sum()
  want = total @ total / (second - total @ total)
  scale = signal.batch_scale(mean_sq / variance, omega, 8)
  np.testing.assert_allclose(16 / scale, want, rtol=1e-12)
  # The same from total and second of one group.
  one = weight @ np.square(rows).sum(-1)
  got = signal.noise_scale(total @ total, one, 8)
  np.testing.assert_allclose(got, scale, rtol=1e-12)


def test_scales_at_their_limits():
  nan, inf = np.nan, np.inf
  got = signal.batch_scale(
    [1, 1, 0, -1, nan, 1, inf, nan, 4], [1, 0.5, 1, 1, 1, -0.1, 1, 0, 2], 8
  )
  np.testing.assert_array_equal(got, [8, 24, inf, inf, nan, inf, 0, nan, 0])
  got = signal.noise_scale([1, 0, -1, nan, 2, 1], [3, 1, 1, 1, nan, 0.5], 4)
  np.testing.assert_array_equal(got, [8, inf, inf, nan, nan, 0])
  assert np.isnan(signal.batch_scale(1.0, nan, 8))


# --- root and cosine ------------------------------------------------------


def test_root_is_cosine_times_the_share_of_signal():
  g, mean = np.array([3.0, 4]), np.array([1.0, 1])
  dot, ref_sq, total = g @ mean, g @ g, mean @ mean
  for second, rollouts in ((2.0, 8), (10.0, 256), (500.0, 64)):
    scale = signal.noise_scale(total, second, 8)
    cosine = signal.cosine(dot, ref_sq, total, 0.1)
    np.testing.assert_allclose(cosine, 7 / (5 * np.sqrt(2)))
    want = cosine * np.sqrt(rollouts / (rollouts + scale))
    for sign in (1, -1):
      got = signal.root(sign * dot, ref_sq, total, second, 8, rollouts)
      np.testing.assert_allclose(got, sign * want, rtol=1e-12)
  # Scaling a signal changes nothing.
  got = signal.root(7 * dot, ref_sq, 49 * total, 49 * 500, 8, 64)
  np.testing.assert_allclose(got, want, rtol=1e-12)


def test_root_at_its_limits():
  root = lambda *args: signal.root(*args, 8, 256)
  assert root(5.0, 1.0, 1.0, 1.0) == 1
  assert root(-5.0, 1.0, 1.0, 1.0) == -1
  assert root(0.0, 1.0, 0.0, 0.0) == 0  # a constant reward
  assert root(0.1, 1.0, -0.01, 1.0) > 0  # total is an estimate
  for unknown in (
    (0.1, 0.0, 1, 1),
    (0.1, 1, -1, 1),
    (0.1, 1, 1, np.nan),
    (np.nan, 1, 1, 1),
    (0.0, 0.0, 0.0, 0.0),
  ):
    assert np.isnan(root(*unknown)), unknown
  got = signal.root([0.5, -0.5], 1.0, 1.0, 1.0, 8, 8)
  np.testing.assert_array_equal(got, [0.5, -0.5])


def test_a_cosine_with_an_unsure_norm_is_nan():
  got = signal.cosine(
    0.9, 1.0, [1.0, 1.0, 1.0, -1.0, 0.0], [0.5, 0.51, np.nan, 0.1, 0]
  )
  np.testing.assert_array_equal(got, [0.9, np.nan, np.nan, np.nan, np.nan])
  assert np.isnan(signal.cosine(0.9, 0.0, 1.0, 0.1))
  assert signal.cosine(1.05, 1.0, 1.0, 0.1) == 1.05


# --- live -----------------------------------------------------------------

GROUPS = 4
OUTCOMES = np.array(
  [[0.0, 0], [1, 2], [3, -1]]
)  # of a group; the first is dead
CHANCE = np.array([0.7, 0.1, 0.2])
ALIVE = CHANCE[1:] @ OUTCOMES[1:] / 0.3
MEAN_SQ = np.square(CHANCE @ OUTCOMES).sum()


def steps(size):
  """(q, squares, live groups, weight) of all batches, live groups first."""
  for y in itertools.product(range(3), repeat=GROUPS):
    alive = [k for k in y if k]
    rows = OUTCOMES[alive + [0] * (GROUPS - len(alive))] / GROUPS
    parts = rows.reshape(-1, size, 2).sum(1)
    count = (np.arange(GROUPS) < len(alive)).reshape(-1, size).sum(1)
    total = parts.sum(0)
    weight = np.prod(CHANCE[list(y)])
    yield total @ total, np.square(parts).sum(), count, weight


@pytest.mark.parametrize('size', [1, 2])
def test_live_is_unbiased_for_any_micro_batch(size):
  """Given which micro-batches had live groups, over windows of two steps."""
  by_count = {}
  for q, squares, count, weight in steps(size):
    by_count.setdefault(tuple(count), []).append((q, squares, weight))
  for pair in itertools.product(by_count, repeat=2):
    counts = np.array(pair)
    alive = counts.sum(-1)
    known = (alive**2 - np.square(counts).sum(-1)).sum() > 0
    got = [], []
    for one, two in itertools.product(*(by_count[c] for c in pair)):
      q, squares = [one[0], two[0]], [one[1], two[1]]
      grad_sq, noise = signal.live(q, squares, counts, GROUPS)
      np.testing.assert_equal(np.isnan([grad_sq, noise]), [not known] * 2)
      np.testing.assert_allclose(
        grad_sq + noise, np.nan if not known else np.mean(q)
      )
      got[0].append(grad_sq)
      got[1].append(one[2] * two[2])
    if known:
      pairs = (alive * (alive - 1)).mean() / (GROUPS * (GROUPS - 1))
      np.testing.assert_allclose(
        np.average(got[0], weights=got[1]), pairs * ALIVE @ ALIVE, rtol=1e-12
      )
  # Over all windows, E L (L-1) = P (P-1) .3^2: the square of the full mean.
  np.testing.assert_allclose(0.09 * ALIVE @ ALIVE, MEAN_SQ)


def test_live_in_the_mean_over_all_batches():
  """One group a micro-batch: unknown only where fewer than two are live."""
  got = 0.0
  for q, squares, count, weight in steps(1):
    grad_sq, _ = signal.live([q], [squares], [count], GROUPS)
    if np.isnan(grad_sq):
      assert count.sum() < 2
      grad_sq = 0.0  # L (L-1)
    got += weight * grad_sq
  np.testing.assert_allclose(got, MEAN_SQ, rtol=1e-12)


def test_live_is_the_textbook_formula_where_all_groups_are():
  rng = np.random.default_rng(1)
  parts = rng.normal(size=(5, 4, 3))  # micro-batches of two groups
  q = np.square(parts.sum(1)).sum(-1)
  squares = np.square(parts).sum((1, 2))
  got = signal.live(q, squares, np.full((5, 4), 2), 8)
  small = 4**2 * squares.mean() / 4  # of the mean over a micro-batch
  want = (8 * q.mean() - 2 * small) / (8 - 2)
  np.testing.assert_allclose(got[0], want, rtol=1e-12)
  np.testing.assert_allclose(
    got[1], (small - q.mean()) / (1 / 2 - 1 / 8) / 8, rtol=1e-12
  )


def test_live_knows_nothing_of_one_micro_batch_or_group():
  for args in (
    ([1.0], [1.0], [[5]], 8),
    ([1.0], [1.0], [[3, 0]], 8),
    ([0.0], [0.0], [[0, 0]], 8),
    ([1.0], [0.5], [[1, 1]], 1),
  ):
    assert np.isnan(signal.live(*args)).all()
