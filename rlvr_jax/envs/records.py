"""How do the records of a data set become tasks, and what of the bad ones?"""

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from rlvr_jax import registry
from rlvr_jax.envs import jsonl
from rlvr_jax.tasks import Env, Task

_log = logging.getLogger(__name__)

# Bad rows that a message explains, and most that it names, or fields.
_EXPLAINED, _NUMBERED = 5, 50
_LACKS = 'has no field'  # in what is wrong with a row
_PART = re.compile(r'([\w.-]+)(?:\[(-?\d{1,12}%?)?:(-?\d{1,12}%?)?\])?')


class Source(Protocol):
  """A data set whose records are read by number."""

  name: str  # in messages
  sizes: Mapping[str, int]  # records of each split

  def read(
    self, split: str, rows: range, keys: Sequence[str]
  ) -> Iterator[tuple[str, Any]]:
    """(where a record is, the record or the ValueError that it gave).

    A record is a dict of plain values with at least those of `keys` that there
    are. None is a value that is not known.
    """
    ...

  def fields(self, split: str) -> Iterable[str]:
    """The names of the fields of a split; of what was read, at least."""
    ...


class Gold(NamedTuple):
  """What a `pick` makes of the answer field.

  Attributes:
    answer: the gold answer, as `verifiers.answer` reads it.
    solution: the worked text that it was picked from, None if there is none.
    shown: what the question must show too, such as the options of a choice.
  """

  answer: str
  solution: str | None = None
  shown: str = ''


class Fields(NamedTuple):
  """Which fields of a record hold what; see `envs.tfds.tfds`."""

  question: str
  answer: str
  pick: str
  solution: str


class Row(NamedTuple):
  """A record, checked."""

  line: int  # its number in its split, from 0
  question: str
  answer: str
  solution: str | None
  split: str  # of the data set
  where: str


class Part(NamedTuple):
  """Some rows of a split of the data set."""

  split: str
  rows: range


def env(
  source: Source,
  fields: Fields,
  *,
  split: str,
  test_split: str,
  test_fraction: float,
  max_bad: float,
) -> Env:
  """The tasks of a data set.

  A row is bad, and left out, if the record cannot be read, a field is missing
  or of another type, the question is empty, the gold answer is none that the
  verifier reads, or the question was answered otherwise before. In the train
  split a question of the test split is bad too. Ids are the split of the data
  set and the number of the row there, so neither slices nor bad rows move them.

  Args:
    source: the data set.
    fields: where questions and gold answers are.
    split: rows of the train split, see `parts`.
    test_split: rows of the test split; '': as `jsonl` splits a file.
    test_fraction: share of the questions for the test split then, in (0, 1).
    max_bad: largest share of bad rows of a split, in [0, 1]; never all.

  Raises:
    ValueError: a split is not there, empty or overlaps the other one, more rows
      are bad, a field is in no row, or an option is out of range.
  """
  if not 0 <= max_bad <= 1:
    raise ValueError(f'max_bad={registry.show(max_bad)} must be in [0, 1].')
  pick = registry.get('pick', fields.pick)
  if not test_split:
    kept = _used(source, fields, pick, split, max_bad, ())
    train, test = jsonl.split(kept, test_fraction, source.name)
    return {'train': _tasks(train), 'test': _tasks(test)}
  _check_apart(source, split, test_split)
  test = _used(source, fields, pick, test_split, max_bad, ())
  train = _used(source, fields, pick, split, max_bad, test)
  return {'train': _tasks(train), 'test': _tasks(test)}


