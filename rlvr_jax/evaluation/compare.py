"""How do two policies differ on the same tasks? Differences with intervals.

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
  """Compares two policies by N samples of each of the same M tasks.

  Both sides use the same resampled problems (paired bootstrap).

  Args:
    base, other: tables of M tasks and N samples.
    ids: names of the M tasks.
    k: a problem is solvable if any of its first k samples is right; N if None.
    seed: of the bootstrap.

  Returns:
    n, samples, k;
    metrics: {name: {base, other, difference, low, high}};
    curves: {base, other: {k, value, low, high}} of pass@k;
    coverage: {kept, lost, gained, neither: ids of the problems};
    and with several samples
    crossover: {k, low, high, share}: k* of `coverage.crossover` over the k of
    `eval_metrics.powers`, its interval, and the share of resamples with a
    finite k* (an infinite one counts as the largest);
    delta_se: {k, value, low, high}: pass@k of the base - pass@1 of the other,
    with the largest k of `eval_metrics.powers` up to `k`.

  Raises:
    ValueError: tables of different shapes, or k outside [1, N].
  """
  if base.verdict.shape != other.verdict.shape or (
    len(ids) != len(base.verdict)
  ):
    raise ValueError(
      'Both policies need the same tasks and number of samples: got '
      f'{base.verdict.shape} and {other.verdict.shape} for {len(ids)} tasks.'
    )
  tasks, count = base.verdict.shape
  k = count if k is None else k
  if not 1 <= k <= count:
    raise ValueError(f'k={k} must be from 1 to the {count} samples of a task.')
  (names, f), (other_names, g) = map(eval_metrics.statistics, (base, other))
  both = [n for n in names if n in other_names]
  of_f = [names.index(n) for n in both]
  of_g = [other_names.index(n) for n in both]
  pair = lambda w: np.stack([f(w)[of_f], g(w)[of_g]])  # [2,S]
  values = pair(np.ones(tasks))
  resampled = intervals.draws(pair, tasks, seed=seed)  # [R,2,S]
  low, high = intervals.percentiles(resampled[:, 1] - resampled[:, 0])
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
    ends = intervals.percentiles(resampled[:, i, columns])
    numbers = (ks, values[i, columns], *ends)
    keys = ('k', 'value', 'low', 'high')
    curves[side] = {n: list(x) for n, x in zip(keys, numbers, strict=True)}
  if count > 1:
    out['crossover'] = _crossover(
      ks, values[:, columns], resampled[:, :, columns]
    )
    largest = max(j for j in ks if j <= k)
    one, many = both.index('pass@1'), both.index(f'pass@{largest}')
    gap = lambda x: coverage.efficiency_gap(x[..., 0, many], x[..., 1, one])
    ends = intervals.percentiles(gap(resampled)[:, None])
    out['delta_se'] = {
      'k': largest,
      'value': float(gap(values)),
      'low': float(ends[0][0]),
      'high': float(ends[1][0]),
    }
  return out


def _crossover(ks, values, resampled):
  stars = coverage.crossover(ks, resampled[:, 0], resampled[:, 1])
  low, high = intervals.percentiles(stars[:, None])
  return {
    'k': float(coverage.crossover(ks, *values)),
    'low': float(low[0]),
    'high': float(high[0]),
    'share': float(np.isfinite(stars).mean()),
  }


def median(
  values: np.ndarray, tasks: int, *, seed: int = 0
) -> dict[str, float]:
  """{median, low, high, n} of one value per response.

  The interval resamples tasks with replacement, each with all its responses.
  NaN values (empty responses) are left out.

  Args:
    values: f64[R*tasks], values of a round adjacent.
  """
  table = np.asarray(values, np.float64).reshape(-1, tasks)
  flat = lambda x: x[~np.isnan(x)]

  def of_weights(w):
    repeated = flat(np.repeat(table, w.astype(int), axis=1))
    return [np.median(repeated) if repeated.size else np.nan]

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
  """The HTML page of a comparison; `names` of the base and the other."""
  lines = []
  for color, (name, side) in enumerate(zip(names, ('base', 'other'))):
    curve = result['curves'][side]
    if curve['k']:
      columns = (curve[x] for x in ('k', 'value', 'low', 'high'))
      lines.append(plots.Line(name, *map(np.array, columns), color=color))
  figure = None
  if lines:
    source = plots.chart(lines, percent=True, wide=True, across='k')
    note = 'Unbiased estimates; bands are 95 % intervals over problems.'
    figure = pages.Figure('', source, note, wide=True)
  return pages.render(
    'compare.html',
    title=f'{names[0]} against {names[1]}',
    subtitle=f'{result["n"]} problems x {result["samples"]} samples',
    names=names,
    curves=figure,
    rows=rows(result),
    facts=facts(result),
    k=result['k'],
    solved=result['coverage'],
  )


def rows(result: Mapping) -> list[list[str]]:
  """Rows of the table of metrics: name, base, other, difference, interval."""
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
  """Rows of results that compare both sides: name, value, interval."""
  sets = {kind: len(ids) for kind, ids in result['coverage'].items()}
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
