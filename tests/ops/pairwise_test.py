"""SERL and BRPO: the card's examples (all computed there) and identities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import pairwise

A = np.zeros((3, 3, 2), np.int32)  # 0 beats 1 twice, 0 and 2 once each, ...
A[0, 1], A[0, 2], A[1, 2] = (1, 1), (1, -1), (1, 1)
MIRRORED = A - A.swapaxes(0, 1)
# Each pair on one side: two above the diagonal, one below.
MIXED = MIRRORED * np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])[..., None]


def antisymmetric(rng, g, k, values=(1, -1)):
  wins = np.triu(np.ones((g, g), int), 1)[..., None] * rng.choice(
    values, (g, g, k)
  )
  return wins - wins.swapaxes(0, 1)


@pytest.mark.parametrize('wins', [A, MIXED, -A.swapaxes(0, 1)])
@pytest.mark.parametrize('jit', [False, True])
def test_serl_of_equal_lengths(wins, jit):
  fn = (
    jax.jit(pairwise.serl_rewards, static_argnames='alpha')
    if jit
    else (pairwise.serl_rewards)
  )
  actor, judge = fn(wins, None)
  np.testing.assert_allclose(actor, [0.75, 0.5, 0.25], atol=1e-6)
  for i, j, want in ((0, 1, (1, 1)), (0, 2, (1, -1)), (1, 2, (1, 1))):
    assert judge[i, j].tolist() == judge[j, i].tolist() == list(want)
  assert not np.diagonal(judge).any()
  same, _ = fn(wins, jnp.full(3, 7))
  np.testing.assert_allclose(same, actor, atol=1e-6)
  estimate = registry.get('estimator', 'grpo(eps=1e-4)')
  adv = lambda x: np.asarray(estimate(jnp.asarray(x), jnp.ones(len(x), bool)))
  np.testing.assert_allclose(adv(actor), [0.9996, 0, -0.9996], atol=1e-4)
  np.testing.assert_allclose(adv(judge[0, 1]), 0, atol=0)
  np.testing.assert_allclose(adv(judge[0, 2]), [0.7071, -0.7071], atol=1e-4)


def test_length_control_reverses_the_order():
  actor, judge = pairwise.serl_rewards(MIRRORED, jnp.array([100, 110, 130]))
  np.testing.assert_allclose(actor, [0.55, 0.590909, 0], atol=1e-6)
  assert judge[0, 1].tolist() == [-1, -1]  # both were right


def test_cycle_and_always_first():
  wins = np.zeros((3, 3, 2), np.int32)
  wins[0, 1], wins[1, 2], wins[2, 0] = 1, 1, 1
  wins -= wins.swapaxes(0, 1)
  actor, judge = pairwise.serl_rewards(wins, None)
  np.testing.assert_allclose(actor, 0.5, atol=1e-6)
  assert not judge.any()
  first = np.triu(np.ones((3, 3), int), 1)[..., None] * np.array([1, -1])
  actor, judge = pairwise.serl_rewards(first - first.swapaxes(0, 1), None)
  np.testing.assert_allclose(actor, 0.5, atol=1e-6)
  assert not judge.any()


def test_relabelling_order_and_sum():
  rng = np.random.default_rng(0)
  for g, k in ((4, 3),):
    wins, sizes = antisymmetric(rng, g, k), rng.integers(90, 110, g)
    actor, judge = pairwise.serl_rewards(wins, None)
    assert float(actor.sum()) == pytest.approx(g / 2, abs=1e-5)
    p = rng.permutation(g)
    moved = pairwise.serl_rewards(wins[p][:, p], None)
    np.testing.assert_allclose(moved[0], actor[p], atol=1e-6)
    np.testing.assert_array_equal(moved[1], judge[p][:, p])
    # Another display order permutes the judgments of a pair.
    np.testing.assert_allclose(
      pairwise.serl_rewards(wins[..., ::-1], sizes)[0],
      pairwise.serl_rewards(wins, sizes)[0],
      atol=1e-6,
    )


def test_unreadable_judgments_lower_everybody():
  wins = MIRRORED.copy()
  wins[0, 1, 0] = wins[1, 0, 0] = 0
  actor, judge = pairwise.serl_rewards(wins, None)
  np.testing.assert_allclose(actor, [0.5, 0.5, 0.25], atol=1e-6)
  assert judge[0, 1].tolist() == [-1, 0]
  actor, judge = pairwise.serl_rewards(np.zeros((3, 3, 2), np.int32), None)
  assert not actor.any()
  assert judge[0, 1].tolist() == [-1, -1]
  assert judge[0, 0].tolist() == [0, 0]


def test_degenerate_groups_are_finite():
  for lengths in (jnp.zeros(2), jnp.array([0, 5])):
    wins = jnp.array([[[0], [1]], [[-1], [0]]])
    actor, judge = pairwise.serl_rewards(wins, lengths)
    assert np.isfinite(actor).all()
    assert np.isfinite(judge).all()
    assert not actor.any()
  actor, judge = pairwise.serl_rewards(jnp.zeros((1, 1, 2), int), jnp.ones(1))
  assert actor.tolist() == [0]
  assert judge.tolist() == [[[0, 0]]]


@pytest.mark.parametrize(
  ('wins', 'kept'), [(13, False), (12, True), (3, True), (2, False)]
)
def test_brpo_of_sixteen(wins, kept):
  verdicts = np.array([1] * wins + [-1] * (15 - wins) + [9])
  adv, keep = pairwise.brpo_advantages(verdicts, 15, 0.6)
  assert adv.tolist() == [1] * wins + [-1] * (15 - wins) + [0]
  assert bool(keep) == kept


def test_brpo_rules_of_several_votes():
  votes = np.array([(1, 1, 1), (1, 1, -1), (1, 0, 0), (0, 0, 0), (-1, 1, -1)])
  rule = lambda name: pairwise.brpo_advantages(votes, 4, 1.0, rule=name)[0]
  assert rule('unanimous').tolist() == [1, -1, -1, -1, 0]
  assert rule('majority').tolist() == [1, 1, 1, -1, 0]
  column = pairwise.brpo_advantages(votes[:, 0], 4, 1.0)[0]
  assert column.tolist() == [1, 1, 1, -1, 0]  # a tie loses


def test_brpo_averages_to_nothing_over_references():
  g = 6
  wins = antisymmetric(np.random.default_rng(1), g, 1)[..., 0]
  adv = np.array(
    [pairwise.brpo_advantages(wins[:, r], r, 1.0)[0] for r in range(g)]
  )
  assert adv.sum() == 0
  np.testing.assert_allclose(adv.mean(0), wins.sum(1) / g, atol=1e-6)


def test_group_advantages_of_a_judge():
  """+-1 with 7 samples, sample std: the card of generative reward models."""
  estimate = registry.get('estimator', 'grpo')
  for right, want in ((1, (2.268, -0.378)), (3, (1.069, -0.802)), (7, (0, 0))):
    reward = jnp.array([1.0] * right + [-1.0] * (7 - right))
    adv = np.asarray(estimate(reward, jnp.ones(7, bool)))
    assert adv[0] == pytest.approx(want[0], abs=1e-3)
    assert adv[-1] == pytest.approx(want[1], abs=1e-3)


def test_a_noisy_judge_moves_the_policy_to_the_best():
  """Answers 0..4, the judge errs with .2 and prefers the first with .3."""
  rng, g, k = np.random.default_rng(2), 4, 4

  def judged(a, b):
    """1 for a, shown first."""
    if rng.random() < 0.3:
      return 1
    return (1 if a >= b else -1) * (1 if rng.random() < 0.8 else -1)

  def learn(advantages):
    logits = np.zeros(5)
    for _ in range(300):
      p = np.exp(logits) / np.exp(logits).sum()
      answers = rng.choice(5, g, p=p)
      for a, adv in zip(answers, advantages(answers)):
        logits += 0.05 * adv * (np.eye(5)[a] - p)
    p = np.exp(logits) / np.exp(logits).sum()
    return p[4]

  def serl(answers):
    wins = np.zeros((g, g, k), int)
    for i, j in itertools.combinations(range(g), 2):
      for s in range(k):
        a, b = answers[i], answers[j]
        wins[i, j, s] = judged(a, b) if s % 2 else -judged(b, a)
    actor, _ = _serl(wins)
    return np.asarray(actor) - np.mean(actor)

  def brpo(answers):
    wins = np.array([judged(a, answers[0]) for a in answers])
    adv, keep = _brpo(wins)
    return np.asarray(adv) * bool(keep)

  _serl = jax.jit(lambda w: pairwise.serl_rewards(w, None))
  _brpo = jax.jit(lambda w: pairwise.brpo_advantages(w, 0, 0.75))
  assert learn(serl) > 0.8
  assert learn(brpo) > 0.5


@pytest.mark.parametrize('alpha', [-0.1, 1.5, float('nan')])
def test_bad_options(alpha):
  with pytest.raises(ValueError, match='alpha'):
    pairwise.serl_rewards(A, None, alpha)
  with pytest.raises(ValueError, match='tau'):
    pairwise.brpo_advantages(A[0, :, 0], 0, alpha)
  with pytest.raises(ValueError, match='majority'):
    pairwise.brpo_advantages(A[0, :, 0], 0, 0.5, rule='most')
