"""Tasks: a data set in a local folder, as Parquet or JSON-lines files."""

import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlvr_jax import registry
from rlvr_jax.envs import jsonl, records
from rlvr_jax.tasks import Env

FORMATS = ('.parquet', '.jsonl')
# Words in the names of files and folders, as the package `datasets` reads them.
_SPLITS = {
  word: split
  for split, words in {
    'train': 'train training',
    'validation': 'validation valid val dev',
    'test': 'test testing eval evaluation',
  }.items()
  for word in words.split()
}
_SHARD = re.compile(r'(.+?)-\d+-of-(\d+)')  # train-00000-of-00002
_BATCH = 1024  # rows of a Parquet file in memory


@registry.register('env')
def folder(
  *,
  path: str,
  question: str = 'question',
  answer: str = 'answer',
  split: str = 'train',
  pick: str = 'plain',
  test_split: str = 'test',
  test_fraction: float = 0.1,
  solution: str = '',
  max_bad: float = 0.1,
) -> Env:
  r"""A data set as a hub has it: Parquet or JSON-lines files in a folder.

    folder('data/gsm8k/main', pick=hash)
    folder('data/math', question=problem, answer=solution, pick=boxed)

  Files belong to the split that their name, or their folder's, tells:
  train-00000-of-00002.parquet, data/test.jsonl, validation/a.parquet. Where no
  name tells one, all are 'train'. Rows are numbered through the files of a
  split in the order of their paths. Parquet needs `pip install
  'rlvr_jax[parquet]'`.

  Args:
    path: the folder, or one file. A data set with several configs has a folder
      for each: give that of one.
    question, answer, split, pick, test_split, test_fraction, solution, max_bad:
      see `envs.tfds.tfds`. `jsonl` reads one file without rules, and refuses
      every bad row.

  Raises:
    ValueError: there are no such files, a split has files in several folders or
      formats, a file cannot be read, or see `records.env`.
  """
  fields = records.Fields(question, answer, pick, solution)
  return records.env(
    Files(path),
    fields,
    split=split,
    test_split=test_split,
    test_fraction=test_fraction,
    max_bad=max_bad,
  )


class File(NamedTuple):
  """One file of a split."""

  path: Path
  size: int  # rows


class Files:
  """The records of a folder's files: a `records.Source`."""

  def __init__(self, path: str):
    self.name = path
    self._files = {
      split: [File(file, _size(file)) for file in files]
      for split, files in _by_split(path).items()
    }
    self.sizes: Mapping[str, int] = {
      split: sum(f.size for f in files) for split, files in self._files.items()
    }
    self._fields: dict[str, dict[str, None]] = {}

  def read(
    self, split: str, rows: range, keys: Sequence[str]
  ) -> Iterator[tuple[str, Any]]:
    """See `records.Source`."""
    seen = self._fields.setdefault(split, {})
    start = 0
    for file in self._files[split]:
      low = max(rows.start - start, 0)
      high = min(rows.stop - start, file.size)
      start += file.size
      if low >= high:
        continue
      parquet = file.path.suffix == '.parquet'
      found = (_parquet if parquet else _lines)(
        file.path, low, high, keys, seen
      )
      for where, record in found:
        yield f'{file.path.name} {where}', record

  def fields(self, split: str) -> list[str]:
    """See `records.Source`."""
    return list(self._fields.get(split, ()))


def _by_split(path: str) -> dict[str, list[Path]]:
  """{split: its files in order}. ValueError if there are none, or a mixture."""
  root = Path(os.path.expanduser(path))
  if path and os.path.isfile(root):
    found, root = [root], root.parent
  elif path and os.path.isdir(root):
    found = [p for p in sorted(root.rglob('*')) if p.is_file()]
    hidden = lambda p: any(x[0] == '.' for x in p.relative_to(root).parts)
    found = [p for p in found if not hidden(p)]
  else:
    raise ValueError(
      f'There is no folder {registry.show(path)} (from {os.getcwd()!r}): give '
      'the path of a folder with .parquet or .jsonl files, or of one such file.'
    )
  files = [p for p in found if p.suffix in FORMATS]
  if not files:
    kinds = sorted({p.suffix or p.name for p in found})[:10]
    raise ValueError(
      f'{registry.show(path)} has no {" or ".join(FORMATS)} file, but '
      f'{", ".join(kinds) or "nothing"}. Save the data set as one of these.'
    )
  named = {p: _split_of(p.relative_to(root)) for p in files}
  if not any(named.values()):
    named = dict.fromkeys(files, 'train')
  out: dict[str, list[Path]] = {}
  for p in files:
    out.setdefault(named[p] or p.stem, []).append(p)
  for split, members in out.items():
    folders = sorted({str(p.parent.relative_to(root)) for p in members})
    formats = sorted({p.suffix for p in members})
    if len(folders) > 1:
      raise ValueError(
        f'{registry.show(path)} has files of {split} in several folders '
        f'({", ".join(folders[:10])}): give the path of one of them.'
      )
    if len(formats) > 1:
      raise ValueError(
        f'{registry.show(path)} has files of {split} as {" and ".join(formats)}'
        ', perhaps the same rows: keep one of them.'
      )
    shards = [m for p in members if (m := _SHARD.fullmatch(p.stem))]
    if shards and len(shards) != int(shards[0][2]):
      raise ValueError(
        f'{registry.show(path)} has {len(shards)} files of {split}, whose names '
        f'say that there are {int(shards[0][2])}: fetch the others too.'
      )
  return out


