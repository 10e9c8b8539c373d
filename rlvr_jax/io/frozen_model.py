"""Models that sample or score and are not updated: `FrozenModel`.

The teacher, the oracle, the KL reference, the initial policy, a checkpoint
under evaluation and, while rollouts are sampled, the policy itself. They sample
by `sample` and score by a `models.micro_batch.scorer`. A model that the config
names is opened by `load`, a checkpoint by `load_checkpoint`; the reference and
the initial policy are made of the policy's first weights in `start`.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from rlvr_jax import digests, registry
from rlvr_jax.io import adapters, checkpoint
from rlvr_jax.io import load as load_lib
from rlvr_jax.io.tokenizer import Tokenizer
from rlvr_jax.models import (
  lora,
  model_config,
  partial_samples,
  sampler,
  sharding,
  transformer,
)


class FrozenModel(NamedTuple):
  """Architecture, tokenizer and weights, in one layout or in both.

  Attributes:
    params: weights in the training layout; None if it does not score.
    sampler_params: weights in the sampler's layout; None if it does not sample.
    read: digests of weights and tokenizer by config key: `digests.of_model`.
    source: what was read, for logs.
    step: training step of a checkpoint; None for other models.
    system_prompt: of a reward model: what its prompts begin with.
  """

  model: transformer.Decoder
  tokenizer: Tokenizer
  params: Any = None
  sampler_params: Any = None
  read: Mapping[str, str] = {}
  source: str = ''
  step: int | None = None
  system_prompt: str = ''


def load(
  key: str,
  name: str,
  settings,
  mesh: jax.sharding.Mesh,
  *,
  lengths: Mapping[str, int],
  sampling: bool = True,
  scoring: bool = False,
) -> FrozenModel:
  """The model `name` of a config key, with its weights on `mesh`.

  Args:
    key: such as 'teacher.name', for errors and digests.
    name: any value that `model.name` may have: see `io.load.read`.
    settings: the config's `model` section, for dtypes.
    lengths: of the rows that it reads: see `model_config.check_positions`.
    sampling: whether it will sample.
    scoring: whether it will compute log-probs.

  Raises:
    ValueError: no such model, or one without weights or with too few positions.
  """
  with registry.naming(key):
    config = load_lib.load_config(name)
    model_config.check_positions(config, lengths)
  model = transformer.decoder(settings, config)
  loaded = load_lib.load(
    name,
    dtype=settings.param_dtype,
    place=sharding.placer(sharding.abstract_params(model, mesh)),
  )
  if loaded.params is None:
    raise ValueError(
      f'{key}={registry.show(name)} is an architecture without weights: give '
      'the folder of a trained model.'
    )
  return _with_weights(
    FrozenModel(
      model,
      loaded.tokenizer,
      read=digests.of_model(key, loaded.weights, loaded.tokenizer),
      source=loaded.source,
    ),
    loaded.params,
    mesh,
    sampling,
    scoring,
  )


def load_reward_model(
  name: str, settings, mesh: jax.sharding.Mesh
) -> FrozenModel:
  """The reward model `name` of reward_funcs, with its weights on `mesh`.

  Args:
    name: a run of method='reward_model': see `io.load.load_reward_model`.
    settings: the config's `model` section, for dtypes.
  """
  spec = registry.spec('reward_model', name)
  with registry.naming('reward_funcs', spec):
    config = load_lib.load_config(name)
    model = transformer.decoder(settings, config, value_head=True)
    loaded = load_lib.load_reward_model(
      name,
      dtype=settings.param_dtype,
      place=sharding.placer(sharding.abstract_params(model, mesh)),
    )
  # Their key is reward_funcs, and there may be several of them.
  read = digests.of_model('', loaded.weights, loaded.tokenizer)
  return FrozenModel(
    model,
    loaded.tokenizer,
    params=loaded.params,
    read={f'reward_funcs: {spec}{k}': v for k, v in read.items()},
    source=loaded.source,
    system_prompt=loaded.system_prompt,
  )


def load_checkpoint(
  c,
  workdir: pathlib.Path | str,
  step: int | None,
  mesh: jax.sharding.Mesh,
  *,
  scoring: bool = False,
  value_head: bool = False,
) -> FrozenModel:
  """The policy of run `workdir` at `step`.

  Args:
    c: the run's config.
    step: of a checkpoint; None: the newest; 0: the policy before training.
    scoring: whether it will compute log-probs too.
    value_head: whether to read a critic's value head too; 0 at step 0.

  Raises:
    ValueError: no checkpoint, or none of that step.
  """
  config = load_lib.load_config(c.model.name)
  model_config.check_positions(config, policy_lengths(c))
  model = transformer.decoder(
    c.model, config, value_head=value_head, lora=lora.of(c.model.lora)
  )
  abstract = sharding.abstract_params(model, mesh)
  steps = checkpoint.steps(workdir)
  if step != 0 and (not steps or step not in (None, *steps)):
    of_step = '' if step is None else f' of step {step}'
    raise ValueError(
      f'{workdir} has no checkpoint{of_step}. There are: '
      f'{", ".join(map(str, steps)) or "none"}. Take one of these, or step 0 '
      'for the model it started from.'
    )
  found = adapters.read_for(c.model, config) if step == 0 else None
  place = sharding.placer(abstract)
  if step != 0 and not model.lora:
    place = lambda path, x: None
  loaded = load_policy(c, found, place)
  tokenizer = loaded.tokenizer.with_options(c.chat_template_args)
  if step == 0:
    params = starting_params(c, model, loaded.params, found, mesh)
    read = policy_read(loaded, tokenizer, found)
  else:
    wanted = lora.own(abstract) if model.lora else abstract
    tree, extra, step = checkpoint.load(
      workdir, {'params': wanted}, step=step, partial=True
    )
    params = tree['params']
    if model.lora:
      adapters.check_base(workdir, c.model.name, extra, loaded.weights)
      base = starting_params(c, model, loaded.params, None, mesh)
      params = lora.join(base, params)
    # The weights are identified by the checkpoint, not by model.name.
    read = digests.of_model('model.name', '', tokenizer)
    read[f'checkpoint of step {step}'] = checkpoint.digest(workdir, step)
  policy = FrozenModel(
    model, tokenizer, read=read, source=loaded.source, step=step
  )
  return _with_weights(policy, params, mesh, True, scoring)


def load_policy(
  c, found: adapters.Adapters | None, place: Any
) -> load_lib.Loaded:
  """model.name of a run, as it is before training but for adapters and head.

  The adapters of model.adapter are merged where there is no model.lora.

  Args:
    found: from `adapters.read_for`.
    place: of the loader.
  """
  merged = None if c.model.lora else found
  dtype = c.model.param_dtype
  return load_lib.load(
    c.model.name, dtype=dtype, place=adapters.merging(place, merged, dtype)
  )


def policy_read(
  loaded: load_lib.Loaded, tokenizer: Tokenizer, found: adapters.Adapters | None
) -> dict[str, str]:
  """Digests of what `load_policy` read, by config key."""
  read = digests.of_model('model.name', loaded.weights, tokenizer)
  return read | ({'model.adapter: weights': found.digest} if found else {})


def starting_params(
  c,
  model: transformer.Decoder,
  loaded: Any,
  found: adapters.Adapters | None,
  mesh: jax.sharding.Mesh,
) -> transformer.Params:
  """A policy's parameters before training, in the training layout.

  Args:
    c: the run's config.
    loaded: parameters of model.name; None: an architecture without weights,
      which are then random.
    found: from `adapters.read_for`.
  """
  params = loaded
  if params is None:
    params = sharding.init_params(model, jax.random.key(c.seed), mesh)
  place = sharding.placer(sharding.abstract_params(model, mesh))
  params = transformer.with_value(model, params, place)
  if model.lora:
    params = lora.join(params, adapters.start(model, found, c.seed, mesh))
  return params


def check_same_vocabulary(
  one: tuple[str, str, Tokenizer], other: tuple[str, str, Tokenizer]
) -> None:
  """Raises ValueError unless token ids mean the same to two models.

  Args:
    one, other: (config key, its value, tokenizer).
  """
  tokenizers = one[2], other[2]
  a, b = (t.backend.get_vocab(with_added_tokens=True) for t in tokenizers)
  if a != b or one[2].end_ids != other[2].end_ids:
    raise ValueError(
      f'{one[0]}={registry.show(one[1])} and {other[0]}='
      f'{registry.show(other[1])} have different vocabularies or end tokens. '
      'Token ids pass from one to the other: take two models of the same '
      'family.'
    )


def policy_lengths(c) -> dict[str, int]:
  """Lengths of the rows that a policy reads."""
  return {
    'max_prompt_length': c.max_prompt_length,
    'max_completion_length': c.max_completion_length,
  }


def judge_lengths(c) -> dict[str, int]:
  """Lengths of the rows that a judge reads and writes."""
  return {
    'judge.max_prompt_length': c.judge.max_prompt_length,
    'judge.max_completion_length': c.judge.max_completion_length,
  }


def teacher_lengths(c) -> dict[str, int]:
  """Lengths of the rows that a teacher reads."""
  if not c.algo.distill or registry.parse(c.teacher.context)[0] == 'none':
    return policy_lengths(c)
  most = {'teacher.max_context_length': c.teacher.max_context_length}
  return policy_lengths(c) | most


def _with_weights(
  frozen: FrozenModel,
  params: Any,
  mesh: jax.sharding.Mesh,
  sampling: bool,
  scoring: bool,
) -> FrozenModel:
  """The model with `params` in the layouts that it needs."""
  if sampling:
    with sharding.use(mesh):
      convert = sharding.to_sampler(frozen.model, mesh)
      frozen = frozen._replace(sampler_params=convert(params))
  return frozen._replace(params=params) if scoring else frozen


def sample(
  frozen: FrozenModel,
  prompt: np.ndarray,
  length: np.ndarray,
  key: jax.Array,
  sampling: sampler.Sampling,
  *,
  group: int = 1,
  rank: np.ndarray | None = None,
) -> sampler.Sampled:
  """`group` completions of each prompt, B = P*group rows on the mesh in use.

  Args:
    prompt: i32[P,S] and length: i32[P], host arrays, right-padded.
    key: a PRNG key, or one for each prompt.
    rank: i32[B] of the first tokens: see `sampler.sample`.
  """
  return sampler.sample(
    frozen.sampler_params,
    sharding.to_mesh(prompt),
    sharding.to_mesh(length),
    key,
    model=frozen.model,
    sampling=sampling,
    group=group,
    rank=None if rank is None else sharding.to_mesh(rank),
  )


def sample_in_parts(
  frozen: FrozenModel,
  prompt: np.ndarray,
  length: np.ndarray,
  key: jax.Array,
  sampling: sampler.Sampling,
  *,
  group: int = 1,
) -> Iterator[sampler.Sampled]:
  """`sample` while it goes on, as host arrays: `partial_samples.sample`.

  When an item comes, the devices are at the next one already.
  """
  parts = partial_samples.sample(
    frozen.sampler_params,
    sharding.to_mesh(prompt),
    sharding.to_mesh(length),
    key,
    model=frozen.model,
    sampling=sampling,
    group=group,
  )
  before = next(parts)
  for part in parts:
    yield sharding.to_host(before)
    before = part
  yield sharding.to_host(before)
