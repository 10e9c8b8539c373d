"""The page of fake runs: what it shows, groups and refuses."""

import importlib.util
import pathlib
import re

import numpy as np
import pytest

from rlvr_jax.reporting import plots, report, run_reader, run_writer

_SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'report.py'
_EVIL = (
  '</pre><script>alert(1)</script><img src=http://x.y/z onerror=a()>\x00\u202e'
)


def fake(folder, *, seed=0, steps=40, total=None, rate=0.02, evil='', **values):
  """Writes what a run of `steps` steps would have written."""
  rng = np.random.default_rng(seed)
  config = {
    'seed': seed,
    'total_steps': steps if total is None else total,
    'model': {'name': 'smollm2-135m'},
    'env': 'arithmetic(digits=2)',
    'optim': {'learning_rate': 1e-6},
  } | values
  command = (
    f'python scripts/train.py --config=configs/q.py --config.seed={seed}'
  )
  with run_writer.open(
    folder,
    config,
    step=None,
    total_steps=config['total_steps'],
    transcripts=8,
    console_every=10**9,
    command=command,
  ) as w:
    for s in range(steps + 1):
      skill = 0.12 + 0.7 * (1 - np.exp(-rate * s))
      if s:
        w.metrics(s, _metrics(rng, skill, s))
      if s % 10 == 0:
        a = float(np.clip(skill + 0.03 * rng.normal(), 0, 1))
        w.eval(
          s,
          {
            'eval/accuracy': a,
            'eval/accuracy_low': a - 0.06,
            'eval/accuracy_high': a + 0.06,
            'eval/n': 200,
            'eval/pass@4': a + 0.1,
          },
        )
        w.rollouts(s, [_transcript(i, s, steps, evil) for i in range(6)])


def _metrics(rng, skill, s):
  noise = lambda x: float(x * rng.normal())
  fail = (1 - skill) ** 4
  return {
    'reward': skill + noise(0.08),
    'rewards/math': skill + noise(0.08),
    'rewards/format': 0.5 + skill / 2 + noise(0.02),
    'accuracy': skill,
    'frac_reward_zero_std': fail + skill**4,
    'frac_groups_all_fail': fail,
    'frac_groups_all_pass': skill**4,
    'entropy': 2.0 - skill + noise(0.1),
    'kl': 0.001 * s,
    'completions/mean_length': 60 + 20 * skill + noise(5),
    'completions/clipped_ratio': 0.3 * (1 - skill),
    'grad_norm': float('nan') if s == 7 else 1 + abs(noise(0.3)),
    'sampler_trainer/logp_diff_max': 10 ** (-4 + noise(0.3)),
    'step_time': 3.0,
    'timing_s/rollout': 1.8 + noise(0.05),
    'timing_s/reward': 0.3 + noise(0.02),
    'timing_s/update': 0.9 + noise(0.05),
  }


def _transcript(i, s, steps, evil):
  right = (i + (s == steps)) % 3 == 0
  return {
    'split': 'eval',
    'id': f'test-{i}',
    'question': f'What is {10 + i} + {20 + i}? Think first.{evil}',
    'answer': str(30 + 2 * i),
    'completion': f'Adding gives {30 + 2 * i if right else 7}.\n' * 3 + evil,
    'tokens': 21,
    'reward': float(right),
    'parts': {'math': float(right), 'format': 1.0},
    'verdict': 0 if right else 'WRONG',
    'stop': 1,
  }


def _text(folder, *more):
  out = report.build([folder, *more], pathlib.Path(folder) / 'report.html')
  return out.read_text()


def test_one_run(tmp_path):
  fake(tmp_path / 'a')
  text = _text(tmp_path / 'a')
  evals = list(run_writer.read(tmp_path / 'a' / run_writer.EVAL))
  first, last = (f'{100 * evals[i]["eval/accuracy"]:.1f} %' for i in (0, -1))
  assert f'{first} → {last}' in text
  assert '<h1>smollm2-135m on arithmetic(digits=2)</h1>' in text
  assert '2:00' in text  # 40 steps of 3 s
  for title in (
    'Reward parts',
    'Groups without signal',
    'Time per step',
    'KL from the reference',
    'pass@4',
    'learning_rate',
    'python scripts/train.py --config=configs/q.py --config.seed=0',
    '6 held-out questions with transcripts: 2 became correct, 2 became '
    'wrong, 2 stayed wrong, 0 stayed correct',
  ):
    assert title in text, title
  assert text.count('<img ') == 12
  assert 'class="notice"' not in text


