"""Ctrl-C and SIGTERM: a run stops after its step, or at once."""

import signal
from collections.abc import Callable


class Stopped(KeyboardInterrupt):
  """Raised after a step that was the last one on request, on all hosts."""


class interruptible:
  """Context that delays Ctrl-C and SIGTERM to the end of the step.

  It gives a function that returns whether one was received. A second one raises
  KeyboardInterrupt at once.
  """

  def __enter__(self) -> Callable[[], bool]:
    self.requested, self.old = False, {}
    for sig in (signal.SIGINT, signal.SIGTERM):
      self.old[sig] = signal.signal(sig, self._request)
    return lambda: self.requested

  def __exit__(self, *_: object) -> None:
    for sig, handler in self.old.items():
      signal.signal(sig, handler)

  def _request(self, *_):
    if self.requested:
      raise KeyboardInterrupt
    self.requested = True
    print(
      'Finishing this step, then saving. Interrupt again to stop immediately.',
      flush=True,
    )
