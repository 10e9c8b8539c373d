"""A tabular softmax as the model of a map: closed forms, and controls."""

import types as python_types

import numpy as np
import pytest

from configs import common
from rlvr_jax import registry, types
from rlvr_jax.enums import Stop, Verdict
from rlvr_jax.ops import signal as signal_ops
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import groups
from rlvr_jax.signal_map import (
  advantages,
  cell,
  lines,
  measure,
  prediction,
  samples,
  signals,
)
from rlvr_jax.tasks import Task

RIGHT = np.array([True, True, False, False, False])
CHANCE = np.array([0.2, 0.1, 0.4, 0.25, 0.05])
SCORES = np.eye(5) - CHANCE  # grad log pi of each action, of the logits
GRAM = SCORES @ SCORES.T
SIX = ('dr_grpo', 'grpo', 'rloo', 'psr', 'nsr', 'pass_at_k')


class Table(cell.Cell):
  """Problems that share one table of logits; a rollout is one action i[X,n]."""

  def __init__(self, action, *, names=None, **settings):
    x, n = action.shape
    settings = {'partitions': 2, 'rollouts': 256} | settings
    self.settings = cell.Settings(prompts=x, samples=n, **settings)
    self.settings.check()
    self.config = common.base()
    names = names or [f'task-{i}' for i in range(x)]
    self.tasks = [Task(name, '?', '1', 'math', {}) for name in names]
    verdict = np.where(RIGHT[action], Verdict.CORRECT, Verdict.WRONG)
    transcripts = [
      [base.Transcript(str(a), 1, Stop.END, Verdict(v)) for a, v in zip(*rows)]
      for rows in zip(action, verdict, strict=True)
    ]
    last = np.broadcast_to([False, True], (x, n, 2))
    rollout = types.Rollout(
      tokens=np.where(last, action[..., None], 0).astype(np.int32),
      length=np.full((x, n), 2, np.int32),
      turn=np.where(last, 0, -1).astype(np.int32),
      logp=np.where(last, np.log(CHANCE)[action][..., None], 0.0),
      stop=np.full((x, n), Stop.END, np.int32),
    )
    score = types.Score(
      reward=RIGHT[action][..., None].astype(np.float32),
      turns=np.ones((x, n, 1), bool),
      belief=None,
      verdict=verdict,
    )
    collected = groups.Collected(self.tasks, rollout, score, transcripts, [])
    experiment = python_types.SimpleNamespace(config=self.config)
    sampler = samples.Sampler(experiment, None, None)
    source = cell.Source(sampler, collected, action[..., None])
    self.sources = {('', False): source}
    self.pilot, self.gram, self.weighted = RIGHT[action].mean(-1), GRAM, {}

  def signal(self, text):
    return signals.parse(text, self.config)

  def line(self, text):
    """The line of all problems."""
    return lines.lines(self, self.signal(text))[0]


def sampled(problems=40, rollouts=128, seed=2):
  rng = np.random.default_rng(seed)
  return rng.choice(len(CHANCE), (problems, rollouts), p=CHANCE)


@pytest.fixture(scope='module')
def table():
  return Table(sampled())


def exact():
  """The policy's facts and Delta, by enumeration."""
  of = [(CHANCE * k / CHANCE[k].sum()) for k in (RIGHT, ~RIGHT)]
  delta = of[0] @ SCORES - of[1] @ SCORES
  squares = [weight @ np.square(SCORES).sum(1) for weight in of]
  return signal_ops.Facts(CHANCE[RIGHT].sum(), delta @ delta, *squares), delta


def close(expected, value, error, limit=3):
  assert abs(value - expected) < limit * error, (expected, value, error)


def over_problems(values):
  """Mean and standard error over problems: samples of one policy."""
  return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


def ratio(a, b):
  """mean(a) / mean(b) and its jackknife error."""
  left, n = (a.sum() - a) / (b.sum() - b), len(a)
  error = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
  return a.mean() / b.mean(), error


def test_facts_are_those_of_the_policy(table):
  found, (known, _) = table.facts, exact()
  for name in ('p', 'd2', 'f_right', 'f_wrong'):
    close(getattr(known, name), *over_problems(getattr(found, name)))


