"""Clip-Cov and KL-Cov: surrogates that slow down the loss of entropy.

Cui et al. 2025 (arXiv:2505.22617): a policy-gradient step lowers the entropy
in proportion to the covariance of log-prob and advantage. A few tokens have
most of it, and these are damped. Over the trained tokens,

  cov_t = (A_t - mean A) (log pi_t - mean log pi)

and max(1, int(ratio * tokens)) of the tokens are chosen by it. The choice
depends on the whole batch:

  surrogate(logp, logp_old, adv, mask, chosen)     chosen bool[B,T]

takes the result of `surrogate.choose` on the whole batch (see
`rlvr_jax.ops.surrogate.choose`), so the sum of losses does not depend on the
split into micro-batches. chosen=None chooses among the arrays given. The choice
is a constant, made before the update with the policy at that time. With a
correction, A is the weighted advantage; the penalty of `kl_cov` is not
weighted.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked
from rlvr_jax.ops import surrogate as ppo
from rlvr_jax.ops.ratio import Ratio


def choose_clip_cov(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  low: float | int = 1.0,
  high: float | int = 1.0,
  ratio: float | int = 2e-4,
  cov_low: float | int = 1.0,
  cov_high: float | int = 5.0,
  seed: int = 0,
) -> Bool[Array, 'B T']:
  """Random tokens among those with cov_low < cov < cov_high.

  Tokens that clipping cuts already are no candidates. If there are fewer
  candidates than the fraction `ratio` of the tokens, all are chosen. The random
  numbers are fixed by `seed`, row and column: the same on every machine and at
  every step, and more padding changes no token's number.

  Raises:
    ValueError: low or high negative, ratio outside (0, 1], cov_low >= cov_high.
  """
  ppo.check_clip(low, high)
  _check_ratio('clip_cov', ratio)
  if not cov_low < cov_high:
    raise ValueError(
      f'clip_cov(cov_low={cov_low}, cov_high={cov_high}): the first must be '
      'less than the second; the authors use 1 and 5.'
    )
  cov = covariance(logp, adv, mask)
  rho = ppo.ratio_of(logp, logp_old, mask)
  cut = ppo.is_cut(rho, masked.keep(adv, mask), low, high)
  candidate = mask & ~cut & (cov > cov_low) & (cov < cov_high)
  rows, columns = mask.shape
  # One key per row: with one for all, padding would change every number.
  keys = jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.key(seed), jnp.arange(rows)
  )
  field = jax.vmap(lambda key: jax.random.uniform(key, (columns,)))(keys)
  return _top(field, candidate, ratio, mask)


@registry.register('surrogate')
def clip_cov(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  chosen: Bool[types.Array, 'B T'] | None = None,
  *,
  low: float | int = 1.0,
  high: float | int = 1.0,
  ratio: float | int = 2e-4,
  cov_low: float | int = 1.0,
  cov_high: float | int = 5.0,
  seed: int = 0,
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """`clip`, with loss 0 for chosen tokens of high covariance (Clip-Cov).

  The defaults are those of the authors' scripts, which clip rho at 0 and 2;
  verl's default clips at 0.8 and 1.2; ratio and covariance bounds agree. Chosen
  tokens stay in the denominator, and `clip_ratio` counts them. See
  `choose_clip_cov`.

  Raises:
    ValueError: as `choose_clip_cov`.
  """
  ppo.check_clip(low, high)
  if chosen is None:
    chosen = choose_clip_cov(
      logp,
      logp_old,
      adv,
      mask,
      low=low,
      high=high,
      ratio=ratio,
      cov_low=cov_low,
      cov_high=cov_high,
      seed=seed,
    )
  chosen = chosen & mask
  rho = ppo.ratio_of(logp, logp_old, mask)
  adv = masked.keep(adv, mask)
  bounded, cut = ppo.clipped(rho, adv, low, high)
  loss = jnp.where(chosen, 0.0, -adv * bounded)
  return ppo.result(loss, rho, cut | chosen, mask)


def choose_kl_cov(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  ratio: float | int = 2e-4,
) -> Bool[Array, 'B T']:
  """The tokens of the largest covariance; among equal ones, the first.

  Raises:
    ValueError: ratio outside (0, 1].
  """
  del logp_old
  _check_ratio('kl_cov', ratio)
  return _top(covariance(logp, adv, mask), mask, ratio, mask)


@registry.register('surrogate')
def kl_cov(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  chosen: Bool[types.Array, 'B T'] | None = None,
  *,
  ratio: float | int = 2e-4,
  coef: float | int = 1.0,
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """L = -A rho, plus coef |log rho| for the chosen tokens (KL-Cov).

  There is no clipping. On-policy the penalty has no gradient (the gradient of
  |d| at 0 is defined as 0), so with one update per batch this is the plain
  policy gradient. Default ratio: verl and the authors' 32B script; their 7B
  script uses 2e-3. Default coef: the authors; verl uses 0.1.

  Raises:
    ValueError: ratio outside (0, 1], coef negative.
  """
  if not coef >= 0:
    raise ValueError(f'kl_cov(coef={coef}) must be >= 0; the authors use 1.')
  if chosen is None:
    chosen = choose_kl_cov(logp, logp_old, adv, mask, ratio=ratio)
  d = ppo.log_ratio(logp, logp_old, mask)
  rho = jnp.exp(d)
  # |d| with gradient 0 at 0; the gradient of jnp.abs is 1 there.
  distance = jnp.where(chosen & mask, jnp.sign(ppo.constant(d)) * d, 0.0)
  loss = -masked.keep(adv, mask) * rho + coef * distance
  return ppo.result(loss, rho, jnp.zeros_like(mask), mask)


clip_cov.choose = choose_clip_cov
kl_cov.choose = choose_kl_cov


def covariance(
  logp: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
) -> Float[Array, 'B T']:
  """(A - mean A)(log pi - mean log pi) where the mask holds, else 0."""
  tokens = jnp.maximum(masked.count(mask), 1.0)

  def centred(x):
    x = masked.keep(ppo.constant(x), mask)
    return jnp.where(mask, x - jnp.sum(x) / tokens, 0.0)

  return centred(adv) * centred(logp)


def _top(rank, candidate, ratio, mask):
  """bool[B,T]: the max(1, int(ratio * tokens)) candidates of highest rank."""

  def fraction(tokens):
    # The margin offsets float32 rounding, so that 2e-4 * 5000 tokens is 1.
    return jnp.maximum(jnp.floor(ratio * tokens * (1 + 1e-6)), 1.0)

  most = min(mask.size, max(1, int(ratio * mask.size * (1 + 1e-5))))
  rank = jnp.where(candidate, rank, -jnp.inf).ravel()
  value, index = jax.lax.top_k(rank, most)
  taken = (value > -jnp.inf) & (jnp.arange(most) < fraction(masked.count(mask)))
  chosen = jnp.zeros(rank.shape, bool).at[index].set(taken)
  return chosen.reshape(mask.shape)


def _check_ratio(name, ratio):
  if not 0 < ratio <= 1:
    raise ValueError(
      f'{name}(ratio={ratio}): a fraction of the tokens, in (0, 1]; verl uses '
      '2e-4.'
    )
