"""The loss: surrogate, kl, entropy, value, distillation; of pairs or scores."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from rlvr_jax import types
from rlvr_jax.algorithm import Algorithm
from rlvr_jax.ops import distill as distills
from rlvr_jax.ops import masked
from rlvr_jax.ops import preference as preferences
from rlvr_jax.ops import reward_loss as reward_losses
from rlvr_jax.ops import surrogate as surrogates
from rlvr_jax.ops import value as value_ops
from rlvr_jax.ops.distillation import Comparison
from rlvr_jax.ops.ratio import Ratio, divide


def reaches_every_token(algorithm: Algorithm) -> bool:
  """Whether tokens with advantage 0 may have a gradient."""
  return (
    algorithm.kl is not None
    or algorithm.entropy_coef != 0
    or algorithm.critic is not None
  )


def trained(algorithm: Algorithm, batch: types.Batch) -> types.Array:
  """bool[B,T]: tokens that the loss is a mean over: of the mask, all.

  Or those with a teacher, where only a teacher says anything.
  """
  distill = algorithm.distill
  everything = distill is None or distill.outcome
  return batch.mask if everything else batch.mask & batch.taught


def may_have_gradient(algorithm: Algorithm, batch: types.Batch) -> types.Array:
  """bool[B,T]: tokens of the mask whose loss may have a gradient."""
  if reaches_every_token(algorithm):
    return trained(algorithm, batch)
  distill, live = algorithm.distill, batch.mask & (batch.adv != 0)
  if distill is None:
    return live
  if not distill.outcome:
    return trained(algorithm, batch)
  return live | (batch.taught & distill.everywhere)


def loss(
  algorithm: Algorithm,
  logp: jax.Array,
  batch: types.Batch,
  *,
  entropy: jax.Array | None = None,
  value: jax.Array | None = None,
  compared: Comparison | None = None,
  scale: jax.Array | None = None,
  group: int = 1,
) -> tuple[Ratio, dict[str, Ratio]]:
  """The loss and its metrics on rows [B,T], as Ratios divided later.

    surrogate + kl_weight kl - entropy_coef H + critic.coef value_loss

  per token, then the aggregate. logp f32[B,T] are the current policy's
  log-probs of `batch.tokens`, entropy its H there, value the critic's values.
  With `algorithm.distill` a teacher, with whom the policy was `compared`,
  changes the advantages or adds its divergence, a mean over the tokens of
  `batch.taught`: see `ops.distill`; None if no token here is taught. A
  preference replaces all of it: see `_of_pairs`; so does a reward loss: see
  `_of_scores`. They need `group`, the rows of a group. All results add over
  micro-batches. For the gradient of the whole batch, divide each micro-batch's
  `num` by `loss_denominator` of the *whole* batch, never by its own `den`, and
  sum. Metrics are summed likewise and divided at the end by `ratio.divide`.
  They are the surrogate's and, if the loss has the term, 'kl' and
  'critic/loss': means over trained tokens. With a teacher, over its tokens
  (with `reweight` those with an advantage), 'divergence', 'teacher/entropy' and
  'teacher/gap', log q - log p.

  Args:
    scale: `taught_scale` of the whole batch; None: this is all of it.

  Raises:
    ValueError: a term whose input is missing.
  """
  if algorithm.reward_loss is not None:
    return _of_scores(algorithm.reward_loss, value, batch, group)
  if algorithm.preference is not None:
    return _of_pairs(algorithm, logp, batch, group)
  mask, adv, distill = batch.mask, batch.adv, algorithm.distill
  taught = batch.taught
  if distill is not None:
    if compared is None:
      zeros = jnp.zeros(mask.shape, jnp.float32)
      compared, taught = Comparison(zeros, zeros, zeros), zeros > 0
    elif not distill.everywhere:
      # The teacher does not judge the groups that are skipped, so metrics of
      # the others of a micro-batch would depend on which share one.
      taught = taught & (adv != 0)
    adv = distills.reshaped(distill, adv, logp, compared.logq, taught, mask)
  args: tuple[Any, ...] = (logp, batch.logp_old, adv, mask)
  if surrogates.choose(algorithm.surrogate) is not None:
    args = (*args, batch.chosen)
  per_token, metrics = algorithm.surrogate(*args)

  def add(name, weight, x):
    total = jnp.sum(masked.keep(jax.lax.stop_gradient(x), mask))
    metrics[name] = Ratio(total, masked.count(mask))
    return weight * x

  metrics = dict(metrics)
  if distill is not None:
    metrics |= _of_teacher(compared, logp, taught)
    if not (distill.outcome or distill.reshape):
      per_token = jnp.zeros_like(per_token)
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
        'A critic needs value, batch.value and batch.returns: see '
        'learner.train_step.prepare.'
      )
    error = value_ops.value_loss(
      value, batch.value, batch.returns, mask, clip=algorithm.critic.clip
    )
    per_token += add('critic/loss', algorithm.critic.coef, error)
  out = algorithm.aggregate(per_token, trained(algorithm, batch))
  if distill is not None and distill.weight:
    weighted = distills.weighted(
      distill, compared.divergence, logp, batch.logp_old, taught
    )
    scale = taught_scale(algorithm, batch) if scale is None else scale
    num = algorithm.aggregate(weighted, taught).num
    out = Ratio(out.num + distill.weight * scale * num, out.den)
  return out, metrics


def _of_teacher(
  compared: Comparison, logp: jax.Array, taught: types.Array
) -> dict[str, Ratio]:
  """Metrics of a teacher's tokens."""
  tokens = masked.count(taught)
  mean = lambda x: Ratio(
    jnp.sum(masked.keep(jax.lax.stop_gradient(x), taught)), tokens
  )
  return {
    'divergence': mean(compared.divergence),
    'teacher/entropy': mean(compared.entropy),
    'teacher/gap': mean(compared.logq - logp),
  }


