"""Dynamic sampling (DAPO): further groups in place of those without signal."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.rollouts import groups
from rlvr_jax.rollouts.task_stream import Place, TaskStream
from rlvr_jax.tasks import Task


def collect(
  c: Any,
  algorithm: algorithms.Algorithm,
  stream: TaskStream,
  place: Place,
  step: int,
  collect_once: Callable[[list[Task], int], groups.Collected],
) -> tuple[list[groups.Collected], list[np.ndarray], np.ndarray, Place]:
  """Collects until train_batch_size groups carry gradient.

  At most 1 + max_resample_batches times: once where that is 0.

  Args:
    place: in the stream of tasks.
    step: the current one.
    collect_once: (tasks, number of the attempt) -> their rollouts.

  Returns:
    the collections; bool[P] for each, the groups to train on; bool[P] of all
    together, the groups with spread; the place after them.
  """
  parts, keep, spread = [], [], []
  for attempt in range(1 + c.max_resample_batches):
    positions = stream.choose(place, step, c.train_batch_size)
    part = collect_once(stream.at(positions), attempt)
    verdict = np.asarray(part.score.verdict)
    place = stream.after(place, step, positions, verdict)
    parts.append(part)
    weights = algorithms.token_weights(
      algorithm, c.method, part.rollout, part.score
    )
    has_gradient = (weights != 0).any((1, 2))
    keep.append(has_gradient & has_reward_spread(part, c.min_reward_std))
    spread.append(np.asarray(algorithms.informative(algorithm, part.score)))
    if sum(k.sum() for k in keep) >= c.train_batch_size:
      break
  return parts, keep, np.concatenate(spread), place


def has_reward_spread(
  collected: groups.Collected, min_std: float
) -> np.ndarray:
  """bool[P]: groups whose reward std (ddof=0) is above `min_std`.

  All groups for min_std=0. The filter of Deng et al. 2025, arXiv 2510.25992,
  section 3.
  """
  groups = [
    [r.value for r in group if not r.refused] or [0.0]
    for group in collected.results
  ]
  return np.array([min_std == 0 or np.std(g) > min_std for g in groups])


def select(
  parts: Sequence[groups.Collected], keep: Sequence[np.ndarray], count: int
) -> tuple[types.Rollout, types.Score, types.Lesson | None]:
  """The chosen groups of several collections, in order, padded to `count`.

  A padding group has length 1, no sampled token and no turn, so it enters
  neither loss nor metrics. Shapes are constant: nothing compiles again.

  Args:
    parts: collections of the same G and T.
    keep: bool[P] for each of them.
    count: P of the result; surplus groups are dropped.
  """
  indices = [np.flatnonzero(k) for k in keep]

  def gather(field):
    rows = [
      np.asarray(field(c))[i] for c, i in zip(parts, indices, strict=True)
    ]
    rows = np.concatenate(rows)[:count]
    return np.pad(rows, [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1))

  rollout = types.Rollout(
    tokens=gather(lambda c: c.rollout.tokens),
    length=np.maximum(gather(lambda c: c.rollout.length), 1),
    turn=gather(lambda c: c.rollout.turn + 1) - 1,
    logp=gather(lambda c: c.rollout.logp),
    stop=gather(lambda c: c.rollout.stop),
  )
  score = types.Score(
    reward=gather(lambda c: c.score.reward),
    turns=gather(lambda c: c.score.turns),
    belief=None
    if parts[0].score.belief is None
    else gather(lambda c: c.score.belief),
    verdict=gather(lambda c: c.score.verdict),
    greedy=None
    if parts[0].score.greedy is None
    else gather(lambda c: c.score.greedy),
  )
  lesson = parts[0].lesson
  if lesson is not None:
    has_rows = lesson.tokens is not None
    lesson = types.Lesson(
      taught=gather(lambda c: c.lesson.taught),
      tokens=gather(lambda c: c.lesson.tokens) if has_rows else None,
      shift=gather(lambda c: c.lesson.shift) if has_rows else None,
    )
  return rollout, score, lesson
