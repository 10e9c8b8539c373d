"""When does a run print an alarm, and when does it end?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from rlvr_jax.reporting import run_writer

_SKIPPED = (
  'a loss, gradient, log-prob or result that is not finite or far too large, '
  'or a policy too certain of every token to be moved'
)


def refusal(c: ml_collections.ConfigDict, metrics: Mapping) -> str:
  """The sentence on which rewards refused all rows of a step."""
  # A reward has a metric if it gave any row a finite value.
  refused = [n for n in c.reward_funcs if f'rewards/{n}' not in metrics]
  who = f'Reward {", ".join(refused)}' if refused else 'The sum of all rewards'
  return f'{who} refused every row (or gave it no finite value)'


def check(
  log: run_writer.Writer,
  c: ml_collections.ConfigDict,
  step: int,
  metrics: Mapping[str, float],
) -> None:
  """Prints an alarm for each thing that went wrong in a step.

  These are: a skipped update; no row with a reward; log-probs of sampler and
  trainer that differ by more than max_logp_diff, or by NaN although the batch
  has tokens to train.
  """
  if count := metrics.get('update_skipped', 0):
    log.say(
      f'ALARM step {step}: {count:g} of {c.num_iterations} updates had '
      f'{_SKIPPED}. Parameters stayed as they were.'
    )
  if c.method == 'rl' and metrics.get('rewards/refused') == 1:
    log.say(f'ALARM step {step}: {refusal(c, metrics)}: nothing is learned.')
  gap = metrics.get('sampler_trainer/logp_diff_max', 0.0)
  empty = math.isnan(metrics.get('advantage/nonzero_frac', 0.0))
  if not empty and not gap <= c.max_logp_diff:
    log.say(
      f'ALARM step {step}: log-probs of sampler and trainer differ by up to '
      f'{gap:.3g} nats; max_logp_diff is {c.max_logp_diff}. The '
      'importance ratios in the loss are then wrong.'
    )


def error(
  c: ml_collections.ConfigDict,
  progress: Any,
  metrics: Mapping[str, float],
  kept: Sequence[int],
) -> Exception:
  """The error that ends a run after max_skipped_updates failures in a row.

  Args:
    c: the run's config.
    progress: `resume.Progress` of the step.
    metrics: of the step.
    kept: steps of the checkpoints.
  """
  step = progress.step
  if progress.skipped >= c.max_skipped_updates:
    return FloatingPointError(
      f'{progress.skipped} updates in a row had {_SKIPPED}, up to step {step}. '
      f'Parameters stayed as they were. Checkpoints kept: {kept}. Lower '
      'optimizer.learning_rate in a new workdir, or look at rollouts.jsonl.'
    )
  return RuntimeError(
    f'{refusal(c, metrics)} in each of {progress.refused} steps in a row, up '
    f'to step {step}, so there was nothing to learn from. Checkpoints kept: '
    f'{kept}. Look at rollouts.jsonl and change reward_funcs in a new workdir, '
    'or raise max_skipped_updates to wait for longer.'
  )
