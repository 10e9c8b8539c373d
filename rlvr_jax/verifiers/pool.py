"""How does a check that can hang run in a process that can be killed?

Each worker is a fresh interpreter (`subprocess`) with a pair of pipes. Unlike
`multiprocessing` (and pools built on it, such as pebble), this never imports
the user's `__main__` again, so scripts without a main guard, `python -c`,
standard input and notebooks all work, and no worker loads JAX; no threaded
process is forked; and workers share no lock or channel, so killing one cannot
affect the reply of another.

No signals and no event loop: works in any thread, and within asyncio.

The limit of a check is CPU time, so that a busy machine changes no verdict;
wall time is a generous second limit (`BUSY`) for checks that wait or sleep.
"""

import atexit
import contextlib
import json
import logging
import math
import os
import queue
import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent import futures
from typing import NamedTuple

from rlvr_jax.verifiers import sandbox

MEMORY = 2 << 30  # bytes of address space of a worker
START_S = 300.0  # to start a worker, which imports sympy, on a busy machine
FOREVER_S = 1e6  # longest limit; timers do not accept much more
BUSY = (20.0, 30.0)  # wall limit in s: BUSY[0] * CPU limit + BUSY[1]
LONGEST = 1 << 25  # most bytes of a reply
LATE, DIED = 'timeout', 'died'  # failures; DIED: the process ended
# The environment variables passed to a worker: no tokens, no keys.
ENVIRONMENT = (
  'DYLD_LIBRARY_PATH',
  'HOME',
  'LANG',
  'LC_ALL',
  'LD_LIBRARY_PATH',
  'MPLCONFIGDIR',
  'PATH',
  'PYTHONHOME',
  'SYSTEMROOT',
  'TMPDIR',
  'TZ',
)

_CODE = (
  'import json, sys; sys.path[:] = json.loads(sys.argv[1]); '
  'from rlvr_jax.verifiers import worker; worker.main()'
)


class Reply(NamedTuple):
  """The value of a check, or the reason why there is none."""

  value: object
  failure: str | None  # LATE, DIED, 'not started: ...', 'Type: ...'


class _Ended(Exception):
  """The worker process ended. args[0]: whether it timed out."""


class _NotStarted(Exception):
  """A worker could not be started; the message is the reason."""


class _Worker:
  """One process, started on demand; used by one thread at a time."""

  def __init__(self):
    self.process: subprocess.Popen | None = None
    self.closed = False  # for good
    self.warm: set[str] = set()  # kinds of checks it is ready for
    self.walls: list[str] = []  # around its checks, see `sandbox.confine`

  def check(self, kind: str, payload: dict, timeout_s: float) -> Reply:
    """Runs one check, a second time if its process died."""
    timeout_s = min(timeout_s, FOREVER_S)
    wall_s = BUSY[0] * timeout_s + BUSY[1]
    request = {
      'kind': kind,
      'payload': payload,
      'timeout_s': timeout_s,
      'wall_s': wall_s,
    }
    for _ in range(2):
      self.start(kind)
      try:
        reply = self._request(request, wall_s + BUSY[1])
      except _Ended as e:
        if e.args[0]:
          return Reply(None, LATE)
        continue
      if reply.get('failure') != DIED:
        return Reply(reply.get('value'), reply.get('failure'))
      # The cause may be elsewhere (the system was short of memory): one more
      # attempt, in a new process.
    return Reply(None, DIED)

  def stop(self) -> None:
    """Kills the process; the next check starts a new one."""
    process, self.process = self.process, None
    self.warm = set()
    if process:
      process.kill()
      process.wait()
      for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # flushing what was not yet sent
          pipe.close()

  def start(self, kind: str) -> None:
    """Starts a process, if needed, and makes it ready for one kind of checks.

    Raises:
      _NotStarted: this failed.
    """
    if self.closed:
      raise _NotStarted('the workers were shut down')
    if self.process and self.process.poll() is not None:
      self.stop()
    if kind in self.warm:
      return
    if self.process is None:
      fixed = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), '1')
      fixed['PYTHONHASHSEED'] = '0'  # a reproducible iteration order of sets
      passed = {k: os.environ[k] for k in ENVIRONMENT if k in os.environ}
      try:
        self.process = subprocess.Popen(
          [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            _CODE,
            json.dumps(sys.path),
            str(MEMORY),
          ],
          stdin=subprocess.PIPE,
          stdout=subprocess.PIPE,
          stderr=subprocess.DEVNULL,
          env=passed | fixed,
        )
      except (OSError, ValueError) as e:
        raise _NotStarted(str(e)) from e
    try:
      reply = self._request({'kind': kind, 'payload': None}, START_S)
    except _Ended as e:
      why = f'took over {START_S} s' if e.args[0] else 'ended at once'
      raise _NotStarted(f'its process {why}') from e
    if 'failure' in reply:
      self.stop()
      raise _NotStarted(reply['failure'])
    self.warm.add(kind)
    self.walls = reply['value']
    _warn_missing_walls(self.walls)

  def _request(self, request: dict, limit_s: float) -> dict:
    """Sends a request and returns the reply; kills the process if it is late.

    Raises:
      _Ended: there is no reply; the process is gone.
    """
    process, late = self.process, threading.Event()
    request = request | {'id': secrets.token_hex(16)}

    def expire():
      late.set()
      process.kill()

    timer = threading.Timer(limit_s, expire)
    timer.daemon = True
    line = b''
    try:
      timer.start()
      try:
        process.stdin.write(json.dumps(request).encode() + b'\n')
        process.stdin.flush()
        line = process.stdout.readline(LONGEST)
      except OSError:
        pass  # it ended during the write
      timer.cancel()
      timer.join()  # it may be killing the process just now
    except BaseException:  # Ctrl-C: a later request would get this reply
      timer.cancel()
      self.stop()
      raise
    if not late.is_set():
      with contextlib.suppress(ValueError, TypeError, KeyError):
        reply = json.loads(line)
        if reply['id'] == request['id']:
          return reply
    self.stop()
    raise _Ended(late.is_set())


