import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlvr_jax.learner import optimizer
from rlvr_jax.models import sharding


def config(**kw):
  """An `optimizer` section; the defaults are plain AdamW."""
  c = {
    'learning_rate': 1.0,
    'schedule': 'constant',
    'warmup_steps': 0,
    'b1': 0.9,
    'b2': 0.95,
    'eps': 1e-8,
    'weight_decay': 0.0,
    'max_grad_norm': 0.0,
    'value_learning_rate': 0.0,
  }
  return types.SimpleNamespace(**c | kw)


def rates(total, **kw):
  schedule = optimizer.make_schedule(config(**kw), total)
  return [float(schedule(i)) for i in range(total + 1)]


@pytest.mark.parametrize(
  ('kw', 'want'),
  [
    ({}, [1, 1, 1, 1, 1]),
    ({'schedule': 'linear'}, [1, 0.75, 0.5, 0.25, 0]),
    # (1 + cos(pi i / 4)) / 2
    ({'schedule': 'cosine'}, [1, 0.853553, 0.5, 0.146447, 0]),
    ({'warmup_steps': 1}, [1, 1, 1, 1, 1]),
    ({'warmup_steps': 2}, [0.5, 1, 1, 1, 1]),
    ({'warmup_steps': 2, 'schedule': 'linear'}, [0.5, 1, 1, 0.5, 0]),
    ({'warmup_steps': 4, 'schedule': 'cosine'}, [0.25, 0.5, 0.75, 1, 1]),
    # A warm-up as long as the run, or longer, never reaches the decay.
    ({'warmup_steps': 8, 'schedule': 'linear'}, np.arange(1, 6) / 8),
  ],
)
def test_schedules_have_their_known_values(kw, want):
  np.testing.assert_allclose(rates(4, **kw), want, atol=1e-6)


def test_the_rate_scales_the_schedule():
  half = rates(4, schedule='cosine', warmup_steps=1, learning_rate=0.5)
  whole = rates(4, schedule='cosine', warmup_steps=1)
  np.testing.assert_allclose(np.array(half) * 2, whole, atol=1e-6)


def test_bad_settings_are_refused_by_name():
  with pytest.raises(ValueError, match=r"schedule='cosin'.*'cosine'"):
    optimizer.make_optimizer(config(schedule='cosin'), 4)
  for name in (
    'learning_rate',
    'value_learning_rate',
    'b1',
    'b2',
    'eps',
    'weight_decay',
    'max_grad_norm',
  ):
    for bad in (-1.0, math.nan, math.inf, -math.inf, 1e-300, '1'):
      with pytest.raises(ValueError, match=rf'optimizer\.{name}='):
        optimizer.make_optimizer(config(**{name: bad}), 4)


@pytest.mark.parametrize('bad', ['(', '*', '[a', '(?P<a>', 'a' * 2000])
def test_what_is_no_regular_expression_is_refused(bad):
  with pytest.raises(ValueError, match=r'optimizer\.trainable=.*regular'):
    optimizer.split({'a': jnp.ones(1)}, bad)


PARAMS = {
  'layers/q/kernel': jnp.array([[1.0, -2.0]]),
  'layers/q/bias': jnp.array([3.0]),
  'norm/scale': jnp.array([4.0]),
  'embedding': jnp.array([[5.0]]),
}


def one_update(c, grads, total=10):
  tx = optimizer.make_optimizer(c, total)
  updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
  return updates


def test_decay_acts_on_matrices_and_not_on_norms_and_biases():
  zeros = jax.tree.map(jnp.zeros_like, PARAMS)
  got = one_update(config(learning_rate=0.5, weight_decay=0.1), zeros)
  # Without gradient AdamW's step is -rate * decay * parameter.
  np.testing.assert_allclose(got['layers/q/kernel'], [[-0.05, 0.1]], rtol=1e-6)
  np.testing.assert_allclose(got['embedding'], [[-0.25]], rtol=1e-6)
  assert not np.asarray(got['layers/q/bias']).any()
  assert not np.asarray(got['norm/scale']).any()


def test_first_step_of_adamw_is_the_rate_times_the_sign():
  grads = jax.tree.map(lambda x: jnp.sign(x) * 1e-3, PARAMS)
  for name, x in one_update(config(learning_rate=0.25), grads).items():
    np.testing.assert_allclose(x, -0.25 * np.sign(PARAMS[name]), rtol=1e-4)


@pytest.mark.parametrize(
  ('limit', 'factor'), [(1.0, 0.2), (10.0, 1.0), (0, 1.0)]
)
def test_clipping_is_by_the_global_norm(limit, factor):
  # Norm 5 over two leaves. Adam normalises the scale away; with eps = 1 the
  # first step is -g / (|g| + 1).
  grads = {'a/kernel': jnp.array([[3.0]]), 'b/bias': jnp.array([4.0])}
  tx = optimizer.make_optimizer(config(eps=1.0, max_grad_norm=limit), 10)
  got, _ = tx.update(grads, tx.init(grads), grads)
  for name, g in grads.items():
    g = np.asarray(g) * factor
    np.testing.assert_allclose(got[name], -g / (g + 1), rtol=1e-5)


TREE = {
  'embedding': jnp.ones((2, 2)),
  'layers': {
    'q': {'kernel': jnp.full((2, 2), 2.0), 'bias': jnp.full(2, 3.0)},
    'k': {'kernel': jnp.full((2, 2), 4.0)},
  },
}


def test_join_is_the_inverse_of_split():
  for pattern in ('.*', 'bias', 'layers', '^embedding$', 'q/|embedding'):
    trained, frozen = optimizer.split(TREE, pattern)
    again = optimizer.join(trained, frozen)
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    assert all(
      a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(TREE))
    )
    assert not set(trained) & set(frozen)


