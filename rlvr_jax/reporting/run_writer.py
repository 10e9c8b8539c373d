"""What does a run write while it trains? `DIR/*.jsonl` and the console.

Every line of the files is one JSON object with a `step`, counted from 1: the
line of step s is written after the s-th update and before the checkpoint of
step s is saved. `eval.jsonl` also has a step 0, before any update. NaN and
infinities, which JSON lacks, are the strings 'nan', 'inf' and '-inf'.

Only the first host writes; on all others the same calls do nothing.
"""

import contextlib
import errno
import json
import logging
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import ml_collections
import rich.progress

from rlvr_jax import config as config_lib
from rlvr_jax import config_file, hosts, storage
from rlvr_jax.io import manifest
from rlvr_jax.reporting import sinks
from rlvr_jax.reporting.goodput import RUN, Goodput, Start

_log = logging.getLogger(__name__)

# Metrics that may differ between two runs of one config; a name that ends in
# '/' is a prefix.
WALL_CLOCK = ('step_time', 'timing_s/', 'perf/')

METRICS, EVAL, ROLLOUTS = 'metrics.jsonl', 'eval.jsonl', 'rollouts.jsonl'
_FILES = (METRICS, EVAL, ROLLOUTS)

# Metrics on a console line, if the run has them, and their short names.
_CONSOLE = {
  'reward': 'reward',
  'accuracy': 'accuracy',
  'rewards/accuracies': 'rewards/accuracies',
  'completions/mean_length': 'length',
  'entropy': 'entropy',
  'kl': 'kl',
  'grad_norm': 'grad_norm',
}


def is_wall_clock(name: str) -> bool:
  """Whether a metric measures this machine rather than the run."""
  return any(
    name.startswith(w) if w.endswith('/') else name == w for w in WALL_CLOCK
  )


def open(
  workdir: str | os.PathLike,
  config: ml_collections.ConfigDict,
  *,
  step: int | None,
  total_steps: int,
  transcripts: int,
  console_every: int = 1,
  command: str = '',
  source: config_file.Source | None = None,
  log_to: Sequence[str] = (),
) -> 'Writer':
  """The writer of a run that starts, or resumes after `step`.

  Lines later than `step`, which a killed run wrote after its last checkpoint,
  are dropped, so that the files become those of a run that was never killed.
  Sinks had those lines already. A resumed run makes equal ones, which are not
  sent again: a sink gets each step once.
  The caller holds the directory: see `run_lock.hold`.

  Args:
    workdir: the run's directory; created if it does not exist. The files of
      one in a bucket are kept here, and copied there.
    config: the run's config, written to `config.json`.
    step: of the checkpoint that the run resumes from; None for a new run.
    total_steps: where the run ends.
    transcripts: largest number of lines per call of `rollouts`.
    console_every: steps per console line, if the output is no terminal.
    command: the command line, kept in `command.txt` for the report.
    source: the config file, kept for those who read the run.
    log_to: names of `sinks`.

  Raises:
    OSError: a file cannot be written; names it.
  """
  if not hosts.first():
    return Writer(None, '', step or 0, total_steps, transcripts, 1)
  folder = storage.folder(workdir)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    raise explain(e, folder) from e
  _replace(folder / 'config.json', [config_lib.to_json(config)])
  if command and (step is None or not (folder / 'command.txt').exists()):
    _replace(folder / 'command.txt', [command + '\n'])
  kept = config_file.texts(source) if source else {}
  if step is None or not all((folder / name).exists() for name in kept):
    for name, text in kept.items():
      _replace(folder / name, [text])
  start = None if step is None else Start.read(folder)
  if start is None:
    start = Start.now(step or 0)
    _replace(folder / RUN, [start.to_json()])
  sent = {}
  for name in _FILES:
    if step is not None:
      sent[name] = max((x['step'] for x in read(folder / name)), default=-1)
    _drop_after(folder / name, -1 if step is None else step)
  return Writer(
    folder,
    workdir,
    step or 0,
    total_steps,
    transcripts,
    console_every,
    goodput=Goodput(start, read(folder / METRICS)),
    outlets=sinks.open(
      log_to,
      folder,
      start.id,
      max(sent.values(), default=-1),
      config_lib.flatten(config),
    ),
    sent=sent,
  )


