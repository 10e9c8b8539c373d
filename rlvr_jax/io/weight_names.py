"""Names of tensors in files, and the leaves of the parameter tree they become.

One table for reading and writing, for Hugging Face folders and GGUF files.
Files hold a matrix [out, in] per layer; the tree splits it into heads and
stacks all layers on axis 0.
"""

import concurrent.futures
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 (teaches numpy the name 'bfloat16')
import numpy as np

from rlvr_jax.models.model_config import ModelConfig

Place = Callable[[tuple[str, ...], np.ndarray], Any]
DTYPES = ('float32', 'bfloat16')


class Leaf(NamedTuple):
  """A leaf of the parameter tree, without its layer axis."""

  path: tuple[str, ...]  # in the tree
  shape: tuple[int, ...]  # in the tree
  file_shape: tuple[int, ...]
  hf: str  # name in a Hugging Face file; '{}' stands for the layer
  gguf: str  # name in a GGUF file
  num_layers: int  # 0: not stacked

  def layers(self) -> range:
    """Indices of a stacked leaf's layers; of another leaf, 0 only."""
    return range(self.num_layers or 1)


def leaves(
  config: ModelConfig, *, value_head: bool = False
) -> tuple[Leaf, ...]:
  """All leaves of a model's parameter tree; the value head's too if asked.

  A value head is in no file but a run's checkpoint: it has no names there.
  """
  c = config
  d, f, hd = c.width, c.mlp_width, c.head_dim
  out = []

  def top(path, shape, hf, gguf):
    out.append(Leaf(path, shape, shape, hf, gguf, 0))

  def layer(name, kind, shape, hf, gguf, num_out=1):
    outputs, inputs = shape[:num_out], shape[num_out:]
    file_shape = (math.prod(outputs),)
    if inputs:
      file_shape += (math.prod(inputs),)
    suffix = 'bias' if kind == 'bias' else 'weight'
    out.append(
      Leaf(
        ('layers', 'block', name, kind),
        shape,
        file_shape,
        f'model.layers.{{}}.{hf}.{suffix}',
        f'blk.{{}}.{gguf}.{suffix}',
        c.num_layers,
      )
    )

  def linear(name, outputs, inputs, hf, gguf, bias):
    layer(name, 'kernel', outputs + inputs, hf, gguf, len(outputs))
    if bias:
      layer(name, 'bias', outputs, hf, gguf, len(outputs))

  top(
    ('embedding',),
    (c.vocab_size, d),
    'model.embed_tokens.weight',
    'token_embd.weight',
  )
  top(('final_norm', 'scale'), (d,), 'model.norm.weight', 'output_norm.weight')
  if not c.tied:
    top(('head',), (c.vocab_size, d), 'lm_head.weight', 'output.weight')
  norms = ('input_layernorm', 'post_attention_layernorm')
  if c.post_norm:
    norms = ('post_attention_layernorm', 'post_feedforward_layernorm')
  if c.sandwich_norm:
    norms = (norms[0], 'pre_feedforward_layernorm')
    after = 'post_attention_layernorm', 'post_feedforward_layernorm'
    layer('attn_out_norm', 'scale', (d,), after[0], 'post_attention_norm')
    layer('mlp_out_norm', 'scale', (d,), after[1], 'post_ffw_norm')
  layer('attn_norm', 'scale', (d,), norms[0], 'attn_norm')
  layer('mlp_norm', 'scale', (d,), norms[1], 'ffn_norm')
  for name, heads in (
    ('q', c.num_heads),
    ('k', c.num_kv_heads),
    ('v', c.num_kv_heads),
  ):
    hf, gguf = f'self_attn.{name}_proj', f'attn_{name}'
    linear(name, (heads, hd), (d,), hf, gguf, c.qkv_bias)
    if c.qk_norm and name != 'v':
      size = hd if c.qk_norm == 'head' else heads * hd
      hf, gguf = f'self_attn.{name}_norm', f'attn_{name}_norm'
      layer(f'{name}_norm', 'scale', (size,), hf, gguf)
  inputs = (c.num_heads, hd)
  linear('out', (d,), inputs, 'self_attn.o_proj', 'attn_output', c.out_bias)
  for name, o, i in (('gate', f, d), ('up', f, d), ('down', d, f)):
    hf, gguf = f'mlp.{name}_proj', f'ffn_{name}'
    linear(name, (o,), (i,), hf, gguf, c.mlp_bias)
  if value_head:
    top(('value_kernel',), (d,), '', '')
    top(('value_bias',), (), '', '')
  return tuple(out)


