"""Architectures of known models by name, without weights."""

from rlvr_jax import registry
from rlvr_jax.models import gemma_config
from rlvr_jax.models.model_config import ModelConfig, Rope
from rlvr_jax.models.model_config import _model as model


@registry.register('model', 'smollm2_135m')
def smollm2_135m() -> ModelConfig:
  """HuggingFaceTB/SmolLM2-135M(-Instruct)."""
  return model(
    'llama', 30, 576, 1536, 9, 3, 49_152, max_position=8192, theta=100_000.0
  )


@registry.register('model', 'smollm2_360m')
def smollm2_360m() -> ModelConfig:
  """HuggingFaceTB/SmolLM2-360M(-Instruct)."""
  return model(
    'llama', 32, 960, 2560, 15, 5, 49_152, max_position=8192, theta=100_000.0
  )


@registry.register('model', 'llama3.2_1b')
def llama32_1b() -> ModelConfig:
  """meta-llama/Llama-3.2-1B(-Instruct)."""
  rope = Rope(
    theta=500_000.0, kind='llama3', factor=32.0, original_max_position=8192
  )
  return model(
    'llama',
    16,
    2048,
    8192,
    32,
    8,
    128_256,
    max_position=131_072,
    rope=rope,
  )


def _qwen25(layers, width, mlp, heads, kv_heads, vocab, tied) -> ModelConfig:
  return model(
    'qwen2',
    layers,
    width,
    mlp,
    heads,
    kv_heads,
    vocab,
    max_position=32_768,
    theta=1_000_000.0,
    norm_eps=1e-6,
    tied=tied,
  )


@registry.register('model', 'qwen2.5_0.5b')
def qwen25_05b() -> ModelConfig:
  """Qwen/Qwen2.5-0.5B."""
  return _qwen25(24, 896, 4864, 14, 2, 151_936, True)


@registry.register('model', 'qwen2.5_1.5b')
def qwen25_15b() -> ModelConfig:
  """Qwen/Qwen2.5-1.5B."""
  return _qwen25(28, 1536, 8960, 12, 2, 151_936, True)


@registry.register('model', 'qwen2.5_7b')
def qwen25_7b() -> ModelConfig:
  """Qwen/Qwen2.5-7B."""
  return _qwen25(28, 3584, 18_944, 28, 4, 152_064, False)


@registry.register('model', 'qwen3_1.7b')
def qwen3_17b() -> ModelConfig:
  """Qwen/Qwen3-1.7B."""
  return model(
    'qwen3',
    28,
    2048,
    6144,
    16,
    8,
    151_936,
    head_dim=128,
    max_position=40_960,
    theta=1_000_000.0,
    norm_eps=1e-6,
  )


@registry.register('model', 'qwen3_8b')
def qwen3_8b() -> ModelConfig:
  """Qwen/Qwen3-8B."""
  return model(
    'qwen3',
    36,
    4096,
    12_288,
    32,
    8,
    151_936,
    head_dim=128,
    max_position=40_960,
    theta=1_000_000.0,
    norm_eps=1e-6,
    tied=False,
  )


@registry.register('model', 'olmo2_1b')
def olmo2_1b() -> ModelConfig:
  """allenai/OLMo-2-0425-1B."""
  return model(
    'olmo2',
    16,
    2048,
    8192,
    16,
    16,
    100_352,
    max_position=4096,
    theta=500_000.0,
    norm_eps=1e-6,
    tied=False,
  )


def _gemma3(layers, width, mlp) -> ModelConfig:
  return model(
    'gemma3_text',
    layers,
    width,
    mlp,
    4,
    1,
    262_144,
    head_dim=256,
    query_size=256,
    max_position=32_768,
    theta=1_000_000.0,
    norm_eps=1e-6,
    sliding=gemma_config.pattern(layers),
    window=512,
    local_rope=Rope(theta=gemma_config.LOCAL_THETA),
  )


@registry.register('model', 'gemma3_270m')
def gemma3_270m() -> ModelConfig:
  """google/gemma-3-270m(-it)."""
  return _gemma3(18, 640, 2048)


@registry.register('model', 'gemma3_1b')
def gemma3_1b() -> ModelConfig:
  """google/gemma-3-1b-pt, -it."""
  return _gemma3(26, 1152, 6912)
