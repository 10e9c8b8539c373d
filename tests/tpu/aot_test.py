"""Ahead-of-time compilation for TPU slices, on a machine without TPUs."""

import importlib.util
import json
import os
import pathlib
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rlvr_jax import config as config_lib
from rlvr_jax import config_file, experiment
from rlvr_jax.models import sharding
from rlvr_jax.tpu import aot, hlo

ROOT = pathlib.Path(aot.__file__).parents[2]
needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason="needs libtpu: pip install 'rlvr_jax[tpu]'",
)

TEXT = """HloModule jit_f

%gathering (p: bf16[4,64]) -> bf16[8,64] {
  %p = bf16[4,64]{1,0} parameter(0)
  ROOT %ag = bf16[8,64]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=3
}

%copy.of.gathering (p: bf16[4,64]) -> bf16[8,64] {
  %p = bf16[4,64]{1,0} parameter(0)
  ROOT %ag.2 = bf16[8,64]{1,0} all-gather(%p), channel_id=3
}

%all-reduce-scatter.1 (p: f32[16]) -> f32[8] {
  %p = f32[16]{0} parameter(0)
  %ar = f32[16]{0} all-reduce(%p), channel_id=9, to_apply=%add
}

%body (s: (bf16[4,64])) -> (bf16[4,64]) {
  %f = bf16[8,64]{1,0} fusion(%x), kind=kLoop, calls=%gathering
  %g = bf16[8,64]{1,0} fusion(%x), kind=kLoop, calls=%copy.of.gathering
  %cp = (f32[2,4]{1,0}, f32[2,4]{1,0}, u32[], u32[]) collective-permute-start(%y), channel_id=4
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %w = (bf16[4,64]{1,0}) while(%t), condition=%cond, body=%body
  %r = (f32[8]{0}, f32[2]{0}) all-reduce(%a, %b), channel_id=5, to_apply=%add
  %s = f32[8]{0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_collectives_of_a_text():
  found = {
    (c.kind, c.shapes, c.bytes, c.in_loop) for c in hlo.collectives(TEXT)
  }
  assert found == {
    ('all-gather', (('bf16', (8, 64)),), 1024, True),
    ('collective-permute', (('f32', (2, 4)),), 32, True),
    ('all-reduce', (('f32', (8,)), ('f32', (2,))), 40, False),
    ('reduce-scatter', (('f32', (16,)),), 64, False),
  }
  assert len(hlo.collectives(TEXT)) == 4


def test_a_program_that_cannot_be_printed_has_unknown_collectives():
  class Compiled:
    def as_text(self):
      raise jax.errors.JaxRuntimeError('INTERNAL: RET_CHECK failure')

  assert hlo.of_program(Compiled()) is None
  compiled = jax.jit(lambda x: x + 1).lower(1.0).compile()
  assert hlo.of_program(compiled) == []


def test_unknown_collectives_are_in_the_table(monkeypatch):
  for name in (
    *('JAX_PLATFORMS', 'TPU_SKIP_MDS_QUERY', 'ALLOW_MULTIPLE_LIBTPU_LOAD'),
    *('TPU_WORKER_HOSTNAMES', 'TPU_ACCELERATOR_TYPE'),
    'JAX_ENABLE_COMPILATION_CACHE',
  ):
    monkeypatch.setenv(name, 'cpu')  # as it was afterwards: the script sets it
  script = runpy.run_path(str(ROOT / 'scripts' / 'aot_compile.py'))
  move = hlo.Collective('all-gather', (('f32', (4,)),), 2**20, True)
  table = script['collectives_table'](
    [
      aot.Report('sample', None, '', None, 1.0),
      aot.Report('update', None, '', [move], 1.0),
    ]
  )
  sample, update = (line.split() for line in table.splitlines()[2:])
  assert sample[0] == 'sample'
  assert sample[-4:] == ['?'] * 4
  assert update == ['update', 'all-gather', '1', '1.0', '1', '1.0']


def test_activations_in_the_shape_of_a_bias_are_no_weights():
  mesh = sharding.make_mesh((1, 2, 4))
  found = [
    hlo.Collective('all-gather', (('f32', (128, 4, 1)),), 2048, True),
    hlo.Collective('all-gather', (('f32', (64, 128)),), 32_768, True),
  ]
  leaf = lambda *shape: jax.ShapeDtypeStruct(shape, 'float32')
  params = {'layers': [{'k': {'bias': leaf(4, 128), 'kernel': leaf(64, 128)}}]}
  assert hlo.weight_moves(found, params, mesh) == [
    'all-gather of f32[64,128]: layers/*/k/kernel'
  ]


def test_bytes_per_device_of_abstract_arrays():
  mesh = sharding.make_mesh((1, 4, 2))
  put = lambda shape, dtype, *spec: jax.ShapeDtypeStruct(
    shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*spec))
  )
  tree = [
    put((8, 6), jnp.float32, 'fsdp', 'tensor'),  # 2 x 3 floats
    put((10,), jnp.bfloat16),  # whole everywhere
  ]
  assert aot.nbytes(tree) == 2 * 3 * 4 + 10 * 2


@pytest.mark.parametrize('name', ['v5e', 'v9:2x2', 'v5e:8', 'v5e:4by4', ''])
def test_an_unknown_topology_is_refused(name):
  with pytest.raises(ValueError, match=r'v5e:4x4.*v6e:4x4'):
    aot.topology(name)


@pytest.fixture
def small(monkeypatch):
  """A small model's programs on four v5e chips, fsdp 2 x tensor 2."""
  monkeypatch.setenv('TPU_SKIP_MDS_QUERY', '1')
  monkeypatch.setenv('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  # JAX cannot read a program for absent devices back from its cache.
  shortest = 'jax_persistent_cache_min_compile_time_secs'
  before = getattr(jax.config, shortest)
  jax.config.update(shortest, 1e9)
  c = config_lib.load(
    str(ROOT / 'configs' / 'tiny.py'),
    [
      'model.name=tiny(layers=2, width=512, heads=8, kv_heads=2)',
      'model.dtype=bfloat16',
      'mesh.shape=(1, 2, 2)',
      'train_batch_size=4',
      'groups_per_micro_batch=2',
      'eval.batch_size=4',
      'num_generations=8',
      'max_completion_length=16',
    ],
  )
  _, devices = aot.topology('v5e:2x2')
  mesh = sharding.make_mesh(c.mesh.shape, devices)
  yield lambda: (c, mesh, {p.name: p for p in aot.programs(c, mesh)})
  jax.config.update(shortest, before)


@needs_libtpu
def test_the_decode_loop_gathers_no_weights(small):
  _, mesh, programs = small()
  sample = programs['sample']
  report = aot.compile_program(sample, mesh)
  assert hlo.weight_moves(report.collectives, sample.weights, mesh) == []
  # Tensor parallelism adds collectives: the loop was found.
  assert any(c.kind == 'all-reduce' and c.in_loop for c in report.collectives)
  # Weights are whole over fsdp and split over tensor.
  assert report.memory.arguments >= aot.nbytes(sample.weights)


@needs_libtpu
def test_dialogues_are_programs_of_their_own(small):
  c, mesh, _ = small()
  c.env = "guessing(world='attributes()')"
  c.dialogue.max_turns, c.dialogue.belief = 3, 'current'
  c.reward_funcs = ('win(1.0)',)
  programs = {p.name: p for p in aot.programs(c, mesh)}
  assert list(programs) == ['to_sampler', 'begin', 'turn', 'belief', 'update']
  report = aot.compile_program(programs['turn'], mesh)
  assert (
    hlo.weight_moves(report.collectives, programs['turn'].weights, mesh) == []
  )
  # The cache is donated: updated in place.
  assert report.memory.reused > 0
  assert aot.compile_program(programs['belief'], mesh).memory is not None


@needs_libtpu
def test_adapters_need_no_second_copy_of_the_weights(small):
  c, mesh, _ = small()
  c.algo.kl, c.algo.beta = 'k3', 0.1
  resident = lambda: {p.name: p.resident for p in aot.programs(c, mesh)}
  full = resident()
  c.model.lora = 'lora(rank=4)'
  programs = {p.name: p for p in aot.programs(c, mesh)}
  assert full['update'] > 0  # the reference
  assert programs['update'].resident == 0
  assert programs['to_sampler'].resident < full['to_sampler'] / 10
  # Both are sampled alike: merged weights, and no more of them.
  sample = programs['sample']
  report = aot.compile_program(sample, mesh)
  assert hlo.weight_moves(report.collectives, sample.weights, mesh) == []
  assert aot.nbytes(sample.weights) == aot.nbytes(small()[2]['sample'].weights)
  update = aot.compile_program(programs['update'], mesh)
  moments = programs['to_sampler'].resident
  assert update.memory.outputs < moments  # the base is donated, not copied


@pytest.mark.parametrize('name', ['policy', 'tiny(layers=3)'])
def test_a_judge_is_a_program(name):
  """Compiled for the fake devices: another model's weights stay all along."""
  small = ['model.name=tiny(layers=1)', 'judge.max_prompt_length=64']
  small += ['judge.max_completion_length=2', 'judge.batch_size=3']
  sizes = (
    'train_batch_size=8',
    'groups_per_micro_batch=8',
    'eval.batch_size=8',
  )
  tiny = str(ROOT / 'configs' / 'tiny.py')
  c = config_lib.load(tiny, [*small, *sizes])
  mesh = sharding.make_mesh((1, -1, 1))
  before = {p.name: p for p in aot.programs(c, mesh)}
  c.reward_funcs = ('judge(format=letter, samples=2)',)
  c.judge.name = name
  programs = {p.name: p for p in aot.programs(c, mesh)}
  assert set(programs) - set(before) == {'judge'}
  judge = programs['judge']
  report = aot.compile_program(judge, mesh)
  weights = aot.nbytes(before['sample'].weights)
  added = programs['update'].resident - before['update'].resident
  if name == 'policy':
    assert added == 0
    assert judge.resident == before['sample'].resident
  else:
    assert added > weights
    assert judge.resident == before['sample'].resident + weights
  # 3 prompts, rounded up to one a device, of two judgments each.
  assert report.memory.arguments > max(weights, added)


PRESETS = config_file.module(str(ROOT / 'configs' / 'v5e8.py'))


@pytest.mark.parametrize('arg', PRESETS.AOT)
def test_presets_of_one_host_can_start(arg):
  """Eight devices: batch, micro-batch and heads divide."""
  c = config_lib.load(f'{ROOT}/configs/v5e8.py:{arg}', ())
  x = experiment.Experiment(c, experiment.mesh_of(c))
  assert x.mesh.size == 8
  assert x.architecture.num_kv_heads % x.mesh.shape['tensor'] == 0
  assert c.groups_per_micro_batch == sharding.batch_shards(x.mesh)
  assert bool(c.model.lora) == (x.architecture.num_params > 5e9)


@needs_libtpu
@pytest.mark.timeout(1800)
def test_the_smallest_preset_fits_one_host(tmp_path):
  out = tmp_path / 'report.json'
  done = run(
    '--config=configs/v5e8.py',
    '--topology=v5e:2x4',
    f'--json={out}',
    timeout=1800,
  )
  assert done.returncode == 0, done.stderr
  report = json.loads(out.read_text())
  assert report['mesh'] == [1, 8, 1]
  assert report['programs'].keys() == {'to_sampler', 'sample', 'update'}
  assert max(report['programs'].values()) < report['usable'] == 15.75


@needs_libtpu
def test_weights_gathered_in_the_decode_loop_are_found(small, monkeypatch):
  monkeypatch.setattr(sharding, 'SAMPLER_RULES', sharding.RULES)
  _, mesh, programs = small()
  sample = programs['sample']
  report = aot.compile_program(sample, mesh)
  moves = hlo.weight_moves(report.collectives, sample.weights, mesh)
  assert any('layers/*/' in line for line in moves)


def run(*args, timeout=300):
  return subprocess.run(
    [sys.executable, 'scripts/aot_compile.py', *args],
    cwd=ROOT,
    env=dict(os.environ, JAX_NUM_CPU_DEVICES='1'),
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


@needs_libtpu
def test_too_large_a_config_exits_1_and_prints_by_how_much():
  done = run(
    '--config=configs/gsm8k.py:qwen2.5_7b',
    '--topology=v5e:2x2',
    '--only=to_sampler',
    '--config.mesh.shape=(1,4,1)',
  )
  assert done.returncode == 1
  assert 'to_sampler does not fit' in done.stderr
  assert 'larger tensor in mesh.shape' in done.stderr


@needs_libtpu
def test_a_mesh_that_does_not_divide_the_model_exits_1():
  done = run(
    '--config=configs/gsm8k.py:qwen2.5_1.5b',
    '--topology=v5e:4x4',
    '--config.mesh.shape=(1,-1,4)',
  )
  assert done.returncode == 1
  assert 'kv_heads has size 2, no multiple of mesh axis tensor=4' in done.stderr
  assert 'Traceback' not in done.stderr


@pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is not None, reason='libtpu is installed'
)
def test_without_libtpu_the_error_names_the_extra():
  done = run('--config=configs/tiny.py', '--topology=v5e:2x2')
  assert done.returncode == 1
  assert 'rlvr_jax[tpu]' in done.stderr
