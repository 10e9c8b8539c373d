"""discovered@n by hand, and against pass@k."""

import itertools

import numpy as np
import pytest

from rlvr_jax import stats
from rlvr_jax.stats import discovery


def test_known_answers():
  right, attempts = [0, 0, 1, 4], [4, 4, 4, 4]
  found = discovery.discovered(right, attempts, [0, 1, 8, 9, 10, 12, 13, 16])
  # One of four is right in the third step: the first k hold it with k/4.
  np.testing.assert_allclose(found, [0, 0, 0, 0.25, 0.5, 1, 1, 1])


def test_without_learning_it_is_pass_at_n_in_the_mean():
  """Of all orders in which 6 samples, 2 right, are dealt into steps of 2, 4."""
  order = set(itertools.permutations([1, 1, 0, 0, 0, 0]))
  for n in range(1, 7):
    mean = np.mean(
      [
        discovery.discovered([sum(o[:2]), sum(o[2:])], [2, 4], [n])[0]
        for o in order
      ]
    )
    assert mean == pytest.approx(stats.pass_at_k(6, 2, n))


def test_what_cannot_be():
  with pytest.raises(ValueError, match='right of'):
    discovery.discovered([5], [4], [1])
  with pytest.raises(ValueError, match='discovered@9: the run has 8 attempts'):
    discovery.discovered([0, 1], [4, 4], [9])
