"""What the arms of a sweep came to: a table and a plot, over seeds.

    python scripts/study.py DIR [--metrics=eval/accuracy,eval/pass@64]
        [--control=ARM] [--over=accuracy,reward] [--split=SPLIT]
        [--discovered=1,64,1024] [--arms='task=rare,*'] [--out=DIR/study]

DIR holds the runs of scripts/sweep.py, of each at least config.json, eval.jsonl
and metrics.jsonl; runs whose names differ in `seed=N` only are one arm. --arms
takes those whose names match a pattern, and leaves out what is before its *.
The tables go into README.md beside OUT, in place of what stands between the
lines '<!-- study.py: NAME -->' and '<!-- end -->', where NAME is OUT's; without
these lines they are added at its end. The rest of README.md is yours. There is
a row for each arm: every metric (names or patterns such as 'eval/pass@*') at
the first evaluation and at the last one, as mean -+ the half width of its 95%
interval over seeds (Student's t). With --control, a second table has the
differences from that arm, seed by seed. A last one has the training metrics of
--over: their mean over the first and the last eighth of the steps, and over all
of them. With --split, evaluations are the newest ones that scripts/evaluate.py
made on that split with --config.eval.split=SPLIT, with the run's env and
temperature, of step 0 (where it was evaluated) and of the last step. With
--discovered, where each run trains on one task, a table of how often it was
solved within the first n samples of training, and that curve in place of the
first panel. OUT.png shows pass@k, NAME@k if the first metric is one, or the
first metric, and the course of each of --over.
"""

import argparse
import fnmatch
import pathlib
import re
import sys

import numpy as np

from rlvr_jax import config as config_lib
from rlvr_jax import storage
from rlvr_jax.reporting import plots, run_reader, run_writer
from rlvr_jax.stats import discovery

_SEED = re.compile(r',?\bseed=\d+')


def arms(folder) -> tuple[dict[str, dict[int, run_reader.Run]], list[str]]:
  """({arm: {seed: run}}, problems); runs that are not finished are left out.

  Raises:
    ValueError: no finished run.
  """
  found, problems = {}, []
  for path in sorted(pathlib.Path(folder).glob('*/config.json')):
    run = run_reader.read(path.parent)
    bad = [p for p in run.problems if run_writer.ROLLOUTS not in p]
    problems += [f'{run.name} is left out: {p}' for p in bad]
    if bad:
      continue
    arm = _SEED.sub('', run.name).strip(',') or 'base'
    found.setdefault(arm, {})[run.config['seed']] = run
  if not found:
    raise ValueError(
      f'{folder} has no finished run. Give the --workdir of scripts/sweep.py. '
      + ' '.join(problems[:5])
    )
  return found, problems


def on_split(found, split: str) -> tuple[dict, list[str]]:
  """`arms` with evaluate.py's lines of a split as the evaluations.

  Raises:
    ValueError: none of the runs was evaluated on the split, or some of them on
      more or other tasks, or more samples, than others.
  """
  kept, problems, sizes = {}, [], {}
  wanted = lambda run: (
    split,
    run.config.get('env'),
    run.config.get('eval.temperature'),
  )
  made = lambda e: tuple(e.get(k) for k in ('split', 'env', 'temperature'))
  for arm, some in found.items():
    for seed, run in some.items():
      lines = {e['step']: e for e in run.other_evals if made(e) == wanted(run)}
      last = run.metrics[-1]['step']
      if last in lines:
        evals = [lines.get(0, {}), lines[last]]
        for e in filter(None, evals):
          # evaluate.py of older versions did not write the tasks' digest.
          tasks = e.get('tasks', e['eval/n'])
          sizes[tasks, e['eval/samples']] = run.name
        kept.setdefault(arm, {})[seed] = run._replace(evals=evals)
      else:
        problems.append(
          f'{run.name} is left out: step {last} was not evaluated on {split!r}.'
        )
  if not kept:
    raise ValueError(
      f'No run was evaluated on {split!r}. Run scripts/evaluate.py '
      f'--workdir=RUN --config.eval.split={split} on each.'
    )
  if len(sizes) > 1:
    named = '; '.join(f'{n} x {k}: {name}' for (n, k), name in sizes.items())
    raise ValueError(
      f'Evaluations on {split!r} differ in tasks x samples ({named}). Evaluate '
      'all runs anew, with the same data, --tasks and --samples.'
    )
  return kept, problems


