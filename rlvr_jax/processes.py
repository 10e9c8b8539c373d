"""How processes end: after their step, or with the one that started them."""

import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence


def start(command: Sequence[str], **how) -> subprocess.Popen:
  """A Python script that does not outlive this process, whatever ends it.

  Its standard input is a pipe that this process alone holds open; when it
  ends, by SIGKILL too, the kernel closes the pipe and the script kills itself.
  It has a session of its own: a Ctrl-C in the terminal reaches this process,
  which passes it on.

  Args:
    command: the script and its arguments.
    how: what `subprocess.Popen` takes.
  """
  return subprocess.Popen(
    [sys.executable, '-m', __name__, *command],
    stdin=subprocess.PIPE,
    start_new_session=True,
    **how,
  )


def wait(process: subprocess.Popen) -> int:
  """Its exit status. A Ctrl-C is passed on and the end waited for; so is a
  second one, which most scripts take as 'at once'."""
  asked = False
  while True:
    try:
      code = process.wait()
    except KeyboardInterrupt:
      asked = True
      process.send_signal(signal.SIGINT)
      continue
    process.stdin.close()
    if asked:
      raise KeyboardInterrupt
    return code


class interruptible:
  """Ctrl-C or SIGTERM waits for the end of the step; a second one does not."""

  def __enter__(self):
    self.asked, self.old = False, {}
    for sig in (signal.SIGINT, signal.SIGTERM):
      self.old[sig] = signal.signal(sig, self._ask)
    return lambda: self.asked

  def __exit__(self, *_):
    for sig, handler in self.old.items():
      signal.signal(sig, handler)

  def _ask(self, *_):
    if self.asked:
      raise KeyboardInterrupt
    self.asked = True
    print(
      'Finishing this step, then saving. Once more to stop at once.', flush=True
    )


def _end_with_parent():
  os.read(0, 1)  # nothing is ever written: this is the end of the pipe
  os.kill(os.getpid(), signal.SIGKILL)


if __name__ == '__main__':
  threading.Thread(target=_end_with_parent, daemon=True).start()
  del sys.argv[0]
  runpy.run_path(sys.argv[0], run_name='__main__')
