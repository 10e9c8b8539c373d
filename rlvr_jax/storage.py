"""Where is a run's directory: a folder, or a path in a bucket of Google's?

A workdir is a folder or gs://bucket/path. Objects in a bucket are written
whole: they cannot be appended to, renamed or locked. So

- a run's own files (lines, config, pages) are those of a folder of this host,
  which `folder` fills from the bucket and `push` copies back;
- checkpoints are written to the bucket itself, by all hosts, and count once
  the object COMMITS names them. It also names the program that trains: whoever
  starts the run again takes it over, by one write with a precondition, and the
  earlier one, which may be alive, cannot commit any more and ends.

For a folder, `folder` is that folder, and `push` and `kept` do nothing.
"""

import atexit
import contextlib
import importlib.util
import json
import logging
import os
import pathlib
import re
import secrets
import shutil
import socket
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from rlvr_jax import bucket_objects

CHECKPOINTS = 'checkpoints'
COMMITS = f'{CHECKPOINTS}/commits.json'
PUSH_S = 30.0  # between two copies while a run goes on
LOOK_S = 5.0  # between two looks at who holds the run

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_buckets: dict[str, 'Bucket'] = {}


def bucket(name: str | os.PathLike) -> 'Bucket | None':
  """The bucket's part that `name` is the address of; None for a folder.

  Raises:
    ValueError: an address of another kind, or one that needs a package.
  """
  text = os.fspath(name)
  scheme, colon, rest = text.partition('://')
  if not colon:
    if text.startswith('gs:/'):
      raise ValueError(f'{text}: write gs://bucket/path, with two slashes.')
    return None
  if scheme != 'gs':
    raise ValueError(
      f'{text}: {scheme}:// is not supported. Give a folder, or '
      'gs://bucket/path.'
    )
  path = rest.strip('/')
  if not re.fullmatch(r'[a-z0-9][\w.-]*(/[^/]+)+', path):
    raise ValueError(
      f'{text}: give a path within a bucket, as gs://bucket/path, without '
      'empty parts.'
    )
  if importlib.util.find_spec('gcsfs') is None:
    raise ValueError(f"{text} needs gcsfs: pip install 'rlvr_jax[gcs]'.")
  with _lock:
    return _buckets.setdefault(path, Bucket(path))


def folder(name: str | os.PathLike) -> pathlib.Path:
  """The folder of this host that holds the run's own files.

  For an address, a copy: what the bucket holds directly under it, as it was
  at the first call, with what was written since.

  Raises:
    ValueError: see `bucket`.
    ConnectionError: the bucket could not be read.
  """
  found = bucket(name)
  return pathlib.Path(name) if found is None else found.folder


def local(name: str | os.PathLike, what: str) -> pathlib.Path:
  """The path `name`. ValueError for an address, which `what` may not be."""
  text = os.fspath(name)
  if '://' in text:
    raise ValueError(
      f'{text}: {what} must be on a disk. Copy it: gcloud storage cp '
      '--recursive FROM TO.'
    )
  return pathlib.Path(text)


def push(name: str | os.PathLike) -> None:
  """Copies the run's changed files whole to the bucket, if it has one.

  Raises:
    ConnectionError: the bucket could not be written.
    ValueError: another program trains there now.
  """
  if (found := bucket(name)) is not None:
    found.push()


def check(name: str | os.PathLike) -> None:
  """ValueError if another program took over the run that this one trains."""
  found = bucket(name)
  if found is not None and found.lost is not None:
    raise found.lost


