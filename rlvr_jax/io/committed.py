"""Which checkpoints does a run have, and when does a new one count?

On a disk, a folder that is complete and synced is renamed to its step. In a
bucket nothing can be renamed: arrays are written where they stay, under a name
that no other program uses, then the manifest, then the object that lists the
checkpoints: see `storage`.
"""

import contextlib
import logging
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import orbax.checkpoint as ocp

from rlvr_jax import hosts, storage
from rlvr_jax.io import manifest

_UNFINISHED = ocp.path.atomicity.TMP_DIR_SUFFIX
_RETIRED = 'retired'  # where checkpoints go before they are removed
_log = logging.getLogger(__name__)


class OnDisk:
  """The checkpoints in a folder, which all hosts see."""

  def __init__(self, workdir: pathlib.Path):
    self.root = workdir / storage.CHECKPOINTS

  def folders(self) -> dict[int, manifest.Folder]:
    """{step: its checkpoint}, ascending; not verified."""
    names = [p.name for p in self.root.iterdir()] if self.root.is_dir() else []
    if pathlib.Path(storage.COMMITS).name in names:
      raise ValueError(
        f'{self.root} is a copy of checkpoints in a bucket, which can be read '
        'there only: give the address, gs://bucket/path.'
      )
    steps = sorted(int(name) for name in names if name.isdecimal())
    return {s: manifest.OnDisk(self.root / str(s)) for s in steps}

  def begun(self, step: int) -> bool:
    """Whether one of this step was begun and not completed."""
    return (self.root / f'{step}{_UNFINISHED}').exists()

  def handler(self) -> ocp.PyTreeCheckpointHandler:
    """Writes the arrays of a checkpoint here."""
    # Compression costs more time than the bytes it saves on weights.
    return _Summed(use_compression=False)

  def open(self, policy: Any) -> dict[str, Any]:
    """Options of the manager that saves here; all hosts must call it.

    Args:
      policy: which checkpoints to keep.
    """
    for folder in self.root.glob(f'*{_UNFINISHED}'):
      _log.warning('%s was not completed and is removed.', folder)
    return {
      'preservation_policy': policy,
      'todelete_subdir': _RETIRED,  # a rename: a kill leaves none half-removed
      'cleanup_tmp_directories': True,
      'temporary_path_class': _Sealed,
    }

  def keep(self, choose: Callable[[], set[int]]) -> None:
    """Which are kept when the next one counts: the policy of `open` says it."""

  def drop(self, manager: ocp.CheckpointManager, steps: list[int]) -> None:
    """Removes checkpoints that are damaged; all hosts must call it."""
    for step in steps:
      manager.delete(step)

  def clean(self, failed: int | None = None) -> None:
    """Removes retired ones, and what a save that failed left."""
    name = _RETIRED if failed is None else f'{failed}{_UNFINISHED}'
    if hosts.first():
      shutil.rmtree(self.root / name, ignore_errors=True)

  def lost(self) -> ValueError | None:
    """That another program took the run over: a lock forbids it."""
    return None


