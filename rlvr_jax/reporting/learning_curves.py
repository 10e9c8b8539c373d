"""Which learning curves does a page show, smoothed and with which bands?"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rlvr_jax.reporting import pages, plots
from rlvr_jax.reporting.run_reader import series

_PLACES = 'sampler_trainer/logp_diff_by_position/'


def curve(group: Any, name: str, label: str, color: int) -> list[plots.Line]:
  """The line of a metric over the steps; none where no run has it.

  Smoothed over a thirtieth of the steps; with the band from the lowest to the
  highest seed, or, of a single run, the values themselves.

  Args:
    group: runs whose configs differ in the seed alone.
  """
  points = series(group.runs, name)
  if points is None:
    return []
  steps, values = points
  window = max(1, len(steps) // 30)
  with warnings.catch_warnings():
    # NumPy warns of a step where no seed has a value; it stays NaN, a gap.
    warnings.simplefilter('ignore', RuntimeWarning)
    mean = np.nanmean(values, 0)
    low, high = np.nanmin(values, 0), np.nanmax(values, 0)
  low, high, smooth = (plots.smooth(v, window) for v in (low, high, mean))
  if len(values) > 1:
    return [plots.Line(label, steps, smooth, low, high, color=color)]
  raw = mean if window > 1 else None
  return [plots.Line(label, steps, smooth, raw=raw, color=color)]


def panels(groups: Sequence[Any]) -> Iterator[pages.Figure]:
  """The figures of a page, one for each panel that has data."""
  names = dict.fromkeys(
    k for g in groups for r in g.runs for x in r.metrics for k in x
  )
  rewards = sorted(k for k in names if k.startswith('rewards/'))
  places = sorted(
    (k for k in names if k.startswith(_PLACES)),
    key=lambda k: int(k.removeprefix(_PLACES).partition('-')[0]),
  )
  share: dict[str, Any] = {'percent': True}
  panels: list[tuple[str, list[str], dict[str, Any]]] = [
    ('Reward', ['reward'], {}),
    ('Reward parts', rewards, {}),
    ('Training accuracy', ['accuracy'], share),
    (
      'Groups without signal',
      ['frac_reward_zero_std', 'frac_groups_all_fail', 'frac_groups_all_pass'],
      share,
    ),
    ('Entropy', ['entropy'], {'unit': 'nats per token'}),
    ('KL from the reference', ['kl'], {'unit': 'nats per token'}),
    ('Completion length', ['completions/mean_length'], {'unit': 'tokens'}),
    ('Cut at the length limit', ['completions/clipped_ratio'], share),
    ('Gradient norm', ['grad_norm'], {}),
    (
      'Sampler against trainer, largest log-prob difference',
      ['sampler_trainer/logp_diff_max'],
      {'log': True, 'unit': 'nats'},
    ),
    (
      'Sampler against trainer, mean difference by token of the row',
      places,
      {'log': True, 'unit': 'nats'},
    ),
    (
      'Time per step',
      [
        'timing_s/rollout',
        'timing_s/overlap',
        'timing_s/reward',
        'timing_s/update',
      ],
      {'unit': 'seconds', 'stacked': True},
    ),
  ]
  if 'signal/live' in names:  # `signal_panel` shows them
    panels = [p for p in panels if p[0] != 'Groups without signal']
  for title, metrics, options in panels:
    if len(groups) == 1:
      lines = []
      for m in metrics:
        lines += curve(groups[0], m, m.rpartition('/')[2], len(lines))
      charts = {title: lines}
      if len({len(n.x) for n in lines}) > 1:  # cannot be stacked
        options = options | {'stacked': False}
    else:
      options = options | {'stacked': False}
      charts = {
        f'{title}: {m}' if len(metrics) > 1 else title: [
          n for i, g in enumerate(groups) for n in curve(g, m, g.label, i)
        ]
        for m in metrics
      }
    note = 'Steps that compile programs may go beyond the axis.'
    for name, lines in charts.items():
      if lines:
        yield pages.Figure(
          name,
          plots.chart(lines, **options),
          note if options.get('stacked') else '',
        )
