"""Writes tests/goldens: tiny random models, their logits by transformers.

  pip install torch transformers
  python scripts/make_golden_logits.py [FOLDER]

Each folder is a Hugging Face model of two or three layers in bfloat16, with
tokens and float32 logits in golden.npz. Every parameter is random, norms and
biases too, so that a dropped or swapped one changes the logits. Tests compare
the decoder with these files, and with fresh ones if torch and transformers are
installed.
"""

import pathlib
import sys

import numpy as np

SHAPE = {
  'vocab_size': 64,
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'max_position_embeddings': 64,
  'bos_token_id': None,
  'eos_token_id': None,
  'pad_token_id': None,
}
# name -> (transformers class prefix, config). Pretraining contexts are shorter
# than the 24 tokens, so that RoPE scaling matters.
CASES = {
  'llama_llama3': (
    'Llama',
    {
      'tie_word_embeddings': True,
      'rope_parameters': {
        'rope_type': 'llama3',
        'rope_theta': 100.0,
        'factor': 8.0,
        'low_freq_factor': 1.0,
        'high_freq_factor': 4.0,
        'original_max_position_embeddings': 16,
      },
    },
  ),
  'llama_linear_biased': (
    'Llama',
    {
      'tie_word_embeddings': False,
      'attention_bias': True,
      'mlp_bias': True,
      'rope_parameters': {
        'rope_type': 'linear',
        'rope_theta': 10_000.0,
        'factor': 4.0,
      },
    },
  ),
  'qwen2_tied': ('Qwen2', {'tie_word_embeddings': True}),
  'qwen2_yarn': (
    'Qwen2',
    {
      'tie_word_embeddings': False,
      'rope_parameters': {
        'rope_type': 'yarn',
        'rope_theta': 1_000_000.0,
        'factor': 4.0,
        'original_max_position_embeddings': 16,
      },
    },
  ),
  'qwen3_tied': ('Qwen3', {'tie_word_embeddings': True, 'head_dim': 16}),
  'qwen3_untied': (
    'Qwen3',
    {'tie_word_embeddings': False, 'head_dim': 8, 'rms_norm_eps': 1e-3},
  ),
  'olmo2_untied': ('Olmo2', {'tie_word_embeddings': False}),
  'olmo2_tied': (
    'Olmo2',
    {'tie_word_embeddings': True, 'num_key_value_heads': 4},
  ),
  # Layers that slide and one that does not, with a RoPE of their own.
  'gemma3': (
    'Gemma3Text',
    {
      'num_hidden_layers': 3,
      'layer_types': [
        'sliding_attention',
        'full_attention',
        'sliding_attention',
      ],
      'sliding_window': 6,
      'head_dim': 16,
      'query_pre_attn_scalar': 24,
      'rope_parameters': {
        'sliding_attention': {'rope_type': 'default', 'rope_theta': 100.0},
        'full_attention': {
          'rope_type': 'linear',
          'rope_theta': 10_000.0,
          'factor': 4.0,
        },
      },
    },
  ),
}


def build(name: str, seed: int, **extra):
  """The random model of a case; float32 parameters with bfloat16 values."""
  import torch
  import transformers

  family, options = CASES[name]
  config = getattr(transformers, f'{family}Config')(**SHAPE | options | extra)
  name = f'{family.removesuffix("Text")}ForCausalLM'
  model = getattr(transformers, name)(config)
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for key, p in sorted(model.named_parameters()):
      noise = torch.randn(p.shape, generator=generator)
      noise = 1 + 0.3 * noise if 'norm' in key else 0.3 * noise
      p.copy_(noise.to(torch.bfloat16))
  return model.eval()


def logits(model, tokens: np.ndarray) -> np.ndarray:
  """f32[B,T,V] of i32[B,T], computed in float32."""
  import torch

  with torch.no_grad():
    out = model(torch.from_numpy(tokens).long())
  return out.logits.numpy()


def main(folder: pathlib.Path) -> None:
  """Writes all cases to `folder`."""
  for seed, name in enumerate(CASES):
    model = build(name, seed)
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, SHAPE['vocab_size'], (2, 24), dtype=np.int32)
    expected = logits(model, tokens)
    # After the logits: it rounds the RoPE frequencies as well.
    model.bfloat16().save_pretrained(
      folder / name,
      max_shard_size='30KB' if name == 'olmo2_untied' else '1GB',
    )
    (folder / name / 'generation_config.json').unlink()
    np.savez_compressed(
      folder / name / 'golden.npz', tokens=tokens, logits=expected
    )


if __name__ == '__main__':
  here = pathlib.Path(__file__).resolve().parent.parent / 'tests' / 'goldens'
  main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here)
