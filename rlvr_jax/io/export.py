"""Writes a model as a Hugging Face folder."""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

import numpy as np
from safetensors import numpy as safetensors_numpy

from rlvr_jax.io import safetensors, weight_names
from rlvr_jax.io.tokenizer import Tokenizer
from rlvr_jax.models import model_config
from rlvr_jax.models.model_config import ModelConfig

_SHARD_BYTES = 5 * 10**9
_OURS = re.compile(
  r'config\.json|generation_config\.json|tokenizer(_config)?\.json'
  r'|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json'
)


def export(
  folder: pathlib.Path | str,
  config: ModelConfig,
  params: dict,
  tokenizer: Tokenizer,
  *,
  shard_bytes: int = _SHARD_BYTES,
) -> None:
  """Writes config, weights and tokenizer so that transformers loads them.

  All files are written beside `folder` and moved there at the end: it holds a
  complete model or nothing. An earlier export in it is replaced.

  Args:
    folder: the destination.
    config: of the model.
    params: the parameter tree, numpy or JAX arrays; their dtype is kept.
    tokenizer: of the model.
    shard_bytes: most bytes in a safetensors file, unless one tensor has more.

  Raises:
    ValueError: `folder` holds other files, the parameters are not those of
      `config`, or the tokenizer has more tokens than the model.
  """
  folder = pathlib.Path(os.path.abspath(folder))
  _refuse_others(folder)
  _check(config, params)
  tokenizer.must_fit(config.vocab_size, 'The export')
  folder.parent.mkdir(parents=True, exist_ok=True)
  # Hidden names, so that they are not mistaken for the result.
  new = folder.with_name(f'.{folder.name}.new-{os.getpid()}')
  old = folder.with_name(f'.{folder.name}.old-{os.getpid()}')
  new.mkdir()
  try:
    dtype = _write_weights(new, config, params, shard_bytes)
    ends = tokenizer.end_ids
    ids = {
      'bos_token_id': tokenizer.bos_id,
      'eos_token_id': ends[0] if len(ends) == 1 else list(ends),
      'pad_token_id': tokenizer.pad_id,
    }
    hf = model_config.to_hf(config) | ids | {'torch_dtype': dtype}
    _write_json(new / 'config.json', hf)
    _write_json(new / 'generation_config.json', ids)
    tokenizer.save(new)
    for path in new.glob('*.safetensors'):  # written with mode 0600
      shutil.copymode(new / 'config.json', path)
    if folder.exists():
      folder.rename(old)
    try:
      new.rename(folder)
    except OSError:
      if old.exists():
        old.rename(folder)
      raise
    shutil.rmtree(old, ignore_errors=True)
  finally:
    shutil.rmtree(new, ignore_errors=True)


def _refuse_others(folder: pathlib.Path):
  if not folder.exists():
    return
  others = [folder.name]
  if folder.is_dir():
    others = [p.name for p in folder.iterdir() if not _OURS.fullmatch(p.name)]
  if others:
    raise ValueError(
      f'{folder} holds {", ".join(sorted(others)[:5])}, which no export wrote. '
      'Choose an empty or a new folder.'
    )


def _leaf(params: dict, path: tuple[str, ...]):
  for key in path:
    params = params[key]
  return params


def _flatten(
  tree, path=()
) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
  if not isinstance(tree, dict):
    yield path, tuple(tree.shape)
    return
  for key, value in tree.items():
    yield from _flatten(value, (*path, key))


def _check(config: ModelConfig, params: dict):
  expected = {}
  for leaf in weight_names.leaves(config):
    stacked = (leaf.num_layers,) if leaf.num_layers else ()
    expected['/'.join(leaf.path)] = stacked + leaf.shape
  found = {'/'.join(path): shape for path, shape in _flatten(params)}
  weight_names.check(expected, found, 'The parameter tree')


def _write_weights(folder, config, params, shard_bytes) -> str:
  """Writes model*.safetensors; returns the dtype's name.

  The host holds one shard and one leaf at a time.
  """
  shards, where, total = [{}], {}, 0

  def flush():
    path = folder / f'shard-{len(shards)}'
    safetensors_numpy.save_file(shards[-1], path, metadata={'format': 'pt'})
    shards[-1] = list(shards[-1])  # the names only
    shards.append({})

  held = 0
  for leaf in weight_names.leaves(config):
    host = np.asarray(_leaf(params, leaf.path))
    for i in leaf.layers():
      x = (host[i] if leaf.num_layers else host).reshape(leaf.file_shape)
      if held and held + x.nbytes > shard_bytes:
        flush()
        held = 0
      shards[-1][leaf.hf.format(i)] = np.ascontiguousarray(x)
      held += x.nbytes
      total += x.nbytes
  flush()
  shards.pop()
  for i, held_names in enumerate(shards, 1):
    name = f'model-{i:05d}-of-{len(shards):05d}.safetensors'
    name = safetensors.SINGLE if len(shards) == 1 else name
    (folder / f'shard-{i}').rename(folder / name)
    where |= dict.fromkeys(held_names, name)
  if len(shards) > 1:
    index = {'metadata': {'total_size': total}, 'weight_map': where}
    _write_json(folder / safetensors.INDEX, index)
  return host.dtype.name


def _write_json(path: pathlib.Path, value: dict):
  path.write_text(json.dumps(value, indent=2) + '\n', 'utf-8')
