"""Algorithm: how credit, estimator, surrogate, kl and aggregate compose.

Score --credit--> [K] --estimate--> [G] --spread--> advantages [P,G,T]
Batch --surrogate + kl + entropy + value--> [B,T] --aggregate--> Ratio, which is
in `learner.loss`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import config_limits, registry, types
from rlvr_jax.enums import Verdict
from rlvr_jax.ops import estimators, masked
from rlvr_jax.ops import preference as preferences
from rlvr_jax.ops import surrogate as surrogates
from rlvr_jax.ops.distill import Distill
from rlvr_jax.ops.divergence import Divergence


class Critic(NamedTuple):
  """Advantages from a value head instead of group statistics (PPO)."""

  gae: Callable  # (rewards [T], values [T], mask [T]) -> advantages, returns
  whiten: bool  # normalise advantages over the tokens of the batch
  coef: float  # weight of the value loss
  clip: float  # value clipping range around the old value; 0: none


class Algorithm(NamedTuple):
  """The functions of a method; `ops` defines their signatures."""

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
  preference: Callable | None = None  # loss of pairs; surrogate, kl unused
  pairs: Callable = preferences.pairs  # of the members of a group
  reward_loss: Callable | None = None  # loss of scores; all else unused
  reward_kl: Callable | None = None  # divergence that rewards pay for; a critic
  reward_kl_weight: float = 0.0
  distill: Distill | None = None  # how a teacher enters the loss
  divergence: Divergence | None = None  # what is measured from it

  @property
  def needs_reference(self) -> bool:
    """Whether the loss reads the log-probs of the initial policy."""
    if self.preference is not None:
      return preferences.needs_reference(self.preference)
    return self.kl is not None or self.reward_kl is not None

  @property
  def value_head(self) -> bool:
    """Whether the model has one: for a critic's values, or scores of rows."""
    return self.critic is not None or self.reward_loss is not None


def from_config(c: Any) -> Algorithm:
  """The algorithm of a config's `algo` section.

  Uses the specs `credit`, `estimate`, `surrogate`, `aggregate`, `kl`,
  `reward_kl`, `correction`, `preference`, `reward_loss` and `distill` ('' for
  none), `divergence` for a `distill` that measures one, `pairs`, and the
  numbers `beta` and `reward_beta`, the weights of kl in the loss and of
  reward_kl in the reward, and `entropy_coef`. With a weight of 0 a kl is None
  and needs no reference. The estimate 'gae(...)' needs a critic, whose settings
  are `whiten`, `value_coef` and `value_clip`. `turn_statistics` is 'living' or
  'padded', see `advantages`. With a preference, the estimate is the score minus
  the group's mean: pairs have differences of scores.

  Raises:
    ValueError: a spec that the registry refuses; a weight that is negative or
      not finite, or above 0 without its kl; gae with another credit than
      outcome; a reward_kl without gae; a preference with another term of the
      loss; a distill that leaves a critic, a correction or a selection of
      tokens without the advantages they need.
  """
  numbers = ('beta', 'reward_beta', 'entropy_coef', 'value_coef', 'value_clip')
  config_limits.check(
    {f'algo.{k}': getattr(c, k) for k in (*numbers, 'turn_statistics')}
  )
  if c.beta > 0 and not c.kl:
    raise ValueError(
      f"algo.beta={c.beta} needs a kl, and algo.kl is empty: set algo.kl='k2' "
      "or 'k3', or algo.beta=0."
    )
  if c.reward_beta > 0 and not c.reward_kl:
    raise ValueError(
      f'algo.reward_beta={c.reward_beta} needs a kl, and algo.reward_kl is '
      "empty: set algo.reward_kl='k1', or algo.reward_beta=0."
    )

  def get(kind, key):
    with registry.naming(f'algo.{key}'):
      return registry.get(kind, getattr(c, key))

  kl = get('kl', 'kl') if c.kl else None
  reward_kl = get('kl', 'reward_kl') if c.reward_kl else None
  estimate = get('estimator', 'estimate')
  credit = get('credit', 'credit')
  with_critic = registry.parse(c.estimate)[0] == 'gae'
  if with_critic and registry.parse(c.credit)[0] != 'outcome':
    raise ValueError(
      f'algo.estimate={registry.show(c.estimate)} with algo.credit='
      f'{registry.show(c.credit)}: a critic assigns the rewards of turns to '
      "tokens itself. Set algo.credit='outcome'."
    )
  if c.reward_beta and not with_critic:
    raise ValueError(
      f'algo.reward_beta={c.reward_beta} with algo.estimate='
      f'{registry.show(c.estimate)}: a reward for each token needs a critic. '
      "Set algo.estimate='gae(gamma=1.0, lam=0.95)', or put the kl into the loss "
      'by algo.kl and algo.beta, and algo.reward_beta=0.'
    )
  if c.preference and (with_critic or c.beta or c.entropy_coef or c.correction):
    raise ValueError(
      f'algo.preference={registry.show(c.preference)} is the whole loss, of '
      f'pairs of rows: set algo.beta={c.beta} (it has its own), '
      f'algo.entropy_coef={c.entropy_coef} to 0, algo.correction='
      f"{registry.show(c.correction)} to '' and take no critic as algo.estimate."
    )
  distill, surrogate = None, get('surrogate', 'surrogate')
  divergence = Divergence(sampled=True)  # its gap is all that some uses read
  if c.distill:
    distill = get('distill', 'distill')()
    if distill.weight:
      divergence = get('divergence', 'divergence')()
    _check_distill(c, distill, with_critic, surrogate)
  critic = Critic(estimate, c.whiten, c.value_coef, c.value_clip)
  correction = get('correction', 'correction') if c.correction else None
  preference = get('preference', 'preference') if c.preference else None
  reward_loss = get('reward_loss', 'reward_loss') if c.reward_loss else None
  if preference is not None:
    estimate = registry.get('estimator', 'dr_grpo')
  return Algorithm(
    credit=credit,
    estimate=estimate,
    surrogate=surrogate,
    aggregate=get('aggregate', 'aggregate'),
    kl=kl if c.beta > 0 else None,
    kl_weight=float(c.beta),
    entropy_coef=float(c.entropy_coef),
    correction=correction,
    critic=critic if with_critic else None,
    padded=c.turn_statistics == 'padded',
    preference=preference,
    reward_loss=reward_loss,
    reward_kl=reward_kl if c.reward_beta > 0 else None,
    reward_kl_weight=float(c.reward_beta),
    pairs=get('pairs', 'pairs'),
    distill=distill,
    divergence=None if distill is None else divergence,
  )