@pytest.mark.parametrize('estimate', SIX)
def test_mean_noise_and_snr_are_the_closed_form(table, estimate):
  known, delta = exact()
  right, wrong = signal_ops.coefficients(estimate, table.settings.group)
  moments = signal_ops.moments(*known, right, wrong)
  found, _ = lines.estimate(table, table.signal(f'outcome|{estimate}'))
  close(moments.c, *over_problems(found.mean @ SCORES @ delta / known.d2))
  close(moments.mean_sq, *over_problems(found.within))
  close(moments.variance, *over_problems(found.second - found.within))
  snr = moments.mean_sq / moments.variance
  close(snr, *ratio(found.within, found.second - found.within))
  line = table.line(f'outcome|{estimate}')
  # Problems are the same one: what a batch needs is a problem's noise alone.
  scale = table.settings.group / snr
  error = line['log_noise_scale_se']
  close(np.log(scale), np.log(line['noise_scale']), error)
  close(np.sqrt(256 / (256 + scale)), line['root'], line['root_se'])
  # The closed form is not linear in p, of which it sees an estimate.
  assert line['theory_snr1'] == pytest.approx(snr, rel=0.2)


def test_a_reward_without_information_has_no_gradient(table):
  line = table.line('constant(value=1.0)')
  assert (line['second'], line['total'], line['root']) == (0.0, 0.0, 0.0)
  assert line['noise_scale'] == np.inf
  estimate, facts = lines.estimate(table, table.signal('constant(value=1.0)'))
  assert not estimate.halves.any()
  assert facts['reward_std'] == 0.0


@pytest.mark.parametrize('reward', ['random', 'permuted(reward=outcome)'])
def test_a_reward_of_noise_has_no_direction(table, reward):
  line = table.line(reward)
  assert line['second'] > 0
  close(0, line['root'], line['root_se'], limit=2)


def test_the_inverse_points_the_other_way(table):
  names = 'outcome', 'inverse(reward=outcome)'
  a, b = (lines.estimate(table, table.signal(s))[0].mean.mean(0) for s in names)
  cos = a @ GRAM @ b / np.sqrt((a @ GRAM @ a) * (b @ GRAM @ b))
  assert cos == pytest.approx(-1, abs=1e-6)
  one, other = map(table.line, names)
  for name in ('noise_scale', 'omega', 'snr1', 'second'):
    assert other[name] == pytest.approx(one[name], rel=1e-6)
  for name in ('root', 'cos', 'cos_within'):
    assert other[name] == pytest.approx(-one[name], abs=1e-6)
  assert one['cos'] > 0.95


def summary(table, signal, swap=False, rollouts=256):
  estimate, _ = lines.estimate(table, signal)
  ref = table.reference
  if swap:
    estimate = estimate._replace(halves=estimate.halves[::-1])
    ref = ref[::-1]
  of = measure.products(table.gram, estimate, ref, own_tasks=True)
  return measure.summary(estimate, of, rollouts, None)


@pytest.mark.parametrize('estimate', ['dr_grpo', 'grpo(eps=1e-9)', 'psr'])
def test_the_scale_of_a_reward_does_not_matter(table, estimate):
  signal = table.signal(f'outcome|{estimate}')
  one = summary(table, signal)
  seven = summary(table, signal._replace(weights=(7.0,)))
  for name in ('noise_scale', 'omega', 'snr1', 'root', 'cos', 'cos_within'):
    assert seven[name] == pytest.approx(one[name], rel=1e-5), name


def test_which_half_is_the_first_does_not_matter(table):
  signal = table.signal('outcome|grpo')
  one, other = summary(table, signal), summary(table, signal, swap=True)
  assert one == pytest.approx(other, rel=1e-9)


def test_the_order_of_problems_does_not_matter(table):
  order = np.random.default_rng(3).permutation(40)
  other = Table(sampled()[order], names=[f'task-{i}' for i in order])
  for name in ('outcome|grpo', 'outcome|pass_at_k'):
    one, two = table.line(name), other.line(name)
    drop = ('signal', 'bin')
    one, two = (
      {k: v for k, v in x.items() if k not in drop} for x in (one, two)
    )
    assert two == pytest.approx(one, rel=1e-6, nan_ok=True)


