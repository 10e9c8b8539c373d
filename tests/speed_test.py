"""Formulas by hand and against XLA's count; what a run writes of its speed."""

import dataclasses
import functools
import types as builtin

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry, speed, types
from rlvr_jax.models import flops, transformer
from rlvr_jax.reporting import run_writer

TINY = registry.get('model', 'tiny(layers=1, width=32)')()


def test_operations_by_hand():
  """D 32, F 128, 4 heads and 2 key-value heads of 8, V 264; one layer."""
  matrices = 32 * 32 * 2 + 2 * 32 * 16 + 3 * 32 * 128
  # Three tokens after two: they see 3, 4 and 5 keys; two of them predicted.
  want = 2 * matrices * 3 + 4 * 32 * (3 + 4 + 5) + 2 * 32 * 264 * 2
  assert flops.of_tokens(TINY, 3, 2, 2) == want
  # All parameters but the norms are in it, where every token is predicted.
  sizes = TINY.num_params - 3 * 32
  attention = 4 * 32 * 10 * 11 / 2
  assert flops.of_tokens(TINY, 10, 0, 10) == 2 * sizes * 10 + attention


@pytest.mark.parametrize('tokens', [(7, 0), (3, 2), (4, 9), (0, 5)])
def test_a_sliding_layer_sees_its_window(tokens):
  t, s = tokens
  windows = {'sliding': (True, False, True), 'window': 4}
  three = dataclasses.replace(TINY, num_layers=3)
  some = dataclasses.replace(three, **windows)
  less = sum(max(s + i - 4, 0) for i in range(1, t + 1))
  want = flops.of_tokens(three, t, s, t) - 2 * 4 * 32 * less
  assert flops.of_tokens(some, t, s, t) == want


def test_operations_as_xla_counts_them():
  """Within 5%: it counts norms and softmax, and scores that are masked."""
  model, rows, n = transformer.Decoder(TINY), 4, 64
  params = jax.eval_shape(lambda: transformer.init(model, jax.random.key(0)))
  import flax.linen as nn

  logits = functools.partial(transformer.logits, model=model)
  tokens = jax.ShapeDtypeStruct((rows, n), jnp.int32)
  lowered = jax.jit(logits).lower(nn.meta.unbox(params), tokens)
  counted = lowered.cost_analysis()['flops']
  ours = rows * float(flops.of_tokens(TINY, n, 0, n))
  masked = rows * 4 * 32 * n * (n - 1) / 2
  assert ours + masked == pytest.approx(counted, rel=0.05)


def rollout():
  """Prompts of 2 and 3; rows with 2, 0, 4 (a reply of 1 inside) and 1 turns."""
  turn = np.full((2, 2, 8), -1, np.int32)
  turn[0, 0, 2:4] = 0
  turn[1, 0, 3:5], turn[1, 0, 6:8] = 0, 1
  turn[1, 1, 3] = 0
  length = np.array([[4, 2], [8, 4]], np.int32)
  zeros = np.zeros((2, 2, 8), np.int32)
  return types.Rollout(zeros, length, turn, zeros * 0.0, length * 0)


def test_a_prompt_is_counted_once_for_its_group():
  of = functools.partial(flops.of_tokens, TINY)
  want = [of(2, 0, 0) + of(2, 2, 2), of(3, 0, 0) + of(5, 3, 4) + of(1, 3, 1)]
  np.testing.assert_array_equal(flops.of_groups(TINY, rollout()), want)
  assert flops.sampled_tokens(rollout()) == 7
  none = rollout().replace(turn=np.full((2, 2, 8), -1))
  np.testing.assert_array_equal(flops.of_groups(TINY, none), [0, 0])


def test_peak_of_devices():
  assert flops.peak('TPU v5 lite', 16) == 16 * 197e12
  assert flops.peak('cpu', 8) is None


def test_what_was_inside_another_counts_once():
  spans = [(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.75), (5.0, 5.5)]
  assert speed.covered(spans) == 4.0
  assert speed.covered([]) == 0.0


