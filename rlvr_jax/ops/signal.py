"""How informative is outcome reward: mean and noise of a group's gradient.

The unit is one group: G rollouts of one problem, with score vectors
s_i = grad log pi(y_i), rewards r_i in {0, 1}, and the gradient estimate
(1/G) sum_i A_i s_i. For every estimator whose advantage depends on r_i and on
the number m of right members alone (`coefficients`), mean and variance follow
from five numbers: G and the `Facts` of the problem.

  p             pass rate, E r; q = 1 - p
  d2            D^2 = ||Delta||^2, Delta = E[s | right] - E[s | wrong]
  f_right/wrong F+, F- = E[||s||^2 | right], E[||s||^2 | wrong]

Since E s = 0, E[s | right] = q Delta, E[s | wrong] = -p Delta, and the gradient
of the pass rate is g = pq Delta. d2, F and all squared norms are in units of
||s||^2, so that ratios of them have none. Derived here unless a source is
named; rewards must be 0 or 1, rollouts independent and on-policy, and the loss
a sum over tokens divided by a constant: 1/|y| inside the sum, clipping or stale
samples make s_i another vector.

NumPy in float64, on the host; arguments broadcast over problems [X]. What is
not known is NaN. What `signal_facts` and `signal_samples` (estimates from
sampled gradients) define can be taken from here too.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import registry
from rlvr_jax.ops import estimators
from rlvr_jax.ops.signal_facts import (
  Facts,
  Number,
  Values,
  baseline_noise,
  best_baseline,
  chain,
  information,
  product,
  rate,
  real,
  rho,
  through,
  uniform,
)
from rlvr_jax.ops.signal_samples import (
  alignment,
  batch_scale,
  batch_snr,
  coherence,
  cosine,
  facts,
  live,
  noise_scale,
  pair_mean,
  root,
  second,
  seen,
)

__all__ = [
  'Facts', 'Moments', 'alignment', 'baseline_noise', 'batch_scale',
  'batch_snr', 'best_baseline', 'chain', 'coefficients', 'coherence', 'cosine',
  'facts', 'heard', 'information', 'live', 'moments', 'noise_scale',
  'pair_mean', 'plateau', 'rho', 'root', 'second', 'seen', 'through',
  'uniform',
]  # fmt: skip

RAREST = 1e-9  # lowest pass rate at which `heard` looks


class Moments(NamedTuple):
  """Of one group's gradient estimate g^; shapes [X] or []."""

  c: Number  # E g^ = c Delta
  mean_sq: Number  # ||E g^||^2 = c^2 D^2
  variance: Number  # E ||g^ - E g^||^2

  @property
  def snr(self) -> Number:
    """mean_sq / variance of one group; 0 without a mean, inf without noise."""
    with np.errstate(divide='ignore', invalid='ignore'):
      ratio = np.divide(self.mean_sq, self.variance)
    return np.where(self.mean_sq == 0, 0.0, ratio)[()]


