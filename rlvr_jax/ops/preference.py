"""Preference losses: DPO, IPO, SimPO, hinge, from the log-probs of pairs.

A preference has the form

  preference(chosen [N], rejected [N], ref_chosen [N], ref_rejected [N])
    -> loss f32[N]

of N pairs of completions y_w, preferred to y_l, of one prompt x each. `chosen`
and `rejected` are log pi(y|x), sums over the tokens of a completion, in nats;
`ref_*` the same under the reference, a constant. Losses are minimised. With

  h = (chosen - ref_chosen) - (rejected - ref_rejected)

all depend on h alone, but `simpo`: a constant added to both completions' log-
probs, of either model, changes nothing. beta sets the scale of the implicit
reward beta (log pi - log pi_ref), in which beta h is the margin of a pair.

One whose `ref_chosen` has a default needs no reference (see `needs_reference`):
then none is loaded. One that takes `chosen_length` and `rejected_length`, also
by position and after the four, gets the numbers of tokens f32[N] (see
`takes_lengths`); left out they are 1, and log-probs are means over tokens
already.

Which members of a group make a pair says a function of kind `pairs`,

  pairs(rank [G], valid [G]) -> bool[G,G]

for the pairs of a step (`algo.pairs`) and those of a file (scripts/pairs.py).
"""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlvr_jax import registry, types
from rlvr_jax.ops import masked
from rlvr_jax.ops.ratio import Ratio


@registry.register('preference')
def dpo(
  chosen: Float[types.Array, '*N'],
  rejected: Float[types.Array, '*N'],
  ref_chosen: Float[types.Array, '*N'],
  ref_rejected: Float[types.Array, '*N'],
  *,
  beta: float | int = 0.1,
  label_smoothing: float | int = 0.0,
) -> Float[Array, '*N']:
  """L = -(1-e) log sigma(beta h) - e log sigma(-beta h), e = label_smoothing.

  With e = 0: DPO (Rafailov et al. 2023, arXiv:2305.18290, eq. 7). With e > 0,
  the probability that a label is wrong: conservative DPO (Mitchell 2023, "A
  note on DPO with noisy preferences", eq. 3), whose minimum is at beta h = log
  ((1-e)/e) and not at infinity. dL/dchosen = -beta (1 - e - sigma(beta h)).

  TRL had this as loss_type 'sigmoid'; in 1.16 that ignores label_smoothing, and
  'robust' takes it, which is `robust` here.

  Raises:
    ValueError: beta outside [1e-6, 1e6], or label_smoothing outside [0, 1/2).
  """
  _check_beta('dpo', beta)
  _check_smoothing('dpo', label_smoothing)
  u = beta * _margin(chosen, rejected, ref_chosen, ref_rejected)
  return (1 - label_smoothing) * _cost(u) + label_smoothing * _cost(-u)


@registry.register('preference')
def robust(
  chosen: Float[types.Array, '*N'],
  rejected: Float[types.Array, '*N'],
  ref_chosen: Float[types.Array, '*N'],
  ref_rejected: Float[types.Array, '*N'],
  *,
  beta: float | int = 0.1,
  label_smoothing: float | int = 0.0,
) -> Float[Array, '*N']:
  """L = [-(1-e) log sigma(beta h) + e log sigma(-beta h)] / (1 - 2e).

  Robust DPO (Chowdhury et al. 2024, arXiv:2403.00409): where each label is
  flipped with probability e, its mean over flips is the loss of `dpo` without
  smoothing on the right labels. For one pair it has no lower bound.

  Raises:
    ValueError: beta outside [1e-6, 1e6], or label_smoothing outside [0, 1/2).
  """
  _check_beta('robust', beta)
  _check_smoothing('robust', label_smoothing)
  u = beta * _margin(chosen, rejected, ref_chosen, ref_rejected)
  e = label_smoothing
  return ((1 - e) * _cost(u) - e * _cost(-u)) / (1 - 2 * e)


@registry.register('preference')
def ipo(
  chosen: Float[types.Array, '*N'],
  rejected: Float[types.Array, '*N'],
  ref_chosen: Float[types.Array, '*N'],
  ref_rejected: Float[types.Array, '*N'],
  chosen_length: Float[types.Array, '*N'] | float = 1.0,
  rejected_length: Float[types.Array, '*N'] | float = 1.0,
  *,
  beta: float | int = 0.1,
  average: bool = False,
) -> Float[Array, '*N']:
  """L = (h - 1 / (2 beta))^2 (Azar et al. 2023, arXiv:2310.12036, eq. 17).

  Its minimum, 0, is at h = 1/(2 beta): labels without a contradiction do not
  push h to infinity as in `dpo`. beta is the paper's tau.

  Args:
    average: h is of log-ratios per token, each divided by the length of its
      completion. TRL does this; the paper's equation does not, and its authors
      told TRL's that its results are of this form. beta must then be larger,
      by about the length, for the same strength.

  Raises:
    ValueError: beta outside [1e-6, 1e6].
  """
  _check_beta('ipo', beta)
  if not average:
    chosen_length = rejected_length = 1.0
  h = _margin(
    chosen, rejected, ref_chosen, ref_rejected, chosen_length, rejected_length
  )
  return jnp.square(h - 1 / (2 * beta))


