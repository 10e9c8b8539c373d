"""A method is a choice of small functions; this file composes them.

Score --credit--> [K] --estimate--> [G] --spread--> advantages [P,G,T]
Batch --surrogate + kl + entropy + value--> [B,T] --aggregate--> Ratio
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import config_limits, registry, types
from rlvr_jax.enums import Verdict
from rlvr_jax.ops import estimators, masked
from rlvr_jax.ops import surrogate as surrogates
from rlvr_jax.ops import value as value_ops
from rlvr_jax.ops.ratio import Ratio


class Critic(NamedTuple):
  """Advantages from a value head, in place of a group's statistics (PPO)."""

  gae: Callable  # (rewards [T], values [T], mask [T]) -> advantages, returns
  whiten: bool  # advantages over the tokens of the batch
  coef: float  # weight of the value loss
  clip: float  # how far a value may move from its old one; 0: any way


class Algorithm(NamedTuple):
  """The functions of a method; their forms are in the `ops` files."""

  credit: Callable  # one trajectory: per-turn rewards to scores
  estimate: Callable  # one group: scores to advantages
  surrogate: Callable  # per-token loss
  aggregate: Callable  # per-token loss to a Ratio
  kl: Callable | None  # per-token divergence from the reference
  kl_weight: float
  entropy_coef: float = 0.0  # weight of the entropy bonus
  correction: Callable | None = None  # weights for sampler-trainer mismatch
  critic: Critic | None = None  # then `estimate` is not called
  padded: bool = False  # turns that a member did not reach count as score 0


def from_config(c) -> Algorithm:
  """The algorithm that a config section names.

  Reads the specs `credit`, `estimate`, `surrogate`, `aggregate`, `kl` and
  `correction` ('' for none), and the numbers `beta`, the weight of kl in the
  loss, and `entropy_coef`. With beta = 0 no reference is needed and kl is
  None. The estimate 'gae(...)' asks for a critic, whose settings are
  `whiten`, `value_coef` and `value_clip`. `turn_statistics` is 'living' or
  'padded', see `advantages`.

  Raises:
    ValueError: a spec that the registry refuses; a weight that is negative or
      not finite; beta > 0 without a kl; gae with another credit than outcome.
  """
  numbers = ('beta', 'entropy_coef', 'value_coef', 'value_clip')
  config_limits.check(
    {f'algo.{k}': getattr(c, k) for k in (*numbers, 'turn_statistics')}
  )
  if c.beta > 0 and not c.kl:
    raise ValueError(
      f"algo.beta={c.beta} weighs a kl that is not named: set algo.kl='k2' or "
      "'k3', or algo.beta=0."
    )

  def get(kind, key):
    with registry.naming(f'algo.{key}'):
      return registry.get(kind, getattr(c, key))

  kl = get('kl', 'kl') if c.kl else None
  estimate = get('estimator', 'estimate')
  credit = get('credit', 'credit')
  with_critic = registry.parse(c.estimate)[0] == 'gae'
  if with_critic and registry.parse(c.credit)[0] != 'outcome':
    raise ValueError(
      f'algo.estimate={registry.show(c.estimate)} with algo.credit='
      f'{registry.show(c.credit)}: a critic spreads the rewards of turns over '
      "tokens itself. Set algo.credit='outcome'."
    )
  critic = Critic(estimate, c.whiten, c.value_coef, c.value_clip)
  correction = get('correction', 'correction') if c.correction else None
  algorithm = Algorithm(
    credit=credit,
    estimate=estimate,
    surrogate=get('surrogate', 'surrogate'),
    aggregate=get('aggregate', 'aggregate'),
    kl=kl if c.beta > 0 else None,
    kl_weight=float(c.beta),
    entropy_coef=float(c.entropy_coef),
    correction=correction,
    critic=critic if with_critic else None,
    padded=c.turn_statistics == 'padded',
  )
  return algorithm


def supervised(algorithm: Algorithm) -> Algorithm:
  """The same with the loss -log pi of every token whose advantage is 1."""
  return algorithm._replace(
    surrogate=registry.get('surrogate', 'reinforce'),
    correction=None,
    critic=None,
  )


