"""What do a cell's signals come to? Lines of signal.jsonl."""

from typing import Any

import numpy as np

from rlvr_jax.enums import Verdict
from rlvr_jax.ops import estimators
from rlvr_jax.ops import signal as signal_ops
from rlvr_jax.signal_map import advantages, measure, signals
from rlvr_jax.signal_map.cell import Cell
from rlvr_jax.signal_map.signals import Signal

BINS = {  # of the pilot's pass rate
  'all': (0.0, 1.0),
  'low': (0.0, 1 / 3),
  'middle': (1 / 3, 2 / 3),
  'high': (2 / 3, 1.0),
}
FEWEST = 6  # problems of a bin that is measured on its own


def lines(cell: Cell, signal: Signal) -> list[dict[str, Any]]:
  """A line for each bin of problems: see `measure.summary` and, besides,

  group, rollouts
                 of a group, and of the batch that root is of
  p, p_se        pass rate of the problems and its standard error over them
  reward, reward_std, agreement
                 of the signal's rewards, and their squared correlation with
                 the verdict within groups
  theory_snr1    snr1 by the closed form, where it has one
  d2, f_right, f_wrong, best_baseline, known_problems
                 `ops.signal.Facts` of the problems with two right and two
                 wrong rollouts
  taught_frac    of a signal with a teacher: share of rows that it judges
  """
  facts = cell.facts
  resolved = signals.parse(signal.name, cell.config, best_baseline(facts))
  result, of_reward = estimate(cell, resolved)
  own = not (signal.env or signal.imitates)
  products = measure.products(cell.gram, result, cell.reference, own)
  coefficients = _coefficients(cell, resolved)
  p = cell.right.mean(-1)
  out = []
  for name, (low, high) in BINS.items():
    keep = (cell.pilot >= low) & (cell.pilot <= high)
    if name != 'all' and (keep.sum() < FEWEST or keep.all()):
      continue
    values = measure.summary(result, products, cell.settings.rollouts, keep)
    out.append(
      {
        'signal': signal.name,
        'bin': name,
        'group': result.group,
        'rollouts': cell.settings.rollouts,
        'p': float(p[keep].mean()),
        'p_se': float(p[keep].std(ddof=1) / np.sqrt(keep.sum())),
        **values,
        **of_reward,
        'theory_snr1': _theory(facts, keep, coefficients),
        **_pooled(facts, keep),
      }
    )
  return out


def estimate(cell: Cell, signal: Signal) -> tuple[measure.Estimate, dict]:
  """The signal's `Estimate`, and facts of its rewards."""
  source = cell.sources[signal.env, signal.imitates]
  if signal.imitates:
    ids = source.ids[:, 0]
    return measure.of_rows(cell.gram, ids, source.tokens), {}
  s, c = cell.settings, source.sampler.x.config
  if signal.teacher is not None:
    ids, taught = cell.taught[signal.name]
    x, count, _ = ids.shape
    groups = np.arange(count).reshape(1, 2, -1, 1).repeat(x, 0)
    ones = np.ones((*groups.shape, 1))
    found = measure.of_groups(cell.gram, ids, [(groups, ones)], source.tokens)
    return found._replace(group=s.group), {'taught_frac': taught}
  partitions, rewards = [], []
  names = [task.id for task in source.collected.tasks]
  for number in range(s.partitions):
    index = advantages.members(names, s.samples, s.group, s.seed, number)
    rollout, score = advantages.scored(signal, c, source.collected, index)
    if signal.name in cell.weighted:
      weights = advantages.row_weights(
        signal.algorithm.aggregate, advantages.trained(c, rollout)
      )
      adv = weights.reshape(*index.shape, 1)
    else:
      adv = advantages.advantages(signal, c, rollout, score)
      adv = adv.reshape(*index.shape, -1)
    partitions.append((index, adv))
    rewards.append(
      (
        score.reward.sum(-1),
        score.verdict == Verdict.CORRECT,
        score.turns.any(-1),
      )
    )
  ids = cell.weighted.get(signal.name, source.ids)
  estimate = measure.of_groups(cell.gram, ids, partitions, source.tokens)
  value, right, valid = (np.concatenate(x) for x in zip(*rewards))
  given = value[valid] if valid.any() else np.array([np.nan])
  return estimate, {
    'reward': float(given.mean()),
    'reward_std': float(given.std()),
    'agreement': _agreement(value, right, valid),
  }


