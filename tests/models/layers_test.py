import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax.models import kv_cache, layers
from rlvr_jax.models.model_config import ModelConfig, Rope


def test_default_frequencies():
  freq, scale = layers.rope_frequencies(Rope(theta=10_000.0), 4)
  np.testing.assert_allclose(freq, [1.0, 0.01])
  assert scale == 1.0


def test_linear_divides_every_frequency():
  freq, _ = layers.rope_frequencies(Rope(kind='linear', factor=4.0), 4)
  np.testing.assert_allclose(freq, [0.25, 0.0025])


def test_llama3_keeps_high_divides_low_and_ramps_between():
  rope = Rope(
    theta=500_000.0, kind='llama3', factor=32.0, original_max_position=8192
  )
  freq, scale = layers.rope_frequencies(rope, 64)
  plain = 500_000.0 ** (-np.arange(0, 64, 2) / 64)
  wavelength = 2 * math.pi / plain
  high, low = wavelength < 8192 / 4, wavelength > 8192
  np.testing.assert_allclose(freq[high], plain[high], rtol=1e-6)
  np.testing.assert_allclose(freq[low], plain[low] / 32, rtol=1e-6)
  # Llama 3's own code: smooth = (8192 / wavelength - 1) / (4 - 1).
  between = ~high & ~low
  assert between.sum() == 3
  smooth = (8192 / wavelength[between] - 1) / 3
  want = (1 - smooth) * plain[between] / 32 + smooth * plain[between]
  np.testing.assert_allclose(freq[between], want, rtol=1e-6)
  assert scale == 1.0


def test_yarn_interpolates_slow_channels_and_scales():
  rope = Rope(theta=1e6, kind='yarn', factor=4.0, original_max_position=32_768)
  freq, scale = layers.rope_frequencies(rope, 128)
  plain = 1e6 ** (-np.arange(0, 128, 2) / 128)
  turns = 32_768 * plain / (2 * math.pi)
  # One channel on either side: the bounds are rounded to whole channels.
  fast = np.flatnonzero(turns > 32)[:-1]
  slow = np.flatnonzero(turns < 1)[1:]
  np.testing.assert_allclose(freq[fast], plain[fast], rtol=1e-6)
  np.testing.assert_allclose(freq[slow], plain[slow] / 4, rtol=1e-6)
  assert scale == pytest.approx(0.1 * math.log(4) + 1)


def test_rotation_turns_pairs_by_the_angle_and_keeps_dot_products():
  config = ModelConfig('llama', 8, 1, 8, 8, 1, 1, 4, 64)
  table = layers.rope_table(jnp.array([[0, 3, 7, 10]]), config)
  x = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0, 0.0]), (1, 4, 1, 4))
  y = np.asarray(layers.rotate(x, table))[0, :, 0]
  angle = np.array([0.0, 3.0, 7.0, 10.0])
  np.testing.assert_allclose(y[:, 0], np.cos(angle), atol=1e-6)
  np.testing.assert_allclose(y[:, 2], np.sin(angle), atol=1e-6)
  assert not y[:, [1, 3]].any()
  # Positions 3 and 0 are as far apart as 10 and 7.
  assert y[1] @ y[0] == pytest.approx(y[3] @ y[2], abs=1e-5)


def test_attention_over_sources_equals_attention_over_all_keys():
  normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
  rng = np.random.default_rng(0)
  b, t, h, kv, c = 4, 3, 4, 2, 8
  q = normal(b, t, h, c)
  # Two prompts of 5 keys shared by two rows each, 3 own keys a row.
  shared, own = normal(2, 2, 5, kv, c), normal(2, b, t, kv, c)
  seen = np.arange(5) < np.array([[5], [2]])
  causal = np.tril(np.ones((t, t), bool))
  got = jax.jit(layers.attend)(
    q,
    (
      layers.KeysValues(*kv_cache.lay_out(*shared), seen[:, None, None]),
      layers.KeysValues(*kv_cache.lay_out(*own), causal[None, None]),
    ),
  )
  for row in range(b):
    for head in range(h):
      k = np.concatenate([shared[0, row // 2], own[0, row]])[:, head // 2]
      v = np.concatenate([shared[1, row // 2], own[1, row]])[:, head // 2]
      mask = np.concatenate([np.tile(seen[row // 2], (t, 1)), causal], axis=1)
      score = np.where(mask, q[row, :, head] @ k.T / c**0.5, -1e9)
      weight = np.exp(score - score.max(-1, keepdims=True))
      want = weight / weight.sum(-1, keepdims=True) @ v
      np.testing.assert_allclose(got[row, :, head], want, atol=1e-5)
