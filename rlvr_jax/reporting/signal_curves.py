"""What is in each panel of the signal map?"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import axes, transforms

from rlvr_jax.reporting import (
  signal_marks,
  signal_names,
  signal_regions,
  signal_story,
)
from rlvr_jax.reporting.signal_lines import Map
from rlvr_jax.reporting.signal_marks import FAINT, INK, SOFT, Style
from rlvr_jax.reporting.signal_tracks import Track


def needed(
  ax: axes.Axes, drawn: Map, styles: dict[str, Style], main: str
) -> None:
  """The large panel: rollouts until a batch is heard, of all of `styles`."""
  y = _rollouts(ax, drawn, list(styles), main)
  track = Track(ax, drawn, lambda f: f.n, y.place)
  story = signal_story.read(drawn, main)
  signal_regions.shade(track, main, y, story)
  for s in reversed(styles):
    bold = s == main
    size = 9.5 if bold else 5.5
    track.curve(s, styles[s], bold=bold, arrows=bold, size=size, seeds=True)
  signal_regions.bars(track, main, styles[main], y)
  signal_regions.seen(track, y)
  beside = [(*track.last(s), style) for s, style in styles.items()]
  if math.isfinite(drawn.batch):
    words = f'one batch: {drawn.batch:,.0f} rollouts'
    at = ax.get_xlim()[1], float(y.place(drawn.batch))
    beside.append((*at, Style(INK, '_', words)))
  signal_marks.beside(ax, beside, fontsize=9.5, width=21)
  _frame(ax)
  under(
    ax,
    'rollouts in a batch until a signal is as loud as its noise: '
    'lower is better',
  )
  ax.set_xlabel(track.label())
  signal_regions.steps(track, main)
  headline = signal_story.headline(drawn, story, styles[main].name)
  title(ax, f'A  {headline}', size=13, weight='bold', pad=23)


def akin(
  ax: axes.Axes,
  drawn: Map,
  styles: dict[str, Style],
  main: str,
  family: str,
) -> None:
  """A small panel of the same: signals of one kind, `main` behind them."""
  y = _rollouts(ax, drawn, [main, *styles], None)
  track = Track(ax, drawn, lambda f: f.n, y.place)
  if math.isfinite(drawn.batch):
    ax.axhline(float(y.place(drawn.batch)), color=INK, linewidth=0.9, zorder=2)
  behind = Style('#aab1bf', 'o', signal_names.name(main))
  track.curve(main, behind, bold=True, size=7.0)
  for s in reversed(styles):
    track.curve(s, styles[s], size=6.0)
  beside = [(*track.last(s), style) for s, style in styles.items()]
  beside.append((*track.last(main), behind._replace(color=SOFT)))
  signal_marks.beside(ax, beside, fontsize=8.5, width=19)
  _frame(ax)
  ax.set_xlabel(track.label(), fontsize=9)
  ax.tick_params(labelsize=8.5)
  best = signal_story.cheapest(drawn, list(styles), main)
  if best:
    s, ratio = best
    name = signal_marks.clean(styles[s].name, 26)
    under(ax, f'least: {name}, {ratio:.2g} x outcome')
  title(ax, family, pad=22 if best else 7)


def alone(ax: axes.Axes, drawn: Map, style: Style, main: str) -> None:
  """Rollouts until one problem is heard, measured and by the closed form."""
  found = [c.points[main] for c in drawn.cells if main in c.points]
  n = [v for f in found for v in (f.alone, f.theory) if math.isfinite(v)]
  y = signal_marks.Rollouts(ax, n)
  track = Track(ax, drawn, lambda f: f.alone, y.place)
  track.curve(main, style, bold=True, arrows=True, size=8.0)
  theory = Track(ax, drawn, lambda f: f.theory, y.place)
  for a, b, _ in theory.points(drawn.cells, main):
    bar: dict[str, Any] = {
      'markersize': 15,
      'markeredgewidth': 2.0,
      'zorder': 7,
    }
    ax.plot([a], [b], marker='_', color=INK, linestyle='none', **bar)
  beside = [(*track.last(main), style._replace(name='measured'))]
  if theory.points(drawn.cells, main):
    last = theory.last(main)
    beside.append((*last, Style(INK, '_', 'predicted by theory')))
  signal_marks.beside(ax, beside, fontsize=8.5, width=16)
  _frame(ax)
  _label(ax, 'rollouts for\none problem')
  words = 'What one problem needs on its own'
  ends = sorted((c.p, c.points[main].alone) for c in drawn.cells
                if main in c.points and c.points[main].alone > 0)  # fmt: skip
  if track.rates and len(ends) > 2 and ends[-1][1] < ends[0][1] / 2:
    words = 'One problem alone gets louder with success ...'
  title(ax, f'B  {words}')


def agreement(ax: axes.Axes, drawn: Map, style: Style, main: str) -> None:
  """Omega: 1 where all problems ask for the same change."""
  found = [(c.p, c.points[main]) for c in drawn.cells if main in c.points]
  omegas = [(p, f.omega) for p, f in found if math.isfinite(f.omega)]
  positive = [math.log10(min(w, 10.0)) for _, w in omegas if w > 0]
  low = max(min(math.floor(min(positive, default=-1) - 0.15), -1), -5)
  high = max(0.15, max(positive, default=0.0) + 0.1)

  def place(w):
    w = np.asarray(w, float)
    y = np.log10(np.maximum(w, 10.0**low))
    return np.where(np.isnan(w), np.nan, np.clip(y, low, high))

  ax.set_ylim(low - 0.2, high)
  ticks = range(low, math.floor(high) + 1)
  words = [f'{10.0**t:g}' if t > low else f'<{10.0**t:g}' for t in ticks]
  ax.set_yticks(list(ticks), words)
  track = Track(ax, drawn, lambda f: f.omega, place)
  for a, _, f in track.points(drawn.cells, main):
    ends = f.omega + 2 * f.omega_se * np.array([-1, 1])
    ax.plot([a, a], place(ends), color=style.color, alpha=0.45, linewidth=1.3)
  track.curve(main, style, bold=True, arrows=True, size=8.0)
  for at, text, va in (
    (1.0, 'all problems ask\nfor the same change', 'top'),
    (0.0, 'each problem asks\nfor its own', 'bottom'),
  ):
    place_of: dict[str, Any] = {'transform': ax.transAxes, 'va': va}
    ax.text(1.02, at, text, fontsize=8.5, color=SOFT, **place_of)
  _frame(ax)
  _label(ax, 'agreement ω\nof problems')
  title(ax, f'C  {_agreement_words(omegas if track.rates else [])}')


def _agreement_words(omegas):
  if len(omegas) > 1:
    most = max(omegas, key=lambda k: k[1])
    least = min((k for k in omegas if k[0] >= most[0]), key=lambda k: k[1])
    if least[1] <= 0 < most[1]:
      return '... but in the end problems agree on nothing'
    if most[1] > 3 * least[1]:
      times = most[1] / least[1]
      return f'... but problems agree {times:.0f} times less in the end'
  return 'How far problems agree on what to change'


def direction(
  ax: axes.Axes,
  drawn: Map,
  styles: dict[str, Style],
  controls: Sequence[str],
  main: str,
) -> None:
  """Expected cosine of a batch's gradient with the true one."""
  ax.set_ylim(-1.05, 1.05)
  track = Track(ax, drawn, lambda f: f.root, lambda w: np.clip(w, -1, 1))
  ax.axhspan(
    -1.05, 0, color=signal_regions.RARE, alpha=0.06, linewidth=0, zorder=0
  )
  _silence(track, controls)
  ax.axhline(0, color=INK, linewidth=0.9, zorder=2)
  for s in reversed(styles):
    bold, lines = s == main, s not in controls
    size = 7.5 if bold else 5.5
    track.curve(s, styles[s], bold=bold, joined=lines, size=size)
  beside = []
  for s, style in styles.items():
    x, y = track.last(s)
    unknown = style._replace(name=f'{style.name}: none')
    beside.append((x, y, unknown if math.isnan(y) else style))
  signal_marks.beside(ax, beside, fontsize=8.5, width=21)
  _frame(ax)
  ax.set_yticks([-1, -0.5, 0, 0.5, 1])
  _label(ax, 'expected cosine with\nthe true gradient')
  ax.set_xlabel(track.label())
  sure = lambda f: f.root < 0 and not f.faint(drawn.batch)
  away = any(
    sure(c.points[s])
    for c in drawn.cells
    for s in styles
    if s in c.points and s not in controls
  )
  batch = 'one batch'
  if math.isfinite(drawn.batch):
    batch = f'a batch of {drawn.batch:,.0f}'
  words = ': some signals step back' if away else ' (1: the best step)'
  title(ax, f'D  What {batch} buys{words}')


