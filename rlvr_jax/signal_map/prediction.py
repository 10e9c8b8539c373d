"""What gain is predicted, and how well? Slopes, correlations, a picture."""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import figure, ticker

from rlvr_jax.reporting import plots, run_writer
from rlvr_jax.signal_map import cell, measure
from rlvr_jax.signal_map import lines as lines_lib
from rlvr_jax.signal_map.signals import Signal
from rlvr_jax.stats import intervals

BIN = 'predict'  # of these lines in signal.jsonl
PICTURE = 'signal_predict'
GAIN = 0.1  # of a 'fixed' step straight along g, which sets its length
CLEAR = 0.003  # predicted gains below it in size have no sign to be right about


def slopes(
  measured: cell.Cell, signal: Signal, rollouts: int
) -> dict[str, float]:
  """Predicted gain per length of a step, of each bin's problems.

    <g_bin, E g^> / sqrt(E |g^|^2)

  for the gradient g^ of `rollouts` rollouts on problems of the whole range;
  different problems alone make pairs, as in `measure.summary`. NaN where the
  estimate of E |g^|^2 is not positive; 0 for a signal that has no gradient.
  """
  estimate, _ = lines_lib.estimate(measured, signal)
  own = not (signal.env or signal.imitates)
  of = measure.products(measured.gram, estimate, measured.reference, own)
  y = len(of.signal)
  total = (of.signal.sum() - np.trace(of.signal)) / (y * (y - 1))
  second = estimate.second.mean()
  square = total + estimate.group * (second - total) / rollouts
  out = {}
  for name, keep in bins(measured).items():
    cross = of.cross[keep]
    count = keep.sum() * y
    dot = cross.sum()
    if own:
      dot -= np.trace(of.cross[np.ix_(keep, keep)])
      count -= keep.sum()
    slope = dot / count / np.sqrt(square) if square > 0 else np.nan
    out[name] = 0.0 if second == 0 else float(slope)
  return out


def bins(measured: cell.Cell) -> dict[str, np.ndarray]:
  """bool[X] of the map's bins that have enough problems."""
  out = {}
  for name, (low, high) in lines_lib.BINS.items():
    keep = (measured.pilot >= low) & (measured.pilot <= high)
    if name == 'all' or (keep.sum() >= lines_lib.FEWEST and not keep.all()):
      out[name] = keep
  return out


def reference_norm(measured: cell.Cell) -> float:
  """|g|, from different problems; ValueError where it is lost in noise."""
  mean = measured.reference.mean(0)
  products = (mean @ measured.gram) @ mean.T
  x = len(mean)
  square = (products.sum() - np.trace(products)) / (x * (x - 1))
  if not square > 0:
    raise ValueError(
      'The gradient of the pass rate is lost in noise, so no length of a step '
      'follows from it: set --predict_length, or raise --prompts.'
    )
  return float(np.sqrt(square))


class Points(NamedTuple):
  """Arms of one optimiser and one bin, or several bins.

  Attributes:
    names: N arms.
    predicted: f64[N], mean over seeds.
    realised: f64[N], gain minus the control's of the same seed, mean.
    error: f64[N], standard error over seeds; NaN with one.
    by_seed: [N] of {seed: (predicted, realised)}.
  """

  names: list[str]
  predicted: np.ndarray
  realised: np.ndarray
  error: np.ndarray
  by_seed: list[dict[int, tuple[float, float]]]


def read(path: pathlib.Path, made_with: str) -> list[dict[str, Any]]:
  """The lines of a trial, the last one of each arm, seed, optimiser and bin."""
  out = {}
  for line in run_writer.read(path):
    if (line.get('bin'), line.get('settings')) == (BIN, made_with):
      place = ('step', 'signal', 'seed', 'optimizer', 'of')
      out[tuple(line[k] for k in place)] = line
  return list(out.values())


def finished(
  path: pathlib.Path, step: int, made_with: str
) -> set[tuple[str, int, str]]:
  """(signal, seed, optimizer) of what has its lines: 'all' is the last one."""
  return {
    (line['signal'], line['seed'], line['optimizer'])
    for line in read(path, made_with)
    if line['step'] == step and line['of'] == 'all'
  }