class _Pool:
  """Workers in a stack, so that a single caller always reuses the same one."""

  def __init__(self, size: int):
    self.workers = [_Worker() for _ in range(size)]
    self.idle = queue.LifoQueue()
    for worker in self.workers:
      self.idle.put(worker)


_lock = threading.Lock()
_pool: _Pool | None = None
# Pools of a parent that forked: freeing them would warn.
_forgotten: list[_Pool | None] = []
_warned: set[str] = set()


def size() -> int:
  """Returns the number of workers: the cores this process may use, up to 8."""
  if hasattr(os, 'sched_getaffinity'):
    return max(1, min(8, len(os.sched_getaffinity(0))))
  return max(1, min(8, os.cpu_count() or 1))


def run(
  kind: str, payloads: Sequence[dict], *, timeout_s: float
) -> list[Reply]:
  """Runs checks in the workers and returns a reply for each payload, in order.

  Equal payloads are checked once. A check that exceeds `timeout_s` seconds of
  CPU time (or `BUSY` seconds of wall time, if it waits for something) or
  `MEMORY` bytes, or that crashes its process, gets a failure; the other rows
  are not affected. Starting a worker (a few seconds, once) and waiting for a
  free one do not count. So n hanging rows take about ceil(n / size()) *
  timeout_s seconds on an idle machine; replacing a killed process takes
  milliseconds.

  Args:
    kind: a key of `worker.KINDS`; 'gym:NAME' and 'items:NAME' for the data set
      NAME, so that building it counts as starting the worker.
    payloads: keyword arguments of the check, JSON values.
    timeout_s: seconds of CPU time for one check.

  Raises:
    ValueError: `timeout_s` is not a positive finite number.
  """
  if not (timeout_s > 0 and math.isfinite(timeout_s)):
    raise ValueError(
      f'timeout_s={timeout_s}: give a positive number of seconds, such as 3.'
    )
  keys = [json.dumps(p, sort_keys=True) for p in payloads]
  jobs = dict(zip(keys, payloads))
  pool, broken = _get(), []

  def one(payload: dict) -> Reply:
    if broken:  # no further attempt to start workers within this call
      return Reply(None, f'not started: {broken[0]}')
    worker = pool.idle.get()
    try:
      return worker.check(kind, payload, timeout_s)
    except _NotStarted as e:
      broken.append(str(e))
      return Reply(None, f'not started: {e}')
    finally:
      pool.idle.put(worker)

  if len(jobs) <= 1:
    replies = [one(p) for p in jobs.values()]
  else:
    threads = futures.ThreadPoolExecutor(min(len(jobs), len(pool.workers)))
    try:
      replies = list(threads.map(one, jobs.values()))
    except BaseException:  # Ctrl-C: exiting would wait for hanging checks
      shutdown()
      raise
    finally:
      threads.shutdown(wait=False, cancel_futures=True)
  if broken:
    _warn(broken[0])
  by_key = dict(zip(jobs, replies))
  return [by_key[k] for k in keys]


def walls() -> list[str]:
  """Returns the `sandbox.WALLS` around the checks, as tested in a worker.

  Raises:
    RuntimeError: no worker can be started.
  """
  pool = _get()
  worker = pool.idle.get()
  try:
    worker.start('similarity')
    return list(worker.walls)
  except _NotStarted as e:
    raise RuntimeError(f'No worker could be started: {e}.') from e
  finally:
    pool.idle.put(worker)


def shutdown() -> None:
  """Ends the workers; the next `run` starts new ones. Also called at exit."""
  global _pool
  with _lock:
    pool, _pool = _pool, None
  if pool:
    for worker in pool.workers:
      worker.closed = True
      worker.stop()


def _get() -> _Pool:
  global _pool
  with _lock:
    _pool = _pool or _Pool(size())
    return _pool


def _warn(why: str) -> None:
  _warn_once(
    'No worker process could be started to check answers (%s). Answers that '
    'need one are UNVERIFIABLE. Can this environment import mpmath and, if it '
    'is used, reasoning_gym?',
    why,
  )


def _warn_missing_walls(walls: list[str]) -> None:
  if missing := [name for name in sandbox.WALLS if name not in walls]:
    _warn_once(
      'The processes that check answers could not give up: %s. This system '
      'does not allow filters of system calls (seccomp); resource limits still '
      'hold. No model output is evaluated there, with or without the filter.',
      ', '.join(missing),
    )


def _warn_once(message: str, *args: str) -> None:
  # Logged, not warned: under -W error a warning would lose the whole batch.
  if message not in _warned:
    _warned.add(message)
    logging.getLogger(__name__).warning(message, *args)


def _forget() -> None:
  """Drops the pool in a forked child, whose workers belong to the parent."""
  global _pool, _lock
  _lock = threading.Lock()
  _forgotten.append(_pool)
  _pool = None


atexit.register(shutdown)
if hasattr(os, 'register_at_fork'):
  os.register_at_fork(after_in_child=_forget)
