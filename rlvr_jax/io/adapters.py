"""LoRA adapters in files: PEFT's folders, and the checkpoints of runs.

A folder of PEFT holds adapter_config.json and adapter_model.safetensors, with
A [r,in] and B [out,r] of each layer and projection. It is untrusted: nothing in
it is executed or unpickled.
"""

import contextlib
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.traverse_util as traverse
import jax
import numpy as np
from safetensors import numpy as safetensors_numpy

from rlvr_jax import digests, registry
from rlvr_jax.io import checkpoint, safetensors, weight_names
from rlvr_jax.models import lora, sharding, transformer
from rlvr_jax.models.lora import Lora
from rlvr_jax.models.model_config import ModelConfig
from rlvr_jax.random_streams import Stream

CONFIG, WEIGHTS = 'adapter_config.json', 'adapter_model.safetensors'
_PREFIX = 'base_model.model.'
# What a key of adapter_config.json must be, where it is there at all: other
# values mean other formulas, or further weights.
_ONLY: dict[str, tuple] = {
  'peft_type': ('LORA',),
  'bias': ('none',),
  'fan_in_fan_out': (False,),
  'use_dora': (False,),
  'use_rslora': (False,),
  'lora_bias': (False,),
  'rank_pattern': ({}, None),
  'alpha_pattern': ({}, None),
  'modules_to_save': ([], None),
  'target_parameters': ([], None),
  'layer_replication': (None,),
}


class Adapters(NamedTuple):
  """Adapters that were read.

  Attributes:
    lora: their rank, alpha and projections.
    params: the tree of `lora_a` and `lora_b`, NumPy, float32, layers stacked.
    digest: of `params`.
  """

  lora: Lora
  params: dict[str, Any]
  digest: str


class _Place(NamedTuple):
  """A projection: its path in the tree, shapes, and name in PEFT's files."""

  path: tuple[str, ...]
  out: tuple[int, ...]
  inputs: tuple[int, ...]
  name: str  # '{}' stands for the layer


def _places(config: ModelConfig) -> dict[str, _Place]:
  """{projection: its `_Place`} of all that may have an adapter."""
  places = {}
  for leaf in weight_names.leaves(config):
    if leaf.path[-1] != 'kernel':
      continue
    # The kernel is [*out, *in], a file has [out, in].
    cut = next(
      i
      for i in range(1, len(leaf.shape))
      if math.prod(leaf.shape[:i]) == leaf.file_shape[0]
    )
    places[leaf.path[-2]] = _Place(
      leaf.path[:-1],
      leaf.shape[:cut],
      leaf.shape[cut:],
      _PREFIX + leaf.hf.removesuffix('.weight'),
    )
  return {name: places[name] for name in lora.PLACES['all']}