def advantages(
  algorithm: Algorithm, rollout: types.Rollout, score: types.Score
) -> jax.Array:
  """f32[P,G,T]: the advantage of turn k on the tokens of turn k, else 0.

  Credit runs on each trajectory; the estimate on each group, turn by turn,
  among the members whose turn took place (or on all groups at once, see
  `estimators.is_whole_batch`); then each sampled token takes the advantage of
  its turn. With `padded`, members whose game is over stay in the later turns'
  statistics with score 0, as in the official code of ΔBelief-RL; those that
  live on are then compared with an end that costs nothing.
  """
  turns, turn = jnp.asarray(score.turns), jnp.asarray(rollout.turn)
  args, axes = [_credit(algorithm, score), _valid(algorithm, turns)], [-1, -1]
  wanted = estimators.takes(algorithm.estimate)
  if 'length' in wanted:
    of = jnp.arange(turns.shape[-1])[None, None, None]
    length = jnp.sum(turn[..., None] == of, axis=-2).astype(jnp.float32)
    args, axes = [*args, length], [*axes, -1]
  if 'greedy' in wanted:
    greedy = jax.vmap(algorithm.credit, in_axes=(0, None, 0))(
      jnp.asarray(score.greedy), None, jnp.ones(score.greedy.shape, bool)
    )
    args, axes = [*args, greedy], [*axes, -1]
  estimate = algorithm.estimate
  if not estimators.is_whole_batch(estimate):
    estimate = jax.vmap(estimate)
  adv = jax.vmap(estimate, in_axes=tuple(axes), out_axes=-1)(*args)
  return jax.vmap(jax.vmap(_spread))(adv, turn)


def token_weights(
  algorithm: Algorithm,
  method: str,
  rollout: types.Rollout,
  score: types.Score,
) -> np.ndarray:
  """f32[P,G,T]: what multiplies -log pi of a token, up to the surrogate.

  The advantage for method 'rl', and 1 for the others, of which 'rejection'
  counts correct rows only. A critic's advantages come later, see
  `learner.train_step.prepare`: here they are the rewards at the ends of turns.
  """
  if method == 'rl':
    if algorithm.critic is not None:
      return np.asarray(turn_rewards(rollout, score))
    return np.asarray(advantages(algorithm, rollout, score))
  kept = np.asarray(score.verdict) == Verdict.CORRECT
  if method != 'rejection':
    kept = np.ones_like(kept)
  sampled = np.asarray(rollout.turn) >= 0
  return (sampled & kept[..., None]).astype(np.float32)


def turn_rewards(rollout: types.Rollout, score: types.Score) -> jax.Array:
  """f32[P,G,T]: the reward of each turn on that turn's last token, else 0."""
  turn = jnp.asarray(rollout.turn)
  after = jnp.pad(turn[..., 1:], [(0, 0)] * 2 + [(0, 1)], constant_values=-1)
  spread = jax.vmap(jax.vmap(_spread))(jnp.asarray(score.reward), turn)
  # A turn's tokens are contiguous: its last one is followed by another turn's.
  return jnp.where((turn >= 0) & (after != turn), spread, 0.0)


def informative(algorithm: Algorithm, score: types.Score) -> jax.Array:
  """bool[P]: in some turn, two members that took it have different scores.

  The other groups are what `frac_reward_zero_std` counts. They have no
  gradient under a group-relative estimator without kl; under `reinforce`,
  `psr`, `nsr`, `weighted_reinforce`, `reinforce_plus_plus`, `remax`, or with a
  kl, an entropy bonus or a critic, they may have one.
  """
  by_turn = jax.vmap(masked.has_spread, in_axes=-1)
  credit = _credit(algorithm, score)
  valid = _valid(algorithm, jnp.asarray(score.turns))
  return jnp.any(jax.vmap(by_turn)(credit, valid), axis=-1)


def reaches_every_token(algorithm: Algorithm) -> bool:
  """Whether tokens with advantage 0 may have a gradient too."""
  return (
    algorithm.kl is not None
    or algorithm.entropy_coef != 0
    or algorithm.critic is not None
  )


