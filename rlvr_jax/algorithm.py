"""A method is a choice of five small functions; this file composes them.

Score --credit--> [K] --estimate--> [K] --spread--> advantages [P,G,T]
Batch --surrogate (+ kl_weight * kl)--> [B,T] --aggregate--> Ratio
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlvr_jax import registry, types
from rlvr_jax.ops import masked
from rlvr_jax.ops.ratio import Ratio


class Algorithm(NamedTuple):
  """The functions of a method; their forms are in the `ops` files."""

  credit: Callable  # one trajectory: per-turn rewards to scores
  estimate: Callable  # one group: scores to advantages
  surrogate: Callable  # per-token loss
  aggregate: Callable  # per-token loss to a Ratio
  kl: Callable | None  # per-token divergence from the reference
  kl_weight: float


def from_config(c) -> Algorithm:
  """The algorithm that a config section names.

  Reads the specs `credit`, `estimate`, `surrogate`, `aggregate`, `kl` ('' for
  none) and the number `beta`, the weight of kl in the loss. With beta = 0 no
  reference is needed and kl is None.

  Raises:
    ValueError: a spec that the registry refuses; beta negative or not finite;
      beta > 0 without a kl.
  """
  if not (math.isfinite(c.beta) and c.beta >= 0):
    raise ValueError(
      f'beta={c.beta}: the weight of the kl loss must be finite and >= 0.'
    )
  if c.beta > 0 and not c.kl:
    raise ValueError(
      f"beta={c.beta} weighs a kl that is not named: set kl='k2' or 'k3', "
      'or beta=0.'
    )
  kl = registry.get('kl', c.kl) if c.kl else None
  return Algorithm(
    credit=registry.get('credit', c.credit),
    estimate=registry.get('estimator', c.estimate),
    surrogate=registry.get('surrogate', c.surrogate),
    aggregate=registry.get('aggregate', c.aggregate),
    kl=kl if c.beta > 0 else None,
    kl_weight=float(c.beta),
  )


def advantages(
  algorithm: Algorithm, rollout: types.Rollout, score: types.Score
) -> jax.Array:
  """f32[P,G,T]: the advantage of turn k on the tokens of turn k, else 0.

  Credit runs on each trajectory; the estimate on each group, turn by turn,
  among the members whose turn took place; then each sampled token takes the
  advantage of its turn.
  """
  credit = _credit(algorithm, score)
  by_turn = jax.vmap(algorithm.estimate, in_axes=-1, out_axes=-1)
  adv = jax.vmap(by_turn)(credit, jnp.asarray(score.turns))
  return jax.vmap(jax.vmap(_spread))(adv, jnp.asarray(rollout.turn))


def informative(algorithm: Algorithm, score: types.Score) -> jax.Array:
  """bool[P]: in some turn, two members that took it have different scores.

  The other groups are what `frac_reward_zero_std` counts. They have no
  gradient under a group-relative estimator without kl, and may be skipped;
  under `reinforce`, `psr`, `nsr`, `weighted_reinforce`, or with kl_weight > 0,
  they may have one.
  """
  by_turn = jax.vmap(masked.has_spread, in_axes=-1)
  credit = _credit(algorithm, score)
  return jnp.any(jax.vmap(by_turn)(credit, jnp.asarray(score.turns)), axis=-1)


def loss(
  algorithm: Algorithm, logp: jax.Array, batch: types.Batch
) -> tuple[Ratio, dict[str, Ratio]]:
  """The loss and its metrics on some rows, not yet divided.

  logp f32[B,T] are the current policy's log-probs of `batch.tokens`. All
  results add over micro-batches. For the gradient of the whole batch, divide
  each micro-batch's `num` by `loss_denominator` of the *whole* batch's mask,
  never by its own `den`, and sum. Metrics are summed likewise, and divided at
  the end by `ratio.divide`. They are the surrogate's and, where there is a
  kl, 'kl': the mean of that estimator over trained tokens, in nats.

  Raises:
    ValueError: the algorithm has a kl and the batch no logp_ref.
  """
  mask = batch.mask
  per_token, metrics = algorithm.surrogate(
    logp, batch.logp_old, batch.adv, mask
  )
  if algorithm.kl is not None:
    if batch.logp_ref is None:
      raise ValueError(
        f'kl_weight={algorithm.kl_weight} needs batch.logp_ref: compute the '
        "reference's log-probs, or set beta=0."
      )
    kl = algorithm.kl(
      masked.keep(logp, mask), masked.keep(batch.logp_ref, mask)
    )
    per_token += algorithm.kl_weight * kl
    total = jnp.sum(masked.keep(jax.lax.stop_gradient(kl), mask))
    metrics = metrics | {'kl': Ratio(total, masked.count(mask))}
  return algorithm.aggregate(per_token, mask), metrics


def loss_denominator(algorithm: Algorithm, mask: jax.Array) -> jax.Array:
  """f32[]: what the summed `num` of `loss` is divided by, from bool[B,T].

  Give it the mask of every row that was sampled, those of skipped groups
  too: then skipping groups without gradient leaves the gradient as it was. It
  is 0 if nothing is trained; `ratio.divide` returns 0 for that.
  """
  zeros = jnp.zeros(mask.shape, jnp.float32)
  return algorithm.aggregate(zeros, mask).den


def _credit(algorithm, score):
  """f32[P,G,K]"""
  turns = jnp.asarray(score.turns)
  by_row = jax.vmap(jax.vmap(algorithm.credit))
  return by_row(jnp.asarray(score.reward), score.belief, turns)


def _spread(adv, turn):
  """[K], i32[T] -> [T]"""
  return jnp.where(turn >= 0, adv[jnp.maximum(turn, 0)], 0.0)
