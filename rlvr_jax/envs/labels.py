"""Majority answers of a model as labels: voted, kept in a file, joined.

A label takes the place of the gold answer in the rewards `majority` and
`incorrect`, and nowhere else: tasks keep their gold answer, so verdicts and
accuracy are measured against the truth. "Spurious Rewards"
(arXiv:2506.10947): the label is the most frequent of 64 answers
of the untrained model, found once; `incorrect` keeps the tasks whose label is
wrong.

The file is JSON lines: a header with the settings it was made with, then a
line for each task, in the order of the train split. scripts/label.py makes it.
"""

import collections
import functools
import hashlib
import json
import logging
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rlvr_jax import digests, enums, registry
from rlvr_jax.tasks import Env, Task
from rlvr_jax.verifiers import answer, dispatch
from rlvr_jax.verifiers.extraction import extract, numbers

_log = logging.getLogger(__name__)
REWARDS = ('majority', 'incorrect')
VERIFIER = 'verifier: version'
# Config keys that a training run must share with the file of labels ...
SHARED = (
  'model.name',
  'system_prompt',
  'chat_template_args',
  *(f'verifier.{key}' for key in extract.Rules._fields),
)
# ... and those that, with them, make the file what it is.
MADE_WITH = (
  *SHARED,
  'model.dtype',
  'model.param_dtype',
  'env',
  'temperature',
  'max_prompt_length',
  'max_completion_length',
  'train_batch_size',
  'num_generations',
  'seed',
)


def settings(config, keys: Sequence[str] = MADE_WITH) -> dict:
  """{'a.b': value} of a config."""
  value = lambda key: functools.reduce(
    lambda c, k: c[k], key.split('.'), config
  )
  return {key: value(key) for key in keys}


def attach(env: Env, path: str, specs: Sequence[str], shared: Mapping) -> Env:
  """The environment with labels on its train tasks, if a reward reads them.

  A task gets `data['label']`, which `answer.verify` reads as a gold answer,
  and `data['label_right']`: True, False, or None where that could not be
  checked. Tasks that lack what the rewards need are left out.

  Args:
    path: the file; '' for none.
    specs: reward_funcs; `majority` and `incorrect` count within others too.
    shared: `settings(config, SHARED)` of the run.

  Raises:
    ValueError: labels are needed and there are none, or the reverse; a file
      that is missing, broken, unfinished, made with other settings or for
      other tasks; a verifier other than 'math'; no task is left.
  """
  read = set()
  for spec in specs:
    with registry.naming('reward_funcs'):
      read |= set(registry.named('reward', spec)) & set(REWARDS)
  if not read and not path:
    return env
  if not path:
    raise ValueError(
      f'The reward {min(read)} needs labels. Make them with python '
      'scripts/label.py --config=... --out=FILE.jsonl, and set '
      '--config.labels=FILE.jsonl.'
    )
  if not read:
    raise ValueError(
      f'labels={registry.show(path)}, but no reward of {list(specs)} reads labels: set '
      f"labels='', or use one of: {', '.join(REWARDS)}."
    )
  header, lines = load(path)
  check_settings(path, header['made_with'], shared)
  old = read_by(header)
  if not old:
    _log.warning(
      '%s does not say from which weights it was made, nor by which version of '
      'the verifier, as those of older versions do not.',
      path,
    )
  elif old.get(VERIFIER) != str(dispatch.VERSION):
    raise ValueError(
      f'{path} was voted on and judged by another version of the verifier '
      f'({old.get(VERIFIER)} then, {dispatch.VERSION} now), which reads answers '
      'in another way. Label anew to another file.'
    )
  if len(lines) < header['tasks']:
    raise ValueError(
      f'{path} has labels of {len(lines)} of {header["tasks"]} tasks: run the '
      'command of scripts/label.py that made it again, it goes on.'
    )
  tasks = _join(env['train'], lines, path, header['made_with']['env'])
  wrong_only = 'incorrect' in read
  kept = [
    task
    for task in tasks
    if not wrong_only or task.data['label_right'] is False
  ]
  if not kept:
    need = 'a label that is wrong' if wrong_only else 'a label'
    raise ValueError(
      f'None of the {len(lines)} tasks of {path} has {need}: label more tasks.'
    )
  answer.check_golds(sorted({task.data['label'] for task in kept}))
  return {**env, 'train': kept}


