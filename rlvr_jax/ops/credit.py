"""Credit assignment: a trajectory's per-turn rewards to per-turn scores.

A credit function has the form

  credit(reward [K], belief [K+1] | None, turns bool[K]) -> f32[K]

where `reward[k]` is the reward of turn k, `belief[k]` the log-probability of
the true answer before turn k (`belief[K]`: after the last turn), and `turns[k]`
whether turn k took place. Turns that did not take place get 0, and their
values, NaN included, never affect the others.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


@registry.register('credit')
def outcome(
  reward: Real[types.Array, 'K'],
  belief: Real[types.Array, 'K+1'] | None,
  turns: Bool[types.Array, 'K'],
) -> Float[Array, 'K']:
  """Every turn gets the trajectory's total reward: c_k = sum_j r_j.

  With K = 1 it is the reward itself. `belief` is not used.
  """
  del belief
  turns = jnp.asarray(turns)
  reward = masked.keep(reward, turns)
  return jnp.where(turns, jnp.sum(reward), 0.0)


@registry.register('credit')
def stepwise(
  reward: Real[types.Array, 'K'],
  belief: Real[types.Array, 'K+1'] | None,
  turns: Bool[types.Array, 'K'],
  *,
  gamma: float | int = 1.0,
) -> Float[Array, 'K']:
  """Rewards to go: c_k = r_k + gamma c_{k+1}, over the turns that took place.

  A turn is credited for its own and later rewards, not for earlier ones.
  gamma = 0 leaves each turn its own reward; with K = 1 this is `outcome`.

  Raises:
    ValueError: gamma outside [0, 1].
  """
  del belief
  if not 0 <= gamma <= 1:
    raise ValueError(f'stepwise(gamma={gamma}): gamma must be in [0, 1].')

  turns = jnp.asarray(turns)

  def back(later, turn):
    r, took_place = turn
    now = jnp.where(took_place, r + gamma * later, later)
    return now, jnp.where(took_place, now, 0.0)

  reward = masked.keep(reward, turns)
  zero = jnp.zeros((), reward.dtype)
  return jax.lax.scan(back, zero, (reward, turns), reverse=True)[1]


@registry.register('credit')
def delta_belief(
  reward: Real[types.Array, 'K'],
  belief: Real[types.Array, 'K+1'] | None,
  turns: Bool[types.Array, 'K'],
  *,
  weight: float | int = 0.1,
  transform: str = 'positive',
  clip: float | int = 0.0,
  normalise: str = '',
) -> Float[Array, 'K']:
  """Each turn's own reward plus a weighted increase of the belief.

    c_k = r_k + weight f(belief_{k+1} - belief_k)

  for log-beliefs in nats, so that the difference x is a log-ratio. f is

    positive  max(x, 0), as in the paper. Not potential-based shaping: a belief
              that falls and rises again is rewarded.
    none      x, whose sum over turns is the last minus the first log-belief.
    tanh      tanh(x)

  `clip` > 0 bounds x to [-clip, clip] before f. `normalise` acts on f's values
  over the turns that took place: 'centre' subtracts their mean, 'std' also
  divides by their standard deviation (ddof=0; all-equal values give 0). An x
  that is not finite (a true answer of probability 0, without `clip`) counts as
  0. No gradient passes through the belief.

  Source: Auzina et al. 2026 (arXiv 2602.12342), its code: agg=sum,
  methods=["positive"], weight_elicit=0.1.

  Raises:
    ValueError: no beliefs, an unknown transform or normalise, clip < 0.
  """
  shapes = {
    'positive': lambda x: jnp.maximum(x, 0.0),
    'none': lambda x: x,
    'tanh': jnp.tanh,
  }
  for name, value, known in (
    ('transform', transform, (*shapes,)),
    ('normalise', normalise, ('', 'centre', 'std')),
  ):
    if value not in known:
      raise ValueError(
        f'delta_belief({name}={registry.show(value)}): choose one of '
        f'{", ".join(map(repr, known))}.'
      )
  if not clip >= 0:
    raise ValueError(f'delta_belief(clip={clip}): clip must be at least 0.')
  if belief is None:
    raise ValueError(
      'delta_belief needs the belief before and after each turn, and there is '
      "none: set dialogue.belief to 'current' or 'initial', in an environment "
      'with several turns.'
    )
  turns = jnp.asarray(turns)
  belief = jax.lax.stop_gradient(jnp.asarray(belief))
  gain = masked.keep(belief[1:] - belief[:-1], turns)
  if clip:
    gain = jnp.clip(gain, -clip, clip)
  gain = jnp.where(jnp.isfinite(gain), gain, 0.0)
  gain = masked.keep(shapes[transform](gain), turns)
  if normalise:
    gain = masked.centred(gain, turns)
  if normalise == 'std':
    variance = jnp.sum(gain**2) / jnp.maximum(masked.count(turns), 1.0)
    gain = gain / jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
  return masked.keep(masked.keep(reward, turns) + weight * gain, turns)
