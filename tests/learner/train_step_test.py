import functools
import types as namespaces

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from rlvr_jax import algorithm as algorithms
from rlvr_jax import enums, registry, types
from rlvr_jax.learner import batches, gradients, optimizer, train_step
from rlvr_jax.models import micro_batch, sharding, token_logprobs, transformer
from rlvr_jax.ops import ratio

VOCAB, S, N, GROUP, P = 40, 4, 5, 2, 4
B, T = P * GROUP, S + N
MODEL = transformer.Decoder(
  registry.get('model', f'tiny(width=32, vocab={VOCAB}, layers=1)')()
)
AGGREGATES = (
  'token_mean',
  'seq_mean_token_mean',
  'seq_mean_token_sum',
  'constant(5)',
)
MESH = sharding.make_mesh((1, 1, 1), jax.devices()[:1])


def algorithm(aggregate='token_mean', kl='', **changes):
  section = common.base().algo
  section.update(
    aggregate=aggregate, kl=kl, beta=0.1 if kl else 0.0, surrogate='clip'
  )
  section.update(changes)
  return algorithms.from_config(section)


def shapes(per_micro=1, pack=False, max_prompt=S):
  return micro_batch.Shapes(GROUP, max_prompt, per_micro, 1024, pack)


@functools.cache
def params():
  """Random weights of std 0.2, on the host."""
  made, _ = sharding.params_shardings(MODEL, MESH)
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda x: 0.2 * rng.standard_normal(x.shape, np.float32), made
  )


@jax.jit
def _outputs_of(params, tokens):
  return token_logprobs.token_logprobs(params, tokens, model=MODEL)


def logp_of(tokens):
  return np.asarray(_outputs_of(params(), tokens)[0])


