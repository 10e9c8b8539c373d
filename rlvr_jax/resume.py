"""What a run that goes on must share with the one it goes on from.

Its config is in `config.json` and in each of its checkpoints, digests of its
data and models in the checkpoints: see `content`.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from rlvr_jax import config, digests, registry
from rlvr_jax.envs import labels
from rlvr_jax.io import checkpoint

# Config keys that may differ when a run goes on. All others make another run.
MAY_CHANGE = (
  # How long, and what is said and kept on the way.
  'total_steps',  # may only grow
  'log_every',
  'eval_every',
  'save_every',
  'max_to_keep',
  'metrics_every',
  'log_transcripts',
  # When to raise an alarm.
  'max_logp_diff',
  'max_skipped_updates',
  # Where and how fast: results are the same up to rounding.
  'mesh.shape',
  'groups_per_micro_batch',
  'logits_chunk',
  'model.remat',
  'eval.batch_size',
  'dialogue.oracle_batch_size',
)


class Progress(NamedTuple):
  """How far a run is; in each of its checkpoints, beside the arrays.

  Attributes:
    step: the last one that was done.
    position: in the stream of tasks, see `rollouts.task_stream`.
    skipped: updates in a row that were skipped, up to now.
    refused: steps in a row of which rewards refused every row, up to now.
    score: of keep_best, where this step was evaluated.
  """

  step: int = 0
  position: int = 0
  skipped: int = 0
  refused: int = 0
  score: float | None = None

  @classmethod
  def of(cls, extra: Mapping) -> 'Progress':
    """From what a checkpoint holds besides arrays."""
    return cls(*(extra[name] for name in cls._fields))

  def after_rewards(self, method: str, metrics: Mapping) -> 'Progress':
    """The same after a step with these metrics, before it is evaluated."""
    every = method == 'rl' and metrics['rewards/refused'] == 1
    return self._replace(refused=self.refused + 1 if every else 0, score=None)

  @property
  def failures(self) -> int:
    """Failures in a row, of either kind."""
    return max(self.skipped, self.refused)


def check_config(workdir, new, *, newer: bool = False) -> None:
  """Raises ValueError if `workdir` belongs to a run with another config.

  Keys of `MAY_CHANGE` are free. The error names each differing key with its
  old and new value. Call it before anything expensive.

  Args:
    newer: for a finished run, of which one wants the result: keys that were not
      there when it was made are free too.
  """
  path = pathlib.Path(workdir) / 'config.json'
  if path.exists():
    _same(workdir, config.read_json(path), new, newer)
  # config.json may have been edited or removed.
  old = (checkpoint.extra(workdir) or {}).get('config')
  if old is not None:
    _same(workdir, old, new, newer)


def _same(workdir, old, new, newer) -> None:
  lines = []
  for key, (was, now) in config.diff(old, new).items():
    line = f'{key}: {registry.show(was)} -> {registry.show(now)}'
    if key == 'total_steps' and config.ABSENT not in (was, now):
      if not isinstance(was, int) or now < was:
        lines.append(f'{line} (it may only grow)')
    elif key not in MAY_CHANGE and not (newer and config.ABSENT in (was, now)):
      lines.append(line)
  if lines:
    raise ValueError(
      f'{workdir} holds a run with another config. Use a new workdir, or set '
      'these back:\n  ' + '\n  '.join(lines)
    )


def tasks_read(c, env, train_tasks, eval_tasks) -> dict[str, str]:
  """{'KEY: what': digest} of tasks and labels, KEY being their config key.

  Args:
    env: before labels are attached to it.
  """
  # With labels, which leave tasks out, what they are for is all of the split.
  source = env['train'] if c.labels else train_tasks
  found = {
    'env: tasks to train on': digests.of_tasks(source),
    'env: tasks to evaluate on': digests.of_tasks(eval_tasks),
  }
  if c.labels:
    found['labels: lines'] = digests.of_rows(labels.load(c.labels)[1])
  return found


def remember(c, read: Mapping[str, str]) -> dict:
  """What a checkpoint says of the run's config and of what it read."""
  return {'config': json.loads(config.to_json(c)), 'content': dict(read)}


def check_content(c, workdir, extra: Mapping | None, now: Mapping) -> None:
  """Raises ValueError if a run would go on with other tasks or models.

  Args:
    extra: of the checkpoint that it goes on from; None if there is none.
    now: {'KEY: what': digest}. Only these keys are compared, so that what is
      known early is checked before the rest is read.
  """
  if extra is None:
    return
  key = lambda name: name.partition(':')[0]
  keys, values = {key(name) for name in now}, config.flatten(c)
  old = {k: v for k, v in extra['content'].items() if key(k) in keys}
  lines = []
  for line in digests.differing(old, now):
    name, _, rest = line.partition(':')
    lines.append(f'{name}={registry.show(values.get(name, ""))}:{rest}')
  if lines:
    raise ValueError(
      f'{workdir} goes on from a checkpoint that other data or weights gave. '
      'Bring the former ones back, or use a new workdir. These differ:\n  '
      + '\n  '.join(lines)
    )