class Writer:
  """Appends lines and prints progress. Use it in a `with` block."""

  def __init__(
    self,
    folder: pathlib.Path | None,
    workdir: str | os.PathLike,
    step: int,
    total: int,
    transcripts: int,
    every: int,
    goodput: Goodput | None = None,
    outlets: Sequence[sinks.Sink] = (),
    sent: Mapping[str, int] | None = None,
  ):
    self._folder, self._workdir = folder, workdir
    self._copying = contextlib.ExitStack()
    self._goodput, self._outlets = goodput, outlets
    self._sent = {} if sent is None else sent  # last step, by file
    self._total, self._transcripts, self._every = total, transcripts, every
    self._times, self._last = [], time.perf_counter()
    self._bar = _bar(step, total) if folder and sys.stdout.isatty() else None

  def __enter__(self) -> 'Writer':
    if self._folder is not None:
      self._copying.enter_context(storage.kept(self._workdir))
    return self

  def __exit__(self, *_):
    self.close()

  def metrics(self, step: int, values: Mapping[str, float]) -> None:
    """Writes the line of a training step; values may be JAX scalars.

    Raises:
      ValueError: another program took the run over: see `storage`.
    """
    if self._folder is None:
      return
    storage.check(self._workdir)
    if self._goodput is not None:
      values = {**values, **self._goodput.after(values)}
    line = append(self._folder / METRICS, step, values)
    self._send(METRICS, line)
    now = time.perf_counter()
    self._times = [*self._times[-19:], now - self._last]
    self._last = now
    # The first step compiles: it is no estimate of the others.
    seconds = statistics.fmean(self._times[1:] or self._times)
    left = seconds * (self._total - step)
    shown = ' '.join(
      f'{short} {float(line[k]):.3g}'
      for k, short in _CONSOLE.items()
      if k in line
    )
    rate = f'{seconds:.3g} s/step'
    if self._bar is not None:
      self._bar.update(
        0, completed=step, shown=shown, left=f'{clock(left)} left'
      )
      self._bar.refresh()
    elif step % self._every == 0 or step == self._total:
      self.say(f'step {step}/{self._total} {shown} {rate}, {clock(left)} left')

  def eval(self, step: int, values: Mapping) -> None:
    """Writes the line of an evaluation, also to the console."""
    if self._folder is None:
      return
    line = append(self._folder / EVAL, step, values)
    self._send(EVAL, line)
    numbers = ' '.join(
      f'{k} {float(v):.3g}'
      for k, v in line.items()
      if k.startswith('eval/')
      and not k.endswith(('_low', '_high'))
      and isinstance(v, (int, float))
    )
    self.say(f'eval at step {step}: {numbers}')

  def _send(self, name: str, line: Mapping) -> None:
    if line['step'] > self._sent.get(name, -1):
      for sink in self._outlets:
        sink.log(line['step'], sinks.numbers(line))

  def rollouts(self, step: int, transcripts: Sequence[Mapping]) -> None:
    """Writes the first `transcripts` (see `open`) of these records."""
    if self._folder is not None:
      for line in transcripts[: self._transcripts]:
        append(self._folder / ROLLOUTS, step, line)

  def sync(self) -> None:
    """Returns when all lines are on disk and survive a power cut, and copied.

    Call it before a checkpoint is saved: `open` keeps the lines up to it.
    """
    if self._folder is None:
      return
    try:
      for path in (*map(self._folder.joinpath, _FILES), self._folder):
        if path.exists():
          manifest.sync(path)
    except OSError as e:
      raise explain(e, self._folder) from e
    storage.push(self._workdir)

  def say(self, text: str) -> None:
    """Prints a line, above the progress bar if there is one."""
    if self._folder is None:
      return
    if self._bar is not None:
      self._bar.console.print(text, markup=False, highlight=False)
    else:
      # Escape what the console cannot encode, such as lone surrogates.
      encoding = sys.stdout.encoding or 'utf-8'
      text = text.encode(encoding, 'backslashreplace').decode(encoding)
      print(text, flush=True)

  def close(self) -> None:
    """Ends the progress bar, sinks and copies; later calls do nothing."""
    if self._bar is not None:
      self._bar.stop()
    for sink in self._outlets:
      sink.close()
    self._outlets = ()
    self._folder = self._bar = None
    self._copying.close()