def test_metrics_by_hand(monkeypatch):
  clock, compiled = [0.0], [0.0]
  monkeypatch.setattr(speed.time, 'perf_counter', lambda: clock[0])
  take = lambda: compiled.pop() if compiled else 0.0
  of_process = lambda: builtin.SimpleNamespace(take=take)
  monkeypatch.setattr(speed._Compiling, 'of_process', of_process)
  monkeypatch.setitem(flops.PEAK, 'cpu', 1e6)
  stats = lambda n: builtin.SimpleNamespace(
    memory_stats=lambda: {'peak_bytes_in_use': n}
  )
  devices = lambda: [stats(2**29), stats(2**30)]
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), 'x')
  meter = speed.Meter(TINY, mesh)

  def pass_(seconds, stage, compiling=0.0):
    compiled.append(compiling)
    clock[0] += seconds
    meter(stage)

  with meter.aside('eval'):
    clock[0] += 7
  meter.start()
  pass_(3, 'rollout', 1)
  pass_(2, 'overlap')
  pass_(1, 'reward')
  pass_(4, 'update', 2)
  meter.trained(rollout(), np.array([True, False]), 3)
  meter.sampled([rollout(), rollout()], 'policy')
  clock[0] += 10
  monkeypatch.setattr(speed.jax, 'local_devices', devices)
  got = meter.metrics()
  a, b = flops.of_groups(TINY, rollout())
  assert got == {
    'timing_s/rollout': 3, 'timing_s/overlap': 2, 'timing_s/reward': 1,
    'timing_s/update': 4, 'timing_s/compile': 3, 'timing_s/eval': 7,
    'step_time': 20, 'perf/tokens_per_s': 14 / 20,
    'perf/tokens_per_s/rollout': 14 / 4, 'perf/tokens_per_s/update': 21 / 2,
    'perf/mfu/rollout': pytest.approx(2 * (a + b) / 4 / 2e6),
    'perf/mfu/update': pytest.approx(3 * (3 * a + b) / 2 / 2e6),
    'perf/hbm_peak_gib': 1.0,
  }  # fmt: skip
  assert all(map(run_writer.is_wall_clock, got))
  # The teacher's operations are not the policy's, and given rows cost none.
  for by, has in (('teacher', True), ('', False)):
    meter.start()
    pass_(1, 'rollout')
    meter.sampled([rollout()], by)
    got = meter.metrics()
    assert ('perf/tokens_per_s/rollout' in got) == has
    assert 'perf/mfu/rollout' not in got
    assert 'timing_s/eval' not in got


def test_a_run_says_how_fast_it_is(smoke):
  first, second = run_writer.read(smoke[0] / run_writer.METRICS)
  assert first['timing_s/eval'] > 0  # before the first step
  assert 'timing_s/eval' not in second
  assert first['timing_s/compile'] > 0
  stages = ('rollout', 'overlap', 'reward', 'update')
  for line in first, second:
    assert line['timing_s/compile'] < line['step_time']
    took = sum(line.get(f'timing_s/{k}', 0.0) for k in stages)
    assert took <= line['step_time']
    for name in 'rollout', 'update':
      assert line[f'perf/tokens_per_s/{name}'] > line['perf/tokens_per_s']
      assert f'perf/mfu/{name}' not in line  # of a CPU
    assert 'perf/hbm_peak_gib' not in line
    assert 0 < line['perf/goodput'] < 1
  by = 'sampler_trainer/logp_diff_by_position/'
  places = {k for k in second if k.startswith(by)}
  assert f'{by}0-15' in places
  assert (
    max(second[k] for k in places)
    <= second['sampler_trainer/logp_diff_max'] + 1e-6
  )
  assert not any(k.startswith(by) for k in first)


def test_a_trace_of_the_steps(smoke):
  (path,) = (smoke[0] / 'profile').rglob('*.xplane.pb')
  data = jax.profiler.ProfileData.from_file(str(path))
  steps = [
    dict(event.stats)
    for plane in data.planes
    for line in plane.lines
    for event in line.events
    if event.name == 'train'
  ]
  assert [s['step_num'] for s in steps] == [2]


def test_an_update_moves_nothing_to_its_devices():
  """`smoke` runs its updates so; here is what it would refuse."""
  refused = pytest.raises(Exception, match='Disallowed host-to-device')
  with jax.transfer_guard('disallow'), refused:
    jax.jit(jnp.negative)(np.zeros(3, np.float32))


def test_where_compiled_programs_are_kept(tmp_path, monkeypatch):
  resets = []
  config = builtin.SimpleNamespace(
    jax_compilation_cache_dir=None,
    update=lambda name, x: setattr(config, name, x),
  )
  monkeypatch.setattr(speed.jax, 'config', config)
  monkeypatch.setattr(speed.jax_cache, 'reset_cache', lambda: resets.append(1))
  monkeypatch.setattr(speed, '_made', None)
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  where = lambda: config.jax_compilation_cache_dir
  speed.use_cache('auto', tmp_path / 'runs' / 'mine')
  assert where().startswith(str(tmp_path / 'runs' / '.cache' / 'cpu-'))
  assert where().endswith(speed._machine())
  speed.use_cache('auto', tmp_path / 'runs' / 'other')
  assert len(resets) == 1  # the same place
  speed.use_cache(str(tmp_path / 'here'), tmp_path / 'runs' / 'mine')
  assert where() == str(tmp_path / 'here' / speed._machine())
  speed.use_cache('off', tmp_path / 'runs' / 'mine')
  assert where() is None
  config.jax_compilation_cache_dir = 'chosen by the caller'
  speed.use_cache('auto', tmp_path / 'runs' / 'mine')
  assert where() == 'chosen by the caller'
  config.jax_compilation_cache_dir = None
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '')
  speed.use_cache('auto', tmp_path / 'runs' / 'mine')
  assert where() is None
