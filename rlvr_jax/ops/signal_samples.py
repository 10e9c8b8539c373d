"""Signal and noise from sampled gradients, without the bias of plug-ins.

Vectors are gradients or sketches of them (any linear image), one a row.
||E v||^2 is estimated by products of *different* rows, whose noise is
independent; the square of a mean would contain its own noise. Squared norms
are in the units of the vectors, ratios have none. NumPy in float64; what is
not known is NaN, never 0. Derived here; U-statistics: Hoeffding 1948.
"""

import numpy as np

from rlvr_jax.ops.signal_facts import Facts, Number, Values, real


def facts(gram: Values, right: Values) -> Facts:
  """Facts of one problem from the Gram matrix of n rollouts.

    d2 = mean(K of i != j, both right) + mean(K of i != j, both wrong)
         - 2 mean(K of i right, j wrong)

  and F of the diagonal. Given the number of right rollouts each is a
  U-statistic: unbiased, so that d2 can be negative.

  Args:
    gram: f[n,n], K_ij = <s_i, s_j>.
    right: bool[n].

  Returns:
    f64[] each. NaN with fewer than two of a kind: d2, and the F of that kind;
    p is NaN without rollouts.
  """
  gram, right = real(gram), np.asarray(right, bool)
  n = len(right)
  if gram.shape != (n, n):
    raise ValueError(
      f'gram has shape {gram.shape} for {n} rollouts: it must be [n, n].'
    )
  of = {}
  for kind, chosen in ('right', right), ('wrong', ~right):
    size = chosen.sum()
    block, diagonal = gram[np.ix_(chosen, chosen)], np.diag(gram)[chosen].sum()
    pairs = size * (size - 1)
    known = size > 1
    of[kind] = (
      (block.sum() - diagonal) / pairs if known else np.nan,
      diagonal / size if known else np.nan,
    )
  across = gram[np.ix_(right, ~right)]
  (of_right, f_right), (of_wrong, f_wrong) = of['right'], of['wrong']
  d2 = of_right + of_wrong - 2 * (across.mean() if across.size else np.nan)
  p = right.mean() if n else np.nan
  return Facts(*(np.float64(v) for v in (p, d2, f_right, f_wrong)))


def pair_mean(a: Values, b: Values | None = None) -> np.float64:
  """Mean of <a_i, b_j> over i != j: <E a, E b> without bias.

  For rows that are independent of each other; a_i and b_i may be of one
  sample. Equals (<sum a, sum b> - sum_i <a_i, b_i>) / (N (N-1)).

  Args:
    a, b: f[N,M]; b None: a itself, for ||E a||^2.

  Returns:
    f64[]; NaN with fewer than two rows.
  """
  a = real(a)
  b = a if b is None else real(b)
  n = len(a)
  if n < 2:
    return np.float64(np.nan)
  return (a.sum(0) @ b.sum(0) - np.vdot(a, b)) / (n * (n - 1))


def second(a: Values) -> np.float64:
  """E ||a||^2: the mean squared norm of the rows f[N,M]; NaN without rows."""
  a = real(a)
  return np.float64(np.vdot(a, a) / len(a) if len(a) else np.nan)


def coherence(mu_a: Values, mu_b: Values, *, fixed: bool = False) -> np.float64:
  """omega = ||E_x mu_x||^2 / E_x ||mu_x||^2: do problems agree on the change?

  1 if all problems have the same mean gradient, 0 if they are orthogonal,
  negative if they oppose each other (noise may also make it so).

  Args:
    mu_a, mu_b: f[X,M], mean gradients of X problems from two independent
      halves of their rollouts.
    fixed: of these X problems rather than of the population that they are
      drawn from. The numerator then contains the products of each problem with
      itself, and orthogonal problems have 1/X.

  Returns:
    f64[]; NaN with fewer than two problems or if the denominator, the mean of
    <mu_a, mu_b>, is not positive: too few rollouts to see any gradient.
  """
  a, b = real(mu_a), real(mu_b)
  n = len(a)
  if n < 2:
    return np.float64(np.nan)
  own = np.vdot(a, b) / n
  together = pair_mean(a, b)
  if fixed:
    together = ((n - 1) * together + own) / n
  return np.float64(together / own if own > 0 else np.nan)


