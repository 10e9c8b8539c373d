"""What does a run's signal.jsonl say? The points of the signal map."""

import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rlvr_jax import storage
from rlvr_jax.reporting import run_reader, run_writer

FILE = 'signal.jsonl'
_HUGE = 1e12
MOST = 1e5  # rollouts; a larger estimate is one of noise, and not told from inf
SURE = 0.6  # standard error of a logarithm up to which it is near normal
PASS_RATE = 'p'  # the axis across, if no other is asked for


class Point(NamedTuple):
  """A signal at a checkpoint; of several seeds the median, and their range.

  Attributes:
    n, low, high: rollouts until a batch is as loud as its noise, and their
      95% interval; inf where no number was found to be enough.
    each: n of each seed.
    root, root_se: of a batch of `Map.batch` rollouts.
    omega, omega_se: agreement of the problems.
    alone, theory: rollouts until one problem is heard on its own, G / SNR,
      measured and by the closed form.
    tokens: of a rollout.
    cos_within: the cosine with the true gradient within problems.
    largest: share of all squared norms in the largest 1% of the groups.
  """

  n: float
  low: float
  high: float
  each: tuple[float, ...]
  root: float
  root_se: float
  omega: float
  omega_se: float
  alone: float
  theory: float
  tokens: float
  cos_within: float
  largest: float

  def faint(self, batch: float) -> bool:
    """Whether it hardly points along the true gradient, or away from it."""
    if not math.isfinite(self.root):
      return True
    if math.isfinite(self.root_se) and abs(self.root) < 2 * self.root_se:
      return True
    if not math.isfinite(self.n) or not math.isfinite(batch):
      return False
    return abs(self.root) < 0.3 * math.sqrt(batch / (batch + self.n))


class Cell(NamedTuple):
  """A checkpoint of the runs that differ in the seed alone."""

  run: str  # label of the runs
  step: int
  x: float  # pass rate, or what was asked for
  p: float  # pass rate
  points: dict[str, Point]  # by signal


class Map(NamedTuple):
  """What is drawn: cells in order of runs and steps, and the batch."""

  cells: list[Cell]
  batch: float  # rollouts; NaN if no line and no config says
  across: str  # what x is

  @property
  def signals(self) -> list[str]:
    """In order of appearance."""
    return list(dict.fromkeys(s for c in self.cells for s in c.points))


def read(
  dirs: Sequence[str | os.PathLike],
  labels: Sequence[str] = (),
  across: str = PASS_RATE,
  at: Sequence[float] = (),
) -> Map:
  """The map of the runs in `dirs`; empty if none has lines.

  Of a checkpoint that was measured with several settings the newest are taken
  (of those with the same `across`).

  Args:
    labels: one for each directory; runs with the same one are seeds of one. ():
      the names of the directories without 'seed=N' or 'sN'.
    across: a key of the lines or of the run's config, which has to be a number;
      'KEY.OPTION' is a number within a spec, such as env.depth. With `at` any
      words.
    at: where each directory stands on an axis of that name; (): see `across`.

  Raises:
    ValueError: a directory is missing, there are not as many labels or places
      as directories, or a line has no such number.
  """
  runs = [run_reader.read(d) for d in dirs]
  if at and across == PASS_RATE:
    raise ValueError(
      '--at: name what the numbers are by --x, such as --x=depth.'
    )
  labels = labels or _labels(dirs)
  for what, given in (('labels', labels), ('places', at or runs)):
    if len(given) != len(runs):
      raise ValueError(
        f'There are {len(given)} {what} and {len(runs)} directories: give one '
        'for each, the same for seeds of one run.'
      )
  together: dict[tuple[str, int, Any], list[dict[str, dict]]] = {}
  batches = []
  for i, (folder, run, label) in enumerate(zip(dirs, runs, labels)):
    newest: dict[tuple, dict[str, dict]] = {}
    made: dict[tuple, Any] = {}
    for line in lines(folder):
      x = None
      if at:
        x = at[i]
      elif across != PASS_RATE:
        x = _place(line, run.config, across)
      where = line['step'], x
      if made.get(where) != line.get('settings'):
        newest[where] = {}
      made[where] = line.get('settings')
      newest.setdefault(where, {})[line['signal']] = line
      batches.append(_batch(line, run.config))
    for (step, x), found in newest.items():
      together.setdefault((label, step, x), []).append(found)
  cells = []
  for (label, step, x), seeds in together.items():
    names = dict.fromkeys(s for found in seeds for s in found)
    p = float(np.mean([value(next(iter(f.values()))['p']) for f in seeds]))
    points = {s: _point([f[s] for f in seeds if s in f]) for s in names}
    cells.append(Cell(label, step, p if x is None else x, p, points))
  known = [b for b in batches if math.isfinite(b)]
  order = list(dict.fromkeys(c.run for c in cells))
  cells.sort(key=lambda c: (order.index(c.run), c.step, c.x))
  return Map(cells, float(np.median(known)) if known else math.nan, across)


def _labels(dirs):
  """Names of directories without the seed: 'base=hard,seed=1' -> 'hard'.

  With the folder above them where two have the same name, and without a key
  that all begin with.
  """
  paths = [pathlib.Path(os.path.abspath(d)) for d in dirs]
  names = [p.name for p in paths]
  if len(set(names)) < len(set(paths)):
    names = [f'{p.parent.name}/{p.name}' for p in paths]
  seed = r'[,_-]*(?<![^\W_])(seed=?|s)\d+\b'
  names = [
    re.sub(seed, '', n).strip(',_-/ ') or p.parent.name
    for n, p in zip(names, paths)
  ]
  keys = {n.partition('=')[0] for n in names}
  if len(keys) == 1 and all(re.fullmatch(r'\w+=[^=]+', n) for n in names):
    names = [n.partition('=')[2] for n in names]
  return names


