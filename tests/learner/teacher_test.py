"""A teacher's rows and weights in an update, against one plain pass by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from rlvr_jax import algorithm as algorithms
from rlvr_jax import registry, types
from rlvr_jax.learner import gradients, optimizer, train_step
from rlvr_jax.learner import loss as losses
from rlvr_jax.learner import teacher as teachers
from rlvr_jax.models import micro_batch, sharding, transformer
from rlvr_jax.ops import divergence as divergences
from rlvr_jax.ops import ratio
from rlvr_jax.ops.distillation import Comparison

VOCAB, S, N, C, GROUP, P = 24, 4, 5, 6, 2, 4
B, T = P * GROUP, S + N
MODEL = transformer.Decoder(
  registry.get('model', f'tiny(width=32, vocab={VOCAB}, layers=1)')()
)
MESH = sharding.make_mesh((1, 1, 1), jax.devices()[:1])


@functools.cache
def algorithm(distill='loss', divergence='reverse', **changes):
  section = common.base().algo
  section.update(distill=distill, divergence=divergence, surrogate='reinforce')
  section.update(changes)
  return algorithms.from_config(section)


@functools.cache
def params(seed=2):
  made, _ = sharding.params_shardings(MODEL, MESH)
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), made
  )


@functools.cache
def batch(pad=0):
  """Four groups; rows 1 and 5 have no context, group 3 has none at all.

  The token at 4 is not judged: the first one of rows 0 and 1. Prompts of
  several lengths, contexts of 0 to C tokens, one row empty.
  """
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, VOCAB, (B, T)).astype(np.int32)
  mask = np.zeros((B, T), bool)
  wide = rng.integers(1, VOCAB, (B, T + C)).astype(np.int32)
  shift = np.array([6, 0, 2, 3, 1, 0, 0, 0], np.int32)
  taught = np.array([1, 0, 1, 1, 1, 0, 0, 0], bool)
  for b in range(B):
    n = (4, 2, 1, 3)[b // GROUP]
    tokens[b, :n] = tokens[b - b % GROUP, :n]
    end = n + (5, 2, 4, 1, 3, 3, 0, 5)[b]
    mask[b, n:end] = True
    if not shift[b]:
      wide[b, :T] = tokens[b]
    wide[b, n + shift[b] : end + shift[b]] = tokens[b, n:end]
  adv = rng.standard_normal((B, 1)).astype(np.float32)
  adv[2:4] = 0
  grow = lambda x: np.pad(x, ((0, 0), (0, pad)))
  return types.Batch(
    tokens=grow(tokens),
    mask=grow(mask),
    adv=grow(np.where(mask, adv, 0).astype(np.float32)),
    logp_old=grow(np.zeros((B, T), np.float32)),
    logp_ref=None,
    taught=grow(mask & taught[:, None] & (np.arange(T) != 4)),
    teacher=types.TeacherRows(grow(wide), shift),
  )


def teacher_of(algo, weights='other', seed=9):
  """A teacher with other weights, or of these."""
  kept = params(seed)
  state = types.TrainState(0, params(), None)
  other = MODEL if weights == 'other' else None
  return teachers.models(
    weights,
    0.3,
    state,
    kept,
    model=MODEL,
    other=other,
    trainable='.*',
    divergence=algo.divergence,
  )


@functools.cache
def program(algo, per_micro=1, pack=False, weights='other'):
  shapes = micro_batch.Shapes(GROUP, S, per_micro, 7, pack)

  @jax.jit
  def run(params, rows):
    return gradients.gradients(
      params,
      rows,
      algorithm=algo,
      model=MODEL,
      temperature=0.8,
      trainable='.*',
      shapes=shapes,
      teacher=teacher_of(algo, weights),
    )

  return lambda rows: run(params(), rows)


def log_softmaxes(params, tokens):
  (hidden,) = MODEL.apply({'params': params}, tokens)
  logits = hidden @ transformer.head_weight(params).T / 0.8
  return jax.nn.log_softmax(logits)


def by_hand(algo, rows, weight=1.0, weights='other'):
  """Loss and gradient of mean divergence (+ surrogate), row by row."""
  index = [
    (b, t) for b in range(B) for t in np.flatnonzero(np.asarray(rows.taught[b]))
  ]
  b, t = map(np.array, zip(*index, strict=True))
  at = t + np.asarray(rows.teacher.shift)[b] - 1
  wide = jnp.asarray(rows.teacher.tokens)
  run = jax.jit(log_softmaxes)
  logq = run(params(9), wide)[b, at]
  if weights == 'trust_region':
    live = run(params(), wide)[b, at]
    logq = jax.nn.log_softmax(0.7 * logq + 0.3 * live)

  def loss(params):
    tokens = jnp.asarray(rows.tokens)
    logp = log_softmaxes(params, tokens)
    value, slope = divergences.value_and_slope(
      logp[b, t - 1], logq, tokens[b, t], algo.divergence
    )
    # Its gradient by the logits is `slope`.
    value, slope = jax.lax.stop_gradient((value, slope))
    linear = (slope * logp[b, t - 1]).sum(-1)
    total = (value + linear - jax.lax.stop_gradient(linear)).mean()
    if algo.distill.outcome:
      each = jnp.take_along_axis(logp[:, :-1], tokens[:, 1:, None], -1)[..., 0]
      mask = jnp.asarray(rows.mask[:, 1:])
      surrogate = -jnp.where(mask, rows.adv[:, 1:] * each, 0).sum() / mask.sum()
      total = weight * total + surrogate
    return total

  value, grads = jax.jit(jax.value_and_grad(loss))(params())
  return value, optimizer.split(grads, '.*')[0]


def check_equal(got, want):
  np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)
  for k, b in want[-1].items():
    np.testing.assert_allclose(
      got[-1][k], b, atol=2e-5 * max(np.abs(b).max(), 0.1), err_msg=k
    )


@functools.cache
def expected():
  return by_hand(algorithm(), batch())


@pytest.mark.parametrize(
  ('per_micro', 'pack', 'pad'), [(1, False, 0), (2, True, 3)]
)
def test_rows_of_other_lengths_are_aligned(per_micro, pack, pad):
  """The same for any number of micro-batches, packing and padding."""
  got = program(algorithm(), per_micro, pack)(batch(pad))
  check_equal(got, expected())
  assert any(np.abs(g).max() > 1e-3 for g in got[-1].values())
  assert got[1]['divergence'].den == batch().taught.sum() == 11


def test_several_devices_change_nothing():
  mesh = sharding.make_mesh((2, 2, 1), jax.devices()[:4])
  with sharding.use(mesh):
    got = program(algorithm(), per_micro=4)(sharding.to_mesh(batch()))
  check_equal(got, expected())


def test_each_term_has_its_own_tokens_and_a_trust_region_mixes_logits():
  algo = algorithm('add(weight=0.5)', 'jsd(alpha=0.3, k=5)')
  got = program(algo, 2, weights='trust_region')(batch())
  check_equal(got, by_hand(algo, batch(), 0.5, 'trust_region'))


def test_the_gap_is_an_advantage():
  """Of reinforce: the gradient of the sampled divergence."""
  got = program(algorithm('advantage'), 4)(batch())
  want = by_hand(algorithm('loss', 'sampled'), batch())
  check_equal((0.0, got[-1]), (0.0, want[-1]))


def test_what_may_have_a_gradient():
  rows, live = batch(), batch().mask & (batch().adv != 0)
  for distill, want in (
    ('loss', rows.taught),
    ('add', live | rows.taught),
    ('advantage(outcome=1.0)', live | rows.taught),
    ('reweight', live),  # silent where the outcome is
  ):
    got = losses.may_have_gradient(algorithm(distill), rows)
    np.testing.assert_array_equal(got, want, err_msg=distill)


def test_live_weights_that_read_nothing_more_change_nothing():
  rows = batch().replace(teacher=None)
  got = program(algorithm('loss', 'jsd'), 2, True, weights='live')(rows)
  assert got[0] == 0
  assert not any(np.asarray(g).any() for g in got[-1].values())
  assert got[1]['divergence'].den > 0


def test_without_context_there_is_nothing():
  nobody = np.zeros_like(batch().taught)
  got = program(algorithm())(batch().replace(taught=nobody))
  assert got[0] == 0
  assert not any(np.asarray(g).any() for g in got[-1].values())


def test_rows_without_a_teacher_leave_numerator_and_denominator():
  """Three live tokens at .2 beside five dead ones: .2 and not .075."""
  algo = algorithm()
  compared = [jnp.full((1, 8), 0.2)] * 3
  taught = np.arange(8)[None] < 3
  zeros = np.zeros((1, 8), np.float32)
  rows = types.Batch(
    zeros.astype(int), np.ones((1, 8), bool), zeros, zeros, None, taught=taught
  )
  out, _ = losses.loss(
    algo, jnp.asarray(zeros), rows, compared=Comparison(*compared)
  )
  assert float(ratio.divide(out)) == pytest.approx(0.2)


def test_another_completion_is_refused():
  types.check_teacher(batch())
  tokens = np.array(batch().teacher.tokens)
  tokens[0, 4 + 6] += 1
  rows = types.TeacherRows(tokens, batch().teacher.shift)
  with pytest.raises(ValueError, match='Row 0: the teacher reads another'):
    types.check_teacher(batch().replace(teacher=rows))
  rows = types.TeacherRows(batch().teacher.tokens, batch().teacher.shift + 1)
  with pytest.raises(ValueError, match='another completion'):
    types.check_teacher(batch().replace(teacher=rows))


def test_the_moving_average():
  """From 0 towards 1 with rate .05: .142625 after three steps."""
  old = {'w': jnp.zeros(2)}
  for _ in range(3):
    old = teachers.average(old, {'w': jnp.ones(2, jnp.bfloat16)}, 0.05)
  np.testing.assert_allclose(old['w'], 0.142625, rtol=1e-6)
  assert teachers.average(None, old, 0.05) is None


def test_an_average_follows_updates_and_is_frozen_elsewhere():
  algo, tx = algorithm(), optax.sgd(optax.constant_schedule(0.1))
  trainable = 'layers'
  abstract = train_step.abstract_state(MODEL, tx, trainable, MESH, average=True)
  state = train_step.new_state(
    jax.tree.map(jnp.array, params()),
    tx=tx,
    trainable=trainable,
    abstract=abstract,
  )
  made = teachers.models(
    'ema',
    0.25,
    state,
    None,
    model=MODEL,
    other=None,
    trainable=trainable,
    divergence=algo.divergence,
  )
  update = functools.partial(
    train_step.update,
    algorithm=algo,
    model=MODEL,
    tx=tx,
    schedule=optax.constant_schedule(0.1),
    temperature=1.0,
    trainable=trainable,
    shapes=(micro_batch.Shapes(GROUP, S, 4, 1024, False),),
    teacher=made,
    teacher_rate=0.25,
  )
  new, metrics = jax.jit(update)(state, (batch(),))
  assert metrics['update_skipped'] == 0
  before, _ = optimizer.split(state.params, trainable)
  after, _ = optimizer.split(new.params, trainable)
  for k, e in new.teacher.items():
    want = 0.75 * before[k] + 0.25 * after[k]
    np.testing.assert_allclose(e, want, atol=1e-6)
  # Its rows have a context, so at first it judges as the policy would there.
  assert metrics['divergence'] > 0
  whole = teachers.averaged_params(new, trainable)
  assert jax.tree.structure(whole) == jax.tree.structure(new.params)
