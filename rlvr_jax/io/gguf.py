"""Reads metadata and weights of GGUF, the single-file format of llama.cpp.

The `gguf` package dequantises. The header is parsed here, as the package makes
an array object for each string of the vocabulary, which takes seconds. Format:
github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import dataclasses
import math
import mmap
import pathlib
import struct
from typing import NamedTuple

import numpy as np

from rlvr_jax.io import weight_names
from rlvr_jax.models import config_values, gemma_config
from rlvr_jax.models import layers as layers_lib
from rlvr_jax.models.model_config import FAMILIES, ModelConfig, Rope

# Names of architectures in files -> families.
FAMILIES_READ = {
  'llama': 'llama',
  'qwen2': 'qwen2',
  'qwen3': 'qwen3',
  'gemma3': 'gemma3_text',
}
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), 'BbHhIif?Qqd'))
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32
_FACTORS = 'rope_freqs.weight'


class Tensor(NamedTuple):
  """Where a tensor lies in the file."""

  shape: tuple[int, ...]  # slowest axis first, as in numpy
  kind: int  # the package's GGMLQuantizationType
  offset: int  # bytes from the start of the file
  size: int  # bytes


class Gguf(NamedTuple):
  """The header of a file."""

  path: pathlib.Path
  meta: dict
  tensors: dict[str, Tensor]


def read(path: pathlib.Path) -> Gguf:
  """Metadata and positions of the tensors, without reading weights.

  Raises:
    ValueError: no GGUF file, another version, or a truncated one.
  """
  if path.exists() and not path.is_file():  # reading a pipe would not end
    raise ValueError(f'{path} is no file.')
  try:
    with (
      open(path, 'rb') as f,
      mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as b,
    ):
      return _parse(pathlib.Path(path), b)
  except FileNotFoundError:
    raise ValueError(f'{path} does not exist.') from None
  except (OSError, ValueError, struct.error, RecursionError) as e:
    raise ValueError(
      f'{path} is no whole GGUF file of version 2 or 3 ({e}).'
    ) from e


def _parse(path: pathlib.Path, b: mmap.mmap) -> Gguf:
  from gguf import constants

  at = 0

  def scalar(fmt):
    nonlocal at
    value = struct.unpack_from('<' + fmt, b, at)[0]
    at += struct.calcsize('<' + fmt)
    return value

  def claim(size):  # the file is untrusted: a count may be too large
    if size > len(b) - at:
      raise ValueError('cut short')

  def string():
    nonlocal at
    size = scalar('Q')
    claim(size)
    at += size
    return b[at - size : at].decode('utf-8', errors='replace')

  def value(kind):
    nonlocal at
    if kind == _STRING:
      return string()
    if kind == _ARRAY:
      inner, count = scalar('I'), scalar('Q')
      claim(count)
      if inner in _SCALARS:
        fmt = f'<{count}{_SCALARS[inner]}'
        claim(struct.calcsize(fmt))
        at += struct.calcsize(fmt)
        return list(struct.unpack_from(fmt, b, at - struct.calcsize(fmt)))
      return [value(inner) for _ in range(count)]
    if kind not in _SCALARS:
      raise ValueError(f'unknown value type {kind}')
    return scalar(_SCALARS[kind])

  if b[:4] != b'GGUF':
    raise ValueError('wrong first bytes')
  at = 4
  version, num_tensors, num_values = scalar('I'), scalar('Q'), scalar('Q')
  if version not in (2, 3):
    raise ValueError(f'version {version}')
  claim(num_values)
  meta = {}
  for _ in range(num_values):
    key = string()
    meta[key] = value(scalar('I'))
  claim(num_tensors)
  infos = []
  for _ in range(num_tensors):
    name, rank = string(), scalar('I')
    claim(8 * rank)
    shape = tuple(scalar('Q') for _ in range(rank))[::-1]
    infos.append((name, shape, scalar('I'), scalar('Q')))
  align = meta.get('general.alignment', _ALIGNMENT)
  if not isinstance(align, int) or align < 1:
    raise ValueError(f'alignment {align!r}')
  start = -(-at // align) * align
  tensors = {}
  for name, shape, kind, offset in infos:
    block, block_size = constants.GGML_QUANT_SIZES[
      constants.GGMLQuantizationType(kind)
    ]
    size = math.prod(shape) // block * block_size
    if start + offset + size > len(b):
      raise ValueError(f'tensor {name} ends beyond the file')
    tensors[name] = Tensor(shape, kind, start + offset, size)
  return Gguf(path, meta, tensors)


def config(file: Gguf) -> ModelConfig:
  """The ModelConfig of the metadata.

  Raises:
    ValueError: an architecture or a variant that the decoder does not support,
      or missing keys.
  """
  meta = file.meta
  name = meta.get('general.architecture')
  if not isinstance(name, str) or name not in FAMILIES_READ:
    raise ValueError(
      f'{file.path} has architecture {name!r:.60}; GGUF files are read for '
      f'{", ".join(FAMILIES_READ)}.'
    )
  family = FAMILIES_READ[name]

  def size(key, most, default=0):
    return config_values.whole(meta, f'{name}.{key}', most, default, file.path)

  def real(key, default, low, high):
    return config_values.real(
      meta, f'{name}.{key}', default, low, high, file.path
    )

  needed = (
    'embedding_length',
    'block_count',
    'feed_forward_length',
    'attention.head_count',
    'context_length',
    'attention.layer_norm_rms_epsilon',
  )
  lacking = [k for k in needed if f'{name}.{k}' not in meta]
  if lacking:
    raise ValueError(f'{file.path} lacks {name}.{f", {name}.".join(lacking)}.')
  width = size('embedding_length', 'width')
  heads = size('attention.head_count', 'heads')
  head_dim = size('attention.key_length', 'width', width // heads)
  gemma = family == 'gemma3_text'
  refused = [
    f'{name}.{key}={meta[f"{name}.{key}"]!r:.60}'
    for key, only in (
      ('rope.scaling.type', ('none',)),
      ('expert_count', (0,)),
      *((('attention.sliding_window', (0,)),) if not gemma else ()),
      # What llama.cpp takes, and what files of it were made with.
      ('attention.sliding_window_pattern', (gemma_config.PATTERN,)),
      ('rope.local.freq_base', (gemma_config.LOCAL_THETA,)),
      ('attn_logit_softcapping', (0.0,)),
      ('final_logit_softcapping', (0.0,)),
      ('rope.dimension_count', (head_dim,)),
      ('attention.value_length', (head_dim,)),
    )
    if f'{name}.{key}' in meta and meta[f'{name}.{key}'] not in only
  ]
  if refused:
    raise ValueError(
      f'{file.path} has {", ".join(refused)}, which is not supported in GGUF '
      "files: use the model's Hugging Face folder."
    )
  if 'token_embd.weight' not in file.tensors:
    raise ValueError(f'{file.path} lacks the tensor token_embd.weight.')
  fixed = FAMILIES[family] | {
    'qkv_bias': 'blk.0.attn_q.bias' in file.tensors,
    'out_bias': 'blk.0.attn_output.bias' in file.tensors,
    'mlp_bias': 'blk.0.ffn_gate.bias' in file.tensors,
  }
  if not (embedding := file.tensors['token_embd.weight'].shape):
    raise ValueError(f'{file.path}: token_embd.weight is a single number.')
  rope = Rope(theta=real('rope.freq_base', 10_000.0, 1.001, 1e30))
  layers = size('block_count', 'layers')
  if gemma:
    fixed |= {
      'sliding': gemma_config.pattern(layers),
      'window': size('attention.sliding_window', 'positions'),
      'local_rope': Rope(theta=gemma_config.LOCAL_THETA),
    }
  try:
    return ModelConfig(
      family=family,
      vocab_size=config_values.whole(
        {'tokens': embedding[0]}, 'tokens', 'vocabulary', where=file.path
      ),
      num_layers=layers,
      width=width,
      mlp_width=size('feed_forward_length', 'width'),
      num_heads=heads,
      num_kv_heads=size('attention.head_count_kv', 'heads', heads),
      head_dim=head_dim,
      max_position=size('context_length', 'positions'),
      rope=_scaled(file, rope, head_dim) if _FACTORS in file.tensors else rope,
      # A float32 in the file: 9.9999997e-06 is 1e-5.
      norm_eps=float(
        f'{real("attention.layer_norm_rms_epsilon", 1e-5, 1e-30, 1.0):.6g}'
      ),
      tied='output.weight' not in file.tensors,
      **fixed,
    )
  except ValueError as e:
    what = '' if str(file.path) in str(e) else f'{file.path}: '
    raise ValueError(f'{what}{e}') from e


def _scaled(file: Gguf, rope: Rope, head_dim: int) -> Rope:
  """`rope` with the Llama 3 scaling that the file's factors come from.

  Files of Llama 3.1 and later hold f32[head_dim/2] factors, which llama.cpp
  divides the frequencies by, in place of a `rope.scaling.type`.

  Raises:
    ValueError: the factors are not those of a Llama 3 scaling.
  """
  factors = _dequantised(file, _FACTORS).ravel()
  plain, _ = layers_lib.rope_frequencies(rope, head_dim)
  if factors.shape == plain.shape and np.isfinite(factors).all():
    for original in (8192, *(2**n for n in range(10, 21))):
      factor = float(f'{factors.max():.6g}')
      if not 1 < factor < 1e6:
        break
      scaled = dataclasses.replace(
        rope, kind='llama3', factor=factor, original_max_position=original
      )
      frequencies, _ = layers_lib.rope_frequencies(scaled, head_dim)
      if np.allclose(plain / factors, frequencies, rtol=1e-5, atol=0):
        return scaled
  raise ValueError(
    f"{file.path}: {_FACTORS} scales RoPE in another way than Llama 3's, "
    "which is not supported in GGUF files: use the model's Hugging Face folder."
  )


def read_params(
  file: Gguf,
  config: ModelConfig,
  *,
  dtype: str = 'float32',
  place: weight_names.Place = weight_names.keep,
) -> dict:
  """The parameter tree, dequantised.

  Files of architecture llama permute Q and K for rotary embedding of adjacent
  pairs; they are permuted back to that of split halves. Those of gemma3 hold
  1 + scale of norms.

  Args:
    file: from `read`.
    config: of the model.
    dtype: of the result, 'float32' or 'bfloat16'.
    place: see `weight_names.assemble`.

  Raises:
    ValueError: tensors that are missing, unknown or misshaped, or of a
      quantisation that the `gguf` package does not support.
  """
  expected = {
    leaf.gguf.format(i): leaf.file_shape
    for leaf in weight_names.leaves(config)
    for i in leaf.layers()
  }
  found = {n: t.shape for n, t in file.tensors.items() if n != _FACTORS}
  weight_names.check(expected, found, str(file.path))

  def tensor(leaf, i):
    x = _dequantised(file, leaf.gguf.format(i))
    if config.unit_offset and leaf.path[-1] == 'scale':
      x = x - 1  # files hold what is multiplied by
    if config.family == 'llama' and leaf.path[2:3] in (('q',), ('k',)):
      heads = config.num_heads if leaf.path[2] == 'q' else config.num_kv_heads
      x = unpermute(x, heads)
    return x

  return weight_names.assemble(
    config, tensor, dtype=dtype, place=place, source=str(file.path)
  )


def _dequantised(file: Gguf, name: str) -> np.ndarray:
  """A tensor's values, f32 in its shape. ValueError if not supported."""
  from gguf import constants, quants

  t = file.tensors[name]
  kind = constants.GGMLQuantizationType(t.kind)
  try:
    raw = np.memmap(file.path, np.uint8, 'r', t.offset, (t.size,))
    # The package works on 16 rows at a time, which would be small. Rows are
    # sequences of quantisation blocks, so they can be joined, to about 64 kB.
    rows = math.gcd(t.shape[0], 16 * max(1, t.size // 2**20)) if t.shape else 1
    return quants.dequantize(raw.reshape(rows, -1), kind).reshape(t.shape)
  except (NotImplementedError, ValueError) as e:
    raise ValueError(
      f'{file.path}: tensor {name} of shape {list(t.shape)}, quantised as '
      f'{kind.name}, cannot be read ({str(e)[:100]}).'
    ) from e


def unpermute(x: np.ndarray, heads: int) -> np.ndarray:
  """Reorders the rows of each head from adjacent pairs to split halves.

  x is [H*C, D] or [H*C]; row 2i of a head goes to i, row 2i+1 to C/2 + i.
  """
  pairs = x.reshape(heads, x.shape[0] // heads // 2, 2, -1)
  return pairs.swapaxes(1, 2).reshape(x.shape)
