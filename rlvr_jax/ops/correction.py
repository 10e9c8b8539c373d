"""Corrections for a sampler whose probabilities are not the trainer's.

A correction has the form

  correction(logp_trainer [B,T], logp_sampler [B,T], mask bool[B,T])
    -> weight f32[B,T]

The weight multiplies the per-token loss: rows were drawn from the sampler,
and w = pi_trainer / pi_sampler puts that right on average, limited because a
few large ratios would drown the rest. It is a constant, 0 where the mask is
false, and what stands there reaches nobody. Both log-probs are of the weights
that sampled (verl's "old" and "rollout"): what the policy does later is the
surrogate's affair.

`level` is 'token' (w of the token itself) or 'sequence' (the product over the
row's trained tokens, for all of them). log w is clamped to +-20 as in verl.

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

MAX_LOG_RATIO = 20.0


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

  The default is verl's. normalize divides by the mean of the clipped weights,
  over tokens or over rows as `level` says, so that their mean is 1: then call
  it on the whole batch, before it is cut into micro-batches.

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
  """w where low <= w <= high, else 0: what is too far off is not trained.

  The default is TRL's `sequence_mask`; per token it is IcePop. Dropped tokens
  stay in the denominator of the loss.

  Raises:
    ValueError: unknown level, low negative, high <= 0 or below low.
  """
  weight = _weight('drop', logp_trainer, logp_sampler, mask, level, low, high)
  inside = (weight >= low) & (weight <= high)
  return jnp.where(mask & inside, weight, 0.0)


def _weight(name, logp_trainer, logp_sampler, mask, level, low, high):
  """w [B,T], constant; 1 or the row's where the mask is false."""
  if level not in ('token', 'sequence'):
    raise ValueError(
      f'{name}(level={registry.show(level)}): write token or sequence.'
    )
  if not (0 <= low <= high and high > 0):
    raise ValueError(
      f'{name}(low={low}, high={high}): bounds of the weight itself, '
      '0 <= low <= high and high > 0 must hold; verl has high=2.'
    )
  d = masked.keep(logp_trainer, mask) - masked.keep(logp_sampler, mask)
  if level == 'sequence':
    d = jnp.broadcast_to(jnp.sum(d, axis=1, keepdims=True), d.shape)
  d = jnp.clip(jax.lax.stop_gradient(d), -MAX_LOG_RATIO, MAX_LOG_RATIO)
  return jnp.exp(d)
