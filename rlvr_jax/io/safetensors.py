"""Reads config and weights from the folder of a Hugging Face model.

Folders are untrusted: nothing in them is executed or unpickled.
"""

import contextlib
import json
import pathlib
import stat

import ml_dtypes  # noqa: F401 (teaches numpy the name 'bfloat16')
import numpy as np
import safetensors

from rlvr_jax.io import weight_names
from rlvr_jax.models import model_config
from rlvr_jax.models.model_config import ModelConfig

SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
_DTYPES = ('F64', 'F32', 'F16', 'BF16')
_MAX_JSON = 256 * 2**20  # bytes; the largest tokenizer.json is about 40 MB


def read_json(path: pathlib.Path) -> dict:
  """The JSON object in a file. ValueError if absent or too large."""
  try:
    value = json.loads(read_text(path))
    if not isinstance(value, dict):
      raise ValueError('no object')
  except FileNotFoundError:
    raise ValueError(
      f'{path.parent} holds no {path.name}: give the folder of a Hugging Face '
      'model, as save_pretrained or export writes it.'
    ) from None
  except (OSError, ValueError, RecursionError) as e:
    raise ValueError(f'{path} is no readable JSON object ({e}).') from e
  return value


def read_text(path: pathlib.Path) -> str:
  """The text of a file.

  Raises:
    ValueError: not a regular file (reading a pipe would not end), too large,
      or not UTF-8.
    OSError: it cannot be read.
  """
  info = path.stat()
  if not stat.S_ISREG(info.st_mode):
    raise ValueError('not a file')
  if info.st_size > _MAX_JSON:
    raise ValueError(f'more than {_MAX_JSON} bytes')
  return path.read_text(encoding='utf-8')


def read_config(folder: pathlib.Path) -> ModelConfig:
  """The ModelConfig of the folder's config.json."""
  hf = read_json(folder / 'config.json')
  try:
    return model_config.from_hf(hf)
  except ValueError as e:
    raise ValueError(f'{folder}: {e}') from e


def read_params(
  folder: pathlib.Path,
  config: ModelConfig,
  *,
  dtype: str = 'float32',
  place: weight_names.Place = weight_names.keep,
) -> dict:
  """The parameter tree of model.safetensors, in one file or in shards.

  Args:
    folder: of the model.
    config: of the model.
    dtype: of the result, 'float32' or 'bfloat16'.
    place: see `weight_names.assemble`.

  Raises:
    ValueError: no safetensors file (pickled weights are refused), a corrupt or
      truncated one, an index that names absent files or tensors, or tensors
      that are missing, unknown, misshaped or quantised.
  """
  with contextlib.ExitStack() as stack:
    tensors = _open(folder, stack)
    found = {n: tuple(s.get_shape()) for n, (_, s) in tensors.items()}
    found = {n: s for n, s in found.items() if not n.endswith('.inv_freq')}
    leaves = weight_names.leaves(config)
    expected = {
      leaf.hf.format(i): leaf.file_shape
      for leaf in leaves
      for i in leaf.layers()
    }
    embedding, head = 'model.embed_tokens.weight', 'lm_head.weight'
    spare_head = config.tied and found.get(head) == expected[embedding]
    if spare_head:
      del found[head]
    weight_names.check(expected, found, str(folder))
    odd = {
      n: s.get_dtype()
      for n, (_, s) in tensors.items()
      if n in found and s.get_dtype() not in _DTYPES
    }
    if odd:
      listed = weight_names.listed([f'{n} ({d})' for n, d in odd.items()])
      raise ValueError(
        f'{folder} has tensors of unknown type: {listed}. Known: '
        f'{", ".join(_DTYPES)}. Quantised weights must be dequantised first.'
      )

    def tensor(name):
      return tensors[name][0].get_tensor(name)

    if spare_head and not np.array_equal(tensor(head), tensor(embedding)):
      raise ValueError(
        f'{folder}: config.json ties the head to the embedding, but '
        f'{head} differs from {embedding}. Set tie_word_embeddings to false.'
      )
    return weight_names.assemble(
      config,
      lambda leaf, i: tensor(leaf.hf.format(i)),
      dtype=dtype,
      place=place,
      source=str(folder),
    )


def weight_map(folder: pathlib.Path) -> dict[str, str]:
  """{tensor: file} of the folder's index. ValueError if it has none."""
  where = read_json(folder / INDEX).get('weight_map')
  if not isinstance(where, dict) or not all(
    isinstance(f, str)
    and pathlib.PurePath(f).name == f
    and f.endswith('.safetensors')
    for f in where.values()
  ):
    raise ValueError(
      f'{folder / INDEX} needs a weight_map from tensors to .safetensors files '
      'beside it.'
    )
  return where


def _open(folder: pathlib.Path, stack: contextlib.ExitStack) -> dict:
  """{name: (open file, slice)} of all tensors. Reads headers only."""
  if (folder / SINGLE).is_file():
    file = open_file(folder / SINGLE, stack)
    return {n: (file, file.get_slice(n)) for n in file.keys()}  # noqa: SIM118
  if not (folder / INDEX).is_file():
    pickled = sorted(p.name for p in folder.glob('*.bin'))
    hint = 'Is this the folder of a whole model?'
    if pickled:
      hint = (
        f'{pickled[0]} is a pickle, which could run code and is refused: '
        'convert it with save_pretrained of transformers.'
      )
    raise ValueError(f'{folder} holds neither {SINGLE} nor {INDEX}. {hint}')
  where = weight_map(folder)
  shards = sorted(set(where.values()))
  absent = [s for s in shards if not (folder / s).is_file()]
  if absent:
    raise ValueError(
      f'{folder / INDEX} names files that are not there: '
      f'{weight_names.listed(absent)}. Download them again.'
    )
  files = {s: open_file(folder / s, stack) for s in shards}
  held = {s: set(file.keys()) for s, file in files.items()}
  lost = [f'{n} in {s}' for n, s in where.items() if n not in held[s]]
  if lost:
    raise ValueError(
      f'{folder / INDEX} names tensors that are not there: '
      f'{weight_names.listed(lost)}.'
    )
  return {n: (files[s], files[s].get_slice(n)) for n, s in where.items()}


def open_file(path: pathlib.Path, stack: contextlib.ExitStack):
  """An open safetensors file. ValueError if it is none, or cut short."""
  # The package checks the header: its size, offsets, and the file's length.
  try:
    return stack.enter_context(safetensors.safe_open(path, 'numpy'))
  except (safetensors.SafetensorError, OSError, ValueError) as e:
    raise ValueError(
      f'{path} is no whole safetensors file ({e}). Download it again.'
    ) from e