def _check_distill(c, distill: Distill, with_critic: bool, surrogate) -> None:
  """ValueError for terms that do not go with this use of a teacher."""
  said = f'algo.distill={registry.show(c.distill)}'
  if c.preference:
    raise ValueError(
      f'{said} with algo.preference={registry.show(c.preference)}, which is '
      "the whole loss: set one of them to ''."
    )
  if with_critic and not distill.outcome:
    raise ValueError(
      f'{said} uses no reward, and algo.estimate={registry.show(c.estimate)} '
      "is a critic of rewards: take 'add' or 'reweight', or another estimate."
    )
  gaps = distill.reshape is not None and distill.everywhere
  if c.correction and (gaps or not distill.outcome):
    raise ValueError(
      f'{said} with algo.correction={registry.show(c.correction)}, which weighs '
      "the advantages of rewards and no teacher's word: set algo.correction='', "
      "and take 'loss(ratio_cap=2.0)', or 'advantage' with a surrogate that has "
      'a ratio, or the uses that keep the outcome, add and reweight.'
    )
  if distill.reshape and surrogates.choose(surrogate) is not None:
    raise ValueError(
      f'{said} changes advantages, by which algo.surrogate='
      f'{registry.show(c.surrogate)} has selected tokens before: take another '
      "surrogate, or 'add'."
    )


def supervised(algorithm: Algorithm) -> Algorithm:
  """The algorithm with the loss -A log pi: cross-entropy where A = 1.

  A preference and a reward loss stay: rows are not the policy's samples there
  either.
  """
  return algorithm._replace(
    surrogate=registry.get('surrogate', 'reinforce'),
    correction=None,
    critic=None,
    reward_kl=None,
    pairs=preferences.pairs,
  )