class Vote(NamedTuple):
  """What most of several completions answer."""

  said: str | None  # as the first of them wrote it; None: nobody answered
  label: str | None  # for `answer.verify`; None: it cannot be read as gold
  count: int


def made_from(tasks: Sequence[Task], model: Mapping) -> dict[str, str]:
  """The header's `content`: digests of all that a file of labels is made from.

  Args:
    model: `digests.of_model`.
  """
  return {
    VERIFIER: str(dispatch.VERSION),
    'env: tasks': digests.of_tasks(tasks),
    **model,
  }


def read_by(header: Mapping) -> Mapping:
  """The `content` of a header; empty in files of older versions."""
  found = header.get('content')
  return found if isinstance(found, dict) else {}


def vote(
  completions: Sequence[str],
  *,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
) -> Vote:
  """The most frequent final answer.

  Answers count as equal where `answer.canonical` says so; of several with the
  most votes, the one said first. Numbers are labelled by their value, words
  as `\\text{...}`, other mathematics as it was written.

  Args:
    truncated, rules: see `answer.verify`.
  """
  cut = [False] * len(completions) if truncated is None else truncated
  keys = [
    answer.canonical(text, truncated=short, rules=rules)
    for text, short in zip(completions, cut, strict=True)
  ]
  votes = collections.Counter(key for key in keys if key is not None)
  if not votes:
    return Vote(None, None, 0)
  key, count = votes.most_common(1)[0]
  first = keys.index(key)
  said = extract.vote(completions[first], rules, cut=cut[first]).text
  number = numbers.read(said)
  if number is not None:
    label = f'{number.value}%' if number.percent else key
  elif re.fullmatch(r'[A-Za-z ]+|\([A-Za-z]\)', said):
    label = f'\\text{{{said}}}'
  else:
    label = said
  try:
    answer.check_gold(label)
  except ValueError:
    label = None
  return Vote(said, label, count)


def line(
  task: Task, completions: Sequence[str], timeout_s: float, **how
) -> dict:
  """What the file says of a task: its majority answer, and whether it is right.

  Args:
    completions: samples of the model.
    timeout_s: limit on comparing the majority with the gold answer.
    **how: truncated and rules of `vote`.
  """
  most, right = vote(completions, **how), None
  if most.label is not None:
    boxed = f'\\boxed{{{most.said}}}'
    verdict = answer.verify([task.answer], [boxed], timeout_s=timeout_s)[0]
    known = {enums.Verdict.CORRECT: True, enums.Verdict.WRONG: False}
    right = known.get(verdict)
  return {
    'id': task.id,
    'task': fingerprint(task),
    'answer': most.label,
    'votes': most.count,
    'samples': len(completions),
    'right': right,
  }


def fingerprint(task: Task) -> str:
  """Names question and gold answer, so that another task is noticed."""
  text = json.dumps([task.question, task.answer]).encode()
  return hashlib.blake2b(text, digest_size=8).hexdigest()


def check_verifier(tasks: Iterable[Task]) -> None:
  """Raises ValueError unless answers to the tasks can be voted on."""
  for task in tasks:
    if task.verifier != 'math':
      raise ValueError(
        f'Task {registry.show(task.id)} has the verifier {registry.show(task.verifier)}: labels are for '
        "tasks with one right answer, whose verifier is 'math'."
      )


