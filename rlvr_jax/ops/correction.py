"""Importance weights that correct the sampler-trainer mismatch.

A correction has the form

  correction(logp_trainer [B,T], logp_sampler [B,T], mask bool[B,T])
    -> weight f32[B,T]

The weight multiplies the per-token loss. Rows were sampled from pi_sampler, so
w = pi_trainer / pi_sampler makes the gradient unbiased; w is bounded because a
few large ratios would dominate the batch. It is a constant, and 0 where the
mask is false; values there, NaN included, never affect the result. Both
log-probs belong to the parameters that sampled (verl's `old_log_probs` and
`rollout_log_probs`): later changes of the policy are the surrogate's ratio.

`level` is 'token' (w of the token itself) or 'sequence' (the product over the
row's trained tokens, applied to each). log w is clamped to +-20 as in verl.

  verl      rollout_is=token      truncate               C = 2
            rollout_is=sequence   truncate(sequence)
            .. batch_normalize    truncate(normalize=True)
  TRL       sequence_mask         drop                   its default, 3
            token_truncate        truncate(high=3)
  OpenRLHF  tis                   truncate(high=5, low=0.5)
            icepop                drop(token, high=5, low=0.5)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


@registry.register('correction')
def truncate(
  logp_trainer: Float[types.Array, 'B T'],
  logp_sampler: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  level: str = 'token',
  high: float | int = 2.0,
  low: float | int = 0.0,
  normalize: bool = False,
) -> Float[Array, 'B T']:
  """clip(w, low, high): truncated importance sampling.

  The default is verl's. `normalize` divides by the mean of the clipped weights
  (over tokens or over rows, by `level`), so that their mean is 1: then call it
  on the whole batch, before the split into micro-batches.

  Raises:
    ValueError: unknown level, low negative, high <= 0 or below low.
  """
  weight = jnp.clip(
    _weight('truncate', logp_trainer, logp_sampler, mask, level, low, high),
    low,
    high,
  )
  weight = jnp.where(mask, weight, 0.0)
  if not normalize:
    return weight
  if level == 'token':
    total, count = jnp.sum(weight), masked.count(mask)
  else:
    total = jnp.sum(jnp.max(weight, axis=1))
    count = masked.count(jnp.any(mask, axis=1))
  return weight * (count / jnp.where(total > 0, total, 1.0))


@registry.register('correction')
def drop(
  logp_trainer: Float[types.Array, 'B T'],
  logp_sampler: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  level: str = 'sequence',
  high: float | int = 3.0,
  low: float | int = 0.0,
) -> Float[Array, 'B T']:
  """w where low <= w <= high, else 0, which drops the token or row.

  The default is TRL's `sequence_mask`; level='token' is IcePop. Dropped tokens
  stay in the denominator of the loss.

  Raises:
    ValueError: unknown level, low negative, high <= 0 or below low.
  """
  weight = _weight('drop', logp_trainer, logp_sampler, mask, level, low, high)
  inside = (weight >= low) & (weight <= high)
  return jnp.where(mask & inside, weight, 0.0)


def _weight(name, logp_trainer, logp_sampler, mask, level, low, high):
  """w f32[B,T], a constant; where the mask is false, 1 or the row's w."""
  if level not in ('token', 'sequence'):
    raise ValueError(
      f'{name}(level={registry.show(level)}): write token or sequence.'
    )
  if not (0 <= low <= high and high > 0):
    raise ValueError(
      f'{name}(low={low}, high={high}): bounds of the weight itself, '
      '0 <= low <= high and high > 0 must hold; verl uses high=2.'
    )
  d = masked.keep(logp_trainer, mask) - masked.keep(logp_sampler, mask)
  if level == 'sequence':
    d = jnp.broadcast_to(jnp.sum(d, axis=1, keepdims=True), d.shape)
  return jnp.exp(masked.clamp_log_ratio(jax.lax.stop_gradient(d)))
