"""Surrogates: the per-token loss whose gradient improves the policy.

A surrogate has the form

  surrogate(logp [B,T], logp_old [B,T], adv [B,T], mask bool[B,T])
    -> per-token loss f32[B,T], {name: Ratio}

Losses are to be minimised. logp_old is a constant. The loss is 0 where the
mask is false, and what stands there, NaN and infinity included, reaches
neither values nor gradients. rho = exp(logp - logp_old), its exponent clamped
to +-20 as in verl (TRL does not clamp): a wild log-prob gives a large finite
loss and, beyond the clamp, no gradient.

Metrics, over trained tokens: `clip_ratio`, the share whose gradient the
clipping cuts; `ratio`, the mean of rho (1 on-policy).

Those in `covariance` take a fifth argument, `chosen bool[B,T]`: the tokens
that a statistic of the whole batch picked. `choose` gives the function that
picks them.
"""

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked
from rlvr_jax.ops.ratio import Ratio

MAX_LOG_RATIO = 20.0


@registry.register('surrogate')
def reinforce(
  logp: Float[types.Array, 'B T'],
  logp_old: Float[types.Array, 'B T'],
  adv: Float[types.Array, 'B T'],
  mask: Bool[types.Array, 'B T'],
) -> tuple[Float[Array, 'B T'], dict[str, Ratio]]:
  """L = -A log pi (Williams 1992).

  Its gradient is -A grad log pi; for the logits of one token that is
  -A (onehot - pi). The value is no ratio loss: compare gradients, not losses,
  with `clip`. It has no correction for samples of an older policy; logp_old
  only feeds the metric.
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
  token has moved far enough the way it should. high > low is DAPO's
  clip-higher (arXiv:2503.14476: 0.2, 0.28).

  Raises:
    ValueError: low or high negative.
  """
  check_clip(low, high)
  rho = ratio_of(logp, logp_old, mask)
  adv = masked.keep(adv, mask)
  cut = moved_enough(rho, adv, low, high)
  kept = jnp.where(cut, jnp.clip(constant(rho), 1 - low, 1 + high), rho)
  return result(-adv * kept, rho, cut, mask)


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
  """`clip`, and where A < 0 the loss is at most -c A (arXiv:1912.09729).

  So a token with A < 0 that became c times likelier has no gradient either.
  Always on in verl (c = 3); the `delta` of TRL is this c.

  Raises:
    ValueError: low or high negative, or c <= 1.
  """
  check_clip(low, high)
  if not c > 1:
    raise ValueError(f'dual_clip(c={c}): c must be > 1; verl has 3.')
  rho = ratio_of(logp, logp_old, mask)
  adv = masked.keep(adv, mask)
  cut = moved_enough(rho, adv, low, high)
  far = (adv < 0) & (rho > c)
  kept = jnp.where(cut, jnp.clip(constant(rho), 1 - low, 1 + high), rho)
  kept = jnp.where(far, c, kept)
  return result(-adv * kept, rho, cut | far, mask)


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
  """`clip` with one ratio a row, s = exp(mean over its tokens of log rho).

  GSPO (Zheng et al. 2025, arXiv:2507.18071): a token's ratio is s in value
  and has the gradient s grad log pi. Meant for the aggregate
  `seq_mean_token_mean`; the range is that of verl's example.

  Raises:
    ValueError: low or high negative.
  """
  check_clip(low, high)
  logp = masked.keep(logp, mask)
  d = constant(logp) - masked.keep(constant(logp_old), mask)
  size = jnp.maximum(jnp.sum(mask, axis=-1, keepdims=True), 1)
  mean = jnp.sum(d, axis=-1, keepdims=True) / size
  s = jnp.exp(jnp.clip(mean, -MAX_LOG_RATIO, MAX_LOG_RATIO))
  rho = jnp.where(mask, s * jnp.exp(logp - constant(logp)), 1.0)
  adv = masked.keep(adv, mask)
  cut = moved_enough(rho, adv, low, high)
  kept = jnp.where(cut, jnp.clip(constant(rho), 1 - low, 1 + high), rho)
  return result(-adv * kept, rho, cut, mask)


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
  """L = -sg(clip(rho, 1-low, 1+high)) A log pi: no token loses its gradient.

  CISPO (MiniMax-M1, arXiv:2506.13585). The paper has no lower bound, which
  low=1 is, and does not give the upper one; the default is TRL's advice, a cap
  of 5 (TRL writes `epsilon_high=5.0`, without the 1). verl clips to both sides:
  its example has low=10, high=0.2. `clip_ratio` counts clipped weights.

  Raises:
    ValueError: low or high negative.
  """
  check_clip(low, high)
  rho = constant(ratio_of(logp, logp_old, mask))
  weight = jnp.clip(rho, 1 - low, 1 + high)
  loss = -weight * masked.keep(adv, mask) * masked.keep(logp, mask)
  return result(loss, rho, weight != rho, mask)


def choose(surrogate: Callable) -> Callable | None:
  """What picks this surrogate's tokens, with the same options bound.

    choose(surrogate)(logp, logp_old, adv, mask) -> bool[B,T]

  of the whole batch, to be cut into micro-batches with it. None for a
  surrogate that picks none. Sees through partial.
  """
  bound = {}
  while isinstance(surrogate, functools.partial):
    bound = surrogate.keywords | bound
    surrogate = surrogate.func
  pick = getattr(surrogate, 'choose', None)
  if pick is None:
    return None
  known = inspect.signature(pick).parameters
  return functools.partial(pick, **{k: bound[k] for k in bound if k in known})


def constant(x):
  """x without gradient."""
  return jax.lax.stop_gradient(x)


def log_ratio(logp, logp_old, mask):
  """log rho [B,T], clamped; 0 where nothing is trained."""
  d = masked.keep(logp, mask) - masked.keep(constant(logp_old), mask)
  return jnp.clip(d, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def ratio_of(logp, logp_old, mask):
  """rho [B,T], 1 where nothing is trained."""
  return jnp.exp(log_ratio(logp, logp_old, mask))


def moved_enough(rho, adv, low, high):
  """Where PPO's maximum picks the clipped, constant branch."""
  return ((adv > 0) & (rho > 1 + high)) | ((adv < 0) & (rho < 1 - low))


def result(loss, rho, cut, mask):
  """The loss where the mask holds, and the metrics."""
  tokens = masked.count(mask)
  metrics = {
    'clip_ratio': Ratio(masked.count(cut & mask), tokens),
    'ratio': Ratio(jnp.sum(masked.keep(constant(rho), mask)), tokens),
  }
  return jnp.where(mask, loss, 0.0), metrics


def check_clip(low, high):
  """ValueError for a negative distance."""
  if not (low >= 0 and high >= 0):
    raise ValueError(
      f'clip range low={low}, high={high}: both are distances from 1 and '
      'must be >= 0; write low=0.2, high=0.2.'
    )
