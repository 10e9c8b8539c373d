"""Whole small runs that train adapters; what their checkpoints are good for."""

import json
import math
import pathlib
import shutil

import jax
import numpy as np
import pytest

from rlvr_jax import algorithm, config, experiment, train, types
from rlvr_jax.io import adapters, checkpoint, frozen_model, load
from rlvr_jax.learner import optimizer, programs
from rlvr_jax.models import lora, sharding

pytestmark = pytest.mark.usefixtures('one_device', 'no_page')
TINY = f'{pathlib.Path(__file__).parents[1]}/configs/tiny.py:smoke'
SMALL = (
  'train_batch_size=4',
  'num_generations=2',
  'groups_per_micro_batch=2',
  'max_completion_length=4',
  'eval.num_tasks=4',
  'eval.batch_size=8',
  'eval_every=0',
  'save_every=1',
  'total_steps=2',
  'optimizer.learning_rate=1e-1',
  'optimizer.schedule=constant',
  'reward_funcs=("random",)',
  'model.lora=lora(rank=2, alpha=4)',
)
KL = ('algo.kl=k3', 'algo.beta=0.1')


def settings(*changes):
  return config.load(TINY, [*SMALL, *changes])


def lines(folder):
  rows = (folder / 'metrics.jsonl').read_text().splitlines()
  clock = ('timing_s', 'step_time', 'perf/')
  return [
    {k: v for k, v in json.loads(row).items() if not k.startswith(clock)}
    for row in rows
  ]


@pytest.fixture(scope='module')
def run(tmp_path_factory, save_model):
  """(config, workdir, what it trained, metrics) of a run of two steps."""
  folder = tmp_path_factory.mktemp('lora')
  save_model(folder / 'base')
  c = settings(*KL, f'model.name={folder / "base"}')
  train.train(c, folder / 'run')
  own, _, step = trained(c, folder / 'run')
  assert step == 2
  return c, folder / 'run', own, lines(folder / 'run')


def trained(c, workdir, step=None):
  architecture = load.load_config(c.model.name)
  made = lora.of(c.model.lora)
  return adapters.of_run(workdir, architecture, made, step=step)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_killed_and_resumed_under_kl(run, tmp_path):
  c, workdir, own, before = run
  shutil.copytree(workdir, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'checkpoints' / '2')
  train.train(c, tmp_path / 'run')
  assert lines(tmp_path / 'run') == before
  same(trained(c, tmp_path / 'run')[0], own)
  first, last = before
  assert first['kl'] < 1e-9  # B is 0: the policy is its reference
  assert last['kl'] > 0
  assert first['grad_norm'] > 0
  assert first['update_skipped'] == last['update_skipped'] == 0


def test_a_checkpoint_holds_adapters_and_the_name_of_their_base(run):
  c, workdir, own, _ = run
  folder = workdir / 'checkpoints' / '2'
  said = json.loads((folder / '_CHECKPOINT_METADATA').read_text())
  names = said['custom_metadata']
  arrays = {k for k in names if k.startswith(('params.', 'opt_state.'))}
  parts = ('lora_a', 'lora_b', 'count')
  assert all(k.endswith(parts) for k in arrays)
  assert sum(k.startswith('params.') for k in arrays) == 14
  extra = checkpoint.extra(workdir)
  assert extra['config']['model']['name'] == c.model.name
  assert (
    extra['content']['model.name: weights'] == load.load(c.model.name).weights
  )
  assert np.any(own['layers']['block']['q'][lora.B])


def test_a_base_that_changed_is_refused(run, save_model, tmp_path):
  c, workdir, _, _ = run
  shutil.copytree(workdir, tmp_path / 'run')
  base = pathlib.Path(c.model.name)
  shutil.copytree(base, tmp_path / 'kept')
  save_model(base, seed=1)
  try:
    with pytest.raises(ValueError, match=r'made with other data or weights'):
      train.train(c, tmp_path / 'run')
    with pytest.raises(ValueError, match=r'trained on model.name=.*restore'):
      load.load(str(workdir))
    with pytest.raises(ValueError, match=r'trained on model.name=.*restore'):
      frozen_model.load_checkpoint(c, workdir, None, experiment.mesh_of(c))
  finally:
    shutil.rmtree(base)
    shutil.copytree(tmp_path / 'kept', base)


