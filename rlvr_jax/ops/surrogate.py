"""Surrogate losses per token: REINFORCE, PPO clip, dual clip, GSPO, CISPO.

A surrogate has the form

  surrogate(logp [B,T], logp_old [B,T], adv [B,T], mask bool[B,T])
    -> per-token loss f32[B,T], {name: Ratio}

Losses are minimised. logp_old is a constant. The loss is 0 where the mask is
false, and values there, NaN and infinity included, affect neither values nor
gradients. rho = exp(logp - logp_old), with the exponent clamped to +-20 as in
verl (TRL does not clamp): an extreme log-prob gives a large finite loss and,
beyond the clamp, no gradient.

Metrics, over trained tokens: `clip_ratio`, the fraction whose gradient is
removed by clipping; `ratio`, the mean of rho (1 on-policy).

The surrogates in `covariance` take a fifth argument, `chosen bool[B,T]`: the
tokens selected by a statistic of the whole batch. `choose` returns the function
that selects them.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from rlvr_jax import registry, types
from rlvr_jax.ops import masked
from rlvr_jax.ops.ratio import Ratio


@registry.register('surrogate')
def reinforce(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """L = -A log pi (Williams 1992).

  Its gradient is -A grad log pi; for the logits of one token that is
  -A (onehot - pi). The loss value is not that of `clip`: compare gradients.
  Samples of an older policy are not corrected for; logp_old is only used for
  the metric.
  """
  rho = ratio_of(logp, logp_old, mask)
  loss = -masked.keep(adv, mask) * masked.keep(logp, mask)
  return result(loss, rho, jnp.zeros_like(mask), mask)


@registry.register('surrogate')
def clip(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  low: float | int = 0.2,
  high: float | int = 0.2,
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """L = max(-A rho, -A clip(rho, 1-low, 1+high)) (PPO, arXiv:1707.06347).

  No gradient where rho > 1+high and A > 0, or rho < 1-low and A < 0: the
  token has already moved far enough in the direction of its advantage.
  high > low is DAPO's clip-higher (arXiv:2503.14476: 0.2, 0.28).

  Raises:
    ValueError: low or high negative.
  """
  check_clip(low, high)
  rho = ratio_of(logp, logp_old, mask)
  adv = masked.keep(adv, mask)
  bounded, cut = clipped(rho, adv, low, high)
  return result(-adv * bounded, rho, cut, mask)


@registry.register('surrogate')
def dual_clip(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  low: float | int = 0.2,
  high: float | int = 0.2,
  c: float | int = 3.0,
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """`clip`, with the loss at most -c A where A < 0 (arXiv:1912.09729).

  So a token with A < 0 that became c times likelier has no gradient either.
  Always on in verl (c = 3); TRL's `delta` is this c.

  Raises:
    ValueError: low or high negative, or c <= 1.
  """
  check_clip(low, high)
  if not c > 1:
    raise ValueError(f'dual_clip(c={c}): c must be > 1; verl uses 3.')
  rho = ratio_of(logp, logp_old, mask)
  adv = masked.keep(adv, mask)
  bounded, cut = clipped(rho, adv, low, high)
  far = (adv < 0) & (rho > c)
  bounded = jnp.where(far, c, bounded)
  return result(-adv * bounded, rho, cut | far, mask)


@registry.register('surrogate')
def gspo(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  low: float | int = 3e-4,
  high: float | int = 4e-4,
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """`clip` with one ratio per row, s = exp(mean over its tokens of log rho).

  GSPO (Zheng et al. 2025, arXiv:2507.18071): the ratio of each token has the
  value s and the gradient s grad log pi. Use it with the aggregate
  `seq_mean_token_mean`; the default range is that of verl's example.

  Raises:
    ValueError: low or high negative.
  """
  check_clip(low, high)
  logp = masked.keep(logp, mask)
  d = constant(logp) - masked.keep(constant(logp_old), mask)
  size = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1)
  mean = jnp.sum(d, axis=-1, keepdims=True) / size
  s = jnp.exp(masked.clamp_log_ratio(mean))
  rho = jnp.where(mask, s * jnp.exp(logp - constant(logp)), 1.0)
  adv = masked.keep(adv, mask)
  bounded, cut = clipped(rho, adv, low, high)
  return result(-adv * bounded, rho, cut, mask)


@registry.register('surrogate')
def cispo(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
  *,
  low: float | int = 1.0,
  high: float | int = 4.0,
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """L = -sg(clip(rho, 1-low, 1+high)) A log pi: every token has a gradient.

  CISPO (MiniMax-M1, arXiv:2506.13585). The paper uses no lower bound (low=1)
  and does not state the upper one; the default is TRL's recommendation, a cap
  of 5 (in TRL `epsilon_high=5.0`, without the 1). verl clips on both sides: its
  example uses low=10, high=0.2. `clip_ratio` counts clipped weights.

  Raises:
    ValueError: low or high negative.
  """
  check_clip(low, high)
  rho = constant(ratio_of(logp, logp_old, mask))
  weight = jnp.clip(rho, 1 - low, 1 + high)
  loss = -weight * masked.keep(adv, mask) * masked.keep(logp, mask)
  return result(loss, rho, weight != rho, mask)


def choose(surrogate: Callable) -> Callable | None:
  """The function that selects this surrogate's tokens, same options bound.

    choose(surrogate)(logp, logp_old, adv, mask) -> bool[B,T]

  is called on the whole batch; its result is split into micro-batches with the
  batch. None for a surrogate that selects no tokens. `functools.partial`s are
  unwrapped.
  """
  bound: dict[str, Any] = {}
  while isinstance(surrogate, functools.partial):
    bound = surrogate.keywords | bound
    surrogate = surrogate.func
  select = getattr(surrogate, 'choose', None)
  if select is None:
    return None
  known = inspect.signature(select).parameters
  return functools.partial(select, **{k: bound[k] for k in bound if k in known})


def constant(x: Shaped[types.Array, '*S']) -> Shaped[types.Array, '*S']:
  """x without gradient."""
  return jax.lax.stop_gradient(x)


def log_ratio(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
) -> Float[Array, 'B T']:
  """log rho, clamped; 0 where the mask is false."""
  d = masked.keep(logp, mask) - masked.keep(constant(logp_old), mask)
  return masked.clamp_log_ratio(d)


def ratio_of(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
) -> Float[Array, 'B T']:
  """rho; 1 where the mask is false."""
  return jnp.exp(log_ratio(logp, logp_old, mask))


def is_cut(
  rho: Float[Array, 'B T'],
  adv: Float[Array, 'B T'],
  low: float | int,
  high: float | int,
) -> Bool[Array, 'B T']:
  """Where PPO's maximum takes the clipped branch, which has no gradient."""
  return ((adv > 0) & (rho > 1 + high)) | ((adv < 0) & (rho < 1 - low))