@registry.register('preference')
def simpo(
  chosen: Float[types.Array, '*N'],
  rejected: Float[types.Array, '*N'],
  ref_chosen: Float[types.Array, '*N'] | None = None,
  ref_rejected: Float[types.Array, '*N'] | None = None,
  chosen_length: Float[types.Array, '*N'] | float = 1.0,
  rejected_length: Float[types.Array, '*N'] | float = 1.0,
  *,
  beta: float | int = 2.0,
  gamma: float | int = 1.0,
) -> Float[Array, '*N']:
  """L = -log sigma(beta (chosen/|y_w| - rejected/|y_l|) - gamma).

  SimPO (Meng et al. 2024, arXiv:2405.14734, eq. 6): log-probs per token,
  a margin gamma of the reward, no reference; ref_* are not looked at. A
  constant added to both log-probs per token changes nothing. The paper searches
  beta from 2.0 to 2.5 and gamma from 0.3 to 1.6; TRL's defaults are those of
  its other losses, beta = 0.1 with gamma = 0.5.

  Raises:
    ValueError: beta outside [1e-6, 1e6], or gamma outside [0, 1e6].
  """
  del ref_chosen, ref_rejected
  _check_beta('simpo', beta)
  if not 0 <= gamma <= 1e6:
    raise ValueError(
      f'simpo(gamma={gamma}): gamma, the margin that the chosen completion must '
      'lead by, must be in [0, 1e6].'
    )
  h = _margin(chosen, rejected, 0.0, 0.0, chosen_length, rejected_length)
  return _cost(beta * h - gamma)


@registry.register('preference')
def hinge(
  chosen: Float[types.Array, '*N'],
  rejected: Float[types.Array, '*N'],
  ref_chosen: Float[types.Array, '*N'],
  ref_rejected: Float[types.Array, '*N'],
  *,
  beta: float | int = 0.1,
) -> Float[Array, '*N']:
  """L = max(0, 1 - beta h): 0, without a gradient, from a margin of 1 on.

  The hinge loss of SLiC-HF (arXiv:2305.10425) on the reward of DPO, as in RSO
  (Liu et al. 2023, arXiv:2309.06657) and TRL.

  Raises:
    ValueError: beta outside [1e-6, 1e6].
  """
  _check_beta('hinge', beta)
  u = beta * _margin(chosen, rejected, ref_chosen, ref_rejected)
  return jnp.maximum(0.0, 1.0 - u)


def needs_reference(preference: Callable) -> bool:
  """Whether it compares with a reference: `ref_chosen` has no default."""
  ref = inspect.signature(preference).parameters['ref_chosen']
  return ref.default is ref.empty


def takes_lengths(preference: Callable) -> bool:
  """Whether it takes the numbers of tokens of both completions."""
  return 'chosen_length' in inspect.signature(preference).parameters


