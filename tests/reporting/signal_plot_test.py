"""The picture of the signal map: what it shows of made-up lines."""

import importlib.util
import math
import pathlib

import numpy as np
import pytest
from matplotlib import text as text_lib

from rlvr_jax.reporting import (
  pages,
  report,
  run_writer,
  signal_lines,
  signal_marks,
  signal_names,
  signal_page,
  signal_plot,
  signal_story,
  signal_table,
)

_HERE = pathlib.Path(__file__).parent
_EVIL = '</td><script>a()</script>$\\frac{$|<b>\x00\u202e\n\u5b57$$'
INF, NAN = math.inf, math.nan


def _maps():
  spec = importlib.util.spec_from_file_location(
    'maps', _HERE / 'signal_maps.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


maps = _maps()


def words(fig):
  """All text of a figure, each in one line."""
  found = fig.findobj(text_lib.Text)
  return [' '.join(t.get_text().split()) for t in found if t.get_text()]


def marks(fig, kind):
  """Colours of the points drawn as 'hollow' or 'filled'."""
  return [
    line.get_color()
    for ax in fig.axes
    for line in ax.lines
    if line.get_gid() == kind
  ]


def drawn(folder, lines, **config):
  """The map of a run with these lines, pairs (step, line)."""
  maps.run(folder, {}, config=config)
  for step, line in lines:
    run_writer.append(folder / 'signal.jsonl', step, line)
  return signal_lines.read([folder])


def test_every_signal_has_its_name_in_the_picture(tmp_path):
  found = signal_lines.read(maps.story(tmp_path))
  assert found.signals == list(maps.SIGNALS)
  text = words(signal_plot.draw(found))
  plan = signal_plot.plan(found)
  beside = {
    signal_names.short(s, plan.main, style.name)
    for s, style in plan.styles.items()
  }
  assert len(beside) == len(maps.SIGNALS)
  for name in beside:
    start = ' '.join(name.split())[:16]
    assert any(start in t for t in text), name


def test_many_signals_and_seeds_all_appear(tmp_path):
  signals = {f'mine(a={i})|grpo': (1 + i, 0.5) for i in range(40)}
  signals['outcome'] = (1, 1)
  dirs = [
    maps.run(
      tmp_path / f's{seed}', {0: (0.1, n, 0.1)}, signals=signals, seed=seed
    )
    for seed, n in enumerate((100, 300, 900))
  ]
  found = signal_lines.read(dirs)
  (cell,) = found.cells
  f = cell.points['outcome']
  assert (f.n, f.low, f.high) == (300, 100, 900)
  text = ''.join(words(signal_plot.draw(found))).replace(' ', '')
  assert all(s in text for s in signals if s != 'outcome')


def test_the_story_is_read_off_the_points(tmp_path):
  found = signal_lines.read(maps.story(tmp_path))
  story = signal_story.read(found, 'outcome')
  assert found.batch == 256
  # Step 20 needs 365, but its interval holds the batch.
  assert story.states == [
    'too rare',
    'heard',
    'quiet',
    'private',
    'private',
    'heard',
  ]
  assert story.private_from == 0.45
  # Between p = .009 (1951) and .053 (254), in log-odds and ln N.
  logit = lambda p: np.log(p / (1 - p))
  share = np.log(1951 / 256) / np.log(1951 / 254)
  at = logit(0.009) + share * (logit(0.053) - logit(0.009))
  np.testing.assert_allclose(logit(story.heard_from), at, rtol=1e-9)
  text = words(signal_plot.draw(found))
  assert 'A Outcome reward is first too rare, then heard, then private' in text
  assert any('PRIVATE' in t and 'ω = 0.008' in t for t in text)
  assert any('TOO RARE' in t for t in text)
  assert any('from a pass rate of 5.3%' in t for t in text)


@pytest.mark.parametrize(
  ('p', 'n', 'omega', 'state'),
  [
    (0.01, 2000, 0.2, 'too rare'),  # one problem alone needs 400
    (0.2, 700, 0.1, 'quiet'),  # and here 70: nobody knows why
    (0.2, 100, 0.1, 'heard'),
    (0.5, INF, NAN, 'quiet'),
  ],
)
def test_one_checkpoint(tmp_path, p, n, omega, state):
  found = drawn(tmp_path, [(3, maps.line('outcome', p=p, n=n, omega=omega))])
  assert signal_story.read(found, 'outcome').states == [state]
  text = words(signal_plot.draw(found))
  assert 'step 3' in text
  assert any('PRIVATE' in t for t in text) is False


def test_signals_that_point_away_are_hollow(tmp_path):
  found = signal_lines.read(maps.story(tmp_path))
  fig = signal_plot.draw(found)
  style = signal_plot.plan(found).styles
  hollow, filled = marks(fig, 'hollow'), marks(fig, 'filled')
  for s in ('majority', 'self_certainty', 'inverse(reward=outcome)'):
    assert style[s].color in hollow
  for s in ('outcome', 'format', 'sft'):
    assert style[s].color in filled
    assert style[s].color not in hollow
  assert any('step back' in t for t in words(fig))


def test_infinite_and_unknown_numbers(tmp_path):
  lines = [
    (0, maps.line('outcome', p=0.0, n=INF, omega=-0.1, settings='s')),
    (1, maps.line('outcome', p=0.3, n=50.0) | dict.fromkeys(
      ('log_noise_scale_se', 'root_se', 'omega_se', 'snr1', 'root'), NAN)),
    (2, maps.line('outcome', p=1.0, n=0.0)),
    (0, dict.fromkeys(maps.line('x', p=0.0), NAN) |
     {'signal': 'x', 'bin': 'all', 'p': 0.1, 'settings': 's'}),
    (0, {'signal': 'bare', 'p': 0.2, 'settings': 's'}),
    (0, {'signal': 'no rate', 'p': 'nan'}),
    (0, {'signal': 7, 'p': 0.1}),
    (0, {'signal': 'a bin', 'bin': 'low', 'p': 0.1}),
  ]  # fmt: skip
  found = drawn(tmp_path, lines)
  assert found.signals == ['outcome', 'x', 'bare']
  text = words(signal_plot.draw(found))
  assert 'too quiet to measure' in text
  assert not {'inf', 'nan'} & set(text)


@pytest.mark.parametrize(
  ('given', 'number'),
  [('nan', NAN), ('inf', INF), (-1e300, -INF), ('x', NAN), (None, NAN), (2, 2)],
)
def test_numbers_of_a_line(given, number):
  np.testing.assert_equal(signal_lines.value(given), number)


def test_intervals():
  line = maps.line('outcome', p=0.1, n=300.0)
  low, high = signal_lines._interval(line)
  np.testing.assert_allclose((low, high), 300 * np.exp([-0.5, 0.5]))
  # Without a small error of the logarithm: from total +- 2 errors.
  total = line['total'] * 1.3
  low, high = signal_lines._interval(line | {'log_noise_scale_se': 'nan'})
  np.testing.assert_allclose(low, 8 * (line['second'] - total) / total)
  less = line['total'] * 0.7
  np.testing.assert_allclose(high, 8 * (line['second'] - less) / less)
  line['total_se'] = 0.6 * line['total']
  assert signal_lines._interval(line | {'log_noise_scale_se': 1.4})[1] == INF
  # A signal that may be there or not, with the group's size or without.
  quiet = maps.line('outcome', p=0.1, n=INF) | {'total_se': 0.002}
  assert math.isnan(signal_lines._interval(quiet)[0])
  low, high = signal_lines._interval(quiet | {'group': 8})
  np.testing.assert_allclose(low, 8 * (1 - 0.003) / 0.003)


def test_group_and_batch_follow_from_a_line(tmp_path):
  # N = G (second - total) / total, root = cos sqrt(B / (B + N)).
  line = maps.line('outcome', p=0.1, n=300.0, group=16, batch=512, cos=-0.7)
  found = drawn(tmp_path, [(0, line)])
  assert found.batch == 512
  f = found.cells[0].points['outcome']
  np.testing.assert_allclose(f.alone, 16 / line['snr1'])
  more = line | {'rollouts': 64, 'group': 4}
  found = drawn(tmp_path / 'b', [(0, more)])
  assert found.batch == 64
  f = found.cells[0].points['outcome']
  np.testing.assert_allclose(f.alone, 4 / line['snr1'])


def test_newest_settings_count(tmp_path):
  lines = [
    (0, maps.line('outcome', p=0.1, settings='old')),
    (0, maps.line('random', p=0.1, settings='old')),
    (0, maps.line('outcome', p=0.2, settings='new')),
    (5, maps.line('outcome', p=0.3, settings='old')),
  ]
  found = drawn(tmp_path, lines)
  shown = [(c.step, c.p, list(c.points)) for c in found.cells]
  assert shown == [(0, 0.2, ['outcome']), (5, 0.3, ['outcome'])]


def test_another_number_across(tmp_path):
  line = lambda k: maps.line(
    'outcome', p=0.1**k, n=100 * 10**k, depth=k, settings=str(k),
    env=f'chain(depth={k + 1})',
  )  # fmt: skip
  maps.run(tmp_path, {}, config={'env': 'x(depth=9)'})
  for k in (1, 2, 3):
    run_writer.append(tmp_path / 'signal.jsonl', 0, line(k))
  found = signal_lines.read([tmp_path], across='depth')
  assert [c.x for c in found.cells] == [1, 2, 3]
  text = words(signal_plot.draw(found))
  assert 'depth' in text
  assert 'pass rate of the policy' not in text
  found = signal_lines.read([tmp_path], across='env.depth')
  assert [c.x for c in found.cells] == [2, 3, 4]
  with pytest.raises(ValueError, match=r'--x=other.*Keys with numbers'):
    signal_lines.read([tmp_path], across='other')


def test_labels_pool_runs_and_have_to_be_as_many(tmp_path):
  dirs = maps.story(tmp_path)
  assert [c.run for c in signal_lines.read(dirs).cells][::5] == [
    'rare',
    'reliable',
  ]
  found = signal_lines.read(dirs, ['a', 'b', 'a'])
  assert [c.run for c in found.cells] == ['a', 'b', 'b', 'b', 'b']
  assert found.cells[0].points['outcome'].each == (1951, 240)
  with pytest.raises(ValueError, match='2 labels and 3 directories'):
    signal_lines.read(dirs, ['a', 'b'])
  found = signal_lines.read(dirs, 'aaa', 'k', [3, 1, 3])
  assert [(c.x, c.step) for c in found.cells][:2] == [(1, 0), (3, 0)]
  assert 'k' in words(signal_plot.draw(found))
  with pytest.raises(ValueError, match='2 places and 3 directories'):
    signal_lines.read(dirs, across='k', at=[1, 2])
  with pytest.raises(ValueError, match='--x'):
    signal_lines.read(dirs, at=[1, 2, 3])


@pytest.mark.parametrize(
  ('dirs', 'labels'),
  [
    (['a/hard-s0', 'a/hard-s12', 'a/rare_s0'], ['hard', 'hard', 'rare']),
    (['r/base=a,seed=0', 'r/base=b,seed=0'], ['a', 'b']),
    (['r/seed=0', 'r/s1'], ['r', 'r']),
    (['x/hard-s0', 'y/hard-s0'], ['x/hard', 'y/hard']),
    (['r/bases0', 'r/lr=1,arm=2,seed=4/'], ['bases0', 'lr=1,arm=2']),
  ],
)
def test_directories_name_their_runs(dirs, labels):
  assert signal_lines._labels(dirs) == labels


@pytest.mark.parametrize(
  ('signal', 'name'),
  [
    ('outcome', 'outcome reward'),
    ('outcome|dr_grpo', 'outcome reward'),
    ('outcome|psr', 'outcome reward, right samples only (PSR)'),
    ('outcome|baseline(value={best})', 'outcome reward, baseline of least noise'),
    ('outcome|baseline(value=0.3)', 'outcome reward, baseline 0.3'),
    ('flip(reward=outcome, rate=0.1)', 'outcome, 10% of verdicts flipped'),
    ('flip(outcome, 0.3)', 'outcome, 30% of verdicts flipped'),
    ('flip(rate=.3, reward=majority)', 'majority answer, 30% of verdicts flipped'),
    ('permuted(reward=outcome)', 'outcome, shuffled'),
    ('similarity|grpo on steps(chain())', 'similarity to a solution, GRPO, step by step'),
    ('sft on other(a=1)', 'imitation of solutions'),
    ('outcome+format', 'outcome reward + format alone'),
    ('outcome|pass_at_k(k=4)', 'outcome reward, pass@k k=4'),
    ('mine(x=2)', 'mine(x=2)'),
    ('outcome|mine', 'outcome|mine'),
    ('inverse(reward=mine)', 'inverse(reward=mine)'),
    ('', ''),
    ('|(', '|('),
    (' on ', ' on '),
  ],
)  # fmt: skip
def test_names(signal, name):
  assert signal_names.name(signal) == name


def test_equal_names_become_the_signals_own_text():
  signals = ['outcome', 'outcome|dr_grpo', 'majority']
  assert signal_names.names(signals) == {
    'outcome': 'outcome',
    'outcome|dr_grpo': 'outcome|dr_grpo',
    'majority': 'majority answer',
  }


def test_hostile_names_are_drawn_and_escaped(tmp_path):
  signals = [_EVIL, 'outcome', '$x$' * 200, '\ud800 \x07 on \x00', '|' * 9]
  lines = [(0, maps.line(s, p=0.1)) for s in signals]
  found = drawn(tmp_path, lines)
  assert len(found.signals) == len(signals)
  signal_plot.picture(found, 'svg')
  page = report.build([tmp_path], tmp_path / 'report.html').read_text()
  assert '<script>' not in page
  assert '&lt;script&gt;a()' in page


def test_files_are_those_asked_for_and_the_same_each_time(tmp_path):
  found = signal_lines.read(maps.story(tmp_path))
  paths = signal_plot.save(found, tmp_path / 'a' / 'map')
  assert [p.name for p in paths] == ['map.svg', 'map.png']
  assert sorted(p.name for p in (tmp_path / 'a').iterdir()) == [
    'map.png',
    'map.svg',
  ]
  svg = paths[0].read_bytes()
  assert svg == signal_plot.picture(found, 'svg')
  assert paths[1].read_bytes().startswith(b'\x89PNG')


def test_nothing_to_draw(tmp_path):
  with pytest.raises(ValueError, match='measure one with scripts/signal_map'):
    signal_plot.draw(drawn(tmp_path, []))
  assert signal_page.section([tmp_path]) is None


def test_the_report_has_picture_and_table(tmp_path):
  dirs = maps.story(tmp_path)
  page = report.build(dirs[1:2], tmp_path / 'r.html').read_text()
  assert 'Signal map' in page
  assert 'Signals at step 100, pass rate 58%' in page
  assert 'no longer agree on what to' in page
  section = signal_page.section(dirs[1:2])
  assert isinstance(section['figure'], pages.Figure)
  assert section['figure'].source.startswith('data:image/svg+xml;base64,')
  rows = {r[0]: r[1:] for r in section['rows']}
  assert len(rows) == len(maps.SIGNALS)
  # 1775 exp(-+ 2 x .25) and 1775 x 31.5 tokens.
  assert rows['outcome reward'][:2] == ['1,780 (1,080 to 2,930)', '55,900']
  assert rows['outcome reward'][3] == '+0.36 ± 0.06'
  assert rows['random reward'][0].startswith('not found')


def test_a_page_of_runs_without_a_map_is_as_before(tmp_path):
  maps.run(tmp_path, {})
  page = report.build([tmp_path], tmp_path / 'r.html').read_text()
  assert 'Signal map' not in page


@pytest.mark.parametrize('count', [1, 2, 7, 40])
def test_names_beside_the_axes_keep_apart(count):
  rng = np.random.default_rng(count)
  wanted = np.sort(rng.uniform(-0.2, 1.2, count))
  heights = rng.uniform(0.2, 1.0, count) / count
  at = np.asarray(signal_marks._apart(wanted, heights))
  least = (heights[1:] + heights[:-1]) / 2
  assert (np.diff(at) >= least - 1e-12).all()
  assert at[0] - heights[0] / 2 >= -0.011
  assert at[-1] + heights[-1] / 2 <= 1.011
  # Those with room stay where they are wanted.
  np.testing.assert_allclose(
    signal_marks._apart([0.2, 0.8], [0.1, 0.1]), [0.2, 0.8]
  )


def test_the_command_draws_several_runs(tmp_path, capsys):
  spec = importlib.util.spec_from_file_location(
    'map_script', _HERE.parents[1] / 'scripts' / 'signal_map.py'
  )
  script = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(script)
  dirs = [str(d) for d in maps.story(tmp_path)]
  out = tmp_path / 'all.png'
  argv = ['--draw', *dirs, f'--out={out}', '--labels=x,y,z']
  assert script.main(argv) == 0
  assert 'all.svg' in capsys.readouterr().out
  assert out.exists()
  run = tmp_path / 'hard'
  assert [p.name for p in script.show(run)] == [
    'signal_map.svg',
    'signal_map.png',
  ]
  (run / 'report.html').write_text('old')
  assert script.show(run)[-1].name == 'report.html'
  assert 'Signal map' in (run / 'report.html').read_text()


def test_a_form_that_is_not_used_is_no_control():
  form = 'inverse(reward=contains(text=min))'
  assert signal_names.name(form) == "no 'min' in the text"
  assert signal_names.family(form) == 'free'
  assert signal_names.family('inverse(reward=outcome)') == 'control'


def test_the_table_has_a_row_for_each_checkpoint(tmp_path):
  steps = {0: (0.05, 254, 0.2), 20: (0.5, math.inf, 0.0)}
  drawn = signal_lines.read([maps.run(tmp_path / 'hard', steps)])
  head, rule, first, last = signal_table.table(
    drawn, ['majority', 'sft']
  ).splitlines()
  assert rule == '|' + ' --- |' * 8
  assert 'majority answer' in head
  cells = [c.strip() for c in first.strip('|').split('|')]
  assert cells[:3] == ['hard', '0', '0.050']
  assert cells[4] == '0.200 ± 0.040'
  assert cells[5].startswith('254 (')
  assert cells[5].endswith('), +0.71')
  assert cells[6].startswith('229, -0')  # .9 times 254, the other way
  assert last.split('|')[6].strip().startswith('not found')
  with pytest.raises(ValueError, match='No checkpoint has the signal'):
    signal_table.table(drawn, ['formt'])