def _split_of(path: Path) -> str:
  """The split that a file's name or folder tells, '' if none."""
  for name in (path.stem, *reversed(path.parent.parts)):
    words = [w for w in re.split(r'[^a-z]+', name.lower()) if w in _SPLITS]
    if words:
      return _SPLITS[words[-1]]
  match = _SHARD.fullmatch(path.stem)
  return match[1] if match else ''


def _size(path: Path) -> int:
  """The number of rows of a file."""
  if path.suffix == '.parquet':
    return _open(path).metadata.num_rows
  with open(path, 'rb') as f:
    return sum(bool(line.strip()) for line in f)


def _lines(
  path: Path, low: int, high: int, keys: Sequence[str], seen: dict[str, None]
) -> Iterator[tuple[str, Any]]:
  """Rows low to high of a file; blank lines are none."""
  row = -1
  with open(path, 'rb') as f:
    for line, content in enumerate(f, 1):
      row += bool(content.strip())
      if row >= high:
        return
      if row < low or not content.strip():
        continue
      try:
        record: Any = jsonl.load_object(content)
        seen |= dict.fromkeys(record)
      except ValueError as e:
        record = e
      except RecursionError:
        record = ValueError('is nested too deeply.')
      yield f'line {line}', record


def _parquet(
  path: Path, low: int, high: int, keys: Sequence[str], seen: dict[str, None]
) -> Iterator[tuple[str, Any]]:
  file = _open(path)
  columns = file.schema_arrow.names
  seen |= dict.fromkeys(columns)
  wanted = {k if k in columns else k.split('.')[0] for k in keys}
  used = [c for c in columns if c in wanted] if keys else columns
  row = 0
  for group in range(file.num_row_groups):
    size = file.metadata.row_group(group).num_rows
    if row >= high:
      return
    if row + size <= low:
      row += size
      continue
    batches = file.iter_batches(_BATCH, row_groups=[group], columns=used)
    for batch in _read(path, batches):
      for record in _records(batch):
        if low <= row < high:
          yield f'row {row}', record
        row += 1


def _read(path: Path, batches: Iterator) -> Iterator:
  """The batches; a damaged file is refused."""
  try:
    yield from batches
  except (OSError, ValueError) as e:  # pyarrow's errors are these
    raise ValueError(
      f'{registry.show(str(path))} is damaged ({str(e)[:200]}): fetch it again.'
    ) from e


def _records(batch: Any) -> list[Any]:
  """The rows of a batch; a ValueError in place of one that is not UTF-8."""
  try:
    rows = batch.to_pylist()
  except ValueError as e:
    if batch.num_rows == 1:
      return [e]
    return [
      record
      for i in range(batch.num_rows)
      for record in _records(batch.slice(i, 1))
    ]
  # The shortest float64 that is written like it: 0.1, not 0.10000000149.
  for column in batch.schema:
    if str(column.type) in ('float', 'halffloat'):
      for record in rows:
        x = record[column.name]
        record[column.name] = None if x is None else float(str(np.float32(x)))
  return rows


def _open(path: Path) -> Any:
  try:
    pq = importlib.import_module('pyarrow.parquet')
  except ImportError as e:
    raise ValueError(
      f'{registry.show(str(path))} needs pyarrow ({e}): pip install '
      "'rlvr_jax[parquet]', or save the data set as .jsonl."
    ) from e
  try:
    return pq.ParquetFile(path)
  except (OSError, ValueError) as e:  # pyarrow's errors are these
    raise ValueError(
      f'{registry.show(str(path))} is no Parquet file ({str(e)[:200]}). '
      "A file of some hundred bytes may be a pointer: run 'git lfs pull'."
    ) from e
