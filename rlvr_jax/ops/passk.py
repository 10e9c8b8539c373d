"""pass@k without bias."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rlvr_jax import types


def pass_at_k(
  n: Int[types.Array, 'M'], c: Int[types.Array, 'M'], k: int
) -> Float[Array, 'M']:
  """Chance that k of the n samples, drawn without return, hold a right one.

  1 - C(n-c, k) / C(n, k), for M problems with c right among n samples each
  (Chen et al. 2021, arXiv:2107.03374). Unbiased for 1 - (1-p)^k. Computed as
  1 - prod_{j<k} (1 - c/(n-j)) through logarithms: no factorials, and small
  values keep their digits. k is static under jit, where n and c cannot be
  checked.

  Raises:
    ValueError: k < 1, k > n, or c outside [0, n].
  """
  if k < 1:
    raise ValueError(f'pass@{k}: k must be at least 1.')
  if not any(isinstance(x, jax.core.Tracer) for x in (n, c)):
    n, c = np.asarray(n), np.asarray(c)
    if np.any(n < k):
      raise ValueError(
        f'pass@{k} needs {k} samples of each problem; the fewest are '
        f'{n.min()}. Draw more samples or lower k.'
      )
    bad = (c < 0) | (c > n)
    if np.any(bad):
      raise ValueError(
        f'pass@{k}: {c[bad][0]} right answers among {n[bad][0]} samples; '
        '0 <= c <= n must hold.'
      )
  left = jnp.asarray(n)[:, None] - jnp.arange(k)[None, :]
  miss = jnp.minimum(jnp.asarray(c)[:, None] / left, 1.0)
  return -jnp.expm1(jnp.sum(jnp.log1p(-miss), axis=1))
