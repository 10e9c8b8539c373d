"""Algorithm: composition, spreading over turns, and the one division."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from rlvr_jax import algorithm, types
from rlvr_jax.learner import loss as losses
from rlvr_jax.ops import ratio

JIT = pytest.mark.parametrize('jit', [False, True], ids=['eager', 'jit'])
AGGREGATES = [
  'token_mean',
  'seq_mean_token_mean',
  'seq_mean_token_sum',
  'constant(16)',
]
ROWS, WIDTH = 8, 6


def section(**changes):
  section = common.base().algo
  section.update({'surrogate': 'clip'} | changes)
  return section


@functools.cache
def make(**changes):
  return algorithm.from_config(section(**changes))


def stepwise(reward, belief, turns):
  """Each turn keeps its own reward."""
  del belief
  return jnp.where(turns, reward, 0.0)


def world(reward, turns, turn):
  """Rollout and Score [P,G,...] from rewards, turns and tokens' turns."""
  turn = np.array(turn, np.int32)
  zeros = np.zeros(turn.shape[:2], np.int32)
  rollout = types.Rollout(
    tokens=turn * 0,
    length=zeros + turn.shape[2],
    turn=turn,
    logp=turn * np.float32(0),
    stop=zeros + 1,
  )
  score = types.Score(
    reward=np.array(reward, np.float32),
    turns=np.array(turns, bool),
    belief=None,
    verdict=zeros,
  )
  types.check_rollout(rollout, score)
  return rollout, score


def make_batch(rng, ref=True):
  """Random rows; the last two have no advantage, one row trains nothing."""
  shape = (ROWS, WIDTH)
  mask = rng.random(shape) < 0.7
  mask[:, 0] = False
  mask[1] = False
  logp = -rng.exponential(size=shape).astype(np.float32)
  near = lambda: logp + rng.normal(size=shape, scale=0.3).astype(np.float32)
  adv = rng.normal(size=shape).astype(np.float32)
  adv[6:] = 0
  batch = types.Batch(
    tokens=np.zeros(shape, np.int32),
    mask=mask,
    adv=adv,
    logp_old=near(),
    logp_ref=near() if ref else None,
  )
  return logp, batch


@functools.cache
def build(jit, **changes):
  """(loss, metrics) and the gradient of loss.num."""
  algo = make(**changes)

  def both(logp, batch):
    def num(x):
      out = losses.loss(algo, x, batch)
      return out[0].num, out

    (_, out), grad = jax.value_and_grad(num, has_aux=True)(logp)
    return out, grad

  both = jax.jit(both) if jit else both
  return lambda *args: jax.device_get(both(*args))


def assert_close(got, want):
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


# --- from_config ----------------------------------------------------------


def test_from_config_binds_the_named_functions():
  algo = make(estimate='rloo', kl='k2', beta=0.5, aggregate='constant(4)')
  assert algo.credit.__name__ == 'outcome'
  assert algo.estimate.__name__ == 'rloo'
  assert algo.surrogate.__name__ == 'clip'
  assert algo.aggregate.keywords == {'n': 4}
  assert algo.kl.__name__ == 'k2'
  assert algo.kl_weight == 0.5


def test_without_weight_there_is_no_kl():
  assert make(kl='k3').kl is None
  assert make().kl is None
  assert isinstance(algorithm.from_config(section(beta=0.0)).kl_weight, float)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'beta': 0.1}, "set algo.kl='k2'"),
    ({'beta': -0.1, 'kl': 'k2'}, 'beta=-0.1'),
    ({'beta': float('nan'), 'kl': 'k2'}, 'algo.beta=nan'),
    ({'beta': float('inf'), 'kl': 'k2'}, 'algo.beta=inf'),
    ({'kl': 'k4'}, "Unknown kl 'k4'"),
    ({'estimate': 'grop'}, "Did you mean 'grpo'"),
    ({'aggregate': 'constant'}, 'n=...'),
  ],
)
def test_from_config_refuses(changes, message):
  with pytest.raises(ValueError) as info:
    algorithm.from_config(section(**changes))
  assert message in str(info.value)


# --- advantages -----------------------------------------------------------


