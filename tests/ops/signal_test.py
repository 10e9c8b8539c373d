"""Closed forms of mean and noise against every possible group of rollouts.

A policy has a few answers with probabilities pi and scores (e_y - pi) W, which
have mean 0 for any W. All groups are weighed by their probability.
"""

import functools
import itertools

import jax
import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.ops import signal

SPECS = [
  'reinforce', 'baseline(0.3)', 'dr_grpo', 'rloo', 'grpo', 'grpo(ddof=0)',
  'grpo(scale_rewards=none)', 'grpo(scale_rewards=batch)', 'opo', 'psr', 'nsr',
  'weighted_reinforce', 'pass_at_k', 'max_rl', 'max_rl(uncentred)',
  'max_rl(kept)', 'gpg', 'gpg(verl)', 'reinforce_plus_plus',
  'reinforce_plus_plus_baseline', 'surprise_baseline',
]  # fmt: skip
WEIGHTS = np.random.default_rng(0).normal(size=(3, 2))


def policies():
  """(pi, right, scores) of three answers: uniform, skewed, loud classes."""
  for p in (0.05, 0.3, 0.9):
    q = 1 - p
    for right, pi, w in (
      ([1, 0, 0], [p, q / 2, q / 2], np.eye(3)),
      ([1, 1, 0], [p / 4, 3 * p / 4, q], np.eye(3)),
      ([1, 0, 0], [p, q / 10, 9 * q / 10], WEIGHTS),
    ):
      pi = np.array(pi)
      yield pi, np.array(right, bool), (np.eye(3) - pi) @ w


def facts_of(pi, right, scores):
  """Exact facts, and Delta."""
  p = pi[right].sum()
  mean = lambda x, of: pi[of] @ x[of] / pi[of].sum()
  delta = mean(scores, right) - mean(scores, ~right)
  squares = np.square(scores).sum(-1)
  facts = signal.Facts(
    p, delta @ delta, mean(squares, right), mean(squares, ~right)
  )
  return facts, delta


@functools.cache
def coefficients(spec, group=8):
  return signal.coefficients(spec, group)


@functools.cache
def advantages(spec, group):
  """Of all 2^G patterns of rewards, f64[2^G, G]: pattern i has the bits of i.

  Not by `coefficients`: the estimator sees every pattern.
  """
  bits = np.arange(2**group)[:, None] >> np.arange(group) & 1
  fn = registry.get('estimator', spec)
  ones = np.ones(group, bool)
  adv = jax.jit(jax.vmap(lambda score: fn(score, ones)))(
    bits.astype(np.float32)
  )
  return np.asarray(adv, np.float64)


def enumerate_groups(spec, weight, right, scores, group):
  """Mean [V] and variance of the gradient over all groups of given outcomes."""
  draws = np.array(list(itertools.product(range(len(weight)), repeat=group)))
  pattern = (right[draws] << np.arange(group)).sum(-1)
  adv = advantages(spec, group)[pattern]
  gradient = np.einsum('ng,ngv->nv', adv, scores[draws]) / group
  chance = np.prod(weight[draws], axis=1)
  mean = chance @ gradient
  return mean, chance @ np.square(gradient - mean).sum(-1)


def moments(facts, spec, group=8):
  return signal.moments(*facts, *coefficients(spec, group))


def snr(facts, spec, group=8):
  return float(moments(facts, spec, group).snr)


# --- the closed form ------------------------------------------------------


