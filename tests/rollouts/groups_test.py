"""What verdicts and rewards of a step tell: signal/* of `groups.metrics`."""

import math

import numpy as np
import pytest

from rlvr_jax import enums, types
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import groups
from rlvr_jax.tasks import Task

RIGHT, WRONG = enums.Verdict.CORRECT, enums.Verdict.WRONG


def part(verdicts, rewards=None):
  """Groups with these verdicts; rewards: the outcome, or None for refused."""
  verdicts = np.array(verdicts)
  if rewards is None:
    rewards = (verdicts == RIGHT).astype(float).tolist()
  results = [
    [
      base.RewardResult(0.0, {}, refused=True)
      if x is None
      else base.RewardResult(x, {})
      for x in group
    ]
    for group in rewards
  ]
  transcripts = [
    [base.Transcript('', 1, enums.Stop.END, enums.Verdict(v)) for v in row]
    for row in verdicts
  ]
  score = types.Score(
    reward=np.zeros((*verdicts.shape, 1)),
    turns=np.ones((*verdicts.shape, 1), bool),
    belief=None,
    verdict=verdicts,
  )
  tasks = [Task(str(i), '', '', 'math', {}) for i in range(len(verdicts))]
  return groups.Collected(tasks, None, score, transcripts, results)


def signal(*parts, informative=(True,)):
  got = groups.metrics(parts, np.array(informative))
  return {k[7:]: v for k, v in got.items() if k.startswith('signal/')}


def test_known_values():
  one = part([[RIGHT, WRONG, WRONG, WRONG], [WRONG] * 4])
  two = part([[RIGHT] * 4, [RIGHT, RIGHT, WRONG, WRONG]])
  got = signal(one, two, informative=[True, False, False, True])
  quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
  more = 1 / (8 * math.log(2))
  assert got == pytest.approx(
    {
      'pass_variance': (0.25 * 0.75 + 0.5 * 0.5) * 4 / 3 / 4,
      'informative_groups': 0.5,
      'bits': (quarter + 1 + 2 * more) / 4,
      'agreement': 1.0,
    }
  )


@pytest.mark.parametrize('p', [0.05, 0.5, 0.9])
def test_pass_variance_has_no_bias(p):
  """The mean over all groups of four, with their probabilities."""
  total = 0.0
  for right in range(5):
    row = [RIGHT] * right + [WRONG] * (4 - right)
    weight = math.comb(4, right) * p**right * (1 - p) ** (4 - right)
    total += weight * signal(part([row]))['pass_variance']
  assert total == pytest.approx(p * (1 - p), rel=1e-12)


def test_agreement_is_a_correlation_within_groups():
  """Levels of groups, signs and scales do not matter; phi^2 for 0 and 1."""
  verdicts = [[RIGHT, WRONG], [WRONG, RIGHT], [RIGHT, WRONG]]
  inverse = part(verdicts, [[-1.0, 0.0], [5.0, 4.0], [7.0, 8.0]])
  assert signal(inverse)['agreement'] == pytest.approx(1.0)
  # Deviations 1/2: two products agree and one does not, (1/3)^2.
  mixed = part(verdicts, [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
  assert signal(mixed)['agreement'] == pytest.approx(1 / 9)
  half = part(verdicts, [[1.0, 0.0], [3.0, 3.0], [3.0, 3.0]])
  assert signal(half)['agreement'] == pytest.approx(1 / 3)


def test_what_is_not_defined_is_nan():
  ones = signal(part([[RIGHT], [WRONG]]))
  assert np.isnan(
    [ones[k] for k in ('pass_variance', 'bits', 'agreement')]
  ).all()
  fail = signal(part([[WRONG] * 4], [[0.1, 0.7, 0.2, 0.3]]))
  assert (fail['pass_variance'], fail['bits']) == (0.0, 0.0)
  assert math.isnan(fail['agreement'])
  # The mean of three times 0.1 is not 0.1: no spread all the same.
  constant = part([[RIGHT, WRONG, WRONG]], [[0.1, 0.1, 0.1]])
  assert math.isnan(signal(constant)['agreement'])
  noise = np.random.default_rng(0).random((200, 4)) * 1e-9
  rows = np.where(np.random.default_rng(1).random((200, 4)) < 0.5, RIGHT, WRONG)
  assert signal(part(rows, (0.1 + noise).tolist()))['agreement'] < 0.02


def test_a_refused_row_has_a_verdict_and_no_reward():
  verdicts = [[RIGHT, WRONG, enums.Verdict.UNVERIFIABLE]]
  got = signal(part(verdicts, [[1.0, 0.0, None]]))
  assert got['pass_variance'] == pytest.approx(1 / 3 * 2 / 3 * 3 / 2)
  assert got['agreement'] == pytest.approx(1.0)
  got = signal(part(verdicts, [[None, None, None]]), informative=[])
  assert np.isnan([got['agreement'], got['informative_groups']]).all()