def clipped(
  rho: Float[Array, 'B T'],
  adv: Float[Array, 'B T'],
  low: float | int,
  high: float | int,
) -> tuple[Float[Array, 'B T'], Bool[Array, 'B T']]:
  """(ratio, cut): PPO's loss is -A ratio; where `cut`, it is a constant.

  max(-A rho, -A clip(rho)) written as a choice of the ratio: unlike the
  gradient of a maximum, it is not split where both branches are equal.
  """
  cut = is_cut(rho, adv, low, high)
  bounded = jnp.clip(constant(rho), 1 - low, 1 + high)
  return jnp.where(cut, bounded, rho), cut


def result(
  loss: Float[Array, 'B T'],
  rho: Float[types.Array, 'B T'],
  cut: Bool[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """The loss where the mask holds, else 0, and the metrics."""
  tokens = masked.count(mask)
  metrics = {
    'clip_ratio': Ratio(masked.count(cut & mask), tokens),
    'ratio': Ratio(jnp.sum(masked.keep(constant(rho), mask)), tokens),
  }
  return jnp.where(mask, loss, 0.0), metrics


def check_clip(low: float | int, high: float | int) -> None:
  """Raises ValueError if a distance of the clip range is negative."""
  if not (low >= 0 and high >= 0):
    raise ValueError(
      f'clip range low={low}, high={high}: both are distances from 1 and '
      'must be >= 0; write low=0.2, high=0.2.'
    )
