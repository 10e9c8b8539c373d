import jax
import numpy as np
import pytest

from rlvr_jax import types
from rlvr_jax.enums import Stop, Verdict


def rollout(**kw):
  """Two rows of one group: prompt of 2, samples of 2 and 1."""
  fields = {
    'tokens': np.array([[[5, 6, 7, 8], [5, 6, 9, 0]]]),
    'length': np.array([[4, 3]]),
    'turn': np.array([[[-1, -1, 0, 0], [-1, -1, 0, -1]]]),
    'logp': np.array([[[0, 0, -1, -2], [0, 0, -3, 0]]], np.float32),
    'stop': np.array([[Stop.END, Stop.LENGTH]]),
  }
  return types.Rollout(**fields | kw)


def score(**kw):
  fields = {
    'reward': np.array([[[1.0], [0.0]]], np.float32),
    'turns': np.ones((1, 2, 1), bool),
    'belief': None,
    'verdict': np.array([[Verdict.CORRECT, Verdict.WRONG]]),
  }
  return types.Score(**fields | kw)


def put(x, at, value):
  x = x.copy()
  x[at] = value
  return x


GOOD = rollout()


def test_valid_records_are_accepted():
  assert types.check_rollout(GOOD, score()) is None


@pytest.mark.parametrize(
  ('rule', 'change'),
  [
    ('turn has the shape of tokens', {'turn': GOOD.turn[..., :3]}),
    ('logp has the shape of tokens', {'logp': GOOD.logp[:, :1]}),
    (r'length is \[P, G\]', {'length': GOOD.length[0]}),
    (r'stop is \[P, G\]', {'stop': GOOD.stop[0]}),
    ('turn < K', {'turn': put(GOOD.turn, (0, 0, 3), 1)}),
    ('no sampled token beyond length', {'length': put(GOOD.length, (0, 0), 3)}),
    ('index 0 is never sampled', {'turn': put(GOOD.turn, (0, 0, 0), 0)}),
    ('logp <= 0', {'logp': put(GOOD.logp, (0, 0, 2), 0.1)}),
    (
      'logp is 0 where nothing was sampled',
      {'logp': put(GOOD.logp, (0, 1, 3), -1)},
    ),
  ],
)
def test_a_broken_rollout_is_refused_by_its_rule(rule, change):
  with pytest.raises(ValueError, match=rule):
    types.check_rollout(rollout(**change), score())


@pytest.mark.parametrize(
  ('rule', 'change'),
  [
    (r'turns is \[P, G, K\]', {'turns': np.ones((1, 2, 2), bool)}),
    (r'verdict is \[P, G\]', {'verdict': np.zeros((1, 3), int)}),
    ('reward is finite', {'reward': np.full((1, 2, 1), np.nan)}),
    ('reward is finite', {'reward': np.full((1, 2, 1), np.inf)}),
    ('reward is 0 where a turn', {'turns': np.zeros((1, 2, 1), bool)}),
  ],
)
def test_a_broken_score_is_refused_by_its_rule(rule, change):
  with pytest.raises(ValueError, match=rule):
    types.check_rollout(GOOD, score(**change))


def test_all_broken_rules_are_named_at_once():
  with pytest.raises(ValueError, match=r'turn < K; .*reward is finite'):
    types.check_rollout(
      rollout(turn=put(GOOD.turn, (0, 0, 3), 1)),
      score(reward=np.full((1, 2, 1), np.nan)),
    )


def test_a_nan_logp_is_left_to_the_update():
  logp = put(GOOD.logp, (0, 0, 2), np.nan)
  assert types.check_rollout(rollout(logp=logp), score()) is None


def test_records_are_pytrees_of_their_fields():
  got = jax.tree.map(lambda x: x + 1, GOOD)
  assert isinstance(got, types.Rollout)
  np.testing.assert_array_equal(got.length, [[5, 4]])
  # None is not a leaf: a Batch without a reference has four.
  x = np.zeros(1)
  batch = types.Batch(x, x, x, x, None)
  assert len(jax.tree.leaves(batch)) == 4
  assert len(jax.tree.leaves(batch.replace(logp_ref=x))) == 5