@contextlib.contextmanager
def kept(name: str | os.PathLike, writes: bool = True) -> Iterator[None]:
  """Context whose files are pushed every PUSH_S seconds, and at its end.

  Args:
    writes: whether this host is the one that writes.
  """
  found = bucket(name) if writes else None
  if found is None:
    yield
    return
  ended = threading.Event()
  thread = threading.Thread(target=_keep, args=(found, ended), daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    if found.lost is None:
      found.push()


def _keep(found, ended):
  pushed = time.monotonic()
  while not ended.wait(LOOK_S):
    try:
      found.check()
      if time.monotonic() - pushed >= PUSH_S:
        pushed = time.monotonic()
        found.push()
    except ValueError:  # `Bucket.lost`, which the program looks at
      return
    except OSError as e:
      _log.warning('%s It is tried again.', e)


class _Held(NamedTuple):
  """What the bucket holds of a file, as far as this host knows."""

  generation: bytes | None = None  # None: not known
  size: int = 0  # of this host's file then, and its checksum
  crc: int = 0
  theirs: bytes | None = None  # in the bucket, if that is not the file then
  mark: Any = None  # of the file then

  def of(self, own: bytes) -> bytes | None:
    """What was appended to the file since; None if it was written anew."""
    same = zlib.crc32(own[: self.size]) == self.crc
    return own[self.size :] if same and len(own) >= self.size else None

  def followed_by(self, own: bytes) -> bytes:
    """What is in the bucket, with what was appended to the file since."""
    since = self.of(own)
    if self.theirs is None or since is None:
      return own
    return self.theirs + since


class Bucket(bucket_objects.Objects):
  """What lies under one address; and the folder that is a copy of it.

  Attributes:
    address: gs://bucket/path.
    lost: the error of a program whose run another one took over.
  """

  def __init__(self, path: str):
    super().__init__(path)
    self.address = f'gs://{path}'
    self.lost: ValueError | None = None
    self._holder = None  # this program, if it trains here
    self._held: dict[str, _Held] = {}
    self._pushing = threading.RLock()
    self._folder: pathlib.Path | None = None

  def __truediv__(self, name: str):
    """The path of an object, as orbax wants it."""
    from etils import epath  # comes with orbax

    return epath.Path(self.address) / name

  ##### the run's own files #####

  @property
  def folder(self) -> pathlib.Path:
    """See the function `folder`."""
    if self._folder is None:
      # Not a cached_property, whose own lock and this one could each wait for
      # the other: a program and its thread that pushes both come here first.
      with self._pushing:
        if self._folder is None:
          made = pathlib.Path(tempfile.mkdtemp(prefix='rlvr_jax_'))
          atexit.register(shutil.rmtree, made, ignore_errors=True)
          made = made / self._path.rpartition('/')[2]
          made.mkdir()
          self._fetch(made)
          self._folder = made
    return self._folder

  def fetch(self) -> None:
    """Brings what changed in the bucket since."""
    self._fetch(self.folder)

  def _fetch(self, folder):
    with self._pushing:
      for name, is_folder in self.directly_under().items():
        if is_folder:
          continue
        content, generation = self.read(name)
        if content is None:
          continue  # removed since
        path = folder / name
        path.write_bytes(content)
        crc = zlib.crc32(content)
        self._held[name] = _Held(
          generation, len(content), crc, mark=_mark(path)
        )

  def push(self) -> None:
    """See the function `push`."""
    with self._pushing:
      for path in sorted(self.folder.rglob('*')):
        name = path.relative_to(self.folder).as_posix()
        if path.is_file() and not name.endswith(('.tmp', '.lock')):
          self._push(name, path)

  def _push(self, name, path):
    held = self._held.get(name, _Held())
    if held.mark == _mark(path):
      return
    # Lines that several programs append, each to a copy of its own.
    lines = name.endswith('.jsonl') and not name.startswith('samples-')
    mark, own = _content(path, lines)
    if held.generation is not None and held.of(own) == b'':
      self._held[name] = held._replace(mark=mark)
      return
    content, generation = held.followed_by(own), held.generation
    while True:
      if generation is not None:
        made = self.write(name, content, generation)
        if made is not None:
          break
        self.check()
      found, generation = self.read(name)
      if found == content:  # written before, and the answer was lost
        made = generation
        break
      if found is not None and lines:
        theirs = found if self._holder is None else _of_others(found, held, own)
        held = held._replace(theirs=theirs)
        content = held.followed_by(own)
    theirs = None if content == own else content
    self._held[name] = _Held(made, len(own), zlib.crc32(own), theirs, mark)

  ##### who trains, and which checkpoints there are #####

  def commits(self) -> dict[str, Any]:
    """COMMITS: 'steps' is {step: folder of its checkpoint}, and who holds it.

    If the object is gone, the folders tell: those with a manifest are whole.
    """
    return self._commits()[0]

  def _commits(self):
    content, generation = self.read(COMMITS)
    if content is not None:
      found = json.loads(content)
      steps = {int(k): v for k, v in found['steps'].items()}
      return found | {'steps': steps}, generation
    steps = {}
    for name in sorted(self.directly_under(CHECKPOINTS)):
      step, _, _ = name.partition('-')
      manifest = f'{CHECKPOINTS}/{name}/manifest.json'
      if step.isdecimal() and self.read(manifest)[0] is not None:
        steps[int(step)] = name
    return {'holder': '', 'by': '', 'steps': steps}, generation

  def take(self) -> str:
    """Makes this program the one that trains here; returns its name."""
    me = secrets.token_hex(4)
    by = f'process {os.getpid()} on {socket.gethostname()}'
    while True:
      now, generation = self._commits()
      if self._replace(now | {'holder': me, 'by': by}, generation):
        self._holder, self.lost = me, None
        return me

  def check(self) -> None:
    """Raises `lost` if another program took this one's run over."""
    if self.lost is None and self._holder is not None:
      self._mine(self._commits()[0])
    if self.lost is not None:
      raise self.lost

  def write_new(self, name: str, data: bytes) -> bool:
    """Writes an object that does not exist yet; whether it is there now."""
    found, generation = self.read(name)
    made = found is None and self.write(name, data, generation)
    return bool(made) or self.read(name)[0] == data

  def commit(self, step: int, name: str, keep: Collection[int]) -> None:
    """Adds a checkpoint, and drops all that are not in `keep`."""
    self._change(
      lambda old: {s: old[s] for s in keep if s in old}, {step: name}
    )

  def keep_only(self, keep: Collection[int]) -> None:
    """Drops checkpoints."""
    self._change(lambda old: {s: old[s] for s in keep if s in old}, {})

  def _change(self, kept, new):
    while True:
      now, generation = self._commits()
      self._mine(now)
      if self._replace(now | {'steps': kept(now['steps']) | new}, generation):
        return

  def _replace(self, new, generation):
    """Whether COMMITS is `new` now, by a write that had to find the old one."""
    content = json.dumps(new, sort_keys=True).encode()
    made = self.write(COMMITS, content, generation)
    return made is not None or self.read(COMMITS)[0] == content

  def _mine(self, now):
    if now['holder'] == self._holder:
      return
    self.lost = ValueError(
      f'{self.address} was taken over by {now["by"]}, which goes on from the '
      f'newest of its checkpoints ({", ".join(map(str, now["steps"]))}). This '
      'program ends; what it did since is left out.'
    )
    raise self.lost

  def sweep(self) -> list[str]:
    """Removes the folders of checkpoints that do not count; their names."""
    # Looked at first: a successor's folders cannot be among them.
    found = [k for k, x in self.directly_under(CHECKPOINTS).items() if x]
    now, _ = self._commits()
    self._mine(now)
    gone = [k for k in found if k not in now['steps'].values()]
    for name in gone:
      self.remove(f'{CHECKPOINTS}/{name}')
    return gone


def _mark(path):
  stat = path.stat()
  return stat.st_mtime_ns, stat.st_size


def _content(path, lines):
  """(mark, bytes) of a file, without a line that is being written."""
  mark, content = _mark(path), path.read_bytes()
  return mark, content[: content.rfind(b'\n') + 1] if lines else content


def _of_others(found, held, own):
  """What was in the bucket, and lines that no training program wrote since.

  An earlier program, whose run was taken over, may have written more.
  """
  before = own[: held.size] if held.theirs is None else held.theirs
  if not found.startswith(before):
    return before
  since = found[len(before) :].splitlines(keepends=True)
  return before + b''.join(line for line in since if _has_source(line))


def _has_source(line: bytes) -> bool:
  """Whether it is a line of a program that does not train."""
  try:
    return json.loads(line).get('source', 'train') != 'train'
  except (ValueError, AttributeError):
    return False


if __name__ == '__main__':  # ADDRESS FILE.tar.gz, for scripts/tpu.py
  with tarfile.open(sys.argv[2], 'w:gz') as packed:
    packed.add(folder(sys.argv[1]), '.')
