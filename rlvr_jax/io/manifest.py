"""The proof that a folder is whole: names, sizes and checksums of its files.

orbax notices neither flipped nor zeroed bytes in an array.
"""

import json
import os
import pathlib
import zlib


def write(folder: pathlib.Path, arrays: dict) -> None:
  """Seals a folder: `arrays` and the checksum of every file, on disk."""
  paths = sorted(p for p in folder.rglob('*') if p.is_file())
  files = {str(p.relative_to(folder)): _checksum(p) for p in paths}
  body = json.dumps({'arrays': arrays, 'files': files})
  path = folder / 'manifest.json'
  # Its second line is the checksum of its first.
  path.write_text(f'{body}\n{zlib.crc32(body.encode()):08x}')
  for p in [*paths, path, *{p.parent for p in paths}]:
    sync(p)


def read(folder: pathlib.Path) -> dict:
  """{'arrays': ..., 'files': ...}; ValueError or OSError if it is bad."""
  body, crc = (folder / 'manifest.json').read_text().splitlines()
  if f'{zlib.crc32(body.encode()):08x}' != crc:
    raise ValueError('its checksum differs')
  return json.loads(body)


def extra(folder: pathlib.Path) -> dict | None:
  """What extra.json of a checkpoint holds; None if it is missing or not what
  was sealed. Cheap: no array is read."""
  path = folder / 'extra.json'
  try:
    if _checksum(path) != read(folder)['files'][path.name]:
      return None
    found = json.loads(path.read_text())
  except (ValueError, OSError, KeyError, TypeError):
    return None
  return found if isinstance(found, dict) else None


def fault(folder: pathlib.Path) -> str | None:
  """What is wrong with a folder, or None."""
  if not (folder / 'manifest.json').exists():
    return 'manifest.json is missing, so it was never completed'
  try:
    files = read(folder)['files']
  except (ValueError, OSError) as e:
    return f'manifest.json cannot be read ({e})'
  for name, expected in files.items():
    try:
      found = _checksum(folder / name)
    except OSError as e:
      return f'{name} cannot be read ({e.strerror})'
    if found[0] != expected[0]:
      return f'{name} has {found[0]} bytes instead of {expected[0]}'
    if found != expected:
      return f'{name} has changed: its checksum differs'
  return None


def _checksum(path):
  """[bytes, crc32] of a file."""
  size = crc = 0
  with path.open('rb') as f:
    while chunk := f.read(1 << 23):
      size += len(chunk)
      crc = zlib.crc32(chunk, crc)
  return [size, crc]


def sync(path: pathlib.Path) -> None:
  """Returns when a file or folder survives a power cut."""
  fd = os.open(path, os.O_RDONLY)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)