def test_a_subset_has_moments_of_its_own_only():
  trained, frozen = optimizer.split(TREE, 'q/')
  assert set(trained) == {'layers/q/kernel', 'layers/q/bias'}
  assert set(frozen) == {'embedding', 'layers/k/kernel'}
  state = optimizer.make_optimizer(config(max_grad_norm=1.0), 4).init(trained)
  (mu,) = [x for _, x in optax.tree_utils.tree_get_all_with_path(state, 'mu')]
  assert set(mu) == set(trained)
  big = [x for x in jax.tree.leaves(state) if x.ndim]
  assert sum(x.size for x in big) == 2 * sum(x.size for x in trained.values())


def test_a_pattern_that_matches_nothing_is_refused():
  with pytest.raises(
    ValueError,
    match=r"trainable='lora' matches no parameter.*embedding, layers/k/kernel",
  ):
    optimizer.split(TREE, 'lora')


def test_the_value_head_may_have_its_own_rate():
  params = {'value_kernel': jnp.ones(3), 'layers/kernel': jnp.ones(3)}
  tx = optimizer.make_optimizer(
    config(learning_rate=0.01, value_learning_rate=0.03), 1
  )
  got, _ = tx.update(params, tx.init(params), params)
  np.testing.assert_allclose(
    got['value_kernel'], 3 * got['layers/kernel'], rtol=1e-6
  )
  with pytest.raises(ValueError, match='relative to learning_rate'):
    optimizer.make_optimizer(
      config(learning_rate=0.0, value_learning_rate=1.0), 1
    )


def test_biases_and_norms_do_not_decay():
  names = ('layers/block/q/bias', 'final_norm/scale', 'value_bias')
  assert not any(sharding.is_matrix(name) for name in names)
  assert sharding.is_matrix('value_kernel')
  assert sharding.is_matrix('embedding')


def test_rounding_at_random_keeps_the_mean():
  """Over many keys. bfloat16 numbers and infinities are not changed."""
  x = np.array([1.0, -1.0, 0.02, -3e-5, 1 + 1e-4, 7e4, 0.0], np.float32)
  keys = jax.random.split(jax.random.key(0), 20_000)
  got = jax.vmap(lambda k: optimizer.round_at_random(k, jnp.asarray(x)))(keys)
  assert got.dtype == jnp.bfloat16
  got = np.asarray(got, np.float64)
  one = np.abs(x) * 2.0**-7  # at least the spacing of bfloat16
  assert (np.abs(got - x) <= one).all()
  np.testing.assert_allclose(got.mean(0), x, rtol=1e-4)
  assert (got[:, :2] == x[:2]).all()
  assert len(np.unique(got[:, 4])) == 2
  # 0x7fffffff is the NaN of some accelerators: adding to it would give 0.
  strange = np.array([0x7FFFFFFF, 0xFFC00000, 0x7F800001], np.uint32)
  bad = jnp.array([np.inf, -np.inf, np.nan, *strange.view(np.float32)])
  got = jax.vmap(lambda k: optimizer.round_at_random(k, bad))(keys[:100])
  assert not np.isfinite(np.asarray(got, np.float32)).any()


def test_moments_kept_in_bfloat16_decay_as_in_float32():
  """With b2 = .999 rounding to nearest would leave the moment unchanged."""
  c = config(b2=0.999, learning_rate=1e-6)
  tx = optimizer.make_optimizer(c, 10)
  rng = np.random.default_rng(0)
  p = jnp.asarray(rng.normal(size=20_000), jnp.bfloat16)
  nu = []
  for kept in (p, p.astype(jnp.float32)):
    params = {'kernel': kept}
    state, update = tx.init(params), jax.jit(tx.update)
    for i in range(40):
      size = 1.0 if i < 5 else 0.1
      _, state = update({'kernel': jnp.full_like(kept, size)}, state, params)
    ((_, found),) = optax.tree_utils.tree_get_all_with_path(state, 'nu')
    nu.append(found['kernel'])
  assert nu[0].dtype == jnp.bfloat16
  np.testing.assert_allclose(
    np.asarray(nu[0], np.float32).mean(), nu[1].mean(), rtol=2e-3
  )


def test_seed_and_update_decide_how_weights_are_rounded():
  params = {'kernel': jnp.full(1000, 0.02, jnp.bfloat16)}
  grads = {'kernel': jnp.ones(1000, jnp.float32)}

  def moved(seed=0, before=0):
    tx = optimizer.make_optimizer(config(learning_rate=4e-5), 10, seed)
    state = tx.init(params)
    for _ in range(1 + before):
      updates, state = tx.update(grads, state, params)
    new = optax.apply_updates(params, updates)['kernel']
    return np.asarray(new != params['kernel'])

  # The next number is 1.2e-4 away: a third of the weights move to it.
  assert moved().mean() == pytest.approx(4e-5 * 2**13, abs=0.06)
  np.testing.assert_array_equal(moved(), moved())
  for other in (moved(seed=1), moved(before=1)):
    # Independent: they agree with probability p^2 + (1 - p)^2.
    assert np.mean(moved() == other) == pytest.approx(0.56, abs=0.06)


def test_float32_is_left_as_it_was():
  grads = jax.tree.map(lambda x: x * 0.1, PARAMS)
  plain = optax.adamw(lambda i: 1.0, b1=0.9, b2=0.95, weight_decay=0.0)
  want = plain.update(grads, plain.init(PARAMS), PARAMS)
  tx = optimizer.make_optimizer(config(), 10)
  got = tx.update(grads, tx.init(PARAMS), PARAMS)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_array_equal(a, b)
