"""Losses of reward models: Bradley-Terry of pairs, cross-entropy of rows.

A reward loss has one of two forms. Of N pairs of a row that was preferred to
another one, by their scores, and of N rows, by their scores and labels in
[0, 1]:

  reward_loss(chosen [N], rejected [N]) -> loss f32[N]
  reward_loss(score [N], label [N]) -> loss f32[N]

A score is what the reward model gives to a whole row, any real number. The
first form may take `margins` f32[N] too, also by position and after the two:
by how much each pair's own row should lead, 0 where the data say nothing. Which
form it is, the name of its second parameter says: see `of_rows`.
"""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked
from rlvr_jax.ops import preference as preferences
from rlvr_jax.ops.ratio import Ratio


@registry.register('reward_loss')
def bradley_terry(
  chosen: Float[types.Array, '*N'],
  rejected: Float[types.Array, '*N'],
  margins: Float[types.Array, '*N'] | float = 0.0,
  *,
  margin: float | int = 0.0,
  center: float | int = 0.0,
) -> Float[Array, '*N']:
  """L = -log sigma(d - margin - margins) + center (chosen + rejected)^2.

  With d = chosen - rejected, sigma(d) is the probability that the first row is
  preferred (Bradley and Terry 1952; as a loss Ouyang et al. 2022,
  arXiv:2203.02155, eq. 1). A margin asks for a lead (Llama 2, arXiv:2307.09288,
  eq. 2). d alone leaves the level of the scores open; `center` pulls the mean
  of a pair's scores to 0 (Eisenstein et al. 2023, arXiv:2312.09244, which uses
  0.01), so that scores of different prompts compare and PPO's reward has no
  large constant. dL/dchosen = -sigma(margin + margins - d) + 2 center (chosen +
  rejected). TRL's RewardTrainer has the same loss, with a column `margin` of
  the data and center_rewards_coefficient.

  Args:
    margin: of every pair, besides its own.
    center: weight of the centring term.

  Raises:
    ValueError: margin outside [0, 1e6], or center outside [0, 1e6].
  """
  for name, x in (('margin', margin), ('center', center)):
    if not 0 <= x <= 1e6:
      raise ValueError(
        f'bradley_terry({name}={x}): {name} must be in [0, 1e6]; 0 leaves it '
        'out.'
      )
  chosen, rejected = masked.real(chosen), masked.real(rejected)
  loss = -jax.nn.log_sigmoid(chosen - rejected - margin - margins)
  if center:
    loss = loss + center * jnp.square(chosen + rejected)
  return loss


@registry.register('reward_loss')
def bce(
  score: Float[types.Array, '*N'], label: Float[types.Array, '*N']
) -> Float[Array, '*N']:
  """L = -label log sigma(score) - (1 - label) log sigma(-score).

  Binary cross-entropy: sigma(score) is the probability that the row is good.
  The loss of the meta reward model of DeepSeek-GRM (Liu et al. 2025,
  arXiv:2504.02495, section 4.2), whose rows are judgments and whose labels say
  whether they were correct. The two rows of a pair are labelled 1 and 0.
  dL/dscore = sigma(score) - label.
  """
  score = masked.real(score)
  label = masked.real(label)
  good, bad = jax.nn.log_sigmoid(score), jax.nn.log_sigmoid(-score)
  return -label * good - (1 - label) * bad


def of_rows(reward_loss: Callable) -> bool:
  """Whether it is of rows with labels, and not of pairs."""
  return 'label' in inspect.signature(reward_loss).parameters


def of_group(
  reward_loss: Callable,
  score: Float[types.Array, 'G'],
  label: Float[types.Array, 'G'],
  margin: Float[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
) -> tuple[Ratio, dict[str, Ratio]]:
  """Loss and metrics of a group: sums over its rows or its pairs.

  Pairs are all of a row with a higher and one with a lower label. Metrics are
  means: `rewards/chosen` over rows with a label above 0, `rewards/rejected`
  over the others; `rewards/margins`, the difference of the scores, over pairs;
  `rewards/accuracies`, the share of pairs with a positive difference, or, for a
  loss of rows, of rows whose score is above 0 where their label is, and not
  where it is not.

  Args:
    label: above 0 of a row that should score high, below 0 of one that should
      score low.
    margin: of the pairs in which the row is the chosen one.
    valid: rows that count. What stands at the others, even NaN, never matters.
  """
  score, label, margin = (masked.keep(x, valid) for x in (score, label, margin))
  high, low = valid & (label > 0), valid & (label <= 0)
  which = preferences.pairs(label, valid)
  side = lambda x: jnp.where(which, jnp.broadcast_to(x, which.shape), 0.0)
  chosen, rejected = side(score[:, None]), side(score[None])
  if of_rows(reward_loss):
    each = reward_loss(score, high.astype(jnp.float32))
    loss = Ratio(jnp.sum(jnp.where(valid, each, 0.0)), masked.count(valid))
    right = jnp.where(high, score > 0, score <= 0), valid
  else:
    args = (chosen, rejected)
    if 'margins' in inspect.signature(reward_loss).parameters:
      args = (*args, side(margin[:, None]))
    each = jnp.where(which, reward_loss(*args), 0.0)
    loss = Ratio(jnp.sum(each), masked.count(which))
    right = chosen > rejected, which

  def mean(x, where):
    x = jax.lax.stop_gradient(masked.keep(x, where))
    return Ratio(jnp.sum(x), masked.count(where))

  return loss, {
    'rewards/chosen': mean(score, high),
    'rewards/rejected': mean(score, low),
    'rewards/margins': mean(chosen - rejected, which),
    'rewards/accuracies': mean(*right),
  }
