"""pass@k against counting every subset, and its unbiasedness."""

import functools
import itertools
import math

import jax
import numpy as np
import pytest

from rlvr_jax.stats import passk

compiled = functools.partial(jax.jit, static_argnums=2)(passk.pass_at_k)
FNS = pytest.mark.parametrize(
  'fn', [passk.pass_at_k, compiled], ids=['eager', 'jit']
)


@pytest.mark.parametrize('k', range(1, 9))
def test_equals_counting_all_subsets(k):
  cases = [(n, c) for n in range(k, 9) for c in range(n + 1)]
  want = [
    np.mean(
      [any(i < c for i in s) for s in itertools.combinations(range(n), k)]
    )
    for n, c in cases
  ]
  n, c = np.array(cases, np.int32).T
  np.testing.assert_allclose(compiled(n, c, k), want, rtol=1e-6, atol=1e-7)


@FNS
def test_known_answers(fn):
  n, c = np.array([8, 8, 8, 4]), np.array([1, 0, 8, 1])
  np.testing.assert_allclose(fn(n, c, 4), [0.5, 0, 1, 1], rtol=1e-6)
  np.testing.assert_allclose(fn(n, c, 1), [1 / 8, 0, 1, 1 / 4], rtol=1e-6)


def test_keeps_its_digits_for_many_samples():
  """Where factorials overflow and 1 - product loses the digits."""
  cases = [(1000, 1, 1), (2048, 3, 256), (1024, 700, 512)]
  for n, c, k in cases:
    want = 1 - math.comb(n - c, k) / math.comb(n, k)
    got = compiled(np.array([n]), np.array([c]), k)
    np.testing.assert_allclose(got, want, rtol=2e-6)


@pytest.mark.parametrize('rate', [0.05, 0.4, 0.9])
def test_unbiased_for_k_fresh_samples(rate):
  c = np.arange(9)
  weight = np.array(
    [math.comb(8, int(i)) * rate**i * (1 - rate) ** (8 - i) for i in c]
  )
  for k in (1, 3, 8):
    mean = weight @ np.asarray(compiled(np.full(9, 8), c, k))
    np.testing.assert_allclose(mean, 1 - (1 - rate) ** k, rtol=1e-5)


@pytest.mark.parametrize(
  ('n', 'c', 'k'), [(4, 2, 5), (4, 2, 0), (4, 5, 1), (4, -1, 1)]
)
def test_the_impossible_is_refused(n, c, k):
  with pytest.raises(ValueError, match=f'pass@{k}'):
    passk.pass_at_k(np.array([8, n]), np.array([1, c]), k)


def test_plain_numbers_give_a_plain_number():
  got = passk.pass_at_k(8, 2, 4)
  assert type(got) is float
  assert got == pytest.approx(11 / 14, rel=1e-12)
  assert passk.pass_at_k(np.int64(8), np.int32(8), 3) == 1.0
  assert passk.pass_at_k(8, 0, 8) == 0.0
  assert passk.pass_at_k(1000, 1, 1) == pytest.approx(1e-3, rel=1e-12)


def test_lists_and_one_number_for_all():
  want = [11 / 14, 1 / 2]
  for n, c in (([8, 8], [2, 1]), ((8, 8), (2, 1)), (8, [2, 1])):
    np.testing.assert_allclose(passk.pass_at_k(n, c, 4), want, rtol=1e-6)
  assert passk.pass_at_k([], [], 1).shape == (0,)


@pytest.mark.parametrize(
  ('n', 'c', 'k', 'says'),
  [
    (3, 1, 4, 'pass@4 needs 4 samples.*fewest are 3'),
    (8, 9, 1, '9 correct among 8'),
    (8, -1, 1, '-1 correct'),
    (8, 2.5, 1, 'c must be whole'),
    (8, 1, True, 'k must be a whole'),
    (8, 1, 0, 'at least 1'),
    ([8, 8], [1, 2, 3], 1, 'lists of equal length'),
    (10**12, 1, 1, 'more than 1000000'),
  ],
)
def test_a_refusal_names_the_value(n, c, k, says):
  with pytest.raises(ValueError, match=says):
    passk.pass_at_k(n, c, k)