def loss(
  algorithm: Algorithm,
  logp: jax.Array,
  batch: types.Batch,
  *,
  entropy: jax.Array | None = None,
  value: jax.Array | None = None,
  divergence: jax.Array | None = None,
) -> tuple[Ratio, dict[str, Ratio]]:
  """The loss and its metrics on some rows, not yet divided.

    surrogate + kl_weight kl - entropy_coef H + critic.coef value_loss

  per token, then the aggregate. logp f32[B,T] are the current policy's
  log-probs of `batch.tokens`, entropy its H there, value the critic's.
  `divergence`, from a teacher, takes the surrogate's place. All results add
  over micro-batches. For the gradient of the whole batch, divide each
  micro-batch's `num` by `loss_denominator` of the *whole* batch's mask, never
  by its own `den`, and sum. Metrics are summed likewise, and divided at the end
  by `ratio.divide`. They are the surrogate's and, where there is such a term,
  'kl', 'critic/loss', 'divergence': means over trained tokens.

  Raises:
    ValueError: a term whose input is missing.
  """
  mask = batch.mask
  args = (logp, batch.logp_old, batch.adv, mask)
  if surrogates.choose(algorithm.surrogate) is not None:
    args = (*args, batch.chosen)
  per_token, metrics = algorithm.surrogate(*args)

  def add(name, weight, x):
    total = jnp.sum(masked.keep(jax.lax.stop_gradient(x), mask))
    metrics[name] = Ratio(total, masked.count(mask))
    return weight * x

  metrics = dict(metrics)
  if divergence is not None:
    per_token = add('divergence', 1.0, masked.keep(divergence, mask))
  if algorithm.kl is not None:
    if batch.logp_ref is None:
      raise ValueError(
        f'kl_weight={algorithm.kl_weight} needs batch.logp_ref: compute the '
        "reference's log-probs, or set beta=0."
      )
    kl = algorithm.kl(
      masked.keep(logp, mask), masked.keep(batch.logp_ref, mask)
    )
    per_token += add('kl', algorithm.kl_weight, kl)
  if algorithm.entropy_coef:
    if entropy is None:
      raise ValueError(
        f'entropy_coef={algorithm.entropy_coef} needs the entropy of the '
        'policy at each token: pass it, or set entropy_coef=0.'
      )
    per_token -= algorithm.entropy_coef * masked.keep(entropy, mask)
  if algorithm.critic is not None:
    if value is None or batch.value is None or batch.returns is None:
      raise ValueError(
        'A critic needs value, batch.value and batch.returns: see step.prepare.'
      )
    error = value_ops.value_loss(
      value, batch.value, batch.returns, mask, clip=algorithm.critic.clip
    )
    per_token += add('critic/loss', algorithm.critic.coef, error)
  return algorithm.aggregate(per_token, mask), metrics


def loss_denominator(algorithm: Algorithm, mask: jax.Array) -> jax.Array:
  """f32[]: what the summed `num` of `loss` is divided by, from bool[B,T].

  Give it the mask of every row that was sampled, those of skipped groups
  too: then skipping groups without gradient leaves the gradient as it was. It
  is 0 if nothing is trained; `ratio.divide` returns 0 for that.
  """
  zeros = jnp.zeros(mask.shape, jnp.float32)
  return algorithm.aggregate(zeros, mask).den


def _valid(algorithm, turns):
  """bool[P,G,K]: who counts in the statistics of a turn."""
  if not algorithm.padded:
    return turns
  reached = jnp.any(turns, axis=-2, keepdims=True)  # by someone
  return reached & jnp.any(turns, axis=-1, keepdims=True)


def _credit(algorithm, score):
  """f32[P,G,K]"""
  turns = jnp.asarray(score.turns)
  by_row = jax.vmap(jax.vmap(algorithm.credit))
  belief = None if score.belief is None else jnp.asarray(score.belief)
  return by_row(jnp.asarray(score.reward), belief, turns)


def _spread(adv, turn):
  """[K], i32[T] -> [T]"""
  return jnp.where(turn >= 0, adv[jnp.maximum(turn, 0)], 0.0)
