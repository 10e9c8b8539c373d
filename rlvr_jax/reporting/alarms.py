"""What a run says aloud, and what ends it."""

import math

_SKIPPED = (
  'a loss, gradient, log-prob or result that is not finite or far too large, or '
  'a policy too certain of every token to be moved'
)


def refusal(c, metrics: dict) -> str:
  """Who refused all rows of a step."""
  silent = [n for n in c.reward_funcs if f'rewards/{n}' not in metrics]
  who = f'Reward {", ".join(silent)}' if silent else 'The sum of all rewards'
  return f'{who} refused every row (or gave it no finite value)'


def check(log, c, s: int, metrics: dict) -> None:
  """Says so when an update was skipped; when no row has a reward; when sampler
  and trainer disagree by more than the bound, or by no number at all (a gap of
  NaN, in a batch that has tokens to train)."""
  if count := metrics.get('update_skipped', 0):
    log.say(
      f'ALARM step {s}: {count:g} of {c.num_iterations} updates had '
      f'{_SKIPPED}. Parameters stayed as they were.'
    )
  if c.method == 'rl' and metrics.get('rewards/refused') == 1:
    log.say(f'ALARM step {s}: {refusal(c, metrics)}: nothing is learned.')
  gap = metrics.get('sampler_trainer/logp_diff_max', 0.0)
  empty = math.isnan(metrics.get('advantage/nonzero_frac', 0.0))
  if not empty and not gap <= c.max_logp_diff:
    log.say(
      f'ALARM step {s}: log-probs of sampler and trainer differ by up to '
      f'{gap:.3g} nats; max_logp_diff is {c.max_logp_diff}. The ratios of the '
      'loss are not what they claim.'
    )


def error(c, progress, metrics: dict, kept: list[int]) -> Exception:
  """Why a run ends that had `max_skipped_updates` failures of a kind in a row.

  Args:
    progress: `resume.Progress`.
    kept: steps of its checkpoints.
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