@pytest.mark.parametrize('group', [1, 2, 3, 8])
@pytest.mark.parametrize('spec', SPECS)
def test_mean_and_variance_of_every_estimator(spec, group):
  for pi, right, scores in policies():
    facts, delta = facts_of(pi, right, scores)
    mean, variance = enumerate_groups(spec, pi, right, scores, group)
    got = moments(facts, spec, group)
    np.testing.assert_allclose(got.c * delta, mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(got.mean_sq, mean @ mean, rtol=2e-6, atol=1e-8)
    np.testing.assert_allclose(got.variance, variance, rtol=2e-6, atol=1e-8)


def test_the_list_above_has_every_estimator():
  known = {registry.parse(spec)[0] for spec in SPECS}
  mine = lambda fn: fn.__module__.startswith('rlvr_jax.')
  load = registry._load('estimator')
  names = {name for name in registry.names('estimator') if mine(load[name])}
  assert names - known == {'remax', 'gae'}  # refused, see below


def test_coefficients_of_known_estimators():
  right, wrong = coefficients('dr_grpo', 4)
  np.testing.assert_allclose(right, [0, 0.75, 0.5, 0.25, 0])
  np.testing.assert_allclose(wrong, [0, -0.25, -0.5, -0.75, 0])
  right, wrong = coefficients('nsr', 3)
  np.testing.assert_array_equal(right, 0)
  np.testing.assert_array_equal(wrong, [-1, -1, -1, 0])
  right, wrong = coefficients('max_rl(kept, eps=0)', 4)
  np.testing.assert_allclose(right, [0, 3, 1, 1 / 3, 0], rtol=1e-6)
  np.testing.assert_allclose(wrong, [-1, -1, -1, -1, 0], rtol=1e-6)
  fn = registry.get('estimator', 'rloo')
  for got, want in zip(signal.coefficients(fn, 4), coefficients('rloo', 4)):
    np.testing.assert_array_equal(got, want)


def test_coefficients_are_refused_where_advantages_depend_on_more():
  def first(score, valid):
    best = np.arange(4) == jax.numpy.argmax(score)
    return jax.numpy.where(valid & best, 1.0, 0.0)

  def by_place(score, valid):
    """Equal within a class, but not where the class stands elsewhere."""
    del valid
    return score * 0 + score[0]

  for estimate, message in (
    ('remax', 'remax has no coefficients.*greedy score'),
    ('gae', 'gae has no coefficients.*critic'),
    (first, 'first has no coefficients.*equal reward differ'),
    (by_place, 'by_place has no coefficients.*equal reward differ'),
    (lambda score, valid: score / 0, 'not finite'),
  ):
    with pytest.raises(ValueError, match=message):
      signal.coefficients(estimate, 4)
  with pytest.raises(ValueError, match='group=0'):
    signal.coefficients('grpo', 0)


def test_moments_broadcast_over_problems():
  facts = signal.uniform(np.array([0.1, 0.4]), 2, 5)
  got = moments(facts, 'grpo')
  for x in range(2):
    one = signal.uniform([0.1, 0.4][x], 2, 5)
    for a, b in zip(moments(one, 'grpo'), got):
      np.testing.assert_allclose(a, b[x], rtol=1e-12)
  each = [np.stack(c) for c in zip(coefficients('nsr'), coefficients('psr'))]
  got = signal.moments(*facts, *each)
  for x, spec in enumerate(('nsr', 'psr')):
    one = moments(signal.uniform([0.1, 0.4][x], 2, 5), spec)
    np.testing.assert_allclose(one.variance, got.variance[x], rtol=1e-12)


def test_the_mean_of_a_constant_reward_is_zero_and_its_scale_infinite():
  zeros = np.zeros(9)
  got = signal.moments(0.3, 1.5, 1, 1, zeros, zeros)
  assert got == (0, 0, 0)
  assert got.snr == 0
  assert signal.batch_scale(got.snr, 1.0, 8) == np.inf


def test_a_class_that_no_one_is_in_may_be_unknown():
  """p = 0 with psr: nothing happens, whatever F+ would be."""
  got = moments((0.0, 1.0, np.nan, 2.0), 'psr')
  assert (got.c, got.variance) == (0, 0)
  assert np.isnan(moments((0.1, 1.0, np.nan, 2.0), 'psr').variance)
  assert np.isnan(moments((0.1, np.nan, 1.0, 2.0), 'psr').snr)
  assert np.isnan(moments((np.nan, 1.0, 1.0, 2.0), 'psr').snr)
  with pytest.raises(ValueError, match=r'p=1\.1'):
    moments((1.1, 1, 1, 1), 'psr')
  with pytest.raises(ValueError, match=r'right \(9,\) and wrong \(5,\)'):
    signal.moments(0.1, 1, 1, 1, np.zeros(9), np.zeros(5))


def test_large_groups_do_not_overflow():
  m = np.arange(5001.0)
  right = np.where(m > 0, 1 - m / 5000, 0.0)
  got = signal.moments(0.01, 1.0, 1.0, 1.0, right, -m / 5000 * (m < 5000))
  np.testing.assert_allclose(got.c, 0.01 * 0.99 * 4999 / 5000, rtol=1e-10)


# --- a noisy verdict ------------------------------------------------------


@pytest.mark.parametrize('spec', ['dr_grpo', 'grpo', 'psr', 'nsr', 'max_rl'])
@pytest.mark.parametrize('rates', [(0.1, 0.1), (0.3, 0.05), (0.0, 0.4)])
def test_a_noisy_verdict_by_enumeration(spec, rates):
  """Every group of answers and verdicts."""
  fpr, fnr = rates
  for pi, right, scores in policies():
    facts, delta = facts_of(pi, right, scores)
    said = np.where(right, 1 - fnr, fpr)  # 'right', given the answer
    weight = np.concatenate([pi * said, pi * (1 - said)])
    verdict = np.repeat([True, False], 3)
    twice = np.tile(scores, (2, 1))
    got = signal.through(*facts, false_positive=fpr, false_negative=fnr)
    want, direction = facts_of(weight, verdict, twice)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    factor = (1 - fpr - fnr) * facts.p * (1 - facts.p) / (got.p * (1 - got.p))
    np.testing.assert_allclose(direction, factor * delta, rtol=1e-9)
    mean, variance = enumerate_groups(spec, weight, verdict, twice, 3)
    out = moments(got, spec, 3)
    np.testing.assert_allclose(out.c * direction, mean, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(out.variance, variance, rtol=2e-6)


def test_an_exact_verdict_changes_nothing_and_a_random_one_leaves_nothing():
  facts = signal.uniform([0.2, 0.7], 5, 20)
  same = signal.through(*facts, false_positive=0, false_negative=0)
  for a, b in zip(same, facts):
    np.testing.assert_array_equal(a, b)
  coin = signal.through(*facts, false_positive=0.5, false_negative=0.5)
  np.testing.assert_array_equal(coin.d2, 0)
  # The other way round: the classes change names.
  turned = signal.through(*facts, false_positive=1, false_negative=1)
  want = (1 - facts.p, facts.d2, facts.f_wrong, facts.f_right)
  for a, b in zip(turned, want):
    np.testing.assert_allclose(a, b, rtol=1e-12)
  # Flips of a problem that is never solved: no gradient in the mean, known.
  never = (0.0, np.nan, np.nan, 2.0)
  got = signal.through(*never, false_positive=0.1, false_negative=0.1)
  assert got == (0.1, 0, 2, 2)
  with pytest.raises(ValueError, match=r'false_positive=-0\.1'):
    signal.through(*facts, false_positive=-0.1, false_negative=0)


def test_bits_are_the_mutual_information_of_truth_and_verdict():
  for p, fpr, fnr in itertools.product((0.05, 0.5, 0.9), (0, 0.1), (0, 0.3)):
    joint = np.array(
      [[p * (1 - fnr), p * fnr], [(1 - p) * fpr, (1 - p) * (1 - fpr)]]
    )
    alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    filled = joint > 0
    want = (joint[filled] * np.log2(joint[filled] / alone[filled])).sum()
    got = signal.information(p, fpr, fnr)
    np.testing.assert_allclose(got, want, rtol=1e-12)
  assert signal.information(0.5, 0, 0) == 1
  assert signal.information(0.3, 0.5, 0.5) == 0
  assert signal.information([0.0, 1.0], 0.1, 0.1).tolist() == [0, 0]
  with pytest.raises(ValueError, match='fpr=2'):
    signal.information(0.5, 2, 0)


# --- baselines ------------------------------------------------------------


def test_the_best_baseline_has_the_least_noise_of_all_constants():
  for pi, right, scores in policies():
    facts, _ = facts_of(pi, right, scores)
    p, _, f_right, f_wrong = facts
    best = signal.best_baseline(p, f_right, f_wrong)
    noise = signal.baseline_noise(p, f_right, f_wrong)
    total = p * f_right + (1 - p) * f_wrong
    want = p * (1 - p) * f_right * f_wrong / total
    np.testing.assert_allclose(noise, want, rtol=1e-12)
    squares = np.square(scores).sum(-1)
    for value in (best, best + 0.01, best - 0.01, 0, 1, 0.3):
      second = pi @ (np.square(right - value) * squares)
      got = signal.baseline_noise(p, f_right, f_wrong, value)
      np.testing.assert_allclose(got, second, rtol=1e-12)
      assert second >= noise * (1 - 1e-12)
    # The variance of a group is this less ||g||^2, over G.
    g_sq = (p * (1 - p)) ** 2 * facts.d2
    variance = moments(facts, 'baseline(0.3)').variance
    second = signal.baseline_noise(p, f_right, f_wrong, 0.3)
    np.testing.assert_allclose(variance, (second - g_sq) / 8, rtol=1e-6)
    psr_is_better = snr(facts, 'psr') > snr(facts, 'nsr')
    assert psr_is_better == (p * f_right < (1 - p) * f_wrong) == (best < 0.5)


def test_shares_of_nothing_are_nan():
  assert np.isnan(signal.best_baseline(0.3, 0, 0))
  assert np.isnan(signal.rho(0.3, 0, 0, 0))
  assert signal.best_baseline(0.3, 0, 1) == 0


def test_rho_is_the_share_of_variance_that_the_outcome_explains():
  for pi, right, scores in policies():
    facts, delta = facts_of(pi, right, scores)
    p = facts.p
    means = np.where(right[:, None], (1 - p) * delta, -p * delta)
    explained = pi @ np.square(means).sum(-1) / (pi @ np.square(scores).sum(-1))
    np.testing.assert_allclose(signal.rho(*facts), explained, rtol=1e-12)


def test_rloo_has_its_closed_snr():
  """G (G-1) pq D^2 / [(G-2)(q F+ + p F- - pq D^2) + F+ + F-]."""
  for pi, right, scores in policies():
    facts, _ = facts_of(pi, right, scores)
    p, d2, f_right, f_wrong = facts
    pq = p * (1 - p)
    crossed = (1 - p) * f_right + p * f_wrong
    for group in (2, 4, 8):
      noise = (group - 2) * (crossed - pq * d2) + f_right + f_wrong
      want = pq * d2 * group * (group - 1) / noise
      np.testing.assert_allclose(snr(facts, 'rloo', group), want, rtol=1e-6)


# --- known answers --------------------------------------------------------


def shown(got, *want):
  """Each number as printed, to half a unit of its last digit."""
  for a, text in zip(np.ravel(got), want, strict=True):
    digits = len(text.partition('.')[2])
    np.testing.assert_allclose(a, float(text), rtol=0, atol=0.51 * 10**-digits)


def test_known_means():
  c = lambda spec, p: moments((p, 1, 1, 1), spec).c
  shown(c('grpo(ddof=0)', 0.5), '.46391')
  shown(c('grpo', 0.5), '.43395')
  # Over p, as p goes to 0: (G-1)/G, sqrt(G-1), G-1.
  shown(c('dr_grpo', 0.001) / 0.001, '.8741')
  shown(c('grpo(ddof=0)', 0.001) / 0.001, '2.6394')
  shown(c('max_rl(eps=0)', 0.001) / 0.001, '6.9721')


def test_known_snr():
  facts = signal.uniform(0.2, 5, 20)
  shown(
    [snr(facts, s) for s in ('psr', 'nsr', 'rloo')], '.2759', '.0672', '.3011'
  )
  p = np.array([0.1, 0.25, 0.4, 0.5])
  of = lambda m, n, p, spec: moments(signal.uniform(p, m, n), spec).snr
  shown(of(1, 1, p, 'rloo'), '1.0815', '4.9412', '17.684', '28.0')
  shown(of(8, 64, p, 'rloo'), '.09051', '.19500', '.25272', '.26223')
  shown(of(8, 64, p[[0, 3]], 'grpo'), '.09001', '.2614')
  shown(of(8, 64, p[[0, 3]], 'max_rl'), '.08186', '.2168')
  # One right answer of ten: right rollouts are the quiet ones at every p.
  p = np.linspace(0.001, 0.999, 999)
  assert (of(1, 9, p, 'psr') > of(1, 9, p, 'nsr')).all()


def test_known_losses_to_flips():
  """SNR with flips over SNR without: not phi^2, even where F+ is near F-."""

  def ratio(facts, rate):
    noisy = signal.through(*facts, false_positive=rate, false_negative=rate)
    phi2 = (1 - 2 * rate) ** 2 * facts.p * (1 - facts.p)
    phi2 = phi2 / (noisy.p * (1 - noisy.p))
    return [snr(noisy, 'rloo') / snr(facts, 'rloo'), phi2]

  facts = signal.uniform(0.2, 5, 20)
  shown(ratio(facts, 0.1), '.5243', '.5322')
  shown(ratio(facts, 0.3), '.1056', '.1087')
  shown(ratio(signal.uniform(0.5, 1, 1), 0.1), '.3077', '.64')


def truncated(group):
  """MaxRL of a large group, without eps."""
  share = np.arange(group + 1.0) / group
  with np.errstate(divide='ignore'):
    right = np.where(share > 0, (1 - share) / share, 0.0)
  wrong = np.where((share > 0) & (share < 1), -1.0, 0.0)
  return right, wrong


def test_known_plateaus():
  """From .01 to one half; the closed times are those of infinite groups."""
  time = lambda spec: signal.plateau(0.01, *coefficients(spec))
  shown(time('rloo'), '108.18')
  shown(time('dr_grpo'), '123.63')  # 8/7 times that: its c is 7/8
  shown(time('grpo(ddof=0)'), '43.56')
  shown(time('grpo'), '46.57')
  shown(time('max_rl'), '18.446')
  p, q = 0.01, 0.99
  close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
  close(time('rloo'), 1 / p - 1 / q - 2 * np.log(p / q))
  close(signal.plateau(p, *truncated(4000)), np.log(q / p) + 2 - 1 / q)
  shown(signal.plateau(p, *truncated(4000)), '5.585')
  share = np.arange(4001) / 4000
  with np.errstate(divide='ignore', invalid='ignore'):
    right = np.nan_to_num(np.sqrt((1 - share) / share), posinf=0.0)
    wrong = np.nan_to_num(-np.sqrt(share / (1 - share)), neginf=0.0)
  limit = 2 * (q - p) / np.sqrt(p * q)
  shown(limit, '19.70')
  # c = E sqrt(r (1 - r)) is below its limit by a share of 1/(8 G p).
  close(signal.plateau(p, right, wrong), limit, rtol=3e-3)


def test_the_plateau_solves_the_flow():
  """By small steps of dp/dt = c pq (Heun)."""
  right, wrong = coefficients('max_rl(kept)')
  speed = lambda p: (
    p * (1 - p) * float(signal.moments(p, 1, 1, 1, right, wrong).c)
  )
  p, step, time = 0.05, 1e-3, 0.0
  while p < 0.3:
    slope = speed(p)
    p, time = p + step * (slope + speed(p + step * slope)) / 2, time + step
  time -= (p - 0.3) / speed(0.3)
  got = signal.plateau(0.05, right, wrong, target=0.3)
  np.testing.assert_allclose(got, time, rtol=1e-5)


def test_a_plateau_without_a_way_up_is_infinite():
  right, wrong = coefficients('rloo')
  assert signal.plateau(0.1, -right, -wrong) == np.inf
  assert signal.plateau(0.1, 0 * right, 0 * wrong) == np.inf
  assert signal.plateau(0.5, right, wrong) == 0
  for p0, target in ((0, 0.5), (0.6, 0.5), (0.1, 1.0), (np.nan, 0.5)):
    with pytest.raises(ValueError, match='p0='):
      signal.plateau(p0, right, wrong, target=target)


def test_known_chains():
  chains = [signal.chain([0.6] * h, 10) for h in (1, 2, 4, 6, 8, 12)]
  want = '3.027', '1.856', '.683', '.248', '.0894', '.0116'
  shown([snr(facts, 'rloo') for facts in chains], *want)
  facts = chains[2]
  total = facts.p * facts.f_right + (1 - facts.p) * facts.f_wrong
  shown(total / facts.d2, '2.65')
  for got, same in zip(signal.chain(0.6, 10), signal.uniform(0.6, 1, 9)):
    np.testing.assert_allclose(got, same, rtol=1e-12)


def test_the_facts_of_a_chain_by_enumeration():
  a, actions = [0.7, 0.2, 0.5], [3, 2, 4]
  steps = [
    np.array([x, *[(1 - x) / (v - 1)] * (v - 1)]) for x, v in zip(a, actions)
  ]
  pi, right, scores = [], [], []
  for y in itertools.product(*(range(v) for v in actions)):
    pi.append(np.prod([s[i] for s, i in zip(steps, y)]))
    right.append(not any(y))
    scores.append(
      np.concatenate([np.eye(len(s))[i] - s for s, i in zip(steps, y)])
    )
  want, _ = facts_of(np.array(pi), np.array(right), np.array(scores))
  np.testing.assert_allclose(signal.chain(a, actions), want, rtol=1e-12)
  for bad in ([0.5, 1.0], [0.0], [np.nan]):
    with pytest.raises(ValueError, match='a='):
      signal.chain(bad, 3)


def test_known_directions_of_dense_rewards():
  """Step rewards against the gradient of log p, a = (.9, .6, .3)."""
  a = np.array([0.9, 0.6, 0.3])
  d2 = signal.uniform(a, 1, 9).d2
  for spec, want in (
    ('dr_grpo', '.936'),
    ('grpo', '.933'),
    ('max_rl(kept)', '.9997'),
  ):
    c = moments((a, 1, 1, 1), spec).c
    shown(signal.alignment(c, 1 - a, d2), want)
  np.testing.assert_allclose(signal.alignment([0.2] * 3, [0.4] * 3, 1), 1)


def test_known_directions_over_problems():
  """Against the gradients of mean pass rate and of mean log p."""
  p = np.array([0.02, 0.1, 0.3, 0.5, 0.8])
  for spec, rate, log in (
    ('dr_grpo', '1.0000', '.6748'),
    ('grpo', '.9977', '.7004'),
    ('max_rl', '.9252', '.8330'),
    ('max_rl(kept)', '.9139', '.8456'),
    ('pass_at_k', '.449', '.867'),
  ):
    c = moments((p, 1, 1, 1), spec).c
    shown(signal.alignment(c, p * (1 - p), 1), rate)
    shown(signal.alignment(c, 1 - p, 1), log)


def test_the_choice_of_estimator_is_a_step_size_at_small_p():
  """At most one of a group is right. PSR spares the others' noise, F-."""
  for f_right, more in ((1.0, 8 / 7), (100.0, 1.0)):
    facts = (1e-5, 0.1, f_right, 1.0)
    want = snr(facts, 'dr_grpo')
    for spec in ('rloo', 'grpo', 'max_rl'):
      np.testing.assert_allclose(snr(facts, spec), want, rtol=1e-3)
    for spec in ('psr', 'pass_at_k'):
      np.testing.assert_allclose(snr(facts, spec), more * want, rtol=2e-3)


# --- thresholds -----------------------------------------------------------


def test_heard_is_where_the_batch_has_snr_one():
  law = lambda p: signal.uniform(p, 8, 64)
  for spec, omega in (('rloo', 1.0), ('grpo', 0.2)):
    right, wrong = coefficients(spec)
    p = signal.heard(256, law, right, wrong, omega=omega)
    at, below = (
      signal.batch_scale(snr(law(x), spec), omega, 8) for x in (p, 0.99 * p)
    )
    np.testing.assert_allclose(at, 256, rtol=1e-9)
    assert below > 256
  # Between seen and heard lies the factor F / D^2, 7 here, for large batches.
  p = signal.heard(10**6, law, *coefficients('rloo'))
  np.testing.assert_allclose(p / signal.seen(10**6), 7 * 8 / 7, rtol=0.05)


def test_what_is_never_heard_is_nan():
  law = lambda p: signal.Facts(p, 1e-6, 1.0, 1.0)
  right, wrong = coefficients('rloo')
  assert np.isnan(signal.heard(256, law, right, wrong))
  law = lambda p: signal.Facts(p, np.nan, 1.0, 1.0)
  assert np.isnan(signal.heard(256, law, right, wrong))
  law = lambda p: signal.uniform(p, 1, 1)
  assert np.isnan(signal.heard(256, law, right, wrong, omega=0.0))


def test_seen_is_its_own_inverse():
  np.testing.assert_allclose(signal.seen([0.25, 4]), [4, 0.25])
  assert signal.seen(0) == np.inf
