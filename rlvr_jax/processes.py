"""How do processes end? Exit statuses, child processes, Ctrl-C."""

import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

LAUNCHED = 'RLVR_LAUNCHED'  # set by scripts/tpu.py, which starts scripts again
REFUSED = 2  # exit status: what was asked for cannot work, now or later


def status(error: BaseException) -> int:
  """The exit status of a script that ends with this error.

  1, and 130 for Ctrl-C. A launcher must know whether to try again: it gets 2
  where config or data were refused, the status of a wrong command line.
  """
  if isinstance(error, KeyboardInterrupt):
    return 130
  refused = type(error) is ValueError and LAUNCHED in os.environ
  return REFUSED if refused else 1


def start(command: Sequence[str], **options: Any) -> subprocess.Popen:
  """Starts a Python script that ends when this process ends, in any way.

  Its standard input is a pipe that only this process holds open; when this
  process ends, even by SIGKILL, the kernel closes the pipe and the script kills
  itself. It runs in a session of its own, so a Ctrl-C in the terminal reaches
  this process only, which forwards it (`wait`).

  Args:
    command: the script and its arguments.
    options: other arguments of `subprocess.Popen`.
  """
  return subprocess.Popen(
    [sys.executable, '-m', __name__, *command],
    stdin=subprocess.PIPE,
    start_new_session=True,
    **options,
  )


def wait(process: subprocess.Popen) -> int:
  """Waits for a process of `start` and returns its exit status.

  A Ctrl-C is forwarded and the wait goes on; so is a second one, on which most
  scripts stop immediately. KeyboardInterrupt is raised after the process ended.
  """
  interrupted = False
  while True:
    try:
      code = process.wait()
    except KeyboardInterrupt:
      interrupted = True
      process.send_signal(signal.SIGINT)
      continue
    process.stdin.close()
    if interrupted:
      raise KeyboardInterrupt
    return code


def _end_with_parent():
  os.read(0, 1)  # nothing is ever written: returns when the pipe closes
  os.kill(os.getpid(), signal.SIGKILL)


if __name__ == '__main__':
  threading.Thread(target=_end_with_parent, daemon=True).start()
  del sys.argv[0]
  runpy.run_path(sys.argv[0], run_name='__main__')