def keep(path: tuple[str, ...], x: np.ndarray) -> np.ndarray:
  """A `Place` that leaves parameters on the host."""
  del path
  return x


def assemble(
  config: ModelConfig,
  read: Callable[[Leaf, int], np.ndarray],
  *,
  dtype: str,
  place: Place,
  source: str = 'The model',
) -> dict:
  """Builds the parameter tree, one leaf at a time.

  Args:
    config: the model.
    read: (leaf, layer) -> the tensor as in the file, of file_shape.
    dtype: 'float32' or 'bfloat16'.
    place: (path, stacked array) -> the leaf, such as the array on its devices.
      The host's copy of a leaf can be freed before the next is read.
    source: what is read, for messages.

  Raises:
    ValueError: another dtype, or a tensor with NaN or infinite values.
  """
  if dtype not in DTYPES:
    raise ValueError(
      f'Parameters in {dtype!r}: choose one of {", ".join(DTYPES)}.'
    )
  tree = {}
  # Dequantising and copying release the interpreter's lock.
  with concurrent.futures.ThreadPoolExecutor(
    min(os.cpu_count() or 1, 8)
  ) as pool:
    for leaf in leaves(config):
      stack = np.empty((len(leaf.layers()), *leaf.shape), dtype)

      def fill(i, stack=stack, leaf=leaf):
        with np.errstate(over='ignore'):  # to infinity, which is refused
          stack[i] = read(leaf, i).reshape(leaf.shape)
        check_finite(stack[i], f'{source}: {leaf.hf.format(i)}', dtype)

      list(pool.map(fill, leaf.layers()))
      node = tree
      for key in leaf.path[:-1]:
        node = node.setdefault(key, {})
      node[leaf.path[-1]] = place(
        leaf.path, stack if leaf.num_layers else stack[0]
      )
      del stack, fill
  return tree


def check_finite(x: np.ndarray, name: str, dtype: str) -> None:
  """Raises ValueError for NaN and infinities, which would reach all logits.

  Takes about half the time of a copy.
  """
  if dtype == 'bfloat16':  # all ones in the exponent; numpy has no quick test
    bad = x.view(np.uint16) & 0x7F80 == 0x7F80
  else:
    bad = ~np.isfinite(x)
  if count := int(np.count_nonzero(bad)):
    raise ValueError(
      f'{name} has {count} of {x.size} values that are NaN or infinite (as '
      f'{dtype}): the weights are damaged. Take an earlier checkpoint, or '
      'download them again.'
    )


def listed(names: Sequence[str], most: int = 20) -> str:
  """Names for an error message: at most `most`, and the number of others."""
  rest = f' and {len(names) - most} more' if len(names) > most else ''
  return ', '.join(names[:most]) + rest


def check(
  expected: dict[str, tuple[int, ...]],
  found: dict[str, tuple[int, ...]],
  source: str,
) -> None:
  """Raises ValueError unless a file has exactly the model's tensors.

  The message names all missing, unknown and misshaped tensors.

  Args:
    expected, found: {name: shape}.
    source: the file, for the message.
  """
  missing = [n for n in expected if n not in found]
  extra = [n for n in found if n not in expected]
  wrong = [
    f'{n} is {list(found[n])}, not {list(shape)}'
    for n, shape in expected.items()
    if n in found and tuple(found[n]) != tuple(shape)
  ]
  problems = [
    f'{what}: {listed(sorted(names))}'
    for what, names in (
      ('missing', missing),
      ('unknown', extra),
      ('wrong shape', wrong),
    )
    if names
  ]
  if problems:
    raise ValueError(
      f'{source} does not hold the tensors of its config. '
      + '; '.join(problems)
      + '. Check that weights and config belong together.'
    )
