"""What statistics need of many samples, in memory and on disk.

A file of samples has a line for its settings and one for each sample, in the
order of `item`. It grows a whole batch at a time, and an evaluation that was
stopped goes on after the last whole batch: batches are the same as if it had
never stopped, so the numbers are too.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import pathlib
from typing import NamedTuple

import numpy as np

from rlvr_jax import digests, enums
from rlvr_jax.envs import strategies, strategy_form
from rlvr_jax.rewards import base
from rlvr_jax.verifiers import answer, confidence

STRATEGIES = (*strategies.NAMES, 'none')
LONGEST = 80  # characters of an answer that are kept; of longer ones a digest

_log = logging.getLogger(__name__)


class Table(NamedTuple):
  """N samples of each of M tasks; [M,N] each, 35 bytes a sample."""

  verdict: np.ndarray  # i8, a enums.Verdict
  stop: np.ndarray  # i8, a enums.Stop
  tokens: np.ndarray  # i32
  answer: np.ndarray  # i32, equal answers of a task are equal; -1: none
  confidence: np.ndarray  # f64, as stated; NaN: not
  surprisal: np.ndarray  # f64, sum of -log p over the sampled tokens, nats
  strategy: np.ndarray  # i8, place in STRATEGIES; -1: the task has none
  turns: np.ndarray  # i16, of a dialogue; 0: it is none
  invalid: np.ndarray  # i16, turns against the rules
  repeated: np.ndarray  # i16, turns that asked the same again
  fallback: np.ndarray  # bool, nothing marked the answer that was judged
  timed_out: np.ndarray  # bool, its check ran out of time

  @property
  def right(self) -> np.ndarray:
    return self.verdict == enums.Verdict.CORRECT


def item(j: int, tasks: int) -> tuple[int, int]:
  """(task, round) of the j-th sample: each task once, then each again."""
  return j % tasks, j // tasks


def record(task, t: base.Transcript, surprisal: float) -> dict:
  """What is kept of one sample of a task."""
  # A dialogue's answer is its last message, and no other game's.
  said = None
  if not t.kinds:
    said = answer.canonical(t.completion, truncated=t.cut, rules=t.rules)
  if said is not None and len(said) > LONGEST:
    said = (
      'sha256:' + hashlib.sha256(said.encode('utf-8', 'replace')).hexdigest()
    )
  return {
    'verdict': t.verdict.name,
    'fallback': t.fallback,
    'timed_out': t.timed_out,
    'stop': t.stop.name,
    'tokens': int(t.num_tokens),
    'answer': said,
    'confidence': confidence.parse(t.completion),
    'surprisal': float(surprisal),
    'strategy': strategy_form.classify(task, t.completion) or 'none'
    if 'strategy' in task.data
    else None,
    'kinds': list(t.kinds),
  }


class Samples:
  """A table that is filled sample after sample, and its file if it has one."""

  def __init__(self, ids, samples: int, file=None):
    self.ids, self.total = list(ids), len(ids) * samples
    self.done, self._file = 0, file
    full = lambda value, dtype: np.full((len(ids), samples), value, dtype)
    self.table = Table(
      full(-1, np.int8),
      full(-1, np.int8),
      full(0, np.int32),
      full(-1, np.int32),
      full(np.nan, np.float64),
      full(0, np.float64),
      full(-1, np.int8),
      *(full(0, np.int16) for _ in range(3)),
      full(False, bool),
      full(False, bool),
    )
    self._answers = [{} for _ in ids]

  def add(self, records) -> None:
    """The next samples, in order; in the file when this returns."""
    start = self.done
    self.fill(records)
    if self._file is None:
      return
    lines = []
    for j, r in enumerate(records, start):
      task, round_ = item(j, len(self.ids))
      x = r['surprisal']
      line = {'task': task, 'round': round_, 'id': self.ids[task], **r}
      # JSON has no NaN.
      line['surprisal'] = x if math.isfinite(x) else str(x)
      lines.append(json.dumps(line) + '\n')
    try:
      self._file.write(''.join(lines).encode())
    except OSError as e:
      raise OSError(
        e.errno,
        f'{self._file.name} could not be written ({e.strerror}). Free some '
        'space or check the path, then run the same command again; it goes on '
        'after the last whole batch.',
      ) from e

  def fill(self, records) -> None:
    """The next samples, of which the file already has the lines."""
    for r in records:
      self._put(r)

  def _put(self, r):
    task, round_ = item(self.done, len(self.ids))
    t, at = self.table, (task, round_)
    t.verdict[at] = enums.Verdict[r['verdict']]
    t.stop[at] = enums.Stop[r['stop']]
    t.tokens[at] = r['tokens']
    t.fallback[at] = r['fallback']
    t.timed_out[at] = r['timed_out']
    if r['answer'] is not None:
      known = self._answers[task]
      t.answer[at] = known.setdefault(r['answer'], len(known))
    if r['confidence'] is not None:
      t.confidence[at] = r['confidence']
    t.surprisal[at] = r['surprisal']
    if r['strategy'] is not None:
      t.strategy[at] = STRATEGIES.index(r['strategy'])
    t.turns[at] = len(r['kinds'])
    for kind in ('invalid', 'repeated'):
      getattr(t, kind)[at] = r['kinds'].count(kind)
    self.done += 1


def path_of(folder, step: int, settings: dict) -> pathlib.Path:
  """DIR/samples-<step>-<hash of the settings>.jsonl."""
  digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
  return (
    pathlib.Path(folder) / f'samples-{step}-{digest.hexdigest()[:10]}.jsonl'
  )


def stale(folder, step: int, settings: dict) -> list:
  """[(file, what differs)] of samples with these settings of other content:
  drawn before tasks, weights or the verifier changed."""
  out = []
  same = lambda s: [s.get(k) for k in settings if k != 'content']
  settings = json.loads(json.dumps(settings))
  for path in sorted(pathlib.Path(folder).glob(f'samples-{step}-*.jsonl')):
    with path.open('rb') as f:
      old = (_object(f.readline()) or {}).get('settings')
    if not isinstance(old, dict) or same(old) != same(settings):
      continue
    if isinstance(read := old.get('content', {}), dict):
      why = digests.differing(read, settings['content'])
      out += [(path, why)] if why else []
  return out


@contextlib.contextmanager
def open(path, settings: dict, ids, samples: int, batch_size: int):
  """`Samples` that holds what `path` already has of them, in whole batches.

  What follows the last whole batch is dropped from the file, unless it holds
  all that is asked for. More samples of the same settings go on from fewer.

  Args:
    path: from `path_of`; made if it is not there.
    settings: all that the samples depend on but their number.
    ids: names of the M tasks.
    samples: N of each.

  Raises:
    ValueError: the file has other settings, or another process writes it.
    OSError: it cannot be read or written.
  """
  settings = json.loads(json.dumps(settings))
  path = pathlib.Path(path)
  path.touch()
  with path.open('r+b', buffering=0) as f:
    try:
      fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise ValueError(
        f'Another process is evaluating into {path}. Wait for it or stop it.'
      ) from e
    made = Samples(ids, samples, f)
    keep = _read(made, path, settings, batch_size)
    if keep is not None:
      f.truncate(keep)
      f.seek(keep)
      if not keep:
        f.write(json.dumps({'settings': settings}).encode() + b'\n')
        os.fsync(f)
    yield made
    os.fsync(f)


def _read(made, path, settings, batch_size):
  """Fills `made`; returns the bytes to keep, or None for all of them."""
  with path.open('rb') as f:
    head = _object(f.readline())
    if head is None:
      return 0
    if head.get('settings') != settings:
      raise ValueError(
        f'{path} holds samples of other settings. Move it away to draw anew.'
      )
    keep, batch = f.tell(), []
    while made.done < made.total:
      line = f.readline()
      r = _object(line)
      if r is None or not _fits(r, made, made.done + len(batch)):
        if line:
          _log.warning('%s: drawn again from byte %d on.', path, keep)
        return keep
      batch.append(r | {'surprisal': float(r['surprisal'])})
      if len(batch) == min(batch_size, made.total - made.done):
        made.fill(batch)
        keep, batch = f.tell(), []
  return None


def _fits(r, made, j):
  """Whether a record is whole and the j-th one."""
  task, round_ = item(j, len(made.ids))
  try:
    return (
      (r['task'], r['round'], r['id']) == (task, round_, made.ids[task])
      and r['verdict'] in enums.Verdict.__members__
      and r['stop'] in enums.Stop.__members__
      and isinstance(r['tokens'], int)
      and isinstance(r['fallback'], bool)
      and isinstance(r['timed_out'], bool)
      and isinstance(r['answer'], str | None)
      and (r['confidence'] is None or 0 <= r['confidence'] <= 1)
      and isinstance(float(r['surprisal']), float)
      and r['strategy'] in (None, *STRATEGIES)
      and isinstance(r['kinds'], list)
    )
  except (KeyError, TypeError, ValueError):
    return False


def _object(line):
  """The JSON object of a whole line, or None."""
  try:
    found = json.loads(line)
  except ValueError:
    return None
  return found if line.endswith(b'\n') and isinstance(found, dict) else None
