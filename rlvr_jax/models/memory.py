"""Do a run's weights and caches fit the memory of its devices?"""

import os
from typing import Any

import jax

from rlvr_jax import hosts
from rlvr_jax.models.model_config import ModelConfig
from rlvr_jax.registry import show


def check(c: Any, config: ModelConfig) -> None:
  """ValueError if a lower bound of the memory exceeds what the devices have.

  The bound is the weights, the sampler's copy of them, and the KV cache of one
  batch; optimiser state and activations come on top.
  """
  size = {'float32': 4, 'bfloat16': 2}
  rows = max(c.train_batch_size * c.num_generations, c.eval.batch_size)
  token = 2 * config.num_layers * config.num_kv_heads * config.head_dim
  parts = {
    'weights': config.num_params * size[c.model.param_dtype],
    "the sampler's copy": config.num_params * size[c.model.dtype],
    f'the cache of {rows} rows of max_completion_length='
    f'{c.max_completion_length}': rows
    * c.max_completion_length
    * token
    * size[c.model.dtype],
  }
  device = jax.local_devices()[0]
  available = (device.memory_stats() or {}).get('bytes_limit', 0)
  available *= jax.device_count()
  if not available:  # a CPU: its devices share the memory of the host
    available = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    available *= hosts.count()
  if sum(parts.values()) > available:
    sizes = ', '.join(f'{k} {v / 2**30:.1f} GiB' for k, v in parts.items())
    raise ValueError(
      f'model.name={show(c.model.name)} needs more memory than the '
      f'{available / 2**30:.1f} GiB of these devices: {sizes}. Take a smaller '
      'model or more devices, or lower train_batch_size, num_generations, '
      'eval.batch_size or max_completion_length.'
    )
