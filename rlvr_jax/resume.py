"""May this run resume? Compares config, data and models with the run before.

The config is in `config.json` and in each checkpoint, digests of data and
models are in the checkpoints.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from rlvr_jax import config, digests, registry, storage
from rlvr_jax.envs import labels
from rlvr_jax.io import checkpoint
from rlvr_jax.rollouts.task_stream import Place

# Config keys that may differ when a run resumes. All others make another run.
MAY_CHANGE = (
  # Length of the run, logging, checkpoints.
  'total_steps',  # may only grow
  'log_every',
  'eval_every',
  'save_every',
  'max_to_keep',
  'metrics_every',
  'positions_every',
  'log_transcripts',
  'log_to',
  'profile_steps',
  'compilation_cache',
  # Alarms.
  'max_logp_diff',
  'max_skipped_updates',
  # Devices and memory: results are the same up to rounding.
  'mesh.shape',
  'groups_per_micro_batch',
  'parts_per_group',
  'logits_chunk',
  'model.remat',
  'model.attention',
  'eval.batch_size',
  'dialogue.oracle_batch_size',
  'judge.batch_size',
)


class Progress(NamedTuple):
  """The progress of a run, saved in each checkpoint beside the arrays.

  Attributes:
    step: the last completed one.
    place: in the stream of tasks.
    skipped: number of skipped updates in a row, up to now.
    refused: number of steps in a row whose rows all lack a reward, up to now.
    score: of keep_best; None if this step was not evaluated.
  """

  step: int = 0
  place: Place = Place.of()
  skipped: int = 0
  refused: int = 0
  score: float | None = None

  @classmethod
  def of(cls, extra: Mapping) -> 'Progress':
    """The progress in the `extra` of a checkpoint."""
    saved = cls(*(extra[name] for name in cls._fields))
    return saved._replace(place=Place.of(extra['place']))

  def to_json(self) -> dict[str, Any]:
    """What `of` reads, for the `extra` of a checkpoint."""
    return self._asdict() | {'place': self.place.to_json()}

  def after_rewards(self, method: str, metrics: Mapping) -> 'Progress':
    """The progress after a step with these metrics, not evaluated yet."""
    all_refused = method == 'rl' and metrics['rewards/refused'] == 1
    refused = self.refused + 1 if all_refused else 0
    return self._replace(refused=refused, score=None)

  @property
  def failures(self) -> int:
    """Number of failures in a row, of the kind that has more."""
    return max(self.skipped, self.refused)


def check_config(
  workdir: str | os.PathLike, new: Any, *, newer: bool = False
) -> None:
  """Raises ValueError if `workdir` belongs to a run with another config.

  Keys of `MAY_CHANGE` may differ. The error names each other differing key
  with its old and new value. Call it before anything expensive.

  Args:
    workdir: may hold a run.
    new: the config, as for `config.diff`.
    newer: for reading the result of a finished run: keys that did not exist
      when it was made may differ too.
  """
  path = storage.folder(workdir) / 'config.json'
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


def tasks_read(
  c: ml_collections.ConfigDict,
  env: Mapping[str, Sequence],
  train_tasks: Sequence,
  eval_tasks: Sequence,
) -> dict[str, str]:
  """{'KEY: what': digest} of tasks and labels; KEY is their config key.

  Args:
    c: the config.
    env: without labels.
    train_tasks: with labels, if c.labels is set.
    eval_tasks: likewise.
  """
  # Labels leave tasks out, but were made for the whole split.
  source = env['train'] if c.labels else train_tasks
  out = {
    'env: tasks to train on': digests.of_tasks(source),
    'env: tasks to evaluate on': digests.of_tasks(eval_tasks),
  }
  if c.labels:
    out['labels: lines'] = digests.of_rows(labels.load(c.labels)[1])
  return out


def remember(
  c: ml_collections.ConfigDict, read: Mapping[str, str]
) -> dict[str, Any]:
  """The entries of a checkpoint's `extra` that `check_*` compare later."""
  return {'config': json.loads(config.to_json(c)), 'content': dict(read)}


def check_content(
  c: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  extra: Mapping | None,
  now: Mapping[str, str],
) -> None:
  """Raises ValueError if a run would resume with other tasks or models.

  Args:
    c: the config.
    workdir: for the error.
    extra: of the checkpoint to resume from; None if there is none.
    now: {'KEY: what': digest}. Only these keys are compared, so that tasks are
      checked before weights are read.
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
      f'{workdir} has a checkpoint made with other data or weights. Restore '
      'those, or use a new workdir. These differ:\n  ' + '\n  '.join(lines)
    )
