"""Tasks: questions and answers from a JSON-lines file of the user."""

import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from rlvr_jax import enums, registry
from rlvr_jax.tasks import Env, Task, uniform
from rlvr_jax.verifiers import answer as answers


class Row(NamedTuple):
  """One line of a file, checked."""

  line: int  # from 1
  question: str
  answer: str  # gold answer
  text: str  # the answer field, unprocessed
  solution: str | None = None  # target text of supervised training
  steps: tuple[tuple[str, str], ...] | None = None  # its (title, text) parts


class Asked(Protocol):
  """A row of any env that reads a file."""

  @property
  def line(self) -> int: ...
  @property
  def question(self) -> str: ...
  @property
  def answer(self) -> str: ...


R = TypeVar('R', bound=Asked)


@registry.register('env')
def jsonl(
  *,
  path: str,
  test_path: str = '',
  test_fraction: float = 0.1,
  question_key: str = 'question',
  answer_key: str = 'answer',
) -> Env:
  """One JSON object per line, with a question and a gold answer.

  Answers are strings or numbers. Without `test_path`, a row is in the test
  split when the hash of its normalised question (see `normal`) is below
  `test_fraction`: rows with the same question stay together, and adding rows
  moves no other row to another split. Each split gets at least one question.
  Task ids are the split and the line number. A row may have a 'solution', the
  worked text that supervised training imitates, or 'steps': a list of strings,
  or of objects with 'text' and an optional 'title', which the env `steps`
  takes without splitting anything. The solution is then their texts, one per
  line.

  Args:
    path: the file; all its rows are the train split if `test_path` is given.
    test_path: a second file, the test split.
    test_fraction: share of the questions for the test split, in (0, 1).
    question_key: the field with the question.
    answer_key: the field with the gold answer.

  Raises:
    ValueError: a file is missing or empty, rows are invalid (the message
      counts all and shows the first five), a test question is also in train,
      or test_fraction is out of range.
  """
  rows = read(path, question_key, answer_key)
  if test_path:
    test = read(test_path, question_key, answer_key)
    check_disjoint(rows, test, path, test_path)
  else:
    rows, test = split(rows, test_fraction, path)
  return {'train': _tasks(rows, 'train'), 'test': _tasks(test, 'test')}


def read(
  path: str,
  question_key: str,
  answer_key: str,
  gold: Callable[[str], str] = str.strip,
) -> list[Row]:
  """Reads and checks the rows of a file; blank lines are skipped.

  Args:
    path: the file; '~' is expanded.
    question_key: the field with the question.
    answer_key: the field that `gold` reads.
    gold: extracts the gold answer from the text of the answer field.

  Raises:
    ValueError: the file is missing or has no rows, or rows are invalid: not
      JSON, not an object, a missing key, a wrong type, an empty question, an
      answer that the verifier cannot parse, or a question identical to an
      earlier one with another answer (18 and 18.0 are equal). The message
      counts all and shows the first five with their lines.
  """
  parse = lambda line, content: _row(
    line, content, question_key, answer_key, gold
  )

  def more_problems(rows):
    bad = bad_golds(rows)
    bad_lines = {line for line, _ in bad}
    good = [row for row in rows if row.line not in bad_lines]
    return bad + contradictions(good, lambda row: f'line {row.line}')

  rule = (
    f'A row needs {registry.show(question_key)}, a string, and '
    f'{registry.show(answer_key)}, a string or number that a verifier can read.'
  )
  return read_lines(path, parse, rule, more_problems)


