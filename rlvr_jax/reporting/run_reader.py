"""What is in a run's directory? Reads runs and groups them over seeds."""

import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy

from rlvr_jax import config, storage
from rlvr_jax.reporting import run_writer


class Run(NamedTuple):
  """The contents of a run's directory; `problems` are sentences to show."""

  name: str
  config: dict[str, Any]  # flat: {'a.b': value}
  config_json: str
  command: str
  metrics: list[dict]
  evals: list[dict]  # of the training run itself
  other_evals: list[dict]  # with a `source` other than 'train'
  rollouts: list[dict]
  problems: list[str]
  folder: pathlib.Path = pathlib.Path()


class Group(NamedTuple):
  """Runs whose configs differ in `seed` only."""

  label: str
  runs: list[Run]


def read(folder: str | os.PathLike) -> Run:
  """Reads the files that a run has; ValueError if there is no directory."""
  folder = storage.folder(folder)
  if not folder.is_dir():
    raise ValueError(f'There is no directory {str(folder)!r}.')
  problems = []
  values, text = {}, ''
  try:
    text = (folder / 'config.json').read_text()
    values = config.flatten(json.loads(text))
  except FileNotFoundError:
    problems.append('There is no config.json.')
  except (ValueError, AttributeError, OSError) as e:
    problems.append(f'config.json cannot be read: {e}.')

  def lines(name):
    if not (folder / name).is_file():
      problems.append(f'There is no {name}.')
      return []
    objects = list(run_writer.read(folder / name))
    if not objects:
      problems.append(f'{name} is empty.')
    return objects

  metrics, evals, rollouts = map(
    lines, (run_writer.METRICS, run_writer.EVAL, run_writer.ROLLOUTS)
  )
  of_training = lambda e: 'source' not in e or e['source'] == 'train'
  total = values.get('total_steps')
  last = metrics[-1]['step'] if metrics else 0
  if isinstance(total, int) and last < total:
    problems.append(f'The run is not finished: step {last} of {total}.')
  command = folder / 'command.txt'
  return Run(
    name=folder.name or str(folder),
    config=values,
    config_json=text,
    command=command.read_text().strip() if command.is_file() else '',
    metrics=metrics,
    evals=[e for e in evals if of_training(e)],
    other_evals=[e for e in evals if not of_training(e)],
    rollouts=rollouts,
    problems=problems,
    folder=folder,
  )


def group(runs: Sequence[Run]) -> list[Group]:
  """Groups of runs, in order of appearance, labelled by the differing keys."""
  together: dict[str, list[Run]] = {}
  for r in runs:
    rest = {k: v for k, v in r.config.items() if k != 'seed'}
    key = json.dumps(rest, sort_keys=True) if r.config else f'dir {r.name}'
    together.setdefault(key, []).append(r)
  firsts = [rs[0] for rs in together.values()]
  keys = list(dict.fromkeys(k for r in firsts for k in r.config))
  absent = config.ABSENT
  differ = [
    k
    for k in keys
    if k != 'seed'
    and len({json.dumps(r.config.get(k, absent)) for r in firsts}) > 1
  ]
  groups = []
  for first, rs in zip(firsts, together.values()):
    # The last part of a key is enough if it is unambiguous.
    parts = [k.rpartition('.')[2] for k in differ]
    shown = [p if parts.count(p) == 1 else k for p, k in zip(parts, differ)]
    label = ', '.join(
      f'{s}={first.config.get(k, absent)}' for s, k in zip(shown, differ)
    )
    label = label if first.config and label else first.name
    groups.append(Group(label if len(label) < 70 else label[:67] + '...', rs))
  return groups


def series(
  runs: Sequence[Run], name: str, kind: str = 'metrics'
) -> tuple[np.ndarray, np.ndarray] | None:
  """(steps [N], values [R,N]) of a metric, at steps common to its R runs.

  None if no run has it, or no finite value. `kind`: 'metrics' or 'evals'.
  """
  by_run = []
  for run in runs:
    pairs = {
      x['step']: number(x[name]) for x in getattr(run, kind) if name in x
    }
    if pairs:
      by_run.append(pairs)
  if not by_run:
    return None
  steps = sorted(set.intersection(*(set(p) for p in by_run)))
  if not steps:
    return None
  values = np.array([[p[s] for s in steps] for p in by_run], float)
  return (np.array(steps), values) if np.isfinite(values).any() else None


def problems(runs: Sequence[Run]) -> list[str]:
  """The problems of all runs, each with the run's name if there are several."""
  many = len(runs) > 1
  return [f'{r.name}: {p}' if many else p for r in runs for p in r.problems]


def number(x: Any) -> float:
  """`x` as a finite float; NaN if it is not one."""
  try:
    value = float(x)
  except (TypeError, ValueError):
    return float('nan')
  return value if np.isfinite(value) else float('nan')


def accuracy(runs: Sequence[Run], last: bool) -> tuple[float, ...] | None:
  """(value, low, high) of the first or last evaluation that all seeds have.

  For one run, the interval over questions, from its eval.jsonl. For several,
  the interval over seeds of `student`, cut to [0, 1].
  """
  evaluations = series(runs, 'eval/accuracy', 'evals')
  if evaluations is None:
    return None
  steps, values = evaluations
  at = -1 if last else 0
  values = values[:, at]
  if len(values) == 1:
    low, high = bounds(runs, steps)
    return float(values[0]), float(low[at]), float(high[at])
  mean, half = student(values)
  return mean, max(mean - half, 0.0), min(mean + half, 1.0)


def student(values: Iterable[float]) -> tuple[float, float]:
  """(mean, half width of its 95% interval) of independent values.

  The half width is t * sd / sqrt(n): Student's t with n - 1 degrees of
  freedom, sd with ddof 1; NaN for one value. Values that are not finite are
  left out; without any, both are NaN.
  """
  x = np.asarray(list(values), float)
  x = x[np.isfinite(x)]
  if len(x) < 2:
    return float(x[0]) if len(x) else float('nan'), float('nan')
  t = scipy.special.stdtrit(len(x) - 1, 0.975)
  return float(x.mean()), float(t * x.std(ddof=1) / np.sqrt(len(x)))


def bounds(runs: Sequence[Run], steps: np.ndarray) -> list[np.ndarray]:
  """[low [N], high [N]] of the first run's accuracy; NaN where missing."""
  sides = [{}, {}]
  for line in runs[0].evals:
    for side, name in zip(sides, ('low', 'high')):
      side[line['step']] = number(line.get(f'eval/accuracy_{name}'))
  return [np.array([side[s] for s in steps]) for side in sides]


def seconds(run: Run) -> float:
  """Total time of the training steps, in seconds."""
  return float(np.nansum([number(x.get('step_time')) for x in run.metrics]))
