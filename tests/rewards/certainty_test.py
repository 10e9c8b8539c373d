"""Rewards that read the policy's own probabilities."""

import math

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task

OF_ANSWERS = ('answer_probability', 'answer_gap')


def rows(*signals):
  return [
    base.Transcript('', 3, enums.Stop.END, enums.Verdict.WRONG, s)
    for s in signals
  ]


def values(spec, *signals):
  results = base.build([spec], [1.0])([None] * len(signals), rows(*signals))
  return [None if r.refused else r.value for r in results]


def test_each_reward_reads_its_signal():
  full = base.Signals(1.163371, 0.553895, 0.822828)
  no_answer = base.Signals(0.0, 2.5, None)
  assert values('self_certainty', full, no_answer) == [0.553895, 2.5]
  assert values('token_entropy', full, no_answer) == [-1.163371, 0.0]
  assert values('answer_probability', full, no_answer) == [0.822828, 0.0]
  assert values('answer_probability(missing=-1)', no_answer) == [-1]
  assert values('inverse(answer_probability)', full) == [1 - 0.822828]


def test_a_signal_that_is_not_finite_refuses_its_row_alone():
  bad = base.Signals(math.nan, 1.0, None)
  good = base.Signals(0.5, 1.0, None)
  assert values('token_entropy', bad, good) == [None, -0.5]


@pytest.mark.parametrize(
  'name', ['self_certainty', 'token_entropy', *OF_ANSWERS]
)
def test_missing_signals_are_an_error_and_never_zero(name):
  fine = base.Signals(0.5, 1.0, 0.5)
  with pytest.raises(ValueError, match='1 of 2 transcripts have no signals'):
    values(name, fine, None)
  assert base.needs_signals([name])
  assert base.needs_signals(['outcome', f'all_of(outcome, inverse({name}))'])


def test_other_rewards_need_no_signals():
  others = set(registry.names('reward'))
  others -= {'self_certainty', 'token_entropy', *OF_ANSWERS}
  options = {
    'all_of': '(outcome)',
    'contains': '(self_certainty)',
    'flip': '(outcome)',
    'format': '(boxed)',
    'inverse': '(outcome)',
    'length_penalty': '(0.1)',
    'overlong': '(10, 2)',
    'permuted': '(outcome)',
    'reward_model': "('runs/rm')",
  }
  specs = [name + options.get(name, '') for name in others]
  assert not base.needs_signals(specs)
  with pytest.raises(ValueError, match="Did you mean 'outcome'"):
    base.needs_signals(['inverse(outcom)'])


def gaps(spec, *gaps, tasks=None):
  """Rewards of rows with these gaps, of one task unless `tasks` says which."""
  named = [Task(t, '?', '1', 'math', {}) for t in tasks or 'a' * len(gaps)]
  signals = [base.Signals(0.5, 1.0, 0.9, gap) for gap in gaps]
  results = base.build([spec], [1.0])(named, rows(*signals))
  return [None if r.refused else r.value for r in results]


def test_the_gap_is_a_reward_on_three_scales():
  c = (0.2, 0.5, 0.6, 0.9)
  assert gaps('answer_gap', *c) == list(c)
  want = [-1, -0.142857, 0.142857, 1]
  assert gaps("answer_gap(scale='minmax')", *c) == pytest.approx(want, abs=1e-6)
  want = [-0.6, 0, 0.2, 0.8]
  assert gaps("answer_gap(scale='2c-1')", *c) == pytest.approx(want, abs=1e-9)
  with pytest.raises(ValueError, match="scale='max' must be one of"):
    gaps('answer_gap(scale=max)', *c)


def test_minmax_is_of_one_task_and_of_equal_gaps_nothing():
  spec = "answer_gap(scale='minmax')"
  assert gaps(spec, 0.1, 0.5, 0.3, 0.9, tasks='abab') == [-1, -1, 1, 1]
  assert gaps(spec, 0.7, 0.7, 0.2, tasks='aab') == [0, 0, 0]
  # A row that is not finite is refused, and no end of the scale.
  assert gaps(spec, math.nan, 0.1, 0.2) == [None, -1, 1]


def test_a_row_without_an_answer_leaves_its_group_or_has_its_own_reward():
  assert gaps('answer_gap', None, 0.5) == [None, 0.5]
  spec = "answer_gap(scale='2c-1', missing=-1)"
  assert gaps(spec, None, 0.5) == [-1, 0]
  with pytest.raises(ValueError, match='missing'):
    gaps('answer_gap(missing=1e30)', 0.5)
