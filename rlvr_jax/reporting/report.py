"""One HTML page of one run, or of several side by side.

The page is a single file and asks for nothing from elsewhere. What a model
wrote is untrusted: all text is escaped, and the page forbids scripts.

Runs whose configs differ in `seed` only are one curve, their mean, with a
band from the lowest seed to the highest.
"""

import os
import pathlib
import warnings
from collections.abc import Sequence

import numpy as np

from rlvr_jax import enums
from rlvr_jax.reporting import eval_page, pages, plots, run_writer
from rlvr_jax.reporting import run_reader as runs_lib
from rlvr_jax.reporting.run_reader import accuracy, number, seconds, series

# Names under which a config may say what is trained on what, best first.
_MODEL = ('model', 'model.name', 'model.path', 'model.spec')
_TASK = ('env', 'env.name', 'env.train', 'task', 'data.name')


def build(dirs: Sequence[str], out) -> pathlib.Path:
  """Writes the page of the runs in `dirs` to `out`, atomically.

  Raises:
    ValueError: a directory is missing, or none holds a run.
    OSError: `out` cannot be written.
  """
  runs = [
    runs_lib.read(d) for d in dict.fromkeys(os.path.normpath(d) for d in dirs)
  ]
  if not any(r.config or r.metrics or r.evals or r.rollouts for r in runs):
    raise ValueError(
      f'No run in {", ".join(map(str, dirs))}: expected config.json, '
      'metrics.jsonl, eval.jsonl or rollouts.jsonl, as scripts/train.py '
      'writes them.'
    )
  out = pathlib.Path(out)
  out.parent.mkdir(parents=True, exist_ok=True)
  tmp = out.with_name(out.name + '.tmp')
  tmp.write_text(html(runs), encoding='utf-8', errors='backslashreplace')
  os.replace(tmp, out)
  return out


def html(runs: Sequence[runs_lib.Run]) -> str:
  """The page, as text."""
  groups = runs_lib.group(runs)
  models, tasks = (
    ', '.join(dict.fromkeys(_first(r.config, keys) for r in runs))
    for keys in (_MODEL, _TASK)
  )
  title = f'{models} on {tasks}' if models and tasks else groups[0].runs[0].name
  parts = [
    pages.header(title, _subtitle(groups)),
    pages.notices(runs_lib.problems(runs)),
    pages.cards(_cards(groups[0])) if len(groups) == 1 else '',
    pages.section('Results', _results(groups)) if len(groups) > 1 else '',
    pages.section('Held-out accuracy', _accuracy(groups)),
    pages.section('Training', _training(groups)),
    pages.section('Evaluation', eval_page.section(groups)),
    pages.section('Transcripts', _transcripts(groups)),
    pages.section('Reproduce', _reproduce(groups)),
  ]
  return pages.document(title, ''.join(parts))


def _first(values, keys):
  for key in keys:
    if isinstance(values.get(key), str):
      return values[key]
  return ''


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
  for i, g in enumerate(groups):
    before, after = (accuracy(g.runs, last) for last in (False, True))
    gain = after[0] - before[0] if after else float('nan')
    spent = np.mean([seconds(r) for r in g.runs])
    evals = series(g.runs, 'eval/accuracy', 'evals')
    rows.append(
      [
        pages.swatch(plots.COLORS[i % len(plots.COLORS)])
        + pages.escape(g.label),
        str(len(g.runs)),
        '' if evals is None else str(evals[0][-1]),
        _with_interval(before)[0],
        _with_interval(after)[0],
        _with_interval(after)[1],
        'n/a' if np.isnan(gain) else f'{100 * gain:+.1f}',
        run_writer.clock(float(spent)),
      ]
    )
  head = [
    '',
    'seeds',
    'step',
    'before',
    'after',
    '95 % interval',
    'gain',
    'time',
  ]
  return pages.table(head, rows, html_first=True)


def _accuracy(groups):
  lines = []
  for i, g in enumerate(groups):
    found = series(g.runs, 'eval/accuracy', 'evals')
    if found is None:
      continue
    steps, values = found
    if len(values) > 1:
      low, high = values.min(0), values.max(0)
    else:
      low, high = runs_lib.bounds(g.runs, steps)
    y = values.mean(0)
    lines.append(plots.Line(g.label, steps, y, low, high, color=i))
  if not lines:
    return ''
  note = (
    'Band: lowest to highest seed; one seed: 95 % interval over questions.'
    if len(groups) > 1 or len(groups[0].runs) > 1
    else 'Band: 95 % interval over the questions.'
  )
  src = plots.chart(lines, percent=True, wide=True)
  return pages.figure('', src, note, wide=True)


