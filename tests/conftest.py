"""Eight fake devices, programs that compile fast, no silent rank promotion."""

import atexit
import gc
import json
import os
import pathlib
import shutil
import tempfile
import types

# Before JAX starts, and for the processes that tests start.
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '8')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Tiny programs run a few times each: to optimise them costs more than it saves.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false '
  '--xla_llvm_disable_expensive_passes=true '
  '--xla_cpu_parallel_codegen_split_count=1',
)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'

import jax
import pytest

from rlvr_jax import registry

jax.config.update('jax_numpy_rank_promotion', 'raise')
# Hardly anything that tracing makes is garbage, and to look through it all,
# again and again, takes a tenth of a run.
gc.set_threshold(50_000, 10, 10)
# Equal programs of several runs compile once. JAX writes its entries in place,
# so that whoever is killed may leave half of one: no two workers of xdist share
# a cache, and processes that tests start have one beside it.
_CACHE = pathlib.Path(tempfile.mkdtemp(prefix='rlvr_jax_tests_'))
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
jax.config.update('jax_compilation_cache_dir', str(_CACHE / 'tests'))
os.environ['JAX_COMPILATION_CACHE_DIR'] = str(_CACHE / 'processes')

# Files that take longest, started first so that all workers end together.
_LONGEST = (
  'train_test',
  'recorded_runs_test',
  'dialogue_run_test',
  'cell_test',
  'stale_test',
  'train_step_test',
  'sharding_test',
  'gradients_test',
  'donation_test',
  'hosts_test',
  'launcher_test',
  'interrupted_test',
  'methods_test',
  'preference_run_test',
  'direct_test',
  'judge_run_test',
  'loss_test',
  'teacher_test',
  'fork_test',
  'recipes_test',
  'teacher_run_test',
  'config_effects_test',
  'compare_script_test',
  'minimal_grpo_test',
  'sampler_test',
  'options_test',
  'pool_test',
  'gym_scorers_test',
  'gym_test',
)


def pytest_collection_modifyitems(items):
  rank = {name: i for i, name in enumerate(_LONGEST)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope='session')
def save_model():
  """save(folder, seed, spec) -> folder: random weights, as a model's folder.

  Replaces a model that is there.
  """
  import numpy as np

  from rlvr_jax import registry
  from rlvr_jax.io import export, tokenizer
  from rlvr_jax.models import sharding, transformer

  def save(folder, seed=0, spec='tiny(layers=1, width=32)'):
    config = registry.get('model', spec)()
    shapes, _ = sharding.params_shardings(
      transformer.Decoder(config), sharding.make_mesh((1, -1, 1))
    )
    rng = np.random.default_rng(seed)
    make = lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32)
    shutil.rmtree(folder, ignore_errors=True)
    params = jax.tree.map(make, shapes)
    export.export(folder, config, params, tokenizer.byte_level())
    return folder

  return save


@pytest.fixture(scope='module')
def one_device():
  """Runs of a module have one device of the eight; `mesh_of` as it was.

  Their programs have nothing to exchange, so there is less to compile and run.
  That more devices give the same numbers is shown by `models/sharding_test`,
  `signal_map/direct_test` and `train_test`.
  """
  from rlvr_jax import experiment

  mesh_of = experiment.mesh_of
  with pytest.MonkeyPatch.context() as patch:
    one = jax.devices()[:1]
    patch.setattr(
      experiment, 'mesh_of', lambda c, devices=one: mesh_of(c, devices)
    )
    yield mesh_of


@pytest.fixture(scope='module')
def no_page():
  """Runs of a module draw no page at their end, which takes a second or two.

  `reporting/report_test` has those of `smoke` and of made-up runs.
  """
  from rlvr_jax import train

  with pytest.MonkeyPatch.context() as patch:
    none = types.SimpleNamespace(build=lambda *_: None)
    patch.setattr(train, 'report', none)
    yield


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
  """(workdir, keys of its config that were not read) of a whole small run.

  Made once for all workers of xdist: the first to ask makes it.
  """
  import filelock

  folder = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    folder = folder.parent
  workdir, unread = folder / 'smoke', folder / 'smoke_unread.json'
  with filelock.FileLock(folder / 'smoke.lock'):
    if not unread.exists():
      unread.write_text(json.dumps(_smoke(workdir)))
  return workdir, json.loads(unread.read_text())


def _smoke(workdir):
  from rlvr_jax import config, train
  from rlvr_jax.learner import programs

  build = programs.build

  def guarded(*args, **options):
    made = build(*args, **options)

    def update(*args):
      with jax.transfer_guard('disallow'):  # all that it needs is there
        return made.update(*args)

    return made._replace(update=update)

  path = pathlib.Path(__file__).parents[1] / 'configs' / 'tiny.py'
  sizes = ('train_batch_size', 'eval.num_tasks', 'eval.batch_size')
  overrides = [
    *(f'{name}=8' for name in sizes),
    'groups_per_micro_batch=8',
    'model.name=tiny(layers=1)',
    'total_steps=2',
    'eval.temperature=1.0',
    'eval.samples=2',
    'profile_steps=(2, 2)',
    'positions_every=2',
  ]
  recorded = config.Recorder(config.load(f'{path}:smoke', overrides))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(programs, 'build', guarded)
    train.train(recorded, workdir)
  return recorded.unread()