def read_lines(
  path: str,
  parse: Callable[[int, bytes], R],
  rule: str,
  more_problems: Callable[[list[R]], list[tuple[int, str]]] = lambda rows: [],
) -> list[R]:
  """The rows of a file; blank lines are skipped.

  Args:
    path: the file; '~' is expanded.
    parse: (line from 1, content) -> row; ValueError says what is wrong.
    rule: a sentence that says what a row needs.
    more_problems: (line, what is wrong) of the rows that were parsed.

  Raises:
    ValueError: the file is missing or has no rows, or rows are invalid. The
      message counts all and shows the first five with their lines.
  """
  path = find(path)
  rows: list[R] = []
  problems: list[tuple[int, str]] = []
  with open(path, 'rb') as f:
    for line, content in enumerate(f, 1):
      if not content.strip():
        continue
      try:
        rows.append(parse(line, content))
      except (ValueError, RecursionError) as e:
        problems.append((line, str(e)))
  problems += more_problems(rows)
  if problems:
    raise ValueError(
      f'{registry.show(path)} has {len(problems)} bad rows. '
      + ' '.join(f'Line {n}: {why}' for n, why in sorted(problems)[:5])
      + (' ...' if len(problems) > 5 else '')
      + f' {rule}'
    )
  if not rows:
    raise ValueError(
      f'{registry.show(path)} is empty: write one JSON object per line.'
    )
  return rows


def find(path: str) -> str:
  """Returns the path with '~' expanded. ValueError if it is not a file."""
  full = os.path.expanduser(path)
  if not os.path.isfile(full):
    raise ValueError(
      f'There is no file {registry.show(path)} (from {os.getcwd()!r}): give the '
      'path of a file with one JSON object per line.'
    )
  return full


def check_disjoint(
  train: Iterable[Asked], test: Iterable[Asked], train_name: str, test_name: str
) -> None:
  """Raises ValueError if a question is in both splits.

  Questions that differ only in case or white space count as one if their
  answers are equal, and as two otherwise ('solve for R', 'solve for r').
  """
  lines = [(row.line, other[0].line) for row, other in shared(train, test)]
  if lines:
    shown = ', '.join(f'line {a} = line {b}' for a, b in lines[:5])
    raise ValueError(
      f'{len(lines)} questions of {registry.show(test_name)} are also in '
      f'{registry.show(train_name)} '
      f'({shown}{", ..." if len(lines) > 5 else ""}). What is trained on '
      'cannot be tested on: remove them from one file.'
    )


def shared(train: Iterable[R], test: Iterable[R]) -> list[tuple[R, list[R]]]:
  """(row of test, rows of train with its question), of those with any.

  When questions are the same: see `check_disjoint`.
  """
  by_question: dict[str, list[R]] = {}
  for row in train:
    by_question.setdefault(normal(row.question), []).append(row)
  out = []
  for row in test:
    same = [
      other
      for other in by_question.get(normal(row.question), ())
      if row.question == other.question or row.answer == other.answer
    ]
    if same:
      out.append((row, same))
  return out


def normal(question: str) -> str:
  """Returns the question case-folded, white space collapsed."""
  return ' '.join(question.casefold().split())


def load_object(content: bytes) -> dict:
  """The JSON object of a line; ValueError says what is wrong with it."""
  try:
    record = json.loads(content.decode('utf-8-sig'))
  except UnicodeDecodeError as e:
    raise ValueError('is not UTF-8.') from e
  except json.JSONDecodeError as e:
    raise ValueError(f'is not JSON ({e}).') from e
  if not isinstance(record, dict):
    raise ValueError(f'is a {type(record).__name__}, not an object.')
  return record


def check_text(text: str) -> None:
  """Raises ValueError for text that UTF-8 cannot write."""
  try:
    text.encode()
  except UnicodeEncodeError as e:
    raise ValueError(
      f'{text!r:.60} holds an unpaired surrogate ({text[e.start]!r}).'
    ) from e


def _row(
  line: int,
  content: bytes,
  question_key: str,
  answer_key: str,
  gold: Callable[[str], str],
) -> Row:
  """Parses one line; ValueError says what is wrong with it."""
  record = load_object(content)
  for key in question_key, answer_key:
    if key not in record:
      raise ValueError(
        f'has no {registry.show(key)}.{registry.nearest(key, record)}'
      )
  question, text = record[question_key], record[answer_key]
  if not isinstance(question, str):
    raise ValueError(
      f'{question_key}={registry.show(question, 60)} is not a string.'
    )
  if not question.strip():
    raise ValueError(f'{question_key} is empty.')
  if isinstance(text, (int, float)) and not isinstance(text, bool):
    if isinstance(text, float) and not math.isfinite(text):
      raise ValueError(f'{answer_key}={text} is not a finite number.')
    text = json.dumps(text)
  if not isinstance(text, str):
    raise ValueError(
      f'{answer_key}={registry.show(text, 60)} is not a string or a number.'
    )
  solution = record.get('solution')
  if solution is not None and not isinstance(solution, str):
    raise ValueError(f'solution={registry.show(solution, 60)} is not a string.')
  steps = _steps(record)
  if steps and solution is None:
    solution = '\n'.join(step_text for _, step_text in steps)
  for field in (question, text, solution or '', *itertools.chain(*steps or ())):
    check_text(field)
  return Row(line, question, gold(text), text, solution, steps)


