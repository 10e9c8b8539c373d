"""How are the points of a signal placed and joined over checkpoints?"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import axes

from rlvr_jax.reporting import signal_marks
from rlvr_jax.reporting.signal_lines import PASS_RATE, Cell, Map, Point
from rlvr_jax.reporting.signal_marks import Style


class Track:
  """Draws one number of the signals on axes.

  Args:
    ax: whose y axis is set up already; this sets up the x axis.
    drawn: the map.
    pick: the number of a point.
    place: where numbers stand on the y axis.
  """

  def __init__(
    self,
    ax: axes.Axes,
    drawn: Map,
    pick: Callable[[Point], float],
    place: Callable = np.asarray,
  ):
    self.ax, self.drawn, self.pick, self.place = ax, drawn, pick, place
    self.rates = drawn.across == PASS_RATE
    at = [self.x(c) for c in drawn.cells]
    (signal_marks.rates if self.rates else signal_marks.numbers)(ax, at)

  def x(self, cell: Cell) -> float:
    """Where a cell stands."""
    return float(signal_marks.log_odds(cell.x)) if self.rates else cell.x

  def label(self) -> str:
    """Of the x axis."""
    if self.rates:
      return 'pass rate of the policy'
    return signal_marks.clean(self.drawn.across)

  @functools.cached_property
  def paths(self) -> list[list[Cell]]:
    """Cells that are joined: the steps of a run, or those along another x."""
    together: dict[tuple, list[Cell]] = {}
    for c in self.drawn.cells:
      key = (c.run,) if self.rates else (c.run, c.step)
      together.setdefault(key, []).append(c)
    return list(together.values())

  def points(
    self, cells: Sequence[Cell], signal: str
  ) -> list[tuple[float, float, Point]]:
    """(x, y, point) of those cells that have the signal's number."""
    found = [(c, c.points[signal]) for c in cells if signal in c.points]
    return [
      (self.x(c), float(self.place(self.pick(f))), f)
      for c, f in found
      if not math.isnan(self.pick(f))
    ]

  def last(self, signal: str) -> tuple[float, float]:
    """The point furthest to the right; NaN without any."""
    found = self.points(self.drawn.cells, signal)
    if not found:
      return math.nan, math.nan
    x, y, _ = max(found, key=lambda f: f[0])
    return x, y

  def curve(
    self,
    signal: str,
    style: Style,
    *,
    bold: bool = False,
    arrows: bool = False,
    joined: bool = True,
    size: float = 7.0,
    seeds: bool = False,
  ) -> None:
    """Draws the points of a signal, those of one run joined in order.

    Args:
      bold: never faint, with a wide line.
      arrows: lines say which way training went.
      joined: False: points alone.
      seeds: with a dot for each seed.
    """
    ax, batch = self.ax, self.drawn.batch
    width = 2.4 if bold else 1.2
    for path in self.paths if joined else ():
      known = self.points(path, signal)
      for (x0, y0, f), (x1, y1, g) in itertools.pairwise(known):
        if arrows and self.rates:
          signal_marks.arrow(ax, (x0, y0), (x1, y1), style.color, width)
          continue
        dim = not bold and (f.faint(batch) or g.faint(batch))
        line: dict[str, Any] = {
          'linewidth': width,
          'alpha': 0.35 if dim else 1 if bold else 0.75,
          'zorder': 3,
        }
        ax.plot([x0, x1], [y0, y1], color=style.color, **line)
    if joined:
      self._bridge(signal, style)
    for x, y, f in self.points(self.drawn.cells, signal):
      if seeds and f.each:
        each = self.place(np.array(f.each))
        dots: dict[str, Any] = {
          'markersize': 4,
          'alpha': 0.4,
          'zorder': 4,
          'linestyle': 'none',
        }
        ax.plot([x] * len(each), each, '.', color=style.color, **dots)
      signal_marks.mark(
        ax,
        x,
        y,
        style,
        size=size,
        hollow=f.root < 0,
        faint=not bold and f.faint(batch),
        zorder=6 if bold else 5,
      )

  def _bridge(self, signal, style):
    """A dashed line through the first checkpoints of different runs."""
    first = sorted(
      (k for p in self.paths for k in self.points(p[:1], signal)),
      key=lambda k: k[0],
    )
    self.ax.plot(
      [x for x, _, _ in first],
      [y for _, y, _ in first],
      color=style.color,
      linewidth=0.9,
      linestyle=(0, (4, 3)),
      alpha=0.3,
      zorder=2,
    )