def advantages(
  algorithm: Algorithm, rollout: types.Rollout, score: types.Score
) -> jax.Array:
  """Advantages f32[P,G,T]: that of turn k on the tokens of turn k, else 0.

  Credit runs on each trajectory; the estimate on each group, turn by turn, over
  the members whose turn took place (or on all groups at once, see
  `estimators.is_whole_batch`); then each sampled token gets the advantage of
  its turn. With `padded`, members whose dialogue has ended stay in the
  statistics of later turns with score 0, as in the official code of ΔBelief-RL;
  the baseline of the others then includes these zeros.
  """
  turns, turn = jnp.asarray(score.turns), jnp.asarray(rollout.turn)
  args, axes = [_credit(algorithm, score), _valid(algorithm, turns)], [-1, -1]
  extra = estimators.takes(algorithm.estimate)
  if 'length' in extra:
    args = [*args, _by_turn(jnp.ones(turn.shape), turn, turns.shape[-1])]
    axes = [*axes, -1]
  if 'greedy' in extra:
    reward = jnp.asarray(score.greedy)
    greedy = jax.vmap(algorithm.credit, in_axes=(0, None, 0))(
      reward, None, jnp.ones(reward.shape, bool)
    )
    args, axes = [*args, greedy], [*axes, -1]
  if 'surprise' in extra:
    missed = jnp.square(1.0 - jnp.exp(jnp.asarray(rollout.logp)))
    args = [*args, _by_turn(missed, turn, turns.shape[-1])]
    axes = [*axes, -1]
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
  """Weights f32[P,G,T] of -log pi in the loss, before the surrogate.

  For method 'rl' the advantages; for 'preference' 1 in the first row of a
  group, the chosen one, and -1 in the second; otherwise 1 on sampled tokens,
  for 'rejection' of correct rows only. With a critic they are the rewards at
  the ends of turns: `learner.train_step.prepare` computes its advantages later.
  """
  if method == 'rl':
    if algorithm.critic is not None:
      return np.asarray(turn_rewards(rollout, score))
    return np.asarray(advantages(algorithm, rollout, score))
  sampled = np.asarray(rollout.turn) >= 0
  if method == 'preference':
    side = np.array([[[1.0], [-1.0]]], np.float32)
    return np.where(sampled, side, np.float32(0))
  trained = np.asarray(score.verdict) == Verdict.CORRECT
  if method != 'rejection':
    trained = np.ones_like(trained)
  return (sampled & trained[..., None]).astype(np.float32)


def turn_rewards(rollout: types.Rollout, score: types.Score) -> jax.Array:
  """Rewards f32[P,G,T]: that of a turn on the turn's last token, else 0."""
  turn = jnp.asarray(rollout.turn)
  after = jnp.pad(turn[..., 1:], [(0, 0)] * 2 + [(0, 1)], constant_values=-1)
  spread = jax.vmap(jax.vmap(_spread))(jnp.asarray(score.reward), turn)
  # A turn's tokens are contiguous: its last one is followed by another turn's.
  return jnp.where((turn >= 0) & (after != turn), spread, 0.0)


def informative(algorithm: Algorithm, score: types.Score) -> jax.Array:
  """bool[P]: groups with spread, two members with different scores in a turn.

  `frac_reward_zero_std` counts the other groups. They have no gradient under a
  group-relative estimator without kl; under `reinforce`, `baseline`, `psr`,
  `nsr`, `weighted_reinforce`, `reinforce_plus_plus`, `surprise_baseline`,
  `remax`, the other variants of `max_rl`, or with a kl, an entropy bonus or a
  critic, they may have one.
  """
  by_turn = jax.vmap(masked.has_spread, in_axes=-1)
  credit = _credit(algorithm, score)
  valid = _valid(algorithm, jnp.asarray(score.turns))
  return jnp.any(jax.vmap(by_turn)(credit, valid), axis=-1)


def _valid(algorithm, turns):
  """bool[P,G,K]: members that count in the statistics of each turn."""
  if not algorithm.padded:
    return turns
  reached = jnp.any(turns, axis=-2, keepdims=True)  # by someone
  return reached & jnp.any(turns, axis=-1, keepdims=True)


def _credit(algorithm, score):
  """Credit of each trajectory, f32[P,G,K]."""
  turns = jnp.asarray(score.turns)
  by_row = jax.vmap(jax.vmap(algorithm.credit))
  belief = None if score.belief is None else jnp.asarray(score.belief)
  return by_row(jnp.asarray(score.reward), belief, turns)


def _by_turn(x, turn, turns):
  """Sums over the tokens of each turn: f32[P,G,T], i32[P,G,T] -> [P,G,K]."""
  index = jnp.arange(turns)[None, None, None]
  return jnp.sum(jnp.where(turn[..., None] == index, x[..., None], 0.0), -2)


def _spread(adv, turn):
  """Values [K] of turns on their tokens: [K], i32[T] -> [T]."""
  return jnp.where(turn >= 0, adv[jnp.maximum(turn, 0)], 0.0)
