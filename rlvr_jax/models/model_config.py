"""A decoder's architecture, to and from Hugging Face's config.json."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlvr_jax import registry
from rlvr_jax.models import config_values, gemma_config, rope_config
from rlvr_jax.models.rope_config import Rope


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A decoder of one of five families. Hashable: a static argument of jit."""

  family: str  # llama | qwen2 | qwen3 | olmo2 | gemma3_text
  vocab_size: int
  num_layers: int
  width: int
  mlp_width: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  max_position: int
  rope: Rope = dataclasses.field(default_factory=Rope)
  norm_eps: float = 1e-5
  tied: bool = True  # the head is the embedding, transposed
  qkv_bias: bool = False
  out_bias: bool = False  # of attention
  mlp_bias: bool = False
  qk_norm: str = ''  # '' | head (Qwen3: per head) | full (OLMo 2: all heads)
  post_norm: bool = False  # OLMo 2: norms after attention and MLP
  init_std: float = 0.02
  activation: str = 'silu'  # of the MLP's gate: silu | gelu (tanh)
  # Gemma: norms before and after attention and MLP; they multiply by 1 + scale.
  sandwich_norm: bool = False
  unit_offset: bool = False
  scaled_embedding: bool = False  # Gemma: by sqrt(width)
  query_size: int = 0  # scores are divided by its root; 0: head_dim
  # Gemma: whether each layer slides, which sees `window` tokens, itself and
  # those before it, and has its own RoPE; (): none does.
  sliding: tuple[bool, ...] = ()
  window: int = 0
  local_rope: Rope | None = None

  def __post_init__(self):
    _family(self.family)
    if self.sliding and (
      len(self.sliding) != self.num_layers or self.window < 1
    ):
      raise ValueError(
        f'{len(self.sliding)} layers slide or not over window={self.window}: '
        f'there must be num_layers={self.num_layers}, and a window of 1 or more.'
      )
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f'num_heads (heads)={self.num_heads} is no multiple of '
        f'num_kv_heads={self.num_kv_heads}.'
      )
    if self.head_dim % 2:
      raise ValueError(f'head_dim={self.head_dim} must be even (RoPE).')

  def window_of(self, layer: int) -> int:
    """Tokens that a layer sees; 0: all."""
    return self.window if self.sliding and self.sliding[layer] else 0

  @property
  def num_params(self) -> int:
    """Number of parameters, embeddings counted once if tied."""
    d, f, q = self.width, self.mlp_width, self.num_heads * self.head_dim
    kv = self.num_kv_heads * self.head_dim
    layer = 2 * d * q + 2 * d * kv + 3 * d * f
    layer += (4 if self.sandwich_norm else 2) * d
    layer += (q + 2 * kv) * self.qkv_bias + d * self.out_bias
    layer += (2 * f + d) * self.mlp_bias
    layer += {'': 0, 'head': 2 * self.head_dim, 'full': q + kv}[self.qk_norm]
    return self.num_layers * layer + d + self.vocab_size * d * (2 - self.tied)


# Fixed by the family; Hugging Face's config.json may omit them.
FAMILIES: dict[str, dict[str, Any]] = {
  'llama': {},
  'qwen2': {'qkv_bias': True},
  'qwen3': {'qk_norm': 'head'},
  'olmo2': {'qk_norm': 'full', 'post_norm': True},
  'gemma3_text': {
    'qk_norm': 'head',
    'sandwich_norm': True,
    'unit_offset': True,
    'scaled_embedding': True,
    'activation': 'gelu',
  },
}


def _family(name: str) -> dict:
  """The settings fixed by a family. ValueError for an unknown one."""
  if name not in FAMILIES:
    raise ValueError(
      f'Unknown model family {registry.show(name)}.'
      f'{registry.nearest(name, FAMILIES)} '
      f'Known: {", ".join(FAMILIES)}.'
    )
  return FAMILIES[name]


