"""What does the signal map look like? One picture of one or several runs."""

import base64
import io
import os
import pathlib
from typing import Any, NamedTuple

import matplotlib
from matplotlib import figure, lines

from rlvr_jax.reporting import signal_curves, signal_marks, signal_names
from rlvr_jax.reporting.signal_lines import PASS_RATE, Map
from rlvr_jax.reporting.signal_marks import FAINT, INK, SOFT, Style

MOST = 7  # signals beside the main one in the large panel
_WIDTH = 15.0  # inches
_RC: dict[Any, Any] = {
  'svg.hashsalt': 'rlvr_jax',
  'font.family': 'DejaVu Sans',
  'font.size': 10,
  'text.color': INK,
  'axes.labelcolor': INK,
  'axes.edgecolor': FAINT,
  'xtick.color': SOFT,
  'ytick.color': SOFT,
}


class Plan(NamedTuple):
  """Which signal is drawn where.

  Attributes:
    main: the outcome reward, or the first signal.
    large: those of the large panel, `main` first.
    families: by title, the signals of a family that has others than these.
    controls: those that say nothing, or the opposite of the outcome.
    styles: of each signal.
  """

  main: str
  large: list[str]
  families: dict[str, list[str]]
  controls: list[str]
  styles: dict[str, Style]


def save(drawn: Map, stem: str | os.PathLike) -> list[pathlib.Path]:
  """Writes STEM.svg and STEM.png, each atomically; returns their paths.

  Raises:
    ValueError: there is nothing to draw.
    OSError: a file cannot be written.
  """
  paths = []
  for kind in ('svg', 'png'):
    path = pathlib.Path(f'{os.fspath(stem)}.{kind}')
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + '.tmp')
    temporary.write_bytes(picture(drawn, kind))
    os.replace(temporary, path)
    paths.append(path)
  return paths


def source(drawn: Map) -> str:
  """An `<img>` source: `data:image/svg+xml;base64,...`."""
  encoded = base64.b64encode(picture(drawn, 'svg')).decode()
  return f'data:image/svg+xml;base64,{encoded}'


def picture(drawn: Map, kind: str) -> bytes:
  """The bytes of the picture, 'svg' or 'png'."""
  out = io.BytesIO()
  metadata = {'Date': None} if kind == 'svg' else {}
  with matplotlib.rc_context(_RC):
    fig = draw(drawn)
    fig.savefig(out, format=kind, dpi=130, facecolor='white', metadata=metadata)
  return out.getvalue()


def plan(drawn: Map) -> Plan:
  """Says which signal is drawn where, and as what.

  All are in the large panel if these are few. Else it has one of each reward,
  and small panels have the families of the others.
  """
  signals = drawn.signals
  controls = [s for s in signals if signal_names.family(s) == 'control']
  rest = [s for s in signals if s not in controls] or signals
  main = next(filter(signal_names.is_main, rest), rest[0])
  controls = [s for s in controls if s != main]
  others = [s for s in rest if s not in (main, *controls)]
  chosen = others
  if len(others) > MOST:
    rewards: dict[str, str] = {}
    for s in others:
      if signal_names.kind(s) != signal_names.kind(main):
        rewards.setdefault(signal_names.kind(s), s)
    chosen = (list(rewards.values()) or others)[:MOST]
  families: dict[str, list[str]] = {}
  for key, title in signal_names.FAMILIES.items():
    members = [s for s in others if signal_names.family(s) == key]
    if set(members) - set(chosen):
      families[title] = members
  return Plan(
    main,
    [main, *chosen],
    families,
    controls,
    _styles(signals, [main, *chosen], families, controls),
  )


def _styles(signals, large, families, controls):
  names = signal_names.names(signals)
  colors, markers = signal_marks.COLORS, signal_marks.MARKERS
  styles = {
    s: Style(colors[i % len(colors)], markers[i % len(markers)], names[s])
    for i, s in enumerate(large)
  }
  for members in families.values():
    for s in members:
      # Those of one small panel differ in colour while there are colours.
      taken = [styles[m].color for m in members if m in styles]
      color = min(colors[1:], key=taken.count)
      marker = markers[len(styles) % len(markers)]
      styles.setdefault(s, Style(color, marker, names[s]))
  for i, s in enumerate(controls):
    styles[s] = Style(SOFT, markers[-1 - i % len(markers)], names[s])
  return styles