def read(folder: str | pathlib.Path, config: ModelConfig) -> Adapters:
  """The adapters in a folder of PEFT, for a model.

  Args:
    folder: as `write` or save_pretrained of PEFT writes it.
    config: of the base.

  Raises:
    ValueError: no such folder, another kind of adapter than LoRA on linear
      projections of all layers, or tensors that do not fit the model.
  """
  folder = pathlib.Path(folder).expanduser()
  if not (folder / CONFIG).is_file():
    raise ValueError(
      f'{folder} holds no {CONFIG}: give a folder in the format of PEFT, as '
      'scripts/export.py --format=peft writes it.'
    )
  said = safetensors.read_json(folder / CONFIG)
  refused = [
    f'{key}={said[key]!r:.60}'
    for key, only in _ONLY.items()
    if key in said and said[key] not in only
  ]
  rank, alpha = said.get('r'), said.get('lora_alpha')
  if not isinstance(rank, int) or not 1 <= rank <= lora.MOST:
    refused.append(f'r={rank!r:.60}')
  if not isinstance(alpha, (int, float)) or not 0 < alpha < math.inf:
    refused.append(f'lora_alpha={alpha!r:.60}')
  if refused:
    raise ValueError(
      f'{folder / CONFIG} has {", ".join(refused)}, which this decoder does not '
      'implement: it reads LoRA of one rank on linear projections.'
    )
  places = _places(config)
  with contextlib.ExitStack() as stack:
    if not (folder / WEIGHTS).is_file():
      raise ValueError(
        f'{folder} holds no {WEIGHTS}; pickled adapters are refused.'
      )
    file = safetensors.open_file(folder / WEIGHTS, stack)
    found = {n: tuple(file.get_slice(n).get_shape()) for n in file.keys()}  # noqa: SIM118
    on = tuple(
      name
      for name, place in places.items()
      if f'{place.name.format(0)}.lora_A.weight' in found
    )
    made = Lora(rank, float(alpha), on)
    expected = {
      name.format(i): shape
      for _, name, shape, _ in _tensors(config, made)
      for i in range(config.num_layers)
    }
    weight_names.check(expected, found, str(folder / WEIGHTS))
    tree, hashing = {}, digests.Weights(weight_names.keep)
    for path, name, _, shape in _tensors(config, made):
      stacked = np.stack(
        [
          file.get_tensor(name.format(i)).astype(np.float32).reshape(shape)
          for i in range(config.num_layers)
        ]
      )
      weight_names.check_finite(stacked, f'{folder}: {name}', 'float32')
      tree['/'.join(path)] = hashing(path, stacked)
  return Adapters(made, traverse.unflatten_dict(tree, sep='/'), hashing.digest)


def _tensors(config: ModelConfig, adapters: Lora):
  """(path in the tree, name in a file, its shape, shape in the tree) of each.

  Without the layer axis; `{}` in the name stands for the layer.
  """
  r = adapters.rank
  for name in adapters.on:
    place = _places(config)[name]
    file = (r, math.prod(place.inputs)), (math.prod(place.out), r)
    tree = (r, *place.inputs), (*place.out, r)
    for which, part in enumerate((lora.A, lora.B)):
      theirs = f'{place.name}.lora_{"AB"[which]}.weight'
      yield (*place.path, part), theirs, file[which], tree[which]


