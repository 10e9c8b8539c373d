"""How much of a run's gradient was signal, over a window of its steps?

A step's gradient is the sum of the gradients u_p of its P groups. With
problems sampled at random its mean g has

  ||g||^2 = P/(P-1) E sum_{p != q} <u_p, u_q>,

and the part of E ||sum u||^2 above ||g||^2 is noise. Two groups are compared
where they were in different micro-batches; see `train_step.update`. As live
groups are sorted first, only live pairs are ever compared, so that a sum over
all pairs is L (L-1) times the mean over those that were: without bias for any
number of groups in a micro-batch. Comparing batches of two sizes (McCandlish et
al. 2018, arXiv 1812.06162, appendix A.1) takes micro-batches for samples of the
same distribution, which sorted ones are not. Derived here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from rlvr_jax.reporting import run_reader

# Steps with pairs that a band needs: its width comes from their spread.
ENOUGH = 8


class Steps(NamedTuple):
  """Sums of N steps: f64[N]. Those of several seeds are pooled.

  Attributes:
    step: number of the step.
    norm_sq, cross, pairs, live: the metrics signal/*; cross is NaN where pairs
      is 0.
    informative, all_fail, all_pass: shares of groups; NaN without rewards.
    agreement: signal/agreement.
    groups, rollouts: P and P x G, the same in all steps.
  """

  step: np.ndarray
  norm_sq: np.ndarray
  cross: np.ndarray
  pairs: np.ndarray
  live: np.ndarray
  informative: np.ndarray
  all_fail: np.ndarray
  all_pass: np.ndarray
  agreement: np.ndarray
  groups: int
  rollouts: int

  def between(self, first: float, last: float) -> 'Steps':
    """The steps of [first, last]."""
    inside = (self.step >= first) & (self.step <= last)
    arrays = {
      k: v[inside] for k, v in self._asdict().items() if np.ndim(v) == 1
    }
    return self._replace(**arrays)


class Estimate(NamedTuple):
  """The share of signal in a window, with its 95% band.

  The share is U = S / (S + N), with the sums S of ||g||^2 and N of the noise
  over the steps. S / N = U / (1 - U) is the SNR of a batch, and U is 1/2 where
  the noise scale is the batch. Estimates of S may be negative.

  Attributes:
    share: U; NaN where no pair of groups was compared.
    low, high: of the band; NaN where a side is not known.
    known: steps with pairs.
    steps: all steps that were not skipped.
    live: mean live groups of a step.
  """

  share: float
  low: float
  high: float
  known: int
  steps: int
  live: float

  @property
  def snr(self) -> float:
    """||g||^2 over the variance of a batch's gradient; may be negative."""
    return self.share / (1 - self.share) if self.share != 1 else float('inf')


def noise_scale(share: float | np.ndarray, rollouts: int) -> np.ndarray:
  """Rollouts of a batch with SNR 1: B (1 - U) / U, inf for U <= 0, at least 0.

  The noise of a batch falls as 1 / B (McCandlish et al. 2018, equation 2.9).
  """
  share = np.asarray(share, float)
  positive = np.where(share > 0, share, np.nan)
  scale = np.maximum(rollouts * (1 - positive) / positive, 0.0)
  return np.where(share <= 0, np.inf, scale)


def read(runs: Sequence[run_reader.Run]) -> Steps | None:
  """The steps of all runs of one config, in order; None without the metrics.

  Skipped updates are left out. The squared norm is that of the first update of
  a step; files without it have grad_norm.
  """
  rows, sizes = [], set()
  for run in runs:
    groups, group = (
      run_reader.number(run.config.get(k))
      for k in ('train_batch_size', 'num_generations')
    )
    if not groups >= 1 or not group >= 1:
      continue
    sizes.add((int(groups), int(groups * group)))
    for line in run.metrics:
      get = lambda name, line=line: run_reader.number(line.get(name))
      norm_sq = get('signal/norm_sq')
      if 'signal/norm_sq' not in line:
        norm_sq = get('grad_norm') ** 2
      live, pairs, cross = map(
        get, ('signal/live', 'signal/pairs', 'signal/cross')
      )
      if np.isnan([norm_sq, live, pairs]).any():
        continue
      if pairs > 0 and np.isnan(cross):
        continue
      informative = get('signal/informative_groups')
      if np.isnan(informative):
        informative = 1 - get('frac_reward_zero_std')
      fail, right = get('frac_groups_all_fail'), get('frac_groups_all_pass')
      rows.append(
        (line['step'], norm_sq, cross, pairs, live, informative, fail, right)
        + (get('signal/agreement'),)
      )
  if not rows or len(sizes) != 1:
    return None
  columns = dict(zip(Steps._fields, np.array(sorted(rows), float).T))
  p, rollouts = sizes.pop()
  return Steps(**columns, groups=p, rollouts=rollouts)


def estimate(steps: Steps) -> Estimate:
  """The share of signal over all of `steps`.

  Each step gives grad_sq = P/(P-1) L (L-1) cross / pairs; sums are divided,
  never steps. A step with two live groups or more, all in one micro-batch, has
  no pair. Leaving it out would keep the steps with many live groups and
  overstate the signal; its L (L-1) pairs count with the mean product of the
  window's other pairs, on which L has no influence where problems are sampled
  independently.

  The band is t times the jackknife's standard error over steps. It also uses
  the number of live groups: where a group is live with probability w, a batch
  has at most SNR P w / (1 - w), reached if all live gradients are equal. So a
  run whose groups are almost all dead is not heard, even if no pair was seen.
  """
  p, n = steps.groups, len(steps.step)
  nan = float('nan')
  if n == 0:
    return Estimate(nan, nan, nan, 0, 0, nan)
  live, known = float(steps.live.mean()), steps.pairs > 0
  at_most = _bound(steps)
  if p == 1:
    return Estimate(nan, nan, nan, 0, n, live)
  total = p / (p - 1) * steps.live * (steps.live - 1)
  pairs = np.where(known, steps.pairs, 1.0)
  terms = np.stack(
    [
      np.where(known, total * steps.cross / pairs, 0.0),
      np.where(known, 0.0, total),
      np.where(known, steps.cross, 0.0),
      np.where(known, steps.pairs, 0.0),
      steps.norm_sq,
    ]
  )
  share = float(_share(terms.sum(-1)))
  low, high = nan, nan
  if known.sum() >= ENOUGH:
    without = _share(terms.sum(-1, keepdims=True) - terms)
    variance = (n - 1) / n * np.sum((without - without.mean()) ** 2)
    half = scipy.special.stdtrit(known.sum() - 1, 0.975) * np.sqrt(variance)
    low, high = share - half, share + half
  if n >= ENOUGH:
    high = float(np.fmin(high, at_most))
  return Estimate(share, float(low), float(high), int(known.sum()), n, live)


def _share(sums: np.ndarray) -> np.ndarray:
  """U from the sums of `estimate`, [5] or [5,N]."""
  seen, unseen, cross, pairs, norm_sq = sums
  some = pairs > 0
  mean = np.where(some, cross / np.where(some, pairs, 1.0), np.nan)
  signal = seen + np.where(unseen > 0, unseen * mean, 0.0)
  positive = norm_sq > 0
  share = signal / np.where(positive, norm_sq, 1.0)
  return np.where(positive & some, share, np.nan)


def _bound(steps: Steps) -> float:
  """The largest U that the number of live groups allows.

  From an upper 97.5% bound of their mean, Poisson: n + 2 sqrt(n) + 3.
  """
  count, n, p = steps.live.sum(), len(steps.step), steps.groups
  live = min((count + 2 * np.sqrt(count) + 3) / n, p)
  return live / (live + 1 - live / p)
