"""Which tasks are worth a step? Weights by the verdicts of their rollouts.

'uniform' needs none. The others have a posterior of the pass rate p of each
task, p ~ Beta(a, b):

    a = PRIOR m + right,  b = PRIOR (1 - m) + wrong,
    m = (1 + sum_x rate_x) / (2 + V)

`right` and `wrong` count rows by verdict, CORRECT or any other. Both fade by
`decay` a step, since the policy moves: decay = 1/2^(1/h) has half-life h. m is
the mean pass rate of the V tasks visited so far, each of which counts once, so
a task that was never visited, or not for long, is taken for an average one
(empirical Bayes). The probability of one of n tasks with weight w is

    (1 - floor) w / sum w + floor / n

and a batch is sampled without replacement: task by task, in proportion to the
probabilities of those that are left. Each task is thus in a batch of B with
probability 1 - (1 - floor / n)^B or more.

Nothing corrects for the choice: the expected gradient is that of the sampled
mixture of tasks, not of their uniform mean, and `reward` and `accuracy` of
metrics.jsonl are means over the tasks sampled. Compare runs by evaluations.
Verdicts need gold answers, also where rewards (`majority`) do without.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from rlvr_jax import registry

PRIOR = 2.0  # rows that the prior counts for, as many as Beta(1, 1)


class TaskSampling(NamedTuple):
  """How the tasks of a step are chosen; `weighted` makes one.

  Attributes:
    log_weight: (a, b), of the posteriors, f64[N] each -> f64[N], up to a
      constant; None for uniform sampling, an epoch after the other.
    decay: of counts, a step.
    floor: share of the probability that is spread over all tasks.
  """

  log_weight: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
  decay: float = 1.0
  floor: float = 1.0


def weighted(
  log_weight: Callable[[np.ndarray, np.ndarray], np.ndarray],
  *,
  decay: float,
  floor: float,
) -> TaskSampling:
  """Sampling by weight. ValueError for a decay or floor that is none."""
  _check('decay', decay, 0 < decay <= 1, 'above 0, at most 1')
  _check('floor', floor, 0 <= floor <= 1, 'in 0..1')
  return TaskSampling(log_weight, decay, floor)


@registry.register('task_sampling')
def uniform() -> TaskSampling:
  """Every task once an epoch, in an order that depends on the seed."""
  return TaskSampling()


@registry.register('task_sampling')
def pass_rate(
  *,
  target: float = 0.5,
  concentration: float = 8.0,
  decay: float = 0.98,
  floor: float = 0.1,
) -> TaskSampling:
  """Prefers tasks whose pass rate is near `target`.

  The weight is the chance, over the posterior, that `concentration` more rows
  come out as the target says, up to a constant:

      w = E[p^(ct) (1 - p)^(c(1 - t))] = B(a + ct, b + c(1 - t)) / B(a, b)

  with the Beta function B; largest at p = t where p is known. Derived here.

  Args:
    target: t, of the pass rate; above 0, below 1.
    concentration: c, how narrow the preference is; above 0, at most 10,000.
    decay: of counts, a step.
    floor: share of the probability that is spread over all tasks.
  """
  _check('target', target, 0 < target < 1, 'above 0, below 1')
  _check('concentration', concentration, 0 < concentration <= 1e4, 'in 0..1e4')
  right, wrong = concentration * target, concentration * (1 - target)

  def log_weight(a, b):
    return scipy.special.betaln(a + right, b + wrong) - scipy.special.betaln(
      a, b
    )

  return weighted(log_weight, decay=decay, floor=floor)


@registry.register('task_sampling')
def signal(
  *, power: float = 4.0, decay: float = 0.98, floor: float = 0.1
) -> TaskSampling:
  """Prefers tasks where outcome reward says much: by their pass variance.

      w = E[p(1 - p)]^power,  E[p(1 - p)] = ab / ((a + b)(a + b + 1))

  Derived here. With a mean baseline, a group of G rows of task x has the
  expected gradient (1 - 1/G) p q D_x (q = 1 - p, D_x: mean score of right rows
  less that of wrong ones) and, where noise dominates and rows have scores of
  one size F = E|s|^2, the second moment p q F (G - 1) / G^2. Let differences
  of tasks agree by omega = |E D_x|^2 / E|D_x|^2. Then B groups of tasks drawn
  with probabilities w reach, along the gradient of the uniform mean pass rate,

      SNR = B (G - 1) omega E|D_x|^2 / F * sum_x w_x p_x q_x

  Against uniform sampling, rollouts for the same SNR fall by the factor
  sum_x w_x p_x q_x / mean(p q): for power 1 that is 1 + the squared coefficient
  of variation of p q. The SNR is linear in p q, so of a posterior only E[p q]
  matters, and linear in w, so for a single step a large power is best. What
  speaks for less: loud tasks are learned and fall silent, E[p q] of a few rows
  is uncertain, and breadth counts once tasks no longer agree (omega near 0).
  With importance weights, which are not applied here, power 1/2 has the least
  variance (w ~ root of the second moment: Zhao and Zhang 2015, arXiv
  1401.2753); power 0 is uniform.

  Args:
    power: from 0 to 100. With 4, twice the E[p q] is 16 times the weight: in a
      split of many tasks, a small power mostly goes on to new ones, whose
      common weight is small but which are many.
    decay: of counts, a step.
    floor: share of the probability that is spread over all tasks.
  """
  _check('power', power, 0 <= power <= 100, 'in 0..100')

  def log_weight(a, b):
    n = a + b
    return power * (np.log(a) + np.log(b) - np.log(n) - np.log(n + 1))

  return weighted(log_weight, decay=decay, floor=floor)


def posterior(
  right: np.ndarray, wrong: np.ndarray, fade: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(a, b), f64[V + 1] each, of V visited tasks and one that is not visited.

  Args:
    right, wrong: f64[V], rows when a task was last visited; together above 0.
    fade: f64[V], what is left of them.
  """
  mean = (1 + (right / (right + wrong)).sum()) / (2 + len(right))
  a = PRIOR * mean + np.append(right * fade, 0.0)
  b = PRIOR * (1 - mean) + np.append(wrong * fade, 0.0)
  return a, b


def probabilities(
  log_weight: np.ndarray, number: np.ndarray, floor: float
) -> np.ndarray:
  """f64[K], the probability of one task of each kind.

  Args:
    log_weight: f64[K], of one task of a kind.
    number: [K], tasks of that kind.
    floor: share of the probability that is spread over all tasks.

  Raises:
    ValueError: the weights of the tasks have no finite, positive sum.
  """
  logs = np.where(number > 0, log_weight, -np.inf)
  top = logs.max()
  if not np.isfinite(top):
    raise ValueError(
      f'task_sampling: the largest log weight of a task is {top}; at least one '
      'must be finite, none NaN or infinite.'
    )
  weight = np.exp(logs - top)
  return (1 - floor) * weight / (weight * number).sum() + floor / number.sum()


def _check(name, value, holds, rule):
  if not holds:
    raise ValueError(f'{name}={value} must be a number {rule}.')


@registry.trial('task_sampling')
def _trial(make: Callable) -> None:
  if not isinstance(made := make(), TaskSampling):
    raise ValueError(
      f'it returns {registry.show(made)}, where a TaskSampling is needed: '
      'see rlvr_jax.rollouts.task_sampling.weighted.'
    )
