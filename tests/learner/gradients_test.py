"""How the gradient is spread over micro-batches: `gradients.Spread`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from rlvr_jax import algorithm as algorithms
from rlvr_jax import registry, train, types
from rlvr_jax.learner import gradients, train_step
from rlvr_jax.models import micro_batch, sharding, transformer

VOCAB, S, N, GROUP, P = 24, 3, 4, 2, 4
MODEL = transformer.Decoder(
  registry.get('model', f'tiny(width=32, vocab={VOCAB}, layers=1)')()
)
MESH = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
TX = optax.sgd(lambda count: 0.1)


@functools.cache
def params():
  made, _ = sharding.params_shardings(MODEL, MESH)
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), made
  )


def algorithm(**changes):
  section = common.base().algo
  section.update({'surrogate': 'reinforce'} | changes)
  return algorithms.from_config(section)


def batch(live):
  """Four groups, of which these have advantages; all rows are trained."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, VOCAB, (P * GROUP, S + N)).astype(np.int32)
  mask = np.broadcast_to(np.arange(S + N) >= S, tokens.shape).copy()
  adv = np.repeat(rng.standard_normal((P * GROUP, 1)), S + N, 1)
  keep = np.repeat(np.isin(np.arange(P), live), GROUP)[:, None]
  adv = np.where(mask & keep, adv, 0).astype(np.float32)
  logp = np.where(mask, -1.0, 0.0).astype(np.float32)
  return types.Batch(tokens, mask, adv, logp, logp)


def options(size, pack=False, **changes):
  return dict(
    algorithm=algorithm(**changes),
    model=MODEL,
    temperature=1.0,
    trainable='.*',
  ), micro_batch.Shapes(GROUP, S, size, 64, pack)


@functools.cache
def accumulate(size, pack=False, **changes):
  kw, shapes = options(size, pack, **changes)
  return jax.jit(functools.partial(gradients.accumulate, shapes=shapes, **kw))


@functools.cache
def update(sizes, **changes):
  kw = options(1, **changes)[0]
  shapes = tuple(options(size)[1] for size in sizes)
  return jax.jit(
    functools.partial(
      train_step.update, tx=TX, schedule=lambda i: 0.1, shapes=shapes, **kw
    )
  )


def signal(sizes, batches, **changes):
  """{'cross': ...} of an update."""
  held = jax.tree.map(jnp.asarray, params())
  abstract = train_step.abstract_state(MODEL, TX, '.*', MESH)
  state = train_step.new_state(held, tx=TX, trainable='.*', abstract=abstract)
  _, metrics = update(sizes, **changes)(state, batches)
  return {
    k[7:]: float(v) for k, v in metrics.items() if k.startswith('signal/')
  }


@functools.cache
def group_gradients(**changes):
  """f64[P,M]: each group's own, as if all others were dead."""
  f, rows = accumulate(1, **changes), batch(range(P))
  out = []
  for p in range(P):
    grads = f(params(), batch([p]))[2]
    out.append(np.concatenate([np.ravel(x) for x in jax.tree.leaves(grads)]))
  assert rows.adv.any()
  return np.array(out, np.float64)


@pytest.mark.parametrize(
  ('live', 'size', 'parts'),
  [
    ((0, 1, 3), 1, ([0], [1], [3])),
    ((0, 1, 3), 2, ([0, 1], [3])),
    ((1, 2, 3), 2, ([1, 2], [3])),
    ((0, 1, 2, 3), 2, ([0, 1], [2, 3])),
  ],
)
def test_cross_is_the_sum_of_products_between_micro_batches(live, size, parts):
  """By each group's own gradient; live groups come first."""
  u = group_gradients()
  sums = [u[i].sum(0) for i in parts]
  want = sum(a @ b for a in sums for b in sums if a is not b)
  got = signal((size,), (batch(live),))
  total = sum(sums) @ sum(sums)
  assert got['norm_sq'] == pytest.approx(total, rel=1e-5)
  assert got['cross'] == pytest.approx(want, abs=1e-5 * total)
  assert abs(want) > 1e-3 * total
  assert got['live'] == len(live)
  assert got['pairs'] == len(live) ** 2 - sum(len(i) ** 2 for i in parts)


