"""Crossover, coverage classes and perplexity: known answers of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax.stats import coverage

KS = [1, 2, 4, 8, 16, 64]
EXACT = lambda rates: np.array(
  [np.mean([1 - (1 - p) ** k for p in rates]) for k in KS]
)
BASE, RL = EXACT([0.3, 0.3, 0.05]), EXACT([0.9, 0.9, 0.0])


def test_the_toy_curves_cross_at_eight():
  np.testing.assert_allclose(
    BASE, [0.2167, 0.3725, 0.5684, 0.7404, 0.8511, 0.9875], atol=1e-4
  )
  assert coverage.crossover(KS, BASE, RL) == 8
  assert coverage.crossover(KS, RL, BASE) == np.inf
  assert coverage.crossover(KS, BASE, BASE) == 1


def test_ahead_for_a_while_is_no_crossover():
  base, other = [0.5, 0.4, 0.6], [0.4, 0.5, 0.6]
  assert coverage.crossover([1, 2, 4], base, other) == 4
  assert coverage.crossover([1, 2, 4], other, base) == 2
  both = coverage.crossover([1, 2], [[0.1, 0.2], [0.3, 0.2]], [[0.2, 0.1]] * 2)
  assert both.tolist() == [2, 1]


def test_bad_curves_are_refused():
  with pytest.raises(ValueError, match='increasing'):
    coverage.crossover([1, 1], [0, 0], [0, 0])
  with pytest.raises(ValueError, match='must have 2 values'):
    coverage.crossover([1, 2], [0, 0], [0, 0, 0])


def test_classes_partition_the_problems():
  rng = np.random.default_rng(0)
  base, other = rng.random((2, 200)) < 0.5
  got = coverage.classes(base, other)
  np.testing.assert_array_equal(sum(c.astype(int) for c in got), 1)
  np.testing.assert_array_equal(got.kept | got.lost, base)
  np.testing.assert_array_equal(got.kept | got.gained, other)


def test_a_strict_subset_gains_nothing():
  """AIME24: the base solves 23 of 30, RL 19 of these."""
  base = np.arange(30) < 23
  got = coverage.classes(base, base & ~np.isin(np.arange(30), [4, 11, 17, 19]))
  assert [int(c.sum()) for c in got] == [19, 4, 0, 7]
  with pytest.raises(ValueError, match='bool'):
    coverage.classes([True], [True, False])


def test_perplexity_known_answers():
  logp = np.log([[0.5, 0.25, 0.125, 1e-9], [0.1, 0.1, 0.1, 0.1]])
  mask = np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
  np.testing.assert_allclose(coverage.perplexity(logp, mask), [4, 10])
  assert np.isnan(coverage.perplexity(logp, 0 * mask)).all()
  # A uniform model over V tokens is as perplexed as V, whatever the length.
  uniform = np.log(np.full((1, 9), 1 / 50))
  assert coverage.perplexity(uniform, np.ones((1, 9))) == pytest.approx(50)


def test_a_sharper_model_finds_its_argmax_path_likelier():
  logits = jax.random.normal(jax.random.key(0), (1, 6, 11))
  path = logits.argmax(-1)[..., None]
  ppl = [
    coverage.perplexity(
      jnp.take_along_axis(jax.nn.log_softmax(z), path, -1)[..., 0],
      np.ones((1, 6)),
    )
    for z in (logits, 2 * logits)
  ]
  assert 1 < ppl[1][0] < ppl[0][0]


def test_sampling_efficiency_gap_of_the_papers_table():
  """Delta_SE = pass@256 of the base - pass@1 of RL, in points."""
  base = {'train': 67.2, 'test': 69.1}
  rl = {'train': {'DAPO': 31.4, 'GRPO': 26.1}, 'test': {'RLOO': 28.1}}
  gap = lambda split, name: coverage.efficiency_gap(
    base[split], rl[split][name]
  )
  assert gap('train', 'DAPO') == pytest.approx(35.8)
  assert gap('train', 'GRPO') == pytest.approx(41.1)
  assert gap('test', 'RLOO') == pytest.approx(41.0)
