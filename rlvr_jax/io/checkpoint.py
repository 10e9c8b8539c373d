"""Checkpoints: arrays by orbax, and proof that they are whole.

    DIR/checkpoints/STEP/state/         orbax, one entry per array
                        /extra.json     small values: data position, best, ...
                        /manifest.json  names, shapes, sizes, checksums

A checkpoint is written to `STEP.tmp`. The manifest is its last file; then the
folder is renamed, and only then are older ones removed. A kill at any moment
leaves every folder with a plain number whole. Every file is verified against
the manifest before it is read.
"""

import concurrent.futures
import errno
import functools
import json
import logging
import math
import os
import pathlib
import re
import shutil
import sys
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from rlvr_jax.io import manifest

_log = logging.getLogger(__name__)
_said: set[pathlib.Path] = set()  # damaged folders that were named
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_TEXT = ('No space left', 'Disk quota', 'File too large', 'EXHAUSTED')


def open(workdir, *, max_to_keep: int, keep_best: str | None = None):
  """The `Checkpointer` of the one process group that trains in `workdir`.

  Removes what a killed run left half-written. Programs that only read call
  `load` instead, which touches nothing.

  Args:
    workdir: the run's directory.
    max_to_keep: how many of the newest to keep, at least 1.
    keep_best: a key of `extra`; the checkpoint where it is largest is kept
      besides. None keeps the newest only.
  """
  if max_to_keep < 1:
    raise ValueError(
      f'max_to_keep is {max_to_keep}; a run needs at least 1 checkpoint to '
      'go on from.'
    )
  # What orbax logs as an error, with its stack, is raised by `wait` as well.
  logging.getLogger('absl').addFilter(_no_orbax_errors)
  logging.getLogger('asyncio').addFilter(_no_failed_writes)
  if getattr(sys.unraisablehook, 'func', None) is not _no_late_writes:
    sys.unraisablehook = functools.partial(_no_late_writes, sys.unraisablehook)
  root = _root(workdir)
  if jax.process_index() == 0:
    root.mkdir(parents=True, exist_ok=True)
    for stray in root.glob('*.tmp'):
      whole = re.fullmatch(r'\d+', stray.stem) and manifest.fault(stray) is None
      if whole and not stray.with_suffix('').exists():
        os.rename(stray, stray.with_suffix(''))  # killed just before this
      else:
        shutil.rmtree(stray, ignore_errors=True)
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('checkpoints cleaned')
  return Checkpointer(workdir, max_to_keep, keep_best)


class Checkpointer:
  """Saves in the background, one at a time. Use it in a `with` block."""

  def __init__(self, workdir, max_to_keep, keep_best):
    self._root = _root(workdir)
    self._workdir = workdir
    self._max_to_keep = max_to_keep
    self._keep_best = keep_best
    self._pool = concurrent.futures.ThreadPoolExecutor(1)
    self._pending = None

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def save(self, step: int, state: Any, extra: dict) -> None:
    """Starts to save a pytree of arrays; returns when they are copied.

    The caller may donate `state` right after. Collective over processes.

    Raises:
      OSError: this save, or the one before it, found the disk full. Earlier
        checkpoints are intact and nothing half-written stays.
      RuntimeError: it failed for another reason, which is named.
    """
    self.wait()
    step = int(step)
    tmp = self._root / f'{step}.tmp'
    arrays = _flatten(state)
    try:
      if jax.process_index() == 0:
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        (tmp / 'extra.json').write_text(json.dumps(extra))
      if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f'checkpoint {step}')
      # Compression costs more time than the bytes it saves on weights.
      saver = ocp.AsyncCheckpointer(
        ocp.PyTreeCheckpointHandler(use_compression=False)
      )
      saver.save(
        (tmp / 'state').resolve(),
        args=ocp.args.PyTreeSave({k: _data(v) for k, v in arrays.items()}),
      )
    except Exception as e:
      raise _explain(e, tmp) from e
    described = {k: _describe(v) for k, v in arrays.items()}
    self._pending = self._pool.submit(self._finish, saver, tmp, described)

  def _finish(self, saver, tmp, arrays):
    try:
      saver.wait_until_finished()
      if jax.process_index() == 0:
        manifest.write(tmp, arrays)
        final = tmp.with_suffix('')
        if final.exists():
          os.rename(final, f'{final}.old.tmp')
        os.rename(tmp, final)
        manifest.sync(self._root)
        self._retire(int(final.name))
    except Exception as e:
      raise _explain(e, tmp) from e
    finally:
      saver.close()

  def _retire(self, step):
    """Removes what need not be kept, once `step` is safely there."""
    found = steps(self._workdir)
    # Later steps are unusable ones, which the restore passed over.
    older = [s for s in found if s <= step]
    keep = set(older[-self._max_to_keep :])
    if self._keep_best is not None:
      keep |= {best(self._workdir, self._keep_best)}
    for s in found:
      if s not in keep:
        # Renamed first: a kill while deleting leaves no partial checkpoint.
        os.rename(self._root / str(s), self._root / f'{s}.old.tmp')
    for stray in self._root.glob('*.old.tmp'):
      shutil.rmtree(stray, ignore_errors=True)

  def restore(self, abstract: Any):
    """(state, extra, step) of the newest usable checkpoint, see `load`."""
    self.wait()
    return load(self._workdir, abstract)

  def wait(self) -> None:
    """Returns when the last save is on disk; raises what it raised."""
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.result()

  def close(self) -> None:
    try:
      self.wait()
    finally:
      self._pool.shutdown()


