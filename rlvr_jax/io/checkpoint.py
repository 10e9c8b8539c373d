"""Saves and restores checkpoints: orbax's `CheckpointManager` and checksums.

    DIR/checkpoints/STEP/state/                the arrays, one entry each
                        /extra/extra.json      data position, best score, ...
                        /_CHECKPOINT_METADATA  orbax's, with names and shapes
                        /manifest.json         sizes and checksums of all these

The manager copies the arrays, writes them in the background from all processes,
makes the new checkpoint count when it is complete (`committed`) and only then
removes older ones. A kill at any moment leaves all that count complete. It is
not used for:

- Integrity. orbax does not detect changed bytes, and syncs neither its small
  files nor the rename: a power cut could destroy the new checkpoint and the one
  it replaced. `manifest` has checksums; `load` verifies all files.
- Scores for `keep_best`: it would read them from files that may be damaged.
- Reading: a manager belongs to the training processes.
"""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import math
import os
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rlvr_jax import hosts, interrupts
from rlvr_jax.io import committed, manifest

Workdir = str | os.PathLike
_log = logging.getLogger(__name__)
_reported: set[str] = set()  # damaged folders, to warn once of each
_EXTRA = 'extra/extra.json'
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXT = ('No space left', 'Disk quota', 'File too large', 'EXHAUSTED')
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Checkpointer(contextlib.AbstractContextManager):
  """Context manager that saves in the background, one save at a time.

  For the processes that train in `workdir`; others call `load`. Removes, and
  logs, incomplete folders that a killed run left; in a bucket, takes over.

  Args:
    workdir: the run's directory.
    max_to_keep: number of the newest to keep, at least 1.
    keep_best: a key of `extra`: also keep the checkpoint where it is largest.
  """

  def __init__(
    self, workdir: Workdir, *, max_to_keep: int, keep_best: str | None = None
  ):
    if max_to_keep < 1:
      raise ValueError(
        f'max_to_keep is {max_to_keep}; a run needs at least 1 checkpoint to '
        'resume from.'
      )
    _quieten_orbax()
    self._workdir = workdir
    self._place = committed.place(workdir)
    self._root = self._place.root
    self._max_to_keep = max_to_keep
    self._keep_best = keep_best
    self._step = None  # of the last save
    self._damaged = []  # steps that `restore` skipped
    arrays = self._place.handler()
    item, name = _EXTRA.split('/')
    handlers = ocp.handlers.DefaultCheckpointHandlerRegistry()
    handlers.add('state', ocp.args.PyTreeSave, arrays)
    handlers.add(item, ocp.args.JsonSave, ocp.JsonCheckpointHandler(name))
    options = ocp.CheckpointManagerOptions(
      # Else a folder that cannot be made would end in a timeout.
      async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
      lightweight_initialize=True,  # reads no files: they may be damaged
      **self._place.open(self),
    )
    self._manager = ocp.CheckpointManager(
      _absolute(self._root), options=options, handler_registry=handlers
    )
    self._place.clean()

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    """The manager's `PreservationPolicy`: one bool for each checkpoint."""
    del context
    newest = checkpoints[-1]
    keep = self._kept([c.step for c in checkpoints], newest.metrics)
    return [c.step in keep for c in checkpoints]

  def _kept(self, steps, extra) -> set[int]:
    """Those of `steps` to keep; the last one, of which is `extra`, is new."""
    keep = {*steps[-self._max_to_keep :]}
    if self._keep_best is not None:  # the new one has no file yet
      keep.add(best(self._workdir, self._keep_best, {steps[-1]: extra}))
    return keep

  def __exit__(self, kind, *_):
    # `close` waits for the other hosts, and one that failed comes alone.
    if kind in (None, interrupts.Stopped) or hosts.count() == 1:
      self.close()

  def save(self, step: int, state: Any, extra: dict) -> None:
    """Starts to save a pytree of arrays; returns when they are copied.

    `state` may then be donated. All processes must call it.

    Raises:
      OSError: disk full or no permission, in this save or the one before it;
        earlier checkpoints are intact.
      RuntimeError: it failed for another reason.
      ValueError: it would not be the newest; or two arrays have one name.
    """
    self.wait()
    arrays = {
      # orbax reads host arrays in the background, so it gets copies.
      k: x if isinstance(x, jax.Array) else np.array(x)
      for k, x in _flatten(state).items()
    }
    self._step = step = int(step)
    try:
      self._place.drop(self._manager, self._damaged)
      self._damaged = []
      self._place.keep(lambda: self._kept([*steps(self._workdir), step], extra))
      saved = self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeSave(arrays),
          extra=ocp.args.JsonSave(json.loads(json.dumps(extra))),
        ),
        custom_metadata={k: _describe(x) for k, x in arrays.items()},
        metrics=extra,
      )
    except Exception as e:
      raise self._failed(e) from e
    if not saved:
      raise ValueError(
        f'{self._root} has checkpoints of steps {steps(self._workdir)}, and '
        f'that of step {step} would not be the newest: restore first and save '
        'later steps, or use a new workdir.'
      )

  def restore(self, abstract: Any) -> tuple[Any, dict, int] | None:
    """(state, extra, step) of the newest intact checkpoint: see `load`.

    Newer ones, which are damaged, are removed at the next save.
    """
    self.wait()
    found = load(self._workdir, abstract)
    if found is not None:
      self._damaged = [s for s in self._manager.all_steps() if s > found[2]]
    return found

  def wait(self) -> None:
    """Waits until the last save is on disk, and raises its error."""
    try:
      self._manager.wait_until_finished()
    except Exception as e:
      raise self._failed(e) from e
    self._place.clean()

  def close(self) -> None:
    """Waits for the last save and closes the manager."""
    try:
      self.wait()
    finally:
      self._manager.close()

  def _failed(self, error):
    """The exception to raise for `error`: with the path and the remedy."""
    if (lost := self._place.lost()) is not None:
      return lost
    self._place.clean(self._step)
    self._manager.reload()  # checkpoints it meant to remove are still there
    text = ' '.join(str(error).split())
    cause = f'Cause: {type(error).__name__}: {text[-300:]}'
    what = f'The checkpoint of step {self._step} could not be written to'
    code = getattr(error, 'errno', None)
    if code in _FULL or any(t in text for t in _FULL_TEXT):
      code = errno.ENOSPC
      why = (
        'the disk is full, or a quota or file size limit is reached. Free some '
        'space, lower max_to_keep or take a workdir on a larger disk'
      )
    elif code in _REFUSED:
      why = 'it is not permitted. Let this user write there'
    else:
      return RuntimeError(
        f'{what} {self._root}. Earlier checkpoints are intact. {cause}'
      )
    intact = steps(self._workdir)
    newest = f'the checkpoint of step {intact[-1]}' if intact else 'its start'
    return OSError(
      code,
      f'{what} {self._root}: {why}, then run the same command again: it goes '
      f'on from {newest}; later steps are lost. {cause}',
    )