def check_settings(path, made_with: Mapping, now: Mapping) -> None:
  """Raises ValueError naming the settings that differ from the file's."""
  differ = [
    f'{key}: {made_with.get(key)!r} in the file, {registry.show(value)} in the config'
    for key, value in now.items()
    if made_with.get(key) != value
  ]
  if differ:
    raise ValueError(
      f'{path} was made with other settings: {"; ".join(differ)}. Label to '
      'another file, or set these back.'
    )


def check_model(path: str, config, read: Mapping) -> None:
  """Raises ValueError if labels are of a model with other weights by the same
  name. A file without content, of an older version, is not compared.

  Args:
    path: the file; '' for none.
    config: of the run.
    read: `digests.of_model` of the run's model.
  """
  if not path:
    return
  header, _ = load(path)
  key, names = 'model.param_dtype', ['model.name: tokenizer']
  if (
    header['made_with'].get(key) == config.model.param_dtype
  ):  # else other bytes
    names.append('model.name: weights')
  old = read_by(header)
  cut = lambda found: {k: found[k] for k in names if k in found and k in old}
  differ = digests.differing(cut(old), cut(read))
  if differ:
    raise ValueError(
      f'{path} was made with another model by the name of '
      f'{config.model.name!r}: {"; ".join(differ)}. Label anew to another '
      'file, or bring the former model back.'
    )


def load(path) -> tuple[dict, list[dict]]:
  """(header, lines) of a file. A torn last line, of a killed run, is left out.

  Raises:
    ValueError: no such file, or one that scripts/label.py did not write.
  """
  try:
    text = pathlib.Path(path).expanduser().read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as e:
    raise ValueError(
      f'labels: {path} cannot be read ({e}). Make it with scripts/label.py.'
    ) from e
  whole = text[: text.rfind('\n') + 1].splitlines()
  rows, kinds = [], {'made_with': dict, 'tasks': int}
  for number, one in enumerate(whole, 1):
    try:
      row = json.loads(one)
    except (ValueError, RecursionError):
      row = None
    fits = isinstance(row, dict) and all(
      key in row and isinstance(row[key], kind) for key, kind in kinds.items()
    )
    if not fits:
      raise ValueError(
        f'{path}: line {number} is none of a file of labels. Make the file '
        'anew with scripts/label.py.'
      )
    rows.append(row)
    kinds = {'id': str, 'task': str, 'answer': str | None, 'right': bool | None}
  if not rows:
    raise ValueError(f'{path} is empty. Make it anew with scripts/label.py.')
  return rows[0], rows[1:]


def write(path: pathlib.Path, rows: Iterable[Mapping]) -> None:
  """Writes the whole file, or leaves the old one as it is."""
  tmp = path.with_name(path.name + '.tmp')
  with tmp.open('w', encoding='utf-8') as f:
    f.writelines(json.dumps(row) + '\n' for row in rows)
    f.flush()
    os.fsync(f.fileno())
  os.replace(tmp, path)


def append(path: pathlib.Path, rows: Iterable[Mapping]) -> None:
  """Adds lines, and returns when they are on the disk."""
  with path.open('a', encoding='utf-8') as f:
    f.writelines(json.dumps(row) + '\n' for row in rows)
    f.flush()
    os.fsync(f.fileno())


def _join(tasks, lines, path, made_for) -> list[Task]:
  """The labelled tasks, in the order of `tasks`."""
  by_id = {row['id']: row for row in lines}
  if len(by_id) < len(lines):
    raise ValueError(f'{path} labels a task twice. Make the file anew.')
  out = []
  for i in range(len(tasks)):
    task = tasks[i]
    row = by_id.pop(task.id, None)
    if row is None:
      continue
    if row['task'] != fingerprint(task):
      by_id = {task.id: row}
      break
    check_verifier([task])
    if row['answer'] is not None:
      label = {'label': row['answer'], 'label_right': row['right']}
      out.append(task._replace(data=task.data | label))
  if by_id:
    raise ValueError(
      f'{path} labels other tasks than these: its {next(iter(by_id))!r} is '
      f'missing or has another question. It was made for env={registry.show(made_for)}.'
    )
  return out
