"""What runs in a worker process of `pool`? Checks that can hang or crash.

On a warm-up request the worker imports the checkers. It never reads model
output itself: it passes each check on to a child process, which is forked from
it, confined (`sandbox.confine`) before it reads its first line, and replaced
within milliseconds if a check ends it. The child's only channel is the one to
the worker.

All messages are lines of JSON (never pickles, so a checker that model output
takes over cannot run code in the parent). Each request has an unguessable id,
which its reply must repeat.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import BinaryIO

from rlvr_jax.verifiers import gym_scorers, sandbox, sympy_reader
from rlvr_jax.verifiers.maths import symbolic

LIFETIME = 5000  # checks per child, since sympy's caches grow
LONGEST = 1 << 25  # most bytes of a reply
_TIMERS = ('ITIMER_PROF', 'ITIMER_REAL')  # CPU time, wall time
_ENDS = [  # the signals that these timers send; none on Windows
  getattr(signal, s) for s in ('SIGPROF', 'SIGALRM') if hasattr(signal, s)
]


def main() -> None:
  """Serves requests until the input ends. argv[2]: memory limit in bytes."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
  for number in _ENDS:  # a parent may have blocked or ignored them
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
  _limit(int(sys.argv[2]))
  sys.setrecursionlimit(3000)
  # Libraries may print: move the channel away from stdin and stdout.
  requests = os.fdopen(os.dup(0), 'rb')
  replies = os.fdopen(os.dup(1), 'wb')
  null = os.open(os.devnull, os.O_RDWR)
  for fd in (0, 1, 2):
    os.dup2(null, fd)
  os.close(null)
  child = _Child((requests, replies))
  for line in requests:
    request = json.loads(line)
    if request['payload'] is None:
      child.stop()
      reply = _reply(request, warm=True)
      if 'failure' not in reply:
        reply['value'] = child.start()
    elif hasattr(os, 'fork'):
      reply = child.check(request, line)
    else:
      reply = _reply(request)
    _write(replies, reply)
  child.stop()


class _Child:
  """The process that does the checks; at most one at a time."""

  def __init__(self, channels: Sequence[BinaryIO]):
    self.channels = channels  # the worker's own, which a child closes
    self.pid: int | None = None
    self.done = 0  # checks

  def start(self) -> list[str]:
    """Forks the child and returns the walls that hold around it."""
    sympy_reader.replace_sympys()
    if not hasattr(os, 'fork'):
      return []
    ours, theirs = os.pipe(), os.pipe()  # requests, replies
    self.pid, self.done = os.fork(), 0
    if not self.pid:
      with contextlib.suppress(BaseException):
        os.close(ours[1])
        os.close(theirs[0])
        for channel in self.channels:
          os.close(channel.fileno())
        _serve(os.fdopen(ours[0], 'rb'), os.fdopen(theirs[1], 'wb'))
      os._exit(1)
    os.close(ours[0])
    os.close(theirs[1])
    self.requests = os.fdopen(ours[1], 'wb')
    self.replies = os.fdopen(theirs[0], 'rb')
    return json.loads(self.replies.readline(LONGEST) or '[]')

  def check(self, request: dict, line: bytes) -> dict:
    """Returns the child's reply, or the failure 'timeout' or 'died'."""
    if self.done >= LIFETIME:
      self.stop()
    if self.pid is None:
      self.start()
    self.done += 1
    try:
      self.requests.write(line)
      self.requests.flush()
      self.wait()
      reply = json.loads(self.replies.readline(LONGEST))
      if reply['id'] == request['id']:
        return reply
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
      pass  # it ended, or wrote something that is not a reply
    late = -self.stop() in _ENDS
    return {'id': request['id'], 'failure': 'timeout' if late else 'died'}

  def wait(self) -> None:
    """Waits for the child to write; exits if the parent process has ended."""
    if not hasattr(select, 'poll') or not self.channels:
      return
    ends = select.poll()
    ends.register(self.replies, select.POLLIN)
    ends.register(self.channels[0], 0)  # POLLHUP and POLLERR always come
    ready = [fd for fd, _ in ends.poll()]
    if self.replies.fileno() not in ready:
      self.stop()
      os._exit(1)

  def stop(self) -> int:
    """Ends the child; returns its exit code, or minus the signal that ended it.

    The first signal counts: a child that timed out closes its channel when it
    ends, and a later signal then has no effect.
    """
    if self.pid is None:
      return 0
    os.kill(self.pid, signal.SIGKILL)
    _, status = os.waitpid(self.pid, 0)
    self.pid = None
    for pipe in (self.requests, self.replies):
      with contextlib.suppress(OSError):  # flushing what was not yet sent
        pipe.close()
    return os.waitstatus_to_exitcode(status)


