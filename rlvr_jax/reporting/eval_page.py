"""What is in the report's section on evaluations?"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from rlvr_jax.reporting import pages, plots
from rlvr_jax.reporting.run_reader import Group, number, series

MOST = 8  # evaluations whose curves are plotted, the last ones


def section(groups: Sequence[Group]) -> dict:
  """{figures, head, rows}: plots, and a table of all metrics.

  The columns of one config are its first and last evaluation; of several
  configs, the last evaluation of each.
  """
  columns = []
  for g in groups:
    if len(groups) > 1:
      columns.append((g.label, _means(g.runs, -1)))
    else:
      columns += [('before', _means(g.runs, 0)), ('after', _means(g.runs, -1))]
  columns += _added(groups)
  names = dict.fromkeys(
    k for _, c in columns for k in c if re.match(r'eval/(?!.*_(low|high)$)', k)
  )
  return {
    'figures': figures(_evaluations(groups)),
    'head': ['', *(h for h, _ in columns)],
    'rows': [
      [n.removeprefix('eval/'), *(_cell(c, n) for _, c in columns)]
      for n in names
    ],
  }


def figures(evaluations: Sequence[tuple[str, Mapping]]) -> list[pages.Figure]:
  """Plots of evaluations (name, line of eval.jsonl) that have the data.

  pass@k with its band, risk over coverage, reliability diagrams, and
  histograms of solve rates.
  """
  has = lambda e: _budgets(e) or any(k.startswith('curves/') for k in e)
  plotted = list(enumerate([(n, e) for n, e in evaluations if has(e)][-MOST:]))
  out = []
  budgets = [
    plots.Line(name, *_budgets(e), color=i)
    for i, (name, e) in plotted
    if _budgets(e)
  ]
  if budgets:
    source = plots.chart(budgets, percent=True, across='k')
    note = 'Unbiased estimates, 95 % intervals over problems.'
    out.append(pages.Figure('pass@k', source, note))
  curves = lambda kind: [
    (i, name, {k: _array(x) for k, x in e[f'curves/{kind}'].items()})
    for i, (name, e) in plotted
    if isinstance(e.get(f'curves/{kind}'), dict)
  ]
  risks = [
    plots.Line(name, c['coverage'], c['risk'], color=i)
    for i, name, c in curves('risk_coverage')
  ]
  if risks:
    source = plots.chart(risks, percent=True, across='share answered')
    note = 'Error rate if only the most confident answers count.'
    out.append(pages.Figure('Risk and coverage', source, note))
  for i, name, c in curves('reliability'):
    count = c.pop('count').astype(int)
    source = plots.reliability(count, **c, index=i)
    note = f'{count.sum()} statements; grey bars count them.'
    out.append(pages.Figure(f'Reliability: {name}', source, note))
  for i, name, c in curves('solve_rates'):
    labels = ['0', *(f'≤{x / 10:g}' for x in range(1, 11))]
    source = plots.bars(c['count'].astype(int), labels, index=i)
    note = 'Problems by the share of their samples that is right.'
    out.append(pages.Figure(f'Solve rates: {name}', source, note))
  return out


def _evaluations(groups):
  """(name, line) of evaluations: first and last of the first run of one
  config, or last of each config; then those of scripts/evaluate.py."""
  out = []
  for g in groups:
    evals = g.runs[0].evals
    if len(groups) > 1:
      out += [(g.label, e) for e in evals[-1:]]
    else:
      ends = evals[:1] + evals[1:][-1:]
      out += [(f'step {e["step"]}', e) for e in ends]
  return out + _added(groups)


def _added(groups):
  """(name, line) of evaluations that scripts/evaluate.py added."""
  several = len(groups) > 1 or any(len(g.runs) > 1 for g in groups)
  out = []
  for r in (r for g in groups for r in g.runs):
    for e in r.other_evals:
      words = [r.name] * several + [e['source'], f'step {e["step"]}']
      # Named if it is not eval.split: training tasks are no test.
      own = r.config.get('eval.split')
      if e.get('split', own) != own:
        words.append(f'{e["split"]} split')
      out.append((', '.join(words), e))
  return out


def _budgets(e):
  """Arrays (k, pass@k, low, high) of an evaluation with several k, or None."""
  ks = sorted(
    int(m[1]) for m in (re.fullmatch(r'eval/pass@(\d+)', k) for k in e) if m
  )
  if len(ks) < 2:
    return None
  of = lambda end: np.array([number(e.get(f'eval/pass@{k}{end}')) for k in ks])
  return np.array(ks), of(''), of('_low'), of('_high')


def _array(x):
  return np.array([number(v) for v in x])


def _means(runs, at):
  names = dict.fromkeys(k for r in runs for e in r.evals for k in e)
  means = {}
  for name in names:
    # A mean over seeds of intervals over questions is no interval.
    if len(runs) > 1 and name.endswith(('_low', '_high')):
      continue
    values = series(runs, name, 'evals')
    if values is not None:
      means[name] = float(np.mean(values[1][:, at]))
  return means


def _cell(values, name):
  if name not in values:
    return ''
  if np.isnan(number(values[name])):
    return 'n/a'
  low, high = (number(values.get(f'{name}_{s}')) for s in ('low', 'high'))
  text = f'{number(values[name]):.4g}'
  return text if np.isnan(low) else f'{text} ({low:.3g} to {high:.3g})'