def _agreement(
  value: np.ndarray, right: np.ndarray, valid: np.ndarray
) -> float:
  """Squared correlation of reward and verdict within groups, pooled.

  Refused rows are left out, as in `rollouts.groups.metrics`.
  """
  count = np.maximum(valid.sum(-1, keepdims=True), 1)

  def centred(x):
    x = np.where(valid, x, 0.0)
    mean = x.sum(-1, keepdims=True) / count
    high = x.max(-1, keepdims=True, where=valid, initial=-np.inf)
    low = x.min(-1, keepdims=True, where=valid, initial=np.inf)
    # Where all are equal, the mean's rounding must not pass for spread.
    return np.where(valid & (high > low), x - mean, 0.0)

  a, b = centred(value), centred(right)
  square = (a**2).sum() * (b**2).sum()
  return float((a * b).sum() ** 2 / square) if square > 0 else float('nan')


def best_baseline(facts: signal_ops.Facts) -> float:
  """The best constant baseline over all problems, sum p F+ / sum F.

  Over those with two right and two wrong rollouts; 0.5 without any.
  """
  p, d2, f_right, f_wrong = map(np.asarray, facts)
  known = np.isfinite(d2)
  if not known.any():
    return 0.5
  right = (p * f_right)[known].sum()
  return float(right / (right + ((1 - p) * f_wrong)[known].sum()))


def _pooled(facts: signal_ops.Facts, keep: np.ndarray) -> dict[str, float]:
  """Facts of the problems with two of each kind, weighted as they occur."""
  p, d2, f_right, f_wrong = (np.asarray(x)[keep] for x in facts)
  known = np.isfinite(d2)

  def mean(x, weight):
    if not weight[known].sum() > 0:
      return float('nan')
    return float(np.average(x[known], weights=weight[known]))

  return {
    'd2': mean(d2, p * (1 - p)),
    'f_right': mean(f_right, p),
    'f_wrong': mean(f_wrong, 1 - p),
    'best_baseline': best_baseline(signal_ops.Facts(p, d2, f_right, f_wrong)),
    'known_problems': int(known.sum()),
  }


def _coefficients(
  cell: Cell, signal: Signal
) -> tuple[np.ndarray, np.ndarray] | None:
  """Of the signal's closed form; None where it has none."""
  source = cell.sources['', False]
  mask = advantages.trained(source.sampler.x.config, source.collected.rollout)
  weights = advantages.row_weights(signal.algorithm.aggregate, mask)
  if (
    signal.rewards != ('outcome',)
    or signal.env
    or signal.teacher is not None
    or estimators.takes(signal.algorithm.estimate)
    or np.ptp(weights[mask.any(-1)]) > 1e-6 * weights.max()
  ):
    return None
  try:
    return signal_ops.coefficients(
      signal.algorithm.estimate, cell.settings.group
    )
  except ValueError:  # an estimator that reads more than right and wrong
    return None


def _theory(
  facts: signal_ops.Facts,
  keep: np.ndarray,
  coefficients: tuple[np.ndarray, np.ndarray] | None,
) -> float:
  """SNR of one problem's groups by the closed form; NaN where it has none.

  Sums of signal and noise over the problems with two of each kind; NaN if these
  are fewer than half.
  """
  p, d2, f_right, f_wrong = (np.asarray(x)[keep] for x in facts)
  known = np.isfinite(d2)
  if coefficients is None or 2 * known.sum() < len(known):
    return float('nan')
  of = signal_ops.moments(
    p[known], d2[known], f_right[known], f_wrong[known], *coefficients
  )
  noise = np.sum(of.variance)
  return float(np.sum(of.mean_sq) / noise) if noise > 0 else float('nan')
