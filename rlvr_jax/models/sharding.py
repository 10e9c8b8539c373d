"""The device mesh, and how parameters and rows are sharded over it.

There are two layouts of parameters: training shards every matrix over `fsdp`
and `tensor`, sampling over `tensor` only, so that decoding gathers no weights.
`to_sampler` converts the first into the second, once per step.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rlvr_jax import hosts
from rlvr_jax.models import lora, transformer

AXES = ('data', 'fsdp', 'tensor')
BATCH = ('data', 'fsdp')  # mesh axes that shard the rows

# Logical axis -> mesh axes. One table for parameters and activations.
RULES = {
  'batch': BATCH,
  'embed': 'fsdp',
  'heads': 'tensor',
  'kv_heads': 'tensor',
  'mlp': 'tensor',
  'vocab': 'tensor',
  'layers': None,
  'head_dim': None,
  'norm': None,
  'lora': None,
  'act_embed': None,
  # Of an activation between two layers: one for each layer is kept for the
  # backward pass, so it is cut where a layer gathers it anyway.
  'residual': 'tensor',
}
SAMPLER_RULES = RULES | {'embed': None}


def make_mesh(
  shape: Sequence[int], devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Mesh over (data, fsdp, tensor). One size may be -1: the remaining devices.

  Raises:
    ValueError: the product is not the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  shape = tuple(shape)
  rule = (
    f'mesh.shape={shape} must be three sizes over {AXES}, at most one of '
    f'them -1, whose product is the number of devices, {len(devices)}.'
  )
  sizes = [s for s in shape if s != -1]
  if len(shape) != 3 or len(sizes) < 2 or min(sizes) < 1:
    raise ValueError(rule)
  known = math.prod(sizes)
  shape = tuple(len(devices) // known if s == -1 else s for s in shape)
  if math.prod(shape) != len(devices):
    raise ValueError(rule)
  # Lets 4x4 chips become an 8 x 2 mesh: a physical axis is split.
  grid = mesh_utils.create_device_mesh(
    shape, devices, allow_split_physical_axes=True
  )
  return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


@contextlib.contextmanager
def use(mesh: Mesh) -> Iterator[None]:
  """Context in which the model's logical constraints refer to this mesh."""
  with jax.set_mesh(mesh), nn.logical_axis_rules(tuple(RULES.items())):
    yield


def batch_shards(mesh: Mesh) -> int:
  """Number of shards of the rows."""
  return math.prod(mesh.shape[a] for a in BATCH)