def parts(spec: str, sizes: Mapping[str, int], name: str) -> list[Part]:
  """The rows that a split such as 'train[:90%]+validation' names, as in TFDS.

  Bounds are row numbers or percentages, which are rounded to the nearest row;
  negative ones count from the end.

  Args:
    spec: split names of the data set, sliced or not, joined by '+'.
    sizes: {split: number of rows}.
    name: the data set, for messages.

  Raises:
    ValueError: the spec cannot be read, names another split, no rows, or a row
      twice.
  """
  out: list[Part] = []
  for text in spec.replace(' ', '').split('+'):
    match = _PART.fullmatch(text)
    if match is None:
      raise ValueError(
        f'split={registry.show(spec)}: {registry.show(text)} is no split; write '
        "'train', 'train[:90%]', 'train[100:200]', or several joined by '+'."
      )
    split = match[1]
    if split not in sizes:
      raise ValueError(
        f'{registry.show(name)} has no split {registry.show(split)}.'
        f'{registry.nearest(split, sizes)} It has '
        f'{", ".join(f"{k} ({n} rows)" for k, n in sizes.items()) or "none"}. '
        "With test_split='' a share of the train questions is the test split."
      )
    size = sizes[split]
    with registry.naming('split', spec):
      rows = range(
        _bound(match[2] or '0', size), _bound(match[3] or '100%', size)
      )
    if not rows:
      raise ValueError(
        f'split={registry.show(spec)} names no rows of {split}: it has {size}.'
      )
    for other in out:
      if _common(other, Part(split, rows)):
        raise ValueError(f'split={registry.show(spec)} names rows twice.')
    out.append(Part(split, rows))
  return out


def field(record: Any, path: str) -> Any:
  """The value of a field; 'a.b.0' is the first element of field b of field a.

  Raises:
    ValueError: there is none, or it is null.
  """
  value = record
  for key in (path,) if path in record else path.split('.'):
    if isinstance(value, Mapping) and key in value:
      value = value[key]
    elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
      value = value[int(key)]
    else:
      near = registry.nearest(path, record)
      raise ValueError(f'{_LACKS} {registry.show(path, 60)}.{near}')
  if value is None:
    raise ValueError(f'{registry.show(path, 60)} is null.')
  return value


def text(value: Any) -> str:
  """A value as text: strings, numbers, and booleans as true and false.

  Raises:
    ValueError: another type, or text that UTF-8 cannot write.
  """
  if isinstance(value, float) and not math.isfinite(value):
    raise ValueError(f'{value} is not a finite number.')
  if isinstance(value, (bool, int, float)):
    return json.dumps(value)
  if not isinstance(value, str):
    kind = type(value).__name__
    parted = kind in ('list', 'dict')
    hint = " Name one of its parts, as in 'answers.0'." if parted else ''
    raise ValueError(
      f'{registry.show(value, 60)} is a {kind}, not text or a number.{hint}'
    )
  jsonl.check_text(value)
  return value


def _used(
  source: Source,
  fields: Fields,
  pick: Callable,
  split: str,
  max_bad: float,
  test: Sequence[Row],
) -> list[Row]:
  """The good rows of a split. ValueError if too many are bad."""
  named = parts(split, source.sizes, source.name)
  rows, bad = _read(source, fields, pick, named)
  total, lacking = len(rows) + len(bad), any(_LACKS in x for x in bad.values())
  for i, why in _problems(rows, test).items():
    bad[rows[i].split, rows[i].line] = f'{rows[i].where}: {why}'
  kept = [row for row in rows if (row.split, row.line) not in bad]
  if not bad:
    return kept
  message = (
    f'{registry.show(source.name)}: {len(bad)} of {total} rows of '
    f'{registry.show(split)} cannot be used. {_named(bad)}'
  )
  if kept and len(bad) <= max_bad * total:
    _log.warning('%s They are left out.', message)
    return kept
  there = {k for part in named for k in source.fields(part.split)}
  listed = ', '.join(registry.show(k, 60) for k in sorted(there)[:_NUMBERED])
  raise ValueError(
    message
    + (f' Fields: {listed}.' if lacking else '')
    + f' Name the fields and a pick that fit (pick={registry.show(fields.pick)};'
    f' there are {", ".join(registry.names("pick"))}), or mend the rows. '
    + (
      f'max_bad={math.ceil(1000 * len(bad) / total) / 1000:g} leaves them out.'
      if kept
      else 'None is left.'
    )
  )