@JIT
def test_each_turn_has_its_own_group_statistics(jit):
  """Turn 1 of row 2 did not take place: the mean is over the other two."""
  rollout, score = world(
    reward=[[[1, 4], [2, 8], [6, 0]], [[5, 5], [5, 5], [5, 5]]],
    turns=[[[1, 1], [1, 1], [1, 0]], [[1, 1]] * 3],
    turn=[
      [[-1, 0, 0, -1, 1, -1], [-1, 0, -1, 1, 1, 1], [-1, -1, 0, -1, -1, -1]],
      [[-1, 0, 1, -1, -1, -1]] * 3,
    ],
  )
  algo = make(estimate='dr_grpo')._replace(credit=stepwise)
  fn = functools.partial(algorithm.advantages, algo)
  got = (jax.jit(fn) if jit else fn)(rollout, score)
  want = np.zeros((2, 3, 6))
  want[0] = [
    [0, -2, -2, 0, -2, 0],
    [0, -1, 0, 2, 2, 2],
    [0, 0, 3, 0, 0, 0],
  ]
  np.testing.assert_array_equal(got, want)
  assert got.dtype == jnp.float32
  fn = functools.partial(algorithm.informative, algo)
  got = (jax.jit(fn) if jit else fn)(score)
  np.testing.assert_array_equal(got, [True, False])


@JIT
@pytest.mark.parametrize('estimate', ['grpo', 'rloo', 'reinforce'])
def test_with_one_turn_turnwise_is_outcome(jit, estimate):
  rng = np.random.default_rng(0)
  turn = np.where(rng.random((3, 4, 5)) < 0.6, 0, -1)
  turn[..., 0] = -1
  turns = rng.random((3, 4, 1)) < 0.8
  reward = np.where(turns, rng.normal(size=turns.shape), 0)
  rollout, score = world(reward, turns, np.where(turns, turn, -1))
  algo = make(estimate=estimate)

  def both(rollout, score):
    return [
      algorithm.advantages(a, rollout, score)
      for a in (algo, algo._replace(credit=stepwise))
    ]

  outcome, turnwise = (jax.jit(both) if jit else both)(rollout, score)
  np.testing.assert_array_equal(outcome, turnwise)
  np.testing.assert_array_equal(np.asarray(outcome)[rollout.turn < 0], 0)
  for p in range(3):
    want = algo.estimate(score.reward[p, :, 0], turns[p, :, 0])
    for g in range(4):
      row = np.asarray(outcome)[p, g][rollout.turn[p, g] == 0]
      np.testing.assert_allclose(row, want[g], rtol=1e-5, atol=1e-6)


def test_outcome_credit_sums_the_turns_and_belief_is_passed_on():
  rollout, score = world(
    reward=[[[1, 2], [0, 0]]],
    turns=[[[1, 1], [1, 1]]],
    turn=[[[-1, 0, 1], [-1, 0, 1]]],
  )
  got = algorithm.advantages(make(estimate='reinforce'), rollout, score)
  np.testing.assert_array_equal(got, [[[0, 3, 3], [0, 0, 0]]])
  gain = lambda reward, belief, turns: belief[1:] - belief[:-1]
  algo = make(estimate='reinforce')._replace(credit=gain)
  score = score.replace(
    belief=np.array([[[-4, -3, -1], [0, 0, -5]]], np.float32)
  )
  got = algorithm.advantages(algo, rollout, score)
  np.testing.assert_array_equal(got, [[[0, 1, 2], [0, 0, -5]]])


def test_an_estimator_gets_length_and_surprise_of_the_turn():
  """Two turns, of 2 and 1 tokens and of 1 and 0; other tokens do not count."""
  rollout, score = world(
    reward=[[[0, 0], [0, 0]]],
    turns=[[[1, 1], [1, 0]]],
    turn=[[[-1, 0, 0, -1, 1], [-1, 0, -1, -1, -1]]],
  )
  logp = np.log(np.float32([[[1, 0.5, 0.9, 1, 0.2], [1, 0.7, 1, 1, 1]]]))
  rollout = rollout.replace(logp=logp)

  def probe(score, valid, length, surprise):
    del score, valid
    return 10 * length + surprise

  got = algorithm.advantages(make()._replace(estimate=probe), rollout, score)
  first, last = 20 + 0.25 + 0.01, 10 + 0.64
  want = [[[0, first, first, 0, last], [0, 10.09, 0, 0, 0]]]
  np.testing.assert_allclose(got, want, rtol=1e-6)