def _model(
  family: str,
  layers: int,
  width: int,
  mlp: int,
  heads: int,
  kv_heads: int,
  vocab: int,
  *,
  max_position: int,
  theta: float = 10_000.0,
  **fields: Any,
) -> ModelConfig:
  """ModelConfig of a family by its sizes.

  Args:
    family: a key of FAMILIES, which fixes biases and norms.
    layers, width: decoder blocks, and size of the residual stream.
    mlp: width of the gated MLP.
    heads, kv_heads: query heads, and key-value heads that they share.
    vocab: rows of the embedding, padding included.
    max_position: most tokens of a row.
    theta: base of the rotary embedding; `rope=Rope(...)` for a scaled one.
    **fields: others of `ModelConfig`. Defaults: head_dim width // heads,
      norm_eps 1e-5, tied (head and embedding) True, init_std 0.02.

  Raises:
    ValueError: an unknown family, kv_heads no divisor of heads, odd head_dim.
  """
  fields = {'head_dim': width // heads, 'rope': Rope(theta=theta)} | fields
  return ModelConfig(
    family=family,
    num_layers=layers,
    width=width,
    mlp_width=mlp,
    num_heads=heads,
    num_kv_heads=kv_heads,
    vocab_size=vocab,
    max_position=max_position,
    **(_family(family) | fields),
  )


@registry.register('model', 'tiny')
def tiny(
  *,
  family: str = 'llama',
  layers: int = 2,
  width: int = 64,
  heads: int = 4,
  kv_heads: int = 2,
  vocab: int = 264,
  max_position: int = 1024,
) -> ModelConfig:
  """A model for tests and laptops; vocab 264 fits 259 byte-level ids."""
  for name, size, most in (
    ('layers', layers, 1000), ('width', width, 2**16), ('heads', heads, 1024),
    ('kv_heads', kv_heads, 1024), ('vocab', vocab, 2**22),
    ('max_position', max_position, 2**30),
  ):  # fmt: skip
    if not 1 <= size <= most:
      raise ValueError(f'tiny({name}={size}): {name} must be in 1..{most}.')
  if width % heads:
    raise ValueError(
      f'tiny(width={width}) must be a multiple of heads={heads}.'
    )
  sizes = (layers, width, 4 * width, heads, kv_heads, vocab)
  return _model(family, *sizes, max_position=max_position)


def from_hf(hf: Mapping[str, Any]) -> ModelConfig:
  """ModelConfig of a Hugging Face `config.json`.

  Raises:
    ValueError: a model type, activation, RoPE or attention variant that the
      decoder does not implement (it would load and be silently wrong), or a
      missing key.
  """
  family = hf.get('model_type')
  if not isinstance(family, str) or family not in FAMILIES:
    raise ValueError(
      f'config.json has model_type {family!r:.60}; this decoder covers '
      f'{", ".join(FAMILIES)}.'
    )
  needed = (
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
  )
  missing = [k for k in needed if k not in hf]
  if missing:
    raise ValueError(f'config.json lacks {", ".join(missing)}.')
  heads = config_values.whole(hf, 'num_attention_heads', 'heads')
  width = config_values.whole(hf, 'hidden_size', 'width')
  gemma = family == 'gemma3_text'
  of_gemma = gemma_config.from_hf(hf) if gemma else {}
  refused = [
    f'{key}={hf[key]!r:.60}'
    for key, only in (
      ('hidden_act', (gemma_config.GELU if gemma else 'silu',)),
      ('partial_rotary_factor', (1.0, None)),
      ('clip_qkv', (None,)),
      ('quantization_config', (None,)),
    )
    if key in hf and hf[key] not in only
  ]
  if config_values.flag(hf, 'use_sliding_window'):
    refused.append('use_sliding_window=True')
  layer_types = hf.get('layer_types')
  if (
    layer_types is not None
    and not gemma
    and (
      not isinstance(layer_types, list)
      or any(t != 'full_attention' for t in layer_types)
    )
  ):
    refused.append(f'layer_types={layer_types!r:.60}')
  if refused:
    raise ValueError(
      f'config.json has {", ".join(refused)}, which this decoder does not '
      'implement.'
    )
  fixed = dict(FAMILIES[family])
  bias = config_values.flag(hf, 'attention_bias')
  if family != 'qwen2':  # Qwen2 has no such key: always a bias on q, k, v
    fixed |= {'qkv_bias': bias, 'out_bias': bias}
  try:
    return ModelConfig(
      family=family,
      vocab_size=config_values.whole(hf, 'vocab_size', 'vocabulary'),
      num_layers=config_values.whole(hf, 'num_hidden_layers', 'layers'),
      width=width,
      mlp_width=config_values.whole(hf, 'intermediate_size', 'width'),
      num_heads=heads,
      num_kv_heads=config_values.whole(
        hf, 'num_key_value_heads', 'heads', heads
      ),
      head_dim=config_values.whole(
        hf, 'head_dim', 'width', 256 if gemma else width // heads
      ),
      max_position=config_values.whole(
        hf, 'max_position_embeddings', 'positions', 2048
      ),
      rope=of_gemma.pop('rope', None) or rope_config.from_hf(hf),
      # The default of transformers for an absent key.
      norm_eps=config_values.real(
        hf, 'rms_norm_eps', 1e-5 if family == 'olmo2' else 1e-6, 1e-30, 1.0
      ),
      tied=config_values.flag(hf, 'tie_word_embeddings', default=gemma),
      mlp_bias=config_values.flag(hf, 'mlp_bias'),
      init_std=config_values.real(hf, 'initializer_range', 0.02, 0.0, 10.0),
      **fixed,
      **of_gemma,
    )
  except ValueError as e:
    prefix = '' if 'config.json' in str(e) else 'config.json: '
    raise ValueError(f'{prefix}{e}') from e


def to_hf(c: ModelConfig) -> dict[str, Any]:
  """The `config.json` of a model, readable by `from_hf` and transformers."""
  name = {
    'llama': 'Llama',
    'qwen2': 'Qwen2',
    'qwen3': 'Qwen3',
    'olmo2': 'Olmo2',
    'gemma3_text': 'Gemma3',
  }[c.family]
  hf: dict[str, Any] = {
    'architectures': [f'{name}ForCausalLM'],
    'model_type': c.family,
    'vocab_size': c.vocab_size,
    'hidden_size': c.width,
    'intermediate_size': c.mlp_width,
    'num_hidden_layers': c.num_layers,
    'num_attention_heads': c.num_heads,
    'num_key_value_heads': c.num_kv_heads,
    'head_dim': c.head_dim,
    'max_position_embeddings': c.max_position,
    'rms_norm_eps': c.norm_eps,
    'tie_word_embeddings': c.tied,
    'initializer_range': c.init_std,
    'hidden_act': 'silu',
    **rope_config.to_hf(c.rope),
  }
  if c.family != 'qwen2':
    hf['attention_bias'] = c.qkv_bias
  if c.family == 'llama':
    hf['mlp_bias'] = c.mlp_bias
  return hf | (gemma_config.to_hf(c) if c.sandwich_norm else {})


def check_positions(
  config: ModelConfig, lengths: Mapping[str, int], whose: str = 'the model'
) -> None:
  """Raises ValueError if rows are longer than the model has positions.

  Args:
    lengths: maximum tokens of each part of a row, by config key.
    whose: how the message names the model.
  """
  longest = sum(lengths.values())
  if longest > config.max_position:
    raise ValueError(
      f"{' + '.join(lengths)} = {longest} is more than {whose}'s "
      f'{config.max_position} positions. Lower one of them.'
    )