def _silence(track, controls):
  """The band in which a signal that says nothing stands."""
  half: dict[float, float] = {}
  for s in controls:
    if signal_names.kind(s) in signal_names.SILENT:
      for a, _, f in track.points(track.drawn.cells, s):
        if math.isfinite(f.root_se):
          half[a] = max(half.get(a, 0.0), 2 * f.root_se)
  if half:
    x = sorted(half)
    low, high = track.ax.get_xlim()
    y = np.array([half[x[0]], *(half[a] for a in x), half[x[-1]]])
    band = {'color': SOFT, 'alpha': 0.25, 'linewidth': 0, 'zorder': 1}
    track.ax.fill_between([low, *x, high], -y, y, **band)


def _rollouts(ax, drawn, signals, main):
  """The y axis of rollouts that holds all numbers of the signals."""
  found = [c.points[s] for c in drawn.cells for s in signals if s in c.points]
  n = [v for f in found for v in (f.n, *f.each)]
  strip = any(map(math.isinf, n))
  if main:
    own = [c.points[main] for c in drawn.cells if main in c.points]
    n += [v for f in own for v in (f.low, f.high) if v < math.inf]
  if math.isfinite(drawn.batch):
    n += [drawn.batch]
  room = {'above': 0.11, 'below': 0.09} if main else {}
  words = 'too quiet' + '\nto measure' * bool(main)
  return signal_marks.Rollouts(ax, n, strip=words if strip else '', **room)


def under(ax: axes.Axes, text: str) -> None:
  """A line below the title."""
  shift = transforms.ScaledTranslation(0, 6 / 72, ax.figure.dpi_scale_trans)
  ax.text(
    0, 1, text, fontsize=9, color=SOFT, parse_math=False,
    transform=ax.transAxes + shift,
  )  # fmt: skip


def title(ax: axes.Axes, text: str, **options) -> None:
  """The one sentence to take away from a panel."""
  options = {'size': 11, 'parse_math': False, 'pad': 7} | options
  ax.set_title(text, loc='left', **options)


def _label(ax, text):
  """Of the y axis, at one place in all panels of the right column."""
  ax.set_ylabel(text)
  inches = ax.get_window_extent().width / ax.get_figure().dpi
  ax.yaxis.set_label_coords(-0.6 / inches, 0.5)


def _frame(ax):
  ax.spines[['top', 'right']].set_visible(False)
  ax.grid(True, axis='y', color=FAINT, alpha=0.5, linewidth=0.6)
  ax.set_axisbelow(True)
  ax.tick_params(length=3)