def draw(drawn: Map) -> figure.Figure:
  """The figure.

  Raises:
    ValueError: there is nothing to draw.
  """
  if not drawn.cells:
    raise ValueError(
      'There is no signal map to draw: measure one with scripts/signal_map.py.'
    )
  p = plan(drawn)
  columns = min(len(p.families), 4)
  rows = -(-len(p.families) // 4)
  head, large, small, foot = 1.5, 5.75, 3.0, 1.05
  height = head + large + small * rows + foot
  fig = figure.Figure(figsize=(_WIDTH, height))

  def place(x, y, width, tall):
    """Axes with their upper left corner at x, y inches."""
    box = (x, height - y - tall, width, tall)
    sides = (_WIDTH, height) * 2
    return fig.add_axes(tuple(v / side for v, side in zip(box, sides)))

  _heading(fig, drawn, height)
  of = lambda signals: {s: p.styles[s] for s in signals}
  signal_curves.needed(place(1.0, head, 6.2, large), drawn, of(p.large), p.main)
  own = drawn, p.styles[p.main], p.main
  right, wide = 9.85, 3.4
  signal_curves.alone(place(right, head, wide, 1.15), *own)
  signal_curves.agreement(place(right, head + 1.85, wide, 1.15), *own)
  signal_curves.direction(
    place(right, head + 3.7, wide, large - 3.7),
    drawn,
    of([*p.large, *p.controls]),
    p.controls,
    p.main,
  )
  for i, (title, members) in enumerate(p.families.items()):
    row, column = divmod(i, 4)
    each = 14.6 / columns
    ax = place(
      0.75 + column * each,
      head + large + 1.1 + row * small,
      each - 2.35,
      small - 1.15,
    )
    short = {
      s: style._replace(name=signal_names.short(s, p.main, style.name))
      for s, style in of(members).items()
    }
    signal_curves.akin(ax, drawn, short, p.main, title)
  _key(fig, drawn, height)
  return fig


def _heading(fig, drawn, height):
  """The question, and what was measured."""
  write = lambda x, y, text, **options: fig.text(
    x / _WIDTH, 1 - y / height, text, parse_math=False, **options
  )
  question = 'When does a training signal say something?'
  write(1.0, 0.48, question, fontsize=19, fontweight='bold')
  count = len(drawn.cells)
  runs = signal_marks.clean(', '.join(dict.fromkeys(c.run for c in drawn.cells)), 90)  # fmt: skip
  what = (
    'Rollouts that a batch needs until the gradient of a signal stands out of '
    f'its sampling noise, at {count} checkpoint{"s" * (count > 1)}'
  )
  write(1.0, 0.8, f'{what}: {runs}', fontsize=10.5, color=SOFT)
  why = 'Why?  A ≈ B ÷ C: what one problem needs, over how far problems agree'
  write(9.2, 1.12, why, fontsize=10, color=SOFT, style='italic')


def _key(fig, drawn, height):
  """How to read the marks, in one line."""
  each = any(f.each for c in drawn.cells for f in c.points.values())
  hollow = {'markerfacecolor': 'white', 'markeredgewidth': 1.5}
  marks: list[tuple[dict, str]] = [
    ({}, 'points the right way'),
    (hollow, 'hollow: points away, training on it makes the policy worse'),
    ({'alpha': 0.35}, 'faint: no sure direction'),
    (
      {'marker': '|', 'markersize': 13},
      'bar: range of the seeds' if each else 'bar: 95% interval',
    ),
  ]
  runs = [c.run for c in drawn.cells]
  if drawn.across == PASS_RATE and len(set(runs)) < len(runs):
    marks.append(({'marker': '>', 'linestyle': '-'}, 'arrow: training'))
  if len(set(runs)) > 1:
    marks.append(({'marker': '', 'linestyle': '--'}, 'dashed: another run'))
  base = {'color': SOFT, 'linestyle': 'none', 'marker': 'o', 'markersize': 7}
  fig.legend(
    [lines.Line2D([], [], **(base | mark)) for mark, _ in marks],
    [text for _, text in marks],
    loc='center left',
    bbox_to_anchor=(0.75 / _WIDTH, 0.25 / height),
    ncols=len(marks),
    frameon=False,
    fontsize=9.5,
    labelcolor=SOFT,
    handletextpad=0.4,
    columnspacing=1.6,
    handlelength=1.6,
  )