def test_evaluations_are_plotted_if_they_have_the_data(tmp_path):
  fake(tmp_path / 'a')
  before = _text(tmp_path / 'a').count('<img ')
  line = {
    'source': 'evaluate',
    'eval/accuracy': 0.4,
    'eval/auroc': float('nan'),
    **{f'eval/pass@{k}{e}': 0.5 for k in (1, 2, 16) for e in ('', '_low')},
    'curves/solve_rates': {'count': [3, *[0] * 9, 7]},
    'curves/reliability': {
      'count': [0, 5],
      'confidence': [float('nan'), 0.8],
      'accuracy': [float('nan'), 0.6],
    },
    'curves/risk_coverage': {'coverage': [0.5, 1], 'risk': [0, 0.4]},
  }
  run_writer.append(tmp_path / 'a' / run_writer.EVAL, 40, line)
  text = _text(tmp_path / 'a')
  assert text.count('<img ') == before + 4
  for title in (
    '<b>pass@k</b>',
    'Risk and coverage',
    'Reliability: evaluate, step 40',
    '5 statements',
    'Solve rates: evaluate, step 40',
    '<td>n/a</td>',
  ):
    assert title in text, title
  # Curves are no metrics.
  assert 'curves' not in text
  run_writer.append(
    tmp_path / 'a' / run_writer.EVAL, 40, {**line, 'split': 'train'}
  )
  assert 'Reliability: evaluate, step 40, train split' in _text(tmp_path / 'a')


def test_the_page_is_self_contained_and_text_is_harmless(tmp_path):
  fake(tmp_path / 'a', evil=_EVIL, env=f'e{_EVIL}')
  text = _text(tmp_path / 'a')
  assert '<script' not in text
  assert 'onerror=a()&gt;' in text
  tags = set(re.findall(r'<(\w+)', text))
  assert tags <= set(
    [
      'html',
      'head',
      'meta',
      'title',
      'style',
      'body',
      'main',
      'h1',
      'h2',
      'h3',
      'h4',
      'p',
      'b',
      'br',
      'div',
      'span',
      'figure',
      'figcaption',
      'img',
      'table',
      'tr',
      'th',
      'td',
      'pre',
      'details',
      'summary',
    ]
  )
  sources = re.findall(r'(?:src|href)="([^"]*)"', text)
  assert sources
  assert all(s.startswith('data:image/svg+xml;base64,') for s in sources)
  assert "default-src 'none'" in text
  assert '\x00' not in text


def test_seeds_are_grouped_and_configs_are_told_apart(tmp_path, monkeypatch):
  drawn = []
  monkeypatch.setattr(
    plots, 'chart', lambda lines, **_: drawn.append(lines) or 'data:,'
  )
  for name, seed, value in [
    ('a', 0, 'grpo'),
    ('b', 1, 'grpo'),
    ('c', 0, 'rloo'),
  ]:
    fake(tmp_path / name, seed=seed, steps=20, algorithm={'estimator': value})
  read = [run_reader.read(tmp_path / n) for n in 'abc']
  groups = run_reader.group(read)
  assert [g.label for g in groups] == ['estimator=grpo', 'estimator=rloo']
  assert [len(g.runs) for g in groups] == [2, 1]
  text = report.html(read)
  assert '2 configs, 3 runs' in text
  assert '<h2>Results</h2>' in text
  assert 'Reward parts: rewards/format' in text
  assert 'lowest to highest seed' in text
  assert [n.label for n in drawn[0]] == ['estimator=grpo', 'estimator=rloo']
  each = [run_reader.series([r], 'eval/accuracy', 'evals')[1][0] for r in read]
  np.testing.assert_allclose(drawn[0][0].y, (each[0] + each[1]) / 2)
  np.testing.assert_allclose(drawn[0][0].low, np.minimum(each[0], each[1]))
  np.testing.assert_allclose(drawn[0][1].y, each[2])
  text = report.html(read[:2])
  assert 'seeds 0, 1' in text
  assert 'intervals over seeds' in text


def test_interval_over_seeds():
  # mean 0.5, sd 0.1, R 3: t(2, 0.975) = 4.302653, half = 0.248414.
  def run(a):
    evals = [{'step': 0, 'eval/accuracy': 0.0}, {'step': 9, 'eval/accuracy': a}]
    return run_reader.Run('', {}, '', '', [], evals, [], [], [], pathlib.Path())

  found = run_reader.accuracy([run(0.4), run(0.5), run(0.6)], True)
  np.testing.assert_allclose(found, [0.5, 0.251586, 0.748414], atol=1e-6)
  assert run_reader.accuracy([run(0.4)], False)[0] == 0
  assert run_reader.accuracy([], True) is None


def test_student_leaves_out_what_is_undefined():
  # t(3, 0.975) = 3.182446, sd of 1 to 4 = 1.290994.
  mean, half = run_reader.student(
    [1.0, 2.0, float('nan'), 3.0, 4.0, float('inf')]
  )
  assert mean == 2.5
  assert half == pytest.approx(3.182446 * 1.290994 / 2, abs=1e-6)
  assert run_reader.student([0.5])[0] == 0.5
  assert np.isnan([run_reader.student([0.5])[1], *run_reader.student([])]).all()


