"""Rewards and advantages of a group that a judge compares in pairs.

SERL (arXiv 2511.07922; code AlwaysOu/SERL, commit d32c960): all pairs, rewards
of those who answer and of those who judge. BRPO (Writing-Zero, arXiv
2506.00103): all against one member of the group.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from rlvr_jax import types

RULES = ('unanimous', 'majority')
# Shares of wins that are closer are equal: float32 sums in another order.
_EQUAL = 1e-6


def serl_rewards(
  wins: Shaped[types.Array, 'G G K'],
  lengths: Shaped[types.Array, 'G'] | None,
  alpha: float | int = 0.2,
) -> tuple[Float[Array, 'G'], Float[Array, 'G G K']]:
  """The rewards of G answers, and of the judgments that compared them.

    R_A(n) = 1 / ((G - 1) K) sum over judgments that n won of omega(n, loser)
    omega(w, l) = |l| / |w| if (1 - alpha) |l| < |w| < (1 + alpha) |l|, else 0
    R_J = sign(R_A(winner) - R_A(loser)), -1 for an unreadable judgment

  A pair has K judgments, half of them with either answer shown first, so that
  a preference for a place cancels. The denominator stays when some are
  unreadable. Without lengths omega is 1, R_A lies in [0, 1] and sums to G/2 if
  all are readable. With them a win outside the band is worth nothing and one of
  a shorter answer up to 1 / (1 - alpha); R_A may then rank a pair against all
  its judgments, which R_J punishes, as in the code.

  Args:
    wins: wins[i, j, k] is 1 if judgment k of the pair prefers i, -1 if j, 0 if
      it is unreadable. Of a pair both sides are given, wins[j, i] =
      -wins[i, j], or one and zeros. The diagonal is not read.
    lengths: of the answers, words in the code; None: no rule on lengths.
    alpha: half the width of the band, in [0, 1].

  Returns:
    R_A and R_J. R_J[j, i] = R_J[i, j]; it is 0 for equal shares and on the
    diagonal.

  Raises:
    ValueError: alpha outside [0, 1].
  """
  if not 0 <= alpha <= 1:
    raise ValueError(f'serl_rewards: alpha={alpha} must lie in [0, 1].')
  wins = jnp.asarray(wins)
  g, _, k = wins.shape
  off = ~jnp.eye(g, dtype=bool)[:, :, None]
  wins = jnp.where(off, wins, 0)
  swap = lambda x: jnp.swapaxes(x, 0, 1)
  wins = jnp.where(wins == 0, -swap(wins), wins)  # given on one side alone
  omega = jnp.ones((g, g, 1), jnp.float32)
  if lengths is not None:
    size = jnp.asarray(lengths).astype(jnp.float32)
    winner, loser = size[:, None, None], size[None, :, None]
    inside = (1 - alpha) * loser < winner
    inside = inside & (winner < (1 + alpha) * loser)
    omega = jnp.where(inside, loser / jnp.where(inside, winner, 1.0), 0.0)
  won = (wins > 0).astype(jnp.float32) + (swap(wins) < 0)
  actor = (omega * won / 2).sum((1, 2)) / max((g - 1) * k, 1)
  gap = actor[:, None] - actor[None, :]
  order = jnp.where(jnp.abs(gap) < _EQUAL, 0.0, jnp.sign(gap))[:, :, None]
  judge = jnp.where(wins == 0, -1.0, jnp.sign(wins) * order)
  return actor, jnp.where(off, judge, 0.0)


def brpo_advantages(
  wins_vs_reference: Shaped[types.Array, '*S'],
  reference: Int[types.Array, ''] | int,
  tau: float | int = 0.6,
  *,
  rule: str = 'unanimous',
) -> tuple[Float[Array, 'G'], Bool[Array, '']]:
  """Advantages against one member, and whether the group is kept.

    A_i = 1 if answer i beats the reference, else -1; 0 for the reference
    kept unless |sum_i A_i| / G > tau

  They are not normalised. Of an antisymmetric judge they average to 0 over the
  choice of the reference; for one reference they do not, and the filter drops
  groups that a very good or bad reference skews. Draw it after sampling, one
  for the group.

  Args:
    wins_vs_reference: [G], or [G,K] of K judgments (votes in both orders): 1 if
      the answer is preferred to the reference, -1 if not, 0 if unreadable.
    reference: its index in the group; what stands there is not read.
    tau: in [0, 1]; the paper's is .6.
    rule: 'unanimous', the default: all K judgments prefer the answer, as two
      readings of the paper say; it errs towards -1. 'majority': more prefer it
      than do not.

  Raises:
    ValueError: tau or rule out of range, no [G] or [G,K].
  """
  if not 0 <= tau <= 1 or rule not in RULES:
    raise ValueError(
      f'brpo_advantages: tau={tau} must lie in [0, 1], rule={rule!r} must be '
      f'one of {", ".join(RULES)}.'
    )
  wins = jnp.asarray(wins_vs_reference)
  if wins.ndim not in (1, 2):
    raise ValueError(
      f'brpo_advantages: wins {wins.shape} must be [G] or [G,K].'
    )
  wins = wins.reshape(len(wins), -1)
  won = wins.sum(-1) > 0 if rule == 'majority' else (wins > 0).all(-1)
  adv = jnp.where(won, 1.0, -1.0)
  adv = jnp.where(jnp.arange(len(wins)) == reference, 0.0, adv)
  # |sum| and G are whole numbers: compared without a rounded quotient.
  kept = jnp.abs(adv.sum()) <= np.float32(tau * len(wins) + 1e-4)
  return adv, kept