def test_batches_of_an_update_count_as_one_sequence_of_micro_batches():
  rows = batch(range(P))
  half = lambda at: jax.tree.map(lambda x: x[at], rows)
  halves = (half(slice(0, 4)), half(slice(4, 8)))
  got = signal((2, 2), halves)
  # The denominator of each batch is half of that of all four groups.
  u = 2 * group_gradients()
  a, b = u[:2].sum(0), u[2:].sum(0)
  assert got['cross'] == pytest.approx(2 * a @ b, rel=1e-3)
  assert (got['pairs'], got['live']) == (8, 4)


def test_without_pairs_cross_is_nan():
  for live, size in (((0, 2), 2), ((1,), 1), ((), 2)):
    got = signal((size,), (batch(live),))
    assert np.isnan(got['cross'])
    assert (got['pairs'], got['live']) == (0, len(live))
    assert (got['norm_sq'] > 0) == bool(live)


def test_a_skipped_update_knows_nothing():
  rows = batch(range(P))
  rows.adv[0, S] = np.nan
  got = signal((1,), (rows,))
  assert set(got) == {'cross', 'pairs', 'live', 'norm_sq'}
  assert np.isnan([*got.values()]).all()


def test_every_group_is_live_where_other_terms_reach_it():
  """The gradient of the KL in a group of equal rewards is compared too."""
  kl = {'kl': 'k2', 'beta': 0.5}
  got = signal((1,), (batch([0]),), **kl)
  assert (got['live'], got['pairs']) == (4, 12)
  assert np.isfinite(got['cross'])


def test_no_bit_of_anything_else_changes(monkeypatch):
  """Against the same program in which nothing is squared.

  Compiled as in a run: with the flags of these tests the last bits of some
  gradients differ.
  """
  flags = {
    'xla_backend_optimization_level': 3,
    'xla_cpu_use_fusion_emitters': True,
  }
  bits = []
  for off in (False, True):
    if off:
      zero = lambda new, old: jnp.float32(0)
      monkeypatch.setattr(gradients, '_step_sq', zero)
    kw, shapes = options(2, True, kl='k3', beta=0.1, entropy_coef=0.3)
    f = functools.partial(gradients.accumulate, shapes=shapes, **kw)
    args = params(), batch([0, 2, 3])
    program = jax.jit(lambda *a, f=f: f(*a)).lower(*args)
    *rest, spread = program.compile(compiler_options=flags)(*args)
    assert (float(spread.squares) == 0) == off
    bits.append([np.asarray(x).tobytes() for x in jax.tree.leaves(rest)])
  assert bits[0] == bits[1]


def test_the_first_update_of_a_step_counts():
  """Later ones are off-policy; see `train.merge`."""
  one = {'signal/cross': 1.0, 'signal/live': 3.0, 'loss': 1.0}
  two = {'signal/cross': 2.0, 'signal/live': 4.0, 'loss': 2.0}
  want = {'signal/cross': 1.0, 'signal/live': 3.0, 'loss': 2.0}
  assert train.merge(one, two) == want
  assert train.merge({}, one) == one


@pytest.mark.parametrize('pack', [False, True])
def test_groups_in_parts_have_the_same_gradient(pack):
  """Denominators are of the whole batch, whatever a micro-batch holds."""
  kw, shapes = options(2, pack)
  rows = batch((0, 1, 3))
  rows.tokens[1::GROUP, :S] = rows.tokens[::GROUP, :S]
  scale = np.float32(np.arange(P * GROUP) % 3 + 1)[:, None]
  rows = rows.replace(adv=rows.adv * scale)
  want = accumulate(2, pack)(params(), rows)
  parts = shapes._replace(group=1, parts=GROUP)
  f = functools.partial(gradients.accumulate, shapes=parts, **kw)
  got = jax.jit(f)(params(), rows)
  assert float(got[0]) == pytest.approx(float(want[0]), rel=1e-6)
  for name, grad in want[2].items():
    np.testing.assert_allclose(got[2][name], grad, atol=1e-6, err_msg=name)
  got, want = (
    {k: r.num / r.den for k, r in metrics.items()}
    for metrics in (got[1], want[1])
  )
  for name, value in want.items():
    assert float(got[name]) == pytest.approx(float(value), rel=1e-5), name


def test_of_groups_in_parts_no_pair_is_known():
  _, shapes = options(2)
  parts = shapes._replace(group=1, parts=GROUP)
  live = jnp.array([True, False, True, True, False, False, True, True])
  spread = gradients._spread(jnp.float32(1), live, parts)
  assert float(spread.live) == 3
  assert np.isnan(spread.live_squares)