def test_runs_in_progress_and_in_pieces(tmp_path, monkeypatch):
  monkeypatch.setattr(plots, 'chart', lambda *_, **__: 'data:,')
  fake(tmp_path / 'a', steps=12, total=40)
  assert 'The run is not finished: step 12 of 40.' in _text(tmp_path / 'a')
  pieces = [
    run_writer.METRICS,
    run_writer.EVAL,
    run_writer.ROLLOUTS,
    'config.json',
  ]
  for i, name in enumerate(pieces):
    folder = tmp_path / f'without{i}'
    fake(folder, steps=3)
    (folder / name).unlink()
    assert f'There is no {name}.' in _text(folder)
  for i, name in enumerate(pieces):
    folder = tmp_path / f'broken{i}'
    fake(folder, steps=3)
    (folder / name).write_text('{"step": 1, "reward": [], "eval/accuracy": {')
    assert name in _text(folder)
  folder = tmp_path / 'odd'
  fake(folder, steps=1)
  run_writer.append(
    folder / run_writer.METRICS, 2, {'reward': 'x', 'entropy': None}
  )
  run_writer.append(
    folder / run_writer.ROLLOUTS, 2, {'id': None, 'verdict': []}
  )
  assert 'Reward' in _text(folder)


def test_separate_evaluations_stay_out_of_the_curve(tmp_path, monkeypatch):
  monkeypatch.setattr(plots, 'chart', lambda *_, **__: 'data:,')
  fake(tmp_path / 'a', steps=10)
  run_writer.append(
    tmp_path / 'a' / run_writer.EVAL,
    10,
    {'eval/accuracy': 0.0123, 'source': 'gsm8k'},
  )
  text = _text(tmp_path / 'a')
  assert 'gsm8k, step 10' in text
  assert '0.0123' in text
  assert '1.2 %' not in text


def test_refusals(tmp_path):
  with pytest.raises(ValueError, match='There is no directory'):
    report.build([tmp_path / 'x'], tmp_path / 'r.html')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match=r'No run in .*empty: expected config'):
    report.build([tmp_path / 'empty'], tmp_path / 'r.html')
  assert not (tmp_path / 'r.html').exists()


def test_smooth_is_the_mean_of_what_is_there():
  y = np.array([0.0, 3.0, 6.0, np.nan, 12.0])
  np.testing.assert_allclose(plots.smooth(y, 1)[:3], y[:3])
  np.testing.assert_allclose(plots.smooth(y, 3), [1.5, 3, 4.5, 9, 12])
  assert np.isnan(plots.smooth(y, 1)[3])


def test_long_runs_stay_small():
  x = np.arange(200_000)
  line = plots.Line('', x, np.sin(x))
  assert len(plots.chart([line])) < 300_000
  assert plots.chart([line]) == plots.chart([line])
  assert plots._thin(line).x[-1] == x[-1]


@pytest.mark.parametrize('across', ['k', 'n', 'step'])
def test_numbers_of_samples_and_steps_are_in_sight(tmp_path, across):
  with plots.sheet(tmp_path / 'a.png', 1) as (ax,):
    lines = [plots.Line('', np.array([1, 64, 2048]), np.array([0, 0.5, 1.0]))]
    plots.panel(ax, lines, percent=True, across=across)
    low, high = ax.get_xlim()
    assert low <= 1 < 2048 <= high
    assert (ax.get_xscale() == 'log') == (across != 'step')


def test_script(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(plots, 'chart', lambda *_, **__: 'data:,')
  spec = importlib.util.spec_from_file_location('report_script', _SCRIPT)
  script = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(script)
  assert script.main([str(tmp_path / 'x'), '--out=r.html']) == 1
  assert 'error: There is no directory' in capsys.readouterr().err
  fake(tmp_path / 'a', steps=2)
  script.main([str(tmp_path / 'a'), f'--out={tmp_path}/sub/r.html'])
  assert f'Wrote {tmp_path}/sub/r.html' in capsys.readouterr().out
  assert '<h1>' in (tmp_path / 'sub' / 'r.html').read_text()


def test_transcripts_of_an_evaluation_have_no_reward(tmp_path, smoke):
  """Evaluations compute no reward: the page shows none, and no nan."""
  text = (smoke[0] / 'report.html').read_text()
  held = [
    t for t in run_writer.read(smoke[0] / run_writer.ROLLOUTS) if 'id' in t
  ]
  assert any(t['split'] == 'eval' and 'reward' not in t for t in held)
  assert 'tokens' in text
  assert 'reward nan' not in text


def test_as_many_names_as_there_are_styles(tmp_path):
  lines = [
    plots.Line(str(i), np.arange(2), np.ones(2), color=i) for i in range(25)
  ]
  with plots.sheet(tmp_path / 'a.png', 2) as (some, all_):
    plots.panel(some, lines[:24])
    plots.panel(all_, lines)
    assert len(some.get_legend().get_texts()) == 24
    assert all_.get_legend() is None
