"""Does the map predict progress? Real updates by each signal, and their gain.

From a checkpoint every *arm*, a signal, takes updates of training: rollouts,
rewards, advantages, gradient, optimiser. What the mean pass rate of the map's
problems gains is held against what the map says that it should:

  gain = length <g, E g^> / sqrt(E |g^|^2) = length |g| root

with g the gradient of the mean pass rate and g^ that of a batch. A step costs
something whatever its direction is (curvature), so the gain of the random
reward's arm is subtracted: see `prediction`.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence

import ml_collections

from rlvr_jax import hosts, storage
from rlvr_jax.io import checkpoint
from rlvr_jax.reporting import run_writer
from rlvr_jax.signal_map import cell, prediction, signal_map, signals, trial
from rlvr_jax.signal_map.signals import Signal

CONTROL = 'random'  # a signal that is no information


def with_control(
  chosen: Sequence[Signal], c: ml_collections.ConfigDict
) -> list[Signal]:
  """The control first, then the arms. The control is never an arm."""
  control = signals.parse(CONTROL, c)
  return [control, *(s for s in chosen if s.name != CONTROL)]


def run(
  c: ml_collections.ConfigDict,
  workdir: str | pathlib.Path,
  steps: Sequence[int | None],
  chosen: Sequence[Signal],
  settings: cell.Settings,
  tried: trial.Settings,
  say: Callable[[str], None],
) -> None:
  """Tries every arm at each step, appends its lines, and sums up.

  Arms that have their lines already are left out.

  Args:
    steps: of checkpoints; None: the newest.
    say: prints a line.

  Raises:
    ValueError: a setting or signal that cannot work.
  """
  tried.check()
  if tuple(settings.between) != (0, 1):
    raise ValueError(
      f'--predict with --pass_rate={settings.between[0]},{settings.between[1]}: '
      'its batches are of problems of all pass rates, and the prediction would '
      'be of others. Leave --pass_rate out: bins are predicted too.'
    )
  arms = with_control(chosen, c)
  made_with = digest(c, settings, tried)
  path = storage.folder(workdir) / signal_map.FILE
  newest = max(checkpoint.steps(workdir), default=0)
  for step in dict.fromkeys(newest if s is None else s for s in steps):
    of_first = hosts.from_first(
      lambda at=step: sorted(prediction.finished(path, at, made_with))
    )
    done = set(map(tuple, of_first))
    wanted = [
      (signal, seed, name)
      for name in tried.optimizers
      for seed in range(tried.seeds)
      for signal in arms
      if (signal.name, seed, name) not in done
    ]
    if wanted:
      measured = cell.Cell(c, workdir, step, arms, settings, say)
      trials = trial.Trial(measured, arms, tried, c.algo.surrogate)
      say(
        f'step {step}: {len(wanted)} arms; a fixed step is {trials.length:.4g}'
      )
      progress = prediction.clock(len(wanted))
      for number, (signal, seed, name) in enumerate(wanted, 1):
        lines = trials.lines(signal, seed, name)
        last = lines[-1]
        say(
          f'{number}/{len(wanted)} {name} seed {seed} {signal.name[:36]:36s} '
          f'length {last["length"]:.3g} predicted {last["predicted"]:+.4f} '
          f'gain {last["gain"]:+.4f}; {progress(number)} left'
        )
        if hosts.first():
          for line in lines:
            run_writer.append(path, step, line | {'settings': made_with})
  if hosts.first():
    lines = prediction.read(path, made_with)
    for text in prediction.summary(lines, CONTROL):
      say(text)
    prediction.draw(storage.folder(workdir), lines, CONTROL)


def digest(
  c: ml_collections.ConfigDict, settings: cell.Settings, tried: trial.Settings
) -> str:
  """Names the settings of a trial, but not its number of seeds."""
  own = tried._replace(seeds=0, optimizers=())
  text = json.dumps([signal_map.digest(c, settings), own])
  return hashlib.sha256(text.encode()).hexdigest()[:10]
