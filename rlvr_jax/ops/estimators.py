"""Advantage estimators: GRPO, RLOO and others, from one group's scores.

An estimator has the form

  estimator(score [G], valid bool[G]) -> f32[G]

The G members are completions of the same prompt; `valid` marks those that
count. Only valid members enter the statistics and invalid ones get exactly 0;
values at invalid positions, even NaN, never affect the result. Scores are
converted to float32 (integers and bools too).

Some take a third positional parameter (see `takes`):

  length [G]    number of trained tokens of each member; None: all equal
  greedy []     score of a greedily decoded completion of the same prompt
  surprise [G]  sum of (1 - p_t)^2 over the trained tokens of each member, with
                the sampler's probabilities p_t; None: all equal

Some use all groups of a batch (see `is_whole_batch`): they take score, valid
and length of shape [P,G], or [G] for a batch of one group, and are not vmapped
over groups. Those that always do are in `estimators_batch`.

The group-relative estimators (`dr_grpo`, `rloo`, `grpo`, `opo`, `pass_at_k`,
`gpg`, and `max_rl` as its authors run it) give exactly 0 to an all-equal group
of any float value, to a group with one valid member, and to an empty one.
`reinforce`, `baseline`, `psr`, `nsr`, `weighted_reinforce` and `remax` treat
each member on its own. A NaN among valid members propagates: refuse it where
rewards are computed.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real, Shaped

from rlvr_jax import registry, types
from rlvr_jax.ops import masked


def whole_batch(**options: object) -> Callable[[Callable], Callable]:
  """Decorator: marks an estimator that uses all groups of a batch.

  With options, the mark holds only where exactly these are bound; none may be
  a default value.
  """

  def mark(estimate):
    estimate.whole_batch = options
    return estimate

  return mark


def is_whole_batch(estimate: Callable) -> bool:
  """Whether it takes [P,G] and must not be vmapped over groups.

  `functools.partial`s are unwrapped.
  """
  bound: dict[str, Any] = {}
  while isinstance(estimate, functools.partial):
    bound = estimate.keywords | bound
    estimate = estimate.func
  options = getattr(estimate, 'whole_batch', None)
  return options is not None and options.items() <= bound.items()


def takes(estimate: Callable) -> frozenset[str]:
  """Which of 'length', 'greedy', 'surprise' an estimator takes, besides.

  An estimator has them in this order, after score and valid.
  """
  parameters = inspect.signature(estimate).parameters
  return frozenset({'length', 'greedy', 'surprise'} & parameters.keys())


@registry.register('estimator')
def reinforce(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i: no baseline (Williams 1992).

  An all-equal group still has a gradient.
  """
  return masked.keep(score, valid)


@registry.register('estimator')
def baseline(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  value: float | int,
) -> Float[Array, 'G']:
  """A_i = r_i - value: a constant baseline.

  Its expected gradient is exact whatever the value. With 0/1 rewards, 0 is
  `psr` and 1 is `nsr`; the value of least noise is `signal.best_baseline`,
  which weighs rewards by the squared norms of the rows' gradients. An all-equal
  group still has a gradient.
  """
  return jnp.where(valid, masked.keep(score, valid) - value, 0.0)


