"""What config.json of a Gemma 3 says besides what all families say."""

from collections.abc import Mapping
from typing import Any

from rlvr_jax.models import config_values, rope_config

GELU = 'gelu_pytorch_tanh'
PATTERN = 6  # every sixth layer is global where nothing else is said
LOCAL_THETA = 10_000.0  # base of RoPE in sliding layers, likewise
_TYPES = {'sliding_attention': True, 'full_attention': False}


def pattern(layers: int, every: int = PATTERN) -> tuple[bool, ...]:
  """Whether each layer slides: all but every `every`-th."""
  return tuple((i + 1) % every != 0 for i in range(layers))


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
  """Fields of `ModelConfig` of a Gemma 3's config.json.

  Raises:
    ValueError: capped logits, attention in both directions, another
      activation, or layers that are neither sliding nor global.
  """
  refused = [
    f'{key}={hf[key]!r:.60}'
    for key, only in (
      ('hidden_activation', (GELU, None)),
      ('final_logit_softcapping', (None,)),
      ('attn_logit_softcapping', (None,)),
      ('use_bidirectional_attention', (None, False)),
    )
    if hf.get(key) not in only
  ]
  layers = config_values.whole(hf, 'num_hidden_layers', 'layers')
  types = hf.get('layer_types')
  if types is None:
    every = config_values.whole(hf, 'sliding_window_pattern', 'layers', PATTERN)
    sliding = pattern(layers, every)
  elif isinstance(types, list) and all(
    isinstance(t, str) and t in _TYPES for t in types
  ):
    sliding = tuple(_TYPES[t] for t in types)
  else:
    refused.append(f'layer_types={types!r:.60}')
  if refused:
    raise ValueError(
      f'config.json has {", ".join(refused)}, which this decoder does not '
      'implement.'
    )
  # transformers 5 writes the RoPE of each type of layer; older files write the
  # global one's keys, and the base of the other.
  nested = hf.get('rope_parameters')
  whole, local = dict(hf), {}
  whole.setdefault('rope_theta', 1_000_000.0)
  local['rope_theta'] = hf.get('rope_local_base_freq', LOCAL_THETA)
  if isinstance(nested, dict) and set(nested) & set(_TYPES):
    whole['rope_parameters'] = nested.get('full_attention')
    local['rope_parameters'] = nested.get('sliding_attention')
  return {
    'sliding': sliding,
    'window': config_values.whole(hf, 'sliding_window', 'positions', 4096),
    'rope': rope_config.from_hf(whole),
    'local_rope': rope_config.from_hf(local),
    'query_size': config_values.whole(
      hf, 'query_pre_attn_scalar', 'width', 256
    ),
  }


def to_hf(c: Any) -> dict[str, Any]:
  """The keys of config.json that `from_hf` reads, of a `ModelConfig`."""
  names = {slides: name for name, slides in _TYPES.items()}
  return {
    'hidden_act': GELU,
    'hidden_activation': GELU,
    'layer_types': [names[s] for s in c.sliding or (False,) * c.num_layers],
    'sliding_window': c.window or c.max_position,
    'rope_local_base_freq': (c.local_rope or c.rope).theta,
    'query_pre_attn_scalar': c.query_size or c.head_dim,
  }
