"""Posterior and weights against known answers; what a sampler does over time.

The bandits have no model: a task is right with a given probability.
"""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from rlvr_jax import checks, registry
from rlvr_jax.enums import Verdict
from rlvr_jax.rollouts import task_sampling, task_stream
from rlvr_jax.tasks import Lazy, Task

GROUP = 8


def sampling(spec):
  return registry.get('task_sampling', spec)()


def weights(spec, a, b):
  logs = sampling(spec).log_weight(np.array(a, float), np.array(b, float))
  return np.exp(logs)


def stream(n, spec, seed=0):
  tasks = Lazy(n, lambda i: Task(str(i), f'q{i}', 'a', 'math', {}))
  return task_stream.TaskStream(tasks, seed, sampling(spec))


def play(s, rates, steps, batch, *, place=None, first=1, between=None):
  """(tasks [steps, batch], last place) of a bandit with these pass rates."""
  place, chosen = place or task_stream.Place.of(), []
  for step in range(first, first + steps):
    positions = s.choose(place, step, batch)
    ids = np.array([int(t.id) for t in s.at(positions)])
    rng = np.random.default_rng(step)
    right = rng.random((batch, GROUP)) < rates[ids, None]
    verdict = np.where(right, Verdict.CORRECT, Verdict.WRONG)
    place = s.after(place, step, positions, verdict)
    place = between(place) if between else place
    chosen.append(ids)
  return np.array(chosen), place


##### posterior and weights #####


def test_the_posterior_of_a_task_by_hand():
  """8 of 8 and 2 of 8 rows, faded by 1 and 1/2: the mean rate is 1.25 / 2."""
  a, b = task_sampling.posterior(
    np.array([8.0, 2.0]), np.array([0.0, 6.0]), np.array([1.0, 0.5])
  )
  mean = (1 + 1 + 0.25) / 4
  np.testing.assert_allclose(a, 2 * mean + np.array([8, 1, 0]), rtol=1e-12)
  np.testing.assert_allclose(b, 2 * (1 - mean) + np.array([0, 3, 0]), 1e-12)
  nothing = np.zeros(0)
  a, b = task_sampling.posterior(nothing, nothing, nothing)
  assert (a.tolist(), b.tolist()) == ([1.0], [1.0])  # Beta(1, 1)


@pytest.mark.parametrize(('a', 'b'), [(1, 1), (0.3, 5), (40, 2.5), (9, 9)])
def test_weights_are_means_over_the_posterior(a, b):
  mean = lambda f: integrate.quad(
    lambda p: f(p) * stats.beta.pdf(p, a, b), 0, 1
  )
  pass_variance = mean(lambda p: p * (1 - p))[0]
  for power in (0.0, 0.5, 1.0, 4.0):
    got = weights(f'signal(power={power})', a, b)
    np.testing.assert_allclose(got, pass_variance**power, rtol=1e-6)
  near = mean(lambda p: p**1.5 * (1 - p) ** 4.5)[0]
  got = weights('pass_rate(target=0.25, concentration=6)', a, b)
  np.testing.assert_allclose(got, near, rtol=1e-6)


def test_weights_by_hand():
  # Of p uniform on [0, 1]: E[p(1 - p)] = 1/6.
  np.testing.assert_allclose(weights('signal(power=1)', 1, 1), 1 / 6, 1e-12)
  # c = 2 makes the two alike at t = 1/2.
  a, b = [1, 3, 0.2], [1, 9, 7]
  one = weights('pass_rate(target=0.5, concentration=2)', a, b)
  np.testing.assert_allclose(one, weights('signal(power=1)', a, b), rtol=1e-9)


def test_a_known_pass_rate_is_best_at_the_target():
  n, p = 1e7, np.linspace(0.01, 0.99, 99)
  for target in (0.2, 0.5, 0.9):
    got = weights(f'pass_rate(target={target})', p * n, (1 - p) * n)
    assert p[got.argmax()] == pytest.approx(target)


def test_the_second_moment_of_a_group_that_signal_is_derived_from():
  """Of Dr. GRPO with scores of variance 1 and no mean: pq(G - 1) / G^2."""
  estimate = registry.get('estimator', 'dr_grpo')
  for p in (0.02, 0.3, 0.5):
    total = 0.0
    for m in range(GROUP + 1):
      reward = jnp.array([1.0] * m + [0.0] * (GROUP - m))
      squares = float((estimate(reward, jnp.ones(GROUP, bool)) ** 2).sum())
      total += stats.binom.pmf(m, GROUP, p) * squares / GROUP**2
    want = p * (1 - p) * (GROUP - 1) / GROUP**2
    assert total == pytest.approx(want, rel=2e-6)


