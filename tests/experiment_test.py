"""Parts of an experiment that are decided without making all of it."""

import pathlib

import jax
import pytest

from rlvr_jax import checks, config, experiment, registry
from rlvr_jax.models import micro_batch, sharding, transformer

ROOT = pathlib.Path(__file__).parents[1]
TINY = f'{ROOT}/configs/tiny.py:smoke'


def make(*changes):
  sizes = ('train_batch_size=8', 'groups_per_micro_batch=8')
  return experiment.create(config.load(TINY, [*sizes, *changes]))


@pytest.fixture
def wrapped():
  """Environments of a config file, around those of the package."""
  for name, spec in (('games', 'guessing()'), ('sums', 'arithmetic()')):
    registry.register('env', name)(
      lambda *, spec=spec: registry.get('env', spec)()
    )
  yield
  for name in ('games', 'sums'):
    del registry._FUNCTIONS['env'][name]


def test_a_dialogue_is_known_by_name_or_by_its_tasks(wrapped, monkeypatch):
  assert make('env=games').is_dialogue
  assert not make('env=sums').is_dialogue
  # Of the package's own nothing is built.
  monkeypatch.setattr(checks, 'environment', None)
  assert make('env=guessing()').is_dialogue
  assert not make('env=gsm8k').is_dialogue


def test_a_run_is_evaluated_without_the_file_of_its_labels():
  x = make('labels=gone.jsonl', 'reward_funcs=("majority",)')
  assert len(x.all_eval_tasks) == x.config.eval.num_tasks
  with pytest.raises((ValueError, OSError), match='gone'):
    x.eval_tasks  # noqa: B018


def test_equal_scorers_are_one_program():
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  shapes = micro_batch.Shapes(1, 4, 4, 64, pack=True)

  def make_one(temperature=1.0):
    model = transformer.Decoder(registry.get('model', 'tiny')())
    return micro_batch.scorer(
      model, mesh, temperature=temperature, shapes=shapes
    )

  assert make_one() is make_one()
  assert make_one() is not make_one(0.5)