def taught_scale(algorithm: Algorithm, batch: types.Batch) -> jax.Array:
  """f32[]: the loss's denominator over that of a teacher's tokens alone.

  The two terms of a loss are then divided by one number, that of
  `loss_denominator`, and each is a mean over its own tokens. 0 without any.
  """
  if algorithm.distill is None or not algorithm.distill.weight:
    return jnp.float32(0)
  zeros = jnp.zeros(batch.mask.shape, jnp.float32)
  whole, taught = (
    algorithm.aggregate(zeros, m).den
    for m in (trained(algorithm, batch), batch.taught)
  )
  return divide(Ratio(whole, taught))


def loss_denominator(
  algorithm: Algorithm, batch: types.Batch, *, group: int = 1
) -> jax.Array:
  """Denominator f32[] of the summed `num` of `loss`: of tokens, rows or pairs.

  Pass every sampled row [B,T], skipped groups included: then skipping groups
  without gradient does not change the gradient. It is 0 if nothing is trained,
  for which `ratio.divide` returns 0.

  Args:
    group: rows of a group; for a preference or a reward loss.
  """
  if algorithm.reward_loss is not None:
    _, label, _, valid = _scored(batch.adv, batch, group)
    if reward_losses.of_rows(algorithm.reward_loss):
      return masked.count(valid)
    return masked.count(jax.vmap(preferences.pairs)(label, valid))
  if algorithm.preference is not None:
    return masked.count(jax.vmap(algorithm.pairs)(*_ranks(batch, group)))
  zeros = jnp.zeros(batch.mask.shape, jnp.float32)
  return algorithm.aggregate(zeros, trained(algorithm, batch)).den


def _of_pairs(
  algorithm: Algorithm, logp: jax.Array, batch: types.Batch, group: int
) -> tuple[Ratio, dict[str, Ratio]]:
  """Loss and metrics of the pairs in the groups of rows [B,T].

  They are those that `algorithm.pairs` makes of the advantages of a group; rows
  without a trained token are in no pair. Log-probs are sums over the
  trained tokens of a row.
  """

  def total(x):
    return jnp.sum(masked.keep(x, batch.mask), -1).reshape(-1, group)

  rank, valid = _ranks(batch, group)
  ref = None if batch.logp_ref is None else total(batch.logp_ref)
  length = total(jnp.ones(batch.mask.shape, jnp.float32))
  of_group = functools.partial(
    preferences.of_group, algorithm.preference, select=algorithm.pairs
  )
  parts = jax.vmap(of_group)(total(logp), ref, length, rank, valid)
  return jax.tree.map(lambda x: jnp.sum(x, 0), parts)


def _of_scores(
  reward_loss, value: jax.Array, batch: types.Batch, group: int
) -> tuple[Ratio, dict[str, Ratio]]:
  """Loss and metrics of the scores of rows [B,T]: `reward_loss.of_group`."""
  of_group = functools.partial(reward_losses.of_group, reward_loss)
  parts = jax.vmap(of_group)(*_scored(value, batch, group))
  return jax.tree.map(lambda x: jnp.sum(x, 0), parts)


def _scored(
  value: types.Array, batch: types.Batch, group: int
) -> tuple[jax.Array, ...]:
  """(score, label, margin, whether there is one), [P,G], of rows [B,T].

  A row's score is the value where its advantage, the label, is not 0: see
  `batches.labelled`.
  """
  at = batch.mask & (batch.adv != 0)
  take = lambda x: jnp.sum(masked.keep(x, at), -1).reshape(-1, group)
  valid = jnp.any(at, -1).reshape(-1, group)
  return take(value), take(batch.adv), take(batch.margin), valid


def _ranks(batch: types.Batch, group: int) -> tuple[jax.Array, jax.Array]:
  """(advantage f32[P,G] of each row, whether it has a trained token)."""
  # The largest and not the mean, which rounding would make unequal in rows of
  # equal advantages and unequal lengths.
  highest = jnp.max(batch.adv, -1, where=batch.mask, initial=-jnp.inf)
  valid = jnp.any(batch.mask, -1)
  return highest.reshape(-1, group), valid.reshape(-1, group)
