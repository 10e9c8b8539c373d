"""What does a run's HTML page show? One page of one run, or of several.

The page is a single file that loads nothing. Completions are untrusted: all
text is escaped, and the page forbids scripts.

Runs whose configs differ in `seed` only are one curve: their mean, with a band
from the lowest seed to the highest.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from rlvr_jax import enums, storage
from rlvr_jax.reporting import (
  eval_page,
  learning_curves,
  pages,
  plots,
  run_writer,
  signal_page,
  signal_panel,
)
from rlvr_jax.reporting import run_reader as runs_lib
from rlvr_jax.reporting.run_reader import accuracy, number, seconds, series


def build(
  dirs: Sequence[str | os.PathLike], out: str | os.PathLike
) -> pathlib.Path:
  """Writes the page of the runs in `dirs` to `out`, atomically.

  Raises:
    ValueError: a directory is missing, or none holds a run.
    OSError: `out` cannot be written.
  """
  runs = [
    runs_lib.read(d)
    for d in dict.fromkeys(os.path.normpath(storage.folder(d)) for d in dirs)
  ]
  if not any(r.config or r.metrics or r.evals or r.rollouts for r in runs):
    raise ValueError(
      f'No run in {", ".join(map(str, dirs))}: expected config.json, '
      'metrics.jsonl, eval.jsonl or rollouts.jsonl, as scripts/train.py '
      'writes them.'
    )
  return pages.save(out, html(runs))


def html(runs: Sequence[runs_lib.Run]) -> str:
  """The HTML of the page."""
  groups = runs_lib.group(runs)
  model, task = _names(runs, 'model.name'), _names(runs, 'env')
  several = len(groups) > 1
  return pages.render(
    'report.html',
    title=f'{model} on {task}' if model and task else runs[0].name,
    subtitle=_subtitle(groups),
    notices=runs_lib.problems(runs),
    cards=[] if several else _cards(groups[0]),
    results=_results(groups) if several else [],
    colors=[plots.color(i) for i in range(len(groups))],
    accuracy=_accuracy(groups),
    signal=signal_panel.section(groups),
    training=list(learning_curves.panels(groups)),
    bands=len(runs) > 1,
    evaluation=eval_page.section(groups),
    signal_map=signal_page.section([r.folder for r in runs]),
    transcripts=_transcripts(groups),
    reproduce=_reproduce(groups),
  )


def _names(runs, key):
  names = dict.fromkeys(str(r.config[key]) for r in runs if key in r.config)
  return ', '.join(names)


def _subtitle(groups):
  n = sum(len(g.runs) for g in groups)
  if len(groups) > 1:
    return f'{len(groups)} configs, {n} runs'
  seeds = [str(r.config['seed']) for r in groups[0].runs if 'seed' in r.config]
  return f'{"seed" if n == 1 else "seeds"} {", ".join(seeds)}' if seeds else ''


def _percent(x):
  return 'n/a' if np.isnan(x) else f'{100 * x:.1f} %'


def _with_interval(a):
  if a is None:
    return 'n/a', ''
  low, high = (f'{100 * v:.1f}' for v in a[1:])
  return _percent(a[0]), f'{low} to {high} %' if not np.isnan(a[1]) else ''


def _cards(g):
  (before, b), (after, a) = (
    _with_interval(accuracy(g.runs, last)) for last in (False, True)
  )
  n = len(g.runs)
  over = 'over seeds' if n > 1 else 'over questions'
  cards = []
  if after != 'n/a':
    note = f'95 % intervals {over}: {b or "n/a"}, then {a or "n/a"}'
    cards.append(('Held-out accuracy', f'{before} → {after}', note))
  last = max((r.metrics[-1]['step'] for r in g.runs if r.metrics), default=0)
  total = g.runs[0].config.get('total_steps')
  cards.append(('Steps', str(last), f'of {total}' if total else ''))
  cards.append(('Seeds', str(n), ''))
  spent = [seconds(r) for r in g.runs if seconds(r)]
  if spent:
    note = 'in training steps' + (', mean per seed' if n > 1 else '')
    cards.append(('Time', run_writer.clock(float(np.mean(spent))), note))
  return cards


def _results(groups):
  rows = []
  for g in groups:
    before, after = (accuracy(g.runs, last) for last in (False, True))
    gain = after[0] - before[0] if after else float('nan')
    spent = np.mean([seconds(r) for r in g.runs])
    evals = series(g.runs, 'eval/accuracy', 'evals')
    rows.append(
      [
        g.label,
        str(len(g.runs)),
        '' if evals is None else str(evals[0][-1]),
        _with_interval(before)[0],
        _with_interval(after)[0],
        _with_interval(after)[1],
        'n/a' if np.isnan(gain) else f'{100 * gain:+.1f}',
        run_writer.clock(float(spent)),
      ]
    )
  return rows


def _accuracy(groups):
  lines = []
  for i, g in enumerate(groups):
    evaluations = series(g.runs, 'eval/accuracy', 'evals')
    if evaluations is None:
      continue
    steps, values = evaluations
    if len(values) > 1:
      low, high = values.min(0), values.max(0)
    else:
      low, high = runs_lib.bounds(g.runs, steps)
    y = values.mean(0)
    lines.append(plots.Line(g.label, steps, y, low, high, color=i))
  if not lines:
    return None
  note = (
    'Band: lowest to highest seed; one seed: 95 % interval over questions.'
    if len(groups) > 1 or len(groups[0].runs) > 1
    else 'Band: 95 % interval over the questions.'
  )
  src = plots.chart(lines, percent=True, wide=True)
  return pages.Figure('', src, note, wide=True)


def _correct(t):
  return _name(enums.Verdict, t.get('verdict')) == 'correct'


def _name(enum, value):
  """'correct' for 0, 'CORRECT' or 'correct'."""
  try:
    return enum(value).name.lower()
  except ValueError:
    return str(value).lower()


def _transcript(t, heading):
  facts = [
    *([f'reward {number(t["reward"]):.3g}'] if 'reward' in t else []),
    f'{t.get("tokens")} tokens',
    f'stop: {_name(enums.Stop, t.get("stop"))}',
  ]
  parts = t.get('parts')
  if isinstance(parts, dict):
    facts += [f'{k} {number(v):.3g}' for k, v in parts.items()]
  return {
    'heading': ', '.join(filter(None, (heading, f'step {t["step"]}'))),
    'verdict': _name(enums.Verdict, t.get('verdict')),
    'correct': _correct(t),
    'facts': facts,
    'text': t.get('completion', ''),
  }


def _question(t, sides):
  task = {name: t.get(name, '') for name in ('question', 'answer')}
  return task | {'sides': sides}


def _transcripts(groups):
  parts = []
  for g in groups:
    run = next((r for r in g.runs if r.rollouts), None)
    if run is not None:
      part = _run_transcripts(run, 6 if len(groups) == 1 else 2)
      parts.append(part | {'label': g.label if len(groups) > 1 else ''})
  return parts


def _run_transcripts(run, limit):
  """{note, questions}: held-out transcripts before and after training, or the
  newest ones if no question has both."""
  held = [t for t in run.rollouts if t.get('split') == 'eval' and 'id' in t]
  steps = sorted({t['step'] for t in held})
  first, last = (
    (
      {str(t['id']): t for t in reversed(held) if t['step'] == s}
      for s in (steps[0], steps[-1])
    )
    if steps
    else ({}, {})
  )
  both = [k for k in reversed(first) if k in last]
  if len(steps) < 2 or not both:
    shown = [t for t in run.rollouts if t['step'] == run.rollouts[-1]['step']]
    questions = [
      _question(t, [_transcript(t, str(t.get('split', '')))])
      for t in shown[:limit]
    ]
    return {'note': '', 'questions': questions}
  kinds = {
    'became correct': (False, True),
    'became wrong': (True, False),
    'stayed wrong': (False, False),
    'stayed correct': (True, True),
  }
  by_kind = {
    kind: [k for k in both if (_correct(first[k]), _correct(last[k])) == pair]
    for kind, pair in kinds.items()
  }
  counts = ', '.join(f'{len(v)} {k}' for k, v in by_kind.items())
  each = [k for v in by_kind.values() for k in v[: 2 if limit > 4 else 1]]
  questions = [
    _question(
      last[k], [_transcript(first[k], 'before'), _transcript(last[k], 'after')]
    )
    for k in each[:limit]
  ]
  note = (
    f'{len(both)} held-out questions with transcripts: {counts}. '
    'Shown: the first of each kind.'
  )
  return {'note': note, 'questions': questions}


def _reproduce(groups):
  """(commands, title, config as JSON) of each config."""
  parts = []
  for g in groups:
    r = g.runs[0]
    if not r.config:
      continue
    commands = '\n'.join(x.command for x in g.runs if x.command)
    name = f'Config: {g.label}' if len(groups) > 1 else 'Config'
    parts.append((commands, name, r.config_json.strip()))
  return parts
