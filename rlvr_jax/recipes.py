"""Models that other configs make: trained when a run asks for them."""

import subprocess
import sys
from pathlib import Path

from rlvr_jax import config as config_lib
from rlvr_jax import registry, writer
from rlvr_jax.io import load

_TRAIN = Path(__file__).parents[1] / 'scripts' / 'train.py'


def finished(folder: Path, total_steps: int) -> bool:
  """Whether the run in `folder` has done its last step."""
  lines = list(writer.read(folder / writer.METRICS))
  return bool(lines) and lines[-1]['step'] >= total_steps


def ensure(c) -> None:
  """Trains the models of `c` that are named by a config and not trained yet.

  Each in a process of its own, in the directory that `io.load.recipe` names; a
  run that was stopped goes on.

  Raises:
    RuntimeError: one of them failed; says how to see why.
  """
  for spec in dict.fromkeys((c.model.name, c.teacher.name)):
    folder = load.recipe(spec)
    if folder is None:
      continue
    if finished(folder, config_lib.load(spec).total_steps):
      continue
    command = [
      sys.executable, str(_TRAIN), f'--config={spec}', f'--workdir={folder}'
    ]  # fmt: skip
    print(f'{spec} comes first: it will be in {folder}', flush=True)
    if subprocess.run(command, check=False).returncode:
      raise RuntimeError(
        f'The model {registry.show(spec)} could not be trained; its message is above. By '
        f'itself: python scripts/train.py --config={spec} --workdir={folder}'
      )
