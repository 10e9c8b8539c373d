import itertools

import jax
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.models import kv_cache, layers


def test_blocks_double_what_there_is():
  assert kv_cache.sizes(64) == (64,)
  assert kv_cache.sizes(256) == (256,)
  assert kv_cache.sizes(300) == (256, 44)
  assert kv_cache.sizes(4096) == (256, 256, 512, 1024, 2048)
  assert sum(kv_cache.sizes(16_000)) == 16_000


@pytest.mark.parametrize('width', [1, 3])
def test_writing_into_blocks_is_writing_into_one(width, monkeypatch):
  config = registry.get('model', 'tiny(layers=1, width=32)')()
  monkeypatch.setattr(kv_cache, 'FIRST', 4)
  rng = np.random.default_rng(0)
  (cache,) = kv_cache.allocate(config, 2, 19, np.float32)
  assert [k.shape[3] for k, _ in cache] == [4, 4, 8, 3]
  want = np.zeros((2, 2, 8, 19), np.float32)
  write = jax.jit(kv_cache.write)
  for column in (0, 2, 3, 6, 7, 14, 16):
    k = rng.standard_normal((2, 2, 8, width), np.float32)
    cache = write(cache, (k, k.swapaxes(2, 3)), column)
    want[..., column : column + width] = k
  np.testing.assert_array_equal(np.concatenate([k for k, _ in cache], 3), want)
  values = np.concatenate([v for _, v in cache], 2)
  np.testing.assert_array_equal(values, want.swapaxes(2, 3))


def test_a_block_without_written_columns_is_not_read(monkeypatch):
  """What it holds does not matter, even where the mask would show it."""
  monkeypatch.setattr(kv_cache, 'FIRST', 4)
  rng = np.random.default_rng(0)
  k = rng.standard_normal((1, 1, 2, 16), np.float32)
  k[..., 8:] = np.nan
  v = k.swapaxes(2, 3)
  cut = [0, 4, 8, 16]
  cache = tuple((k[..., a:b], v[:, :, a:b]) for a, b in itertools.pairwise(cut))
  q = rng.standard_normal((1, 1, 1, 2), np.float32)
  seen = np.arange(16)[None, None, None] < 8
  whole = layers.KeysValues(k[..., :8], v[:, :, :8], seen[..., :8])

  @jax.jit
  def attend(used, first):
    mask = seen & (np.arange(16)[None, None, None] >= first)
    return layers.attend(q, kv_cache.sources(cache, mask, used, first))

  np.testing.assert_allclose(
    attend(8, 0), layers.attend(q, (whole,)), rtol=1e-6
  )
  later = layers.KeysValues(k[..., 4:8], v[:, :, 4:8], seen[..., :4])
  np.testing.assert_allclose(
    attend(8, 4), layers.attend(q, (later,)), rtol=1e-6
  )
