import itertools

import numpy as np
import pytest

from rlvr_jax import codes, evaluate, sampler
from rlvr_jax.envs.core import Task
from rlvr_jax.io import tokenizer as tokenizers
from rlvr_jax.rewards import core

BYTES = tokenizers.byte_level()
MARKS = {
  'x': codes.Verdict.CORRECT,
  '.': codes.Verdict.WRONG,
  '?': codes.Verdict.UNVERIFIABLE,
}


def tasks(n):
  """Task i asks for i."""
  return [Task(f't{i}', str(i), str(i), 'math', {}) for i in range(n)]


def evaluation(*rows, texts=None):
  """A row of marks for each task; `texts` are what the samples say."""
  texts = texts or [['7'] * len(row) for row in rows]
  return evaluate.Evaluation(
    tasks(len(rows)),
    [
      [
        core.Transcript(text, 3, codes.Stop.END, MARKS[mark])
        for text, mark in zip(said, row, strict=True)
      ]
      for said, row in zip(texts, rows, strict=True)
    ],
  )


def test_accuracy_of_single_samples_has_wilsons_interval():
  got = evaluate.summary(evaluation(*('x' * 3 + '.' * 7)))
  assert got['eval/accuracy'] == pytest.approx(0.3)
  # 3 of 10, 95 %, as published calculators give it.
  assert got['eval/accuracy_low'] == pytest.approx(0.10779, abs=1e-4)
  assert got['eval/accuracy_high'] == pytest.approx(0.60322, abs=1e-4)
  assert got['eval/n'] == 10
  assert got['eval/samples'] == 1
  assert not any('pass@' in k or 'maj@' in k for k in got)


@pytest.mark.parametrize(
  ('mark', 'low', 'high'), [('x', 0.7225, 1), ('.', 0, 0.2775)]
)
def test_an_interval_at_the_ends_is_not_empty(mark, low, high):
  got = evaluate.summary(evaluation(*(mark * 10)))
  assert got['eval/accuracy_low'] == pytest.approx(low, abs=1e-4)
  assert got['eval/accuracy_high'] == pytest.approx(high, abs=1e-4)


def test_strategies_are_reported_where_tasks_have_them():
  got = evaluation(
    'x.', 'x?', texts=[['#### 1', '1'], ['#### 3', '\\boxed{2}']]
  )
  plain = evaluate.summary(got)
  assert not any('strategy' in name for name in plain)
  data = {'strategy': 'direct', 'terms': 2}
  got = got._replace(tasks=[t._replace(data=data) for t in got.tasks])
  told = evaluate.summary(got)
  assert told['eval/strategy/direct'] == 0.75
  assert told['eval/strategy_accuracy/direct'] == pytest.approx(2 / 3)
  assert told.items() >= plain.items()


def test_pass_at_k_equals_brute_force():
  rows = ['x...', '....', 'xxxx', '.xx.', 'xxx.']
  got = evaluate.summary(evaluation(*rows))
  for k in (1, 2, 4):
    want = np.mean(
      [
        np.mean(['x' in some for some in itertools.combinations(row, k)])
        for row in rows
      ]
    )
    assert got[f'eval/pass@{k}'] == pytest.approx(want, abs=1e-6)
    assert got[f'eval/pass@{k}_low'] <= want <= got[f'eval/pass@{k}_high']
  # pass@1 is the accuracy; powers of two only.
  assert got['eval/pass@1'] == pytest.approx(got['eval/accuracy'], abs=1e-6)
  assert 'eval/pass@3' not in got
  assert got['eval/accuracy'] == pytest.approx(10 / 20)


def test_powers_of_two_stop_at_the_number_of_samples():
  got = evaluate.summary(evaluation('x..', '...'))
  ks = {k for k in got if k.startswith('eval/pass@') and k[-1].isdigit()}
  assert ks == {'eval/pass@1', 'eval/pass@2'}
  assert 'eval/maj@3' in got


