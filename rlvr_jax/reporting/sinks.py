"""Where do metrics go besides DIR/*.jsonl? TensorBoard, W&B, Trackio.

A sink gets the numbers of each line of metrics.jsonl and eval.jsonl, under the
names that they have there, at their step. Each package is an extra of its own.
"""

import importlib.util
import math
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

PROJECT = 'rlvr_jax'  # else WANDB_PROJECT, TRACKIO_PROJECT


class Sink(Protocol):
  """What `open` returns."""

  def log(self, step: int, values: Mapping[str, float]) -> None:
    """Takes finite numbers by name; steps do not decrease."""

  def close(self) -> None:
    """Returns when everything is written."""


class TensorBoard:
  """Event files in DIR/tensorboard."""

  def __init__(
    self, folder: pathlib.Path, run: str, sent: int, config: Mapping
  ):
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer import event_file_writer

    del run, config
    self._event, self._summary = event_pb2.Event, summary_pb2.Summary
    name = str(folder / 'tensorboard')
    self._file = event_file_writer.EventFileWriter(name)
    if sent >= 0:
      # TensorBoard then drops what it has of later steps, if anything.
      start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
      self._file.add_event(
        self._event(wall_time=time.time(), step=sent + 1, session_log=start)
      )

  def log(self, step: int, values: Mapping[str, float]) -> None:
    value = self._summary.Value
    summary = self._summary(
      value=[value(tag=k, simple_value=v) for k, v in values.items()]
    )
    self._file.add_event(
      self._event(wall_time=time.time(), step=step, summary=summary)
    )
    self._file.flush()

  def close(self) -> None:
    self._file.close()


class Wandb:
  """A run of Weights & Biases; its files in DIR/wandb.

  WANDB_MODE=offline keeps them there, for `wandb sync`. A resumed run goes on
  under the same id, and W&B leaves out steps that it has.
  """

  def __init__(
    self, folder: pathlib.Path, run: str, sent: int, config: Mapping
  ):
    import wandb

    del sent
    self._run = wandb.init(
      project=os.environ.get('WANDB_PROJECT', PROJECT),
      name=folder.absolute().name,
      id=run,
      resume='allow',
      dir=str(folder),
      config=dict(config),
    )

  def log(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def close(self) -> None:
    self._run.finish()


class Trackio:
  """A run of Trackio, in its own folder (TRACKIO_DIR)."""

  def __init__(
    self, folder: pathlib.Path, run: str, sent: int, config: Mapping
  ):
    import trackio

    del sent
    self._run = trackio.init(
      project=os.environ.get('TRACKIO_PROJECT', PROJECT),
      name=f'{folder.absolute().name}-{run[:6]}',
      resume='allow',
      config=dict(config),
      embed=False,
      auto_log_gpu=False,
      auto_log_cpu=False,
    )

  def log(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log(dict(values), step=step)

  def close(self) -> None:
    self._run.finish()


SINKS = {'tensorboard': TensorBoard, 'wandb': Wandb, 'trackio': Trackio}


def check(names: Sequence[str]) -> None:
  """ValueError unless the package of each of these sinks is installed."""
  for name in names:
    if importlib.util.find_spec(name) is None:
      raise ValueError(
        f'log_to={tuple(names)!r} needs {name}, which is not installed: pip '
        f"install '{PROJECT}[{name}]', or leave it out."
      )


def open(
  names: Sequence[str],
  folder: pathlib.Path,
  run: str,
  sent: int,
  config: Mapping[str, Any],
) -> list[Sink]:
  """The sinks of these names.

  Args:
    names: keys of `SINKS`.
    folder: DIR.
    run: the run's id; the same when it resumes.
    sent: last step that they got before; -1 of a new run.
    config: {'a.b': value} of the run.
  """
  check(names)
  return [SINKS[name](folder, run, sent, config) for name in names]


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
  """The finite numbers of a line, but for its step: no chart shows others."""
  return {
    k: float(v)
    for k, v in line.items()
    if k != 'step' and isinstance(v, (int, float)) and math.isfinite(v)
  }