def noise_scale(
  total: Values, second: Values, group: int | np.integer
) -> Number:
  """G (second - total) / total: rollouts for SNR 1 of a batch.

  McCandlish et al. 2018 (arXiv:1812.06162), tr(Cov) / ||G||^2, counted in
  rollouts.

  Args:
    total: ||E g^||^2, by `pair_mean` over groups of different problems.
    second: E ||g^||^2 of one group, by `second`.
    group: G.

  Returns:
    inf where total <= 0, NaN where one is NaN. At least 0.
  """
  total, second = np.broadcast_arrays(real(total), real(second))
  with np.errstate(divide='ignore', invalid='ignore'):
    scale = np.maximum(group * (second - total) / total, 0.0)
  scale = np.where(total <= 0, np.inf, scale)
  return np.where(np.isnan(total) | np.isnan(second), np.nan, scale)[()]


def batch_scale(snr: Values, omega: Values, group: int | np.integer) -> Number:
  """N_k: rollouts of a batch whose gradient has SNR 1, problems at random.

    N_k = G (1/SNR_1 + 1 - omega) / omega

  SNR of N rollouts, as N / G groups of different problems, is N / N_k.

  Args:
    snr: SNR_1 of one group, E_x ||mu_x||^2 / E_x Var_x (`Moments.snr`).
    omega: see `coherence`; 1: all problems share one mean gradient.
    group: G.

  Returns:
    Rollouts; inf where omega or snr <= 0, NaN where one is NaN. At least 0:
    an estimate of omega may exceed 1.
  """
  snr, omega = np.broadcast_arrays(real(snr), real(omega))
  with np.errstate(divide='ignore', invalid='ignore'):
    scale = group * (1.0 / snr + 1.0 - omega) / omega
  scale = np.where((omega <= 0) | (snr <= 0), np.inf, np.maximum(scale, 0.0))
  return np.where(np.isnan(snr) | np.isnan(omega), np.nan, scale)[()]


def batch_snr(snr: Values, omega: Values, groups: Values) -> Number:
  """B omega SNR_1: SNR of the mean gradient of B groups, one a problem.

  For a *fixed* set of B problems, with SNR_1 = E_x ||mu_x||^2 / E_x Var_x over
  them and omega = ||E_x mu_x||^2 / E_x ||mu_x||^2: orthogonal problems
  (omega = 1/B) leave SNR_1 where it was. With problems drawn anew their spread
  is noise too: groups * group / `batch_scale`.
  """
  return (real(groups) * real(omega) * real(snr))[()]


def seen(p: Values) -> Number:
  """1/p: rollouts until a success turns up, in the mean.

  Its own inverse: 1/N is the pass rate that N rollouts see. inf at p = 0.
  """
  with np.errstate(divide='ignore'):
    return (1.0 / real(p))[()]


def alignment(c: Values, target: Values, d2: Values) -> Number:
  """Cosine of sum_x c_x Delta_x and sum_x target_x Delta_x, last axis [X].

    sum c t D^2 / sqrt(sum c^2 D^2 * sum t^2 D^2)

  Assumes orthogonal Delta_x. Targets: pq for the gradient of mean pass rate, q
  for that of mean log p (q Delta = grad log p), also for the steps of a chain.
  """
  c, target, d2 = real(c), real(target), real(d2)
  norms = (c**2 * d2).sum(-1) * (target**2 * d2).sum(-1)
  with np.errstate(divide='ignore', invalid='ignore'):
    return ((c * target * d2).sum(-1) / np.sqrt(norms))[()]