def lines(folder: str | os.PathLike, part: str = 'all') -> list[dict]:
  """The lines of a bin that can be drawn: with step, signal and pass rate."""
  return [
    line
    for line in run_writer.read(storage.folder(folder) / FILE)
    if line.get('bin', 'all') == part
    and isinstance(line.get('signal'), str)
    and isinstance(line.get('step'), int)
    and 0 <= value(line.get('p')) <= 1
  ]


def value(x: Any) -> float:
  """A number of a line; 'inf' and 'nan' are too. NaN for anything else.

  Finite ones beyond `_HUGE`, of which nothing sane is made, become infinite.
  """
  try:
    number = float(x)
  except (TypeError, ValueError, OverflowError):
    return math.nan
  # Not `<`: NaN stays NaN.
  return math.copysign(math.inf, number) if abs(number) >= _HUGE else number


def _place(line, config, across):
  key, _, option = across.partition('.')
  for source in (line, config):
    found = value(source.get(across))
    if math.isfinite(found):
      return found
    text = str(source.get(key, '')) if option else ''
    spec = re.search(rf'\b{re.escape(option)}=(-?[\d.]+)', text)
    if spec and math.isfinite(value(spec[1])):
      return value(spec[1])
  raise ValueError(
    f'--x={across}: step {line["step"]}, {line["signal"]!r} has no such number,'
    ' nor has the config of the run. Keys with numbers: '
    f'{", ".join(k for k in line if math.isfinite(value(line[k])))}.'
  )


def _batch(line, config):
  """Rollouts N of the batch that `root` is of."""
  given = value(line.get('rollouts'))
  if 0 < given < math.inf:
    return given
  n, root, cos = (value(line.get(k)) for k in ('noise_scale', 'root', 'cos'))
  share = (root / cos) ** 2 if cos else math.nan  # N / (N + noise_scale)
  if 0 < n < math.inf and 0 < share < 1:
    return float(round(n * share / (1 - share)))
  keys = 'train_batch_size', 'num_generations'
  rollouts = math.prod(value(config.get(k)) for k in keys)
  return rollouts if 0 < rollouts < math.inf else math.nan


def _point(found: Sequence[Mapping]) -> Point:
  """The `Point` of the lines of one or more seeds."""
  n = np.array([value(line.get('noise_scale')) for line in found])
  n = np.where(n >= 0, np.where(n > MOST, np.inf, n), np.nan)
  ends = np.array([_interval(line) for line in found])
  # An infinite number is one, so that the median of two seeds is no NaN.
  usual = lambda x: _middle([v for v in x if not math.isnan(v)])
  finite = lambda x: x if math.isfinite(x) else math.nan
  of = lambda key: usual([finite(value(line.get(key))) for line in found])
  error = lambda key: max(of(key), 0.0) / math.sqrt(len(found))
  group = [_group(line) for line in found]
  ratio = lambda key: usual(
    [
      value(g / s) if 0 < s < math.inf else math.nan
      for g, s in zip(group, (value(line.get(key)) for line in found))
    ]
  )
  if len(found) > 1:
    known = n[~np.isnan(n)]
    low = float(known.min()) if len(known) else math.nan
    high = float(known.max()) if len(known) else math.nan
  else:
    low, high = ends[0]
  return Point(
    n=usual(n),
    low=low,
    high=high,
    each=tuple(n) if len(n) > 1 else (),
    root=of('root'),
    root_se=error('root_se'),
    omega=of('omega'),
    omega_se=error('omega_se'),
    alone=ratio('snr1'),
    theory=ratio('theory_snr1'),
    tokens=of('tokens'),
    cos_within=of('cos_within'),
    largest=of('largest'),
  )


def _middle(x):
  """The median; of an even number the geometric mean or mean of the two."""
  if not len(x):
    return math.nan
  x = sorted(x)
  a, b = x[(len(x) - 1) // 2], x[len(x) // 2]
  if math.isinf(a) or math.isinf(b):
    return b
  return math.sqrt(a * b) if a > 0 and b > 0 else (a + b) / 2


def _interval(line) -> tuple[float, float]:
  """95% of noise_scale; to inf if the signal may be 0 (two standard errors)."""
  get = lambda key: value(line.get(key))
  n, error = get('noise_scale'), get('log_noise_scale_se')
  if 0 < n < math.inf and abs(error) < SURE:
    factor = math.exp(2 * abs(error))
    return n / factor, n * factor
  # The logarithm is no longer near normal: from the signal's own interval.
  ends = []
  for side in (2, -2):
    signal = get('total') + side * get('total_se')
    noise = get('second') - signal
    scale = _group(line) * noise / signal if signal > 0 else math.inf
    ends.append(scale if signal > 0 or side < 0 else math.nan)
  low, high = ends
  return (low if low > 0 else math.nan), (high if high > 0 else math.inf)


def _group(line) -> float:
  """Rollouts of a group, G of N = G (second - total) / total."""
  given = value(line.get('group'))
  if 0 < given < math.inf:
    return given
  n, total, second = (
    value(line.get(k)) for k in ('noise_scale', 'total', 'second')
  )
  if 0 < n < math.inf and second > total > 0:
    return float(max(round(n * total / (second - total)), 1))
  return math.nan
