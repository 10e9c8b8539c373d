"""Who may write to a run's directory? One program, whose hosts all see it.

In a bucket it is the youngest one: see `storage`.
"""

import contextlib
import fcntl
import logging
import os
import pathlib
import secrets
import time
from collections.abc import Iterator

from rlvr_jax import hosts, processes, storage
from rlvr_jax.reporting import run_writer

_log = logging.getLogger(__name__)
_RELEASED_S = 180.0  # until it gives up the lock of a host that is gone
_SEEN_S = 20.0  # until a network file system shows what another host wrote


@contextlib.contextmanager
def hold(workdir: str | os.PathLike) -> Iterator[None]:
  """Locks `workdir`, created if it does not exist, against other processes.

  Enter it before anything in the directory is read or changed. A directory
  that it created is removed on exit if nothing was written to it, so that a
  refused config leaves nothing behind. A path in a bucket cannot be locked:
  opening its checkpoints takes it over.

  Raises:
    ValueError: another process holds the lock.
    OSError: the directory cannot be created or written.
  """
  with hosts.together():
    folder = storage.folder(workdir)
    in_bucket = storage.bucket(workdir) is not None
  if in_bucket:
    yield
    return
  lock, created = None, not folder.exists()
  try:
    with hosts.together():
      if hosts.first() and (lock := _patient(folder)) is None:
        raise ValueError(
          f'Another process is training in {folder}. Wait for it, stop it, or '
          'use another workdir.'
        )
    _check_shared(folder, lock)
    yield
  finally:
    if lock is not None:
      with contextlib.suppress(OSError):  # another process changed it
        if created and [p.name for p in folder.iterdir()] == ['.lock']:
          (folder / '.lock').unlink()
          folder.rmdir()
      os.close(lock)


def _patient(folder):
  """The lock of a folder; a program that was started again waits for it.

  A network file system keeps the lock of a host that is gone for a while.
  """
  lock, deadline = locked(folder), time.monotonic() + _RELEASED_S
  launched = processes.LAUNCHED in os.environ
  while launched and lock is None and time.monotonic() < deadline:
    time.sleep(1.0)
    lock = locked(folder)
  return lock


def _check_shared(folder, lock):
  """ValueError on all hosts unless all see the folder of the first."""
  if hosts.count() == 1:
    return
  with hosts.together():
    if hosts.first():
      os.ftruncate(lock, 0)
      os.write(lock, secrets.token_hex(8).encode())
      os.fsync(lock)
  read = hosts.from_first((folder / '.lock').read_text)
  with hosts.together():
    deadline = time.monotonic() + _SEEN_S
    while not (folder / '.lock').exists() or (
      (folder / '.lock').read_text() != read
    ):
      if time.monotonic() > deadline:
        raise ValueError(
          f'the first host writes to {folder}, and this one does not see it: '
          'hosts need a workdir in a bucket, gs://bucket/path, or on a disk that '
          'all of them have, such as a network file system.'
        )
      time.sleep(0.5)


def locked(folder: pathlib.Path, name: str = '.lock') -> int | None:
  """Locks a folder, created if it does not exist.

  Returns:
    the descriptor of the lock file, to be closed to release the lock (the
    kernel closes it when a process ends); None if another process holds it.

  Raises:
    OSError: the folder cannot be created or written.
  """
  path, tries = folder / name, 100
  while True:
    try:
      folder.mkdir(parents=True, exist_ok=True)
      lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as e:
      tries -= 1
      if isinstance(e, FileNotFoundError) and tries:
        continue  # another process removed the folder that it had created
      raise run_writer.explain(e, folder) from e
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      os.close(lock)
      return None
    except OSError as e:  # a file system without locks
      _log.warning('%s cannot be locked (%s).', folder, e.strerror)
    if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
      return lock
    os.close(lock)  # removed between opening and locking
