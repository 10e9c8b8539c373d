"""Worker processes that can be killed, for checks that can hang.

A worker is a fresh interpreter (`subprocess`), one pipe pair each. Compared
with `multiprocessing` (and pools built on it, such as pebble): the user's
`__main__` is never imported again, so scripts without a main guard, `python
-c`, standard input and notebooks all work and JAX is never loaded in a
worker; there is no fork of a threaded process; and no lock or channel is
shared, so killing one worker cannot harm another's answer.

No signals and no event loop: works in any thread, and within asyncio.

The limit of a check is CPU time, so that a busy machine changes no verdict;
wall time is a far backstop (`BUSY`) for checks that wait or sleep.
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
START_S = 300.0  # a worker imports sympy, on a busy machine
FOREVER_S = 1e6  # no timer takes much more
BUSY = (20.0, 30.0)  # wall limit: so many times the CPU limit, and seconds
LONGEST = 1 << 25  # bytes of a reply
LATE, DIED = 'timeout', 'died'  # failures; DIED: its process ended
# What a worker gets of the environment: no tokens, no keys.
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
  """A check's value, or why there is none."""

  value: object
  failure: str | None  # LATE, DIED, 'not started: ...', 'Type: ...'


class _Ended(Exception):
  """The worker is gone. args[0]: whether its time was up."""


class _NotStarted(Exception):
  """A worker could not be started; the message says why."""


class _Worker:
  """One process, started when needed; used by one thread at a time."""

  def __init__(self):
    self.process = None
    self.closed = False  # for good
    self.warm = set()
    self.walls = []  # around its checks, see `confine`

  def check(self, kind: str, payload: dict, timeout_s: float) -> Reply:
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
        reply = self._ask(request, wall_s + BUSY[1])
      except _Ended as e:
        if e.args[0]:
          return Reply(None, LATE)
        continue
      if reply.get('failure') != DIED:
        return Reply(reply.get('value'), reply.get('failure'))
      # Perhaps not this row's doing (the system was short of memory): a
      # second and last attempt, in a new process.
    return Reply(None, DIED)

  def stop(self) -> None:
    process, self.process = self.process, None
    self.warm = set()
    if process:
      process.kill()
      process.wait()
      for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # of what was not yet sent
          pipe.close()

  def start(self, kind: str) -> None:
    """Has a process that is ready for checks of this kind.

    Raises:
      _NotStarted: it cannot be had.
    """
    if self.closed:
      raise _NotStarted('the workers were shut down')
    if self.process and self.process.poll() is not None:
      self.stop()
    if kind in self.warm:
      return
    if self.process is None:
      fixed = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), '1')
      fixed['PYTHONHASHSEED'] = '0'  # sets are walked in the same order
      kept = {k: os.environ[k] for k in ENVIRONMENT if k in os.environ}
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
          env=kept | fixed,
        )
      except (OSError, ValueError) as e:
        raise _NotStarted(str(e)) from e
    try:
      reply = self._ask({'kind': kind, 'payload': None}, START_S)
    except _Ended as e:
      why = f'took over {START_S} s' if e.args[0] else 'ended at once'
      raise _NotStarted(f'its process {why}') from e
    if 'failure' in reply:
      self.stop()
      raise _NotStarted(reply['failure'])
    self.warm.add(kind)
    self.walls = reply['value']
    _tell(self.walls)

  def _ask(self, request: list, limit_s: float) -> dict:
    """Sends a request, waits for the reply; the process is killed if late."""
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
        pass  # it ended while we wrote
      timer.cancel()
      timer.join()  # it may be killing the process just now
    except BaseException:  # Ctrl-C: the reply would be taken for the next one
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
  """Workers that wait in a stack, so that a lone caller keeps one warm."""

  def __init__(self, size: int):
    self.workers = [_Worker() for _ in range(size)]
    self.idle = queue.LifoQueue()
    for worker in self.workers:
      self.idle.put(worker)


_lock = threading.Lock()
_pool: _Pool | None = None
_forgotten = []  # pools of a parent that forked; collecting them would warn
_warned = set()


def size() -> int:
  """Worker processes that run at most: the cores we may use, up to 8."""
  if hasattr(os, 'sched_getaffinity'):
    return max(1, min(8, len(os.sched_getaffinity(0))))
  return max(1, min(8, os.cpu_count() or 1))


def run(
  kind: str, payloads: Sequence[dict], *, timeout_s: float
) -> list[Reply]:
  """Runs checks in the workers; one reply for each payload, in order.

  Equal payloads are checked once. A check that takes more than `timeout_s`
  seconds of CPU time (or `BUSY` seconds of wall time, which only one that
  waits for something can), or more than `MEMORY` bytes, or that brings its
  process down, gets a failure; the other rows are not affected. Starting a
  worker (some seconds, once) and waiting for a free one is not counted. So n
  hanging rows take about ceil(n / size()) * timeout_s seconds on an idle
  machine; what follows a killed check costs some milliseconds.

  Args:
    kind: a key of `worker.KINDS`; 'gym:NAME' and 'items:NAME' for the data set
      NAME, so that building it counts as start.
    payloads: keyword arguments of the check; JSON.

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
    if broken:  # no second attempt within a call
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
    except BaseException:  # Ctrl-C: the exit would wait for checks that hang
      shutdown()
      raise
    finally:
      threads.shutdown(wait=False, cancel_futures=True)
  if broken:
    _warn(broken[0])
  by_key = dict(zip(jobs, replies))
  return [by_key[k] for k in keys]


def walls() -> list[str]:
  """The `sandbox.WALLS` that stand around the checks, tried out in a worker.

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
  """Ends the workers; the next `run` starts new ones. Runs at exit too."""
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
  _once(
    'No worker process could be started to check answers (%s). The verdict '
    'of those that need one is UNVERIFIABLE. Do mpmath and, where it is '
    'used, reasoning_gym import in this environment?',
    why,
  )


def _tell(walls: list[str]) -> None:
  if missing := [name for name in sandbox.WALLS if name not in walls]:
    _once(
      'The processes that check answers could not give up: %s. This system '
      'allows no filter of system calls (seccomp); limits on resources stand. '
      'No text of a model is evaluated there, with or without it.',
      ', '.join(missing),
    )


def _once(message: str, *args) -> None:
  # Logged, not warned: under -W error a warning would lose the whole batch.
  if message not in _warned:
    _warned.add(message)
    logging.getLogger(__name__).warning(message, *args)


def _forget() -> None:
  """In a forked child: the workers are the parent's."""
  global _pool, _lock
  _lock = threading.Lock()
  _forgotten.append(_pool)
  _pool = None


atexit.register(shutdown)
if hasattr(os, 'register_at_fork'):
  os.register_at_fork(after_in_child=_forget)
