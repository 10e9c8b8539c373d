"""The arithmetic and the refusals of the benchmark; nothing is timed."""

import json
import pathlib
import sys
import types

import numpy as np
import pytest

_SCRIPTS = pathlib.Path(__file__).parent.parent / 'scripts'
sys.path.insert(0, str(_SCRIPTS))
try:
  import bench
  import bench_dialogues
  from bench_peers import common, figures
finally:
  sys.path.remove(str(_SCRIPTS))


def step(step_s, tokens=2048, warmup=False, case='4 x 8 x 64', **kw):
  return {
    'kind': 'step',
    'case': case,
    'warmup': warmup,
    'step_s': step_s,
    'rollout_s': step_s / 4,
    'train_s': step_s / 2,
    'tokens': tokens,
    'longest': 64,
    'cpu_user_s': step_s,
    'cpu_system_s': 0.5,
    'reward': None,
    'peak_rss_gib_steady': None if warmup else 2.0,
    'peak_rss_gib_run': 3.0,
  } | kw


def run(side, turn, seconds, *, gemm=200.0, others=0.0, failed=None, **kw):
  return {
    'side': side,
    'turn': turn,
    'gemm_gflops_before': [gemm] * 3,
    'gemm_gflops_after': [gemm] * 3,
    'other_cores': others,
    'steps': [step(1000.0, warmup=True), *(step(s, **kw) for s in seconds)],
    'failed': failed,
  }


RUNS = [
  run('ours', 0, [10, 12]),
  run('tunix', 0, [22, 22]),
  run('ours', 1, [20, 20]),
  run('tunix', 1, [30, 30]),
]


def test_spread_is_median_and_extremes():
  assert figures.spread([3, 1, 2, 10]) == [2.5, 1, 10]
  with pytest.raises(ValueError, match='No values'):
    figures.spread([])


def test_summary_pools_turns_and_leaves_out_the_warm_up():
  ours = figures.summarise(RUNS)['4 x 8 x 64']['ours']
  assert ours['step_s'] == [16, 10, 20]
  assert ours['steps'] == 4
  assert ours['other_s'] == [4, 2.5, 5]
  assert ours['tokens_per_s'][1:] == [2048 / 20, 2048 / 10]
  assert 'ratio' not in ours


def test_ratio_is_of_medians_and_its_spread_is_over_turns():
  tunix = figures.summarise(RUNS)['4 x 8 x 64']['tunix']
  # Turns: 22 / 11 and 30 / 20; pooled: 26 / 16.
  assert tunix['ratio'] == [26 / 16, 1.5, 2.0]


def test_token_ratio_counts_tokens_and_not_steps():
  runs = [run('ours', 0, [10], tokens=100), run('trl', 0, [10], tokens=400)]
  trl = figures.summarise(runs)['4 x 8 x 64']['trl']
  assert trl['ratio'] == [1, 1, 1]
  assert trl['token_ratio'] == [0.25] * 3


def test_a_failed_process_leaves_the_others_figures():
  runs = [*RUNS, run('trl', 0, [1], failed='Refused: no.')]
  summary = figures.summarise(runs)['4 x 8 x 64']
  assert set(summary) == {'ours', 'tunix'}
  text = figures.report(runs)
  assert 'trl: Refused: no.' in text
  assert 'tunix takes 1.62 [1.50-2.00] times our time' in text


def test_without_ours_there_is_no_ratio():
  text = figures.report([run('tunix', 0, [22])])
  assert '22.0 [22.0-22.0]' in text
  assert 'times our time' not in text


def test_an_install_that_failed_is_reported():
  failed = {'side': 'trl', 'turn': 0, 'steps': [], 'failed': 'no disk'}
  assert 'trl: no disk' in figures.report([failed])
  assert 'Nothing was run' in figures.report([failed])


def test_a_busy_machine_is_called_busy():
  assert 'BUSY' not in figures.report(RUNS)
  busy = [*RUNS, run('trl', 0, [30], gemm=120.0)]
  assert '120 to 200 GFLOP/s' in figures.report(busy)
  assert 'THE MACHINE WAS BUSY' in figures.report(busy)
  busy = [*RUNS, run('trl', 0, [30], others=0.5)]
  assert 'up to 0.50 cores. THE MACHINE WAS BUSY' in figures.report(busy)
  unknown = [*RUNS, run('trl', 0, [30], others=None)]
  assert 'BUSY' not in figures.report(unknown)


def test_table_aligns_the_first_column_left_and_others_right():
  text = figures.text_table([['', 's'], ['ours', '9.5'], ['trl', '10.5']])
  assert text == '         s\nours   9.5\ntrl   10.5'


def test_gemm_rates_are_ordered():
  worst, median, best = bench.gemm_gflops(size=64, times=3)
  assert 0 < worst <= median <= best


