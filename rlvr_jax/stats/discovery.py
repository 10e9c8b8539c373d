"""Within how many attempts is a hard problem solved by a policy that learns?"""

from collections.abc import Sequence

import numpy as np

from rlvr_jax.stats import passk


def discovered(
  right: Sequence[int], attempts: Sequence[int], budgets: Sequence[int]
) -> np.ndarray:
  """f64[len(budgets)]: discovered@n of one run at each n of `budgets`.

  The probability that one of the first n attempts is right, those of a step in
  random order (they are of one policy): 1 after a step with a right one, else

    1 - C(m - c, k) / C(m, k)

  for k attempts into a step of m attempts, c of them right; so it is pass@n
  where the policy does not learn. The mean over runs, of several seeds and
  problems, estimates discovery@n (SDPO, arXiv:2601.20802, section 5, where a
  run counts as solved or not).

  Args:
    right: c of each step.
    attempts: m of each step.
    budgets: n, each from 0 to the sum of `attempts`.

  Raises:
    ValueError: c outside [0, m], or n that was not attempted.
  """
  c, m = np.asarray(right, int), np.asarray(attempts, int)
  if c.shape != m.shape or (c < 0).any() or (c > m).any():
    raise ValueError(
      f'{c.tolist()} right of {m.tolist()} attempts: a step has from 0 to all '
      'of its attempts right.'
    )
  ends = np.cumsum(m)
  out = []
  for n in budgets:
    if not 0 <= n <= m.sum():
      raise ValueError(f'discovered@{n}: the run has {m.sum()} attempts.')
    step = int(np.searchsorted(ends, n))  # in which the n-th attempt is
    if c[:step].any():
      out.append(1.0)
      continue
    k = int(n - (ends[step] - m[step])) if len(m) else 0
    out.append(
      float(passk.pass_at_k(int(m[step]), int(c[step]), k)) if k else 0.0
    )
  return np.array(out)
