"""What does the report say about a run's signal map? A picture and a table."""

import math
import os
from collections.abc import Sequence
from typing import Any

from rlvr_jax.reporting import (
  pages,
  signal_lines,
  signal_names,
  signal_story,
)
from rlvr_jax.reporting.signal_lines import Cell, Map

HEAD = (
  'signal',
  'rollouts needed (95 %)',
  'tokens needed',
  'agreement ω',
  'root',
  'cos within',
  'top 1 %',
)
WORDS = (
  (
    'Rollouts needed',
    'how large a batch must be for its gradient to be as loud as its noise '
    '(the noise scale N); “not found” means that no gradient shared by the '
    'problems could be told from 0. Tokens needed are N times the tokens of a '
    'rollout.',
  ),
  (
    'Agreement ω',
    'how far different problems ask for the same change: 1 if all do, 0 if each '
    'asks for its own. A problem alone needs about N times ω rollouts.',
  ),
  (
    'Root',
    'the expected cosine of the gradient of one batch with the true gradient of '
    'the pass rate, ± 2 standard errors: 1 is the best step, 0 is no progress, '
    'below 0 the policy gets worse.',
  ),
  (
    'Cos within',
    'the cosine of the expected gradients of each problem by itself, without '
    'noise: near 1 where a signal points the right way on every problem.',
  ),
  (
    'Top 1 %',
    'the share of all squared gradient norms in 1 % of the groups. Above a half '
    'a few rollouts own the noise, and no number of this line is sure.',
  ),
)


def section(dirs: Sequence[str | os.PathLike]) -> dict[str, Any] | None:
  """{figure, sentence, caption, head, rows, words}; None without a map.

  The table is of the last checkpoint of the run, or of the last run.

  Args:
    dirs: of the runs of the page.
  """
  measured = [d for d in dirs if signal_lines.lines(d)]
  if not measured:
    return None
  from rlvr_jax.reporting import signal_plot  # and matplotlib: see `plots`

  drawn = signal_lines.read(measured)
  main = signal_plot.plan(drawn).main
  cell = drawn.cells[-1]
  state = signal_story.read(drawn, main).states[-1]
  several = len({c.run for c in drawn.cells}) > 1
  run = f'{cell.run}, ' if several else ''
  return {
    'figure': pages.Figure('', signal_plot.source(drawn), wide=True),
    'sentence': signal_story.of_cell(cell, main, state, drawn.batch),
    'caption': f'{run}step {cell.step}, pass rate '
    f'{signal_story.percent(cell.p)}',
    'head': list(HEAD),
    'rows': _rows(drawn, cell),
    'words': WORDS,
  }


def _rows(drawn: Map, cell: Cell) -> list[list[str]]:
  names = signal_names.names(drawn.signals)
  number = lambda x, form: 'n/a' if not math.isfinite(x) else format(x, form)
  rows = []
  for signal, f in cell.points.items():
    known = not math.isnan(f.low) or math.isfinite(f.high)
    high = '∞' if math.isinf(f.high) else signal_story.rollouts(f.high)
    interval = f' ({signal_story.rollouts(f.low)} to {high})'
    rows.append(
      [
        names[signal],
        signal_story.rollouts(f.n) + (interval if known else ''),
        signal_story.rollouts(f.n * f.tokens),
        number(f.omega, '.2g'),
        number(f.root, '+.2f') + _error(f.root_se),
        number(f.cos_within, '+.2f'),
        number(f.largest, '.0%'),
      ]
    )
  return rows


def _error(se: float) -> str:
  """Half of a 95% interval."""
  return f' ± {2 * se:.2f}' if math.isfinite(se) else ''
