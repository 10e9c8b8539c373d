"""Rewards that read the policy's own probabilities."""

import math

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base


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
  'name', ['self_certainty', 'token_entropy', 'answer_probability']
)
def test_missing_signals_are_an_error_and_never_zero(name):
  fine = base.Signals(0.5, 1.0, 0.5)
  with pytest.raises(ValueError, match='1 of 2 transcripts have no signals'):
    values(name, fine, None)
  assert base.needs_signals([name])
  assert base.needs_signals(['outcome', f'all_of(outcome, inverse({name}))'])


def test_other_rewards_need_no_signals():
  others = set(registry.names('reward'))
  others -= {'self_certainty', 'token_entropy', 'answer_probability'}
  options = {
    'all_of': '(outcome)',
    'contains': '(self_certainty)',
    'flip': '(outcome)',
    'format': '(boxed)',
    'inverse': '(outcome)',
    'length_penalty': '(0.1)',
    'overlong': '(10, 2)',
    'permuted': '(outcome)',
  }
  specs = [name + options.get(name, '') for name in others]
  assert not base.needs_signals(specs)
  with pytest.raises(ValueError, match="Did you mean 'outcome'"):
    base.needs_signals(['inverse(outcom)'])
