"""Metrics of judgments, by hand and against enumeration."""

import itertools
import json

import numpy as np
import pytest

from rlvr_jax import enums, registry
from rlvr_jax.evaluation import eval_metrics, sample_store
from rlvr_jax.rewards import base
from rlvr_jax.verifiers import dispatch

SPEC = "judgments(pairs=comparisons(test_size=4), format='letter')"
TASKS = list(registry.get('env', SPEC)()['test'])


def table(texts, tasks=TASKS, file=None):
  """texts[m]: a letter for each sample of task m; '?' is unreadable."""
  n = len(texts[0])
  store = sample_store.Samples([t.id for t in tasks], n, file)
  for r, (task, row) in itertools.product(range(n), zip(tasks, texts)):
    verdict = dispatch.verify([task], [row[r]])[0]
    transcript = base.Transcript(row[r], 2, enums.Stop.END, verdict)
    store.add([sample_store.record(task, transcript, 0.5)])
  return store.table


def test_tasks_come_in_both_orders():
  assert [t.answer for t in TASKS] == ['A', 'B'] * 4
  assert TASKS[0].data['pair'] == TASKS[1].data['pair']


def test_metrics_by_hand():
  # Pair 0: right twice. 1: always the first. 2: always wrong. 3: unreadable.
  got = eval_metrics.summary(
    table(['AA', 'BB', 'AA', 'AA', 'BB', 'AA', '??', 'B?'])
  )
  want = {
    'accuracy': (2 + 2 + 2 + 1) / 16,
    'judge/vote@1': (2 + 2 + 2 + 1) / 16,
    'judge/vote@2': (1 + 1 + 1 + 1) / 8,
    'judge/unreadable': 3 / 16,
    'judge/first': (2 + 4 + 2) / 13,
    'judge/accuracy_first': (1 + 1 + 0 + 0) / 4,
    'judge/accuracy_second': (1 + 0 + 0 + 0.5) / 4,
    'judge/consistency': (1 + 0 + 1 + 0) / 4,
    'judge/both_orders': 1 / 4,
  }
  for name, value in want.items():
    assert got[f'eval/{name}'] == pytest.approx(value), name
    low, high = got[f'eval/{name}_low'], got[f'eval/{name}_high']
    assert low <= value + 1e-12
    assert high >= value - 1e-12
    assert high > low


def test_an_always_first_judge():
  got = eval_metrics.summary(table(['A'] * 8))
  assert got['eval/accuracy'] == 0.5
  assert got['eval/judge/first'] == 1
  assert got['eval/judge/accuracy_first'] == 1
  assert got['eval/judge/accuracy_second'] == 0
  assert got['eval/judge/consistency'] == 0
  # Each order was judged for four pairs: Wilson's interval of 4 of 4.
  assert got['eval/judge/accuracy_first_low'] == pytest.approx(0.510, abs=1e-3)
  # Pairs are resampled whole: a bootstrap over tasks would let the accuracy
  # leave one half.
  assert got['eval/judge/both_orders'] == 0
  assert got['eval/judge/vote@1'] == 0.5


def test_nothing_readable():
  got = eval_metrics.summary(table(['??'] * 8))
  assert got['eval/accuracy'] == got['eval/judge/vote@2'] == 0
  assert got['eval/judge/unreadable'] == 1
  assert np.isnan(got['eval/judge/first'])


def test_possible_names_hold_those_that_appear():
  got = eval_metrics.summary(table(['AA', 'BB'] * 4))
  known = eval_metrics.possible(2, judgments=True)
  names = {k for k in got if 'judge/' in k}
  assert names == {k for k in known if 'judge/' in k}
  assert not any('judge/' in k for k in eval_metrics.possible(2))


def test_samples_survive_their_file(tmp_path):
  settings, ids = {'content': {}}, [t.id for t in TASKS]
  path = sample_store.path_of(tmp_path, 1, settings)
  texts = ['AB', 'B?', 'AA', 'AA', 'BB', 'AA', '??', 'B?']
  records = [
    sample_store.record(
      task, base.Transcript(row[r], 2, enums.Stop.END, enums.Verdict.WRONG), 0.5
    )
    for r in range(2)
    for task, row in zip(TASKS, texts)
  ]
  with sample_store.open(path, settings, ids, 2, 8) as store:
    store.add(records[:8])
    store.add(records[8:])
    want = store.table.judged
  with sample_store.open(path, settings, ids, 2, 8) as store:
    assert store.done == 16
    for a, b in zip(want, store.table.judged):
      np.testing.assert_array_equal(a, b)
  lines = path.read_text().splitlines()
  bad = json.loads(lines[3]) | {'judged': ['x', 7, 0]}
  lines[3] = json.dumps(bad)
  path.write_text('\n'.join(lines) + '\n')
  with sample_store.open(path, settings, ids, 2, 8) as store:
    assert store.done == 0  # sampled again