def write(
  folder: str | pathlib.Path,
  config: ModelConfig,
  adapters: Lora,
  params: Mapping,
  base: str,
) -> None:
  """Writes adapters as `PeftModel.from_pretrained` loads them.

  Args:
    folder: new, or one that this wrote before.
    config: of the base.
    params: a tree that has the adapters, NumPy or JAX arrays.
    base: what base_model_name_or_path says, such as a hub id.

  Raises:
    ValueError: `folder` holds other files.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  others = {p.name for p in folder.iterdir()} - {CONFIG, WEIGHTS}
  if others:
    raise ValueError(
      f'{folder} holds {", ".join(sorted(others)[:5])}, which no export of an '
      'adapter wrote. Choose an empty or a new folder.'
    )
  flat, tensors = traverse.flatten_dict(dict(params), sep='/'), {}
  for path, name, shape, _ in _tensors(config, adapters):
    stacked = np.asarray(flat['/'.join(path)], np.float32)
    for i in range(config.num_layers):
      tensors[name.format(i)] = stacked[i].reshape(shape)
  safetensors_numpy.save_file(
    tensors, folder / WEIGHTS, metadata={'format': 'pt'}
  )
  places = _places(config)
  said = {
    'peft_type': 'LORA',
    'task_type': 'CAUSAL_LM',
    'base_model_name_or_path': base,
    'r': adapters.rank,
    'lora_alpha': adapters.alpha,
    'lora_dropout': 0.0,
    'target_modules': [places[n].name.rpartition('.')[2] for n in adapters.on],
    'bias': 'none',
    'fan_in_fan_out': False,
    'inference_mode': True,
  }
  (folder / CONFIG).write_text(json.dumps(said, indent=2) + '\n', 'utf-8')


def read_for(c, config: ModelConfig) -> Adapters | None:
  """The adapters of model.adapter; None without.

  Args:
    c: the config's `model` section.
    config: of the model.

  Raises:
    ValueError: what `read` refuses, or not the ones that model.lora asks for.
  """
  if not c.adapter:
    return None
  with registry.naming('model.adapter', c.adapter):
    found, asked = read(c.adapter, config), lora.of(c.lora)
    if asked and asked != found.lora:
      raise ValueError(
        f'it is {lora.spec_of(found.lora)}, and model.lora is '
        f"{registry.show(c.lora)}: set model.lora to the former, or to '', "
        'which merges it into the weights.'
      )
  return found


def merging(
  place: weight_names.Place, adapters: Adapters | None, dtype: str
) -> weight_names.Place:
  """A loader's `place` that adds (alpha/r) B A to the kernels on the way.

  Summed in float32, then rounded to `dtype`, as all other leaves are.
  """
  if adapters is None:
    return place
  flat = traverse.flatten_dict(adapters.params)

  def merged(path, x):
    if path[-1] == 'kernel' and (*path[:-1], lora.A) in flat:
      a, b = (flat[(*path[:-1], part)] for part in (lora.A, lora.B))
      x = x.astype(np.float32)
      x = x + lora.delta(a, b, adapters.lora.scale, np.matmul)
    return place(path, x.astype(dtype))

  return merged


def of_run(
  workdir: str | pathlib.Path,
  config: ModelConfig,
  adapters: Lora,
  *,
  step: int | None = None,
  value_head: bool = False,
) -> tuple[dict[str, Any], Mapping, int]:
  """(what a run trained, NumPy; `extra`; step) of one of its checkpoints.

  Args:
    adapters: of its model.lora.
    step: None: of its newest.
    value_head: whether the value head is wanted too.

  Raises:
    ValueError: it has no checkpoint, or none of that step.
  """
  abstract = {
    path: jax.ShapeDtypeStruct((config.num_layers, *shape), np.float32)
    for path, _, _, shape in _tensors(config, adapters)
  }
  for leaf in weight_names.leaves(config, value_head=value_head):
    if leaf.path[0].startswith('value_'):
      abstract[leaf.path] = jax.ShapeDtypeStruct(leaf.shape, np.float32)
  tree = {'params': traverse.unflatten_dict(abstract)}
  found = checkpoint.load(workdir, tree, step=step, partial=True)
  if found is None:
    raise ValueError(
      f'{workdir} is a run without a checkpoint: let it train to its first one '
      '(save_every).'
    )
  own = jax.tree.map(np.asarray, found[0]['params'])
  for name, x in traverse.flatten_dict(own, sep='/').items():
    weight_names.check_finite(x, f'{workdir}: {name}', 'float32')
  return own, found[1], found[2]


def start(
  model: transformer.Decoder,
  found: Adapters | None,
  seed: int,
  mesh: jax.sharding.Mesh,
) -> transformer.Params:
  """The adapters of a model before training, on `mesh`: those found, or new."""
  if found is None:
    key = jax.random.fold_in(jax.random.key(seed), Stream.ADAPTERS)
    return sharding.init_adapters(model, key, mesh)
  shardings = lora.adapters(sharding.params_shardings(model, mesh)[1])
  return jax.tree.map(sharding.from_host, found.params, shardings)


def check_base(
  workdir: str | pathlib.Path, name: str, extra: Mapping, weights: str
) -> None:
  """ValueError unless a checkpoint's adapters were trained on these weights.

  Args:
    workdir: the run, for the error.
    name: its model.name.
    extra: of the checkpoint.
    weights: digest of the base as it is now; '' for one without weights.
  """
  then = extra['content'].get('model.name: weights', '')
  if then != weights:
    raise ValueError(
      f'The adapters in {workdir} were trained on model.name='
      f'{registry.show(name)} with weights of digest {then or "(none)"}, and '
      f'it now has {weights or "(none)"}: restore the weights it had.'
    )