def _read(
  source: Source, fields: Fields, pick: Callable, named: Sequence[Part]
) -> tuple[list[Row], dict[tuple[str, int], str]]:
  """The rows that can be read, and {(split, number): what is wrong}."""
  rows: list[Row] = []
  bad: dict[tuple[str, int], str] = {}
  # Another pick may read any field, as a choice reads its options.
  keys = [fields.question, fields.answer, *filter(None, [fields.solution])]
  keys *= fields.pick in ('plain', 'words', 'hash', 'boxed')
  for split, numbers in named:
    found = source.read(split, numbers, keys)
    for number, (where, record) in zip(numbers, found, strict=True):
      try:
        if isinstance(record, ValueError):
          raise record
        rows.append(_row((split, number), where, record, fields, pick))
      except (ValueError, RecursionError) as e:
        bad[split, number] = f'{where}: {e}'
  return rows, bad


def _problems(rows: list[Row], test: Sequence[Row]) -> dict[int, str]:
  """{place in rows: what is wrong} of golds, contradictions, test questions."""
  placed = [row._replace(line=i) for i, row in enumerate(rows)]
  out = dict(jsonl.bad_golds(placed))
  good = [row for row in placed if row.line not in out]
  out |= dict(jsonl.contradictions(good, lambda row: row.where))
  for asked, same in jsonl.shared(good, test):
    out |= {
      row.line: f'is also {asked.where} of the test split.' for row in same
    }
  return out


def _row(
  at: tuple[str, int], where: str, record: Any, fields: Fields, pick
) -> Row:
  """Reads a record; ValueError says what is wrong with it."""
  if not isinstance(record, Mapping):
    raise ValueError(f'is a {type(record).__name__}, not an object.')
  with registry.naming('question'):
    question = field(record, fields.question)
    if not isinstance(question, str):
      raise ValueError(f'{registry.show(question, 60)} is not a string.')
    if not question.strip():
      raise ValueError('is empty.')
    jsonl.check_text(question)
  with registry.naming('answer'):
    value = field(record, fields.answer)
    gold = pick(value, record)
    gold = Gold(gold) if isinstance(gold, str) else gold
    if not gold.answer.strip():
      raise ValueError('is empty.')
  solution = gold.solution
  if fields.solution:
    with registry.naming('solution'):
      solution = text(field(record, fields.solution))
  if gold.shown:
    question = f'{question.rstrip()}\n\n{gold.shown}'
  return Row(at[1], question, gold.answer.strip(), solution, at[0], where)


def _named(bad: dict[tuple[str, int], str]) -> str:
  """'Row 3: why. ... Also 7, 9.'"""
  ordered = sorted(bad)
  words = ' '.join(bad[at] for at in ordered[:_EXPLAINED])
  if more := ordered[_EXPLAINED:]:
    listed = ', '.join(f'{split} {n}' for split, n in more[:_NUMBERED])
    words += f' Also {listed}{", ..." if len(more) > _NUMBERED else ""}.'
  return words


def _check_apart(source: Source, split: str, test_split: str) -> None:
  train = parts(split, source.sizes, source.name)
  for part in parts(test_split, source.sizes, source.name):
    for other in train:
      if common := _common(part, other):
        raise ValueError(
          f'split={registry.show(split)} and test_split='
          f'{registry.show(test_split)} share {len(common)} rows of '
          f'{part.split}, from {common[0]}. What is trained on cannot be tested '
          "on: slice them apart, as 'train[:90%]' and 'train[90%:]'."
        )


def _common(a: Part, b: Part) -> range:
  if a.split != b.split:
    return range(0)
  start = max(a.rows.start, b.rows.start)
  return range(start, min(a.rows.stop, b.rows.stop))


def _bound(word: str, size: int) -> int:
  """The row number of a bound, within 0..size."""
  if word.endswith('%'):
    percent = int(word[:-1])
    if not -100 <= percent <= 100:
      raise ValueError(f'{word} must be in -100%..100%.')
    at = (abs(percent) * size + 50) // 100 * (1 if percent >= 0 else -1)
    negative = percent < 0
  else:
    at = int(word)
    negative = at < 0
  return min(max(at + size * negative, 0), size)


def _tasks(rows: list[Row]) -> list[Task]:
  return [
    Task(
      f'{row.split}-{row.line}',
      row.question,
      row.answer,
      'math',
      {} if row.solution is None else {'solution': row.solution},
    )
    for row in rows
  ]