@functools.cache
def batch():
  """Four groups; the third has only advantages of 0, one row is empty."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, VOCAB, (B, T)).astype(np.int32)
  mask = np.zeros((B, T), bool)
  for b in range(B):
    n = (4, 2, 1, 3)[b // GROUP]
    tokens[b, :n] = tokens[b - b % GROUP, :n]
    mask[b, n : n + (5, 2, 4, 1, 3, 3, 0, 5)[b]] = True
  adv = rng.standard_normal((B, 1)).astype(np.float32)
  adv[4:6] = 0
  logp = logp_of(tokens)
  noise = 0.05 * rng.standard_normal((B, T)).astype(np.float32)
  return types.Batch(
    tokens=tokens,
    mask=mask,
    adv=np.where(mask, adv, 0).astype(np.float32),
    logp_old=np.where(mask, np.minimum(logp + noise, 0), 0),
    logp_ref=None,
  )


@functools.cache
def with_reference():
  noise = np.random.default_rng(5).standard_normal((B, T)).astype(np.float32)
  return batch().replace(
    logp_ref=np.where(batch().mask, batch().logp_old + 0.3 * noise, 0)
  )


@functools.cache
def program(aggregate='token_mean', kl='', per_micro=1, pack=False, s=S):
  return jax.jit(
    functools.partial(
      gradients.gradients,
      algorithm=algorithm(aggregate, kl),
      model=MODEL,
      temperature=1.0,
      trainable='.*',
      shapes=shapes(per_micro, pack, s),
    )
  )


@functools.cache
def _by_hand(kl):
  def losses(params, rows):
    logp, _ = token_logprobs.token_logprobs(params, rows.tokens, model=MODEL)
    logp = jnp.where(rows.mask, logp, 0.0)
    rho = jnp.exp(logp - rows.logp_old)
    x = jnp.maximum(-rows.adv * rho, -rows.adv * jnp.clip(rho, 0.8, 1.2))
    if kl:
      gap = rows.logp_ref - logp
      x = x + 0.1 * (jnp.exp(gap) - 1 - gap)
    x = jnp.where(rows.mask, x, 0.0)
    count = rows.mask.sum(-1)
    some = (count > 0).sum()
    return {
      'token_mean': x.sum() / count.sum(),
      'seq_mean_token_mean': (x.sum(-1) / jnp.maximum(count, 1)).sum() / some,
      'seq_mean_token_sum': x.sum() / some,
      'constant(5)': x.sum() / some / 5,
    }

  def each(params, rows):
    value, pull = jax.vjp(lambda p: losses(p, rows), params)
    one = lambda k: {j: jnp.float32(j == k) for j in value}
    return {
      k: (value[k], optimizer.split(pull(one(k))[0], '.*')[0]) for k in value
    }

  return jax.jit(each)


def by_hand(rows=None, kl=''):
  """{aggregate: (loss, gradient)} of the whole batch in one plain pass."""
  return _by_hand(kl)(params(), rows or batch())


def check_equal(got, want):
  np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)
  assert got[-1].keys() == want[-1].keys()
  for k, b in want[-1].items():
    np.testing.assert_allclose(
      got[-1][k], b, atol=1e-5 * max(np.abs(b).max(), 0.1), err_msg=k
    )


##### gradients #####


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_accumulated_gradient_is_that_of_the_whole_batch_by_hand(aggregate):
  """Micro-batches of one group; the group without advantage is skipped."""
  got = program(aggregate)(params(), batch())
  check_equal(got, by_hand()[aggregate])
  assert any(np.abs(g).max() > 1e-3 for g in got[-1].values())
  # All means include the 6 tokens of the skipped group.
  assert got[1]['entropy'].den == batch().mask.sum() == 23
  np.testing.assert_allclose(
    ratio.divide(got[1]['advantage/nonzero_frac']), 17 / 23, rtol=1e-6
  )


def test_the_number_of_micro_batches_changes_nothing():
  got = program(per_micro=2)(params(), batch())
  check_equal(got, by_hand()['token_mean'])


def test_packing_changes_nothing(monkeypatch):
  """Two micro-batches, of 18 and 15 positions, in lists of 31 and of 15."""
  monkeypatch.setattr(
    micro_batch, 'capacities', lambda shapes, columns: (15, 31)
  )
  packed = program(per_micro=2, pack=True)
  check_equal(packed(params(), batch()), by_hand()['token_mean'])
  # Eight tokens with holes between them need room for the holes too.
  after = np.arange(T)[None] - np.repeat([4, 2, 1, 3], GROUP)[:, None]
  holes = np.isin(after, [0, 4])
  rows = batch().replace(
    mask=holes,
    adv=np.where(holes, 1.0, 0.0).astype(np.float32),
    logp_old=np.where(holes, batch().logp_old, 0),
  )
  check_equal(packed(params(), rows), by_hand(rows)['token_mean'])


def test_padding_changes_nothing():
  """More columns after the rows, and a larger max_prompt."""
  wide = jax.tree.map(lambda x: np.pad(x, ((0, 0), (0, 5))), batch())
  got = program(s=S + 3)(params(), wide)
  check_equal(got, by_hand()['token_mean'])


def test_order_changes_nothing():
  """Order of rows inside groups, and of groups."""
  want = by_hand()['token_mean']
  for order in ([1, 0, 3, 2, 5, 4, 7, 6], [6, 7, 2, 3, 0, 1, 4, 5]):
    rows = jax.tree.map(lambda x, order=order: x[np.array(order)], batch())
    check_equal(program()(params(), rows), want)


def test_with_kl_no_group_is_skipped():
  got = program(kl='k3')(params(), with_reference())
  check_equal(got, by_hand(with_reference(), 'k3')['token_mean'])
  assert got[1]['entropy'].den == batch().mask.sum()
  # The group without advantage has a gradient.
  zero = with_reference().replace(adv=np.zeros((B, T), np.float32))
  got = program(kl='k3')(params(), zero)
  assert max(np.abs(g).max() for g in got[-1].values()) > 1e-3


def test_groups_that_pad_a_batch_weigh_nothing():
  """Padding of `dynamic_sampling.select`. The denominator counts all groups."""
  some = jax.tree.map(np.copy, batch())
  for x in (some.mask, some.adv, some.logp_old):
    x[6:] = 0
  got = program()(params(), some)
  check_equal(got, by_hand(some)['token_mean'])
  # Their contents cannot matter.
  some.tokens[6:] = 0
  for a, b in zip(
    jax.tree.leaves(got), jax.tree.leaves(program()(params(), some))
  ):
    np.testing.assert_array_equal(a, b)


def test_group_counts_that_leave_a_rest_are_refused():
  with pytest.raises(ValueError, match=r'3 groups.*micro-batches of 2'):
    program(per_micro=2)(params(), jax.tree.map(lambda x: x[:6], batch()))


def test_metrics_compare_sampler_and_trainer():
  exact = batch().replace(
    logp_old=np.where(
      batch().mask,
      logp_of(batch().tokens),
      0,
    )
  )
  _, metrics, _ = program()(params(), exact)
  assert metrics['sampler_trainer/logp_diff_max'].num < 1e-5
  off = exact.replace(logp_old=exact.logp_old - 0.5 * exact.mask)
  off.logp_old[0, S] -= 0.25
  _, metrics, _ = program()(params(), off)
  metrics = {k: float(ratio.divide(r)) for k, r in metrics.items()}
  assert metrics['sampler_trainer/logp_diff_max'] == pytest.approx(
    0.75, abs=1e-4
  )
  assert metrics['sampler_trainer/logp_diff_mean'] == pytest.approx(
    0.5 + 0.25 / 23, abs=1e-4
  )


@functools.cache
def off_policy():
  """`batch` with two groups to skip; the largest gaps are in one of them."""
  rows = jax.tree.map(np.copy, batch())
  rows.adv[0:2] = 0
  rows.logp_old[4:6] -= 0.4 * rows.mask[4:6]
  rows.logp_old[0, S] -= 0.3
  rows.logp_old[2:4] -= np.where(np.arange(T) % 2, 0.5, -0.5) * rows.mask[2:4]
  return rows


@functools.cache
def metrics_by_hand():
  rows = off_policy()
  logp, entropy = (
    np.asarray(x, np.float64)[rows.mask]
    for x in _outputs_of(params(), rows.tokens)
  )
  adv, old = rows.adv[rows.mask], rows.logp_old[rows.mask]
  rho = np.exp(logp - old)
  cut = ((adv > 0) & (rho > 1.2)) | ((adv < 0) & (rho < 0.8))
  assert (
    0 < cut.mean() < np.mean(adv != 0) < 0.7
  )  # so that a mistake would show
  return {
    'entropy': entropy.mean(),
    'ratio': rho.mean(),
    'clip_ratio': cut.mean(),
    'sampler_trainer/logp_diff_mean': np.abs(logp - old).mean(),
    'sampler_trainer/logp_diff_max': np.abs(logp - old).max(),
    'advantage/nonzero_frac': np.mean(adv != 0),
  }


@pytest.mark.parametrize(
  ('per_micro', 'pack'), [(1, False), (2, False), (4, False), (2, True)]
)
def test_metrics_are_over_all_tokens_however_the_batch_is_cut(per_micro, pack):
  """Groups without gradient are skipped in the loss and not in the metrics."""
  got = program(per_micro=per_micro, pack=pack)(params(), off_policy())
  check_equal(got, by_hand(off_policy())['token_mean'])
  metrics = {k: float(ratio.divide(r)) for k, r in got[1].items()}
  assert metrics == pytest.approx(metrics_by_hand(), rel=1e-4)


def test_metrics_are_never_over_a_part_of_the_tokens():
  """Without a look at the skipped group they are means over nothing."""
  f = functools.partial(
    gradients.gradients,
    algorithm=algorithm(),
    model=MODEL,
    temperature=1.0,
    trainable='.*',
    shapes=shapes(1),
  )
  f = jax.jit(f)
  loss, metrics, grads = f(params(), off_policy(), look=False)
  check_equal((loss, grads), by_hand(off_policy())['token_mean'])
  whole = {k for k, r in metrics.items() if r.den > 0}
  assert whole == {'advantage/nonzero_frac'}
  # If no group is skipped they cover all tokens in any case.
  rows = off_policy()
  rows = rows.replace(adv=np.where(rows.mask, 1.0, 0.0).astype(np.float32))
  _, metrics, _ = f(params(), rows, look=False)
  metrics = {k: float(ratio.divide(r)) for k, r in metrics.items()}
  for name in ('entropy', 'ratio', 'sampler_trainer/logp_diff_max'):
    assert metrics[name] == pytest.approx(metrics_by_hand()[name], rel=1e-4)


def test_metrics_are_over_all_tokens_where_tokens_are_chosen():
  """The forward pass that selects tokens serves the skipped groups too."""
  both = []
  for per_micro in (1, 4):
    f = functools.partial(
      gradients.gradients,
      algorithm=algorithm(surrogate='kl_cov(ratio=0.2)'),
      model=MODEL,
      temperature=1.0,
      trainable='.*',
      shapes=shapes(per_micro),
    )
    _, metrics, _ = jax.jit(f)(params(), off_policy())
    both.append({k: float(ratio.divide(r)) for k, r in metrics.items()})
  assert both[0] == pytest.approx(both[1], rel=1e-4)
  for name in ('entropy', 'ratio', 'sampler_trainer/logp_diff_max'):
    assert both[0][name] == pytest.approx(metrics_by_hand()[name], rel=1e-4)


def test_forward_gives_the_log_probs_of_the_weights():
  got = jax.jit(
    functools.partial(
      micro_batch.forward, model=MODEL, temperature=1.0, shapes=shapes(2)
    )
  )(params(), batch())
  want = logp_of(batch().tokens)
  want = np.where(batch().mask, want, 0)
  np.testing.assert_allclose(got.logp, want, atol=2e-5)
  assert got.value is None
  assert got.certainty is None


def test_the_entropy_bonus_adds_its_own_gradient():
  """loss = surrogate - 0.3 mean H, and no group is skipped."""

  def entropy(params):
    rows = batch()
    tokens = jnp.asarray(rows.tokens)
    _, h = token_logprobs.token_logprobs(params, tokens, model=MODEL)
    return jnp.where(rows.mask, h, 0.0).sum() / rows.mask.sum()

  f = functools.partial(
    gradients.gradients,
    algorithm=algorithm(entropy_coef=0.3),
    model=MODEL,
    temperature=1.0,
    trainable='.*',
    shapes=shapes(1),
  )
  loss, _, grads = jax.jit(f)(params(), batch())
  plain_loss, _, plain = program()(params(), batch())
  h, dh = jax.jit(jax.value_and_grad(entropy))(params())
  np.testing.assert_allclose(loss, plain_loss - 0.3 * h, rtol=1e-5)
  for name, d in optimizer.split(dh, '.*')[0].items():
    np.testing.assert_allclose(
      grads[name], plain[name] - 0.3 * d, atol=2e-5 * np.abs(d).max() + 1e-6
    )


def test_a_correction_weighs_advantages_by_the_trainer_s_own_view():
  """w = min(pi_trainer / pi_sampler, 1.02) per token; logp_old is replaced."""
  rows = batch()
  f = functools.partial(
    train_step.prepare,
    algorithm=algorithm(correction='truncate(high=1.02)'),
    model=MODEL,
    temperature=1.0,
    shapes=shapes(2),
  )
  got, metrics = jax.jit(f)(params(), rows, rows.adv)
  logp = np.where(rows.mask, logp_of(rows.tokens), 0)
  weight = np.where(rows.mask, np.exp(logp - rows.logp_old).clip(max=1.02), 0)
  np.testing.assert_allclose(got.logp_old, logp, atol=2e-5)
  np.testing.assert_allclose(got.adv, rows.adv * weight, atol=1e-4)
  assert float(metrics['sampler_trainer/weight_mean']) == pytest.approx(
    weight.sum() / rows.mask.sum(), abs=1e-4
  )
  gap = np.abs(logp - rows.logp_old).max()
  assert float(metrics['sampler_trainer/logp_diff_max']) == pytest.approx(
    gap, abs=1e-4
  )


def test_a_critic_gives_advantages_and_learns_the_returns():
  """One row by hand: values are linear in the hidden state, GAE with lam=1."""
  critic = MODEL.clone(value_head=True)
  rng = np.random.default_rng(7)
  weights = {
    **params(),
    'value_kernel': rng.standard_normal(32).astype(np.float32) * 0.1,
    'value_bias': np.float32(0.2),
  }
  algo = algorithm(
    estimate='gae(gamma=1.0, lam=1.0)', whiten=False, value_coef=0.5,
    value_clip=0.0, surrogate='reinforce',
  )  # fmt: skip
  rows = batch()
  last = np.zeros((B, T), np.float32)
  for b in range(B):
    if rows.mask[b].any():
      last[b, np.flatnonzero(rows.mask[b])[-1]] = b % 3
  kw = dict(algorithm=algo, model=critic, temperature=1.0, shapes=shapes(2))
  got, metrics = jax.jit(functools.partial(train_step.prepare, **kw))(
    weights, rows, last
  )
  (hidden,) = critic.apply({'params': weights}, rows.tokens)
  value = np.asarray(hidden) @ weights['value_kernel'] + 0.2
  value = np.where(rows.mask, np.pad(value[:, :-1], ((0, 0), (1, 0))), 0)
  np.testing.assert_allclose(got.value, value, atol=1e-4)
  # gamma = lam = 1: the return is the row's reward, at every token.
  returns = np.where(rows.mask, np.arange(B)[:, None] % 3, 0)
  np.testing.assert_allclose(got.returns, returns, atol=1e-5)
  np.testing.assert_allclose(got.adv, returns - value, atol=1e-4)
  assert float(metrics['critic/return_mean']) == pytest.approx(
    returns.sum() / rows.mask.sum()
  )
  _, metrics, grads = jax.jit(
    functools.partial(gradients.gradients, trainable='.*', **kw)
  )(weights, got)
  error = 0.5 * np.square(value - returns).sum() / rows.mask.sum()
  assert float(ratio.divide(metrics['critic/loss'])) == pytest.approx(
    error, abs=1e-4
  )
  # d/db of 0.5 * mean 0.5 (V - R)^2: the surrogate does not see the bias.
  want = 0.5 * (value - returns).sum() / rows.mask.sum()
  np.testing.assert_allclose(grads['value_bias'], want, atol=1e-5)


def test_each_token_pays_for_its_divergence_from_the_reference():
  """r_t - beta (log pi_t - log ref_t), of which returns are the sums."""
  critic, rows = MODEL.clone(value_head=True), with_reference()
  weights = {
    **params(),
    'value_kernel': np.zeros(32, np.float32),
    'value_bias': np.float32(0.0),
  }
  gae = dict(estimate='gae(gamma=0.98, lam=1.0)', whiten=False)
  last = np.where(rows.mask, rows.adv, 0).astype(np.float32)
  logp = np.where(rows.mask, logp_of(rows.tokens), 0)
  reward = last - 0.5 * (logp - rows.logp_ref)

  def prepare(algo, rows, reward):
    kw = dict(model=critic, temperature=1.0, shapes=shapes(2))
    f = functools.partial(train_step.prepare, algorithm=algo, **kw)
    return jax.jit(f)(weights, rows, reward)

  pays = algorithm(reward_kl='k1', reward_beta=0.5, **gae)
  assert pays.needs_reference
  got, metrics = prepare(pays, rows, last)
  by_hand, _ = prepare(algorithm(**gae), rows, reward)
  np.testing.assert_allclose(got.returns, by_hand.returns, atol=1e-5)
  np.testing.assert_allclose(got.adv, by_hand.adv, atol=1e-5)
  at = np.flatnonzero(rows.mask[0])
  want = (reward[0, at] * 0.98 ** np.arange(len(at))).sum()
  assert float(got.returns[0, at[0]]) == pytest.approx(want, abs=1e-4)
  kl = (logp - rows.logp_ref).sum() / rows.mask.sum()
  assert float(metrics['reward_kl']) == pytest.approx(kl, abs=1e-5)


def test_a_teacher_s_distribution_takes_the_surrogate_s_place():
  """The loss is mean KL(teacher || policy): 0, without gradient, for itself."""
  rows = batch()
  rows = rows.replace(taught=rows.mask)
  algo = algorithm(distill='loss', divergence='forward')
  other = jax.tree.map(lambda x: x * 1.1, params())

  def by_hand(policy):
    z = transformer.logits(policy, rows.tokens, model=MODEL)[:, :-1]
    q = transformer.logits(other, rows.tokens, model=MODEL)[:, :-1]
    p, q = jax.nn.log_softmax(z), jax.nn.log_softmax(q)
    kl = (jnp.exp(q) * (q - p)).sum(-1)
    return jnp.where(rows.mask[:, 1:], kl, 0.0).sum() / rows.mask.sum()

  @jax.jit
  def run(policy, teacher):
    return gradients.gradients(
      policy,
      rows,
      algorithm=algo,
      model=MODEL,
      temperature=1.0,
      trainable='.*',
      shapes=shapes(2),
      teacher=token_logprobs.Teacher(
        ((MODEL, teacher),), (1.0,), algo.divergence
      ),
    )

  loss, metrics, grads = run(params(), other)
  want, want_grads = jax.jit(jax.value_and_grad(by_hand))(params())
  assert float(loss) == pytest.approx(float(want), rel=1e-4)
  assert float(ratio.divide(metrics['divergence'])) == pytest.approx(
    float(want), rel=1e-4
  )
  for name, d in optimizer.split(want_grads, '.*')[0].items():
    np.testing.assert_allclose(grads[name], d, atol=1e-4 * np.abs(d).max())
  loss, _, grads = run(other, other)
  assert abs(float(loss)) < 1e-6
  assert max(float(jnp.abs(g).max()) for g in grads.values()) < 1e-5


##### update #####


@pytest.fixture(scope='module')
def trained():
  """(new state, step, jitted update, abstract state), as in a run."""
  section = namespaces.SimpleNamespace(
    learning_rate=0.01, schedule='linear', warmup_steps=0, b1=0.9, b2=0.95,
    eps=1e-8, weight_decay=0.1, max_grad_norm=1.0, value_learning_rate=0.0,
  )  # fmt: skip
  trainable = 'layers|final_norm'
  tx = optimizer.make_optimizer(section, 10)
  abstract = train_step.abstract_state(MODEL, tx, trainable, MESH)
  update = jax.jit(
    functools.partial(
      train_step.update,
      algorithm=algorithm(),
      model=MODEL,
      tx=tx,
      schedule=optimizer.make_schedule(section, 10),
      temperature=1.0,
      trainable=trainable,
      shapes=(shapes(2),),
    ),
    donate_argnums=0,
    out_shardings=(train_step.shardings_of(abstract), None),
  )

  def new():
    held = sharding.put_params(params(), MODEL, MESH)
    return train_step.new_state(
      held, tx=tx, trainable=trainable, abstract=abstract
    )

  # With a run's sharding rules.
  def run(state, rows):
    with sharding.use(MESH):
      rows = sharding.from_host(rows, sharding.rows(MESH))
      return update(state, (rows,))

  return new, run, update, abstract


def bits(tree):
  return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def floats(metrics):
  return {k: float(v) for k, v in metrics.items()}


def test_update_moves_the_trained_and_compiles_once(trained):
  new, run, update, abstract = trained
  before = optimizer.split(params(), 'layers|final_norm')
  state = new()
  rates = []
  for _ in range(3):
    state, metrics = run(state, batch())
    rates.append(float(metrics['learning_rate']))
    assert (
      floats(metrics)['update_skipped'] == floats(metrics)['batch_empty'] == 0
    )
  assert update._cache_size() == 1
  after = optimizer.split(state.params, 'layers|final_norm')
  assert bits(after[1]) == bits(before[1])  # frozen: bit-equal
  assert set(before[1]) == {'embedding'}
  for k, x in after[0].items():
    # Adam's first steps are about the rate times the sign.
    moved = np.abs(np.asarray(x) - before[0][k])
    assert 0.001 < moved.max() < 0.04
  np.testing.assert_allclose(rates, [0.01, 0.009, 0.008], rtol=1e-5)
  assert state.step == 3
  # Structure, shapes and shardings are those of abstract_state.
  leaf = lambda x: (x.shape, x.dtype, x.sharding)
  assert jax.tree.map(leaf, state) == jax.tree.map(leaf, abstract)


def test_loss_and_norm_are_those_of_the_gradient(trained):
  new, run, _, _ = trained
  _, metrics = run(new(), batch())
  loss, grads = by_hand()['token_mean']
  grads = {k: v for k, v in grads.items() if k != 'embedding'}
  norm = np.sqrt(sum((np.float64(g) ** 2).sum() for g in grads.values()))
  np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-5)


@pytest.mark.parametrize('fault', ['adv', 'logp_old', 'inf', 'params'])
def test_what_is_not_finite_leaves_the_state_as_it_was(trained, fault):
  new, run, _, _ = trained
  state, _ = run(new(), batch())  # moments are not zero
  rows = jax.tree.map(np.copy, batch())
  if fault == 'adv':
    rows.adv[1, 2 * S - 3] = np.nan
    rows.mask[1, 2 * S - 3] = True
  elif fault == 'inf':
    rows.adv[0, S] = np.inf
  elif fault == 'logp_old':
    rows.logp_old[0, S] = np.nan
  else:
    scale = state.params['final_norm']['scale']
    bad = {'scale': scale.at[3].set(jnp.nan)}
    state = state.__class__(
      step=state.step,
      params={**state.params, 'final_norm': bad},
      opt_state=state.opt_state,
    )
  before = bits((state.params, state.opt_state))
  state, metrics = run(state, rows)
  assert bits((state.params, state.opt_state)) == before
  assert floats(metrics)['update_skipped'] == 1
  assert state.step == 2
  if (
    fault != 'params'
  ):  # the next update is applied, at the rate this one would have had
    state, metrics = run(state, batch())
    assert floats(metrics)['update_skipped'] == 0
    assert bits(state.params) != before[: len(jax.tree.leaves(state.params))]
    np.testing.assert_allclose(metrics['learning_rate'], 0.009, rtol=1e-5)


def test_a_batch_without_gradient_leaves_the_state_as_it_was(trained):
  """AdamW would move by its momentum and its decay."""
  new, run, _, _ = trained
  state, _ = run(new(), batch())
  before = bits((state.params, state.opt_state))
  zero = batch().replace(adv=np.zeros((B, T), np.float32))
  nothing = zero.replace(mask=np.zeros((B, T), bool))
  for rows in (zero, nothing):
    state, metrics = run(state, rows)
    assert bits((state.params, state.opt_state)) == before
    numbers = floats(metrics)
    assert numbers['batch_empty'] == 1
    assert numbers['update_skipped'] == numbers['loss'] == 0
    assert numbers['update/moved_frac'] == 0
    # Means over nothing are NaN; means over tokens without gradient are not.
    for name in ('entropy', 'ratio', 'sampler_trainer/logp_diff_max'):
      assert np.isnan(numbers[name]) == (rows is nothing)


def updater(tx, model=MODEL):
  """(new state, jitted update) for an optimiser of all parameters."""
  abstract = train_step.abstract_state(model, tx, '.*', MESH)
  update = jax.jit(
    functools.partial(
      train_step.update,
      algorithm=algorithm(),
      model=model,
      tx=tx,
      schedule=lambda i: 1e-3,
      temperature=1.0,
      trainable='.*',
      shapes=(shapes(2),),
    )
  )
  held = sharding.put_params(params(), model, MESH)
  state = train_step.new_state(held, tx=tx, trainable='.*', abstract=abstract)
  return state, update


# How far each weight moves in `wild`.
RATES = {
  'moment': 1e-3,
  'nan': np.nan,
  'inf': np.inf,
  'large': 3 * train_step.LARGEST,
}


@functools.cache
def _wild():
  """An optimiser with one of RATES, whose place its state has: one program."""
  section = namespaces.SimpleNamespace(
    learning_rate=1.0, schedule='constant', warmup_steps=0, b1=0.9, b2=0.95,
    eps=1e-8, weight_decay=0.0, max_grad_norm=0.0, value_learning_rate=0.0,
  )  # fmt: skip

  def scale(updates, place, params=None):
    rate = jnp.array([*RATES.values()], jnp.float32)[place]
    return jax.tree.map(lambda x: rate * x, updates), place

  scaled = optax.GradientTransformation(lambda params: jnp.int32(0), scale)
  tx = optax.chain(optimizer.make_optimizer(section, 10), scaled)
  return updater(tx)


def wild(name):
  """(new state, jitted update) with a rate by name."""
  state, update = _wild()
  moments, _ = state.opt_state
  place = jnp.int32([*RATES].index(name))
  return state.replace(opt_state=(moments, place)), update


def test_several_batches_are_one_update_on_the_sum_of_their_gradients():
  """Each is divided by its own denominator; shapes may differ."""
  tx, every = optax.sgd(lambda count: 1.0), '.*'  # with a count of updates
  part = lambda rows, t: jax.tree.map(
    lambda x: jnp.asarray(x[rows, :t]), batch()
  )
  # One prompt each; the second ends after its last trained token.
  last = int(np.flatnonzero(batch().mask[GROUP:].any(0))[-1])
  parts = (
    part(slice(0, GROUP), T),
    part(slice(GROUP, 2 * GROUP), last + 1),
  )
  options = dict(
    algorithm=algorithm(), model=MODEL, temperature=1.0, trainable=every
  )
  held = sharding.put_params(params(), MODEL, MESH)
  grads = [
    jax.jit(
      functools.partial(gradients.gradients, shapes=shapes(1), **options)
    )(held, p)
    for p in parts
  ]
  abstract = train_step.abstract_state(MODEL, tx, every, MESH)
  update = functools.partial(
    train_step.update,
    tx=tx,
    schedule=lambda i: 1.0,
    shapes=(shapes(1),) * 2,
    **options,
  )
  state = train_step.new_state(held, tx=tx, trainable=every, abstract=abstract)
  state, metrics = jax.jit(update)(state, parts)
  assert float(metrics['loss']) == pytest.approx(
    sum(float(loss) for loss, _, _ in grads), rel=1e-6
  )
  entropy = [ratios['entropy'] for _, ratios, _ in grads]
  assert float(metrics['entropy']) == pytest.approx(
    float(sum(r.num for r in entropy) / sum(r.den for r in entropy)), rel=1e-6
  )
  gap = 'sampler_trainer/logp_diff_max'
  assert float(metrics[gap]) == pytest.approx(
    max(float(ratios[gap].num) for _, ratios, _ in grads)
  )
  new, _ = optimizer.split(state.params, every)
  old, _ = optimizer.split(params(), every)
  for name, x in new.items():
    moved = grads[0][2][name] + grads[1][2][name]
    np.testing.assert_allclose(x, old[name] - moved, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('fault', ['nan', 'inf', 'moment'])
def test_an_update_that_is_not_finite_is_not_made(fault):
  """Loss and gradient are finite; new parameters or moments are not."""
  state, update = wild(fault)
  if fault == 'moment':
    spoil = lambda x: x.at[(0,) * x.ndim].set(jnp.inf) if x.ndim else x
    opt_state = jax.tree.map(spoil, state.opt_state)
    state = types.TrainState(state.step, state.params, opt_state)
  before = bits((state.params, state.opt_state))
  state, metrics = update(state, (batch(),))
  numbers = floats(metrics)
  assert bits((state.params, state.opt_state)) == before
  assert numbers['update_skipped'] == 1
  assert numbers['update/moved_frac'] == 0
  assert np.isfinite(numbers['loss'])
  assert np.isfinite(numbers['grad_norm'])


def test_parameters_beyond_the_largest_are_not_taken():
  state, update = wild('large')
  before = bits((state.params, state.opt_state))
  state, metrics = update(state, (batch(),))
  assert bits((state.params, state.opt_state)) == before
  assert floats(metrics)['update_skipped'] == 1
  # Parameters that are large already may stay and shrink.
  large = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(1e5), state.params)
  assert train_step._bounded(large, large)
  assert train_step._bounded(state.params, large)
  assert not train_step._bounded(large, state.params)


@pytest.mark.parametrize('fault', ['sampler', 'trainer'])
def test_a_ruined_policy_is_seen_where_no_group_has_a_gradient(trained, fault):
  new, run, _, _ = trained
  state, rows = new(), batch().replace(adv=np.zeros((B, T), np.float32))
  if fault == 'sampler':
    rows = rows.replace(logp_old=np.full((B, T), np.nan, np.float32))
  else:
    bad = {'scale': jnp.full_like(state.params['final_norm']['scale'], 3e38)}
    state = types.TrainState(
      step=state.step,
      params={**state.params, 'final_norm': bad},
      opt_state=state.opt_state,
    )
  _, metrics = run(state, rows)
  numbers = floats(metrics)
  assert numbers['update_skipped'] == numbers['batch_empty'] == 1


@pytest.mark.parametrize(('adv', 'skipped'), [(-1, 1), (1, 0), (0, 0)])
def test_a_policy_that_cannot_be_moved_is_skipped(trained, adv, skipped):
  """It samples 7 in every context; other tokens have probability 0."""
  new, run, _, _ = trained
  state = new()
  embedding = state.params['embedding']
  state = types.TrainState(
    step=state.step,
    params={
      'layers': jax.tree.map(jnp.zeros_like, state.params['layers']),
      'final_norm': {'scale': jnp.full_like(embedding[0], 1e4)},
      'embedding': embedding.at[7].multiply(9.0),
    },
    opt_state=state.opt_state,
  )
  zeros = np.zeros((B, T), np.float32)
  _, metrics = run(
    state,
    types.Batch(
      tokens=np.full((B, T), 7, np.int32),
      mask=batch().mask,
      adv=np.where(batch().mask, np.float32(adv), zeros),
      logp_old=zeros,
      logp_ref=None,
    ),
  )
  numbers = floats(metrics)
  assert numbers['entropy'] == numbers['grad_norm'] == 0
  assert numbers['batch_empty'] == 1
  assert numbers['update_skipped'] == skipped


def test_weights_kept_in_bfloat16_train_as_far_as_in_float32():
  """Rounded to nearest, 20 steps of 1e-6 would cover 1% of the distance."""
  section = namespaces.SimpleNamespace(
    learning_rate=1e-6, schedule='constant', warmup_steps=0, b1=0.9, b2=0.95,
    eps=1e-8, weight_decay=0.0, max_grad_norm=1.0, value_learning_rate=0.0,
  )  # fmt: skip
  tx = optimizer.make_optimizer(section, 100)
  far, shares = {}, {}
  for name in ('float32', 'bfloat16'):
    dtype = jnp.dtype(name)
    model = MODEL.clone(param_dtype=dtype)
    start, update = updater(tx, model)
    state, moved_fracs = start, []
    for _ in range(20):
      state, metrics = update(state, (batch(),))
      moved_fracs.append(floats(metrics)['update/moved_frac'])
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {dtype}
    assert {x.dtype for x in jax.tree.leaves(state.opt_state) if x.ndim} == {
      dtype
    }
    gone = jax.tree.map(
      lambda a, b: np.float32(a) - np.float32(b), state.params, start.params
    )
    far[name] = np.concatenate([x.ravel() for x in jax.tree.leaves(gone)])
    shares[name] = moved_fracs
    # The same state gives the same bits, so a resumed run is bit-equal.
    again = update(start, (batch(),))[0]
    assert bits(again.params) == bits(update(start, (batch(),))[0].params)
  exact, rounded = far.values()
  along = lambda x: float((x * np.sign(exact)).sum() / np.abs(exact).sum())
  assert along(exact) == 1
  assert along(rounded) == pytest.approx(1, abs=0.1)
  # Most weights do not change and a few take longer steps: moved_frac is low.
  assert min(shares['float32']) > 0.9
  assert 0 < max(shares['bfloat16']) < 0.1


##### flatten, capacities #####


def test_flatten_keeps_rows_of_a_group_adjacent():
  turn = np.full((2, 2, 3), -1)
  turn[..., 1:] = 0
  turn[1, 1, 2] = -1
  stop = np.array(
    [[enums.Stop.END, enums.Stop.LENGTH], [enums.Stop.LENGTH] * 2]
  )
  rollout = types.Rollout(
    tokens=np.arange(12).reshape(2, 2, 3),
    length=np.full((2, 2), 3),
    turn=turn,
    logp=-np.arange(12.0).reshape(2, 2, 3),
    stop=stop,
  )
  adv = np.arange(12).reshape(2, 2, 3) / 10
  got = types.flatten(rollout, adv)
  np.testing.assert_array_equal(got.tokens, np.arange(12).reshape(4, 3))
  np.testing.assert_array_equal(got.adv, adv.reshape(4, 3))
  np.testing.assert_array_equal(got.logp_old, -np.arange(12.0).reshape(4, 3))
  want = np.array([[0, 1, 1], [0, 1, 1], [0, 1, 1], [0, 1, 0]], bool)
  np.testing.assert_array_equal(got.mask, want)
  assert got.logp_ref is None
  # Rows that the length limit cut are masked: one row is left.
  got = batches.mask_truncated(got, rollout)
  np.testing.assert_array_equal(
    got.mask, want & [[True], [False], [False], [False]]
  )


def test_capacities_end_with_all_positions():
  assert S == 4
  sizes = micro_batch.capacities(shapes(per_micro=2), 1000)
  assert sizes == tuple(501 * k for k in (2, 3, 4, 5, 6, 8))
  # Small micro-batches have one capacity: several programs are not worth it.
  assert micro_batch.capacities(shapes(per_micro=1), 400) == (603, 804)
  assert micro_batch.capacities(shapes(per_micro=1), 20) == (44,)


def test_the_share_that_moved_is_counted_beyond_int32():
  big = {'w': jax.ShapeDtypeStruct((2**17, 2**15), jnp.float32)}
  assert jax.eval_shape(train_step._moved, big, big).shape == ()
  new, old = {'w': jnp.arange(8.0).reshape(2, 4)}, {'w': jnp.zeros((2, 4))}
  assert train_step._moved(new, old) == 7 / 8
