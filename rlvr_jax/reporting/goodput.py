"""Which share of its time did a run spend on steps that it kept?"""

import json
import pathlib
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

RUN = 'run.json'


class Start(NamedTuple):
  """When a run began; kept in DIR/run.json, also when it resumes.

  Attributes:
    id: names the run where its directory's name does not.
    began: seconds since 1970.
    step: the last one before that; 0 of a run that began with its files.
  """

  id: str
  began: float
  step: int

  @classmethod
  def read(cls, folder: pathlib.Path) -> 'Start | None':
    """That of DIR; None where there is none, or it cannot be read."""
    try:
      values = json.loads((folder / RUN).read_text('utf-8'))
      return cls(str(values['id']), float(values['began']), int(values['step']))
    except (OSError, ValueError, KeyError, TypeError):
      return None

  @classmethod
  def now(cls, step: int) -> 'Start':
    """Of a run that begins after `step`."""
    return cls(secrets.token_hex(8), time.time(), step)

  def to_json(self) -> str:
    """What `read` reads."""
    return json.dumps(self._asdict()) + '\n'


def productive(line: Mapping) -> float:
  """Seconds of a step that count: step_time without timing_s/compile.

  Args:
    line: of metrics.jsonl. A step whose update was skipped counts 0.
  """
  if float(line.get('update_skipped', 0)) > 0:
    return 0.0
  took = float(line.get('step_time', 0)) - float(
    line.get('timing_s/compile', 0)
  )
  return max(took, 0.0)


class Goodput:
  """The metric perf/goodput, by the lines of metrics.jsonl.

    sum over the steps up to now of `productive`, over the seconds since the
    run began

  Every line counts once: what a run did after its last checkpoint and does
  again when it resumes, is time without a step. So are the start, compiling,
  evaluations, waiting for checkpoints, and the time until it is resumed.

  Args:
    start: of the run.
    lines: of the steps that are kept.
  """

  def __init__(self, start: Start, lines: Iterable[Mapping] = ()):
    self._began = start.began
    self._seconds = sum(productive(x) for x in lines if x['step'] > start.step)

  def after(self, values: Mapping) -> dict[str, float]:
    """The metric after one more step; none where its time is unknown."""
    if 'step_time' not in values:
      return {}
    self._seconds += productive(values)
    wall = time.time() - self._began
    return {'perf/goodput': self._seconds / wall if wall > 0 else float('nan')}
