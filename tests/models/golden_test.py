"""The decoder against logits that transformers computed.

scripts/make_golden_logits.py made the folders in tests/goldens, which cover
the five families, tied and untied heads, grouped queries, biases, windows, and
every kind of RoPE.
"""

import functools
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from rlvr_jax.io import export, safetensors, tokenizer
from rlvr_jax.models import transformer

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDENS = ROOT / 'tests' / 'goldens'
NAMES = sorted(p.name for p in GOLDENS.iterdir() if p.is_dir())


def _logits(folder, tokens):
  config = safetensors.read_config(folder)
  params = safetensors.read_params(folder, config)
  model = transformer.Decoder(config)
  logits = functools.partial(transformer.logits, model=model)
  return np.asarray(jax.jit(logits)(params, tokens))


@pytest.fixture(scope='module')
def script():
  """scripts/make_golden_logits.py, where its packages are installed."""
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  path = ROOT / 'scripts' / 'make_golden_logits.py'
  spec = importlib.util.spec_from_file_location('make_golden_logits', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('name', NAMES)
def test_logits_equal_those_of_transformers(name):
  golden = np.load(GOLDENS / name / 'golden.npz')
  got = _logits(GOLDENS / name, golden['tokens'])
  np.testing.assert_allclose(got, golden['logits'], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('name', NAMES)
def test_num_params_counts_the_tensors_of_the_file(name):
  config = safetensors.read_config(GOLDENS / name)
  params = safetensors.read_params(GOLDENS / name, config)
  total = sum(x.size for x in jax.tree.leaves(params))
  assert config.num_params == total


def test_goldens_stay_small():
  files = [p for p in GOLDENS.rglob('*') if p.is_file()]
  assert sum(p.stat().st_size for p in files) < 700_000


@pytest.mark.filterwarnings('ignore')  # of torch and transformers
@pytest.mark.parametrize('name', NAMES)
def test_live_logits_equal_and_transformers_loads_the_export(
  name, script, tmp_path
):
  import transformers

  theirs = script.build(name, seed=7, vocab_size=259)
  theirs.save_pretrained(tmp_path / 'theirs')
  tokens = np.random.default_rng(7).integers(0, 259, (2, 40), dtype=np.int32)
  want = script.logits(theirs, tokens)
  got = _logits(tmp_path / 'theirs', tokens)
  np.testing.assert_allclose(got, want, atol=1e-4, rtol=1e-4)

  config = safetensors.read_config(tmp_path / 'theirs')
  params = safetensors.read_params(tmp_path / 'theirs', config)
  export.export(tmp_path / 'ours', config, params, tokenizer.byte_level())
  again = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'ours', dtype='float32'
  )
  np.testing.assert_array_equal(script.logits(again, tokens), want)


@pytest.mark.filterwarnings('ignore')
def test_transformers_reads_our_tokenizer(tmp_path):
  transformers = pytest.importorskip('transformers')
  ours = tokenizer.byte_level()
  ours.save(tmp_path)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  text = 'Solve 12 + 34 = ?\n\té'
  assert theirs(text)['input_ids'] == ours.encode(text)
  assert theirs.eos_token_id == ours.end_ids[0]
  messages = [{'role': 'user', 'content': text}]
  ids = theirs.apply_chat_template(messages, add_generation_prompt=True)
  assert list(ids['input_ids']) == ours.encode_chat(text)
