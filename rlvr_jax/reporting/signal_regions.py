"""What surrounds the curves of the signal map: regions, bars, words."""

import itertools
import math
from typing import Any

import numpy as np

from rlvr_jax.reporting import signal_marks, signal_story
from rlvr_jax.reporting.signal_marks import INK, SOFT, Rollouts, Style
from rlvr_jax.reporting.signal_story import Story
from rlvr_jax.reporting.signal_tracks import Track

RARE, HEARD, PRIVATE = '#d55e00', '#009e73', '#7a5195'
_MOST = 16  # checkpoints that have a word each


def shade(track: Track, signal: str, y: Rollouts, story: Story) -> None:
  """Colours where the signal is too rare, heard and private, and says so."""
  ax, batch = track.ax, track.drawn.batch
  if math.isnan(batch):
    return
  line = float(y.place(batch))
  left, right = ax.get_xlim()
  pad = 0.012 * (right - left)
  ax.axhspan(y.low, line, color=HEARD, alpha=0.09, linewidth=0)
  ax.axhline(line, color=INK, linewidth=1.4, zorder=3)
  heard, start = 'HEARD: one batch is enough', left
  if track.rates and math.isfinite(story.heard_from):
    start = float(signal_marks.log_odds(story.heard_from))
    dash: dict[str, Any] = {'linewidth': 1.2, 'linestyle': '--', 'zorder': 2}
    ax.plot([start, start], [y.low, line], color=HEARD, **dash)
    rate = signal_story.percent(story.heard_from)
    heard = f'HEARD: one batch is enough,\nfrom a pass rate of {rate}'
  side = 'right' if start > (left + right) / 2 else 'left'
  at = start - pad if side == 'right' else start + pad
  bottom = y.low + 0.012 * (y.top - y.low)
  _say(ax, at, bottom, heard, HEARD, side, 'bottom')
  if not track.rates:
    return
  box = lambda a, b, color: ax.fill_between(
    [a, b], line, y.roof, color=color, alpha=0.09, linewidth=0, zorder=0
  )
  under = y.roof - 0.01 * (y.top - y.low)
  of = lambda state: [
    c for c, s in zip(track.drawn.cells, story.states) if s == state
  ]
  rare, private = of(signal_story.RARE), of(signal_story.PRIVATE)
  if rare:
    end = max(map(track.x, rare)) + 0.3
    if math.isfinite(story.heard_from):
      end = float(signal_marks.log_odds(story.heard_from))
    box(left, end, RARE)
    words = 'TOO RARE\nsuccesses are seen,\nbut not heard'
    _say(ax, left + pad, under, words, RARE, 'left', 'top')
  if private:
    start = min(map(track.x, private))
    others = [track.x(c) for c in track.drawn.cells if c not in private]
    before = [x for x in others if x < start]
    start -= min(0.3, (start - max(before)) / 2) if before else 0.3
    box(start, right, PRIVATE)
    omega = min(c.points[signal].omega for c in private)
    agree = f'ω = {omega:.2g}' if omega > 0 else 'ω about 0'
    words = f'PRIVATE\nproblems no longer agree\non what to change ({agree})'
    _say(ax, right - pad, under, words, PRIVATE, 'right', 'top')


def _say(ax, x, y, text, color, ha, va):
  signal_marks.write(
    ax,
    x,
    y,
    text,
    color=color,
    ha=ha,
    va=va,
    fontsize=10,
    fontweight='bold',
    linespacing=1.25,
    zorder=7,
  )


def bars(track: Track, signal: str, style: Style, y: Rollouts) -> None:
  """The interval of each point; an arrow head where it has no upper end."""
  line: dict[str, Any] = {'color': style.color, 'alpha': 0.5, 'zorder': 3}
  for c in track.drawn.cells:
    f = c.points.get(signal)
    if f is None or math.isnan(f.low) or math.isnan(f.high):
      continue
    low, high = (float(y.place(v)) for v in (f.low, f.high))
    x, end = track.x(c), min(high, y.roof)
    track.ax.plot([x, x], [low, end], linewidth=1.6, **line)
    if high > y.roof:
      head: dict[str, Any] = {
        'marker': '^',
        'markersize': 5,
        'linestyle': 'none',
      }
      track.ax.plot([x], [end], **head, **line)


def seen(track: Track, y: Rollouts) -> None:
  """1/p: rollouts until one success turns up."""
  ax = track.ax
  if track.rates:
    at = np.linspace(*ax.get_xlim(), 200)
    line = np.log10(1 + np.exp(-at))
  else:
    cells = sorted((c for c in track.drawn.cells if c.p > 0), key=track.x)
    at = np.array([track.x(c) for c in cells])
    line = -np.log10([c.p for c in cells])
  inside = np.flatnonzero((line > y.low) & (line < y.head))
  if not len(inside):
    return
  ax.plot(at[inside], line[inside], ':', color=INK, linewidth=1.5, zorder=2)
  i = inside[len(inside) // 20]
  signal_marks.write(
    ax,
    at[i],
    line[i],
    '  a success is seen: 1 / pass rate',
    fontsize=8.5,
    va='bottom',
    color=SOFT,
    style='italic',
    zorder=7,
  )


def steps(track: Track, signal: str) -> None:
  """Says which checkpoint each point of the signal is."""
  drawn = track.drawn
  several = len({c.run for c in drawn.cells}) > 1
  trained = len({c.step for c in drawn.cells}) > 1
  every = [
    point[:2] for s in drawn.signals for point in track.points(drawn.cells, s)
  ]
  for path in track.paths:
    ends = [point[:2] for point in track.points(path, signal)]
    every += [
      (a + t * (c - a), b + t * (d - b))
      for (a, b), (c, d) in itertools.pairwise(ends)
      for t in np.linspace(0.1, 0.9, 12)
    ]
  notes = signal_marks.Notes(track.ax, every)
  for path in track.paths:
    for i, c in enumerate(path):
      words = [signal_marks.clean(c.run, 26)] if several and not i else []
      if (len(path) > 1 or not several) if track.rates else trained:
        words.append(f'step {c.step}')
      text = '\n'.join(filter(None, words))
      if text and (not i or len(drawn.cells) <= _MOST):
        for x, y, _ in track.points([c], signal):
          notes.add(x, y, text, fontsize=8.5, color=INK)