def test_a_checkpoint_is_sampled_scored_and_serves_as_a_model(run):
  """As evaluate, compare, signal_map and a role of another model read it."""
  c, workdir, own, _ = run
  mesh = experiment.mesh_of(c)
  policy = frozen_model.load_checkpoint(c, workdir, None, mesh, scoring=True)
  assert policy.step == 2
  same(lora.adapters(policy.params), own)
  base = load.load(c.model.name).params
  same(lora.swap(policy.params, None), base)
  merged = load.load(str(workdir)).params
  of_jax = lora.merge(policy.params, lora.of(c.model.lora))
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)
  jax.tree.map(close, merged, of_jax)
  bare = sharding.to_sampler(policy.model.clone(lora=None), mesh)(of_jax)
  same(policy.sampler_params, bare)
  start = frozen_model.load_checkpoint(c, workdir, 0, mesh, scoring=True)
  same(lora.swap(start.params, None), base)
  assert not np.any(start.params['layers']['block']['q'][lora.B])


def test_an_adapter_to_start_from(run, tmp_path):
  """It is trained on, or merged; the reference has it too."""
  c, workdir, own, _ = run
  folder, made = tmp_path / 'adapter', lora.of(c.model.lora)
  architecture = load.load_config(c.model.name)
  adapters.write(folder, architecture, made, own, c.model.name)
  read = adapters.read(folder, architecture)
  assert read.lora == made
  same(read.params, own)
  on = settings(*KL, f'model.name={c.model.name}', f'model.adapter={folder}')
  train.train(on, tmp_path / 'on')
  first, last = lines(tmp_path / 'on')
  assert first['kl'] < 1e-9
  assert last['kl'] > 0
  _, extra, _ = trained(on, tmp_path / 'on')
  assert extra['content']['model.adapter: weights'] == read.digest
  # Without model.lora it is merged into the weights, which are all trained.
  whole = settings(
    f'model.name={c.model.name}', f'model.adapter={folder}', 'model.lora='
  )
  mesh = experiment.mesh_of(whole)
  start = frozen_model.load_checkpoint(whole, tmp_path, 0, mesh, scoring=True)
  same(start.params, load.load(str(workdir)).params)
  wrong = settings(
    f'model.name={c.model.name}',
    f'model.adapter={folder}',
    'model.lora=lora(rank=4)',
  )
  with pytest.raises(ValueError, match=r'it is lora\(rank=2, alpha=4.0, on=al'):
    frozen_model.load_checkpoint(wrong, tmp_path, 0, mesh)


METHODS = {
  'critic': ('algo.estimate=gae', *KL),
  'trust_region': ('algo.distill=loss', 'teacher.weights=trust_region'),
  'reward_model': (
    'method=reward_model',
    'algo.reward_loss=bradley_terry',
  ),
}


@pytest.mark.parametrize('name', METHODS)
def test_methods_train_adapters_alone(name):
  """Shapes of an update: state, moments, and what a checkpoint holds."""
  c = settings('model.name=tiny(layers=1, width=32)', *METHODS[name])
  mesh = experiment.mesh_of(c)
  algo = algorithm.from_config(c.algo)
  if c.method != 'rl':
    algo = algorithm.supervised(algo)
  built = programs.build(c, mesh, algo, load.load_config(c.model.name))
  state = built.abstract
  head = {'value_kernel', 'value_bias'} if built.model.value_head else set()
  every, _ = optimizer.split(state.params, '.*')
  assert {k.split('/')[-1] for k in every} == {lora.A, lora.B} | head
  moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
  size = sum(math.prod(x.shape) for x in every.values())
  scalar = 1 if head else 0  # value_bias has moments without axes
  assert sum(x.size for x in moments) == 2 * (size - scalar)
  b = c.train_batch_size * c.num_generations
  t = c.max_prompt_length + c.max_completion_length
  of = lambda dtype=np.float32: jax.ShapeDtypeStruct((b, t), dtype)
  batch = types.Batch(
    of(np.int32), of(bool), of(), of(), of() if algo.needs_reference else None
  )
  if algo.critic:
    batch = batch.replace(value=of(), returns=of())
  if algo.distill:
    batch = batch.replace(taught=of(bool))
  if algo.reward_loss:
    batch = batch.replace(margin=of())
  with sharding.use(mesh):
    new, _ = jax.eval_shape(built.update, state, (batch,))
  shape = lambda x: (x.shape, x.dtype)
  assert jax.tree.map(shape, new) == jax.tree.map(shape, state)