def whole(size: int, shards: int) -> int:
  """`size` rounded up to a multiple of `shards`."""
  return -(-size // shards) * shards


def batch_shards_in_use() -> int:
  """`batch_shards` of the mesh of the enclosing `use`; 1 outside of it."""
  shape = jax.sharding.get_abstract_mesh().shape
  return math.prod(shape.get(a, 1) for a in BATCH)


def rows(mesh: Mesh) -> NamedSharding:
  """Sharding of arrays [B,...]: the leading axis over the batch axes."""
  return NamedSharding(mesh, PartitionSpec(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
  """Sharding of an array that is whole on every device."""
  return NamedSharding(mesh, PartitionSpec())


def _plain(params):
  """The arrays without their boxes of logical axis names."""
  is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
  return jax.tree.map(lambda x: x.value, params, is_leaf=is_box)


@functools.lru_cache(32)
def _boxed(model):
  """Shapes of the parameter tree, in boxes of logical axis names."""
  return jax.eval_shape(lambda: transformer.init(model, jax.random.key(0)))


def _specs(model, rules):
  """(shapes, partition specs, logical axis names) of the parameter tree."""
  boxed = _boxed(model)
  logical = nn.get_partition_spec(boxed)
  is_spec = lambda x: isinstance(x, PartitionSpec)
  spec = jax.tree.map(
    lambda s: PartitionSpec(*(None if a is None else rules[a] for a in s)),
    logical,
    is_leaf=is_spec,
  )
  return _plain(boxed), spec, logical


def params_shardings(
  model: transformer.Decoder, mesh: Mesh
) -> tuple[transformer.Params, transformer.Params]:
  """(shapes, shardings) of the parameter tree in the training layout.

  Raises:
    ValueError: names every axis that its mesh axis does not divide.
  """
  shapes, spec, logical = _specs(model, RULES)
  problems = set()

  def check(shape, spec, names):
    for size, axis, name in zip(shape.shape, spec, names, strict=False):
      if axis and size % mesh.shape[axis]:
        problems.add(
          f'{name} has size {size}, no multiple of mesh axis '
          f'{axis}={mesh.shape[axis]}'
        )

  jax.tree.map(check, shapes, spec, logical)
  stream = jax.ShapeDtypeStruct((model.config.width,), model.dtype)
  check(stream, (RULES['residual'],), ('residual',))
  if problems:
    raise ValueError(
      f'mesh.shape does not fit the model: {"; ".join(sorted(problems))}.'
    )
  return shapes, jax.tree.map(lambda s: NamedSharding(mesh, s), spec)


def abstract_params(
  model: transformer.Decoder, mesh: Mesh
) -> transformer.Params:
  """Shapes, dtypes and shardings of the parameters in the training layout."""
  return jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    *params_shardings(model, mesh),
  )


def init_params(
  model: transformer.Decoder, key: jax.Array, mesh: Mesh
) -> transformer.Params:
  """Random parameters in the training layout, created sharded; no adapters."""
  model = model.clone(lora=None)
  _, shardings = params_shardings(model, mesh)
  make = lambda k: _plain(transformer.init(model, k))
  return jax.jit(make, out_shardings=shardings)(key)


def init_adapters(
  model: transformer.Decoder, key: jax.Array, mesh: Mesh
) -> transformer.Params:
  """The adapters before training, a tree without other leaves: see `lora`."""
  shardings = lora.adapters(params_shardings(model, mesh)[1])
  make = lambda k: lora.adapters(_plain(transformer.init(model, k)))
  return jax.jit(make, out_shardings=shardings)(key)


def put_params(
  params: transformer.Params, model: transformer.Decoder, mesh: Mesh
) -> transformer.Params:
  """Moves host arrays to the mesh, leaf by leaf, in the model's param_dtype."""
  shapes, shardings = params_shardings(model, mesh)
  put = lambda x, a, s: jax.device_put(np.asarray(x, dtype=a.dtype), s)
  return jax.tree.map(put, params, shapes, shardings)


def to_sampler(
  model: transformer.Decoder, mesh: Mesh
) -> Callable[[transformer.Params], transformer.Params]:
  """The jitted function from training parameters to the sampler's layout.

  Adapters are merged in float32, so that decoding costs what it costs without.
  Layers become a tuple of trees, matrices are cast to the compute dtype, and
  fsdp shards are gathered. Norm scales and biases keep their dtype, as in
  training; they are recognised by name, since stacked ones have two axes.
  """
  n = model.config.num_layers
  _, spec, _ = _specs(model.clone(lora=None), SAMPLER_RULES)
  block = jax.tree.map(lambda s: PartitionSpec(*s[1:]), spec['layers']['block'])
  spec = {**spec, 'layers': (block,) * n}
  out = jax.tree.map(
    lambda s: NamedSharding(mesh, s),
    spec,
    is_leaf=lambda x: isinstance(x, PartitionSpec),
  )

  def reshape(params):
    params = lora.merge(params, model.lora)
    flat = traverse.flatten_dict(params, sep='/')
    matrix = lambda k, a: a.ndim > 1 and is_matrix(k)
    cast = {
      k: a.astype(model.dtype) if matrix(k, a) else a for k, a in flat.items()
    }
    return transformer.unstack(traverse.unflatten_dict(cast, sep='/'), n)

  return jax.jit(reshape, out_shardings=out)


def from_host(tree: Any, sharding: NamedSharding) -> Any:
  """Moves host arrays, equal on every process, to devices by `sharding`."""

  def make(x):
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda i: x[i])

  return jax.tree.map(make, tree)


def to_mesh(tree: Any) -> Any:
  """Moves host arrays [B,...] to the mesh of the enclosing `use`, rows sharded.

  Outside of `use`, they go whole to the default device.
  """
  mesh = jax.sharding.get_mesh()
  if mesh.empty:
    return jax.tree.map(jnp.asarray, tree)
  return from_host(tree, rows(mesh))


def on_all(x: Any) -> Any:
  """Moves a host array whole to each device of the mesh of `use`."""
  mesh = jax.sharding.get_mesh()
  return jnp.asarray(x) if mesh.empty else from_host(x, replicated(mesh))


def placer(
  abstract: transformer.Params,
) -> Callable[[tuple[str, ...], np.ndarray], jax.Array]:
  """The loader's `place`: moves each leaf to its devices once it is read.

  `abstract` holds the shardings, see `abstract_params`.
  """

  def place(path, x):
    leaf = functools.reduce(lambda tree, key: tree[key], path, abstract)
    return from_host(x, leaf.sharding)

  return place


def to_host(tree: Any) -> Any:
  """Whole arrays as NumPy, on every host."""
  return hosts.whole(tree)


def is_matrix(path: str) -> bool:
  """Whether 'path/of/a/parameter' is a matrix, not a norm's scale or a bias."""
  return not path.endswith(('/scale', '/bias', 'value_bias'))
