"""Malformed model folders are read or refused by a ValueError, nothing else."""

import copy
import json
import os
import pathlib
import random

import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.io import chat_template, export, load, tokenizer, weight_names
from rlvr_jax.models import layers, transformer

SCALING = {
  'rope_type': 'llama3',
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 32,
}
VALUES = (
  *(None, True, False, 0, 1, -1, 3, 7, 10**9, 10**18, 2**63, -(10**9), 10**400),
  *(0.0, -0.0, 0.5, 1e-300, 1e300, -1.5),
  *(float('nan'), float('inf'), float('-inf')),
  *('', 'x', '7', 'nan', '<|im_end|>', '\ud800', 'a' * 5000, '{{ x', '..'),
  *([], [1], ['x'], [[]], [None], {}, {'a': 1}, {'content': 7}),
  *({'type': 'x'}, {'default': '{{ messages[0].role }}'}),
  *([{'name': 'default', 'template': 7}], [{'name': 7}], [{'template': 'x'}]),
  *('yarn', 'linear', 'dynamic', 'gelu', 'qwen3', 'olmo2', 'qwen2'),
)
LARGE = r'takes (more|longer)'
SHARDED = 'model.safetensors.index.json'
Q = '{{ messages[0].content }}'
GROW = (
  "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
  '{% set ns.x = GROWN %}{% endfor %}' + Q
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A model with all files that are read."""
  where = tmp_path_factory.mktemp('models') / 'm'
  config = registry.get('model', 'tiny(width=16, vocab=259)')()
  rng = np.random.default_rng(0)
  params = weight_names.assemble(
    config,
    lambda leaf, i: rng.standard_normal(leaf.file_shape, dtype=np.float32),
    dtype='float32',
    place=weight_names.keep,
  )
  export.export(
    where, config, params, tokenizer.byte_level(), shard_bytes=10_000
  )
  file = where / 'config.json'
  more = {
    'rope_scaling': SCALING,
    'rope_parameters': None,
    'layer_types': None,
    'use_sliding_window': False,
    'partial_rotary_factor': 1.0,
    'quantization_config': None,
  }
  file.write_text(json.dumps(json.loads(file.read_text()) | more))
  return where


def places(value, at=()):
  """The paths of all items in a value; of long lists, of the first few."""
  yield at
  items = ()
  if isinstance(value, dict):
    items = list(value.items())[:40]
  elif isinstance(value, list):
    items = list(enumerate(value))[:3]
  for key, inner in items:
    yield from places(inner, (*at, key))


def changed(value, at, new):
  """A copy with `new` at a path; without that key if it is ...."""
  if not at:
    return {} if new is ... else new
  out = copy.deepcopy(value)
  inner = out
  for key in at[:-1]:
    inner = inner[key]
  inner[at[-1]] = new
  if new is ...:
    del inner[at[-1]]
  return out


def mutate(rng, text):
  """JSON with one item replaced."""
  value = json.loads(text)
  at = rng.choice(list(places(value)))
  kind = rng.random()
  if kind < 0.75:
    return json.dumps(changed(value, at, rng.choice(VALUES)))
  if kind < 0.85:
    return json.dumps(changed(value, at, ...))
  k = rng.randrange(len(text))
  return {
    0: text[:k],
    1: text[:k] + rng.choice('{}[],:"\\\0x9') + text[k + 1 :],
    2: json.dumps(changed(value, at, '@')).replace(
      '"@"', '[' * 5000 + ']' * 5000
    ),
  }[rng.randrange(3)]


def tried(folder):
  """The exception of loading and using a model; None if it succeeds."""
  try:
    loaded = load.load(str(folder))
    config, tok = loaded.config, loaded.tokenizer
    freq, scale = layers.rope_frequencies(config.rope, config.head_dim)
    assert np.isfinite([*freq, scale]).all()
    if tok.chat_template:
      tok.encode_chat('How <|im_end|> many?')
    tok.encode_answer('4')
  except Exception as e:
    return e


@pytest.mark.parametrize(
  'name',
  [
    'config.json',
    'tokenizer_config.json',
    'generation_config.json',
    'tokenizer.json',
    SHARDED,
  ],
)
def test_any_change_is_read_or_refused(name, folder):
  assert tried(folder) is None
  rng = random.Random(name)
  file = folder / name
  before, refused = file.read_text(), 0
  for _ in range(60):
    text = mutate(rng, before)
    file.write_text(text)
    error = tried(folder)
    file.write_text(before)
    assert type(error) in (ValueError, type(None)), (text[:300], error)
    if error:
      assert str(folder) in str(error), text[:300]
      assert len(str(error)) < 2000, text[:300]
      refused += 1
  assert refused > 10


@pytest.mark.parametrize('name', ['config.json', 'tokenizer.json'])
@pytest.mark.parametrize('text', ['[1]', '[]', '3', 'null', '', '{', '\x00'])
def test_files_that_hold_no_object(name, text, folder):
  file = folder / name
  before = file.read_text()
  try:
    file.write_text(text)
    with pytest.raises(ValueError, match=str(file)):
      load.load(str(folder))
  finally:
    file.write_text(before)


@pytest.mark.parametrize(
  'name', ['config.json', 'tokenizer.json', 'chat_template.jinja', 'm.gguf']
)
@pytest.mark.parametrize('make', [pathlib.Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_waited_for(name, make, folder):
  file = folder / name
  before = file.read_text() if file.exists() else None
  file.unlink(missing_ok=True)
  make(file)
  try:
    with pytest.raises(ValueError, match=str(folder)):
      load.load(str(file if name == 'm.gguf' else folder))
  finally:
    file.rmdir() if file.is_dir() else file.unlink()
    if before is not None:
      file.write_text(before)


CONFIGS = [
  ({'rms_norm_eps': 'x'}, "rms_norm_eps='x'"),
  ({'rms_norm_eps': float('nan')}, 'rms_norm_eps=nan'),
  ({'rms_norm_eps': 0}, 'rms_norm_eps=0'),
  ({'rope_theta': 0}, 'rope_theta=0'),
  ({'rope_theta': -1e4}, 'rope_theta=-1'),
  ({'rope_theta': float('inf')}, 'rope_theta=inf'),
  ({'rope_theta': True}, 'rope_theta=True'),
  ({'num_hidden_layers': 10**9}, 'num_hidden_layers=1000000000'),
  ({'hidden_size': 10**9}, 'hidden_size=1000000000'),
  ({'vocab_size': 10**9}, 'vocab_size=1000000000'),
  ({'num_attention_heads': 10**9}, 'num_attention_heads=1000000000'),
  ({'vocab_size': 10**7}, 'wrong shape'),  # not that of its weights
  ({'num_hidden_layers': 10**4}, 'missing: model.layers.10.'),
  ({'num_attention_heads': 3, 'num_key_value_heads': 2}, 'no multiple'),
  ({'model_type': ['llama']}, 'model_type'),
  ({'tie_word_embeddings': 'yes'}, 'not true or false'),
  ({'attention_bias': 1}, 'not true or false'),
  ({'rope_scaling': SCALING | {'factor': 0}}, 'factor=0'),
  ({'rope_scaling': SCALING | {'high_freq_factor': 1.0}}, 'must be below'),
  ({'rope_scaling': [1]}, 'one for all layers'),
  ({'rope_scaling': {'type': ['yarn']}}, 'RoPE type'),
  ({'layer_types': 3}, 'layer_types=3'),
]


@pytest.mark.parametrize(('change', 'says'), CONFIGS)
def test_configs_that_would_compute_nonsense(change, says, folder):
  file = folder / 'config.json'
  before = file.read_text()
  try:
    file.write_text(json.dumps(json.loads(before) | change))
    with pytest.raises(ValueError, match=says) as e:
      load.load(str(folder))
    assert str(folder) in str(e.value)
    assert len(str(e.value)) < 3000
  finally:
    file.write_text(before)


@pytest.mark.parametrize(
  'change',
  [
    {'rope_theta': 1e30, 'rope_scaling': None},
    {'rope_theta': 1.001, 'rms_norm_eps': 1e-30, 'rope_scaling': None},
    {'rope_scaling': SCALING | {'factor': 1e6}, 'initializer_range': 0},
    {
      'rope_scaling': {
        'type': 'yarn',
        'factor': 1e6,
        'original_max_position_embeddings': 1,
      }
    },
  ],
)
def test_what_is_read_computes_finite_numbers(change, folder):
  file = folder / 'config.json'
  before = file.read_text()
  try:
    file.write_text(json.dumps(json.loads(before) | change))
    loaded = load.load(str(folder))
  finally:
    file.write_text(before)
  model = transformer.Decoder(loaded.config)
  tokens = jnp.array([[1, 2, 3, 4]])
  logits = transformer.logits(loaded.params, tokens, model=model)
  assert np.isfinite(logits).all()


TOKENIZERS = [
  ({'eos_token': 7}, 'eos_token is 7, which must be a string'),
  ({'eos_token': {'content': 7}}, 'eos_token is 7'),
  ({'pad_token': {}}, 'pad_token is None'),
  ({'eos_token': '\ud800'}, 'must be a string'),
  ({'chat_template': 7}, 'chat_template is 7'),
  ({'chat_template': {'rag': 'x'}}, 'no template named default'),
  ({'chat_template': [{'name': 'rag', 'template': 'x'}]}, 'named default'),
  ({'chat_template': [7]}, 'chat_template: name is None'),
  ({'chat_template': 'Hello'}, 'drops the question'),
  ({'chat_template': '{{ messages[0].content }'}, 'TemplateSyntaxError'),
  ({'chat_template': '{% for a in [1] %}' * 30 + '{% endfor %}' * 30}, 'nested'),
  ({'chat_template': '{{ ' + '[' * 9999 + ']' * 9999 + ' }}'}, 'Recursion'),
  ({'chat_template': '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'},
   'RecursionError'),
  ({'chat_template': GROW.replace('GROWN', 'ns.x ~ ns.x')}, LARGE),
  ({'chat_template': GROW.replace('GROWN', 'ns.x + ns.x')}, LARGE),
  ({'chat_template': GROW.replace('GROWN', "ns.x | replace('a', ns.x)")},
   LARGE),
  ({'chat_template': '{{ [1] | batch(1000000000, 1) | list }}' + Q},
   LARGE),
  # Constants are folded at compilation, not when rendered.
  ({'chat_template': "{{ 'a'" + "| replace('a', 'aaaaaaaaaa')" * 40 + '}}' + Q},
   LARGE),
  ({'chat_template': '{% for a in messages[0].content * 99 %}' * 4
    + '{% endfor %}' * 4 + Q}, 'longer than 1 s'),
]  # fmt: skip


@pytest.mark.parametrize(('change', 'says'), TOKENIZERS)
def test_tokenizers_that_would_not_work(change, says, folder, monkeypatch):
  monkeypatch.setattr(chat_template, 'LIMIT_S', 1.0)
  file = folder / 'tokenizer_config.json'
  before = file.read_text()
  try:
    file.write_text(json.dumps(json.loads(before) | change))
    with pytest.raises(ValueError, match=says) as e:
      load.load(str(folder))
    assert str(folder) in str(e.value)
  finally:
    file.write_text(before)


def test_a_template_that_works_at_first_is_bounded_later(folder, monkeypatch):
  monkeypatch.setattr(chat_template, 'LIMIT_S', 1.0)
  grow = GROW.replace('GROWN', 'ns.x ~ ns.x').removesuffix(Q)
  long = '{% if messages[0].content | length > 99 %}' + grow + '{% endif %}' + Q
  file = folder / 'tokenizer_config.json'
  before = file.read_text()
  try:
    file.write_text(json.dumps(json.loads(before) | {'chat_template': long}))
    tok = load.load(str(folder)).tokenizer
  finally:
    file.write_text(before)
  assert tok.encode_chat('short') == list(b'short')
  with pytest.raises(ValueError, match=LARGE):
    tok.encode_chat('long' * 99)
