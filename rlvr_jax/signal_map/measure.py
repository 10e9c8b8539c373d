"""Signal and noise of gradient estimates, from inner products of rows.

Letters: X problems, R vectors, m groups of G rollouts of a problem.
A problem's *mean* is the expected gradient estimate of one of its groups. All
means over pairs leave out a pair of a thing with itself, so they estimate
squared norms without bias (U-statistics).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax.ops import signal as signal_ops


class Estimate(NamedTuple):
  """What a signal's group gradients came to, for X problems.

  Attributes:
    halves: f64[2,X,R], weights of the rows' vectors in a problem's mean over
      the groups of each half of its rollouts.
    second: f64[X], mean |group gradient|^2.
    within: f64[X], mean inner product of different groups of the problem; NaN
      with one group.
    largest: share of all |group gradient|^2 in the largest 1% of the groups.
    group: G, rollouts of a group.
    tokens: mean number of sampled tokens of a rollout.
  """

  halves: np.ndarray
  second: np.ndarray
  within: np.ndarray
  largest: float
  group: int
  tokens: float

  @property
  def mean(self) -> np.ndarray:
    """f64[X,R], of both halves."""
    return self.halves.mean(0)


def of_groups(
  gram: np.ndarray,
  ids: np.ndarray,
  partitions: Sequence[tuple[np.ndarray, np.ndarray]],
  tokens: float,
) -> Estimate:
  """The `Estimate` of advantages on groups of rollouts.

    g = 1/G sum_i sum_k A_ik s_ik

  Args:
    gram: [R,R] inner products of vectors.
    ids: i[X,n,K], the row in `gram` of each rollout's vector of turn k.
    partitions: pairs (members i[X,2,m,G], indices of rollouts, those of a half
      in groups; advantages f[X,2,m,G,K]), all with the same m and G.
    tokens: see `Estimate`.
  """
  x, _, m, group = partitions[0][0].shape
  halves = np.zeros((2, x, len(gram)))
  second, within, norms = np.zeros(x), np.zeros(x), []
  for problem in range(x):
    used, local = np.unique(ids[problem], return_inverse=True)
    local = local.reshape(ids[problem].shape)  # [n,K]
    block = gram[np.ix_(used, used)].astype(np.float64)
    for members, advantages in partitions:
      for half in range(2):
        weights = np.zeros((m, len(used)))
        rows = np.repeat(np.arange(m), group * ids.shape[-1])
        np.add.at(
          weights,
          (rows, local[members[problem, half]].ravel()),
          advantages[problem, half].astype(np.float64).ravel() / group,
        )
        between = weights @ block @ weights.T  # of the groups, [m,m]
        own = np.diag(between)
        norms.append(own)
        share = 1 / (2 * len(partitions))
        second[problem] += own.mean() * share
        pairs = (between.sum() - own.sum()) / (m * (m - 1)) if m > 1 else np.nan
        within[problem] += pairs * share
        np.add.at(
          halves[half, problem], used, weights.mean(0) / len(partitions)
        )
  return Estimate(
    halves, second, within, _largest(np.concatenate(norms)), group, tokens
  )


def of_rows(gram: np.ndarray, ids: np.ndarray, tokens: float) -> Estimate:
  """The `Estimate` of one row a problem with weight 1: imitation.

  Args:
    gram: [R,R]; ids: i[X,K].
  """
  weights = np.zeros((len(ids), len(gram)))
  np.add.at(weights, (np.arange(len(ids))[:, None], ids), 1.0)
  second = np.einsum('xr,xr->x', weights @ gram, weights)
  return Estimate(
    np.stack([weights] * 2),
    second,
    np.full(len(ids), np.nan),
    _largest(second),
    1,
    tokens,
  )


def reference(ids: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
  """f64[2,X,R]: weights of grad p of each problem, without bias, by halves.

    grad p = 1/n sum_i (r_i - mean of the others) s_i

  Args:
    ids: i[X,n,K]; right: bool[X,n]; size: R.
  """
  out = np.zeros((2, *ids.shape[:1], size))
  n = ids.shape[1] // 2
  for half in range(2):
    part = slice(half * n, (half + 1) * n)
    r = right[:, part].astype(np.float64)
    others = (r.sum(1, keepdims=True) - r) / max(n - 1, 1)
    weights = np.repeat(((r - others) / n)[..., None], ids.shape[-1], -1)
    for problem, row in enumerate(ids[:, part]):
      np.add.at(out[half, problem], row.ravel(), weights[problem].ravel())
  return out


class Products(NamedTuple):
  """Inner products that `summary` needs; Y problems of the signal.

  Attributes:
    signal: f64[Y,Y] of the signal's means.
    reference: f64[X,X] of grad p.
    cross: f64[X,Y].
    same: f64[X] or None, cross products on one problem, of different halves;
      None where the signal has other problems than the reference.
    own: f64[X], |grad p|^2 by halves.
  """

  signal: np.ndarray
  reference: np.ndarray
  cross: np.ndarray
  same: np.ndarray | None
  own: np.ndarray


def products(
  gram: np.ndarray, estimate: Estimate, ref: np.ndarray, own_tasks: bool
) -> Products:
  """The `Products` of an estimate with the reference f64[2,X,R]."""
  mean, ref_mean = estimate.mean, ref.mean(0)
  by_gram = ref_mean @ gram
  half = ref[0] @ gram
  same = None
  if own_tasks:
    other = ref[1] @ gram
    a, b = estimate.halves
    same = (half * b).sum(-1) / 2 + (other * a).sum(-1) / 2
  return Products(
    signal=mean @ gram @ mean.T,
    reference=by_gram @ ref_mean.T,
    cross=by_gram @ mean.T,
    same=same,
    own=(half * ref[1]).sum(-1),
  )


def summary(
  estimate: Estimate, of: Products, rollouts: int, keep: np.ndarray | None
) -> dict[str, float]:
  """Signal, noise and direction, with jackknife standard errors over problems.

  All of a population of problems: different problems alone make pairs, so that
  neither omega nor cos are raised by a problem's agreement with itself.

  Args:
    estimate, of: of one signal.
    rollouts: N, of the batch that `root` is of.
    keep: bool[X], the problems to use; None for all. Without own tasks it
      chooses those of the reference.

  Returns:
    total      |E g|^2 = mean <mu_x, mu_x'> over different problems
    within     mean |mu_x|^2
    second     mean |g|^2 of a group
    snr1       within / (second - within), of groups of one problem
    omega      total / within, the coherence of the problems
    noise_scale, log_noise_scale, log_noise_scale_se
               G (second - total) / total, rollouts at which the SNR of a batch
               is 1; inf where total <= 0
    cos, cos_se, root, root_se, cos_within
               the cosine with grad p, cos sqrt(N / (N + noise_scale)), and the
               cosine within problems, which weighs them as their gradients do.
               cos is NaN where either norm is within two standard errors of 0,
               root where that of grad p is: its direction is not known
    largest, tokens, problems
  """
  own_tasks = of.same is not None
  x = np.arange(len(of.reference)) if keep is None else np.flatnonzero(keep)
  y = x if own_tasks else np.arange(len(of.signal))
  whole = _Sums.of(estimate, of, x, y, own_tasks)
  values = _ratios(whole, estimate.group, rollouts)
  less = lambda i, j: _ratios(
    whole.less(estimate, of, x, y, i, j), estimate.group, rollouts
  )
  if own_tasks:
    left_out = [[less(i, i) for i in range(len(x))]]
  else:
    left_out = [
      [less(i, None) for i in range(len(x))],
      [less(None, j) for j in range(len(y))],
    ]
  names = ('total', 'ref_total', 'log_noise_scale', 'root', 'cos', 'omega')
  errors = {
    k: _jackknife([[v[k] for v in part] for part in left_out]) for k in names
  }
  sure = {k: values[k] > 2 * errors[k] for k in ('total', 'ref_total')}
  if not all(sure.values()):
    values['cos'] = errors['cos'] = np.nan
  if not sure['ref_total'] and values['second'] > 0:
    values['root'] = errors['root'] = np.nan
  values |= {
    'total_se': errors['total'],
    'log_noise_scale_se': errors['log_noise_scale'],
    'cos_se': errors['cos'],
    'root_se': errors['root'],
    'omega_se': errors['omega'],
    'largest': estimate.largest,
    'tokens': estimate.tokens,
    'problems': len(x),
  }
  return values


class _Sums(NamedTuple):
  """Sums over problems, from which one problem is easily taken away."""

  total: float
  ref: float
  cross: float
  same: float
  own: float
  second: float
  within: float
  x: int
  y: int
  own_tasks: bool

  @classmethod
  def of(cls, e, p, x, y, own_tasks):
    off = lambda a: a.sum() - np.trace(a)
    signal, ref = p.signal[np.ix_(y, y)], p.reference[np.ix_(x, x)]
    cross = p.cross[np.ix_(x, y)]
    return cls(
      off(signal),
      off(ref),
      off(cross) if own_tasks else cross.sum(),
      p.same[x].sum() if own_tasks else np.nan,
      p.own[x].sum(),
      e.second[y].sum(),
      e.within[y].sum(),
      len(x),
      len(y),
      own_tasks,
    )

  def less(self, e, p, x, y, i, j):
    """Without problem x[i] of the reference and y[j] of the signal."""
    out = self
    if i is not None:
      a = x[i]
      out = out._replace(
        ref=out.ref - 2 * (p.reference[a, x].sum() - p.reference[a, a]),
        cross=out.cross - p.cross[a, y].sum(),
        own=out.own - p.own[a],
        x=out.x - 1,
      )
    if j is not None:
      b = y[j]
      out = out._replace(
        total=out.total - 2 * (p.signal[b, y].sum() - p.signal[b, b]),
        cross=out.cross - p.cross[x, b].sum(),
        second=out.second - e.second[b],
        within=out.within - e.within[b],
        y=out.y - 1,
      )
    if self.own_tasks:  # their common pair was never among the sums, see `of`
      a = x[i]
      out = out._replace(
        cross=out.cross + 2 * p.cross[a, a], same=out.same - p.same[a]
      )
    return out


def _ratios(s: _Sums, group: int, rollouts: int) -> dict[str, float]:
  pairs = lambda n: max(n * (n - 1), 1)
  total, ref = s.total / pairs(s.y), s.ref / pairs(s.x)
  dot = s.cross / (pairs(s.x) if s.own_tasks else max(s.x * s.y, 1))
  if min(s.x, s.y) < 2:
    total = ref = dot = np.nan
  second, within = s.second / max(s.y, 1), s.within / max(s.y, 1)
  own, same = s.own / max(s.x, 1), s.same / max(s.x, 1)
  scale = float(signal_ops.noise_scale(total, second, group))
  ratio = lambda a, b: a / b if b > 0 else np.nan
  return {
    'total': total,
    'ref_total': ref,
    'within': within,
    'second': second,
    'snr1': ratio(within, second - within) if second > 0 else 0.0,
    'omega': ratio(total, within),
    'noise_scale': scale,
    'log_noise_scale': np.log(scale) if 0 < scale < np.inf else np.nan,
    'cos': ratio(dot, np.sqrt(max(ref, 0) * max(total, 0))),
    'root': float(
      signal_ops.root(dot, ref, total, second, group, rollouts)
      if second
      else 0.0  # no gradient, whatever the direction of the true one
    ),
    'cos_within': ratio(same, np.sqrt(max(own, 0) * max(within, 0))),
  }


def _jackknife(parts: Sequence[Sequence[float]]) -> float:
  """Standard error from the values without one problem; sets are independent.

  NaN for fewer than three problems, or if a value is not finite.
  """
  values = [np.asarray(part) for part in parts]
  if any(len(v) < 3 or not np.isfinite(v).all() for v in values):
    return float('nan')
  return float(np.sqrt(sum((len(v) - 1) * v.var() for v in values)))


def _largest(norms: np.ndarray) -> float:
  count = max(len(norms) // 100, 1)
  total = norms.sum()
  return float(np.sort(norms)[-count:].sum() / total) if total > 0 else np.nan