def test_sides_and_defaults():
  args = bench.parse(['--work=W1'])
  assert args.sides == ['ours', 'tunix', 'trl']
  assert (args.steps, args.repeats, args.warmup) == (2, 3, 1)
  assert bench.parse(['--work=W2', '--peer=trl']).sides == ['ours', 'trl']
  args = bench.parse(['--work=W3', '--peer=none', '--dtype=bfloat16'])
  assert args.sides == ['ours']


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--work=W5'], 'invalid choice'),
    ([], 'required'),
    (['--work=W1', '--peer=verl'], 'invalid choice'),
    (['--work=W1', '--repeats=0'], 'must be >= 1'),
    (['--work=W1', '--steps=0'], 'must be >= 1'),
    (['--work=W1', '--dtype=bfloat16'], 'needs --peer=none'),
  ],
)
def test_wrong_arguments_are_refused(argv, message, capsys):
  with pytest.raises(SystemExit):
    bench.parse(argv)
  assert message in capsys.readouterr().err


def test_a_failure_is_described_in_one_line(tmp_path):
  log = tmp_path / 'log'
  log.write_text('x\nRefused: logits differ.\n')
  assert bench.failure(0, log) is None
  assert bench.failure(common.REFUSED, log) == 'Refused: logits differ.'
  assert 'memory' in bench.failure(-9, log)
  log.write_text('Traceback\nValueError: no\n\n')
  assert bench.failure(1, log).startswith('exit code 1: ValueError: no; see')


def test_an_unfinished_line_is_not_read_yet(tmp_path):
  path = tmp_path / 'x.jsonl'
  assert bench.read(path) == []
  path.write_text('{"a": 1}\n{"a": ')
  assert bench.read(path) == [{'a': 1}]


def test_work_is_what_the_table_says():
  assert common.digit_share('7 + 5 = 12') == 0.4
  assert common.digit_share('') == 0
  (w1,) = common.WORKS['W1'].cases
  assert (len(w1.prompts), w1.samples, w1.max_new) == (4, 8, 64)
  assert w1.prompt_tokens == (64, 48, 42, 38)
  assert len(set(common.WORKS['W2'].cases[0].prompts)) == 4
  trial = common.capped(common.WORKS['W3'], 100)
  assert [c.max_new for c in trial.cases] == [64, 100]
  assert common.capped(trial, 0) is trial


def side_args(tmp_path, work='W1'):
  argv = ['--work', work, '--model', str(tmp_path), '--steps=1', '--warmup=1']
  return common.parse([*argv, '--out', str(tmp_path / 'out.jsonl')])


def test_prove_refuses_another_model(tmp_path, capsys):
  args = side_args(tmp_path)
  reference = np.zeros((3, 5), np.float32)
  np.save(tmp_path / common.REFERENCE, reference)
  proof = common.prove(args, reference + 5e-4, 'It is 4.')
  assert proof['logits_max_diff'] == pytest.approx(5e-4)
  wrong = [
    (reference + 2e-3, '4', 'logits differ'),
    (reference * np.nan, '4', 'logits differ'),
    (reference[:, 1:], '4', 'shape'),
    (reference, 'It is 5.', 'without a 4'),
  ]
  for logits, answer, message in wrong:
    with pytest.raises(SystemExit) as e:
      common.prove(args, logits, answer)
    assert e.value.code == common.REFUSED
    assert message in capsys.readouterr().out


def test_recorder_marks_warm_up_and_refuses_other_work(tmp_path, capsys):
  args = side_args(tmp_path)
  (case,) = common.turns(args)[:1]
  record = common.recorder(
    args, {'answer': '4'}, versions={'jax': '1'}, backend='cpu'
  )
  for _ in range(2):
    record(case, lengths=[64] * 32, rollout_s=0.1, train_s=0.2, reward=0.5)
  with pytest.raises(SystemExit):
    record(case, lengths=[32] * 32, rollout_s=0.1)
  assert '1024 tokens instead of 32 rows of 64' in capsys.readouterr().out
  proof, first, second = map(
    json.loads, (tmp_path / 'out.jsonl').read_text().splitlines()
  )
  assert (proof['answer'], proof['dtype']) == ('4', 'float32')
  assert (first['warmup'], second['warmup']) == (True, False)
  assert first['peak_rss_gib_steady'] is None
  assert second['peak_rss_gib_run'] >= second['peak_rss_gib_steady'] > 0
  assert (second['tokens'], second['longest']) == (2048, 64)


def test_turns_warm_up_every_case_first(tmp_path):
  args = side_args(tmp_path, 'W3')
  assert [c.name for c in common.turns(args)] == ['32 x 64', '1 x 128'] * 2


def test_prompts_of_another_length_are_refused(tmp_path, capsys):
  args = side_args(tmp_path, 'W2')
  common.check_prompts(args, lambda text: [0] * 39)
  with pytest.raises(SystemExit):
    common.check_prompts(args, str.split)
  assert 'the tokenizer differs' in capsys.readouterr().out


def test_tokens_that_dialogues_compute():
  """Messages of 3 and 2 tokens, and of 1; replies of 4; prompts of 5."""

  def episode(counts, tokens):
    return types.SimpleNamespace(
      counts=counts, tokens=[0] * tokens, last_reply=[0] * 4, context_ends=[5]
    )

  episodes = [episode([3, 2], 5 + 3 + 4 + 2), episode([1], 5 + 1)]
  computed, needed = bench_dialogues.work(episodes, fed=6)
  # Three readings of 6 columns; the first tokens of both turns come from them.
  assert computed == 2 * (3 * 6 + 2 + 1)
  assert needed == 3 + 4 + 2 + 4 + 1 + 4