class InBucket:
  """The checkpoints under gs://; hosts need not share anything else."""

  def __init__(self, bucket: storage.Bucket):
    self.root = bucket / storage.CHECKPOINTS
    self._bucket, self._writer = bucket, ''
    self._keep: set[int] = set()

  def folders(self) -> dict[int, manifest.Folder]:
    """{step: its checkpoint}, ascending; not verified."""
    steps = self._bucket.commits()['steps']
    return {s: self.of_name(steps[s]) for s in sorted(steps)}

  def of_name(self, name: str) -> manifest.InBucket:
    """The checkpoint in a folder of this name."""
    return manifest.InBucket(self._bucket, f'{storage.CHECKPOINTS}/{name}')

  def begun(self, step: int) -> bool:
    """Whether one of this step was begun and not completed."""
    under = self._bucket.directly_under(storage.CHECKPOINTS)
    return any(name.startswith(f'{step}-') for name in under)

  def handler(self) -> ocp.PyTreeCheckpointHandler:
    """Writes the arrays of a checkpoint here."""
    return ocp.PyTreeCheckpointHandler(use_compression=False)

  def open(self, policy: Any) -> dict[str, Any]:
    """Options of the manager that saves here; all hosts must call it.

    Takes the run over, and brings what an earlier program wrote until then.
    """
    del policy  # what it leaves out is dropped by the commit of the next one
    self._writer = hosts.from_first(self._bucket.take)
    with hosts.together():
      self._bucket.fetch()
      if hosts.first():
        for name in self._bucket.sweep():
          _log.warning('%s does not count and is removed.', self.root / name)
    place = self

    class Committed(ocp.path.atomicity.CommitFileTemporaryPath):
      """orbax's folder in a bucket, which stays where it is."""

      async def finalize(self):
        if self.get_final().parent == place.root:  # of a step
          self._checkpoint_metadata_store.wait_until_finished()
          place.commit(self.get_final().name)

    return {
      'preservation_policy': _All(),
      'cleanup_tmp_directories': False,
      'temporary_path_class': Committed,
      'step_name_format': _Names(self),
    }

  def name(self, step: int) -> str:
    """Of the folder that this program writes."""
    return f'{step}-{self._writer}'

  def keep(self, choose: Callable[[], set[int]]) -> None:
    """Which are kept when the next one counts."""
    if hosts.first():
      self._keep = choose()

  def commit(self, name: str) -> None:
    """The last write of a save, on the first host."""
    manifest.write(self.of_name(name))
    self._bucket.commit(int(name.partition('-')[0]), name, self._keep)

  def drop(self, manager: ocp.CheckpointManager, steps: list[int]) -> None:
    """Drops checkpoints that are damaged; all hosts must call it."""
    with hosts.together():
      if hosts.first() and steps:
        self._bucket.keep_only(set(self._bucket.commits()['steps']) - {*steps})
    if steps:
      manager.reload()

  def clean(self, failed: int | None = None) -> None:
    """Removes what does not count; no save may be going on."""
    if not hosts.first() or self._bucket.lost is not None:
      return
    # After a failure the next program removes what this one cannot.
    ignored = () if failed is None else (OSError,)
    with contextlib.suppress(*ignored):
      self._bucket.sweep()

  def lost(self) -> ValueError | None:
    """That another program took the run over."""
    return self._bucket.lost


Place = OnDisk | InBucket


def place(workdir: str | os.PathLike) -> Place:
  """Where the checkpoints of a run are. ValueError: see `storage.bucket`."""
  found = storage.bucket(workdir)
  if found is None:
    return OnDisk(pathlib.Path(workdir))
  return InBucket(found)


class _Sealed(ocp.path.atomicity.AtomicRenameTemporaryPath):
  """orbax's temporary folder, with manifest and sync before the rename."""

  # AsyncOptions.post_finalization_callback would run before the last bytes.

  async def finalize(self):
    tmp, final = pathlib.Path(self.get()), pathlib.Path(self.get_final())
    if final.name.isdecimal():  # of a step
      self._checkpoint_metadata_store.wait_until_finished()
      folder = manifest.OnDisk(tmp)
      folder.take_sums()
      manifest.write(folder)
    os.rename(tmp, final)
    manifest.sync(final.parent)


class _Summed(ocp.PyTreeCheckpointHandler):
  """Writes arrays, and each host reads back what it wrote, for its checksum."""

  async def async_save(self, directory, *args, **kwargs):
    futures = await super().async_save(directory, *args, **kwargs)
    return [*(futures or []), _Sums(pathlib.Path(directory))]


class _Sums:
  """The last future of the arrays: orbax waits for one after the other."""

  def __init__(self, arrays: pathlib.Path):
    self._arrays = arrays

  def result(self, timeout: int | None = None) -> None:
    """Reads the files of this host."""
    del timeout
    # orbax renames the folder when it is complete.
    name = self._arrays.name.removesuffix(_UNFINISHED)
    manifest.write_sums(self._arrays, name)


class _All:
  """Keeps all checkpoints: dropping and removing them is not orbax's."""

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    return [True] * len(checkpoints)


class _Names(ocp.path.step.NameFormat):
  """Names of checkpoints in a bucket, and which of them count."""

  def __init__(self, where: InBucket):
    self._where = where

  def build_name(self, step):
    return self._where.name(step)

  def find_all(self, base_path):
    for step, folder in self._where.folders().items():
      yield ocp.path.step.Metadata(step=step, path=folder.path)

  def find_step(self, base_path, step):
    found = self._where.folders()
    if step not in found:
      raise ValueError(f'{base_path} has no checkpoint of step {step}.')
    return ocp.path.step.Metadata(step=step, path=found[step].path)