def clock(total: int) -> Callable[[int], str]:
  """done -> time left, at the speed so far."""
  began = time.monotonic()
  return lambda done: run_writer.clock(
    (time.monotonic() - began) / done * (total - done)
  )


def points(
  lines: Sequence[dict[str, Any]],
  control: str,
  name: str,
  bins: Sequence[str] = ('all',),
) -> Points:
  """The arms of an optimiser that took a step, each step and bin apart.

  Args:
    lines: of `read`.
    control: the signal whose gain is subtracted; no arm.
    name: of the optimiser.
  """
  gain = {}
  for line in lines:
    if line['optimizer'] == name and line['of'] in bins:
      place = (line['step'], line['of'], line['signal'])
      gain.setdefault(place, {})[line['seed']] = line
  names, by_seed = [], []
  for (step, of, signal), arm in gain.items():
    base = gain.get((step, of, control), {})
    both = {
      seed: (float(line['predicted']), line['gain'] - base[seed]['gain'])
      for seed, line in arm.items()
      if seed in base and line['length'] > 0
    }
    both = {k: v for k, v in both.items() if np.isfinite(v).all()}
    if signal != control and both:
      names.append(signal)
      by_seed.append(both)
  values = [np.array(list(arm.values())) for arm in by_seed]
  error = lambda v: v[:, 1].std(ddof=1) / np.sqrt(len(v))
  return Points(
    names,
    np.array([v[:, 0].mean() for v in values]),
    np.array([v[:, 1].mean() for v in values]),
    np.array([error(v) if len(v) > 1 else np.nan for v in values]),
    by_seed,
  )


def pearson(
  x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None
) -> float:
  """The weighted correlation; NaN where one of them does not vary."""
  weight = np.ones(len(x)) if weight is None else weight
  if not weight.sum() > 0:
    return float('nan')
  centre = lambda v: v - np.average(v, weights=weight)
  a, b = centre(np.asarray(x, float)), centre(np.asarray(y, float))
  square = (weight * a * a).sum() * (weight * b * b).sum()
  if not square > 1e-30:
    return float('nan')
  return float((weight * a * b).sum() / np.sqrt(square))


def ranks(x: np.ndarray) -> np.ndarray:
  """Ranks of numbers, the mean rank for equal ones."""
  x = np.asarray(x, float)
  return (x[:, None] > x).sum(1) + ((x[:, None] == x).sum(1) - 1) / 2


def agreement(p: Points) -> dict[str, float]:
  """Facts of the prediction.

  Returns:
    arms; r, r_low, r_high (95%, bootstrap over arms), rank_r; sign, the share
    of arms with |predicted| > `CLEAR` whose realised gain has the sign, and
    clear, their number; slope of the least-squares line through 0; seeds_low,
    seeds_high: the range of r of single seeds.
  """
  n = len(p.names)
  low = high = np.full(1, np.nan)
  if n > 2:
    drawn = intervals.draws(
      lambda w: np.array([pearson(p.predicted, p.realised, w)]), n, seed=0
    )
    low, high = intervals.percentiles(drawn)
  clear = np.abs(p.predicted) > CLEAR
  right = np.sign(p.predicted) == np.sign(p.realised)
  square = (p.predicted**2).sum()
  single = []
  for seed in sorted({s for arm in p.by_seed for s in arm}):
    both = [arm[seed] for arm in p.by_seed if seed in arm]
    single.append(pearson(*np.array(both).T))
  return {
    'arms': n,
    'r': pearson(p.predicted, p.realised) if n else float('nan'),
    'r_low': float(low[0]),
    'r_high': float(high[0]),
    'rank_r': pearson(ranks(p.predicted), ranks(p.realised)),
    'sign': float(right[clear].mean()) if clear.any() else float('nan'),
    'clear': int(clear.sum()),
    'slope': float((p.predicted * p.realised).sum() / square)
    if square
    else float('nan'),
    'seeds_low': min(single, default=float('nan')),
    'seeds_high': max(single, default=float('nan')),
  }


