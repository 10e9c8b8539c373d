"""Rotary embeddings (RoPE), to and from Hugging Face's config.json."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlvr_jax.models import config_values


@dataclasses.dataclass(frozen=True)
class Rope:
  """Rotary embedding (RoPE). `kind`: default, linear, llama3, yarn."""

  theta: float = 10_000.0
  kind: str = 'default'
  factor: float = 1.0
  original_max_position: int = 0  # llama3, yarn: context of pretraining
  low_freq_factor: float = 1.0  # llama3
  high_freq_factor: float = 4.0  # llama3
  beta_fast: float = 32.0  # yarn
  beta_slow: float = 1.0  # yarn
  attention_factor: float = 0.0  # yarn; 0: 0.1 ln(factor) + 1

  def __post_init__(self):
    for low, high in (
      ('low_freq_factor', 'high_freq_factor'),
      ('beta_slow', 'beta_fast'),
    ):
      if not getattr(self, low) < getattr(self, high):
        raise ValueError(
          f'RoPE has {low}={getattr(self, low)}, which must be below '
          f'{high}={getattr(self, high)}.'
        )


_SCALING = {
  'default': (),
  'linear': ('factor',),
  'llama3': ('factor', 'low_freq_factor', 'high_freq_factor'),
  'yarn': ('factor', 'beta_fast', 'beta_slow', 'attention_factor'),
}


def from_hf(hf: Mapping[str, Any]) -> Rope:
  """RoPE of a config.json. ValueError for one that is not implemented."""
  # transformers 5 writes rope_parameters; older files write two keys.
  keys = [
    k for k in ('rope_parameters', 'rope_scaling') if hf.get(k) is not None
  ]
  scaling: Any = next((hf[k] for k in keys if hf[k] != {}), {})
  if not isinstance(scaling, dict) or any(
    isinstance(v, dict) for v in scaling.values()
  ):
    raise ValueError(
      f'config.json has RoPE {scaling!r:.60}; expected one for all layers.'
    )
  kind = scaling.get('rope_type') or scaling.get('type') or 'default'
  if not isinstance(kind, str) or kind not in _SCALING:
    raise ValueError(
      f'config.json has RoPE type {kind!r:.60}; known: {", ".join(_SCALING)}.'
    )
  unsupported = [
    f'{key}={scaling[key]!r:.60}'
    for key, only in (
      ('partial_rotary_factor', (None, 1.0)),
      ('truncate', (None, True)),
      ('mscale', (None,)),
      ('mscale_all_dim', (None,)),
    )
    if key in scaling and scaling[key] not in only
  ]
  if unsupported:
    raise ValueError(
      f'config.json has RoPE with {", ".join(unsupported)}, which this decoder '
      'does not implement.'
    )
  needed = {
    'default': (),
    'linear': ('factor',),
    'llama3': ('factor', 'low_freq_factor', 'high_freq_factor'),
    'yarn': ('factor',),
  }[kind]
  if lacking := [key for key in needed if scaling.get(key) is None]:
    raise ValueError(f'config.json: RoPE {kind!r} lacks {", ".join(lacking)}.')
  bounds = {'factor': (1.0, 1e6), 'attention_factor': (1e-3, 1e3)}
  extra: dict[str, Any] = {
    key: config_values.real(scaling, key, 0.0, *bounds.get(key, (1e-6, 1e6)))
    for key in _SCALING[kind]
    if scaling.get(key) is not None
  }
  if kind in ('llama3', 'yarn'):
    extra['original_max_position'] = config_values.whole(
      scaling,
      'original_max_position_embeddings',
      'positions',
      config_values.whole(hf, 'max_position_embeddings', 'positions', 2048),
    )
  # With theta <= 1, frequencies would not decrease.
  theta = config_values.real(hf, 'rope_theta', 10_000.0, 1.001, 1e30)
  theta = config_values.real(scaling, 'rope_theta', theta, 1.001, 1e30)
  return Rope(theta=theta, kind=kind, **extra)


def to_hf(rope: Rope) -> dict[str, Any]:
  """The keys of config.json that `from_hf` reads."""
  hf: dict[str, Any] = {'rope_theta': rope.theta, 'rope_scaling': None}
  if rope.kind == 'default':
    return hf
  scaling = {key: getattr(rope, key) for key in _SCALING[rope.kind]}
  if not scaling.get('attention_factor', True):
    del scaling['attention_factor']
  scaling = {'rope_type': rope.kind, **scaling}
  if rope.original_max_position:
    scaling['original_max_position_embeddings'] = rope.original_max_position
  return hf | {'rope_scaling': scaling}
