"""Signals by name."""

import jax
import pytest

from configs import common
from rlvr_jax import checks
from rlvr_jax.models import sharding
from rlvr_jax.ops import aggregate, credit, estimators
from rlvr_jax.rollouts import judge_checks
from rlvr_jax.signal_map import samples, signals


def parse(text, **keys):
  c = common.base()
  c.update_from_flattened_dict(keys)
  return signals.parse(text, c)


def test_parts_are_told_apart_by_their_names():
  s = parse('outcome|token_mean|grpo(ddof=0)|stepwise(gamma=1.0)')
  assert s.rewards == ('outcome',)
  assert s.weights == (1.0,)
  assert s.algorithm.aggregate is aggregate.token_mean
  assert s.algorithm.estimate.keywords == {'ddof': 0}
  assert s.algorithm.credit.func is credit.stepwise
  assert s.estimate == 'grpo(ddof=0)'
  assert (s.env, s.imitates) == ('', False)


def test_parts_that_are_left_out():
  s = parse('format(boxed)', **{'algo.estimate': 'rloo', 'algo.beta': 0.1})
  assert s.algorithm.estimate is estimators.dr_grpo
  assert s.algorithm.aggregate is aggregate.seq_mean_token_sum
  assert s.algorithm.credit is credit.outcome
  assert s.algorithm.kl is None


def test_rewards_add_up_and_run_is_the_runs_own():
  s = parse(
    'outcome+run',
    reward_funcs=('format(boxed)', 'random(p=0.5)'),
    reward_weights=(0.5, 2.0),
  )
  assert s.rewards == ('outcome', 'format(boxed)', 'random(p=0.5)')
  assert s.weights == (1.0, 0.5, 2.0)


def test_runs_are_sampled_without_their_teacher_or_judge():
  mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
  judge = {'judge.name': 'policy', 'judge.weight': 1.0}
  judge |= {'reward_funcs': ('judge(format=letter)',)}
  teacher = {'algo.distill': 'loss', 'teacher.context': 'both'}
  teacher |= {'teacher.weights': 'ema', 'teacher.accuracy_every': 2}
  for changes in (judge, teacher):
    for imitates in (False, True):
      c = common.base()
      c.update_from_flattened_dict(changes)
      c = samples.config_for(c, 4, 1, imitates=imitates)
      checks.check_config(c, mesh)
      judge_checks.check_config(c, None, False)
      assert not c.algo.distill


def test_tasks_of_another_environment_and_imitation():
  s = parse("similarity|grpo on steps(chain(depth=2, ops='+-'), terse=True)")
  assert s.env == "steps(chain(depth=2, ops='+-'), terse=True)"
  s = parse('sft on chain(depth=2)')
  assert s.imitates
  assert s.env == 'chain(depth=2)'
  assert s.rewards == ()


def test_separators_within_brackets_and_quotes_separate_nothing():
  text = "contains('a|b, on c'),outcome|grpo(eps=1e-6, ddof=0)"
  names = [s.name for s in signals.parse_all(text, common.base())]
  assert names == ["contains('a|b, on c')", 'outcome|grpo(eps=1e-6, ddof=0)']
  assert signals.split("a on b(' on ')", ' on ') == ['a', "b(' on ')"]


@pytest.mark.parametrize(
  ('text', 'match'),
  [
    ('outcom', "Did you mean 'outcome'"),
    ('outcome|grppo', "Did you mean 'grpo'"),
    ('outcome|grpo|rloo', "'grpo' and 'rloo' are both of the kind estimator"),
    ('outcome|', 'a part is empty'),
    ('|grpo', 'a part is empty'),
    ('outcome on chain() on chain()', 'two environments'),
    ('outcome on chains(depth=2)', "Did you mean 'chain'"),
    ('sft|grpo', 'has no estimator'),
    ('outcome|remax', 'greedy'),
    ('outcome+outcome', 'repeat'),
    ('outcome|grpo(eps=0)', 'eps'),
    ('outcome|gae(gamma=1.0, lam=0.95)|stepwise(gamma=1.0)', 'critic'),
  ],
)
def test_what_is_refused(text, match):
  with pytest.raises(ValueError, match=match) as e:
    parse(text)
  assert text in str(e.value)


def test_a_list_names_each_signal_once():
  with pytest.raises(ValueError, match='twice'):
    signals.parse_all('outcome,outcome', common.base())
  with pytest.raises(ValueError, match='at least one'):
    signals.parse_all(' , ', common.base())


def test_which_rewards_are_used():
  some = [parse('outcome'), parse('inverse(majority)|rloo')]
  assert signals.needs(some, 'majority')
  assert not signals.needs(some, 'random')


def test_the_best_baseline_takes_the_place_of_its_name():
  c = common.base()
  s = signals.parse('outcome|baseline(value={best})', c, 0.25)
  assert s.estimate == 'baseline(value=0.25)'
  assert s.name == 'outcome|baseline(value={best})'
