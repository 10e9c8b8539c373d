"""How well does a reward model tell good rows from bad ones, held out?"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sharding
from rlvr_jax.rollouts import imitation, reward_scores
from rlvr_jax.stats import calibration, intervals
from rlvr_jax.tasks import Task


def scores(
  c: Any, model: FrozenModel, tasks: Sequence[Task], mesh: jax.sharding.Mesh
) -> np.ndarray:
  """Scores f32[M,G] of the rows of tasks: see `imitation.fields`.

  About eval.batch_size rows at a time. Call it inside `sharding.use(mesh)`.

  Args:
    model: with `params`, a value head and the system prompt of its rows.
  """
  fields, groups = imitation.fields(c), reward_scores.groups_of(c, mesh)
  size = sharding.whole(-(-c.eval.batch_size // len(fields)), groups)
  out = []
  for start in range(0, len(tasks), size):
    some = list(tasks[start : start + size])
    full = some + some[:1] * (size - len(some))  # one shape, one program
    texts = [(t.data[name], True) for t in full for name in fields]
    got = reward_scores.scores(model, full, texts, mesh=mesh, groups=groups)
    out.append(got.reshape(size, len(fields))[: len(some)])
  return np.concatenate(out)


def summary(
  score: np.ndarray, tasks: Sequence[Task], *, seed: int = 0
) -> dict[str, float]:
  """`eval/...` numbers with `..._low` and `..._high`, a 95% interval.

  - accuracy: of pairs the share whose chosen row has the higher score (a tie is
    wrong); of rows with labels the share whose score is above 0 where the label
    is, and not where it is not.
  - chosen, rejected: mean scores of rows of either kind. margin: of pairs,
    their mean difference.
  - refused: share of tasks with a score that is NaN. They are wrong in
    accuracy, and left out of the other means.
  - Of rows with labels, the fields of `calibration.Calibration`, with
    sigma(score) as the probability that the label is 1.

  Intervals are bootstraps over prompts, which may have several pairs; over the
  pairs where all have the same prompt. Shares have Wilson's where each prompt
  has one pair, and where they are exactly 0 or 1.

  Args:
    score: f32[M,G] of `scores`: of pairs (G = 2) or rows with labels (G = 1).
    tasks: M of them.
  """
  prompts, of = np.unique([t.question for t in tasks], return_inverse=True)
  asked = len(prompts)
  if asked == 1:  # nothing to resample but its rows
    prompts = of = np.arange(len(tasks))
  score = np.asarray(score, np.float64)
  known = ~np.isnan(score).any(-1)
  score = np.where(known[:, None], score, 0.0)
  every, calibrated = np.ones(len(tasks)), None
  if score.shape[1] == 2:
    chosen, rejected = score.T
    means = {
      'accuracy': ((chosen > rejected) & known, every),
      'chosen': (chosen, known),
      'rejected': (rejected, known),
      'margin': (chosen - rejected, known),
    }
  else:
    good = np.array([bool(t.data['label']) for t in tasks])
    (x,) = score.T
    means = {
      'accuracy': (((x > 0) == good) & known, every),
      'chosen': (x * good, known & good),
      'rejected': (x * ~good, known & ~good),
    }
    calibrated = _calibration(x[known], good[known], of[known])
  means['refused'] = (~known, every)
  add = lambda x: np.bincount(of, x, len(prompts))
  sums = np.stack([[add(a), add(b)] for a, b in means.values()])  # [S,2,Q]

  def of_weights(w):
    num, den = (sums @ w).T
    out = np.where(den > 0, num / np.where(den > 0, den, 1), np.nan)
    return out if calibrated is None else np.append(out, calibrated(w))

  names = [*means, *(calibration.Calibration._fields if calibrated else ())]
  values = of_weights(np.ones(len(prompts)))
  low, high = intervals.percentiles(
    intervals.draws(of_weights, len(prompts), seed=seed)
  )
  out: dict[str, float] = {}
  for i, (name, value) in enumerate(zip(names, values, strict=True)):
    ends = low[i], high[i]
    single = len(prompts) == len(tasks)
    if name in ('accuracy', 'refused') and (single or value in (0, 1)):
      ends = intervals.wilson(round(value * len(prompts)), len(prompts))
    out[f'eval/{name}'] = float(value)
    for end, x in zip(('low', 'high'), ends):
      out[f'eval/{name}_{end}'] = np.nan if np.isnan(value) else float(x)
  return out | {'eval/n': len(tasks), 'eval/prompts': asked}


def possible(c: Any) -> list[str]:
  """Names of the metrics of `summary`, for a config."""
  score = np.zeros((1, len(imitation.fields(c))))
  task = Task('', '', '', 'pair', {'label': True})
  return [k for k in summary(score, [task]) if k[5:] not in ('n', 'prompts')]


def _calibration(
  score: np.ndarray, good: np.ndarray, prompt: np.ndarray
) -> Callable[[np.ndarray], calibration.Calibration]:
  """Weights of the prompts -> the calibration of sigma(score)."""
  q = 0.5 * (1 + np.tanh(score / 2))  # sigma, which overflows nowhere
  values, group = np.unique(q, return_inverse=True)
  count = lambda w: np.bincount(group, w, len(values))
  return lambda w: calibration.of_counts(
    values, count(w[prompt] * good), count(w[prompt] * ~good)
  )
