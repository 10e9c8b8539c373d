"""Adapters in PEFT's format: written, read, refused, and loaded by PEFT."""

import json

import flax.traverse_util as traverse
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from rlvr_jax import registry
from rlvr_jax.io import adapters, export, tokenizer
from rlvr_jax.models import lora, sharding, transformer

SPEC = 'tiny(family={}, layers=2, width=32, heads=4, kv_heads=2, vocab=259)'
MADE = lora.Lora(3, 12.0, lora.PLACES['all'])


def model(family='llama', made=MADE):
  config = registry.get('model', SPEC.format(family))()
  return transformer.Decoder(config, lora=made)


def weights(decoder, seed=0):
  """Random values for every parameter, adapters too."""
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  shapes, _ = sharding.params_shardings(decoder, mesh)
  rng = np.random.default_rng(seed)
  draw = lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32)
  return jax.tree.map(draw, shapes)


@pytest.fixture
def folder(tmp_path):
  decoder = model()
  out = tmp_path / 'adapter'
  adapters.write(out, decoder.config, MADE, weights(decoder), 'org/base')
  return out


@pytest.mark.parametrize(
  'made', [MADE, lora.of("lora(rank=2, alpha=1, on='q|v')")]
)
def test_what_is_written_is_read(made, tmp_path):
  decoder = model('qwen3', made)
  params = weights(decoder)
  adapters.write(tmp_path, decoder.config, made, params, 'org/base')
  read = adapters.read(tmp_path, decoder.config)
  assert read.lora == made
  want = lora.adapters(params)
  jax.tree.map(np.testing.assert_array_equal, read.params, want)
  said = json.loads((tmp_path / adapters.CONFIG).read_text())
  assert said['base_model_name_or_path'] == 'org/base'
  tensors = safetensors_numpy.load_file(tmp_path / adapters.WEIGHTS)
  name = 'base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight'
  assert tensors[name].shape == (32, made.rank)
  np.testing.assert_array_equal(
    tensors[name], params['layers']['block']['q'][lora.B][1].reshape(32, -1)
  )


def change(folder, **said):
  path = folder / adapters.CONFIG
  path.write_text(json.dumps(json.loads(path.read_text()) | said))


@pytest.mark.parametrize(
  ('said', 'why'),
  [
    ({'peft_type': 'IA3'}, "peft_type='IA3'"),
    ({'use_dora': True}, 'use_dora=True'),
    ({'use_rslora': True}, 'use_rslora=True'),
    ({'bias': 'all'}, "bias='all'"),
    ({'rank_pattern': {'q': 2}}, 'rank_pattern'),
    ({'modules_to_save': ['lm_head']}, 'modules_to_save'),
    ({'r': 0}, 'r=0'),
    ({'lora_alpha': 'x'}, "lora_alpha='x'"),
    ({'r': 2}, r'wrong shape: .* is \[3, 32\], not \[2, 32\]'),
  ],
)
def test_other_adapters_are_refused(folder, said, why):
  change(folder, **said)
  with pytest.raises(ValueError, match=why):
    adapters.read(folder, model().config)


def test_tensors_that_do_not_belong_are_refused(folder):
  path = folder / adapters.WEIGHTS
  tensors = safetensors_numpy.load_file(path)
  last = sorted(tensors)[-1]
  for bad, why in (
    (
      tensors | {'base_model.model.lm_head.lora_A.weight': tensors[last]},
      'unk',
    ),
    ({k: x for k, x in tensors.items() if k != last}, 'missing'),
    (tensors | {last: tensors[last] * np.float32('nan')}, 'NaN or infinite'),
  ):
    safetensors_numpy.save_file(bad, path)
    with pytest.raises(ValueError, match=why):
      adapters.read(folder, model().config)
  path.unlink()
  with pytest.raises(ValueError, match='pickled adapters are refused'):
    adapters.read(folder, model().config)
  with pytest.raises(ValueError, match=r'--format=peft'):
    adapters.read(folder.parent, model().config)
  (folder / 'other').write_text('')
  with pytest.raises(ValueError, match='holds other'):
    adapters.write(folder, model().config, MADE, weights(model()), '')


def test_merged_on_the_host_as_on_the_device(folder):
  decoder = model()
  params = weights(decoder)
  place = adapters.merging(
    lambda path, x: x, adapters.read(folder, decoder.config), 'float32'
  )
  flat = traverse.flatten_dict(lora.swap(params, None))
  host = {path: place(path, x) for path, x in flat.items()}
  device = traverse.flatten_dict(lora.merge(params, MADE))
  assert host.keys() == device.keys()
  for path, x in host.items():
    np.testing.assert_allclose(x, device[path], rtol=2e-6, atol=2e-7)


@pytest.mark.filterwarnings('ignore')  # of torch, transformers and peft
@pytest.mark.parametrize('family', ['llama', 'qwen2', 'qwen3'])
def test_peft_loads_it_with_equal_logits(family, tmp_path):
  """And what PEFT saves again is read with the same values."""
  torch = pytest.importorskip('torch')
  peft = pytest.importorskip('peft')
  transformers = pytest.importorskip('transformers')
  decoder = model(family)
  params = weights(decoder)
  base = lora.swap(params, None)
  export.export(tmp_path / 'base', decoder.config, base, tokenizer.byte_level())
  adapters.write(
    tmp_path / 'ours', decoder.config, MADE, params, str(tmp_path / 'base')
  )
  theirs = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'base', dtype='float32'
  )
  theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / 'ours')
  tokens = np.random.default_rng(1).integers(0, 259, (2, 20), dtype=np.int32)
  with torch.no_grad():
    got = theirs(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
  want = transformer.logits(params, tokens, model=decoder)
  plain = transformer.logits(base, tokens, model=decoder)
  assert np.abs(want - plain).max() > 0.01
  np.testing.assert_allclose(got, want, atol=1e-4, rtol=1e-4)
  theirs.save_pretrained(tmp_path / 'theirs')
  read = adapters.read(tmp_path / 'theirs', decoder.config)
  assert read.lora == MADE
  same = np.testing.assert_array_equal
  jax.tree.map(same, read.params, lora.adapters(params))
