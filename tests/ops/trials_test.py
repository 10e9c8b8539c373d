"""Functions that break the contract of their kind are refused by `get`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import estimators, trials


@pytest.fixture
def refused():
  """refused(function): what `get` says of it as the estimator 'mine'."""

  def error(fn, kind='estimator'):
    registry.register(kind, 'mine')(fn)
    try:
      with pytest.raises(ValueError, match=f"^{kind} 'mine': ") as e:
        registry.get(kind, 'mine')
    finally:
      del registry._FUNCTIONS[kind]['mine']
    return str(e.value)

  return error


def centred(score, valid):
  score = jnp.where(valid, score, 0.0)
  mean = score.sum() / jnp.maximum(valid.sum(), 1)
  return jnp.where(valid, score - mean, 0.0)


@pytest.mark.parametrize(
  ('fn', 'says'),
  [
    (lambda score, valid: score[:3], 'it returned float32[3] for scores [4]'),
    (lambda score, valid: score.sum(), 'it returned float32[] for scores [4]'),
    (lambda score, valid: score > 0, 'it returned bool[4] for scores [4]'),
    (lambda score, valid: (score, score), 'for scores [4]: return one advant'),
    (lambda score, valid: None, 'it returned None for scores [4]'),
    (
      estimators.whole_batch()(lambda score, valid: jnp.ravel(score)),
      'it returned float32[8] for scores [2, 4]',
    ),
  ],
)
def test_one_advantage_for_each_score(refused, fn, says):
  assert says in refused(fn)


@pytest.mark.parametrize(
  ('fn', 'says'),
  [
    (
      lambda score, valid: centred(score, valid) / centred(score, valid).std(),
      'for [0.0, 0.0, 0.0, 0.0]: in a group of equal scores',
    ),
    (
      lambda score, valid: score / jnp.where(valid, score, 0.0).sum(),
      'for [0.0, 0.0, 0.0, 0.0]: in a group of equal scores',
    ),
    (
      lambda score, valid: (
        centred(score, valid) + jnp.where(valid, 1, 0).sum() * 0.0 / valid.sum()
      ),
      'in a group of no member',
    ),
    (lambda score, valid: score, 'last two members are not valid'),
    (lambda score, valid: jnp.where(valid, score, 1.0), 'they get 0'),
    (  # no NaN in what it returns
      lambda score, valid: jnp.where(valid & (score == score.max()), 1.0, 0.0),
      'whose last two members are not valid: they get 0',
    ),
    (
      lambda score, valid: jnp.where(valid, score - score.mean(), 0.0),
      'what stands there must not matter',
    ),
  ],
)
def test_the_contract_is_tried(refused, fn, says):
  assert says in refused(fn)


@pytest.mark.parametrize(
  'fn',
  [
    lambda score, valid: score if score.sum() > 0 else -score,
    lambda score, valid: score[valid],
    lambda score, valid: score * float(score[0]),
    lambda score, valid: jnp.asarray(np.asarray(score)),
    lambda score, valid: score * [1, 2][score.argmax()],
  ],
)
def test_decisions_in_python_get_the_jax_way(refused, fn):
  message = refused(fn)
  assert 'Write jnp.where(condition, a, b) for `if`' in message
  assert len(message) < 600
  assert 'while JAX compiles' in refused(
    lambda logp, logp_ref: logp if logp.sum() > 0 else logp_ref, 'kl'
  )


def test_one_loss_for_each_pair(refused):
  four = 'chosen', 'rejected', 'ref_chosen', 'ref_rejected'
  for fn in (
    lambda chosen, rejected, ref_chosen, ref_rejected: jnp.sum(chosen),
    lambda chosen, rejected, ref_chosen, ref_rejected: (chosen, rejected),
    lambda chosen, rejected, ref_chosen, ref_rejected: None,
    lambda chosen, rejected, ref_chosen, ref_rejected: chosen > rejected,
  ):
    assert 'one loss for each, as float32' in refused(fn, 'preference')
  says = refused(lambda chosen, rejected: chosen - rejected, 'preference')
  assert ', '.join(four) in says


def test_equal_groups_may_have_a_gradient():
  for spec in ('psr', 'nsr', 'reinforce', 'remax', 'grpo(scale_rewards=batch)'):
    registry.get('estimator', spec)


def test_a_contract_is_tried_once_for_the_same_options():
  registry.get('estimator', 'grpo(eps=0.125)')
  before = trials._check_contract.cache_info()
  registry.get('estimator', 'grpo(eps=0.125)')
  after = trials._check_contract.cache_info()
  assert (after.hits, after.misses) == (before.hits + 1, before.misses)


def test_it_can_be_looked_up_while_something_is_traced():
  trials._check_contract.cache_clear()
  centre = jax.jit(lambda x: registry.get('estimator', 'rloo')(x, x > 0))
  np.testing.assert_allclose(centre(jnp.array([1.0, 3.0])), [-2.0, 2.0])