@pytest.mark.parametrize(
  ('texts', 'marks', 'right'),
  [
    (['7', '7', '8'], 'xx.', 1),
    (['8', '8', '7'], '..x', 0),
    (['8', '7.0', '7'], '.xx', 1),  # equal numbers are one answer
    (['8', '7', '9'], '.x.', 0),  # a tie goes to the one said first
    (['7', '8', '9'], 'x..', 1),
    (['none', 'none', '7'], '..x', 1),  # no answer is no vote
    (['none', 'none', 'none'], '...', 0),
  ],
)
def test_majority_vote_by_hand(texts, marks, right):
  got = evaluate.summary(evaluation(marks, texts=[texts]))
  assert got['eval/maj@3'] == right


def test_bootstrap_is_over_tasks_and_fixed_by_the_seed():
  rows = ['x' * 4] * 5 + ['.' * 4] * 5
  a, b = (evaluate.summary(evaluation(*rows), seed=3) for _ in range(2))
  assert a == b
  # Ten tasks, not forty independent samples: 0.5 +- 1.96 sqrt(0.25 / 10).
  assert a['eval/accuracy_low'] == pytest.approx(0.19, abs=0.06)
  assert a['eval/accuracy_high'] == pytest.approx(0.81, abs=0.06)
  # Where all tasks agree there is no doubt to resample.
  sure = evaluate.summary(evaluation('x.', '.x'))
  assert sure['eval/accuracy_low'] == sure['eval/accuracy_high'] == 0.5


def test_other_rates_are_means_over_samples():
  made = evaluation('x?', '.?')
  cut = made.transcripts[0][0]._replace(stop=codes.Stop.LENGTH, num_tokens=7)
  made.transcripts[0][0] = cut
  got = evaluate.summary(made)
  assert got['eval/unverifiable'] == 0.5
  assert got['eval/clipped_ratio'] == 0.25
  assert got['eval/mean_length'] == (7 + 3 * 3) / 4


def run(n, batch_size, samples=1, **kw):
  """Every row answers its prompt, in the second round the digit after it."""
  calls = []

  def sample(prompt, length, number, round_):
    calls.append((prompt.shape, number, round_, prompt[:, 0].tolist()))
    tokens = np.stack([prompt[:, 0] + round_, np.full(len(prompt), 258)], 1)
    rows = len(prompt)
    return sampler.Sampled(
      tokens, np.zeros((rows, 2)), np.full(rows, 2), np.ones(rows, int)
    )

  result = evaluate.run(
    tasks(n),
    sample,
    encode=lambda task: BYTES.encode(task.question),
    tokenizer=BYTES,
    samples=samples,
    batch_size=batch_size,
    max_prompt_length=3,
    timeout_s=3.0,
    **kw,
  )
  return result, calls


def test_a_short_last_batch_keeps_the_shape_and_counts_each_task_once():
  done = []
  result, calls = run(5, 3, progress=done.append)
  assert [c[0] for c in calls] == [(3, 3), (3, 3)]
  assert [c[3] for c in calls] == [[*b'012'], [*b'343']]
  assert [[t.completion for t in row] for row in result.transcripts] == [
    ['0'], ['1'], ['2'], ['3'], ['4'],
  ]  # fmt: skip
  assert done == [3, 5]
  assert evaluate.summary(result)['eval/accuracy'] == 1.0
  assert evaluate.summary(result)['eval/n'] == 5


def test_batch_size_cannot_change_the_answer():
  one, _ = run(5, 5)
  for size in (1, 2, 8):
    assert run(5, size)[0] == one


def test_rounds_are_samples_of_the_same_task():
  result, calls = run(3, 2, samples=2)
  assert [c[1:3] for c in calls] == [(0, 0), (0, 1), (1, 0), (1, 1)]
  assert [[t.completion for t in row] for row in result.transcripts] == [
    ['0', '1'], ['1', '2'], ['2', '3'],
  ]  # fmt: skip
  got = evaluate.summary(result)
  assert got['eval/accuracy'] == 0.5
  assert got['eval/pass@1'] == pytest.approx(0.5, abs=1e-6)
  assert got['eval/pass@2'] == pytest.approx(1.0, abs=1e-6)
