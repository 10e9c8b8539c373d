"""Accuracy of a reward model on held-out rows: by hand, with intervals."""

import math
import types as namespaces

import numpy as np
import pytest

from rlvr_jax.evaluation import reward_accuracy
from rlvr_jax.rollouts import imitation
from rlvr_jax.stats import intervals
from rlvr_jax.tasks import Task


def task(question, **data):
  return Task(question, question, '', 'pair', data)


PAIRS = [task(q, chosen='a', rejected='b') for q in 'abcd']
SCORES = np.float32([[2, 1], [0, 0], [np.nan, 1], [3, -1]])


def test_pairs_by_hand():
  got = reward_accuracy.summary(SCORES, PAIRS)
  # A tie and a score that is NaN are wrong.
  assert got['eval/accuracy'] == 0.5
  ends = got['eval/accuracy_low'], got['eval/accuracy_high']
  assert ends == pytest.approx([float(x) for x in intervals.wilson(2, 4)])
  assert got['eval/refused'] == 0.25
  assert got['eval/chosen'] == pytest.approx(5 / 3)
  assert got['eval/rejected'] == pytest.approx(0)
  assert got['eval/margin'] == pytest.approx(5 / 3)
  assert 0 <= got['eval/margin_low'] < 5 / 3 < got['eval/margin_high'] <= 4
  assert (got['eval/n'], got['eval/prompts']) == (4, 4)


def test_pairs_of_one_prompt_are_not_independent():
  """The interval of ten pairs each of two prompts is that of two prompts."""
  tasks = [task(q, chosen='a', rejected='b') for q in 'ab' * 10]
  score = np.float32([[1, 0], [0, 1]] * 10)
  got = reward_accuracy.summary(score, tasks)
  assert (got['eval/accuracy'], got['eval/prompts']) == (0.5, 2)
  assert (got['eval/accuracy_low'], got['eval/accuracy_high']) == (0, 1)
  alike = reward_accuracy.summary(np.abs(score[:, ::-1] - score), tasks)
  assert alike['eval/accuracy'] == 0  # all ties: equal, whatever they are
  high = float(intervals.wilson(0, 2)[1])
  assert alike['eval/accuracy_high'] == pytest.approx(high)


def test_pairs_that_all_have_one_prompt_are_resampled_themselves():
  tasks = [task('Larger?', chosen='a', rejected='b') for _ in 'abcd']
  got = reward_accuracy.summary(SCORES, tasks)
  assert got['eval/prompts'] == 1
  want = reward_accuracy.summary(SCORES, PAIRS)
  assert got == want | {'eval/prompts': 1}


def test_rows_with_labels():
  labels = (True, True, False, False)
  tasks = [task(q, completion='a', label=x) for q, x in zip('abcd', labels)]
  score = np.float32([[2], [-1], [-3], [np.nan]])
  got = reward_accuracy.summary(score, tasks)
  assert got['eval/accuracy'] == 0.5
  assert got['eval/chosen'] == pytest.approx(0.5)
  assert got['eval/rejected'] == -3
  assert got['eval/auroc'] == 1
  q = [1 / (1 + math.exp(-x)) for x in (2, -1, -3)]
  brier = ((q[0] - 1) ** 2 + (q[1] - 1) ** 2 + q[2] ** 2) / 3
  assert got['eval/brier'] == pytest.approx(brier)
  assert 'eval/margin' not in got


def test_all_refused_and_the_names_there_are():
  got = reward_accuracy.summary(np.full((4, 2), np.nan), PAIRS)
  assert (got['eval/accuracy'], got['eval/refused']) == (0, 1)
  assert math.isnan(got['eval/margin'])
  assert math.isnan(got['eval/margin_low'])
  of = lambda count: reward_accuracy.possible(
    namespaces.SimpleNamespace(method='reward_model', num_generations=count)
  )
  assert set(of(2)) == set(got) - {'eval/n', 'eval/prompts'}
  assert {'eval/auroc', 'eval/ece_low', 'eval/accuracy_high'} < set(of(1))


def test_labels_of_rows():
  pairs = [task('a', margin=0.5), task('b')]
  label, margin = imitation.labels(pairs, imitation.PAIR)
  np.testing.assert_array_equal(label, [[1, -1], [1, -1]])
  np.testing.assert_array_equal(margin, [[0.5, 0.5], [0, 0]])
  rows = [task('a', label=True), task('b', label=False)]
  label, margin = imitation.labels(rows, imitation.LABELLED)
  np.testing.assert_array_equal(label, [[1], [-1]])
  np.testing.assert_array_equal(margin, [[0], [0]])
