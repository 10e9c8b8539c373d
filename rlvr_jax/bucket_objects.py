"""How are the objects under a gs:// address listed, read and written?

By the two clients that orbax brings along: tensorstore, whose writes can have a
precondition, and gcsfs, which lists objects with their checksums. Both try
again where Google answers that it is busy.
"""

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from typing import Any

PAUSE_S = 1.0  # Google takes about one write a second of an object


class Objects:
  """The objects under gs://`path`, by their names from there on.

  Raises, from every method:
    ConnectionError: the bucket could not be reached, or refused.
  """

  def __init__(self, path: str):
    # Plain requests do for any bucket; gcsfs's default asks its kind, by gRPC.
    os.environ.setdefault('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
    self._path = path
    self._written: dict[str, float] = {}  # when, by name

  @functools.cached_property
  def _objects(self):
    import tensorstore

    name, _, path = self._path.partition('/')
    spec = {'driver': 'gcs', 'bucket': name, 'path': f'{path}/'}
    with self._reach('read'):
      return tensorstore.KvStore.open(spec).result()

  @functools.cached_property
  def _names(self):
    import fsspec

    with self._reach('read'):
      return fsspec.filesystem('gcs', finalize_on_close=True)  # as etils does

  @contextlib.contextmanager
  def _reach(self, verb: str) -> Iterator[None]:
    try:
      yield
    except FileNotFoundError:
      raise
    except Exception as e:  # of any library below
      cause = ' '.join(f'{type(e).__name__}: {e}'.split())
      raise ConnectionError(
        f'gs://{self._path} could not be {verb} ({cause[:300]}). Look at the '
        'bucket, what this machine may do with it, and the network; then run '
        'the same command again.'
      ) from e

  def read(self, name: str) -> tuple[bytes | None, bytes]:
    """(content, generation) of an object; content is None if there is none."""
    with self._reach('read'):
      found = self._objects.read(name).result()
    content = bytes(found.value) if found.state == 'value' else None
    return content, found.stamp.generation

  def write(self, name: str, data: bytes, generation: bytes) -> bytes | None:
    """Writes an object if it has this generation; the new one, else None.

    None may also mean that the write took place and its answer was lost.
    """
    wait = self._written.get(name, -PAUSE_S) + PAUSE_S - time.monotonic()
    time.sleep(max(wait, 0.0))
    with self._reach('written'):
      made = self._objects.write(name, data, if_equal=generation).result()
    self._written[name] = time.monotonic()
    return made.generation or None

  def directly_under(self, name: str = '') -> dict[str, bool]:
    """{name: whether it is a folder} of what lies directly under a path."""
    path = f'{self._path}/{name}'.rstrip('/')
    with self._reach('read'):
      self._names.invalidate_cache()
      try:
        found: list[dict[str, Any]] = self._names.ls(path, detail=True)
      except FileNotFoundError:
        return {}
    size = len(path) + 1
    names = {x['name'].rstrip('/')[size:]: x['type'] for x in found}
    return {k: v == 'directory' for k, v in names.items() if k}

  def checksums(self, name: str) -> dict[str, list]:
    """{name: [size in bytes, crc32c]} of an object, or of all under a path.

    From their metadata, which Google computes when an object is written.
    """
    path = f'{self._path}/{name}'
    with self._reach('read'):
      self._names.invalidate_cache()
      found = self._names.find(path, detail=True)
    size = len(self._path) + 1
    return {k[size:]: [int(x['size']), x['crc32c']] for k, x in found.items()}

  def remove(self, name: str) -> None:
    """Removes all objects under a path, if there are any."""
    path = f'{self._path}/{name}'
    with contextlib.suppress(FileNotFoundError), self._reach('written'):
      self._names.invalidate_cache()
      self._names.rm(path, recursive=True)
