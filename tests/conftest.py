"""Eight fake devices, no silent rank promotion: set before JAX starts."""

import os
import pathlib

os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest

from rlvr_jax import registry

jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(autouse=True)
def _functions_of_config_files():
  """What a test's config files register is gone after it."""
  before = registry.registered()
  yield
  for (kind, name), fn in registry.registered().items():
    if (kind, name) not in before and not fn.__module__.startswith('rlvr_jax.'):
      del registry._FUNCTIONS[kind][name]


@pytest.fixture(scope='session')
def smoke(tmp_path_factory):
  """(workdir, its config that knows what was read) of a whole small run."""
  from rlvr_jax import config, train

  path = pathlib.Path(__file__).parents[1] / 'configs' / 'tiny.py'
  sizes = ('train_batch_size', 'eval.num_tasks', 'eval.batch_size')
  overrides = [
    *(f'{name}=8' for name in sizes),
    'groups_per_micro_batch=8',
    'model.name=tiny(layers=1)',
    'total_steps=2',
    'eval.temperature=1.0',
    'eval.samples=2',
  ]
  recorded = config.Recorder(config.load(f'{path}:smoke', overrides))
  workdir = tmp_path_factory.mktemp('smoke')
  train.train(recorded, workdir)
  return workdir, recorded