def chosen(found, patterns: list[str]) -> list[str]:
  """Names of evaluation metrics that match; ValueError if one matches none."""
  known = dict.fromkeys(
    k
    for some in found.values()
    for run in some.values()
    for k in run.evals[-1]
    if k.startswith('eval/')
    and k not in ('eval/n', 'eval/samples')
    and isinstance(run.evals[-1][k], int | float)
    and not k.endswith(('_low', '_high'))
  )
  names = []
  for pattern in patterns:
    match = fnmatch.filter(known, pattern)
    if not match:
      raise ValueError(
        f'No evaluation has {pattern!r}. There are: {", ".join(known)}.'
      )
    names += [m for m in match if m not in names]
  return names


def values(some: dict, name: str, at: int) -> dict[int, float]:
  number = run_reader.number
  return {seed: number(r.evals[at].get(name)) for seed, r in some.items()}


def cell(numbers, sign: str = '') -> str:
  mean, half = run_reader.student(numbers)
  if np.isnan(mean):
    return '-'
  text = f'{mean:{sign}.3f}'
  return text if np.isnan(half) else f'{text} ± {half:.3f}'


def markdown(says: str, head: list[str], rows) -> str:
  """A sentence and a table."""
  top, *rest = (f'| {" | ".join(row)} |' for row in (head, *rows))
  return '\n'.join([says, '', top, '|' + '---|' * len(head), *rest, ''])


def tables(found, names: list[str], control: str) -> str:
  """Markdown."""
  head = ['arm', 'seeds', *(name.removeprefix('eval/') for name in names)]
  first = next(iter(next(iter(found.values())).values())).evals[-1]
  rows = []
  for arm, some in found.items():
    cells = [
      f'{cell(run_reader.student(values(some, n, 0).values())[:1])} → '
      f'{cell(values(some, n, -1).values())}'
      for n in names
    ]
    rows.append([arm, str(len(some)), *cells])
  says = (
    f'{first["eval/n"]} problems, {first["eval/samples"]} samples of each; '
    'before → after, mean ± half of the 95% interval over seeds.'
  )
  text = markdown(says, head, rows)
  if not control:
    return text
  if control not in found:
    raise ValueError(f'No arm {control!r}. There are: {", ".join(found)}.')
  rows = []
  for arm, some in found.items():
    both = sorted(some.keys() & found[control].keys())
    if arm == control or not both:
      continue
    pairs = [
      (values(some, n, -1), values(found[control], n, -1)) for n in names
    ]
    cells = [cell([a[s] - b[s] for s in both], '+') for a, b in pairs]
    rows.append([arm, str(len(both)), *cells])
  says = f'After, minus {control} with the same seed:'
  return f'{text}\n{markdown(says, head, rows)}'