def _serve(requests: BinaryIO, replies: BinaryIO) -> None:
  """Runs in the child: confines the process, then checks line by line."""
  _write(replies, sandbox.confine())
  for line in requests:
    request = json.loads(line)
    _clock(request['timeout_s'], request['wall_s'])
    reply = _reply(request)
    _clock(0, 0)
    _write(replies, reply)


def _write(channel: BinaryIO, value: dict | list[str]) -> None:
  channel.write(json.dumps(value).encode() + b'\n')
  channel.flush()


def _clock(cpu_s: float, wall_s: float) -> None:
  """Lets the kernel end this process after these seconds; 0 cancels a limit.

  The signals keep their default action, so it works while Python is stuck in C
  code, and if the worker is gone.
  """
  for timer, seconds in zip(_TIMERS, (cpu_s, wall_s)):
    if hasattr(signal, 'setitimer'):
      signal.setitimer(getattr(signal, timer), seconds)


def _reply(request: dict, warm: bool = False) -> dict:
  kind, _, name = request['kind'].partition(':')
  try:
    start, check = KINDS[kind]
    value = start(name) if warm else check(**request['payload'])
    return {'id': request['id'], 'value': value}
  except BaseException as e:  # also MemoryError, RecursionError, SystemExit
    failure = f'{type(e).__name__}: {str(e)[:200]}'
    return {'id': request['id'], 'failure': failure}


def _warm_gym(dataset: str) -> None:
  gym_scorers.scorer(dataset)


def check_gym(dataset: str, entry: dict, answer: str) -> float:
  """Returns the score of `gym_scorers.scorer(dataset)`."""
  return gym_scorers.scorer(dataset)(answer, entry)


def build_items(**payload: object) -> list[dict]:
  """Calls `gym.items_here`."""
  return importlib.import_module('rlvr_jax.envs.gym').items_here(**payload)


def _warm_items(name: str) -> None:
  gym_scorers.check(name)
  gym_scorers.check_package()
  importlib.import_module('reasoning_gym')


def check_similarity(
  prediction: str, expert: str, **options: str | bool
) -> float:
  """Calls `step_text.ratio`."""
  module = importlib.import_module('rlvr_jax.verifiers.step_text')
  return module.ratio(prediction, expert, **options)


def render_template(**payload: object) -> dict:
  """Calls `chat_template.render_here`."""
  return importlib.import_module('rlvr_jax.io.chat_template').render_here(
    **payload
  )


KINDS = {
  'math': (symbolic.warm, symbolic.check),
  'gym': (_warm_gym, check_gym),
  'items': (_warm_items, build_items),
  'template': (
    # A template that fails, so that what jinja2 imports for errors is loaded.
    lambda _: render_template(
      template='{{ x.y.z }}', variables={}, today='2024-01-01', options=[]
    ),
    render_template,
  ),
  'similarity': (lambda _: check_similarity('a', 'b'), check_similarity),
}


def _limit(memory: int) -> None:
  try:
    import resource
  except ImportError:  # Windows
    return
  for what, limit in (
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_CORE, 0),
  ):
    try:
      hard = resource.getrlimit(what)[1]
      if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
      resource.setrlimit(what, (limit, limit))
    except (ValueError, OSError):  # macOS does not limit address space
      pass
