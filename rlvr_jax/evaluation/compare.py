"""Two policies on the same tasks: what differs, and by how much for sure.

The `base` comes first, the `other`, such as the trained policy, second.
Differences are other - base.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from rlvr_jax.evaluation import eval_metrics, sample_store
from rlvr_jax.reporting import pages, plots
from rlvr_jax.stats import coverage, intervals


def compare(
  base: sample_store.Table,
  other: sample_store.Table,
  ids: Sequence[str],
  *,
  k: int | None = None,
  seed: int = 0,
) -> dict:
  """What N samples of each of the same M tasks say of two policies.

  Both sides take the same resampled problems (paired bootstrap).

  Args:
    base, other: tables of M tasks and N samples.
    ids: names of the M tasks.
    k: a problem is solvable if one of its first k samples is right; N if None.
    seed: of the bootstrap.

  Returns:
    n, samples, k; metrics: {name: base, other, difference, low, high};
    curves: {base, other: k, value, low, high} of pass@k;
    coverage: ids of the problems kept, lost, gained, neither; and with several
    samples
    crossover: k* of `coverage.crossover` on the budgets of `summary`, its
    interval, and share, the part of the resamples that have one (infinity
    counts as the largest k*);
    delta_se: pass@k of the base, k being the largest budget up to k, minus
    pass@1 of the other, with its interval.

  Raises:
    ValueError: other shapes, or k outside [1, N].
  """
  if base.verdict.shape != other.verdict.shape or (
    len(ids) != len(base.verdict)
  ):
    raise ValueError(
      f'The same tasks and number of samples are needed: {base.verdict.shape} '
      f'and {other.verdict.shape} of {len(ids)} tasks.'
    )
  tasks, count = base.verdict.shape
  k = count if k is None else k
  if not 1 <= k <= count:
    raise ValueError(f'k={k} must be from 1 to the {count} samples of a task.')
  (names, f), (theirs, g) = map(eval_metrics.statistics, (base, other))
  both = [n for n in names if n in theirs]
  at, to = [names.index(n) for n in both], [theirs.index(n) for n in both]
  pair = lambda w: np.stack([f(w)[at], g(w)[to]])
  values = pair(np.ones(tasks))
  drawn = intervals.draws(pair, tasks, seed=seed)  # [R,2,S]
  low, high = intervals.percentiles(drawn[:, 1] - drawn[:, 0])
  metrics = {}
  for i, name in enumerate(both):
    a, b = values[:, i]
    ends = (np.nan, np.nan) if np.isnan(b - a) else (low[i], high[i])
    numbers = (a, b, b - a, *ends)
    keys = ('base', 'other', 'difference', 'low', 'high')
    metrics[name] = dict(zip(keys, map(float, numbers), strict=True))
  solved = coverage.classes(*(t.right[:, :k].any(-1) for t in (base, other)))
  ks = eval_metrics.powers(count) if count > 1 else []
  columns = [both.index(f'pass@{j}') for j in ks]
  out = {
    'n': tasks,
    'samples': count,
    'k': k,
    'metrics': metrics,
    'coverage': {
      name: [str(ids[i]) for i in np.flatnonzero(which)]
      for name, which in solved._asdict().items()
    },
  }
  curves = out['curves'] = {}
  for i, side in enumerate(('base', 'other')):
    ends = intervals.percentiles(drawn[:, i, columns])
    numbers = (ks, values[i, columns], *ends)
    keys = ('k', 'value', 'low', 'high')
    curves[side] = {n: list(x) for n, x in zip(keys, numbers, strict=True)}
  if count > 1:
    out['crossover'] = _crossover(ks, values[:, columns], drawn[:, :, columns])
    most = max(j for j in ks if j <= k)
    one, many = both.index('pass@1'), both.index(f'pass@{most}')
    gap = lambda x: coverage.efficiency_gap(x[..., 0, many], x[..., 1, one])
    ends = intervals.percentiles(gap(drawn)[:, None])
    out['delta_se'] = {
      'k': most,
      'value': float(gap(values)),
      'low': float(ends[0][0]),
      'high': float(ends[1][0]),
    }
  return out


def _crossover(ks, values, drawn):
  stars = coverage.crossover(ks, drawn[:, 0], drawn[:, 1])
  low, high = intervals.percentiles(stars[:, None])
  return {
    'k': float(coverage.crossover(ks, *values)),
    'low': float(low[0]),
    'high': float(high[0]),
    'share': float(np.isfinite(stars).mean()),
  }


def median(values, tasks: int, *, seed: int = 0) -> dict[str, float]:
  """{median, low, high, n} of values of the responses to some tasks.

  The interval draws tasks with return, each with all its responses. Values
  that are NaN (an empty response) are left out.

  Args:
    values: f64[R*tasks], those of a round adjacent.
  """
  table = np.asarray(values, np.float64).reshape(-1, tasks)
  flat = lambda x: x[~np.isnan(x)]

  def of_weights(w):
    kept = flat(np.repeat(table, w.astype(int), axis=1))
    return [np.median(kept) if kept.size else np.nan]

  value = of_weights(np.ones(tasks))[0]
  low, high = intervals.percentiles(
    intervals.draws(of_weights, tasks, seed=seed)
  )
  return {
    'median': float(value),
    'low': float(low[0]),
    'high': float(high[0]),
    'n': len(flat(table)),
  }


def html(result: Mapping, names: Sequence[str]) -> str:
  """A page of a comparison; `names` of the base and the other."""
  lines = []
  for color, (name, side) in enumerate(zip(names, ('base', 'other'))):
    curve = result['curves'][side]
    if curve['k']:
      columns = (curve[x] for x in ('k', 'value', 'low', 'high'))
      lines.append(plots.Line(name, *map(np.array, columns), color=color))
  drawn = None
  if lines:
    source = plots.chart(lines, percent=True, wide=True, across='k')
    note = 'Unbiased estimates; bands are 95 % intervals over problems.'
    drawn = pages.Figure('', source, note, wide=True)
  return pages.render(
    'compare.html',
    title=f'{names[0]} against {names[1]}',
    subtitle=f'{result["n"]} problems x {result["samples"]} samples',
    names=names,
    curves=drawn,
    rows=rows(result),
    facts=facts(result),
    k=result['k'],
    solved=result['coverage'],
  )


def rows(result: Mapping) -> list[list[str]]:
  """The table of metrics: name, base, other, difference, interval."""
  return [
    [
      name,
      f'{m["base"]:.4g}',
      f'{m["other"]:.4g}',
      f'{m["difference"]:+.4g}',
      f'{m["low"]:+.3g} to {m["high"]:+.3g}',
    ]
    for name, m in result['metrics'].items()
  ]


def facts(result: Mapping) -> list[list[str]]:
  """What is one number for both sides: name, value, interval."""
  sets = {kind: len(found) for kind, found in result['coverage'].items()}
  out = [
    [f'solved in {result["k"]}: {kind}', str(n), ''] for kind, n in sets.items()
  ]
  if 'crossover' in result:
    c, d = result['crossover'], result['delta_se']
    share = f'{c["low"]:g} to {c["high"]:g}, in {c["share"]:.0%} of resamples'
    out += [
      ['crossover k*', f'{c["k"]:g}', share],
      [
        f'Delta_SE: pass@{d["k"]} of the base - pass@1 of the other',
        f'{d["value"]:+.4g}',
        f'{d["low"]:+.3g} to {d["high"]:+.3g}',
      ],
    ]
  for name, p in result.get('perplexity', {}).items():
    interval = f'{p["low"]:.4g} to {p["high"]:.4g}'
    out.append(
      [
        f'perplexity of {name.replace("_", " ")}',
        f'{p["median"]:.4g}',
        interval,
      ]
    )
  return out
