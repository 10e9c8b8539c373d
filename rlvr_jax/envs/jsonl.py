"""Questions and answers from a file of the user's."""

import json
import math
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rlvr_jax import enums, registry
from rlvr_jax.tasks import Env, Task, uniform
from rlvr_jax.verifiers import answer as answers


class Row(NamedTuple):
  """One line of a file."""

  line: int  # from 1
  question: str
  answer: str  # gold answer
  text: str  # the answer field as it stands
  solution: str | None = None  # a text to imitate
  steps: tuple[tuple[str, str], ...] | None = None  # its (title, text) parts


@registry.register('env')
def jsonl(
  *,
  path: str,
  test_path: str = '',
  test_fraction: float = 0.1,
  question_key: str = 'question',
  answer_key: str = 'answer',
) -> Env:
  """A JSON object per line, with a question and an answer that is a value.

  Answers are strings or numbers. Without `test_path`, a row is in the test
  split when the hash of its question (lower case, spaces squeezed) falls below
  `test_fraction`: rows that repeat a question stay together, and rows added
  later move no other. Each split gets one question at least. Tasks are named
  by file and line. A row may have a 'solution', the worked text that
  supervised training imitates, or its 'steps': a list of texts, or of objects
  with 'text' and perhaps 'title', which the env `steps` takes as they are. The
  solution is then their texts, a line each.

  Args:
    path: the file; its rows are the train split if there is a `test_path`.
    test_path: a second file, the test split.
    test_fraction: share of the questions for the test split, in (0, 1).
    question_key: the field with the question.
    answer_key: the field with the gold answer.

  Raises:
    ValueError: a missing or empty file, bad rows (all counted, five named),
      a test question that is also in train, a bad fraction.
  """
  rows = read(path, question_key, answer_key)
  if test_path:
    test = read(test_path, question_key, answer_key)
    check_disjoint(rows, test, path, test_path)
  else:
    rows, test = _split(rows, test_fraction, path)
  return {'train': _tasks(rows, 'train'), 'test': _tasks(test, 'test')}


def read(
  path: str,
  question_key: str,
  answer_key: str,
  gold: Callable[[str], str] = str.strip,
) -> list[Row]:
  """The rows of a file; `gold` takes the answer out of the answer field.

  Blank lines are skipped.

  Raises:
    ValueError: no such file, no rows, or bad rows: not JSON, no object, a key
      missing, a wrong type, no question, an answer that no verifier can read,
      a question, to the letter, that an earlier row answers differently (18
      and 18.0 are the same). Counts them all and names the first five with
      their lines.
  """
  path = find(path)
  rows, problems = [], []
  with open(path, 'rb') as f:
    for line, content in enumerate(f, 1):
      if not content.strip():
        continue
      try:
        rows.append(_row(line, content, question_key, answer_key, gold))
      except (ValueError, RecursionError) as e:
        problems.append((line, str(e)))
  unread = _bad_golds(rows)
  lines = {line for line, _ in unread}
  problems += unread
  problems += _contradictions([row for row in rows if row.line not in lines])
  if problems:
    raise ValueError(
      f'{registry.show(path)} has {len(problems)} bad rows. '
      + ' '.join(f'Line {n}: {why}' for n, why in sorted(problems)[:5])
      + (' ...' if len(problems) > 5 else '')
      + f' A row needs {registry.show(question_key)}, a string, and {registry.show(answer_key)}, a '
      'string or number that a verifier can read.'
    )
  if not rows:
    raise ValueError(
      f'{registry.show(path)} is empty: write one JSON object per line.'
    )
  return rows


def find(path: str) -> str:
  """The path with '~' resolved. ValueError if no file is there."""
  full = os.path.expanduser(path)
  if not os.path.isfile(full):
    raise ValueError(
      f'There is no file {registry.show(path)} (from {os.getcwd()!r}): give the path of a '
      'file with one JSON object per line.'
    )
  return full


