"""How much arithmetic do rows take, and how much can a device do?

Counts are of the model's own products, a multiplication and an addition being
two operations: what the loss asks for, not what an implementation adds to it
(padding, layers computed again in the backward pass).
"""

import numpy as np

from rlvr_jax import types
from rlvr_jax.models.model_config import ModelConfig

# Peak of a JAX device, bfloat16 operations a second, by `device_kind`. v4, v5p:
# a device is a chip; tpu7x: half of one. Published: v4 275 TFLOP/s a chip, v5e
# 197, v5p 459, v6e 918, tpu7x 2,307 (docs.cloud.google.com/tpu).
PEAK = {
  'TPU v4': 275e12,
  'TPU v5 lite': 197e12,
  'TPU v5e': 197e12,
  'TPU v5': 459e12,
  'TPU v5p': 459e12,
  'TPU v6 lite': 918e12,
  'TPU v6e': 918e12,
  'TPU7x': 1153.5e12,
}


def peak(device_kind: str, devices: int) -> float | None:
  """Operations a second of so many devices; None for a kind not in `PEAK`."""
  each = PEAK.get(device_kind)
  return None if each is None else each * devices


def of_tokens(
  config: ModelConfig,
  tokens: np.ndarray | int,
  before: np.ndarray | int,
  predicted: np.ndarray | int,
) -> np.ndarray:
  """Operations of a forward pass over `tokens` tokens after `before` others.

    2 M t + 4 H C sum_l sum_{i=1..t} min(s + i, W_l) + 2 D V n

  for t tokens after s, n of which are predicted: M parameters of the matrices
  of all L layers, H heads of size C (scores and mixture of values, over s + i
  keys: causal attention, and at most the window W_l of a sliding layer), and
  the head, D x V, where logits are needed. Norms, biases and the embedding,
  which is looked up, are not counted.

  With t = n and s = 0 that is 2N + 2 L H C (t + 1) a token, N the parameters of
  the matrices: the forward third of 6N + 12 L H C T of PaLM (Chowdhery et al.
  2022, arXiv:2204.02311, appendix B), but for the half of attention that a
  causal mask leaves out.

  Args:
    tokens, before, predicted: of each row; counts of any one shape.
  """
  d, f, c = config.width, config.mlp_width, config.head_dim
  q, kv = config.num_heads * c, config.num_kv_heads * c
  matrices = config.num_layers * (2 * d * q + 2 * d * kv + 3 * d * f)
  t, s, n = (np.asarray(x, np.float64) for x in (tokens, before, predicted))
  sliding = sum(config.sliding)
  keys = (config.num_layers - sliding) * (t * s + t * (t + 1) / 2)
  if sliding:
    # Keys of the first n tokens: n (n + 1) / 2, and a window each from W on.
    full = lambda n: np.minimum(n, config.window)
    of_first = lambda n: (
      full(n) * (full(n) + 1) / 2 + config.window * (n - full(n))
    )
    keys = keys + sliding * (of_first(s + t) - of_first(s))
  attention = 4 * q * keys
  return 2 * matrices * t + attention + 2 * d * config.vocab_size * n


def of_groups(config: ModelConfig, rollout: types.Rollout) -> np.ndarray:
  """f64[P]: operations of a forward pass over each group of a rollout.

  The prompt, up to the group's first sampled token, is computed once for its G
  rows, as sampler and trainer do it. A group without a sampled token has 0.
  """
  sampled = np.asarray(rollout.turn) >= 0
  columns = sampled.shape[-1]
  first = np.where(sampled.any(-1), sampled.argmax(-1), columns).min(-1)
  first = np.where(first == columns, 0, first)  # [P]
  rest = np.where(sampled.any(-1), rollout.length - first[:, None], 0)
  rows = of_tokens(config, rest, first[:, None], sampled.sum(-1))
  return of_tokens(config, first, 0, 0) + rows.sum(-1)


def sampled_tokens(rollout: types.Rollout) -> int:
  """Number of sampled tokens of a rollout."""
  return int((np.asarray(rollout.turn) >= 0).sum())
