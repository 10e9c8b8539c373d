"""Integrity of a checkpoint folder: sizes and checksums of all its files.

orbax does not detect changed bytes in an array.
"""

import json
import logging
import os
import pathlib
import zlib
from collections.abc import Sequence

_NAME = 'manifest.json'
_FORMAT = 2  # version of checkpoint folders
_log = logging.getLogger(__name__)


def write(folder: pathlib.Path) -> None:
  """Writes the manifest of a folder, and syncs all of the folder to disk."""
  paths = sorted(p for p in folder.rglob('*') if p.is_file())
  files = {str(p.relative_to(folder)): _checksum(p) for p in paths}
  body = json.dumps({'format': _FORMAT, 'files': files})
  path = folder / _NAME
  # The second line is the checksum of the first.
  path.write_text(f'{body}\n{zlib.crc32(body.encode()):08x}')
  for p in [*paths, path, *{p.parent for p in [*paths, path]}]:
    sync(p)


def fault(folder: pathlib.Path, only: str = '') -> str | None:
  """The first fault in a folder, or in its file `only`; None if intact.

  Raises:
    PermissionError: a file may not be read, which is not damage.
  """
  name = _NAME
  try:
    body, crc = (folder / name).read_text().splitlines()
    if f'{zlib.crc32(body.encode()):08x}' != crc:
      raise ValueError('its checksum differs')
    sealed = json.loads(body)
    if sealed.get('format') != _FORMAT:
      return 'another version of this program wrote it'
    for name in [only] if only else sealed['files']:
      actual, expected = _checksum(folder / name), sealed['files'][name]
      if actual[0] != expected[0]:
        return f'{name} has {actual[0]} bytes instead of {expected[0]}'
      if actual != expected:
        return f'{name} has changed: its checksum differs'
  except PermissionError as e:
    text = f'{folder / name} may not be read: let this user read it'
    raise PermissionError(e.errno, text) from e
  except (OSError, ValueError) as e:
    return f'{name} cannot be read ({getattr(e, "strerror", e)})'
  return None


def newest_intact(
  root: pathlib.Path, steps: Sequence[int]
) -> tuple[int | None, list[str]]:
  """(the last of `steps` whose folder is intact, faults of those after it)."""
  faults: list[str] = []
  for step in reversed(steps):
    try:
      found = fault(root / str(step))
    except PermissionError as e:  # falling back would lose steps
      return None, [*faults, f'step {step}: {e}']
    if found is None:
      return step, faults
    faults.append(f'step {step}: {found}')
    _log.warning('Checkpoint of step %d is unusable: %s.', step, found)
  return None, faults


def _checksum(path: pathlib.Path) -> list[int]:
  """[size in bytes, crc32] of a file."""
  size = crc = 0
  with path.open('rb') as f:
    while chunk := f.read(1 << 23):
      size += len(chunk)
      crc = zlib.crc32(chunk, crc)
  return [size, crc]


def sync(path: pathlib.Path) -> None:
  """Returns when a file or folder is on disk and would survive a power cut."""
  fd = os.open(path, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)