def check_disjoint(
  train: Iterable[Row], test: Iterable[Row], train_name: str, test_name: str
) -> None:
  """Raises ValueError if a question stands in both.

  Questions that differ in case or space are the same one if they have the
  same answer; else they are two, such as those after R and after r.
  """
  seen: dict[str, list[Row]] = {}
  for row in train:
    seen.setdefault(normal(row.question), []).append(row)
  both = []
  for row in test:
    for other in seen.get(normal(row.question), ()):
      if row.question == other.question or row.answer == other.answer:
        both.append((row.line, other.line))
        break
  if both:
    lines = ', '.join(f'line {a} = line {b}' for a, b in both[:5])
    raise ValueError(
      f'{len(both)} questions of {registry.show(test_name)} are also in {registry.show(train_name)} '
      f'({lines}{", ..." if len(both) > 5 else ""}). What is trained on cannot '
      'be tested on: take them out of one file.'
    )


def normal(question: str) -> str:
  """The question without case and superfluous space."""
  return ' '.join(question.casefold().split())


def _row(line, content, question_key, answer_key, gold) -> Row:
  try:
    record = json.loads(content.decode('utf-8-sig'))
  except UnicodeDecodeError as e:
    raise ValueError('is not UTF-8.') from e
  except json.JSONDecodeError as e:
    raise ValueError(f'is not JSON ({e}).') from e
  if not isinstance(record, dict):
    raise ValueError(f'is a {type(record).__name__}, not an object.')
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
      raise ValueError(f'{answer_key}={text} is no finite number.')
    text = json.dumps(text)
  if not isinstance(text, str):
    raise ValueError(
      f'{answer_key}={registry.show(text, 60)} is no string and no number.'
    )
  solution = record.get('solution')
  if solution is not None and not isinstance(solution, str):
    raise ValueError(f'solution={registry.show(solution, 60)} is not a string.')
  parts = _steps(record)
  if parts and solution is None:
    solution = '\n'.join(text for _, text in parts)
  texts = [question, text, solution or '', *(t for p in parts or () for t in p)]
  for text_ in texts:
    try:
      text_.encode()
    except UnicodeEncodeError as e:
      raise ValueError(
        f'{text_!r:.60} holds half of a character ({text_[e.start]!r}).'
      ) from e
  return Row(line, question, gold(text), text, solution, parts)


def _steps(record) -> tuple[tuple[str, str], ...] | None:
  """(title, text) of each of record['steps']."""
  found = record.get('steps')
  if found is None:
    return None
  if not isinstance(found, list) or not found:
    raise ValueError(f'steps={registry.show(found, 60)} is no list of steps.')
  out = []
  for step in found:
    step = {'text': step} if isinstance(step, str) else step
    pair = (
      (step.get('title', ''), step.get('text'))
      if isinstance(step, dict)
      else (None, None)
    )
    if not all(isinstance(x, str) for x in pair) or not pair[1].strip():
      raise ValueError(
        f"step {registry.show(step, 60)} is no text, and no object with 'text' and perhaps "
        "'title'."
      )
    out.append((pair[0].strip(), pair[1].strip()))
  return tuple(out)


def _bad_golds(rows: list[Row]) -> list[tuple[int, str]]:
  try:
    answers.check_golds([row.answer for row in rows])
    return []
  except ValueError:
    problems = []
  for row in rows:
    try:
      answers.check_gold(row.answer)
    except ValueError as e:
      problems.append((row.line, str(e)))
  return problems


def _contradictions(rows: list[Row]) -> list[tuple[int, str]]:
  first: dict[str, Row] = {}
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
      f'answers {registry.show(row.answer, 60)} what line {other.line} answers '
      f'{registry.show(other.answer, 60)}.',
    )
    for (row, other), two in zip(pairs, zip(verdicts[::2], verdicts[1::2]))
    if enums.Verdict.CORRECT not in two
  ]


def _split(
  rows: list[Row], fraction: float, path: str
) -> tuple[list[Row], list[Row]]:
  number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
  if not (number and 0 < fraction < 1):
    raise ValueError(
      f'test_fraction={registry.show(fraction)} must be in (0, 1).'
    )
  place = {
    key: uniform(2**53, 'jsonl', key) / 2**53
    for key in (normal(row.question) for row in rows)
  }
  if len(place) < 2:
    raise ValueError(
      f'{registry.show(path)} has one question only, which cannot be in both splits: add '
      'rows, or give a test_path.'
    )
  ordered = sorted(place, key=place.get)
  test = {key for key in place if place[key] < fraction}
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