def test_the_gain_in_snr_that_signal_promises():
  """Tasks share a direction; the rest of each is orthogonal to the others'.

  Along the gradient of the mean pass rate, weights w gain the factor
  sum w p q / mean(p q), up to terms of 1/n.
  """
  n, omega, group = 4000, 0.2, 8
  p = np.random.default_rng(0).beta(0.5, 2, n)
  s = p * (1 - p)
  c = 1 - 1 / group

  def snr(w):  # differences of norm 1, F = 1
    along = c * (
      omega * s.mean() * (w * s).sum() + (1 - omega) * (w * s) @ s / n
    )
    norm = omega * s.mean() ** 2 + (1 - omega) * (s**2).sum() / n**2
    return along**2 / norm / ((w * s).sum() * (group - 1) / group**2)

  even = np.full(n, 1 / n)
  for power in (0.5, 1.0, 3.0):
    w = s**power / (s**power).sum()
    gain = (w * s).sum() / s.mean()
    assert snr(w) / snr(even) == pytest.approx(gain, rel=10 / n)
  w = s / s.sum()
  spread = 1 + s.var() / s.mean() ** 2
  assert (w * s).sum() / s.mean() == pytest.approx(spread, rel=1e-9)


def test_probabilities_sum_to_one_above_the_floor():
  number = np.array([1, 1, 0, 996])
  logs = np.array([0.0, -3000.0, 9.0, -8.0])  # no task of the third kind
  for floor in (0.0, 0.1, 1.0):
    got = task_sampling.probabilities(logs, number, floor)
    assert got @ number == pytest.approx(1, rel=1e-12)
    assert got[number > 0].min() >= floor / 998
  assert got == pytest.approx(1 / 998)
  for logs in ([np.nan, 0.0], [-np.inf, -np.inf], [np.inf, 0.0]):
    with pytest.raises(ValueError, match='at least one must be finite'):
      task_sampling.probabilities(np.array(logs), np.ones(2), 0.1)


@pytest.mark.parametrize(
  ('spec', 'says'),
  [
    ('signal(power=-1)', 'power=-1'),
    ('signal(floor=1.5)', 'floor=1.5'),
    ('signal(decay=0)', 'decay=0'),
    ('pass_rate(target=1)', 'target=1'),
    ('pass_rate(target=0.5, concentration=0)', 'concentration=0'),
    ('signle', "Did you mean 'signal'?"),
  ],
)
def test_options_are_refused_by_name(spec, says):
  with pytest.raises(ValueError, match=says.replace('?', r'\?')):
    sampling(spec)


def test_a_function_of_a_config_file_is_one_more(monkeypatch):
  """Here: tasks that few rows pass, whatever is known of them."""
  functions = registry._FUNCTIONS['task_sampling']
  make = lambda: task_sampling.weighted(
    lambda a, b: np.log(b) - np.log(a + b), decay=1.0, floor=0.0
  )
  monkeypatch.setitem(functions, 'rare', make)
  rates = np.array([0.9, 0.9, 0.0, 0.0])
  chosen, _ = play(stream(4, 'rare'), rates, 200, 1)
  assert (chosen[50:] >= 2).mean() > 0.8
  monkeypatch.setitem(functions, 'half', lambda: 0.5)
  with pytest.raises(ValueError, match=r'returns 0\.5, where a TaskSampling'):
    sampling('half')


@pytest.mark.parametrize('method', ['sft', 'distill', 'rejection'])
def test_other_methods_take_tasks_as_they_come(method):
  class C:
    task_sampling = 'signal'

  C.method = method
  with pytest.raises(ValueError, match=r"Set task_sampling='uniform'\."):
    checks.task_sampling(C)
  C.task_sampling = 'uniform'
  assert checks.task_sampling(C).log_weight is None


##### what it chooses #####


@pytest.mark.parametrize('spec', ['signal', 'signal(floor=0)', 'pass_rate'])
@pytest.mark.parametrize('n', [1, 3, 8, 11, 100])
def test_batches_have_no_repeats_unless_there_are_too_few(n, spec):
  chosen, place = play(stream(n, spec), np.full(n, 0.3), 30, 8)
  for ids in chosen:
    counts = np.bincount(ids, minlength=n)
    assert counts.max() - counts.min() <= 1 or counts.max() == 1
  assert place.position == 240
  assert len(place.seen) == len(np.unique(chosen)) <= n
  if n <= 11:  # of 100, some may be left
    assert len(place.seen) == n


def test_new_tasks_come_in_the_order_of_the_uniform_stream():
  s, even = stream(1000, 'signal'), stream(1000, 'uniform')
  chosen, _ = play(s, np.zeros(1000), 20, 8)
  _, first = np.unique(chosen, return_index=True)
  new = chosen.ravel()[np.sort(first)]
  want = [int(t.id) for t in even.at(range(len(new)))]
  # Within a batch the order is by arrival, of new tasks among themselves too.
  assert new.tolist() == want