@registry.register('estimator')
def dr_grpo(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i - mean(r) (Dr. GRPO, Liu et al. 2025, arXiv:2503.20783).

  Its expected gradient is (G-1)/G times the true one, since r_i is part of its
  own baseline; `rloo` has no such factor. The paper uses it with the aggregate
  `constant(n)`.
  """
  above = masked.above_min(score, valid)
  mean = jnp.sum(above) / jnp.maximum(masked.count(valid), 1.0)
  return jnp.where(valid, above - mean, 0.0)


@registry.register('estimator')
def rloo(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i - mean of the others (Ahmadian et al. 2024, arXiv:2402.14740).

  Computed as G/(G-1) * (r_i - mean(r)), with G the number of valid members.
  Its expected gradient is exact.
  """
  size = masked.count(valid)
  return dr_grpo(score, valid) * (size / jnp.maximum(size - 1.0, 1.0))


@registry.register('estimator')
@whole_batch(scale_rewards='batch')
def grpo(
  score: Shaped[types.Array, '*P G'],
  valid: Bool[types.Array, '*P G'],
  *,
  eps: float | int = 1e-6,
  ddof: int = 1,
  scale_rewards: str = 'group',
) -> Float[Array, '*P G']:
  """A_i = (r_i - mean(r)) / (std(r) + eps) (GRPO, arXiv:2402.03300, eq. 3).

  The paper does not define the std. As in verl: the sample std (ddof=1) and
  eps 1e-6. TRL: ddof=1, eps=1e-4. ddof=0 is the population std, with which
  0/1 rewards of mean a give sqrt((1-a)/a) and -sqrt(a/(1-a)).

  `scale_rewards` chooses the std, as in TRL: over the 'group', over all scores
  of the 'batch' (the mean is still the group's), or 'none', which is `dr_grpo`
  and uses neither eps nor ddof.

  Division by the std amplifies rounding errors: scores 1e-7 apart have
  advantages up to 0.11 with eps=1e-6. Continuous rewards need a larger eps.

  Raises:
    ValueError: eps <= 0, ddof neither 0 nor 1, an unknown scale_rewards.
  """
  if ddof not in (0, 1):
    raise ValueError(
      f'grpo(ddof={ddof}): write 1 (sample std) or 0 (population std).'
    )
  if scale_rewards not in ('group', 'batch', 'none'):
    raise ValueError(
      f'grpo(scale_rewards={registry.show(scale_rewards)}): write group, '
      'batch or none.'
    )
  scale = functools.partial(_scale, 'grpo', eps=eps, ddof=ddof)
  centred = by_group(dr_grpo)(score, valid)
  if scale_rewards == 'none':
    return centred
  if scale_rewards == 'batch':
    return centred / scale(jnp.ravel(score), jnp.ravel(valid))
  scales = by_group(scale)(score, valid)
  return centred / jnp.expand_dims(scales, -1)


@registry.register('estimator')
def opo(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  length: Real[types.Array, 'G'] | None = None,
) -> Float[Array, 'G']:
  """A_i = r_i - sum_j l_j r_j / sum_j l_j (OPO, Hao et al. 2025).

  arXiv:2505.23585: the minimum-variance baseline if the squared norm of a row's
  gradient is proportional to its length l. Without lengths, or with equal ones,
  it is `dr_grpo`. A group without a trained token gives 0.
  """
  if length is None:
    return dr_grpo(score, valid)
  above = masked.above_min(score, valid)
  weight = masked.keep(length, valid)
  total = jnp.sum(weight)
  has_tokens = total > 0
  baseline = jnp.sum(weight * above) / jnp.where(has_tokens, total, 1.0)
  return jnp.where(valid & has_tokens, above - baseline, 0.0)


@registry.register('estimator')
def remax(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  greedy: Shaped[types.Array, ''],
) -> Float[Array, 'G']:
  """A_i = r_i - r_greedy (ReMax, Li et al. 2023, arXiv:2310.10505).

  r_greedy is the score of one greedily decoded completion of the same prompt:
  it does not depend on the members, so the expected gradient is exact. One
  member is enough, and an all-equal group has a gradient unless the greedy
  completion has the same score.
  """
  return jnp.where(valid, masked.keep(score, valid) - masked.real(greedy), 0.0)


@registry.register('estimator')
def psr(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i: trains on correct completions (r = 1) only.

  Positive sample reinforcement (Zhu et al. 2025, arXiv:2506.01347): equals
  `reinforce` for scores 0 and 1. Rows with advantage 0 stay in the denominator
  of the loss; the authors' code removes them from the batch, so that its scale
  changes with the accuracy.
  """
  return masked.keep(score, valid)


@registry.register('estimator')
def nsr(
  score: Shaped[types.Array, 'G'], valid: Bool[types.Array, 'G']
) -> Float[Array, 'G']:
  """A_i = r_i - 1: trains on wrong completions (r = 0) only.

  Negative sample reinforcement (arXiv:2506.01347). Its expected on-policy
  gradient equals that of `psr`, since P(correct) + P(wrong) = 1; they differ by
  finite samples and several updates per batch. Removed rows: see `psr`.
  """
  return weighted_reinforce(score, valid, positive_weight=0.0)


@registry.register('estimator')
def weighted_reinforce(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  positive_weight: float | int = 0.1,
) -> Float[Array, 'G']:
  """A_i = w r_i - (1 - r_i): weight w if correct, -1 if wrong.

  Weighted-REINFORCE (arXiv:2506.01347, section 5). w = 0 is `nsr`; w = 1 is
  REINFORCE on rewards of 1 and -1.

  Raises:
    ValueError: positive_weight negative or not finite.
  """
  if not 0 <= positive_weight < math.inf:
    raise ValueError(
      f'weighted_reinforce(positive_weight={positive_weight}) must be finite '
      'and >= 0; the paper uses 0.1.'
    )
  score = masked.keep(score, valid)
  return jnp.where(valid, positive_weight * score - (1.0 - score), 0.0)


@registry.register('estimator')
def pass_at_k(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  eps: float | int = 1e-6,
) -> Float[Array, 'G']:
  """(r_max - r_second) / (std + eps) for the best member, 0 for the others.

  The pass@k advantage with k = G (arXiv:2503.19595), as verl's `grpo_passk`:
  sample std, eps 1e-6. For scores 0 and 1 it is 0 unless exactly one member is
  correct.

  Raises:
    ValueError: eps <= 0.
  """
  scale = _scale('pass_at_k', score, valid, eps, 1)
  above = jnp.where(valid, masked.above_min(score, valid), -1.0)
  best = jnp.argmax(above)
  rest = jnp.where(jnp.arange(above.shape[0]) == best, -1.0, above)
  # A single valid member has no second best: the gap is 0.
  second = jnp.where(jnp.max(rest) < 0, above[best], jnp.max(rest))
  gap = jnp.maximum(above[best] - second, 0.0)
  return jnp.where(jnp.arange(above.shape[0]) == best, gap / scale, 0.0)


@registry.register('estimator')
def max_rl(
  score: Shaped[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  variant: str = 'official',
  eps: float | int = 1e-6,
) -> Float[Array, 'G']:
  """Maximum-likelihood RL: r_i over the mean reward of the group.

  MaxRL (Tajwar et al. 2026, arXiv:2602.02710) ascends log p, truncated to its
  first T terms: log p = -sum_k (1-p)^k / k, of which T = 1 is the usual
  objective. For rewards of 0 and 1, with mean r:

    'official'   (r_i - mean) / (mean + eps)           T = G - 1
    'uncentred'  r_i / (mean + eps)                    T = G
    'kept'       'official', but -1 in a group whose   T = G
                 members are all wrong

  The expected gradient is q (1 - q^T) times the difference of the mean scores
  of right and wrong completions, q = 1 - p; that of p is pq times it.
  'official' is the authors' code (maxrl in their verl), whose group of one
  keeps its score / eps and is 0 here. 'uncentred' is theorem 2 of the paper,
  'kept' the same with the control variate that the code drops in such groups;
  it has the least noise. Only 'official' gives 0 to every all-equal group.

  Not for rewards that can be negative: a group whose mean is not positive is
  treated as all wrong.

  Raises:
    ValueError: an unknown variant, eps negative.
  """
  if variant not in ('official', 'uncentred', 'kept'):
    raise ValueError(
      f'max_rl(variant={registry.show(variant)}): write official, uncentred or '
      'kept.'
    )
  if not eps >= 0:
    raise ValueError(f'max_rl(eps={eps}) must be >= 0; the authors use 1e-6.')
  kept = masked.keep(score, valid)
  mean = jnp.sum(kept) / jnp.maximum(masked.count(valid), 1.0)
  all_wrong = mean <= 0
  top = kept if variant == 'uncentred' else dr_grpo(score, valid)
  adv = jnp.where(all_wrong, 0.0, top / (jnp.where(all_wrong, 1.0, mean) + eps))
  if variant == 'kept':
    adv = jnp.where(all_wrong & valid, -1.0, adv)
  return adv


def by_group(fn: Callable) -> Callable:
  """fn(score, valid) of [G] arrays, extended to [P,G] by vmap over groups."""

  def apply(score, valid):
    f = fn if valid.ndim == 1 else jax.vmap(fn)
    return f(score, valid)

  return apply


def _scale(name, score, valid, eps, ddof):
  """f32[]: std(r) + eps."""
  if not eps > 0:
    raise ValueError(f'{name}(eps={eps}): eps must be > 0; verl uses 1e-6.')
  centred = dr_grpo(score, valid)
  divisor = jnp.maximum(masked.count(valid) - ddof, 1.0)
  variance = jnp.sum(jnp.square(centred)) / divisor
  # The gradient of sqrt at 0 is infinite, so 0 is replaced before it.
  flat = variance == 0
  std = jnp.where(flat, 0.0, jnp.sqrt(jnp.where(flat, 1.0, variance)))
  return std + eps