def coefficients(
  estimate: Callable | str, group: int | np.integer
) -> tuple[np.ndarray, np.ndarray]:
  """Advantages of right and wrong members, by the number of right ones.

  Calls the estimator on 0/1 scores of one group for each m = 0..G. One that
  uses the whole batch is called on a batch of this group, one that takes
  lengths or surprises with equal ones.

  Args:
    estimate: an estimator, or its spec.
    group: G, the members of a group.

  Returns:
    right f64[G+1], wrong f64[G+1]: a_m and b_m. right[0] and wrong[G], which
    no member has, are 0.

  Raises:
    ValueError: group < 1, an advantage is not finite, or is not a function of
      (r_i, m): the estimator takes a greedy score or values of a critic, or
      treats members of equal reward differently.
  """
  name = getattr(estimate, '__name__', estimate)
  if isinstance(estimate, str):
    estimate = registry.get('estimator', estimate)
  if group < 1:
    raise ValueError(f'group={group}: a group has at least one member.')
  rule = (
    'has no coefficients: its advantages depend on more than a reward of 0 or '
    '1 and the number of right members'
  )
  parameters = inspect.signature(estimate).parameters
  if {'greedy', 'mask'} & parameters.keys():
    more = 'a greedy score' if 'greedy' in parameters else 'a critic'
    raise ValueError(f'{name} {rule}, on {more}. Take another estimator.')
  extra = dict.fromkeys(estimators.takes(estimate), jnp.ones(group))
  member = np.arange(group)
  count = np.arange(group + 1)[:, None]
  # The right members first, and last: the place must not matter.
  score = np.stack([member < count, member >= group - count])

  def advantages(score):
    return estimate(score, jnp.ones(group, bool), **extra)

  every = jax.jit(jax.vmap(jax.vmap(advantages)))
  adv = every(jnp.asarray(score, jnp.float32))
  adv = np.asarray(adv, np.float64)
  if not np.isfinite(adv).all():
    raise ValueError(
      f'{name} {rule}, or are not finite on scores of 0 and 1: {adv[0]}.'
    )
  close = 1e-5 * np.abs(adv).max()
  of = []
  for chosen in (score, ~score):
    size = chosen.sum(-1)
    value = (adv * chosen).sum(-1) / np.maximum(size, 1)
    if (np.abs(adv - value[..., None]) * chosen > close).any() or (
      np.abs(value[0] - value[1]) > close
    ).any():
      raise ValueError(
        f'{name} {rule}: members of equal reward differ in {adv[0]}. Take '
        'another estimator.'
      )
    of.append(value[0])
  return of[0], of[1]


def moments(
  p: Values,
  d2: Values,
  f_right: Values,
  f_wrong: Values,
  right: Values,
  wrong: Values,
) -> Moments:
  """Mean and variance of (1/G) sum_i A_i s_i, exactly.

    x_m   = (a_m m q - b_m (G-m) p) / G,   m ~ Binomial(G, p)
    E g^  = c Delta,   c = E x_m
    Var   = D^2 Var(x_m) + E[a_m^2 m V+ + b_m^2 (G-m) V-] / G^2

  with the variances within the classes V+ = F+ - q^2 D^2, V- = F- - p^2 D^2.
  Groups without spread are inside the formula. The mean points along Delta for
  every estimator, centred or not; estimators differ in its length and in noise.

  Args:
    p, d2, f_right, f_wrong: [X] or [], see `Facts`.
    right, wrong: [G+1] or [X, G+1], of `coefficients`.

  Raises:
    ValueError: p outside [0, 1], right and wrong of different groups.
  """
  p = rate('p', p)
  d2, f_right, f_wrong = real(d2), real(f_right), real(f_wrong)
  right, wrong = real(right), real(wrong)
  group = right.shape[-1] - 1
  if group < 1 or wrong.shape[-1] != group + 1:
    raise ValueError(
      f'right {right.shape} and wrong {wrong.shape} must both end in G+1, for '
      '0 to G right members: take those of `coefficients`.'
    )
  q = 1.0 - p
  m = np.arange(group + 1.0)
  weight = _binomial(p, group)
  x = _effect(p, right, wrong)
  c = (weight * x).sum(-1)
  var_x = (weight * np.square(x - c[..., None])).sum(-1)
  of_right = (weight * np.square(right) * m).sum(-1) / group**2
  of_wrong = (weight * np.square(wrong) * (group - m)).sum(-1) / group**2
  within = product(of_right, f_right - q**2 * d2)
  within = within + product(of_wrong, f_wrong - p**2 * d2)
  return Moments(c[()], (c**2 * d2)[()], (d2 * var_x + within)[()])


