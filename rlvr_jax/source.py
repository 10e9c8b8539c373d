"""Another model: one that writes, or judges, what is trained on."""

from typing import Any, NamedTuple

import jax

from rlvr_jax import checks, digests, registry
from rlvr_jax.io import load
from rlvr_jax.io.tokenizer import Tokenizer
from rlvr_jax.learner import programs
from rlvr_jax.models import sharding, transformer


class Teacher(NamedTuple):
  """Another model that writes, or judges, what is trained on. None: none."""

  model: transformer.Decoder | None = None
  tokenizer: Tokenizer | None = None
  sampler: Any = None  # parameters in the sampler's layout
  params: Any = None  # in the training layout, for its logits
  weights: str = ''  # digest of what was read

  @property
  def judge(self):
    """(model, parameters to sample with, tokenizer) for `converse.oracle`."""
    if self.model is None:
      return None
    return self.model, self.sampler, self.tokenizer


def open_teacher(c, mesh) -> Teacher:
  """The model of `c.teacher`; its weights are placed as the policy's are."""
  if not c.teacher.name:
    return Teacher()
  with registry.naming('teacher.name'):
    checks.check_model(c, load.load_config(c.teacher.name))
  found = _open(c, c.teacher.name, mesh, 'teacher.name', 'teach')
  return found if c.teacher.logits else found._replace(params=None)


def _open(c, name, mesh, key, does) -> Teacher:
  model = programs.decoder(c.model, load.load_config(name))
  shapes, shardings = sharding.params_shardings(model, mesh)
  abstract = jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    shapes,
    shardings,
  )
  loaded = load.load(
    name, dtype=c.model.param_dtype, place=sharding.placer(abstract)
  )
  if loaded.params is None:
    raise ValueError(
      f'{key}={registry.show(name)} has no weights, so it has nothing to '
      f'{does}: give the folder of a trained model.'
    )
  with sharding.use(mesh):
    sampler = sharding.to_sampler(model, mesh)(loaded.params)
  return Teacher(
    model, loaded.tokenizer, sampler, loaded.params, loaded.weights
  )


def content_of(model: Teacher, key: str) -> dict[str, str]:
  """`digests.of_model` of a model that there is."""
  if model.tokenizer is None:
    return {}
  return digests.of_model(key, model.weights, model.tokenizer)


def check_vocabulary(c, teacher: Teacher, tokenizer: Tokenizer) -> None:
  """ValueError unless teacher and policy read token ids alike."""
  if teacher.tokenizer is None:
    return
  both = (teacher.tokenizer, tokenizer)
  vocabularies = [t.backend.get_vocab(with_added_tokens=True) for t in both]
  if vocabularies[0] != vocabularies[1] or both[0].end_ids != both[1].end_ids:
    raise ValueError(
      f'teacher.name={registry.show(c.teacher.name)} and '
      f'model.name={registry.show(c.model.name)} have different '
      'vocabularies or end tokens. Tokens pass from one to the other unread: '
      'take a teacher of the same family.'
    )


def open_oracle(c, mesh) -> Teacher:
  """The model of dialogue.oracle."""
  if not c.dialogue.oracle:
    return Teacher()
  with registry.naming('dialogue.oracle'):
    checks.check_oracle(c, load.load_config(c.dialogue.oracle))
  found = _open(c, c.dialogue.oracle, mesh, 'dialogue.oracle', 'know')
  return found._replace(params=None)