def steps(workdir) -> list[int]:
  """The steps that have a checkpoint, ascending; unverified."""
  root = _root(workdir)
  names = [p.name for p in root.iterdir()] if root.is_dir() else []
  return sorted(int(n) for n in names if re.fullmatch(r'\d+', n))


def best(workdir, key: str) -> int | None:
  """The step whose `extra` has the largest finite `key`, the latest of equal
  ones; None if none has it. A checkpoint whose extra.json is damaged counts
  as one without, which is said once."""
  scores = []
  for s in steps(workdir):
    folder = _root(workdir) / str(s)
    found = manifest.extra(folder)
    if found is None and folder not in _said:
      _said.add(folder)
      _log.warning('%s is damaged: it has no score for keep_best.', folder)
    value = (found or {}).get(key)
    if isinstance(value, (int, float)) and math.isfinite(value):
      scores.append((value, s))
  return max(scores)[1] if scores else None


def extra(workdir) -> dict | None:
  """The small values of the newest checkpoint that has them whole; arrays are
  not looked at. None if there is none."""
  found = (
    manifest.extra(_root(workdir) / str(s)) for s in steps(workdir)[::-1]
  )
  return next((x for x in found if x is not None), None)


def load(
  workdir, abstract: Any, *, step: int | None = None, partial: bool = False
) -> tuple[Any, dict, int] | None:
  """Reads the newest checkpoint that is whole, onto the given shardings.

  Args:
    workdir: the run's directory.
    abstract: the tree to fill. Leaves are `jax.ShapeDtypeStruct` (with
      `sharding`; without one the first device is meant) or arrays. The mesh
      may differ from the one that saved.
    step: read this one and no other.
    partial: the checkpoint may hold more than `abstract` asks for, such as
      an optimizer's state (put None there).

  Returns:
    (state, extra, step), or None if the run has no checkpoint.

  Raises:
    RuntimeError: there are checkpoints and none is usable.
    ValueError: no such step; or names, shapes or dtypes differ (all named).
  """
  found = steps(workdir)
  if step is not None and step not in found:
    raise ValueError(
      f'{_root(workdir)} has no checkpoint of step {step}. It has: '
      f'{", ".join(map(str, found)) or "none"}.'
    )
  if not found:
    return None
  chosen = _newest_whole(workdir, found if step is None else [step])
  folder = _root(workdir) / str(chosen)
  saved = manifest.read(folder)['arrays']
  wanted = _flatten(abstract)
  _check_same(folder, saved, wanted, partial)

  items, args = {}, {}
  for name, leaf in wanted.items():
    sharding = getattr(leaf, 'sharding', None)
    if sharding is None:
      sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    data = jax.eval_shape(_data, leaf)
    items[name] = jax.ShapeDtypeStruct(data.shape, data.dtype)
    args[name] = ocp.ArrayRestoreArgs(
      sharding=sharding, global_shape=data.shape, dtype=data.dtype
    )
  reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
  arrays = reader.restore(
    (folder / 'state').resolve(),
    args=ocp.args.PyTreeRestore(items, args, partial_restore=partial),
  )
  reader.close()
  leaves = []
  for name in wanted:
    key_impl = saved[name]['key_impl']
    x = arrays[name]
    leaves.append(jax.random.wrap_key_data(x, impl=key_impl) if key_impl else x)
  state = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
  extra = json.loads((folder / 'extra.json').read_text())
  return state, extra, chosen