@registry.register('pairs', 'all')
def pairs(
  rank: Float[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  margin: float | int = 0.0,
  cap: int = 0,
) -> Bool[Array, 'G G']:
  """Whether member i of a group is preferred to member j: a higher rank.

  Both must be valid. Equal ranks make no pair.

  Args:
    rank, valid: of the G members; ranks are scores, in any unit.
    margin: least difference of the ranks, up to a relative 1e-6 for rounding.
    cap: most pairs, those of the largest differences; of equal ones the first
      by i, then by j. 0: all.

  Raises:
    ValueError: margin or cap is negative.
  """
  if not (0 <= margin < float('inf') and cap >= 0):
    raise ValueError(f'margin={margin} and cap={cap} must be 0 or more.')
  valid = jnp.asarray(valid)
  rank = masked.keep(rank, valid)
  gap = rank[:, None] - rank[None]
  which = (gap > 0) & (gap >= margin * (1 - 1e-6))
  which &= valid[:, None] & valid[None]
  if 0 < cap < which.size:
    first = jax.lax.top_k(jnp.where(which, gap, 0.0).reshape(-1), cap)[1]
    kept = jnp.zeros(which.size, bool).at[first].set(True)
    which &= kept.reshape(which.shape)
  return which


@registry.register('pairs')
def best_worst(
  rank: Float[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  *,
  margin: float | int = 0.0,
) -> Bool[Array, 'G G']:
  """The one pair of `pairs` with the largest difference, if there is one."""
  return pairs(rank, valid, margin=margin, cap=1)


def of_group(
  preference: Callable,
  logp: Float[types.Array, 'G'],
  logp_ref: Float[types.Array, 'G'] | None,
  length: Float[types.Array, 'G'],
  rank: Float[types.Array, 'G'],
  valid: Bool[types.Array, 'G'],
  select: Callable = pairs,
) -> tuple[Ratio, dict[str, Ratio]]:
  """Loss and metrics of a group: sums over its pairs, and their number.

  Metrics are those of TRL, means over pairs: `rewards/{chosen,rejected}`, the
  implicit reward beta (log pi - log pi_ref), or beta log pi / length without a
  reference; `rewards/margins`, their difference; `rewards/accuracies`, the
  share in which it is positive; `logps/{chosen,rejected}`, sums over tokens.

  Args:
    logp, logp_ref: log-probs of the G completions; None without a reference.
    length: their numbers of tokens.
    rank, valid: see `pairs`. Values at members that are not valid, even NaN,
      never matter.
    select: which pairs, of kind 'pairs'.
  """
  which = select(rank, valid)
  shape = which.shape

  def both(x):
    """Of the chosen and of the rejected member, [G,G], 0 where no pair is."""
    x = masked.keep(x, valid)
    side = lambda y: jnp.where(which, jnp.broadcast_to(y, shape), 0.0)
    return side(x[:, None]), side(x[None])

  lengths = both(jnp.maximum(jnp.asarray(length), 1.0))
  per_token = [jnp.where(which, x, 1.0) for x in lengths]
  ours = both(logp)
  ref = None if logp_ref is None else both(jax.lax.stop_gradient(logp_ref))
  if ref is None and needs_reference(preference):
    raise ValueError(
      'This preference compares with a reference, and there are no log-probs '
      'of one: compute logp_ref, or take simpo, which needs none.'
    )
  args = [*ours, *((None, None) if ref is None else ref)]
  if takes_lengths(preference):
    args += per_token
  loss = jnp.where(which, preference(*args), 0.0)

  beta = _beta(preference)
  reward = []
  for i in range(2):
    x = jax.lax.stop_gradient(ours[i])
    if needs_reference(preference):
      x = x - ref[i]
    elif takes_lengths(preference):
      x = x / per_token[i]
    reward.append(beta * x)
  count = masked.count(which)
  mean = lambda x: Ratio(
    jnp.sum(jnp.where(which, jax.lax.stop_gradient(x), 0.0)), count
  )
  metrics = {
    'rewards/chosen': mean(reward[0]),
    'rewards/rejected': mean(reward[1]),
    'rewards/margins': mean(reward[0] - reward[1]),
    'rewards/accuracies': mean((reward[0] > reward[1]).astype(jnp.float32)),
    'logps/chosen': mean(ours[0]),
    'logps/rejected': mean(ours[1]),
  }
  return Ratio(jnp.sum(loss), count), metrics


def _beta(preference: Callable) -> float:
  """Its option beta; 1 for one that has none."""
  option = inspect.signature(preference).parameters.get('beta')
  return 1.0 if option is None else option.default


def _margin(
  chosen,
  rejected,
  ref_chosen,
  ref_rejected,
  chosen_length=1.0,
  rejected_length=1.0,
) -> jax.Array:
  """h, of log-ratios divided by the lengths, at least float32."""
  first = (masked.real(chosen) - ref_chosen) / chosen_length
  return first - (masked.real(rejected) - ref_rejected) / rejected_length


def _cost(u: jax.Array) -> jax.Array:
  """-log sigma(u), without overflow: log(1 + exp(-u))."""
  return -jax.nn.log_sigmoid(u)


def _check_beta(name: str, beta: float) -> None:
  if not 1e-6 <= beta <= 1e6:  # beyond it float32 overflows
    raise ValueError(
      f'{name}(beta={beta}): beta, the scale of the implicit reward, must be in '
      '[1e-6, 1e6]; 0.1 is usual.'
    )


def _check_smoothing(name: str, e: float) -> None:
  if not 0 <= e < 0.5:
    raise ValueError(
      f'{name}(label_smoothing={e}): the share of wrong labels must be in '
      '[0, 0.5); swap chosen and rejected if more than half are wrong.'
    )
