"""The map of a run: cells of its checkpoints, as lines of signal.jsonl."""

import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from rlvr_jax import config as config_lib
from rlvr_jax import hosts, resume, storage
from rlvr_jax.io import checkpoint
from rlvr_jax.reporting import run_writer
from rlvr_jax.signal_map import cell, signals
from rlvr_jax.signal_map import lines as lines_lib
from rlvr_jax.signal_map.signals import Signal

FILE = 'signal.jsonl'


def digest(c: ml_collections.ConfigDict, settings: cell.Settings) -> str:
  """Names the settings of a cell: lines with the same one belong together."""
  flat = config_lib.flatten(c)
  kept = {k: v for k, v in flat.items() if k not in resume.MAY_CHANGE}
  text = json.dumps([config_lib.jsonable(kept), settings], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:10]


def finished(path: pathlib.Path, step: int, made_with: str) -> set[str]:
  """Names of the signals that a cell has lines of."""
  return set(
    hosts.from_first(
      lambda: [
        line['signal']
        for line in run_writer.read(path)
        if (line['step'], line.get('settings')) == (step, made_with)
      ]
    )
  )


def run(
  c: ml_collections.ConfigDict,
  workdir: str | pathlib.Path,
  steps: Sequence[int | None],
  chosen: Sequence[Signal],
  settings: cell.Settings,
  say: Callable[[str], None],
) -> None:
  """Measures the signals at each step and appends their lines.

  Signals that a cell has already are left out.

  Args:
    steps: of checkpoints; None: the newest.
    say: prints a line.

  Raises:
    ValueError: a setting, signal or step that cannot work.
  """
  path, made_with = storage.folder(workdir) / FILE, digest(c, settings)
  saved = checkpoint.steps(workdir)
  known = {0, *saved}
  for step in (*steps, settings.pilot_step):
    if step not in (None, *known):
      raise ValueError(
        f'--steps or --pilot_step: {workdir} has no checkpoint of step '
        f'{step}. There are: {", ".join(map(str, sorted(known)))}.'
      )
  signals.check(c, chosen)
  for step in steps:
    step = max(saved, default=0) if step is None else step
    done = finished(path, step, made_with)
    wanted = [s for s in chosen if s.name not in done]
    if not wanted:
      say(f'step {step}: all signals are in {path}')
      continue
    say(f'step {step}: {len(wanted)} signals')
    measured = cell.Cell(c, workdir, step, wanted, settings, say)
    say(_heading(measured))
    for signal in wanted:
      lines = lines_lib.lines(measured, signal)
      say(_row(lines[0]))
      if hosts.first():
        for line in lines:
          run_writer.append(path, step, line | {'settings': made_with})


def _heading(measured: cell.Cell) -> str:
  right = measured.right
  return (
    f'{right.shape[0]} problems x {right.shape[1]} rollouts, pass rate '
    f'{right.mean():.3f}\n{"signal":44s} {"N_k":>9s} {"+-ln":>5s} '
    f'{"omega":>7s} {"SNR_1":>7s} {"theory":>7s} {"cos":>6s} {"root":>13s}'
  )


def _row(line: Mapping[str, Any]) -> str:
  number = lambda x, form: 'n/a' if math.isnan(x) else format(x, form)
  root = f'{line["root"]:+.2f} +- {number(line["root_se"], ".2f")}'
  return (
    f'{line["signal"][:44]:44s} {number(line["noise_scale"], "9.4g"):>9s} '
    f'{number(line["log_noise_scale_se"], ".2f"):>5s} '
    f'{number(line["omega"], ".3g"):>7s} {number(line["snr1"], ".3g"):>7s} '
    f'{number(line["theory_snr1"], ".3g"):>7s} '
    f'{number(line["cos"], ".2f"):>6s} {root:>13s}'
  )
