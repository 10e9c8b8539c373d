"""Models that other configs make: trained when a run asks for them."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from rlvr_jax import config as config_lib
from rlvr_jax import config_file, hosts, processes, registry, resume
from rlvr_jax.io import checkpoint, load
from rlvr_jax.reporting import run_lock, run_writer
from rlvr_jax.rewards import base

_TRAIN = Path(__file__).parents[1] / 'scripts' / 'train.py'
_EVERY_S = 30.0  # between two lines of a process that waits


def finished(folder: Path, total_steps: int) -> bool:
  """Whether the run in `folder` has done its last step, and saved it."""
  lines = list(run_writer.read(folder / run_writer.METRICS))
  if not lines or lines[-1]['step'] < total_steps:
    return False
  # A last update that was skipped is not saved; old runs may be cleared out.
  saved = checkpoint.steps(folder)
  skipped = lines[-1].get('update_skipped', 0) > 0
  return skipped or not saved or saved[-1] >= total_steps


def ensure(c) -> None:
  """Trains the models of `c` that are named by a config and not trained yet.

  Each in a process of its own that ends with this one, in the directory that
  `io.load.recipe` names; a run that was stopped goes on. While another process
  trains the same model, this one waits, and takes over if that one ends early.

  Raises:
    RuntimeError: one of them failed; says how to see why.
    ValueError: the directory holds a run of another config.
  """
  names = [c.model.name, c.teacher.name, c.dialogue.oracle, c.judge.name]
  names += base.reward_models(c.reward_funcs)
  for spec in dict.fromkeys(names):
    folder = load.recipe(spec)
    if folder is not None:
      with registry.first_stays():
        config = config_lib.load(spec)
      _ensure(spec, folder, config)


def _ensure(spec: str, folder: Path, config) -> None:
  if finished(folder, config.total_steps):
    resume.check_config(folder, config, newer=True)
    config_file.check(folder, config_file.source(spec))
    return
  if hosts.expected() > 1:
    raise ValueError(
      f'The model {registry.show(spec)} is not trained yet, and on several '
      'hosts it must be, before the run that starts from it: python '
      f'scripts/train.py --config={spec} --workdir={folder}'
    )
  # Who has this lock trains; the run's own lock is the trainer's.
  turn = _wait(spec, folder, '.turn')
  try:
    while not finished(folder, config.total_steps):
      os.close(_wait(spec, folder, '.lock'))
      if finished(folder, config.total_steps):
        return
      print(f'{spec} comes first: it will be in {folder}', flush=True)
      command = [str(_TRAIN), f'--config={spec}', f'--workdir={folder}']
      if not processes.wait(processes.start(command)):
        return
      if not _held(folder):
        raise RuntimeError(
          f'The model {registry.show(spec)} could not be trained; its message '
          'is above. By itself: python scripts/train.py '
          f'--config={spec} --workdir={folder}'
        )
  finally:
    os.close(turn)


def _held(folder: Path) -> bool:
  """Whether a process trains in the folder right now."""
  lock = run_lock.locked(folder)
  if lock is not None:
    os.close(lock)
  return lock is None


def _wait(
  spec: str, folder: Path, name: str, sleep: Callable = time.sleep
) -> int:
  """The open lock `name` of a folder, once no other process has it."""
  told = None
  while (lock := run_lock.locked(folder, name)) is None:
    if told is None or time.monotonic() - told >= _EVERY_S:
      told = time.monotonic()
      lines = list(run_writer.read(folder / run_writer.METRICS))
      print(
        f'{spec} is trained by another process, now at step '
        f'{lines[-1]["step"] if lines else 0}: waiting for it in {folder}',
        flush=True,
      )
    sleep(0.5)
  return lock