def _lines(g, name, label, color):
  found = series(g.runs, name)
  if found is None:
    return []
  steps, values = found
  window = max(1, len(steps) // 30)
  with warnings.catch_warnings():
    # A step where no seed has a value stays empty.
    warnings.simplefilter('ignore', RuntimeWarning)
    mean = np.nanmean(values, 0)
    low, high = np.nanmin(values, 0), np.nanmax(values, 0)
  low, high, mean_s = (plots.smooth(v, window) for v in (low, high, mean))
  if len(values) > 1:
    return [plots.Line(label, steps, mean_s, low, high, color=color)]
  raw = mean if window > 1 else None
  return [plots.Line(label, steps, mean_s, raw=raw, color=color)]


def _training(groups):
  panels = ''.join(_panels(groups))
  if not panels:
    return ''
  note = 'Lines are means over a thirtieth of the run around each step.'
  if len(groups) > 1 or len(groups[0].runs) > 1:
    note += ' Bands go from the lowest seed to the highest.'
  else:
    note += ' Faint lines are single steps.'
  return pages.note(note) + f'<div class="grid">{panels}</div>'


def _panels(groups):
  names = dict.fromkeys(
    k for g in groups for r in g.runs for x in r.metrics for k in x
  )
  rewards = sorted(k for k in names if k.startswith('rewards/'))
  share = {'percent': True}
  panels = [
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
      'Time per step',
      ['timing_s/rollout', 'timing_s/reward', 'timing_s/update'],
      {'unit': 'seconds', 'stacked': True},
    ),
  ]
  for title, metrics, options in panels:
    if len(groups) == 1:
      lines = []
      for m in metrics:
        lines += _lines(groups[0], m, m.rpartition('/')[2], len(lines))
      same = len({len(n.x) for n in lines}) == 1
      stacked = options.get('stacked', False) and same
      if lines:
        src = plots.chart(lines, **(options | {'stacked': stacked}))
        yield pages.figure(title, src, '')
      continue
    for m in metrics:
      lines = [
        n for i, g in enumerate(groups) for n in _lines(g, m, g.label, i)
      ]
      if lines:
        src = plots.chart(lines, **(options | {'stacked': False}))
        name = f'{title}: {m}' if len(metrics) > 1 else title
        yield pages.figure(name, src, '')


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
    _name(enums.Verdict, t.get('verdict')),
    *([f'reward {number(t["reward"]):.3g}'] if 'reward' in t else []),
    f'{t.get("tokens")} tokens',
    f'stop: {_name(enums.Stop, t.get("stop"))}',
  ]
  parts = t.get('parts')
  if isinstance(parts, dict):
    facts += [f'{k} {number(v):.3g}' for k, v in parts.items()]
  heading = f'{heading}, step {t["step"]}' if heading else f'step {t["step"]}'
  return pages.transcript(heading, facts, t.get('completion', ''), _correct(t))


def _transcripts(groups):
  body = []
  for g in groups:
    run = next((r for r in g.runs if r.rollouts), None)
    if run is None:
      continue
    if len(groups) > 1:
      body.append(f'<h3>{pages.escape(g.label)}</h3>')
    body.append(_run_transcripts(run, 6 if len(groups) == 1 else 2))
  return ''.join(body)


def _run_transcripts(run, limit):
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
    return ''.join(
      pages.question(t, [_transcript(t, str(t.get('split', '')))])
      for t in shown[:limit]
    )
  kinds = {
    'became correct': (False, True),
    'became wrong': (True, False),
    'stayed wrong': (False, False),
    'stayed correct': (True, True),
  }
  found = {
    kind: [k for k in both if (_correct(first[k]), _correct(last[k])) == pair]
    for kind, pair in kinds.items()
  }
  counts = ', '.join(f'{len(v)} {k}' for k, v in found.items())
  each = [k for v in found.values() for k in v[: 2 if limit > 4 else 1]]
  body = [
    pages.question(
      last[k], [_transcript(first[k], 'before'), _transcript(last[k], 'after')]
    )
    for k in each[:limit]
  ]
  note = (
    f'Of {len(both)} held-out questions with transcripts, {counts}. '
    'Shown: the first of each kind.'
  )
  return pages.note(note) + ''.join(body)


def _reproduce(groups):
  body = []
  for g in groups:
    r = g.runs[0]
    if not r.config:
      continue
    commands = [x.command for x in g.runs if x.command]
    commands.append(
      '# or, with the config below saved as config.json (functions of the '
      'config file:\n# beside the config.py and config_file.json of the run):\n'
      'python scripts/train.py --config=config.json --workdir=DIR'
    )
    name = f'Config: {g.label}' if len(groups) > 1 else 'Config'
    body.append(pages.code('\n'.join(commands)))
    body.append(pages.fold(name, pages.code(r.config_json.strip())))
  return ''.join(body)