def append(path: str | os.PathLike, step: int, values: Mapping) -> dict:
  """Appends one JSON line, unbuffered; returns the object as written."""
  line = {'step': int(step)} | config_lib.jsonable(values)
  line['step'] = int(step)
  text = json.dumps(line, ensure_ascii=False, allow_nan=False) + '\n'
  path = pathlib.Path(path)
  try:
    # Unbuffered, in one call: a kill cuts at most the last line short.
    with path.open('ab', buffering=0) as f:
      f.write(text.encode('utf-8', 'backslashreplace'))
  except OSError as e:
    raise explain(e, path) from e
  return line


def read(path: str | os.PathLike) -> Iterator[dict]:
  """Yields the complete lines of a file; none if there is no file."""
  for line, _ in _lines(pathlib.Path(path)):
    if line is not None:
      yield line


def clock(seconds: float) -> str:
  """75 -> '1:15', 3675 -> '1:01:15'."""
  minutes, s = divmod(round(seconds), 60)
  hours, m = divmod(minutes, 60)
  return f'{hours}:{m:02}:{s:02}' if hours else f'{m}:{s:02}'


def _bar(step, total):
  p = rich.progress
  bar = p.Progress(
    p.TextColumn('step'),
    p.MofNCompleteColumn(),
    p.BarColumn(),
    p.TextColumn('{task.fields[shown]}', markup=False),
    p.TimeElapsedColumn(),
    p.TextColumn('{task.fields[left]}'),
  )
  bar.add_task('', total=total, completed=step, shown='compiling', left='')
  bar.start()
  return bar


def _drop_after(path, step):
  """Keeps the complete lines up to `step`, atomically."""
  if not path.exists():
    return
  _replace(
    path,
    (
      text
      for line, text in _lines(path)
      if line is not None and line['step'] <= step
    ),
  )


def _lines(path):
  """Yields (object, text) per line; object is None if it is incomplete."""
  if not path.exists():
    return
  with path.open(encoding='utf-8', errors='replace', newline='\n') as f:
    for number, text in enumerate(f, 1):
      try:
        line = json.loads(text)
        whole = isinstance(line['step'], int) and text.endswith('\n')
      except (ValueError, KeyError, TypeError):
        whole = False
      if not whole:
        _log.warning('%s: line %d is not whole and is ignored.', path, number)
      yield (line if whole else None), text


def _replace(path, texts):
  tmp = path.with_name(path.name + '.tmp')
  try:
    with tmp.open('w', encoding='utf-8', newline='\n') as f:
      f.writelines(texts)
      f.flush()
      os.fsync(f.fileno())
    os.replace(tmp, path)
    manifest.sync(path.parent)
  except OSError as e:
    tmp.unlink(missing_ok=True)
    raise explain(e, path) from e


def explain(error: OSError, path: pathlib.Path) -> OSError:
  """The same error, with the path and the remedy."""
  remedy = 'Check that you may write there'
  if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
    remedy = 'The disk or a quota is full: free some space'
  return OSError(
    error.errno,
    f'{path} could not be written ({error.strerror}). {remedy}, then run the '
    'same command again; it resumes from its last checkpoint.',
  )