@pytest.mark.parametrize('estimate', ['dr_grpo', 'grpo', 'psr', 'pass_at_k'])
def test_without_a_success_nothing_is_heard(estimate):
  line = Table(np.full((6, 64), 3)).line(f'outcome|{estimate}')
  assert (line['p'], line['second'], line['total']) == (0.0, 0.0, 0.0)
  assert line['noise_scale'] == np.inf
  for name in ('cos', 'theory_snr1', 'd2', 'f_right'):
    assert np.isnan(line[name]), name


def test_groups_of_one_compare_nothing():
  table = Table(sampled(20, 64), group=1)
  line = table.line('outcome|dr_grpo')
  assert line['second'] == 0.0
  assert line['noise_scale'] == np.inf
  known, _ = exact()
  moments = signal_ops.moments(*known, *signal_ops.coefficients('psr', 1))
  found, _ = lines.estimate(table, table.signal('outcome|psr'))
  close(moments.mean_sq, *over_problems(found.within))
  close(moments.variance, *over_problems(found.second - found.within))


@pytest.mark.parametrize('estimate', ['dr_grpo', 'grpo', 'rloo', 'psr'])
def test_noise_of_rounding_is_no_signal(table, estimate):
  @registry.register('reward')
  def nearly_constant(tasks, transcripts):
    noise = 1e-9 * np.random.default_rng(0).normal(size=len(tasks))
    return [base.RewardResult(float(x), {'nearly_constant': x}) for x in noise]

  line = table.line(f'nearly_constant|{estimate}')
  assert line['second'] > 0
  close(0, line['root'], line['root_se'])


@pytest.mark.parametrize('estimate', ['dr_grpo', 'psr', 'nsr'])
def test_predicted_gain_is_what_short_steps_gain(table, estimate):
  """Steps of fixed length along gradients of 64 rollouts, on the table."""
  prompts, group, length = 8, table.settings.group, 0.01
  signal = table.signal(f'outcome|{estimate}')
  slope = prediction.slopes(table, signal, prompts * group)['all']
  line = summary(table, signal, rollouts=prompts * group)
  assert slope == pytest.approx(np.sqrt(line['ref_total']) * line['root'])
  right, wrong = signal_ops.coefficients(estimate, group)
  action = sampled(prompts * 2000, group, seed=5)
  count = RIGHT[action].sum(1, keepdims=True)
  adv = np.where(RIGHT[action], right[count], wrong[count])
  g = (adv[..., None] * SCORES[action]).mean(1)
  g = g.reshape(2000, prompts, -1).mean(1)
  g = g[np.linalg.norm(g, axis=1) > 0]
  step = length * g / np.linalg.norm(g, axis=1, keepdims=True)
  chance = CHANCE * np.exp(step)
  chance /= chance.sum(1, keepdims=True)
  gain = chance[:, RIGHT].sum(1) - CHANCE[RIGHT].sum()
  # The mean of a ratio is a little above the ratio of means.
  assert gain.mean() / length == pytest.approx(slope, rel=0.06)


def test_a_signal_without_gradient_predicts_nothing(table):
  signal = table.signal('constant(value=1.0)')
  assert set(prediction.slopes(table, signal, 64).values()) == {0.0}


def test_slopes_of_bins_are_those_of_their_problems(table):
  table = Table(sampled(24, 64))
  table.pilot = np.repeat([0.1, 0.5, 0.9], 8)
  slopes = prediction.slopes(table, table.signal('outcome'), 64)
  assert list(slopes) == ['all', 'low', 'middle', 'high']
  parts = np.mean([slopes[k] for k in ('low', 'middle', 'high')])
  assert parts == pytest.approx(slopes['all'], rel=0.02)


def test_without_a_gradient_no_length_follows():
  table = Table(np.full((6, 64), 3))
  with pytest.raises(ValueError, match='--predict_length'):
    prediction.reference_norm(table)


def test_groups_do_not_overlap_and_stay_in_their_half():
  index = advantages.members(['a', 'b'], 40, 8, seed=0, partition=1)
  assert index.shape == (2, 2, 2, 8)
  for problem in index:
    assert len(np.unique(problem)) == problem.size
    assert (problem[0] < 20).all()
    assert (problem[1] >= 20).all()
