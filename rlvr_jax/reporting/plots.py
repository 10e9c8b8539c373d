"""How are charts drawn? SVG data URIs for light and dark pages, or a PNG.

matplotlib is imported where something is drawn: it takes nearly as long to
import as JAX, and most processes draw nothing.
"""

import base64
import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

COLORS = (
  '#3b82f6',
  '#f97316',
  '#10b981',
  '#a855f7',
  '#ef4444',
  '#ca8a04',
  '#06b6d4',
  '#ec4899',
)
_DASHES = ('-', '--', '-.')
_INK = '#808694'  # legible on white and on black
_MAX_POINTS = 1500


class Line(NamedTuple):
  """One curve; `low` and `high` bound its band, `raw` is a faint curve."""

  label: str
  x: np.ndarray  # [N] steps, or see `across` of `panel`
  y: np.ndarray  # [N]
  low: np.ndarray | None = None  # [N]
  high: np.ndarray | None = None  # [N]
  raw: np.ndarray | None = None  # [N]
  color: int | None = 0  # index in COLORS; None: a grey reference


def color(i: int) -> str:
  """The i-th colour, cyclic."""
  return COLORS[i % len(COLORS)]


def smooth(y: np.ndarray, window: int) -> np.ndarray:
  """Centred mean over at most `window` of the finite values around each.

  The window shrinks at the ends: no padding.
  """
  kernel = np.ones(window)
  finite = np.isfinite(y)
  same = lambda x: np.convolve(x, kernel, 'full')[(window - 1) // 2 :][: len(y)]
  count = same(finite.astype(float))
  total = same(np.where(finite, y, 0.0))
  return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def chart(lines: Sequence[Line], *, wide: bool = False, **options: Any) -> str:
  """An `<img>` source: `data:image/svg+xml;base64,...`.

  Args:
    lines: curves.
    wide: the width of the page instead of half of it.
    options: of `panel`.
  """
  with _canvas((8.4, 3.1) if wide else (4.6, 2.6)) as (fig, ax):
    panel(ax, lines, **options)
    return _source(fig)


def panel(
  ax: Any,
  lines: Sequence[Line],
  *,
  percent: bool = False,
  log: bool = False,
  stacked: bool = False,
  unit: str = '',
  across: str = 'step',
  legend: bool = True,
) -> None:
  """Draws curves on axes.

  Args:
    ax: matplotlib axes.
    lines: curves.
    percent: values are shares, shown as 0 to 100 %.
    log: logarithmic y axis; values that are not positive are left out.
    stacked: stacked areas, for parts of a whole; where the largest sum is more
      than twice the third quartile, the axis ends there.
    unit: label of the y axis.
    across: label of the x axis. 'step': integers; 'k' and 'n', numbers of
      samples: a logarithmic axis; anything else: a share, shown as 0 to 100 %.
    legend: above the axes, if there are 2 to 24 lines.
  """
  lines = [_thin(line) for line in lines]
  if stacked:
    ax.stackplot(
      lines[0].x,
      [np.nan_to_num(line.y) for line in lines],
      labels=[line.label for line in lines],
      colors=[color(line.color) for line in lines],
      alpha=0.75,
      linewidth=0,
    )
  else:
    for line in lines:
      _draw(ax, line, log)
  _axes(ax, lines, percent, log, stacked, unit)
  _across(ax, lines, across)
  # Beyond these, colours and dashes repeat, and names would fill the picture.
  if legend and 1 < len(lines) <= len(_DASHES) * len(COLORS):
    _legend(ax, max(len(line.label) for line in lines))


def bars(counts: np.ndarray, labels: Sequence[str], index: int = 0) -> str:
  """An `<img>` source: one bar per label, its count above it."""
  from matplotlib import ticker

  with _canvas() as (fig, ax):
    bare(ax)
    rectangles = ax.bar(labels, counts, color=color(index), width=0.85)
    ax.bar_label(rectangles, [str(n) if n else '' for n in counts], fontsize=7)
    ax.tick_params(axis='x', labelsize=7)
    ax.set_ylabel('problems')
    ax.yaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
    return _source(fig)


def reliability(
  count: np.ndarray,
  confidence: np.ndarray,
  accuracy: np.ndarray,
  index: int = 0,
) -> str:
  """An `<img>` source: a reliability diagram, bins of equal width in [0, 1].

  Args:
    count: [N] samples per bin, shown as bars below.
    confidence: [N] mean stated confidence of a bin, the x axis.
    accuracy: [N] of a bin, the y axis; the diagonal is perfect calibration.
    index: of the colour.
  """
  bins = len(count)
  shape = {'nrows': 2, 'sharex': True, 'height_ratios': (3, 1)}
  with _canvas(**shape) as (fig, (ax, below)):
    bare(ax)
    bare(below)
    ax.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle='--')
    filled = np.asarray(count) > 0
    x, y = np.asarray(confidence)[filled], np.asarray(accuracy)[filled]
    ax.plot(x, y, color=color(index), linewidth=1.7, marker='o', markersize=4)
    ax.set(ylim=(-0.02, 1.02), ylabel='accuracy')
    middle = (np.arange(bins) + 0.5) / bins
    rectangles = below.bar(middle, count, 0.85 / bins, color=_INK, alpha=0.4)
    below.bar_label(
      rectangles, [str(n) if n else '' for n in count], fontsize=6.5
    )
    below.set(ylim=(0, 1.5 * max(np.max(count), 1)), yticks=[])
    below.set(xlim=(-0.01, 1.01), xlabel='confidence')
    return _source(fig)