def _steps(record: dict) -> tuple[tuple[str, str], ...] | None:
  """Returns (title, text) of each of record['steps']; None without steps."""
  steps = record.get('steps')
  if steps is None:
    return None
  if not isinstance(steps, list) or not steps:
    raise ValueError(
      f'steps={registry.show(steps, 60)} is not a non-empty list.'
    )
  out = []
  for step in steps:
    step = {'text': step} if isinstance(step, str) else step
    pair = (
      (step.get('title', ''), step.get('text'))
      if isinstance(step, dict)
      else (None, None)
    )
    if not all(isinstance(x, str) for x in pair) or not pair[1].strip():
      raise ValueError(
        f'step {registry.show(step, 60)} is neither a non-empty string nor an '
        "object with 'text' and an optional 'title'."
      )
    out.append((pair[0].strip(), pair[1].strip()))
  return tuple(out)


def bad_golds(rows: Sequence[Asked]) -> list[tuple[int, str]]:
  """Returns (line, problem) for gold answers that cannot be parsed."""
  problems = answers.gold_problems([row.answer for row in rows])
  return [(rows[i].line, why) for i, why in problems.items()]


def contradictions(
  rows: Sequence[R], where: Callable[[R], str]
) -> list[tuple[int, str]]:
  """Returns (line, problem) for questions answered differently before."""
  first: dict[str, R] = {}
  pairs = []
  for row in rows:
    other = first.setdefault(row.question, row)
    if other.answer != row.answer:
      pairs.append((row, other))
  boxed = lambda x: f'\\boxed{{{x.answer}}}'
  verdicts = answers.verify(
    [a.answer for pair in pairs for a in pair],
    [boxed(b) for pair in pairs for b in pair[::-1]],
  )
  return [
    (
      row.line,
      f'answers {registry.show(row.answer, 60)} what {where(other)} answers '
      f'{registry.show(other.answer, 60)}.',
    )
    for (row, other), both in zip(pairs, zip(verdicts[::2], verdicts[1::2]))
    if enums.Verdict.CORRECT not in both
  ]


def split(rows: list[R], fraction: float, path: str) -> tuple[list[R], list[R]]:
  """(train, test) rows, split by the hash of their `question`: see `jsonl`."""
  is_number = isinstance(fraction, (int, float)) and not isinstance(
    fraction, bool
  )
  if not (is_number and 0 < fraction < 1):
    raise ValueError(
      f'test_fraction={registry.show(fraction)} must be in (0, 1).'
    )
  positions = {
    key: uniform(2**53, 'jsonl', key) / 2**53
    for key in (normal(row.question) for row in rows)
  }
  if len(positions) < 2:
    raise ValueError(
      f'{registry.show(path)} has one question only, which cannot be in both '
      'splits: add rows, or give a test_path.'
    )
  ordered = sorted(positions, key=positions.get)
  test = {key for key, position in positions.items() if position < fraction}
  test = (test | {ordered[0]}) - {ordered[-1]}
  return (
    [row for row in rows if normal(row.question) not in test],
    [row for row in rows if normal(row.question) in test],
  )


def _tasks(rows: list[Row], split: str) -> list[Task]:
  return [
    Task(
      f'{split}-{row.line}',
      row.question,
      row.answer,
      'math',
      {}
      if row.solution is None
      else {'solution': row.solution}
      | ({} if row.steps is None else {'steps': row.steps}),
    )
    for row in rows
  ]
