"""Which tokens of a rollout are trained, and with what weight, by method."""

import types as namespaces

import numpy as np
import pytest

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.learner import batches


def rollout_and_score():
  """Two groups of two rows; the second row of each is wrong."""
  turn = np.array([[[-1, 0, 0, -1], [-1, 0, -1, -1]]] * 2)
  zeros = np.zeros((2, 2), np.int32)
  verdict = np.array([[0, 1], [0, 1]], np.int32)
  return (
    types.Rollout(
      tokens=turn * 0,
      length=zeros + 3,
      turn=turn,
      logp=turn * np.float32(0),
      stop=zeros + 1,
    ),
    types.Score(
      reward=np.float32(verdict == 0)[..., None],
      turns=np.ones((2, 2, 1), bool),
      belief=None,
      verdict=verdict,
    ),
  )


def settings(method):
  return namespaces.SimpleNamespace(
    method=method, mask_truncated_completions=False
  )


@pytest.mark.parametrize('method', ['sft', 'distill'])
def test_imitated_tokens_have_weight_one(method):
  got = batches.make_batch(settings(method), None, *rollout_and_score())
  want = rollout_and_score()[0].turn.reshape(4, 4) >= 0
  np.testing.assert_array_equal(got.mask, want)
  np.testing.assert_array_equal(got.adv, np.float32(want))


def test_rejection_trains_correct_rows_only():
  got = batches.make_batch(settings('rejection'), None, *rollout_and_score())
  want = (rollout_and_score()[0].turn >= 0) & np.array([True, False])[:, None]
  np.testing.assert_array_equal(got.mask, want.reshape(4, 4))


def test_a_row_without_a_reward_is_in_no_pair():
  """Its advantage of 0 is above that of the rows that are worse than others."""
  rollout, score = rollout_and_score()
  turns = np.array([[True, True], [True, False]])[..., None]
  score = score.replace(turns=turns, reward=score.reward * turns)
  section = {'credit': 'outcome', 'estimate': 'dr_grpo', 'surrogate': 'clip'}
  section |= {'aggregate': 'token_mean', 'kl': '', 'beta': 0.0, 'whiten': True}
  section |= {'entropy_coef': 0.0, 'correction': '', 'value_coef': 0.1}
  section |= {'value_clip': 0.2, 'turn_statistics': 'living', 'distill': ''}
  for preference, kept in (('dpo', [1, 1, 1, 0]), ('', [1, 1, 1, 1])):
    algo = algorithms.from_config(
      namespaces.SimpleNamespace(**section, preference=preference)
    )
    got = batches.make_batch(settings('rl'), algo, rollout, score)
    np.testing.assert_array_equal(got.mask.any(-1), kept)
