"""Advantages of a signal on groups of sampled rollouts, by the real path.

Rewards, credit and estimator are the registered functions that training calls,
on transcripts and records in groups as training would have sampled them.
"""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.enums import Stop
from rlvr_jax.ops import masked
from rlvr_jax.rollouts import episode_end, episode_scores, groups, single_turn
from rlvr_jax.signal_map.signals import Signal


def members(
  ids: Sequence[str], samples: int, group: int, seed: int, partition: int
) -> np.ndarray:
  """i[X,2,m,G]: each half of a problem's rollouts, in groups at random.

  Depends on seed, partition and the ids of the problems alone, so all signals
  share their groups: differences between them are paired. Rollouts that fill
  no group are left out.

  Raises:
    ValueError: fewer than two groups in a half.
  """
  half, m = samples // 2, samples // (2 * group)
  if m < 2:
    raise ValueError(
      f'{samples} rollouts of a problem are fewer than two groups of {group} '
      f'in each half: set --samples={4 * group} or more.'
    )
  out = np.empty((len(ids), 2, m, group), np.int64)
  for x, name in enumerate(ids):
    words = [seed, partition, zlib.crc32(name.encode('utf-8', 'replace'))]
    draw = np.random.default_rng(words)
    for h in range(2):
      order = h * half + draw.permutation(half)[: m * group]
      out[x, h] = order.reshape(m, group)
  return out


def scored(
  signal: Signal,
  c: ml_collections.ConfigDict,
  collected: groups.Collected,
  index: np.ndarray,
) -> tuple[types.Rollout, types.Score]:
  """The P = X*H*m groups that `index` i[X,H,m,G] names, scored."""
  x, *_, group = index.shape
  flat = index.reshape(x, -1)
  pick = lambda rows: [rows[p][i] for p in range(x) for i in flat[p]]
  take = lambda a: np.concatenate(
    [np.asarray(a)[p, flat[p]] for p in range(x)]
  ).reshape(-1, group, *np.shape(a)[2:])
  lists = lambda rows: [rows[i : i + group] for i in range(0, len(rows), group)]
  if collected.episodes is not None:
    chosen = pick(collected.episodes)
    episodes = [e for e, _, _ in chosen]
    beliefs = [b for _, _, b in chosen]
    limits = episode_end.dialogue_limits(c)
    out = episode_scores.collect(
      episodes,
      episode_scores.grade(episodes, signal.reward),
      None if beliefs[0] is None else np.stack(beliefs),
      group=group,
      max_turns=limits.turns,
      columns=c.max_prompt_length + limits.length,
    )
    return out.rollout, out.score
  tasks = [collected.tasks[p] for p in range(x) for _ in flat[p]]
  transcripts = pick(collected.transcripts)
  results = signal.reward(tasks, transcripts)
  rollout = jax.tree.map(take, collected.rollout)
  return rollout, single_turn.score(lists(results), lists(transcripts))


def advantages(
  signal: Signal,
  c: ml_collections.ConfigDict,
  rollout: types.Rollout,
  score: types.Score,
) -> np.ndarray:
  """f64[P,G,K]: what the log-probs of each turn's tokens are weighted with.

  The advantage, times the weight that the aggregate gives a token of the row.
  """
  turn = np.asarray(rollout.turn)
  adv = np.asarray(algorithms.advantages(signal.algorithm, rollout, score))
  out = np.zeros((*turn.shape[:2], score.turns.shape[-1]))
  for k in range(out.shape[-1]):
    first = (turn == k).argmax(-1)[..., None]
    value = np.take_along_axis(adv, first, -1)[..., 0]
    out[..., k] = np.where((turn == k).any(-1), value, 0.0)
  weight = row_weights(signal.algorithm.aggregate, trained(c, rollout))
  return out * weight.reshape(turn.shape[:2])[..., None]


def trained(c: ml_collections.ConfigDict, rollout: types.Rollout) -> np.ndarray:
  """bool[B,T]: the tokens that training would train."""
  mask = types.rows(np.asarray(rollout.turn) >= 0)
  if c.mask_truncated_completions:
    mask = mask & (np.asarray(rollout.stop).reshape(-1, 1) != Stop.LENGTH)
  return np.asarray(mask)


def row_weights(aggregate, mask: np.ndarray) -> np.ndarray:
  """f64[B]: weight of a row's tokens in an aggregate of B rows, times B.

  The denominator is that of all rows given, a constant: its variation from
  batch to batch is left out.

  Raises:
    ValueError: the aggregate weighs the tokens of a row differently.
  """
  mask = jnp.asarray(mask)
  zeros = jnp.zeros(mask.shape, jnp.float32)
  weight = jax.grad(lambda x: aggregate(x, mask).num)(zeros)
  weight = np.asarray(masked.keep(weight, mask), np.float64)
  mask = np.asarray(mask)
  high = weight.max(-1, where=mask, initial=0.0)
  low = weight.min(-1, where=mask, initial=np.inf)
  if (high - low > 1e-6 * np.abs(high))[mask.any(-1)].any():
    raise ValueError(
      'The aggregate weighs tokens of one row differently, which the map does '
      'not do: take another one.'
    )
  den = float(aggregate(zeros, jnp.asarray(mask)).den)
  return high * len(mask) / max(den, 1e-30)
