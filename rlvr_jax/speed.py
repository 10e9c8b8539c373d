"""How fast is a run? Seconds of its stages, operations, memory, and traces.

Nothing here changes a result: metrics of `timing_s/`, `perf/` and `step_time`
differ between two runs of one config, and only they.
"""

import contextlib
import hashlib
import math
import os
import pathlib
import platform
import time
from collections.abc import Iterator, Sequence

import jax
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from rlvr_jax import hosts, storage, types
from rlvr_jax.models import flops
from rlvr_jax.models.model_config import ModelConfig

# What JAX reports of making a program ready: tracing, lowering, compiling or
# reading it from the cache.
_COMPILING = '/jax/core/compile/'
_CACHE = 'jax_compilation_cache_dir'


class Meter:
  """Seconds, tokens and operations of each step of a run.

  Call it with the name of the stage that just ended. Between two steps, `aside`
  measures what is part of neither.

  Args:
    config: of the policy, whose operations are counted.
    mesh: of the devices that the run has.
  """

  def __init__(self, config: ModelConfig, mesh: jax.sharding.Mesh):
    self._config = config
    kind = mesh.devices.flat[0].device_kind
    self._peak = flops.peak(kind, mesh.size)
    self._compiling = _Compiling.of_process()
    self._aside: dict[str, float] = {}
    self.start()

  def start(self) -> None:
    """A step begins."""
    self._compiling.take()
    self._seconds: dict[str, float] = {}
    self._compiled: dict[str, float] = {}
    self._tokens = 0
    self._work: dict[str, list[float]] = {}
    self._began = self._last = time.perf_counter()

  def __call__(self, stage: str) -> None:
    now = time.perf_counter()
    taken, compiled = now - self._last, self._compiling.take()
    self._seconds[stage] = self._seconds.get(stage, 0.0) + taken
    self._compiled[stage] = self._compiled.get(stage, 0.0) + compiled
    self._last = now

  @contextlib.contextmanager
  def aside(self, name: str) -> Iterator[None]:
    """Measures the block; the next step's metrics have it."""
    began = time.perf_counter()
    try:
      yield
    finally:
      took = time.perf_counter() - began
      self._aside[name] = self._aside.get(name, 0.0) + took

  def sampled(self, rollouts: Sequence[types.Rollout], by: str) -> None:
    """Counts the rows of this step, a forward pass of each.

    Args:
      by: who wrote them: 'policy', 'teacher', whose operations are not
        counted, or '': nobody sampled them.
    """
    for rollout in rollouts:
      tokens = flops.sampled_tokens(rollout)
      self._tokens += tokens
      done = float('nan')
      if by == 'policy':
        done = float(flops.of_groups(self._config, rollout).sum())
      if by:
        self._add('rollout', tokens, done)

  def trained(self, rollout: types.Rollout, live, times: int) -> None:
    """Counts what an update of this step trained on.

    Three forward passes for a group with a gradient: the backward pass takes
    two. One for the others, of which the update computes metrics.

    Args:
      live: bool[P], groups that may have a gradient.
      times: updates on these rows.
    """
    each = flops.of_groups(self._config, rollout)
    done = times * float((each * (1 + 2 * live)).sum())
    self._add('update', times * flops.sampled_tokens(rollout), done)

  def _add(self, stage, tokens, done):
    old = self._work.get(stage, [0.0, 0.0])
    self._work[stage] = [old[0] + tokens, old[1] + done]

  def metrics(self) -> dict[str, float]:
    """Metrics of the step up to now. All hosts must call it.

    - timing_s/STAGE: seconds of each stage. They add up to step_time, but for
      what comes after the last stage. Of rollout, overlap and reward: devices
      sample in the first two; in overlap the host checks rows that have ended.
    - timing_s/compile: seconds in which programs were traced, lowered, compiled
      or read from the cache; part of the stages.
    - timing_s/eval, timing_s/checkpoint: seconds between the step before and
      this one in which the run evaluated, and waited for a checkpoint (it is
      written in the background); absent where it did not.
    - perf/tokens_per_s: sampled tokens over step_time.
    - perf/tokens_per_s/rollout: sampled tokens over the time of rollout and
      overlap; perf/tokens_per_s/update: sampled tokens in the update's rows,
      times num_iterations, over the time of update. Without compilation.
    - perf/mfu/rollout, perf/mfu/update: operations of these tokens over the
      same times and the peak of all devices: model FLOPs utilisation. One
      forward pass of sampled rows, `flops.of_groups`; for the update see
      `trained`: about 2N a sampled and 6N a trained token. Other models, the
      reference's and the critic's passes are not counted. Absent where `PEAK`
      has no such device.
    - perf/hbm_peak_gib: largest number of bytes in use since the process
      started, of any device of any host; absent where the backend has no such
      number.
    """
    total = time.perf_counter() - self._began
    out = {f'timing_s/{k}': v for k, v in self._seconds.items()}
    out['timing_s/compile'] = sum(self._compiled.values())
    out |= {f'timing_s/{k}': v for k, v in self._aside.items()}
    self._aside = {}
    out['step_time'] = total
    out['perf/tokens_per_s'] = self._tokens / total
    stages = {'rollout': ('rollout', 'overlap'), 'update': ('update',)}
    for name, (tokens, done) in self._work.items():
      seconds = sum(self._seconds.get(k, 0.0) for k in stages[name])
      seconds -= sum(self._compiled.get(k, 0.0) for k in stages[name])
      if seconds > 0:
        out[f'perf/tokens_per_s/{name}'] = tokens / seconds
        if self._peak is not None and not math.isnan(done):
          out[f'perf/mfu/{name}'] = done / seconds / self._peak
    if (peak := hbm_peak_gib()) is not None:
      out['perf/hbm_peak_gib'] = peak
    return out


