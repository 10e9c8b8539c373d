"""One more model: asked, never updated.

The teacher, the oracle, the KL reference, the initial policy, a checkpoint
under evaluation and, while rollouts are made, the policy itself. Each is a
`FrozenModel`: opened by `load` or `load_checkpoint`, asked for completions by
`sample` and for log-probs by a `models.micro_batch.scorer`.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from rlvr_jax import digests, registry
from rlvr_jax.io import checkpoint
from rlvr_jax.io import load as load_lib
from rlvr_jax.io.tokenizer import Tokenizer
from rlvr_jax.models import model_config, sampler, sharding, transformer


class FrozenModel(NamedTuple):
  """Architecture, tokenizer and weights, in one layout or in both.

  Attributes:
    params: in the training layout, to be scored; None: it is not scored.
    sampler_params: in the sampler's layout; None: it does not sample.
    read: digests of what it was made from, by config key: `digests.of_model`.
    source: what was read, for logs.
    step: of the run that it is a checkpoint of; None for other models.
  """

  model: transformer.Decoder
  tokenizer: Tokenizer
  params: Any = None
  sampler_params: Any = None
  read: Mapping[str, str] = {}
  source: str = ''
  step: int | None = None


def load(
  key: str,
  name: str,
  settings,
  mesh,
  *,
  lengths: Mapping[str, int],
  sampling: bool = True,
  scoring: bool = False,
) -> FrozenModel:
  """The model that the config's `key` names, its weights on `mesh`.

  Args:
    key: such as 'teacher.name', for errors and digests.
    name: what `model.name` may be, see `io.load.read`.
    settings: the config's `model` section: dtypes.
    lengths: of the rows that it reads, see `model_config.check_positions`.
    sampling: whether it is asked for completions.
    scoring: whether it is asked for log-probs.

  Raises:
    ValueError: no such model, one without weights or with too few positions.
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
      f'{key}={registry.show(name)} has no weights, so it has nothing to tell: '
      'give the folder of a trained model.'
    )
  return _asked(
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


def load_checkpoint(
  c, workdir, step: int | None, mesh, *, scoring: bool = False
) -> FrozenModel:
  """The policy of run `workdir` at `step` (None: the newest; 0: its start).

  Args:
    c: the run's config.
    scoring: whether it is asked for log-probs too.

  Raises:
    ValueError: no checkpoint, or none of that step (lists those there are).
  """
  config = load_lib.load_config(c.model.name)
  model_config.check_positions(config, policy_lengths(c))
  model = transformer.decoder(c.model, config)
  abstract = sharding.abstract_params(model, mesh)
  found = checkpoint.steps(workdir)
  if step != 0 and (not found or step not in (None, *found)):
    asked = 'no checkpoint' if step is None else f'no checkpoint of step {step}'
    raise ValueError(
      f'{workdir} has {asked}. There are: '
      f'{", ".join(map(str, found)) or "none"}. Take one of these, or step 0 '
      'for the model it started from.'
    )
  place = sharding.placer(abstract) if step == 0 else lambda path, x: None
  loaded = load_lib.load(c.model.name, dtype=c.model.param_dtype, place=place)
  tokenizer = loaded.tokenizer.with_options(c.chat_template_args)
  if step == 0:
    params = loaded.params
    if params is None:
      params = sharding.init_params(model, jax.random.key(c.seed), mesh)
    read = digests.of_model('model.name', loaded.weights, tokenizer)
  else:
    tree, _, step = checkpoint.load(
      workdir, {'params': abstract}, step=step, partial=True
    )
    params = tree['params']
    # The checkpoint has the weights.
    read = digests.of_model('model.name', '', tokenizer)
    read[f'checkpoint of step {step}'] = _checksum(workdir, step)
  asked = FrozenModel(
    model, tokenizer, read=read, source=loaded.source, step=step
  )
  return _asked(asked, params, mesh, True, scoring)


def check_same_vocabulary(one: tuple, other: tuple) -> None:
  """Raises ValueError unless two models read token ids alike.

  Args:
    one, other: (config key, its value, tokenizer).
  """
  tokenizers = one[2], other[2]
  a, b = (t.backend.get_vocab(with_added_tokens=True) for t in tokenizers)
  if a != b or one[2].end_ids != other[2].end_ids:
    raise ValueError(
      f'{one[0]}={registry.show(one[1])} and {other[0]}='
      f'{registry.show(other[1])} have different vocabularies or end tokens. '
      'Tokens pass from one to the other unread: take two models of the same '
      'family.'
    )


def policy_lengths(c) -> dict[str, int]:
  """Lengths of a policy's rows, and of a teacher's."""
  return {
    'max_prompt_length': c.max_prompt_length,
    'max_completion_length': c.max_completion_length,
  }


def _asked(asked, params, mesh, sampling, scoring) -> FrozenModel:
  if sampling:
    with sharding.use(mesh):
      convert = sharding.to_sampler(asked.model, mesh)
      asked = asked._replace(sampler_params=convert(params))
  return asked._replace(params=params) if scoring else asked


def _checksum(workdir, step):
  found = pathlib.Path(workdir) / 'checkpoints' / str(step) / 'manifest.json'
  return hashlib.sha256(found.read_bytes()).hexdigest()[:16]


def sample(
  asked: FrozenModel,
  prompt,
  length,
  key,
  sampling: sampler.Sampling,
  *,
  group: int = 1,
) -> sampler.Sampled:
  """`group` completions of each prompt, B = P*group rows on the mesh in use.

  Args:
    prompt: i32[P,S] and length: i32[P], host arrays, right-padded.
    key: a PRNG key, or one for each row.
  """
  return sampler.sample(
    asked.sampler_params,
    sharding.to_mesh(prompt),
    sharding.to_mesh(length),
    key,
    model=asked.model,
    how=sampling,
    group=group,
  )
