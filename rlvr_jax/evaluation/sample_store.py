"""Where are the samples of an evaluation? A table in memory, a file on disk.

The file has one line of settings and tasks, then one line per sample, with its
text, in the order of `item`. It grows by whole batches, and an interrupted
evaluation resumes after the last whole one: its batches, and so its numbers,
are those of an evaluation that was never interrupted.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from rlvr_jax import digests, enums, hosts, storage
from rlvr_jax.envs import strategies, strategy_form
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import branches
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import answer, confidence, judgments

STRATEGIES = (*strategies.NAMES, 'none')
FAULTS = ('', *branches.FAULTS)  # '': none
LONGEST = 80  # characters of an answer; a longer one is stored as a digest

_log = logging.getLogger(__name__)


class Judged(NamedTuple):
  """Samples of M judgments of two responses."""

  place: np.ndarray  # i8[M,N], the place that is preferred; -1: no verdict
  better: np.ndarray  # i8[M], the place of the better response
  pair: np.ndarray  # i32[M], equal for both orders of a pair


class Table(NamedTuple):
  """N samples of each of M tasks; arrays [M,N], 48 bytes a sample."""

  verdict: np.ndarray  # i8, enums.Verdict
  stop: np.ndarray  # i8, enums.Stop
  tokens: np.ndarray  # i32
  answer: (
    np.ndarray
  )  # i32, an id: equal iff two samples of a task agree; -1: none
  confidence: np.ndarray  # f64, as stated; NaN: not stated
  uncertain: np.ndarray  # i32, `confidence.uncertainty_words`
  surprisal: np.ndarray  # f64, sum of -log p over the sampled tokens, nats
  strategy: np.ndarray  # i8, index in STRATEGIES; -1: the task has none
  turns: np.ndarray  # i16, of a dialogue; 0: single-turn
  invalid: np.ndarray  # i16, turns that break the rules
  repeated: np.ndarray  # i16, turns that repeat a question
  fallback: np.ndarray  # bool, nothing marked the answer that was verified
  timed_out: np.ndarray  # bool, verification ran out of time
  gap: np.ndarray  # f64, `Signals.answer_gap`; -1: no answer; NaN: not computed
  fault: np.ndarray  # i8, of a branch, index in FAULTS; -1: no branch
  judged: Judged | None = None  # if all tasks are judgments

  @property
  def right(self) -> np.ndarray:
    """bool[M,N]"""
    return self.verdict == enums.Verdict.CORRECT


def item(j: int, tasks: int) -> tuple[int, int]:
  """(task, round) of the j-th sample: each task once, then each again."""
  return j % tasks, j // tasks


def record(
  task: Task, t: base.Transcript, surprisal: float, *, branch: bool = False
) -> dict[str, Any]:
  """The stored fields of one sample of a task.

  Args:
    branch: whether it is a branch: see `rollouts.branches`.
  """
  # Dialogues have no answers to vote on: each last message is its own.
  text, judged = None, {}
  if task.verifier == 'judgment':
    place = judgments.preferred(task, t.completion)
    text = None if place is None else judgments.LETTERS[place]
    judged = {'judged': [task.data['pair'], task.data['better'], place]}
  elif not t.kinds:
    text = answer.canonical(t.completion, truncated=t.cut, rules=t.rules)
  if text is not None and len(text) > LONGEST:
    text = (
      'sha256:' + hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()
    )
  return {
    'verdict': t.verdict.name,
    'fallback': t.fallback,
    'timed_out': t.timed_out,
    'stop': t.stop.name,
    'tokens': int(t.num_tokens),
    'answer': text,
    'confidence': confidence.parse(t.completion),
    'surprisal': float(surprisal),
    'strategy': strategy_form.classify(task, t.completion) or 'none'
    if 'strategy' in task.data
    else None,
    'kinds': list(t.kinds),
    'completion': t.completion,
    'signals': None if t.signals is None else _rounded(t.signals),
    'fault': branches.fault(t) if branch else None,
    **judged,
  }


def _rounded(signals: base.Signals) -> dict[str, float | None]:
  """To 1e-6, below which batches of another shape round otherwise."""
  finite = lambda x: x is not None and math.isfinite(x)
  return {
    k: round(x, 6) if finite(x) else None for k, x in signals._asdict().items()
  }


class Samples:
  """A table that is filled in the order of `item`, and its file if any."""

  def __init__(
    self, ids: Sequence[str], samples: int, file: BinaryIO | None = None
  ):
    self.ids, self.total = list(ids), len(ids) * samples
    self.done, self._file = 0, file
    full = lambda value, dtype: np.full((len(ids), samples), value, dtype)
    self.table = Table(
      verdict=full(-1, np.int8),
      stop=full(-1, np.int8),
      tokens=full(0, np.int32),
      answer=full(-1, np.int32),
      confidence=full(np.nan, np.float64),
      uncertain=full(0, np.int32),
      surprisal=full(0, np.float64),
      strategy=full(-1, np.int8),
      turns=full(0, np.int16),
      invalid=full(0, np.int16),
      repeated=full(0, np.int16),
      fallback=full(False, bool),
      timed_out=full(False, bool),
      gap=full(np.nan, np.float64),
      fault=full(-1, np.int8),
    )
    self._answers = [{} for _ in ids]
    self._pairs: dict[str, int] = {}

  def add(self, records: Sequence[Mapping]) -> None:
    """Adds the next samples, in order; they are written when this returns."""
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
        'space or check the path, then run the same command again; it resumes '
        'after the last whole batch.',
      ) from e

  def fill(self, records: Iterable[Mapping]) -> None:
    """Adds the next samples, whose lines are in the file already."""
    for r in records:
      self._fill_one(r)

  def _fill_one(self, r):
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
    t.uncertain[at] = confidence.uncertainty_words(r['completion'])
    t.surprisal[at] = r['surprisal']
    if r['strategy'] is not None:
      t.strategy[at] = STRATEGIES.index(r['strategy'])
    t.turns[at] = len(r['kinds'])
    for kind in ('invalid', 'repeated'):
      getattr(t, kind)[at] = r['kinds'].count(kind)
    if r['signals'] is not None:
      gap = r['signals']['answer_gap']
      t.gap[at] = -1.0 if gap is None else gap
    if r['fault'] is not None:
      t.fault[at] = FAULTS.index(r['fault'])
    if 'judged' in r:
      self._fill_judged(task, round_, *r['judged'])
    self.done += 1

  def _fill_judged(self, task, round_, pair, better, place):
    if self.table.judged is None:
      tasks, count = self.table.verdict.shape
      judged = Judged(
        np.full((tasks, count), -1, np.int8),
        np.zeros(tasks, np.int8),
        # A task without judgments is a pair of its own.
        -1 - np.arange(tasks, dtype=np.int32),
      )
      self.table = self.table._replace(judged=judged)
    judged = self.table.judged
    judged.place[task, round_] = -1 if place is None else place
    judged.better[task] = better
    judged.pair[task] = self._pairs.setdefault(pair, len(self._pairs))


def path_of(
  folder: str | os.PathLike, step: int, settings: Mapping
) -> pathlib.Path:
  """DIR/samples-<step>-<hash of the settings>.jsonl."""
  digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
  return (
    storage.folder(folder) / f'samples-{step}-{digest.hexdigest()[:10]}.jsonl'
  )


def stale(
  folder: str | os.PathLike, step: int, settings: Mapping
) -> list[tuple[pathlib.Path, list[str]]]:
  """[(file, what differs)] of files with these settings but other content.

  They were sampled before tasks, weights or the verifier changed.
  """
  out = []
  same = lambda s: [s.get(k) for k in settings if k != 'content']
  settings = json.loads(json.dumps(settings))
  for path in sorted(storage.folder(folder).glob(f'samples-{step}-*.jsonl')):
    with path.open('rb') as f:
      old = (read_object(f.readline()) or {}).get('settings')
    if not isinstance(old, dict) or same(old) != same(settings):
      continue
    if isinstance(content := old.get('content', {}), dict):
      why = digests.differing(content, settings['content'])
      out += [(path, why)] if why else []
  return out


@contextlib.contextmanager
def open(
  path: str | os.PathLike,
  settings: Mapping,
  ids: Sequence[str],
  samples: int,
  batch_size: int,
  tasks: Sequence[Task] = (),
) -> Iterator[Samples]:
  """Opens a file of samples, filled with the whole batches that it has.

  Lines after the last whole batch are dropped from the file, unless it has all
  samples. A larger `samples` with the same settings extends the file.

  Args:
    path: from `path_of`; created if it does not exist.
    settings: everything that samples depend on, except their number.
    ids: names of the M tasks.
    samples: N of each.
    batch_size: samples that were and will be added at a time.
    tasks: the M tasks, to be written too: for `sample_transcripts`.

  Raises:
    ValueError: the file has other settings, or another process writes it.
    OSError: it cannot be read or written.
  """
  settings = json.loads(json.dumps(settings))
  path, f = pathlib.Path(path), None
  with contextlib.ExitStack() as stack:
    with hosts.together():
      if hosts.first():
        path.touch()
        f = stack.enter_context(path.open('r+b', buffering=0))
        store = Samples(ids, samples, f)
        _claim(store, path, settings, batch_size, tasks)
    with hosts.together():
      if f is None:  # the others read what the first host kept
        store = Samples(ids, samples)
        if path.exists():
          _read(store, path, settings, batch_size)
    hosts.must_agree(f'samples in {path}', store.done)
    yield store
    if f is not None:
      os.fsync(f)


def _claim(store, path, settings, batch_size, tasks):
  """Locks the file of a store, and fills the store with its whole batches."""
  f = store._file
  try:
    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as e:
    raise ValueError(
      f'Another process is evaluating into {path}. Wait for it or stop it.'
    ) from e
  keep = _read(store, path, settings, batch_size)
  if keep is not None:
    f.truncate(keep)
    f.seek(keep)
    if not keep:
      head = {'settings': settings, 'tasks': [t._asdict() for t in tasks]}
      f.write(json.dumps(head, default=str).encode() + b'\n')
      os.fsync(f)


def _read(store, path, settings, batch_size):
  """Fills `store`; returns how many bytes to keep, or None for all."""
  with path.open('rb') as f:
    head = read_object(f.readline())
    if head is None:
      return 0
    if head.get('settings') != settings:
      raise ValueError(
        f'{path} holds samples of other settings. Move it away to sample anew.'
      )
    keep, batch = f.tell(), []
    while store.done < store.total:
      line = f.readline()
      r = read_object(line)
      if r is None or not _fits(r, store, store.done + len(batch)):
        if line:
          _log.warning('%s: sampled again from byte %d on.', path, keep)
        return keep
      batch.append(r | {'surprisal': float(r['surprisal'])})
      if len(batch) == min(batch_size, store.total - store.done):
        store.fill(batch)
        keep, batch = f.tell(), []
  return None


def _fits(r, store, j):
  """Whether `r` is a complete record of the j-th sample."""
  task, round_ = item(j, len(store.ids))
  try:
    return (
      (r['task'], r['round'], r['id']) == (task, round_, store.ids[task])
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
      and isinstance(r['completion'], str)
      and (r['signals'] is None or {*r['signals']} == {*base.Signals._fields})
      and r['fault'] in (None, *FAULTS)
      and _is_judged(*r.get('judged', ('', 0, None)))
    )
  except (KeyError, TypeError, ValueError):
    return False


def _is_judged(pair, better, place):
  return isinstance(pair, str) and better in (0, 1) and place in (0, 1, None)


def read_object(line):
  """The JSON object of a complete line, or None."""
  try:
    value = json.loads(line)
  except ValueError:
    return None
  return value if line.endswith(b'\n') and isinstance(value, dict) else None
