"""What travels between chips? Parses the collectives in compiled HLO text."""

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from rlvr_jax.models import sharding

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
  'collective-broadcast',
)
# Those that can move a shard of a weight to another chip.
MOVES = ('all-gather', 'all-to-all', 'ragged-all-to-all', 'collective-permute')


class Collective(NamedTuple):
  """One collective operation of a program."""

  kind: str
  shapes: tuple[tuple[str, tuple[int, ...]], ...]  # (dtype, shape) per device
  bytes: int  # of the result, per device
  in_loop: bool  # inside the body of a while loop


_HEAD = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_CALLS = re.compile(
  r'(?:calls|to_apply|body|condition|branch_computations|'
  r'called_computations|true_computation|false_computation)='
  r'(\{[^}]*\}|%?[\w.\-]+)'
)
_BODY = re.compile(r'\bbody=%?([\w.\-]+)')
_OP = re.compile(rf' ({"|".join(COLLECTIVES)})(-start)?\(')
_SHAPE = re.compile(r'\b([a-z]+\d+\w*|pred)\[([\d,]*)\]')


def of_program(compiled: jax.stages.Compiled) -> list[Collective] | None:
  """Its `collectives`; None where the compiler cannot print what it made.

  libtpu cannot print an asynchronous operation of several operands, which it
  makes for v5p and v6e.
  """
  try:
    text = compiled.as_text()
  except jax.errors.JaxRuntimeError:
    return None
  return collectives(text)


def collectives(text: str) -> list[Collective]:
  """The collectives in the text of a compiled program.

  Each is listed once, however often its loop runs. The compiler copies a
  collective into each fusion that it overlaps with; copies share a channel id
  and are listed once too.
  """
  lines, calls, bodies, at = {}, {}, set(), ''
  for line in text.splitlines():
    if head := _HEAD.match(line):
      at = head[1]
      lines[at], calls[at] = [], set()
    elif at and ' = ' in line:
      for called in _CALLS.findall(line):
        calls[at] |= set(re.findall(r'[\w.\-]+', called))
      bodies |= set(_BODY.findall(line))
      if _OP.search(line):
        lines[at].append(line)
  looped, todo = set(), list(bodies)
  while todo:
    name = todo.pop()
    if name in calls and name not in looped:
      looped.add(name)
      todo += calls[name]
  unique = {}
  for name, with_collective in lines.items():
    for line in with_collective:
      one = _collective(line, name, name in looped)
      channel = re.search(r'channel_id=\d+', line)
      key = channel[0] if channel else f'{name}: {line}'
      unique.setdefault((key, one.kind, one.shapes), one)
  return list(unique.values())


def _collective(line, computation, in_loop):
  op = _OP.search(line)
  shapes = [
    (dtype, tuple(int(d) for d in dims.split(',') if d))
    for dtype, dims in _SHAPE.findall(line[line.index(' = ') : op.start()])
  ]
  if op[2] and op[1] != 'all-reduce':
    # "-start" operations return (operands, results, tokens): keep results.
    data = [s for s in shapes if s != ('u32', ())]
    shapes = data[len(data) // 2 :]
  # The TPU compiler writes reduce-scatter as a fusion around an all-reduce.
  kind = op[1]
  if kind == 'all-reduce' and 'all-reduce-scatter' in computation:
    kind = 'reduce-scatter'
  size = sum(math.prod(dims) * _itemsize(dtype) for dtype, dims in shapes)
  return Collective(kind, tuple(shapes), size, in_loop)


def _itemsize(dtype):
  bits = re.search(r'\d+', dtype)
  return 1 if dtype == 'pred' else max(int(bits[0]) // 8, 1)


def weight_moves(
  found: Sequence[Collective], params: Any, mesh: jax.sharding.Mesh
) -> list[str]:
  """Collectives in loop bodies whose result has the shape of a weight.

  Args:
    found: collectives of a program that decodes.
    params: abstract, the sampler's layout.
    mesh: that the program was compiled for.

  Returns:
    one line each, with the weight's name. There should be none: weights are
    resharded once per step, not once per token.
  """
  known = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    name = '/'.join(str(getattr(k, 'key', getattr(k, 'idx', k))) for k in path)
    name = re.sub(r'layers/\d+', 'layers/*', name)
    if not sharding.is_matrix(name):
      continue  # a vector, per head or not: too small to matter
    dtype = {'bfloat16': 'bf16', 'float32': 'f32'}[str(leaf.dtype)]
    for shape in _forms(leaf.shape, mesh.shape['tensor']):
      known.setdefault((dtype, shape), name)
  lines = []
  for c in found:
    if not c.in_loop or c.kind not in MOVES:
      continue
    for dtype, shape in c.shapes:
      key = dtype, tuple(sorted(d for d in shape if d > 1))
      if key in known:
        size = ','.join(map(str, shape))
        lines.append(f'{c.kind} of {dtype}[{size}]: {known[key]}')
  return lines


def _forms(shape, tensor):
  """Sorted shapes that a matrix may have on a device: as it is or reshaped to
  two axes, each whole or with one axis split over `tensor` devices."""
  if len(shape) < 2:
    return set()
  merged = [shape]
  for i in range(1, len(shape)):
    merged.append((math.prod(shape[:i]), math.prod(shape[i:])))
  forms = set()
  for dims in merged:
    for i in range(len(dims)):
      for cut in {1, tensor}:
        if dims[i] % cut == 0:
          form = [d // cut if j == i else d for j, d in enumerate(dims)]
          forms.add(tuple(sorted(d for d in form if d > 1)))
  return forms
