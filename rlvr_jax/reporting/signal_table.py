"""What are the numbers of the signal map? A Markdown table."""

import math
from collections.abc import Sequence

from rlvr_jax.reporting import signal_names, signal_plot
from rlvr_jax.reporting import signal_story as story
from rlvr_jax.reporting.signal_lines import Map, Point


def table(drawn: Map, signals: Sequence[str]) -> str:
  """A row for each checkpoint: of the main signal all, of others N and root.

  Args:
    signals: texts of further signals, columns in this order.

  Raises:
    ValueError: one of them is nowhere on the map.
  """
  main = signal_plot.plan(drawn).main
  for signal in signals:
    if signal not in drawn.signals:
      raise ValueError(
        f'No checkpoint has the signal {signal!r}. There are: '
        f'{"; ".join(drawn.signals)}.'
      )
  names = signal_names.names(drawn.signals)
  head = [
    'run',
    'step',
    'pass rate',
    'one problem',
    'ω',
    f'{names[main]}: N, root',
    *(f'{names[s]}: N, root' for s in signals),
  ]
  rows = [head, ['---'] * len(head)]
  for cell in drawn.cells:
    point = cell.points.get(main)
    alone = 'n/a' if point is None else story.rollouts(point.alone)
    omega = 'n/a' if point is None else _omega(point)
    rows.append(
      [
        cell.run,
        str(cell.step),
        f'{cell.p:.3f}',
        alone,
        omega,
        _cell(point, interval=True),
        *(_cell(cell.points.get(s)) for s in signals),
      ]
    )
  return '\n'.join(f'| {" | ".join(row)} |' for row in rows) + '\n'


def _omega(point: Point) -> str:
  if not math.isfinite(point.omega):
    return 'n/a'
  known = math.isfinite(point.omega_se)
  return f'{point.omega:.3f}' + (
    f' ± {2 * point.omega_se:.3f}' if known else ''
  )


def _cell(point: Point | None, interval: bool = False) -> str:
  """'330 (230 to 480), +.66'."""
  if point is None:
    return ''
  out = story.rollouts(point.n)
  if interval and math.isfinite(point.low):
    high = '∞' if math.isinf(point.high) else story.rollouts(point.high)
    out += f' ({story.rollouts(point.low)} to {high})'
  root = f'{point.root:+.2f}' if math.isfinite(point.root) else 'n/a'
  return f'{out}, {root}'
