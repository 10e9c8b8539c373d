"""Which hosts run this program together, and what do they agree on?

One program runs on all hosts of a slice. What one host alone finds out (a
signal, a verdict, a held lock, a step on disk) is agreed here before any host
acts on it: if one host took another branch, the others would wait for it in a
collective for ever. Nothing else in the package asks which process it is.

With one process every function returns at once what it was given.
"""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # holds the client of the coordinator
from jax._src.clusters import cloud_tpu_cluster
from jax.experimental import multihost_utils

from rlvr_jax import failures, interrupts, processes

HEARTBEAT_S = 30  # a host that was silent for so long is dead
SHUTDOWN_S = 60  # the first host that ends waits so long for the others
_ENVIRONMENT = (
  'JAX_COORDINATOR_ADDRESS',
  'JAX_NUM_PROCESSES',
  'JAX_PROCESS_ID',
)


def explicit() -> dict[str, Any] | None:
  """Arguments of `jax.distributed.initialize` in the environment, if any.

  Raises:
    ValueError: some of the three variables are missing, or are no numbers that
      fit together.
  """
  values = {k: os.environ[k] for k in _ENVIRONMENT if os.environ.get(k)}
  if not values:
    return None
  said = ', '.join(f'{k}={v}' for k, v in values.items())
  address, count, index = (values.get(k, '') for k in _ENVIRONMENT)
  fits = count.isdecimal() and index.isdecimal() and int(index) < int(count)
  if len(values) < 3 or not fits or ':' not in address:
    raise ValueError(
      f'{said}: hosts join by all three of {_ENVIRONMENT[0]}=HOST:PORT, '
      f'{_ENVIRONMENT[1]}=N and {_ENVIRONMENT[2]}, from 0 to N - 1. Set all, or '
      'none.'
    )
  return {
    'coordinator_address': address,
    'num_processes': int(count),
    'process_id': int(index),
  }


def expected() -> int:
  """Number of hosts that this program is meant to run on.

  Starts nothing: `join` has not been called, JAX holds no device.

  Raises:
    ValueError: see `explicit`.
  """
  if jax.distributed.is_initialized():
    return distributed.global_state.num_processes
  if given := explicit():
    return given['num_processes']
  tpus = _tpu_cluster()
  return 1 if tpus is None else tpus.get_process_count()


def _tpu_cluster():
  """The TPU hosts as JAX finds them, by environment or metadata; else None."""
  kinds = (cloud_tpu_cluster.GkeTpuCluster, cloud_tpu_cluster.GceTpuCluster)
  return next((kind for kind in kinds if kind.is_env_present()), None)


@contextlib.contextmanager
def join() -> Iterator[None]:
  """Context in which this process is one of those that run the program.

  They are those of JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID;
  else the TPU hosts that JAX finds; else this one alone. Enter it before
  anything that makes JAX take its devices; it prints `host i of n, d devices`.

  Beside others, or under a launcher, an exception in the block ends the
  process, and all other hosts: see `failures`. `interrupts.Stopped`, which all
  hosts raise together, passes.

  Raises:
    ValueError: see `explicit`.
    RuntimeError: the coordinator, or one of the hosts, did not come.
  """
  if not jax.distributed.is_initialized() and expected() > 1:
    _initialize()
  if count() > 1 and jax.default_backend() == 'cpu':
    # JAX lets the first process alone write compiled programs to disk. Later it
    # would read them there and the others compile, and between CPUs two such
    # programs may exchange arrays in different orders, which ends them.
    jax.config.update('jax_enable_compilation_cache', False)
  print(
    f'host {jax.process_index()} of {count()}, {jax.device_count()} devices',
    flush=True,
  )
  if count() == 1 and processes.LAUNCHED not in os.environ:
    yield
    return
  old = signal.signal(signal.SIGTERM, _interrupt)
  guard = failures.watch()
  try:
    # They are together now. Between CPUs, the first collective must be entered
    # by all within 30 s, and later one host may read files for longer.
    gather(0)
    yield
  except interrupts.Stopped:
    raise
  except BaseException as e:
    if isinstance(e, SystemExit) and not e.code:
      raise
    failures.fail(e)
  finally:
    guard.close()
    signal.signal(signal.SIGTERM, old)