def test_informative_needs_two_valid_members_that_differ():
  reward = np.float32(
    [[0.9] * 4, [0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
  )[..., None]
  turns = np.ones(reward.shape, bool)
  turns[2, 1:] = False  # one valid member
  turns[3] = False  # none
  turns[4, 2:] = False  # two, equal
  score = types.Score(reward, turns, None, np.zeros((5, 4), np.int32))
  want = [False, True, False, False, False]
  algo = make()
  np.testing.assert_array_equal(algorithm.informative(algo, score), want)
  turn = np.where(turns, [-1, 0], -1)
  rollout, score = world(np.where(turns, reward, 0), turns, turn)
  adv = np.asarray(algorithm.advantages(algo, rollout, score))
  np.testing.assert_array_equal((adv != 0).any((1, 2)), want)


# --- loss -----------------------------------------------------------------


@JIT
@pytest.mark.parametrize('kl', ['k2', 'k3'])
def test_loss_is_surrogate_plus_weighted_kl(jit, kl):
  logp, batch = make_batch(np.random.default_rng(0))
  got, _ = build(jit, kl=kl, beta=0.25)(logp, batch)
  value, metrics = got
  m = batch.mask
  rho = np.exp(logp - batch.logp_old)[m]
  adv = batch.adv[m]
  d = (logp - batch.logp_ref)[m]
  k = {'k2': d**2 / 2, 'k3': np.exp(-d) - 1 + d}[kl]
  ppo = np.maximum(-adv * rho, -adv * np.clip(rho, 0.8, 1.2))
  np.testing.assert_allclose(value.num, (ppo + 0.25 * k).sum(), rtol=1e-4)
  assert value.den == m.sum()
  mean = ratio.divide(metrics['kl'])
  np.testing.assert_allclose(mean, k.mean(), rtol=1e-4)
  assert set(metrics) == {'kl', 'clip_ratio', 'ratio'}


def test_no_kl_needs_no_reference_and_reports_none():
  logp, batch = make_batch(np.random.default_rng(1))
  with_ref, without = (
    build(True)(logp, b) for b in (batch, batch.replace(logp_ref=None))
  )
  assert_close(with_ref, without)
  assert 'kl' not in without[0][1]


def test_a_kl_without_a_reference_is_refused():
  logp, batch = make_batch(np.random.default_rng(1), ref=False)
  with pytest.raises(ValueError, match=r'kl_weight=0.5 needs batch.logp_ref'):
    losses.loss(make(kl='k3', beta=0.5), logp, batch)


@JIT
def test_masked_positions_leak_nothing(jit):
  fn = build(jit, kl='k3', beta=0.5)
  logp, batch = make_batch(np.random.default_rng(2))
  want = fn(logp, batch)
  for garbage in np.float32([np.nan, np.inf, -np.inf]):
    dirty = lambda x, g=garbage: np.where(batch.mask, x, g)
    got = fn(
      dirty(logp),
      batch.replace(
        adv=dirty(batch.adv),
        logp_old=dirty(batch.logp_old),
        logp_ref=dirty(batch.logp_ref),
      ),
    )
    jax.tree.map(np.testing.assert_array_equal, got, want)
  np.testing.assert_array_equal(want[1][~batch.mask], 0)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_micro_batches_give_the_full_gradient(aggregate):
  """One denominator, of the whole mask, for any split."""
  rng = np.random.default_rng(3)
  logp, batch = make_batch(rng)
  fn = build(True, aggregate=aggregate, kl='k3', beta=0.1)
  whole, grad = fn(logp, batch)
  den = losses.loss_denominator(make(aggregate=aggregate), batch)
  assert den == whole[0].den
  for _ in range(3):
    order = rng.permutation(ROWS)
    parts = [
      fn(logp[rows], jax.tree.map(lambda x, r=rows: x[r], batch))
      for rows in order.reshape(-1, 2)
    ]
    total = jax.tree.map(lambda *x: sum(x), *[out for out, _ in parts])
    assert_close(total, whole)
    joined = np.concatenate([g for _, g in parts]) / den
    np.testing.assert_allclose(joined, grad[order] / den, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_skipping_rows_without_advantage_changes_nothing(aggregate):
  """With the denominator of all rows; without it the scale would change."""
  logp, batch = make_batch(np.random.default_rng(4))
  fn = build(True, aggregate=aggregate)
  whole, grad = fn(logp, batch)
  kept, some = fn(logp[:6], jax.tree.map(lambda x: x[:6], batch))
  assert kept[0].den < whole[0].den
  np.testing.assert_allclose(kept[0].num, whole[0].num, rtol=1e-5)
  np.testing.assert_allclose(some, grad[:6], rtol=1e-6)
  np.testing.assert_array_equal(grad[6:], 0)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_padding_columns_and_row_order_change_nothing(aggregate):
  rng = np.random.default_rng(5)
  logp, batch = make_batch(rng)
  fn = build(True, aggregate=aggregate, kl='k3', beta=0.1)
  whole, grad = fn(logp, batch)
  pad = lambda x: np.pad(x, ((0, 0), (0, 3)))
  wide, wide_grad = fn(pad(logp), jax.tree.map(pad, batch))
  assert_close(wide, whole)
  np.testing.assert_allclose(wide_grad, pad(grad), rtol=1e-6)
  order = rng.permutation(ROWS)
  moved = fn(logp[order], jax.tree.map(lambda x: x[order], batch))
  assert_close(moved, (whole, grad[order]))


@pytest.mark.parametrize('aggregate', AGGREGATES[:2])
def test_on_policy_surrogates_share_their_gradient(aggregate):
  logp, batch = make_batch(np.random.default_rng(6))
  batch = batch.replace(logp_old=logp)
  grads = [
    build(True, aggregate=aggregate, surrogate=s)(logp, batch)[1]
    for s in ('reinforce', 'clip', 'dual_clip')
  ]
  for grad in grads[1:]:
    np.testing.assert_allclose(grad, grads[0], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_a_batch_that_trains_nothing_has_loss_zero(aggregate):
  logp, batch = make_batch(np.random.default_rng(7))
  batch = batch.replace(mask=np.zeros_like(batch.mask))
  (value, metrics), grad = build(True, aggregate=aggregate, kl='k3', beta=0.1)(
    logp, batch
  )
  for r in (value, *metrics.values()):
    assert ratio.divide(r) == 0
  np.testing.assert_array_equal(grad, 0)
  assert losses.loss_denominator(make(aggregate=aggregate), batch) == 0


def test_members_whose_dialogue_has_ended_may_count_as_zero():
  """The worked example of ΔBelief-RL: the best survivor's sign changes."""
  turns = np.array([[[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]], bool)
  reward = np.array(
    [[[-0.1, -0.15, -0.12], [1.98, 1.9, 0], [2, 0, 0], [-0.15, -0.13, -0.15]]]
  )
  turn = np.where(turns, np.arange(3), -1)
  turn = np.pad(turn, [(0, 0), (0, 0), (1, 0)], constant_values=-1)
  rollout, score = world(reward, turns, turn)
  adv = lambda **changes: np.asarray(
    algorithm.advantages(
      make(credit='stepwise(gamma=0)', **changes), rollout, score
    )
  )[0, :, 1:]
  living = [
    [-0.8454, -0.5858, 0.7071],
    [0.8577, 1.1547, 0],
    [0.8741, 0, 0],
    [-0.8864, -0.5688, -0.7071],
  ]
  padded = [
    [-0.8454, -0.5556, -0.6654],
    [0.8577, 1.4967, 0],
    [0.8741, 0, 0],
    [-0.8864, -0.5356, -1.0456],
  ]
  np.testing.assert_allclose(adv(), living, atol=1e-4)
  np.testing.assert_allclose(adv(turn_statistics='padded'), padded, atol=1e-4)


@pytest.mark.parametrize(
  ('distill', 'changes', 'says'),
  [
    ('loss', {'preference': 'dpo', 'estimate': 'grpo'}, 'the whole loss'),
    ('loss', {'estimate': 'gae'}, 'is a critic of rewards'),
    ('advantage', {'surrogate': 'kl_cov'}, 'selected tokens before'),
    ('loss(ratio_cap=2.0)', {'correction': 'truncate'}, "no teacher's word"),
    ('advantage(outcome=0.5)', {'correction': 'truncate'}, 'no teacher'),
  ],
)
def test_terms_that_do_not_go_with_a_teacher_are_refused(
  distill, changes, says
):
  with pytest.raises(ValueError, match=says):
    make(distill=distill, **changes)
  make(distill='add', **(changes | {'preference': ''}))


@pytest.mark.parametrize(
  ('key', 'spec', 'option'),
  [
    ('surrogate', 'clip(low=a)', 'low='),
    ('surrogate', 'clip(low=None)', 'low='),
    ('surrogate', 'dual_clip(c=0.5)', 'c='),
    ('surrogate', 'clip_cov(ratio=0)', 'ratio='),
    ('estimate', 'grpo(eps=None)', 'eps='),
    ('estimate', 'grpo(ddof=2)', 'ddof='),
    ('estimate', 'gae(lam=a)', 'lam='),
    ('estimate', 'gae(gamma=2)', 'gamma='),
    ('aggregate', 'constant(inf)', 'n='),
    ('aggregate', 'constant(0)', 'n='),
    ('credit', 'stepwise(gamma=-1)', 'gamma='),
    ('correction', 'drop(low=-1)', 'low='),
  ],
)
def test_bad_options_are_refused_at_start_by_key(key, spec, option):
  with pytest.raises(ValueError, match=rf'^algo\.{key}.*{option}') as info:
    make(**{key: spec})
  assert spec in str(info.value)