@contextlib.contextmanager
def sheet(path: str | os.PathLike, count: int) -> Iterator[np.ndarray]:
  """`count` axes of one picture, which is written to `path` (PNG) on exit."""
  rows = -(-count // 3)
  columns = -(-count // rows)
  size = (5.2 * columns, 3.6 * rows)
  shape = {'nrows': rows, 'ncols': columns, 'squeeze': False}
  with _canvas(size, **shape) as (fig, grid):
    for ax in grid.flat[count:]:
      ax.remove()
    yield grid.flat[:count]
    fig.savefig(path, dpi=130)


@contextlib.contextmanager
def _canvas(size=(4.6, 2.6), **shape):
  """(figure, axes), the axes as returned by `Figure.subplots(**shape)`."""
  import matplotlib
  from matplotlib import figure

  style = {
    'svg.hashsalt': 'rlvr_jax',
    'font.size': 9,
    'font.family': 'DejaVu Sans',
    'text.color': _INK,
    'axes.labelcolor': _INK,
    'axes.edgecolor': _INK,
    'xtick.color': _INK,
    'ytick.color': _INK,
  }
  with matplotlib.rc_context(style):
    fig = figure.Figure(figsize=size, layout='constrained')
    yield fig, fig.subplots(**shape)


def _source(fig):
  out = io.BytesIO()
  fig.savefig(out, format='svg', transparent=True, metadata={'Date': None})
  encoded = base64.b64encode(out.getvalue()).decode()
  return f'data:image/svg+xml;base64,{encoded}'


def _draw(ax, line, log):
  if line.color is None:
    paint, dash = _INK, ':'
  else:
    paint = color(line.color)
    # The dash changes when the colours repeat.
    dash = _DASHES[line.color // len(COLORS) % len(_DASHES)]
  positive = lambda y: np.where(y > 0, y, np.nan) if log else y
  few = np.isfinite(line.y).sum() <= 25
  if line.low is not None:
    low, high = positive(line.low), positive(line.high)
    ax.fill_between(line.x, low, high, color=paint, alpha=0.18, linewidth=0)
  if line.raw is not None:
    ax.plot(line.x, positive(line.raw), color=paint, alpha=0.28, linewidth=0.8)
  ax.plot(
    line.x,
    positive(line.y),
    color=paint,
    linestyle=dash,
    linewidth=1.7,
    marker='o' if few else None,
    markersize=3,
    label=line.label,
  )


def bare(ax: Any) -> None:
  """Removes the frame and ticks, adds a faint horizontal grid."""
  ax.spines[['top', 'right']].set_visible(False)
  ax.grid(True, axis='y', color=_INK, alpha=0.22, linewidth=0.6)
  ax.set_axisbelow(True)
  ax.tick_params(length=0)


def _across(ax, lines, across):
  """Sets up the x axis, see `panel`."""
  from matplotlib import ticker

  ax.set_xlabel(across)
  if across == 'step':
    ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
  elif across in ('k', 'n'):
    ks = sorted({int(x) for line in lines for x in line.x})
    ax.set_xscale('log', base=2)
    ax.set_xticks([k for k in ks if k & (k - 1) == 0] or ks)
    ax.xaxis.set_major_formatter(ticker.FormatStrFormatter('%d'))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
  else:
    ax.set_xlim(0, 1.02)
    ax.xaxis.set_major_formatter(ticker.PercentFormatter(1.0))


def _axes(ax, lines, percent, log, stacked, unit):
  from matplotlib import ticker

  bare(ax)
  ax.set_ylabel(unit)
  ax.margins(x=0.015)
  if percent:
    ax.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=None))
    values = [
      np.asarray(y) for n in lines for y in (n.y, n.high) if y is not None
    ]
    top = max([0.05, *(float(t) for y in values for t in y[np.isfinite(y)])])
    ax.set_ylim(-0.02 * top, min(1.02, 1.15 * top))
  if log:
    ax.set_yscale('log')
  if stacked:
    # The few steps that compile would flatten all others.
    total = np.sum([np.nan_to_num(n.y) for n in lines], 0)
    usual = 2.0 * float(np.quantile(total, 0.75))
    ax.set_ylim(0, usual if 0 < usual < total.max() else None)


def _legend(ax, longest):
  ax.legend(
    loc='lower left',
    bbox_to_anchor=(0, 1.0),
    ncols=1 if longest > 36 else 2 if longest > 18 else 3,
    frameon=False,
    fontsize=8,
    handlelength=1.2,
    borderpad=0,
    columnspacing=1.2,
  )


def _thin(line):
  """The line with at most _MAX_POINTS points, evenly spaced, ends included."""
  n = len(line.x)
  if n <= _MAX_POINTS:
    return line
  at = np.unique(np.linspace(0, n - 1, _MAX_POINTS).round().astype(int))
  cut = lambda y: None if y is None else np.asarray(y)[at]
  return line._replace(
    **{k: cut(getattr(line, k)) for k in ('x', 'y', 'low', 'high', 'raw')}
  )