def heard(
  rollouts: Values,
  law: Callable[[np.ndarray], Facts],
  right: Values,
  wrong: Values,
  *,
  omega: Values = 1.0,
) -> float:
  """p*: the least pass rate whose batch gradient has SNR 1 or more.

  The smallest root of `batch_scale`(SNR_1(p), omega, G) = rollouts, by
  bisection in log-odds to a relative precision of 1e-12.

  Args:
    rollouts: of a batch.
    law: facts at pass rates p f64[n]; `uniform`, or constants as in
      `lambda p: Facts(p, d2, f_right, f_wrong)`.
    right, wrong: [G+1], of `coefficients`.
    omega: coherence, the same at all p.

  Returns:
    p*; NaN if the batch is too small at every pass rate, or large enough at
    `RAREST` already.
  """
  group = real(right).shape[-1] - 1

  def excess(z):
    p = 1.0 / (1.0 + np.exp(-z))
    snr = moments(*law(p), right, wrong).snr
    return batch_scale(snr, omega, group) - rollouts

  edge = np.log(RAREST)
  grid = np.linspace(edge, -edge, 4001)
  loud = np.flatnonzero(excess(grid) <= 0)
  if not len(loud) or not loud[0]:
    return float('nan')
  low, high = grid[loud[0] - 1], grid[loud[0]]
  for _ in range(60):
    middle = (low + high) / 2
    low, high = (low, middle) if excess(middle) <= 0 else (middle, high)
  return float(1.0 / (1.0 + np.exp(-high)))


def plateau(
  p0: Values, right: Values, wrong: Values, *, target: Values = 0.5
) -> float:
  """Time from pass rate p0 to `target` along the mean gradient.

  The flow dp/dt = <grad p, E g^> = c(p) pq D^2 of gradient ascent, so that

    T = integral from p0 to target of dp / (c(p) pq)

  in units of 1/(learning rate x D^2): multiply by neither for steps of size 1
  where D^2 = 1. G is finite, that of the coefficients: below p = 1/G every
  estimator's c is proportional to p, and T to 1/p0. As G grows, RLOO takes
  1/p0, GRPO 2/sqrt(p0) and MaxRL log(1/p0), in leading order.

  Assumes one problem and D^2 constant along the way, as in `uniform`. The
  integral is over the log-odds, in 200 panels of Gauss-Legendre.

  Returns:
    inf where c <= 0 on the way: the mean gradient does not lead there.

  Raises:
    ValueError: not 0 < p0 <= target < 1.
  """
  p0, target = float(real(p0)), float(real(target))
  if not 0 < p0 <= target < 1:
    raise ValueError(
      f'p0={p0}, target={target}: pass rates with 0 < p0 <= target < 1.'
    )
  node, weight = np.polynomial.legendre.leggauss(12)
  edge = np.linspace(np.log(p0 / (1 - p0)), np.log(target / (1 - target)), 201)
  half = np.diff(edge)[:, None] / 2
  z = (edge[:-1, None] + half + half * node).ravel()
  p = 1.0 / (1.0 + np.exp(-z))
  x = _effect(p, real(right), real(wrong))
  c = (_binomial(p, x.shape[-1] - 1) * x).sum(-1)
  if not (c > 0).all():
    return float('inf')
  return float(((half * weight).ravel() / c).sum())


def _binomial(p: np.ndarray, group: int | np.integer) -> np.ndarray:
  """f64[..., G+1]: probability that m of G rollouts are right."""
  m = np.arange(group + 1.0)
  steps = np.log(np.maximum(group - m[:-1], 1)) - np.log(m[1:])
  log_ways = np.concatenate([[0.0], np.cumsum(steps)])
  p = p[..., None]
  with np.errstate(divide='ignore', invalid='ignore'):  # 0 log 0 is 0
    of_right = np.where(m == 0, 0.0, m * np.log(p))
    of_wrong = np.where(m == group, 0.0, (group - m) * np.log1p(-p))
  return np.exp(log_ways + of_right + of_wrong)


def _effect(p: np.ndarray, right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
  """x_m f64[..., G+1]: E[g^ | m right] = x_m Delta."""
  group = right.shape[-1] - 1
  m, p = np.arange(group + 1.0), p[..., None]
  return (right * m * (1 - p) - wrong * (group - m) * p) / group
