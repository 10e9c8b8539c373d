"""Arms of a sweep, as numbers and as a picture."""

import importlib.util
import json
import pathlib

import pytest

_PATH = pathlib.Path(__file__).parents[1] / 'scripts' / 'study.py'


@pytest.fixture(scope='module')
def study():
  spec = importlib.util.spec_from_file_location('study', _PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def write(folder, name, seed, start, end, steps=4, pass_at=True):
  path = folder / f'{name},seed={seed}'
  path.mkdir(parents=True)
  (path / 'config.json').write_text(
    json.dumps({'seed': seed, 'total_steps': 4})
  )
  rows = [{'step': s, 'accuracy': s / 10 + seed} for s in range(1, steps + 1)]
  (path / 'metrics.jsonl').write_text(
    ''.join(json.dumps(r) + '\n' for r in rows)
  )
  lines = []
  for step, value in ((0, start), (4, end)):
    line = {'step': step, 'eval/accuracy': value, 'eval/accuracy_low': 0.0}
    if pass_at:
      line |= {'eval/pass@1': value, 'eval/pass@4': min(2 * value, 1.0)}
    lines.append(line | {'eval/n': 8, 'eval/samples': 4, 'eval/ece': 'nan'})
  (path / 'eval.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))
  (path / 'rollouts.jsonl').write_text('{"step": 1}\n')


def tables_of(readme, name):
  """What README.md has between the marks of a study."""
  _, _, rest = readme.read_text().partition(f'<!-- study.py: {name} -->\n\n')
  text, end, _ = rest.partition('\n\n<!-- end -->')
  assert end
  return text


@pytest.fixture
def sweep(tmp_path):
  for seed, end in enumerate((0.5, 0.6, 0.7)):
    write(tmp_path, 'arm=a', seed, 0.2, end)
    write(tmp_path, 'arm=b', seed, 0.2, end + 0.1)
  write(tmp_path, 'arm=b', 9, 0.2, 0.9, steps=2)  # not finished
  (tmp_path / 'arm=a,seed=0' / 'rollouts.jsonl').unlink()  # kept results
  return tmp_path


def test_means_intervals_and_paired_differences(study, sweep, capsys):
  argv = [str(sweep), '--metrics=eval/accuracy,eval/pass@*', '--control=arm=a']
  assert study.main(argv) == 0
  captured = capsys.readouterr()
  # sd .1, n 3: 4.3027 * .1 / sqrt 3 = .248
  assert '| arm=a | 3 | 0.200 → 0.600 ± 0.248' in captured.out
  assert '| arm=b | 3 | 0.200 → 0.700 ± 0.248' in captured.out
  # Paired by seed the difference has no spread.
  assert '| arm=b | 3 | +0.100 ± 0.000 | +0.100 ± 0.000' in captured.out
  assert 'arm=b,seed=9 is left out' in captured.err
  assert '8 problems, 4 samples' in captured.out
  assert tables_of(sweep / 'README.md', 'study') in captured.out
  assert (sweep / 'study.png').read_bytes()[:4] == b'\x89PNG'


def test_the_curve_is_of_the_first_metric_at_k(study, tmp_path, monkeypatch):
  write(tmp_path, 'x', 0, 0.1, 0.2)
  path = tmp_path / 'x,seed=0' / 'eval.jsonl'
  lines = [json.loads(x) for x in path.read_text().splitlines()]
  other = {'eval/cot@1': 0.3, 'eval/cot@8': 0.4, 'eval/cot_ece@2': 0.9}
  path.write_text(''.join(json.dumps(x | other) + '\n' for x in lines))
  drawn = []
  panel = lambda ax, lines, **kw: drawn.append((kw['unit'], lines[0]))
  monkeypatch.setattr(study.plots, 'panel', panel)
  for metrics in ('eval/cot@8,eval/pass@4', 'eval/accuracy,eval/cot@8'):
    assert study.main([str(tmp_path), f'--metrics={metrics}']) == 0
  (cot, line), (other, usual) = [x for x in drawn if '@k' in x[0]]
  assert (cot, line.x.tolist(), line.y.tolist()) == (
    'cot@k',
    [1, 8],
    [0.3, 0.4],
  )
  assert (other, usual.x.tolist()) == ('pass@k', [1, 4])


def test_without_pass_at_k_the_first_metric_is_drawn(study, tmp_path):
  write(tmp_path, 'x', 0, 0.1, 0.2, pass_at=False)
  assert study.main([str(tmp_path), f'--out={tmp_path}/deep/o']) == 0
  assert (tmp_path / 'deep' / 'o.png').stat().st_size > 1000
  readme = tmp_path / 'deep' / 'README.md'
  assert readme.read_text().startswith('# deep\n\n![o](o.png)\n\n<!--')
  assert '| x | 1 | 0.100 → 0.200 |' in tables_of(readme, 'o')


def test_the_course_of_training_metrics(study, sweep, capsys):
  assert study.main([str(sweep), '--over=accuracy,step']) == 0
  out = capsys.readouterr().out
  # Steps 1 to 4 of seeds 0, 1, 2: 1.1 at first, 1.4 at last, 1.25 of all.
  assert '| arm | accuracy | step |' in out
  assert (
    '| arm=a | 1.100 → 1.400 ± 2.484 (1.250 ± 2.484) | 1.000 → 4.000' in out
  )


def test_evaluations_of_another_split(study, sweep, capsys):
  line = {'source': 'evaluate', 'eval/n': 2, 'eval/samples': 4}
  for seed, step, value in ((0, 0, 0.4), (0, 4, 0.7), (0, 4, 0.8), (1, 4, 0.6)):
    row = {**line, 'step': step, 'split': 'train', 'eval/accuracy': value}
    with (sweep / f'arm=a,seed={seed}' / 'eval.jsonl').open('a') as f:
      f.write(json.dumps(row) + '\n')
  assert study.main([str(sweep), '--split=train']) == 0
  captured = capsys.readouterr()
  # The newest of the two at step 4; sd .141, n 2: 12.706 * .141 / sqrt 2.
  assert '| arm=a | 2 | 0.400 → 0.700 ± 1.271 |' in captured.out
  assert 'arm=b' not in captured.out
  assert "arm=a,seed=2 is left out: step 4 was not evaluated on 'train'" in (
    captured.err
  )
  # Another env is another question; other sizes are refused.
  with (sweep / 'arm=a,seed=1' / 'eval.jsonl').open('a') as f:
    f.write(json.dumps(row | {'env': 'other()', 'eval/accuracy': 0.1}) + '\n')
  assert study.main([str(sweep), '--split=train']) == 0
  assert '0.400 → 0.700 ± 1.271 |' in capsys.readouterr().out
  with (sweep / 'arm=b,seed=0' / 'eval.jsonl').open('a') as f:
    f.write(json.dumps(row | {'eval/n': 3}) + '\n')
  assert study.main([str(sweep), '--split=train']) == 1
  assert '3 x 4: arm=b,seed=0' in capsys.readouterr().err
  assert study.main([str(sweep), '--split=validation']) == 1
  assert '--config.eval.split=validation' in capsys.readouterr().err
  assert study.main([str(sweep)]) == 0  # the runs' own stay as they are
  assert '| arm=a | 3 | 0.200 → 0.600' in capsys.readouterr().out


def test_some_of_the_arms(study, sweep, capsys):
  assert study.main([str(sweep), '--arms=*=b']) == 0
  out = capsys.readouterr().out
  assert 'arm=b |' in out
  assert 'arm=a |' not in out
  assert study.main([str(sweep), '--arms=c']) == 1
  assert 'There are arm=a, arm=b.' in capsys.readouterr().err
  # What is before the * is left out.
  flags = ['--arms=arm=*', '--control=arm=a']
  assert study.main([str(sweep), *flags]) == 0
  out = capsys.readouterr().out
  assert '| a | 3 | 0.200 → 0.600' in out
  assert 'After, minus a with' in out
  assert 'arm=' not in out


def test_what_is_not_there_is_said(study, sweep, tmp_path, capsys):
  assert study.main([str(sweep), '--metrics=eval/acuracy']) == 1
  assert 'There are: eval/accuracy' in capsys.readouterr().err
  assert study.main([str(sweep), '--control=arm=c']) == 1
  assert 'There are: arm=a, arm=b' in capsys.readouterr().err
  assert study.main([str(sweep), '--over=accurac']) == 1
  assert 'There are: accuracy, step' in capsys.readouterr().err
  (tmp_path / 'empty').mkdir()
  assert study.main([str(tmp_path / 'empty')]) == 1
  assert 'no finished run' in capsys.readouterr().err


def test_an_undefined_metric_is_a_dash(study):
  assert study.cell([float('nan')] * 3) == '-'
  assert study.cell([0.5, float('nan')]) == '0.500'


def test_evaluations_of_other_golds_are_not_mixed(study, sweep, capsys):
  line = {'source': 'evaluate', 'eval/n': 2, 'eval/samples': 4, 'step': 4}
  line |= {'split': 'train', 'eval/accuracy': 0.5}
  for seed, tasks in ((0, '2 tasks, aa'), (1, '2 tasks, bb')):
    with (sweep / f'arm=a,seed={seed}' / 'eval.jsonl').open('a') as f:
      f.write(json.dumps({**line, 'tasks': tasks}) + '\n')
  assert study.main([str(sweep), '--split=train']) == 1
  assert '2 tasks, bb x 4: arm=a,seed=1' in capsys.readouterr().err


def test_the_rest_of_a_readme_is_kept(study, sweep):
  readme = sweep / 'README.md'
  block = '<!-- study.py: {} -->\n\n{}\n\n<!-- end -->'
  page = '# Mine\n\nBefore.\n\n{}\n\nAfter.\n\n{}\n'
  other = block.format('other', 'not of this one')
  readme.write_text(page.format(block.format('study', 'old'), other))
  assert study.main([str(sweep)]) == 0
  new = tables_of(readme, 'study')
  assert '| arm=a | 3 | 0.200 → 0.600' in new
  expected = page.format(block.format('study', new), other)
  assert readme.read_text() == expected
  assert study.main([str(sweep)]) == 0
  assert readme.read_text() == expected  # the same once more
  readme.write_text('# Mine\n')
  assert study.main([str(sweep)]) == 0
  assert readme.read_text() == f'# Mine\n\n{block.format("study", new)}\n'


def test_a_block_that_does_not_end_is_refused(study, sweep, capsys):
  readme = sweep / 'README.md'
  for text in (
    '<!-- study.py: study -->\n\nold\n',
    '<!-- study.py: study -->\nx\n<!-- end -->\n<!-- study.py: study -->\n',
    '<!-- study.py: study -->\n<!-- study.py: study -->\n<!-- end -->\n',
  ):
    readme.write_text(text)
    assert study.main([str(sweep)]) == 1
    assert 'Mend or remove' in capsys.readouterr().err
    assert readme.read_text() == text


def test_how_soon_a_task_was_solved(study, sweep, capsys):
  argv = [str(sweep), '--discovered=1,2,4']
  assert study.main(argv) == 1
  assert 'train_tasks=None' in capsys.readouterr().err
  for path in sweep.glob('*/config.json'):
    c = {'train_tasks': 1, 'train_batch_size': 1, 'num_generations': 2}
    path.write_text(json.dumps(json.loads(path.read_text()) | c))
    rows = [{'step': s, 'accuracy': 0.5 * (s == 2)} for s in range(1, 5)]
    if 'arm=b' in path.parent.name:
      rows[0]['accuracy'] = 1.0
    lines = (path.parent / 'metrics.jsonl').read_text().splitlines()
    text = ''.join(json.dumps(r) + '\n' for r in rows[: len(lines)])
    (path.parent / 'metrics.jsonl').write_text(text)
  assert study.main([str(sweep), '--discovered=1,3,4']) == 0
  out = capsys.readouterr().out
  assert '| arm=a | 3 | 0.000 ± 0.000 | 0.500 ± 0.000 | 1.000' in out
  assert '| arm=b | 3 | 1.000 ± 0.000 | 1.000 ± 0.000 | 1.000' in out