open = Checkpointer


def steps(workdir: Workdir) -> list[int]:
  """The steps that have a checkpoint, ascending; not verified."""
  return list(committed.place(workdir).folders())


def best(workdir: Workdir, key: str, new: dict | None = None) -> int | None:
  """The step with the largest finite `extra[key]`, the latest of equal ones.

  None if no checkpoint has one. A damaged extra.json is ignored and logged
  once. `new` is {step: extra} of further steps.
  """
  scores = [
    (x[key], step)
    for step, x in (_extras(workdir) | (new or {})).items()
    if isinstance(x.get(key), (int, float)) and math.isfinite(x[key])
  ]
  return max(scores)[1] if scores else None


def extra(workdir: Workdir) -> dict | None:
  """`extra` of the newest checkpoint whose extra.json is intact, else None."""
  extras = _extras(workdir)
  return extras[max(extras)] if extras else None


def _extras(workdir) -> dict[int, dict]:
  """{step: extra} of the checkpoints whose extra.json is intact."""
  extras = {}
  for step, folder in committed.place(workdir).folders().items():
    fault = manifest.fault(folder, only=_EXTRA)
    if fault is None:
      extras[step] = json.loads(folder.read(_EXTRA))
    elif str(folder.path) not in _reported:
      _reported.add(str(folder.path))
      _log.warning('%s is damaged: %s.', folder.path, fault)
  return extras


