import dataclasses

import pytest

from rlvr_jax import registry
from rlvr_jax.models import model_config
from rlvr_jax.models.model_config import Rope

HF = {
  'model_type': 'llama',
  'vocab_size': 64,
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
}
MODELS = [
  'tiny',
  'tiny(family="qwen3")',
  'smollm2_135m',
  'llama3.2_1b',
  'qwen2.5_0.5b',
  'qwen2.5_7b',
  'qwen3_1.7b',
  'olmo2_1b',
]


@pytest.mark.parametrize(
  ('name', 'count'),
  [  # as published, or summed over the tensors of the published files
    ('smollm2_135m', 134_515_008),
    ('qwen2.5_0.5b', 494_032_768),
    ('qwen2.5_1.5b', 1_543_714_304),
    ('qwen2.5_7b', 7_615_616_512),
    ('llama3.2_1b', 1_235_814_400),
    ('qwen3_1.7b', 1_720_574_976),
    ('olmo2_1b', 1_484_916_736),
  ],
)
def test_num_params_of_published_models(name, count):
  assert registry.get('model', name)().num_params == count


@pytest.mark.parametrize('name', MODELS)
def test_config_survives_hugging_face_json(name):
  config = registry.get('model', name)()
  assert model_config.from_hf(model_config.to_hf(config)) == config


@pytest.mark.parametrize(
  'rope',
  [
    Rope(theta=5e5, kind='linear', factor=4.0),
    Rope(theta=1e6, kind='yarn', factor=4.0, original_max_position=512),
    Rope(kind='yarn', factor=2.0, original_max_position=8, beta_fast=16.0),
    Rope(
      kind='yarn', factor=2.0, original_max_position=8, attention_factor=1.5
    ),
  ],
)
def test_rope_survives_hugging_face_json(rope):
  config = dataclasses.replace(registry.get('model', 'tiny')(), rope=rope)
  assert model_config.from_hf(model_config.to_hf(config)) == config


def test_both_spellings_of_rope_scaling():
  scaling = {
    'rope_type': 'llama3',
    'factor': 32.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 8192,
  }
  old = HF | {'rope_theta': 5e5, 'rope_scaling': scaling}
  new = HF | {'rope_parameters': scaling | {'rope_theta': 5e5}}
  want = registry.get('model', 'llama3.2_1b')().rope
  assert model_config.from_hf(old).rope == want
  assert model_config.from_hf(new).rope == want


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'model_type': 'gemma3'}, 'gemma3'),
    ({'hidden_act': 'gelu'}, 'hidden_act'),
    ({'use_sliding_window': True}, 'use_sliding_window'),
    ({'layer_types': ['sliding_attention']}, 'layer_types'),
    ({'quantization_config': {'bits': 4}}, 'quantization_config'),
    ({'rope_scaling': {'type': 'dynamic', 'factor': 2.0}}, 'dynamic'),
    ({'rope_scaling': {'type': 'llama3', 'factor': 2.0}}, 'low_freq_factor'),
    ({'rope_scaling': {'type': 'linear'}}, 'factor'),
    ({'rope_parameters': {'partial_rotary_factor': 0.5}}, 'partial_rotary'),
    ({'rope_parameters': {'full_attention': {}}}, 'one for all layers'),
    ({'num_key_value_heads': 3}, 'num_kv_heads=3'),
    ({'hidden_size': '32'}, 'hidden_size'),
    ({'hidden_size': 0}, 'hidden_size'),
    ({'num_attention_heads': None}, 'num_attention_heads'),
  ],
)
def test_refuses_what_it_would_compute_wrongly(change, words):
  with pytest.raises(ValueError, match=words):
    model_config.from_hf({**HF, **change})


def test_names_all_missing_keys():
  with pytest.raises(ValueError, match='hidden_size, intermediate_size'):
    model_config.from_hf({'model_type': 'llama', 'vocab_size': 8})


def test_unknown_family_names_the_nearest():
  with pytest.raises(ValueError, match="Did you mean 'llama'"):
    registry.get('model', "tiny(family='lama')")()