def test_batches_of_one_step_differ_while_tasks_are_left():
  s, place, had = stream(20, 'signal(power=100)'), task_stream.Place.of(), []
  for _ in range(4):
    positions = s.choose(place, 1, 6)
    place = s.after(place, 1, positions, np.tile([0, 1], (6, 4)))
    had += positions.tolist()
  assert sorted(had[:18]) == sorted(set(had[:18]))
  assert len(set(had)) == 20


def test_the_same_history_gives_the_same_tasks_and_another_seed_others():
  rates = np.random.default_rng(1).beta(0.3, 1, 200)
  one, place = play(stream(200, 'signal'), rates, 40, 8)
  two, again = play(stream(200, 'signal'), rates, 40, 8)
  assert (one == two).all()
  assert place.to_json() == again.to_json()
  other, _ = play(stream(200, 'signal', seed=1), rates, 40, 8)
  assert (one != other).any()


def test_counts_fade_by_the_step():
  s = stream(4, 'signal(decay=0.5)')
  place = task_stream.Place.of()
  place = s.after(place, 1, np.array([0, 1]), np.array([[0, 0], [0, 1]]))
  place = s.after(place, 4, np.array([1, 2]), np.array([[1, 1], [2, 3]]))
  assert place.right.tolist() == [2, 0.125, 0]
  assert place.wrong.tolist() == [0, 2.125, 2]  # no answer, none to verify
  assert place.seen.tolist() == [1, 4, 4]
  twice = s.after(place, 4, np.array([0, 0]), np.array([[0, 0], [0, 1]]))
  assert twice.right.tolist() == [2 / 8 + 3, 0.125, 0]
  assert twice.wrong.tolist() == [1, 2.125, 2]


def test_choices_follow_the_probabilities():
  """First of a batch, over many seeds, within four standard errors."""
  n, draws = 6, 4000
  s = stream(n, 'signal(floor=0.2)')
  place = s.after(
    task_stream.Place.of(),
    1,
    np.arange(3),
    np.array([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]]),
  )
  want = s._probabilities(place, 2)
  want = np.append(want[:3], np.full(3, want[3]))
  got = np.zeros(n)
  second = np.zeros(n)
  for seed in range(draws):
    a, b = s._replace(seed=seed).choose(place, 2, 2)
    got[a] += 1 / draws
    second[b] += 1 / draws
  # A task not visited comes first as position 3: the three are alike.
  pool = lambda x: np.append(x[:3], x[3:].sum())
  error = 4 * np.sqrt(want * (1 - want) / draws)
  assert (abs(pool(got) - pool(want)) < pool(error)).all()
  # Second without replacement: sum over the first of p_a p_b / (1 - p_a).
  odds = want / (1 - want)
  after = want * (odds.sum() - odds)
  error = 4 * np.sqrt(after * (1 - after) / draws)
  assert (abs(pool(second) - pool(after)) < pool(error)).all()


def test_a_bandit_with_a_few_learnable_tasks():
  """One task in ten passes half the time, the others never.

  The sampler takes them five times as often as uniform sampling, and goes on
  to visit the others at the rate of the floor or above.
  """
  n, batch, steps = 100, 8, 300
  rates = np.where(np.arange(n) % 10 == 0, 0.5, 0.0)
  chosen, _ = play(stream(n, 'signal(floor=0.2)'), rates, steps, batch)
  late = chosen[100:]
  share = (rates[late] > 0).mean()
  assert share > 0.5  # uniform: 0.1
  visits = np.bincount(late.ravel(), minlength=n)
  expected = len(late) * (1 - (1 - 0.2 / n) ** batch)
  others = visits[rates == 0]
  assert others.mean() > expected - 4 * math.sqrt(expected / len(others))
  assert len(np.unique(chosen)) == n
  even, _ = play(stream(n, 'uniform'), rates, steps, batch)
  assert (rates[even] > 0).mean() == pytest.approx(0.1, abs=0.001)


def test_a_target_is_followed_when_tasks_are_learned():
  """Every visit raises a task's pass rate; choices keep near the target."""
  n, rates = 60, np.full(60, 0.2)
  s, place, seen = stream(n, 'pass_rate(decay=0.9)'), task_stream.Place.of(), []
  rng = np.random.default_rng(0)
  for step in range(1, 150):
    positions = s.choose(place, step, 6)
    right = rng.random((6, GROUP)) < rates[positions, None]
    place = s.after(place, step, positions, np.where(right, 0, 1))
    seen.append(rates[positions].mean() - rates.mean())
    rates[positions] = np.minimum(1.0, rates[positions] + 0.05)
  gap = abs(rates - 0.5)
  assert rates.mean() > 0.5
  last = s._probabilities(place, 150)[:n]
  assert np.corrcoef(gap, np.log(last))[0, 1] < -0.3
