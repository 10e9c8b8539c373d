"""The unbiased estimator of pass@k."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

MOST = 10**6  # samples per problem


def pass_at_k(
  n: ArrayLike | list | tuple, c: ArrayLike | list | tuple, k: int
) -> jax.Array | float:
  """Unbiased pass@k: the probability that k of n samples contain a correct one.

  1 - C(n-c, k) / C(n, k) for c correct among n samples, of which k are sampled
  without replacement (Chen et al. 2021, arXiv:2107.03374). Unbiased for
  1 - (1-p)^k. Computed as 1 - prod_{j<k} (1 - c/(n-j)) in logarithms: no
  factorials, and small values keep their precision. k is static under jit,
  where n and c cannot be checked.

  Args:
    n, c: integers: two scalars, or arrays or lists over M problems, or one of
      each.
    k: an integer.

  Returns:
    A float for two scalars, else f32[M].

  Raises:
    ValueError: k < 1, k > n, c outside [0, n], more than 10**6 samples, a value
      that is not an integer, shapes that differ.
  """
  if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
    raise ValueError(f'pass@{k}: k must be a whole number, at least 1.')
  traced = any(isinstance(x, jax.core.Tracer) for x in (n, c))
  if not traced:
    n, c = _checked(n, c, k)
    if not n.ndim:
      with np.errstate(divide='ignore'):  # log 0 where all are correct
        return float(_pass_at_k(np, n, c, k))
  return _pass_at_k(jnp, jnp.asarray(n), jnp.asarray(c), k)


def _pass_at_k(xp, n, c, k):
  """The formula with the NumPy or jax.numpy module `xp`."""
  left = n[..., None] - xp.arange(k).reshape((1,) * n.ndim + (k,))
  miss = xp.minimum(c[..., None] / left, 1.0)
  return -xp.expm1(xp.sum(xp.log1p(-miss), axis=-1))


def _checked(n, c, k):
  """Both as int32 arrays of one shape."""
  try:
    n, c = np.asarray(n), np.asarray(c)
    n, c = np.broadcast_arrays(n, c)
  except ValueError as e:
    raise ValueError(
      f'pass@{k}: n and c must be numbers, or lists of equal length ({e}).'
    ) from e
  for name, x in (('n', n), ('c', c)):
    if x.dtype.kind not in 'iu' and x.size:
      raise ValueError(
        f'pass@{k}: {name} must be whole numbers, not {x.dtype.name}.'
      )
  if np.any(n < k):
    raise ValueError(
      f'pass@{k} needs {k} samples of each problem; the fewest are '
      f'{n.min()}. Sample more or lower k.'
    )
  bad = (c < 0) | (c > n)
  if np.any(bad):
    raise ValueError(
      f'pass@{k}: {c[bad][0]} correct among {n[bad][0]} samples; '
      '0 <= c <= n must hold.'
    )
  if np.any(n > MOST):
    raise ValueError(f'pass@{k}: {n.max()} samples are more than {MOST}.')
  return n.astype(np.int32), c.astype(np.int32)