def summary(lines: Sequence[dict[str, Any]], control: str) -> list[str]:
  """What to print: a table and the agreement of each optimiser."""
  out = []
  for name in dict.fromkeys(line['optimizer'] for line in lines):
    p = points(lines, control, name)
    out.append(f'{name}: {"":34s} predicted  realised, less the control')
    for i in np.argsort(-p.predicted):
      out.append(
        f'  {p.names[i][:40]:40s} {p.predicted[i]:+10.4f} {p.realised[i]:+9.4f}'
        f' +- {p.error[i]:.4f}'
      )
    out.append(f'{name}: {said(agreement(p))}')
    bins = [b for b in dict.fromkeys(x['of'] for x in lines) if b != 'all']
    if bins:
      cells = agreement(points(lines, control, name, bins))
      out.append(f'{name}, arms x bins: {said(cells)}')
  return out


def said(a: dict[str, float]) -> str:
  """The numbers of `agreement` in one line."""
  return (
    f'r {a["r"]:.3f} [{a["r_low"]:.2f}, {a["r_high"]:.2f}] over {a["arms"]} '
    f'arms (single seeds {a["seeds_low"]:.2f} to {a["seeds_high"]:.2f}), rank '
    f'{a["rank_r"]:.2f}, sign right in {a["sign"]:.0%} of {a["clear"]}, realised '
    f'{a["slope"]:.2f} x predicted'
  )


def draw(
  folder: pathlib.Path, lines: Sequence[dict[str, Any]], control: str
) -> None:
  """Writes the scatter plot `PICTURE`.svg and .png to `folder`.

  A panel for each optimiser, with axes of its own: their steps have different
  lengths.
  """
  style: Any = {'font.size': 9, 'svg.hashsalt': 'rlvr_jax'}
  found = dict.fromkeys(line['optimizer'] for line in lines)
  panels = {n: p for n in found if (p := points(lines, control, n)).names}
  signals = list(dict.fromkeys(x for p in panels.values() for x in p.names))
  with matplotlib.rc_context(style):
    width = 3.6 * max(len(panels), 1) + 2.6
    fig = figure.Figure(figsize=(width, 4.2), layout='constrained')
    axes = fig.subplots(1, max(len(panels), 1), squeeze=False)[0]
    shown = {}
    for ax, (name, p) in zip(axes, panels.items(), strict=False):
      a = agreement(p)
      for j, signal in enumerate(p.names):
        k = signals.index(signal)
        shown[signal] = ax.errorbar(
          p.predicted[j],
          p.realised[j],
          yerr=np.nan_to_num(p.error[j]),
          fmt='os^Dv'[k // 5 % 5],
          markersize=5,
          linewidth=1,
          color=plots.color(k % 5),
        )
      _panel(ax, p)
      ax.set_title(
        f'{name}: r = {a["r"]:.2f} [{a["r_low"]:.2f}, {a["r_high"]:.2f}], '
        f'{a["arms"]} arms',
        fontsize=9,
      )
    axes[0].set_ylabel('realised gain, minus that of a random reward')
    fig.supxlabel(
      'predicted gain of pass rate: length of the steps x |g| x root',
      fontsize=9,
    )
    fig.legend(
      [shown[x] for x in signals],
      [x[:36] for x in signals],
      loc='outside right center',
      frameon=False,
      fontsize=7,
    )
    fig.savefig(
      folder / f'{PICTURE}.svg', metadata={'Date': None}, transparent=True
    )
    fig.savefig(folder / f'{PICTURE}.png', dpi=130)


def _panel(ax: Any, p: Points) -> None:
  """Zero lines, and the line on which gains are as predicted."""
  plots.bare(ax)
  ax.axhline(0, color='grey', linewidth=0.6, zorder=0)
  ax.axvline(0, color='grey', linewidth=0.6, zorder=0)
  low, high = ax.get_ylim()
  ends = [max(low, 1.05 * min(p.predicted)), min(high, 1.05 * max(p.predicted))]
  grey = dict(color='grey', linewidth=0.8, linestyle='--', zorder=0)
  ax.plot(ends, ends, label='as predicted', **grey)
  ax.legend(loc='lower right', frameon=False, fontsize=7)
  ax.xaxis.set_major_locator(ticker.MaxNLocator(5))
