"""What happens when a host fails, or hangs?

An exception of one host is said by that host in one sentence and ends all of
them: the others would wait for it in a collective. A host that makes no
progress says so, with the stacks of all its threads. A host that is gone
without a word is noticed by JAX (`hosts.HEARTBEAT_S`). Whoever started the
program starts it again, and it resumes.
"""

import contextlib
import faulthandler
import json
import os
import statistics
import sys
import threading
import time
import traceback
from typing import NoReturn

import jax
from jax._src import distributed  # holds the client of the coordinator

from rlvr_jax import processes

# No progress for STUCK_MEDIANS times the median step, and STUCK_S at least:
# the program hangs. START_S while there is no median: programs compile then.
STUCK_MEDIANS = 30
STUCK_S = 600.0
START_S = 3600.0
EVERY_S = 0.5  # between two looks at the others
LINGER_S = 3 * EVERY_S  # so that all others have looked
_FAILED = 'rlvr_jax/failed'  # key: what the host that failed first says
_guard: '_Guard | None' = None
_told = threading.Event()  # that another host failed


def fail(error: BaseException) -> NoReturn:
  """Says what is wrong on this host, tells all others, and ends the process."""
  # Its cause may be another host that failed first: `_Guard` says so.
  if jax.process_count() > 1:
    time.sleep(LINGER_S)
    if _told.is_set():
      time.sleep(10 * LINGER_S)  # the thread that heard of it ends the process
  said, status = ' '.join(str(error).split()), processes.status(error)
  ours = type(error) in (ValueError, RuntimeError, FloatingPointError)
  if isinstance(error, KeyboardInterrupt):
    said = 'interrupted'
  elif _from_jax(error) or not (ours or isinstance(error, OSError)):
    traceback.print_exception(error)
    said, status = f'{type(error).__name__}: {said}', 1
  end(said, status)


def _from_jax(error: BaseException) -> bool:
  """Whether it was raised within JAX, as where a collective breaks."""
  frames = [f for f, _ in traceback.walk_tb(error.__traceback__)]
  name = frames[-1].f_globals.get('__name__', '') if frames else ''
  return name.partition('.')[0] in ('jax', 'jaxlib')


def end(said: str, status: int) -> NoReturn:
  """Prints `error: host i of n: ...`, tells all others, ends the process."""
  text = f'host {jax.process_index()} of {jax.process_count()}: {said}'
  print(f'error: {text}', file=sys.stderr)
  if _guard is not None:  # it would not let the others ask
    _guard.close()
  if (client := distributed.global_state.client) is not None:
    with contextlib.suppress(Exception):  # another host was first, or is gone
      client.key_value_set(_FAILED, json.dumps([text, status]))
    time.sleep(LINGER_S)  # or the others see a broken connection first
  _exit(status)


def _exit(status: int) -> NoReturn:
  # Not sys.exit: JAX would wait for all hosts to end in good order.
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def watch() -> '_Guard':
  """Starts the thread that ends this process when it must."""
  global _guard
  _guard = _Guard()
  return _guard


def stepped() -> None:
  """Notes that a step is done; the median of steps tells what takes long."""
  if _guard is not None:
    _guard.stepped()


def alive() -> None:
  """Notes that the program makes progress."""
  if _guard is not None:
    _guard.alive()


class Progress:
  """When does a program hang? Seconds without progress, and how many are too.

  Time is given, not read: a process that was suspended has not hung.
  """

  def __init__(self):
    self.idle = 0.0  # seconds since the last sign of progress
    self._steps: list[float] = []
    self._since_step = 0.0

  def tick(self, seconds: float) -> None:
    """That much time went by."""
    self.idle += seconds
    self._since_step += seconds

  def alive(self) -> None:
    """There was progress."""
    self.idle = 0.0

  def stepped(self) -> None:
    """A step is done."""
    self._steps = [*self._steps[-100:], self._since_step]
    self.idle = self._since_step = 0.0

  @property
  def limit(self) -> float:
    """Seconds without progress after which the program hangs."""
    # The first step compiles, the second does where shapes differ.
    if len(self._steps) < 3:
      return START_S
    return max(STUCK_S, STUCK_MEDIANS * statistics.median(self._steps))


class _Guard:
  """A thread that ends this process if another host failed, or if it hangs."""

  def __init__(self):
    self._progress = Progress()
    self._closed = threading.Event()
    self._lock = threading.Lock()
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def close(self) -> None:
    global _guard
    self._closed.set()
    if threading.current_thread() is not self._thread:
      self._thread.join(5)
    _guard = None

  def stepped(self) -> None:
    with self._lock:
      self._progress.stepped()

  def alive(self) -> None:
    with self._lock:
      self._progress.alive()

  def _run(self):
    client = distributed.global_state.client
    while not self._closed.wait(EVERY_S):
      if client is not None:
        self._ask(client)
      with self._lock:
        self._progress.tick(EVERY_S)
        idle, limit = self._progress.idle, self._progress.limit
      if idle > limit:
        faulthandler.dump_traceback(all_threads=True)
        end(
          f'no progress for {idle:.0f} s, where {limit:.0f} s are allowed; the '
          'stacks of all threads are above. Start the program again: it '
          'resumes.',
          1,
        )

  def _ask(self, client):
    try:
      text, status = json.loads(client.key_value_try_get(_FAILED))
    except Exception:  # nobody failed; if the coordinator is gone, JAX ends us
      return
    if not self._closed.is_set():
      _told.set()
      print(f'error: {text}', file=sys.stderr)
      if jax.process_index() == 0:  # JAX ends whoever does not reach it
        time.sleep(2 * LINGER_S)
      _exit(status)
