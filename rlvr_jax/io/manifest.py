"""Integrity of a checkpoint: sizes and checksums of all its files.

orbax does not detect changed bytes in an array. On a disk all bytes are read,
after a save and before a restore; in a bucket the metadata of an object have
its checksum, and no byte is read.
"""

import functools
import json
import logging
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

from rlvr_jax import storage

_NAME = 'manifest.json'
_FORMAT = 2  # version of checkpoint folders
_log = logging.getLogger(__name__)


class OnDisk:
  """A checkpoint in a folder."""

  def __init__(self, path: pathlib.Path):
    self.path = path

  def read(self, name: str) -> str:
    """The text of a file."""
    return (self.path / name).read_text()

  def names(self) -> list[str]:
    """All its files."""
    paths = sorted(p for p in self.path.rglob('*') if p.is_file())
    return [str(p.relative_to(self.path)) for p in paths]

  def checksum(self, name: str) -> list:
    """[size in bytes, crc32] of a file."""
    size = crc = 0
    with (self.path / name).open('rb') as f:
      while chunk := f.read(1 << 23):
        size += len(chunk)
        crc = zlib.crc32(chunk, crc)
    return [size, crc]

  def seal(self, text: str) -> None:
    """Writes the manifest, and syncs all of the folder to disk."""
    (self.path / _NAME).write_text(text)
    paths = [self.path / name for name in self.names()]
    for p in [*paths, *{p.parent for p in paths}]:
      sync(p)


class InBucket:
  """A checkpoint under gs://; reads the metadata of its objects once."""

  def __init__(self, bucket: storage.Bucket, name: str):
    self._bucket, self._name = bucket, name
    self.path = bucket / name

  @functools.cached_property
  def _all(self):
    size = len(self._name) + 1
    found = self._bucket.checksums(self._name)
    return {name[size:]: value for name, value in found.items()}

  def read(self, name: str) -> str:
    """The text of an object."""
    content, _ = self._bucket.read(f'{self._name}/{name}')
    if content is None:
      raise FileNotFoundError('there is no such object')
    return content.decode()

  def names(self) -> list[str]:
    """All its objects."""
    return sorted(self._all)

  def checksum(self, name: str) -> list:
    """[size in bytes, crc32c] of an object."""
    if name not in self._all:
      raise FileNotFoundError('there is no such object')
    return self._all[name]

  def seal(self, text: str) -> None:
    """Writes the manifest."""
    name = f'{self._name}/{_NAME}'
    if not self._bucket.write_new(name, text.encode()):
      raise RuntimeError(f'{self.path} was written by another program too.')


Folder = OnDisk | InBucket


def write(folder: Folder) -> None:
  """Writes the manifest of a checkpoint that is complete."""
  files = {name: folder.checksum(name) for name in folder.names()}
  body = json.dumps({'format': _FORMAT, 'files': files})
  # The second line is the checksum of the first.
  folder.seal(f'{body}\n{zlib.crc32(body.encode()):08x}')


def text(folder: Folder) -> str:
  """The manifest itself, which identifies the checkpoint."""
  return folder.read(_NAME)


def fault(folder: Folder, only: str = '') -> str | None:
  """The first fault in a checkpoint, or in its file `only`; None if intact.

  Raises:
    PermissionError: a file may not be read, which is not damage.
    ConnectionError: the bucket cannot be reached, which is none either.
  """
  name = _NAME
  try:
    body, crc = folder.read(name).splitlines()
    if f'{zlib.crc32(body.encode()):08x}' != crc:
      raise ValueError('its checksum differs')
    sealed: dict[str, Any] = json.loads(body)
    if sealed.get('format') != _FORMAT:
      return 'another version of this program wrote it'
    for name in [only] if only else sealed['files']:
      actual, expected = folder.checksum(name), sealed['files'][name]
      if actual[0] != expected[0]:
        return f'{name} has {actual[0]} bytes instead of {expected[0]}'
      if actual != expected:
        return f'{name} has changed: its checksum differs'
  except PermissionError as e:
    said = f'{folder.path / name} may not be read: let this user read it'
    raise PermissionError(e.errno, said) from e
  except ConnectionError:
    raise
  except (OSError, ValueError) as e:
    why = getattr(e, 'strerror', None) or e
    return f'{name} cannot be read ({why})'
  return None


def newest_intact(
  folders: Mapping[int, Folder],
) -> tuple[int | None, list[str]]:
  """(the last step whose checkpoint is intact, faults of those after it)."""
  faults: list[str] = []
  for step in sorted(folders, reverse=True):
    try:
      found = fault(folders[step])
    except PermissionError as e:  # falling back would lose steps
      return None, [*faults, f'step {step}: {e}']
    if found is None:
      return step, faults
    faults.append(f'step {step}: {found}')
    _log.warning('Checkpoint of step %d is unusable: %s.', step, found)
  return None, faults


def sync(path: pathlib.Path) -> None:
  """Returns when a file or folder is on disk and would survive a power cut."""
  fd = os.open(path, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)