def digest(workdir: Workdir, step: int) -> str:
  """Names the content of a checkpoint: of all the checksums that it has."""
  text = manifest.text(committed.place(workdir).folders()[step])
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(
  workdir: Workdir, abstract, *, step: int | None = None, partial: bool = False
) -> tuple[Any, dict, int] | None:
  """Reads the newest intact checkpoint, with the given shardings.

  Args:
    workdir: the run's directory.
    abstract: the tree to fill. Leaves are `jax.ShapeDtypeStruct` or arrays;
      without a sharding a leaf goes to the first device. Any mesh will do.
    step: read this one and no other.
    partial: allow a checkpoint that holds more, such as an optimiser's state
      (put None there).

  Returns:
    (state, extra, step), or None if the run has no checkpoint.

  Raises:
    RuntimeError: there are checkpoints and none is intact.
    ValueError: no such step; or names, shapes or dtypes differ (all named).
  """
  place = committed.place(workdir)
  root, saved = place.root, hosts.from_first(lambda: steps(workdir))
  if step is not None and step not in saved:
    begun = place.begun(step)
    raise ValueError(
      f'{root} has no checkpoint of step {step}'
      f'{" (it was begun and not completed)" if begun else ""}. It has: '
      f'{", ".join(map(str, saved)) or "none"}.'
    )
  if not saved:
    return None
  chosen = _newest_intact(place, step)
  folder = place.folders()[chosen]
  path = _absolute(folder.path)
  first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  wanted = {
    k: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=getattr(x, 'sharding', None) or first
    )
    for k, x in _flatten(abstract).items()
  }
  _check_same(path, wanted, partial)
  reader = ocp.Checkpointer(
    ocp.PyTreeCheckpointHandler(),
    temporary_path_class=ocp.path.atomicity.AtomicRenameTemporaryPath,
  )
  arrays = reader.restore(
    path / 'state',
    args=ocp.args.PyTreeRestore(
      wanted,
      ocp.checkpoint_utils.construct_restore_args(wanted),
      partial_restore=partial,
    ),
  )
  reader.close()
  state = jax.tree.unflatten(
    jax.tree.structure(abstract), [arrays[k] for k in wanted]
  )
  return state, json.loads(folder.read(_EXTRA)), chosen


def _newest_intact(place: committed.Place, step: int | None) -> int:
  """`step`, or the last one, if it is intact; all processes must call it."""
  with hosts.together():
    folders = place.folders()
  seen = [set(names) for names in hosts.gather([*folders])]
  common = set.intersection(*seen) & ({step} if step is not None else seen[0])
  if not common:
    raise ValueError(
      f'{place.root} has no checkpoint that all hosts see: give all of them one '
      'workdir.'
    )
  chosen, faults = manifest.newest_intact({s: folders[s] for s in common})
  if chosen is None:
    raise RuntimeError(
      f'No checkpoint in {place.root} is usable ({"; ".join(faults)}). Restore one '
      'from a copy, or use a new workdir to start again.'
    )
  if faults:
    _log.warning('Going on from the checkpoint of step %d.', chosen)
  return chosen


def _check_same(folder, wanted: dict, partial: bool) -> None:
  """ValueError unless names, shapes and dtypes are those of the checkpoint."""
  saved = ocp.metadata.get_step_metadata(folder).custom_metadata
  want = {k: _describe(x) for k, x in wanted.items()}
  lines = [f'{k}: missing in the checkpoint' for k in want if k not in saved]
  if not partial:
    lines += [f'{k}: only in the checkpoint' for k in saved if k not in want]
  lines += [
    f'{k}: {saved[k]} in the checkpoint, {want[k]} wanted'
    for k in sorted(want.keys() & saved.keys())
    if saved[k] != want[k]
  ]
  if lines:
    raise ValueError(
      f'The checkpoint {folder} does not fit this model and optimizer. Use '
      'the config it was made with, or a new workdir.\n  ' + '\n  '.join(lines)
    )


def _flatten(tree) -> dict[str, Any]:
  """{'params.dense.kernel': leaf}; ValueError if two names are equal."""
  pairs = jax.tree_util.tree_flatten_with_path(tree)[0]
  names = [
    jax.tree_util.keystr(path, simple=True, separator='.') for path, _ in pairs
  ]
  twice = sorted({n for n in names if names.count(n) > 1})
  if twice:
    raise ValueError(
      f'Two arrays of the state have the same name: {", ".join(twice)}. '
      'Rename the keys that hold a dot.'
    )
  return {n: leaf for n, (_, leaf) in zip(names, pairs)}


def _describe(x) -> str:
  return f'{x.dtype}{list(x.shape)}'


@functools.cache
def _quieten_orbax():
  """Silences stack traces and warnings of orbax: `wait` raises its errors."""
  logging.getLogger('absl').addFilter(lambda r: 'orbax' not in r.pathname)
  # If several writes fail, the others end when their event loop is closed.
  late = 'Error writing'
  logging.getLogger('asyncio').addFilter(lambda r: late not in r.getMessage())
  hook = sys.unraisablehook
  closed = lambda x: 'Event loop is closed' in str(x.exc_value)
  sys.unraisablehook = lambda x: None if closed(x) else hook(x)


def _absolute(path):
  return path.absolute() if isinstance(path, pathlib.Path) else path