def root(
  dot: Values,
  ref_sq: Values,
  total: Values,
  second: Values,
  group: int | np.integer,
  rollouts: Values,
) -> Number:
  """Signed gain of a step of fixed length, as a share of the best one.

    root = cos sqrt(N / (N + N_k)) = E<g, g^> / (||g|| sqrt(E ||g^||^2))

  for the gradient g^ of N rollouts: 1 for the true gradient, 0 for noise,
  negative for a signal that points the other way. Computed by the right side,
  E ||g^||^2 = total + G (second - total) / N, which stays defined where the
  estimate of total is not positive.

  Args:
    dot: <g, E g^>.
    ref_sq: ||g||^2 of the reference.
    total, second, group: as in `noise_scale`.
    rollouts: N.

  Returns:
    In [-1, 1]: estimates beyond are cut. 0 where second is 0, a signal that is
    never anything; NaN where ref_sq or the estimate of E ||g^||^2 is not
    positive.
  """
  dot, ref_sq, total, second, rollouts = np.broadcast_arrays(
    *(real(v) for v in (dot, ref_sq, total, second, rollouts))
  )
  with np.errstate(divide='ignore', invalid='ignore'):
    of_batch = total + group * (second - total) / rollouts
  known = (ref_sq > 0) & (of_batch > 0)
  norms = np.sqrt(np.where(known, ref_sq * of_batch, 1.0))
  value = np.where(known, np.clip(dot / norms, -1.0, 1.0), np.nan)
  return np.where((second == 0) & (ref_sq > 0), 0.0, value)[()]


def cosine(
  dot: Values, ref_sq: Values, total: Values, total_error: Values
) -> Number:
  """dot / sqrt(ref_sq total): cosine of the *mean* gradient with g.

  Not cut at 1: with both norms sure, noise takes it beyond by a few hundredths.

  Args:
    dot, ref_sq, total: as in `root`.
    total_error: standard error of total.

  Returns:
    NaN where total < 2 total_error, or a norm is not positive: a ratio to a
    denominator that may be 0 says nothing.
  """
  dot, ref_sq, total, error = np.broadcast_arrays(
    *(real(v) for v in (dot, ref_sq, total, total_error))
  )
  known = (total > 0) & (ref_sq > 0) & (total >= 2 * error)
  norms = np.sqrt(np.where(known, ref_sq * total, 1.0))
  return np.where(known, dot / norms, np.nan)[()]


def live(
  q: Values, squares: Values, live_groups: Values, groups: int | np.integer
) -> tuple[np.float64, np.float64]:
  """||E g^||^2 and noise of a batch's gradient, from its micro-batches.

  A batch has P groups, L_s of them with a gradient at step s; micro-batch i
  has L_si of these and adds the gradient G_si, q_s = ||sum_i G_si||^2. Products
  of different micro-batches are products of different groups,

    cross_s = q_s - sum_i ||G_si||^2   over   pairs_s = L_s^2 - sum_i L_si^2

  of them. Groups with a gradient are exchangeable whatever order they are
  trained in, so that with sums and means over the steps of the window

    grad_sq = P/(P-1) mean(L (L-1)) sum(cross) / sum(pairs)
    noise   = mean(q) - grad_sq

  Unbiased given the L_si, for any division into micro-batches: the textbook
  formula for equal ones (McCandlish et al. 2018, appendix A.1) is not where
  groups without a gradient are sorted to the end or skipped. The ratio is one
  of sums: a step whose live groups share a micro-batch has no pair and still
  counts in mean(L (L-1)). Assumes that the policy changes little in the window.

  Args:
    q: f[S], squared norm of each step's gradient, before clipping.
    squares: f[S], sum_i ||G_si||^2.
    live_groups: i[S,M], L_si.
    groups: P, with and without a gradient.

  Returns:
    (grad_sq, noise), f64[]; SNR is their ratio. grad_sq can be negative. NaN
    for one group, or without a pair in the window.
  """
  q, squares = real(q), real(squares)
  by_part = real(live_groups)
  alive = by_part.sum(-1)
  pairs = (alive**2 - (by_part**2).sum(-1)).sum()
  if groups < 2 or not pairs > 0:
    return np.float64(np.nan), np.float64(np.nan)
  every = (alive * (alive - 1)).mean() * groups / (groups - 1)
  grad_sq = every * (q - squares).sum() / pairs
  return np.float64(grad_sq), np.float64(q.mean() - grad_sq)