def _newest_whole(workdir, candidates):
  root, chosen, faults = _root(workdir), -1, []
  if jax.process_index() == 0:
    for step in reversed(candidates):
      fault = manifest.fault(root / str(step))
      if fault is None:
        chosen = step
        break
      faults.append(f'step {step}: {fault}')
      _log.warning('Checkpoint of step %d is unusable: %s.', step, fault)
  if jax.process_count() > 1:
    chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
  if chosen < 0:
    raise RuntimeError(
      f'No checkpoint in {root} is usable ({"; ".join(faults)}). Bring one '
      'back from a copy, or use a new workdir to start again.'
    )
  if faults:
    _log.warning('Going on from the checkpoint of step %d.', chosen)
  return chosen


def _check_same(folder, saved, wanted, partial):
  want = {k: _describe(v) for k, v in wanted.items()}
  lines = [f'{k}: missing in the checkpoint' for k in want if k not in saved]
  if not partial:
    lines += [f'{k}: only in the checkpoint' for k in saved if k not in want]
  for name in sorted(want.keys() & saved.keys()):
    old, new = (f'{d["dtype"]}{d["shape"]}' for d in (saved[name], want[name]))
    if old != new:
      lines.append(f'{name}: {old} in the checkpoint, {new} wanted')
  if lines:
    raise ValueError(
      f'The checkpoint {folder} does not fit this model and optimizer. Use '
      'the config it was made with, or a new workdir.\n  ' + '\n  '.join(lines)
    )


def _flatten(tree):
  """{'params.dense.kernel': leaf}, names unique."""
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


def _is_key(x):
  return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _data(x):
  """What orbax gets: PRNG keys as their words, host arrays as copies."""
  if not isinstance(x, (jax.Array, jax.ShapeDtypeStruct)):
    return np.array(x)
  return jax.random.key_data(x) if _is_key(x) else x


def _describe(x):
  x = x if hasattr(x, 'shape') else np.asarray(x)
  key = isinstance(x, jax.Array) and _is_key(x)
  return {
    'dtype': str(x.dtype),
    'shape': list(x.shape),
    'key_impl': str(jax.random.key_impl(x)) if key else None,
  }


def _explain(error, tmp):
  """The same failure, with the path and what to do; cleans `tmp` away."""
  if jax.process_index() == 0:
    shutil.rmtree(tmp, ignore_errors=True)
  step, root = tmp.stem, tmp.parent
  text = ' '.join(str(error).split())
  cause = f'{type(error).__name__}: {text[-300:]}'
  full = getattr(error, 'errno', None) in _FULL
  full = full or any(t in text for t in _FULL_TEXT)
  text = f'The checkpoint of step {step} could not be written to {root}'
  if full:
    kept = steps(root.parent)
    lost = (
      f'it goes on from the checkpoint of step {kept[-1]}; later steps are lost'
      if kept
      else 'it starts anew; there is no earlier checkpoint'
    )
    return OSError(
      errno.ENOSPC,
      f'{text}: the disk is full, or a quota or file size limit is reached. '
      'Free some space, lower max_to_keep or take a workdir on a larger disk, '
      f'then run the same command again: {lost}. Cause: {cause}',
    )
  return RuntimeError(f'{text}. Earlier checkpoints are intact. Cause: {cause}')


def _no_orbax_errors(record):
  return record.levelno < logging.ERROR or 'orbax' not in record.pathname


def _no_failed_writes(record):
  # Of several writes that fail, orbax awaits the first one.
  return 'Error writing' not in record.getMessage()


def _no_late_writes(hook, unraisable):
  # The other writes, which end when nobody waits for them any more: their
  # threads print a stack each, before the one message that says it all.
  if 'Event loop is closed' not in str(unraisable.exc_value):
    hook(unraisable)


def _root(workdir):
  return pathlib.Path(workdir) / 'checkpoints'
