"""Integrity of a checkpoint: sizes and checksums of all its files.

orbax does not detect changed bytes in an array. On a disk all bytes are read,
after a save and before a restore, by each host a share of them; in a bucket the
metadata of an object have its checksum, and no byte is read.
"""

import functools
import json
import logging
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

from rlvr_jax import hosts, storage

_NAME = 'manifest.json'
_SUMS = 'sums-{}.json'  # of one host's files, until the manifest is written
_FORMAT = 2  # version of checkpoint folders
_log = logging.getLogger(__name__)


class OnDisk:
  """A checkpoint in a folder."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self._known: dict[str, list] = {}  # checksums that need not be read

  def read(self, name: str) -> str:
    """The text of a file."""
    return (self.path / name).read_text()

  def names(self) -> list[str]:
    """All its files."""
    paths = sorted(p for p in self.path.rglob('*') if p.is_file())
    return [str(p.relative_to(self.path)) for p in paths]

  def checksum(self, name: str) -> list:
    """[size in bytes, crc32] of a file."""
    if name in self._known:
      return self._known[name]
    size = crc = 0
    with (self.path / name).open('rb') as f:
      while chunk := f.read(1 << 23):
        size += len(chunk)
        crc = zlib.crc32(chunk, crc)
    return [size, crc]

  def take_sums(self) -> None:
    """Reads, and removes, what `write_sums` wrote on all hosts."""
    for path in self.path.glob(_SUMS.format('*')):
      self._known |= json.loads(path.read_text())
      path.unlink()

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


def write_sums(arrays: pathlib.Path, name: str) -> None:
  """Writes the checksums of this host's arrays, for the one that seals.

  Args:
    arrays: where orbax has written them, in the folder of a checkpoint; on
      several hosts each one under a name with its number.
    name: what `arrays` will be called in the complete checkpoint.
  """
  own = OnDisk(arrays)
  data = f'ocdbt.process_{hosts.index()}/d/'
  sums = {
    f'{name}/{file}': own.checksum(file)
    for file in own.names()
    if file.startswith(data)  # the rest is small, and may still change
  }
  path = arrays.parent / _SUMS.format(hosts.index())
  path.write_text(json.dumps(sums))


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
  return _fault(folder, lambda names: [only] if only else names)


def _fault(folder, choose) -> str | None:
  """`fault` in those of the files that `choose` returns of their names."""
  name = _NAME
  try:
    body, crc = folder.read(name).splitlines()
    if f'{zlib.crc32(body.encode()):08x}' != crc:
      raise ValueError('its checksum differs')
    sealed: dict[str, Any] = json.loads(body)
    if sealed.get('format') != _FORMAT:
      return 'another version of this program wrote it'
    for name in choose([*sealed['files']]):
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
  """(the last step whose checkpoint is intact, faults of those after it).

  Each host reads a share of the files. All hosts must call it, with folders of
  the same steps.
  """
  faults: list[str] = []
  mine = lambda names: [names[i] for i in hosts.shared(len(names))]
  for step in sorted(folders, reverse=True):
    found, denied = None, False
    with hosts.together():
      try:
        found = _fault(folders[step], mine)
      except PermissionError as e:  # falling back would lose steps
        found, denied = str(e), True
    said = [x for x in hosts.gather([found, denied]) if x[0] is not None]
    if not said:
      return step, faults
    found, denied = said[0]
    faults.append(f'step {step}: {found}')
    if denied:
      return None, faults
    _log.warning('Checkpoint of step %d is unusable: %s.', step, found)
  return None, faults


def sync(path: pathlib.Path) -> None:
  """Returns when a file or folder is on disk and would survive a power cut."""
  fd = os.open(path, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)
