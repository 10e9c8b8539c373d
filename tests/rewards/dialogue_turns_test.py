"""Rewards of turns, against the worked examples of ΔBelief-RL."""

import pathlib

import numpy as np
import pytest

from rlvr_jax import config, enums, registry
from rlvr_jax.rewards import base

STUDIES = pathlib.Path(__file__).parents[2] / 'configs' / 'studies'
CONFIG = STUDIES / 'twenty_questions' / 'twenty_questions.py'
OFFICIAL = (
  'win(2.0, every)',
  'length(-0.05, every)',
  'invalid(-5.0)',
  'repeated(-1.0)',
)


def game(kinds, won):
  n = len(kinds)
  return [
    base.Transcript(
      'q',
      3,
      enums.Stop.END,
      enums.Verdict.CORRECT if won else enums.Verdict.WRONG,
      turn=base.Turn(k, n, kind, won, k == n - 1),
    )
    for k, kind in enumerate(kinds)
  ]


def rewards(specs, kinds, won=False):
  reward = base.build(specs, [1.0] * len(specs))
  rows = game(kinds, won)
  return [g.value for g in reward([None] * len(rows), rows)]


def test_official_rewards_of_a_game_that_is_won():
  assert rewards(OFFICIAL, ['yes', 'finished'], True) == pytest.approx(
    [1.9] * 2
  )
  assert rewards(OFFICIAL, ['finished'], True) == pytest.approx([2.0])


def test_official_rewards_of_a_game_that_is_lost():
  kinds = ['no', 'invalid', 'repeated']
  assert rewards(OFFICIAL, kinds) == pytest.approx([-0.15, -5.15, -1.15])


@pytest.mark.parametrize('scale', ['tiny', 'smollm2', 'qwen3_1.7b'])
@pytest.mark.parametrize('won', [True, False])
def test_arms_of_the_config_pay_one_outcome(scale, won):
  """What outcome credit makes of a game, belief's arm has on every turn."""
  kinds = ['yes', 'no', 'yes']
  load = lambda arm: config.load(f'{CONFIG}:{scale},{arm}')
  outcome, belief = load('credit=outcome'), load('credit=delta_belief')
  own = np.array(rewards(outcome.reward_funcs, kinds, won))
  taken = np.ones(3, bool)
  credit = registry.get('credit', outcome.algo.credit)(own, None, taken)
  assert credit == pytest.approx([2.0 * won - 0.15] * 3)
  assert rewards(belief.reward_funcs, kinds, won) == pytest.approx(credit)
  last = rewards(load('credit=delta_belief,win=last').reward_funcs, kinds, won)
  assert last == pytest.approx([-0.05, -0.05, 2.0 * won - 0.05])


def test_the_published_log():
  """A game of 20 turns, lost; beliefs as in the log, then the relu's sum."""
  gains = [
    0, 0, 0, 0.4427, 1.1763, 0, 0, 1.0273, 7.3231, 0.7187, 0.5345, 0.2110, 0, 0,
    0, 0.6706, 0.1475, 3.0088, 0, 0.8935,
  ]  # fmt: skip
  own = np.array(rewards(OFFICIAL, ['no'] * 20), np.float32)
  belief = np.concatenate([[-17.6699], -17.6699 + np.cumsum(gains)])
  credit = registry.get('credit', 'delta_belief(weight=0.1)')
  total = credit(own, belief.astype(np.float32), np.ones(20, bool)).sum()
  assert float(total) == pytest.approx(-18.3846, abs=2e-4)


def test_the_last_turn_alone():
  specs = ('win(2.0)', 'length(-0.05, last)')
  assert rewards(specs, ['no', 'yes', 'finished'], True) == pytest.approx(
    [0, 0, 1.85]
  )


def test_a_constant_cost_is_linear_in_the_turns():
  assert rewards(('turn_cost(-0.05)',), ['no'] * 4) == pytest.approx(
    [-0.05] * 4
  )


@pytest.mark.parametrize(
  'name', ['win', 'length', 'turn_cost', 'invalid', 'repeated']
)
def test_a_row_that_is_no_turn_is_refused(name):
  reward = registry.get('reward', name)
  row = base.Transcript('q', 1, enums.Stop.END, enums.Verdict.WRONG)
  with pytest.raises(ValueError, match='for turns of a dialogue'):
    reward([None], [row])


@pytest.mark.parametrize(
  'spec', ['win(at=first)', 'win(value=x)', 'length(at=0)']
)
def test_bad_options_are_refused_without_rows(spec):
  with pytest.raises(ValueError, match=r'at=|value='):
    base.build((spec,), (1.0,))