def hbm_peak_gib() -> float | None:
  """GiB: see `Meter.metrics`. All hosts must call it."""
  peaks = [
    (d.memory_stats() or {}).get('peak_bytes_in_use')
    for d in jax.local_devices()
  ]
  if None in peaks:  # on all hosts: they have one backend
    return None
  return max(hosts.gather(max(peaks))) / 2**30


class _Compiling:
  """Seconds in which JAX made programs ready, as it reports them itself."""

  _one: '_Compiling | None' = None

  def __init__(self):
    self._spans: list[tuple[float, float]] = []
    jax.monitoring.register_event_duration_secs_listener(self._hear)

  @classmethod
  def of_process(cls) -> '_Compiling':
    """The one of this process: JAX keeps its listeners."""
    cls._one = cls._one or cls()
    return cls._one

  def _hear(self, event: str, seconds: float, **_) -> None:
    if event.startswith(_COMPILING):
      now = time.perf_counter()
      self._spans.append((now - seconds, now))

  def take(self) -> float:
    """Seconds since the last call; what was inside another counts once."""
    spans, self._spans = self._spans, []
    return covered(spans)


def covered(spans: Sequence[tuple[float, float]]) -> float:
  """Length of the union of intervals (start, end)."""
  total, reached = 0.0, -float('inf')
  for start, end in sorted(spans):
    total += max(0.0, end - max(start, reached))
    reached = max(reached, end)
  return total


class Profile:
  """A trace of the steps from the first to the last, in DIR/profile.

  `python -m xprof DIR/profile` and TensorBoard show it. Of the devices of the
  first host, which sees what the others do too: all run one program.

  Args:
    folder: DIR.
    steps: first and last step; (0, 0) for none.
  """

  def __init__(self, folder: pathlib.Path, steps: Sequence[int]):
    self._folder = folder / 'profile'
    self._first, self._last = steps
    self._open = contextlib.ExitStack()
    self._tracing = False

  def __enter__(self) -> 'Profile':
    return self

  def __exit__(self, *_) -> None:
    self._stop()

  def before(self, step: int) -> None:
    """Starts the trace, where it begins with this step."""
    if not (hosts.first() and self._first <= step <= self._last):
      return
    if not self._tracing:
      jax.profiler.start_trace(self._folder)
      self._tracing = True
    named = jax.profiler.StepTraceAnnotation('train', step_num=step)
    self._open.enter_context(named)

  def after(self, step: int) -> None:
    """Ends the step in the trace; after the last one, writes the trace."""
    self._open.close()
    if step >= self._last:
      self._stop()

  def _stop(self):
    self._open.close()
    if self._tracing:
      self._tracing = False
      jax.profiler.stop_trace()


_made: str | None = None  # the cache that `use_cache` chose


def use_cache(setting: str, workdir: str | os.PathLike) -> None:
  """Keeps compiled programs, for restarts and for the runs beside this one.

  JAX keeps those that took a second or more to compile. An entry that it cannot
  read, since whoever wrote it was killed, costs a warning and compiling again.
  A cache that the environment (JAX_COMPILATION_CACHE_DIR, even if empty) or the
  caller chose stays.

  Args:
    setting: 'auto': `.cache` beside `workdir`, or for one in a bucket
      `.cache/rlvr_jax` of the user; 'off'; or a directory.
    workdir: of the run.
  """
  global _made
  chosen = getattr(jax.config, _CACHE) or None
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ or chosen != _made:
    return
  folder = None
  if setting != 'off':
    if storage.bucket(workdir) is None:
      beside = pathlib.Path(workdir).absolute().parent / '.cache'
    else:
      beside = pathlib.Path.home() / '.cache' / 'rlvr_jax'
    folder = beside if setting == 'auto' else pathlib.Path(setting)
    folder = str(folder / _machine())
  if folder != chosen:
    jax.config.update(_CACHE, folder)
    jax_cache.reset_cache()  # it looked once, when the first program compiled
    _made = folder


def _machine() -> str:
  """Name of a folder for programs of this backend.

  Code for CPUs may not run on one that has fewer instructions.
  """
  backend = jax.default_backend()
  if backend != 'cpu':
    return backend
  said = platform.machine() + platform.processor()
  with contextlib.suppress(OSError):
    lines = pathlib.Path('/proc/cpuinfo').read_text('utf-8').splitlines()
    kinds = ('flags', 'Features', 'model name')
    said += ''.join(sorted({x for x in lines if x.startswith(kinds)}))
  return f'cpu-{hashlib.sha256(said.encode()).hexdigest()[:12]}'
