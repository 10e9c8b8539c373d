import jax.numpy as jnp
import numpy as np

from rlvr_jax.ops import masked, positions, ratio


def test_means_by_hand():
  """Places count the row's own tokens: gaps in the mask do not."""
  x = np.zeros((2, 40), np.float32)
  mask = np.zeros((2, 40), bool)
  mask[0, 3:7] = mask[0, 20:] = True  # 24 tokens: 16, then 8
  x[0, 3:7], x[0, 20:32], x[0, 32:] = 1.0, 3.0, 5.0
  x[~mask] = np.nan
  mask[1, 0], x[1, 0] = True, 8.5
  got = positions.means(x, mask)
  assert list(got)[:2] == ['0-15', '16-63']
  assert list(got)[-1] == '16384-'
  assert [float(r.den) for r in got.values()] == [17, 8, 0, 0, 0, 0, 0]
  assert float(got['0-15'].num) == 4 * 1 + 12 * 3 + 8.5
  assert float(ratio.divide(got['16-63'])) == 5


def test_buckets_together_are_the_mean():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(3, 300)), jnp.float32)
  mask = rng.random((3, 300)) < 0.7
  got = positions.means(x, mask).values()
  np.testing.assert_allclose(
    sum(float(r.num) for r in got), masked.keep(x, mask).sum(), rtol=1e-5
  )
  assert sum(float(r.den) for r in got) == mask.sum()
