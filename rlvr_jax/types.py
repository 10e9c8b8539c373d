"""Rollout, Score, Batch, TrainState: the records passed between stages.

They hold arrays only, no functions. Letters: P prompts, G samples per prompt,
B = P*G rows, K turns, T tokens of a row. Rows are right-padded;
`logp[..., t]` belongs to `tokens[..., t]`.
"""

import dataclasses
import math
import typing
from typing import Any, Self

import jax
import numpy as np

Array = jax.Array | np.ndarray
T = typing.TypeVar('T')


@typing.dataclass_transform(frozen_default=True)
def _struct(cls: type[T]) -> type[T]:
  """Decorator: a frozen dataclass that is a pytree."""
  return jax.tree_util.register_dataclass(
    dataclasses.dataclass(frozen=True)(cls)
  )


class _Record:
  """Base of the records."""

  def replace(self, **changes: Any) -> Self:
    """A copy with some fields changed."""
    return dataclasses.replace(self, **changes)  # type: ignore[type-var]


@_struct
class Rollout(_Record):
  """Sampled token rows."""

  tokens: Array  # i32[P,G,T] prompt and samples, exactly as sampled
  length: Array  # i32[P,G]   tokens in the row without padding
  turn: Array  # i32[P,G,T] turn of a sampled token, -1 elsewhere
  logp: Array  # f32[P,G,T] sampler's log-prob, 0 where turn < 0
  stop: Array  # i32[P,G]   an `enums.Stop`


@_struct
class Score(_Record):
  """Rewards of a rollout; a record of its own, since it can be recomputed."""

  reward: Array  # f32[P,G,K]   reward at the end of turn k
  turns: Array  # bool[P,G,K]  turn k took place
  belief: Array | None  # f32[P,G,K+1] log p(truth) before turn 0 and after each
  verdict: Array  # i32[P,G]     an `enums.Verdict`; never shaped or weighted
  greedy: Array | None = None  # f32[P,K]  reward of greedy decoding (ReMax)
  margin: Array | None = None  # f32[P,G]  lead that a row should have (pairs)


@_struct
class Lesson(_Record):
  """What a teacher judges in a rollout; beside it, as it is no sample."""

  taught: Array  # bool[P,G,T] sampled tokens that it judges
  # i32[P,G,T+C] and i32[P,G]: see `TeacherRows`; None: it reads the same rows
  tokens: Array | None = None
  shift: Array | None = None


@_struct
class TeacherRows(_Record):
  """Rows [B] as a teacher reads them: another prompt, the same completion."""

  tokens: Array  # i32[B,T+C], right-padded; C: the most tokens of a context
  shift: Array  # i32[B] tokens that its prompt has more than the student's


@_struct
class Batch(_Record):
  """Inputs of the loss. B = P*G, the rows of a group adjacent."""

  tokens: Array  # i32[B,T]
  mask: Array  # bool[B,T] sampled tokens that are trained
  adv: Array  # f32[B,T]
  logp_old: Array  # f32[B,T]
  logp_ref: Array | None  # f32[B,T]
  chosen: Array | None = None  # bool[B,T] tokens chosen by the surrogate
  value: Array | None = None  # f32[B,T] the critic's, before the update
  returns: Array | None = None  # f32[B,T] the critic's targets
  margin: Array | None = None  # f32[B,T] lead that a row should have (pairs)
  taught: Array | None = None  # bool[B,T] of the mask, judged by a teacher
  teacher: TeacherRows | None = None  # None: it reads the same rows


@_struct
class TrainState(_Record):
  """Arrays that an update changes. Functions are bound by partial."""

  step: Array  # i32[]
  params: Any
  opt_state: Any
  # Moving average of the trained parameters, for teacher.weights='ema'.
  teacher: Any = None


def check_rollout(rollout: Rollout, score: Score) -> None:
  """Raises ValueError unless the invariants of the two records hold.

  Takes host arrays; called between rollouts and update.
  """
  r = jax.tree.map(np.asarray, rollout)
  s = jax.tree.map(np.asarray, score)
  p, g, t = r.tokens.shape
  k = s.reward.shape[-1]
  position = np.arange(t)
  sampled = r.turn >= 0
  rules = {
    'turn has the shape of tokens': r.turn.shape == (p, g, t),
    'logp has the shape of tokens': r.logp.shape == (p, g, t),
    'length is [P, G]': r.length.shape == (p, g),
    'stop is [P, G]': r.stop.shape == (p, g),
    'reward is [P, G, K]': s.reward.shape == (p, g, k),
    'turns is [P, G, K]': s.turns.shape == (p, g, k),
    'verdict is [P, G]': s.verdict.shape == (p, g),
  }
  if all(rules.values()):
    rules |= {
      'turn < K': bool((r.turn < k).all()),
      'no sampled token beyond length': not bool(
        (sampled & (position >= r.length[..., None])).any()
      ),
      'index 0 is never sampled': not bool(sampled[..., 0].any()),
      # NaN passes: the update detects a policy that has diverged.
      'logp <= 0': not bool((r.logp > 1e-4).any()),
      'logp is 0 where nothing was sampled': bool(
        (r.logp[~sampled] == 0).all()
      ),
      'reward is finite': bool(np.isfinite(s.reward).all()),
      'reward is 0 where a turn did not take place': bool(
        (s.reward[~s.turns] == 0).all()
      ),
    }
  broken = [rule for rule, holds in rules.items() if not holds]
  if broken:
    raise ValueError(f'Rollout or score breaks: {"; ".join(broken)}.')


def check_teacher(batch: Batch) -> None:
  """Raises ValueError unless a teacher reads the completions it judges.

  Token in, token out: each token that is taught stands in the teacher's row
  `shift` places further on, after the same tokens back to the row's prompt.
  Takes host arrays.
  """
  if batch.teacher is None:
    return
  tokens, taught = np.asarray(batch.tokens), np.asarray(batch.taught)
  theirs, shift = np.asarray(batch.teacher.tokens), batch.teacher.shift
  mask = np.asarray(batch.mask)
  for row in np.flatnonzero(taught.any(-1)):
    first = int(mask[row].argmax())
    last = int(np.flatnonzero(taught[row])[-1]) + 1
    at = first + int(shift[row])
    same = np.array_equal(
      tokens[row, first:last], theirs[row, max(at, 0) : at + last - first]
    )
    if at < 1 or not same:
      raise ValueError(
        f'Row {row}: the teacher reads another completion than the student '
        f'wrote, from token {first} on (shift {int(shift[row])}).'
      )


def flatten(rollout: Rollout, adv: Array) -> Batch:
  """Batch of rows [B,T] from a rollout and advantages [P,G,T]."""
  return Batch(
    tokens=rows(rollout.tokens),
    mask=rows(rollout.turn >= 0),
    adv=rows(adv),
    logp_old=rows(rollout.logp),
    logp_ref=None,
  )


def rows(x: Array) -> Array:
  """[P,G,T] -> [B,T]."""
  return x.reshape(math.prod(x.shape[:2]), -1)