def courses(found, overs: list[str]) -> str:
  """Markdown: training metrics, first and last eighth of the steps, and all."""
  rows = []
  for arm, some in found.items():
    cells = []
    for name in overs:
      course = run_reader.series(list(some.values()), name)
      if course is None:
        cells.append('-')
        continue
      y = course[1]
      part = max(y.shape[1] // 8, 1)
      start = run_reader.student(np.nanmean(y[:, :part], 1))[0]
      cells.append(
        f'{start:.3f} → {cell(np.nanmean(y[:, -part:], 1))} '
        f'({cell(np.nanmean(y, 1))})'
      )
    rows.append([arm, *cells])
  says = (
    'While training: mean of the first eighth of the steps → of the last one; '
    'in brackets, of all steps.'
  )
  return markdown(says, ['arm', *overs], rows)


def discovered(run: run_reader.Run, budgets) -> np.ndarray:
  """discovered@n of a run; ValueError if it does not train on one task."""
  c = run.config
  if c.get('train_tasks') != 1 or c.get('max_resample_batches'):
    raise ValueError(
      f'--discovered: {run.name} has train_tasks={c.get("train_tasks")} and '
      f'max_resample_batches={c.get("max_resample_batches")}. A run of its own '
      'for each task is needed: train_tasks=1, max_resample_batches=0.'
    )
  rows = c['train_batch_size'] * c['num_generations']
  right = [round(m['accuracy'] * rows) for m in run.metrics]
  return discovery.discovered(right, [rows] * len(right), budgets)


def discoveries(found, budgets: list[int]) -> str:
  """Markdown: discovered@n."""
  rows = []
  for arm, some in found.items():
    each = np.array([discovered(run, budgets) for run in some.values()])
    rows.append([arm, str(len(some)), *(cell(x) for x in each.T)])
  head = ['arm', 'runs', *(f'discovered@{n}' for n in budgets)]
  return markdown('Solved within the first n samples of training:', head, rows)


def _discovery_curves(found):
  """discovered@n at powers of 2, up to the samples of the shortest run."""
  least = min(
    len(run.metrics)
    * run.config['train_batch_size']
    * run.config['num_generations']
    for some in found.values()
    for run in some.values()
  )
  n = [2**i for i in range(least.bit_length())]
  return [
    _band(arm, n, np.array([discovered(r, n) for r in some.values()]).T, i)
    for i, (arm, some) in enumerate(found.items())
  ]


def curves(
  some: dict[int, run_reader.Run], at: int, of: str = 'pass'
) -> tuple[list, list]:
  """(k, [seeds of k]) of pass@k, or of another metric @k."""
  named = re.compile(rf'eval/{re.escape(of)}@(\d+)').fullmatch
  found = map(named, next(iter(some.values())).evals[at])
  ks = sorted(int(match[1]) for match in found if match)
  return ks, [list(values(some, f'eval/{of}@{k}', at).values()) for k in ks]


def draw(
  found, names: list[str], overs: list[str], out: pathlib.Path, discovers: bool
) -> None:
  """The plot, a PNG."""
  with plots.sheet(out, 1 + len(overs)) as (left, *rights):
    of = (re.fullmatch(r'eval/(.+)@\d+', names[0]) or ('', 'pass'))[1]
    lines = _discovery_curves(found) if discovers else _by_k(found, of)
    if lines:
      across, unit = ('n', 'discovered@n') if discovers else ('k', f'{of}@k')
      plots.panel(left, lines, percent=True, across=across, unit=unit)
    else:
      _first_metric(left, found, names[0])
    for i, (over, right) in enumerate(zip(overs, rights, strict=True)):
      shown = []
      for j, (arm, some) in enumerate(found.items()):
        course = run_reader.series(list(some.values()), over)
        if course is not None:
          steps, y = course
          width = max(len(steps) // 20, 1)
          smooth = np.stack([plots.smooth(row, width) for row in y], 1)
          shown.append(_band(arm, steps, smooth, j))
      legend = not lines and i == 0  # one for all
      plots.panel(right, shown, unit=f'{over}, training', legend=legend)


def _by_k(found, of):
  """Curves after training, in grey those of the starts; none without many k."""
  after, before = [], {}
  for i, (arm, some) in enumerate(found.items()):
    ks, points = curves(some, -1, of)
    if ks:
      after.append(_band(arm, ks, points, i))
    ks, points = curves(some, 0, of)
    if ks:
      start = _band('' if before else 'before', ks, points, None)
      start = start._replace(low=None, high=None)
      before.setdefault(tuple(start.y.round(2)), start)
  several = any(len(line.x) > 1 for line in after)
  return [*after, *before.values()] if several else []


def _band(label, x, points, color):
  """Mean over seeds, and from three on its 95% interval, of seeds at each x."""
  mean, half = np.array([run_reader.student(p) for p in points]).T
  # Of two seeds it is 12.7 standard errors, and would fill the picture.
  half = np.nan_to_num(half) * (len(points[0]) > 2)
  x = np.array(x)
  return plots.Line(label, x, mean, mean - half, mean + half, color=color)


def _first_metric(ax, found, name):
  """A point with its interval for each arm, and a grey tick for its start."""
  plots.bare(ax)
  for i, some in enumerate(found.values()):
    mean, half = run_reader.student(values(some, name, -1).values())
    ax.errorbar([mean], [-i], xerr=[half], fmt='o', color=plots.color(i))
    start, _ = run_reader.student(values(some, name, 0).values())
    ax.plot([start], [-i], '|', color='grey', markersize=14)
  ax.set_yticks([-i for i in range(len(found))], list(found))
  ax.set_xlabel(f'{name}; grey: before')


def write_block(readme: pathlib.Path, name: str, text: str) -> None:
  """Puts `text` where README.md has the block `name`, else at its end.

  Raises:
    ValueError: a block that begins and does not end, or begins twice.
  """
  begin, end = f'<!-- study.py: {name} -->', '<!-- end -->'
  old = f'# {readme.resolve().parent.name}\n\n![{name}]({name}.png)\n'
  if readme.exists():
    old = readme.read_text('utf-8')
  before, begins, rest = old.partition(begin)
  _, ends, after = rest.partition(end)
  if begins and (not ends or begin in rest):
    raise ValueError(
      f'{readme} must have {begin!r} once and {end!r} after it. Mend or remove '
      'these lines.'
    )
  if not begins:
    before, after = f'{old.rstrip()}\n\n', '\n'
  new = f'{before}{begin}\n\n{text.strip()}\n\n{end}{after}'
  tmp = readme.with_name(readme.name + '.tmp')
  tmp.write_text(new, 'utf-8')
  tmp.replace(readme)


@config_lib.run_main
def main(argv) -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('dir', metavar='DIR')
  parser.add_argument('--metrics', default='eval/accuracy')
  parser.add_argument('--control', default='', metavar='ARM')
  parser.add_argument('--over', default='accuracy', metavar='METRICS')
  parser.add_argument('--split', default='', metavar='SPLIT')
  parser.add_argument('--discovered', default='', metavar='N,N')
  parser.add_argument('--arms', default='*', metavar='PATTERN')
  parser.add_argument('--out', metavar='FILE', help='without suffix')
  flags = parser.parse_args(argv)
  storage.local(flags.dir, 'the directory of a sweep')
  out = storage.local(flags.out or f'{flags.dir}/study', '--out')
  every, problems = arms(flags.dir)
  start = flags.arms.partition('*')[0] if '*' in flags.arms else ''
  of = [k for k in every if fnmatch.fnmatch(k, flags.arms)]
  found = {k.removeprefix(start): every[k] for k in of}
  if not found:
    names = ', '.join(every)
    raise ValueError(f'--arms={flags.arms}: no such arm. There are {names}.')
  if flags.split:
    found, others = on_split(found, flags.split)
    problems += others
  names = chosen(found, flags.metrics.split(','))
  overs = flags.over.split(',')
  logged = {
    k for some in found.values() for r in some.values() for k in r.metrics[-1]
  }
  for name in overs:
    if name not in logged:
      there = ', '.join(sorted(logged))
      raise ValueError(f'No training step logs {name!r}. There are: {there}.')
  control = flags.control.removeprefix(start)
  text = f'{tables(found, names, control)}\n{courses(found, overs)}'
  out.parent.mkdir(parents=True, exist_ok=True)
  if flags.discovered:
    budgets = [int(n) for n in flags.discovered.split(',')]
    text = f'{discoveries(found, budgets)}\n{text}'
  draw(found, names, overs, out.with_suffix('.png'), bool(flags.discovered))
  readme = out.with_name('README.md')
  write_block(readme, out.stem, text)
  for problem in problems:
    print(problem, file=sys.stderr)
  print(text)
  print(f'Wrote {readme} and {out.with_suffix(".png")}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
