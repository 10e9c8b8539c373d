"""How are points, labels and axes of the signal map drawn?"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import axes, font_manager, patheffects, ticker
from matplotlib.backends import backend_agg

INK, SOFT, FAINT = '#1d2129', '#676d7b', '#c9ced8'
# Okabe and Ito's, which the colour-blind tell apart; yellow is too pale here.
COLORS = (
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#000000',
  '#7a5195',
  '#8c6d31',
)
MARKERS = ('o', 's', 'D', 'v', '^', 'P', 'X', 'p', 'h', '<', '>', 'd')
_RATES = (
  *(1e-4, 3e-4, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
  *(0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.997, 0.999, 0.9997, 0.9999),
)
_HALO = [patheffects.withStroke(linewidth=2.6, foreground='white')]


class Style(NamedTuple):
  """Of one signal in all panels."""

  color: str
  marker: str
  name: str


def clean(text: str, width: int = 34) -> str:
  """Text that the font has, at most `width` characters, in one line."""
  have = _glyphs()
  out = ''.join(
    c if ord(c) in have else '\ufffd' for c in ' '.join(text.split())
  )
  return out if len(out) <= width else out[: width - 1] + '…'


@functools.cache
def _glyphs():
  path = font_manager.findfont('DejaVu Sans')
  return frozenset(font_manager.get_font(path).get_charmap())


def wrapped(text: str, width: int) -> str:
  """Clean text in at most two lines of about `width` characters."""
  text = clean(text, 2 * width)
  if len(text) <= width:
    return text
  cut = text.rfind(' ', 0, width + 1)
  if cut < width // 3:
    cut = width
  return f'{text[:cut].rstrip()}\n{text[cut:].strip()}'


def write(ax: axes.Axes, x, y, text: str, **options):
  """Text with a halo; names are never read as formulas."""
  defaults: dict[str, Any] = {
    'parse_math': False,
    'path_effects': _HALO,
    'color': INK,
  }
  return ax.text(x, y, text, **(defaults | options))


def log_odds(p):
  """log p / (1 - p), with p kept within 1e-4 of 0 and 1."""
  p = np.clip(np.asarray(p, float), 1e-4, 1 - 1e-4)
  return np.log(p / (1 - p))


def rates(ax: axes.Axes, x: Sequence[float], room: float = 0.45) -> None:
  """An x axis of pass rates: positions are `log_odds`, ticks are percent."""
  low, high = min(x) - room, max(x) + room
  if high - low < 2.4:
    low, high = (low + high) / 2 - 1.2, (low + high) / 2 + 1.2
  ax.set_xlim(low, high)
  places = log_odds(_RATES)
  inside = [(a, r) for a, r in zip(places, _RATES) if low <= a <= high]
  # Ticks that would run into each other are left out.
  inches = ax.get_window_extent().width / ax.get_figure().dpi
  kept: list[tuple[float, float]] = []
  for a, r in inside:
    if not kept or a - kept[-1][0] > 0.45 * (high - low) / inches:
      kept.append((a, r))
  ax.set_xticks([a for a, _ in kept], [f'{100 * r:g}%' for _, r in kept])


def numbers(ax: axes.Axes, x: Sequence[float]) -> None:
  """An x axis of plain numbers."""
  low, high = min(x), max(x)
  room = 0.12 * (high - low) or 0.5
  ax.set_xlim(low - room, high + room)
  whole = all(float(v).is_integer() for v in x)
  ax.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=whole))


class Rollouts:
  """A y axis of numbers of rollouts, with a strip at the top for inf.

  Attributes, as log10 of rollouts:
    low, top: limits of the axis.
    head: highest of the data.
    roof: where the strip begins, `top` without one.
    inf: the middle of the strip.
  """

  def __init__(
    self,
    ax: axes.Axes,
    values: Sequence[float],
    *,
    strip: str = '',
    above: float = 0.0,
    below: float = 0.0,
  ):
    """Sets up the axis.

    Args:
      values: of points; NaN, inf and those below 0.1 do not count.
      strip: what inf is called; '': no value is.
      above, below: room for words, as a share of the axis.
    """
    good = [math.log10(v) for v in values if 0.1 <= v < math.inf]
    low, high = (min(good), max(good)) if good else (1.0, 3.0)
    if high - low < 1:
      low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
    edge, thick = 0.05, 0.09 * bool(strip)
    tall = (high - low) / (1 - above - below - thick - 2 * edge)
    self.low = low - (edge + below) * tall
    self.head = high + edge * tall
    self.roof = self.head + above * tall
    self.top = self.roof + thick * tall
    self.inf = (self.roof + self.top) / 2
    ax.set_ylim(self.low, self.top)
    ticks = self._ticks(ax)
    if strip:
      ax.axhspan(self.roof, self.top, color='#e9ebf1', linewidth=0)
      ticks.append((self.inf, strip))
    ax.set_yticks([t for t, _ in ticks], [text for _, text in ticks])

  def _ticks(self, ax):
    inches = ax.get_window_extent().height / ax.get_figure().dpi
    roof = (self.low + (self.roof - self.low) * 0.99) if inches else self.roof
    for digits in ((1, 2, 5), (1, 3), (1,)):
      ticks = [
        (t + math.log10(m), m * 10.0**t)
        for t in range(math.floor(self.low), math.ceil(self.roof))
        for m in digits
        if self.low <= t + math.log10(m) <= roof
      ]
      if len(ticks) <= 3 * inches:
        break
    step = max(1, round(len(ticks) / max(4 * inches, 1)))
    return [(t, f'{n:,.0f}' if n >= 1 else f'{n:g}') for t, n in ticks[::step]]

  def place(self, n):
    """Where rollouts stand; inf in the strip, NaN nowhere."""
    n = np.asarray(n, float)
    with np.errstate(divide='ignore'):
      y = np.where(n > 0, np.log10(np.where(n > 0, n, 1)), self.low)
    y = np.where(np.isinf(n), self.inf, np.clip(y, self.low, None))
    return np.where(np.isnan(n), np.nan, y)


def mark(
  ax: axes.Axes,
  x: float,
  y: float,
  style: Style,
  *,
  size: float = 7.0,
  hollow: bool = False,
  faint: bool = False,
  zorder: float = 5.0,
) -> None:
  """One point; hollow: it points away, faint: hardly anywhere."""
  ax.plot(
    [x],
    [y],
    marker=style.marker,
    markersize=size,
    color=style.color,
    markerfacecolor='white' if hollow else style.color,
    markeredgewidth=1.5 if hollow else 0.8,
    markeredgecolor=style.color if hollow else 'white',
    alpha=0.35 if faint else 1.0,
    linestyle='none',
    zorder=zorder,
    clip_on=False,
    gid='hollow' if hollow else 'filled',
  )


def arrow(ax: axes.Axes, start, end, color: str, width: float) -> None:
  """A line with a head in the middle: the way that training went."""
  (x0, y0), (x1, y1) = start, end
  ax.plot([x0, x1], [y0, y1], color=color, linewidth=width, zorder=4)
  a, b = 0.5, 0.56
  point = lambda t: (x0 + t * (x1 - x0), y0 + t * (y1 - y0))
  ax.annotate(
    '',
    xy=point(b),
    xytext=point(a),
    arrowprops={
      'arrowstyle': '-|>',
      'color': color,
      'lw': width,
      'mutation_scale': 9 + 3 * width,
      'shrinkA': 0,
      'shrinkB': 0,
    },
    zorder=4,
  )


def beside(
  ax: axes.Axes,
  entries: Sequence[tuple[float, float, Style]],
  *,
  fontsize: float = 9.0,
  width: int = 22,
) -> None:
  """Names at the right of the axes, each tied to its last point.

  Args:
    ax: axes with limits that stay.
    entries: (x, y, style) in data; NaN: the signal has no point.
    width: characters of a line.
  """
  if not entries:
    return
  box = ax.get_window_extent()
  dpi = ax.get_figure().dpi
  texts = [wrapped(s.name, width) for _, _, s in entries]
  rows = sum(t.count('\n') + 1 for t in texts)
  fontsize = min(fontsize, 1.02 * box.height * 72 / dpi / (1.3 * rows))
  heights = [
    (t.count('\n') + 1) * 1.3 * fontsize * dpi / 72 / box.height for t in texts
  ]
  low, high = ax.get_ylim()
  wanted = [
    0.0 if math.isnan(y) else (y - low) / (high - low) for _, y, _ in entries
  ]
  order = sorted(range(len(entries)), key=lambda i: wanted[i])
  centers = _apart([wanted[i] for i in order], [heights[i] for i in order])
  for i, at in zip(order, centers):
    x, y, style = entries[i]
    if not math.isnan(y):
      ax.annotate(
        '',
        xy=(x, y),
        xytext=(1.015, at),
        textcoords=ax.transAxes,
        arrowprops={
          'arrowstyle': '-',
          'color': style.color,
          'alpha': 0.45,
          'lw': 0.7,
          'shrinkA': 0,
          'shrinkB': 4,
        },
        zorder=2,
        annotation_clip=False,
      )
    inch = 1 / (box.width / dpi)  # of the width of the axes
    ax.plot(
      [1.015 + 0.06 * inch],
      [at],
      marker=style.marker,
      color=style.color,
      markersize=5.5,
      transform=ax.transAxes,
      clip_on=False,
      linestyle='none',
    )
    ax.text(
      1.015 + 0.14 * inch,
      at,
      texts[i],
      color=style.color,
      fontsize=fontsize,
      va='center',
      ha='left',
      transform=ax.transAxes,
      parse_math=False,
      linespacing=1.05,
    )


def _apart(wanted, heights):
  """Centres as near as can be to `wanted`, ascending, `heights` apart.

  Less the heights below, they only have to ascend: isotonic regression, by
  pooling neighbours that do not. Then all are kept between 0 and 1.
  """
  h = np.asarray(heights)
  offset = np.cumsum(h) - h / 2
  blocks: list[tuple[float, int]] = []  # mean and number of members
  for z in np.asarray(wanted) - offset:
    mean, count = float(z), 1
    while blocks and blocks[-1][0] > mean:
      m, c = blocks.pop()
      mean, count = (m * c + mean * count) / (c + count), c + count
    blocks.append((mean, count))
  z = np.repeat([m for m, _ in blocks], [c for _, c in blocks])
  return np.clip(z, -0.01, max(1.01 - h.sum(), -0.01)) + offset


class Notes:
  """Words beside points that keep clear of points and of each other."""

  def __init__(self, ax: axes.Axes, points: Sequence[tuple[float, float]]):
    self.ax = ax
    canvas = backend_agg.FigureCanvasAgg(ax.get_figure(root=True))
    self.renderer = canvas.get_renderer()
    self.taken = [ax.transData.transform(p) for p in points]
    self.boxes: list = [
      t.get_window_extent(self.renderer) for t in ax.texts if t.get_text()
    ]

  def add(self, x: float, y: float, text: str, **options) -> None:
    """Writes `text` where it is in the way of least."""
    options = {
      'parse_math': False,
      'path_effects': _HALO,
      'zorder': 8,
    } | options
    best, least = {}, math.inf
    for distance in (9, 15, 24):
      for angle in (90, 270, 45, 135, 315, 225, 0, 180):
        dx = distance * math.cos(math.radians(angle))
        dy = distance * math.sin(math.radians(angle))
        tried = {
          'xytext': (dx, dy),
          'ha': 'center' if abs(dx) < 1 else 'left' if dx > 0 else 'right',
          'va': 'center' if abs(dy) < 1 else 'bottom' if dy > 0 else 'top',
        }
        note = self._write(text, x, y, tried | options)
        cost = distance / 100 + self._cost(
          note.get_window_extent(self.renderer)
        )
        note.remove()
        if cost < least:
          least, best = cost, tried
    note = self._write(text, x, y, best | options)
    self.boxes.append(note.get_window_extent(self.renderer))

  def _write(self, text, x, y, options):
    return self.ax.annotate(text, (x, y), textcoords='offset points', **options)

  def _cost(self, box):
    inside = self.ax.get_window_extent()
    out = (
      max(inside.x0 - box.x0, 0)
      + max(box.x1 - inside.x1, 0)
      + max(inside.y0 - box.y0, 0)
      + max(box.y1 - inside.y1, 0)
    )
    hit = sum(box.padded(3).contains(*p) for p in self.taken)
    over = sum(box.overlaps(other) for other in self.boxes)
    return out + 3 * hit + 5 * over