def _initialize():
  # JAX's handler of SIGTERM would swallow what `interruptible` waits for.
  jax.config.update('jax_enable_preemption_service', False)
  try:
    jax.distributed.initialize(
      **(explicit() or {}),
      heartbeat_timeout_seconds=HEARTBEAT_S,
      shutdown_timeout_seconds=SHUTDOWN_S,
    )
  except Exception as e:
    raise RuntimeError(
      f'The {expected()} hosts did not find each other '
      f'({" ".join(str(e).split())[:300]}). Start the same command on all of '
      'them; the first one must be reachable from the others.'
    ) from e


def _interrupt(*_):
  raise KeyboardInterrupt


def count() -> int:
  """Number of hosts."""
  return jax.process_count()


def index() -> int:
  """Number of this host, from 0."""
  return jax.process_index()


def first() -> bool:
  """Whether this is the host that writes.

  Nothing that waits for other hosts may stand in a branch on it: a test reads
  the code for that.
  """
  return index() == 0


##### agreement #####


def on_any(flag: bool) -> bool:
  """Whether `flag` is true on any host. All hosts must call it."""
  if count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.int32(flag)).any())


def gather(value: Any) -> list[Any]:
  """`value`, which JSON can hold, of each host. All hosts must call it."""
  if count() == 1:
    return [value]
  mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(mine)))
  # Powers of two: few shapes, so few programs.
  width = 1 << int(sizes.max() - 1).bit_length()
  padded = np.pad(mine, (0, width - len(mine)))
  rows = multihost_utils.process_allgather(padded)
  return [
    json.loads(row[:size].tobytes())
    for row, size in zip(rows, sizes, strict=True)
  ]


def agreed(value: Any) -> Any:
  """`value`, which JSON can hold, of the first host. All hosts must call it."""
  return gather(value)[0]


def must_agree(what: str, value: Any) -> None:
  """ValueError on all hosts unless `value`, as JSON holds it, is the same."""
  if len({json.dumps(v) for v in gather(value)}) > 1:
    raise ValueError(
      f'The {count()} hosts have different {what}. Start the same command in the '
      'same tree on all of them, with a workdir that all of them see.'
    )


def from_first(make: Callable[[], Any]) -> Any:
  """What `make` returns on the first host, as JSON holds it; on all hosts.

  An exception of the first host is raised on all: see `together`.
  """
  if count() == 1:
    return make()
  value = None
  with together():
    if first():
      value = make()
  return agreed(value)


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Context whose ordinary exceptions, of any host, are raised on all of them.

  Raises:
    ValueError, OSError, RuntimeError: what the block raised here; else what it
      raised on the first host that did, with its number.
  """
  if count() == 1:
    yield
    return
  mine = None
  try:
    yield
  except (ValueError, OSError, RuntimeError) as e:
    mine = e
  kinds = {k.__name__: k for k in (ValueError, OSError, RuntimeError)}
  said = None
  if mine is not None:
    kind = next(n for n, k in kinds.items() if isinstance(mine, k))
    said = [kind, str(mine)]
  everybody = gather(said)
  if mine is not None:
    raise mine
  for index, other in enumerate(everybody):
    if other is not None:
      raise kinds[other[0]](f'on host {index}: {other[1]}')


def share(
  number: int, work: Callable[[Sequence[int]], Sequence[Any]]
) -> list[Any]:
  """A row of results for each of `number` items, each worked out by one host.

  Neighbours go to different hosts, since the rows of one prompt cost alike.

  Args:
    number: the same on all hosts.
    work: indices of items -> their results, which JSON can hold.
  """
  rows, hosts = shared(number), count()
  if hosts == 1:
    return list(work(rows))
  parts = gather(list(work(rows)))
  return [parts[i % hosts][i // hosts] for i in range(number)]


def shared(number: int) -> Sequence[int]:
  """Which of `number` items `share` gives to this host."""
  failures.alive()
  return range(jax.process_index(), number, count())


def whole(tree: Any) -> Any:
  """Whole arrays as NumPy, on every host.

  Of arrays that are whole on each device, without a collective.
  """
  if count() == 1:
    return jax.tree.map(np.asarray, tree)

  def of(x):
    if getattr(x, 'is_fully_replicated', False):
      return np.asarray(x)
    return multihost_utils.process_allgather(x, tiled=True)

  return jax.tree.map(of, tree)
