"""Where do majority-vote labels of tasks come from, and do they still fit?

A label replaces the gold answer in the rewards `majority` and `incorrect`, and
nowhere else: verdicts and accuracy still use the gold answer. As in "Spurious
Rewards" (arXiv:2506.10947), the label is the most frequent of 64 answers of
the untrained model, computed once, and `incorrect` trains only on the tasks
whose label is wrong.

A label file is JSON lines, written by scripts/label.py: a header with the
settings that produced it, then one line for each task in the order of the
train split.
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
from typing import Any, NamedTuple

from rlvr_jax import digests, enums, registry
from rlvr_jax.tasks import Env, Task
from rlvr_jax.verifiers import answer, dispatch
from rlvr_jax.verifiers.extraction import extract, numbers

_log = logging.getLogger(__name__)
REWARDS = ('majority', 'incorrect')
VERIFIER = 'verifier: version'
# Config keys that a training run must share with its label file ...
SHARED = (
  'model.name',
  'system_prompt',
  'chat_template_args',
  *(f'verifier.{key}' for key in extract.Rules._fields),
)
# ... and all config keys that determine the contents of a label file.
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


def settings(config: Any, keys: Sequence[str] = MADE_WITH) -> dict[str, object]:
  """Returns {'a.b': config.a.b} for the dotted keys."""
  value = lambda key: functools.reduce(
    lambda c, k: c[k], key.split('.'), config
  )
  return {key: value(key) for key in keys}


def attach(env: Env, path: str, specs: Sequence[str], shared: Mapping) -> Env:
  """Adds labels to the train tasks of an environment if a reward needs them.

  A task gets `data['label']`, which `answer.verify` accepts as a gold answer,
  and `data['label_right']`: True, False, or None if that could not be
  verified. Tasks without what the rewards need are dropped.

  Args:
    env: the environment.
    path: the label file; '' for none.
    specs: reward_funcs; `majority` and `incorrect` inside other specs count.
    shared: `settings(config, SHARED)` of the run.

  Raises:
    ValueError: a reward needs labels and `path` is '', or the reverse; the
      file is missing, corrupt, incomplete, or was made with other settings or
      for other tasks; a task's verifier is not 'math'; or no task is left.
  """
  used = set()
  for spec in specs:
    with registry.naming('reward_funcs'):
      used |= set(registry.named('reward', spec)) & set(REWARDS)
  if not used and not path:
    return env
  if not path:
    raise ValueError(
      f'The reward {min(used)} needs labels. Make them with python '
      'scripts/label.py --config=... --out=FILE.jsonl, and set '
      '--config.labels=FILE.jsonl.'
    )
  if not used:
    raise ValueError(
      f'labels={registry.show(path)}, but no reward of {list(specs)} reads '
      f"labels: set labels='', or use one of: {', '.join(REWARDS)}."
    )
  header, lines = load(path)
  check_settings(path, header['made_with'], shared)
  content = read_by(header)
  if not content:
    _log.warning(
      '%s records neither the weights nor the version of the verifier that '
      'produced it, so neither can be checked: an older version wrote it.',
      path,
    )
  elif content.get(VERIFIER) != str(dispatch.VERSION):
    raise ValueError(
      f'{path} was made by another version of the verifier '
      f'({content.get(VERIFIER)} then, {dispatch.VERSION} now), which may parse '
      'answers differently. Run scripts/label.py again with another file.'
    )
  if len(lines) < header['tasks']:
    raise ValueError(
      f'{path} has labels of {len(lines)} of {header["tasks"]} tasks: run the '
      'command of scripts/label.py that made it again, which resumes it.'
    )
  tasks = _join(env['train'], lines, path, header['made_with']['env'])
  wrong_only = 'incorrect' in used
  labelled = [
    task
    for task in tasks
    if not wrong_only or task.data['label_right'] is False
  ]
  if not labelled:
    need = 'a label that is wrong' if wrong_only else 'a label'
    raise ValueError(
      f'None of the {len(lines)} tasks of {path} has {need}: label more tasks.'
    )
  answer.check_golds(sorted({task.data['label'] for task in labelled}))
  return {**env, 'train': labelled}


class Vote(NamedTuple):
  """The majority answer of several completions."""

  text: str | None  # as first written; None if no completion has an answer
  label: str | None  # gold answer for `answer.verify`; None if not parseable
  count: int  # completions with this answer


def made_from(tasks: Sequence[Task], model: Mapping) -> dict[str, str]:
  """Returns the header's `content`: digests of a label file's inputs.

  Args:
    tasks: the labelled tasks.
    model: `digests.of_model` of the sampled model.
  """
  return {
    VERIFIER: str(dispatch.VERSION),
    'env: tasks': digests.of_tasks(tasks),
    **model,
  }


def read_by(header: Mapping) -> Mapping[str, str]:
  """Returns a header's `content`; {} for files of older versions."""
  content = header.get('content')
  return content if isinstance(content, dict) else {}


def vote(
  completions: Sequence[str],
  *,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
) -> Vote:
  """Returns the most frequent final answer.

  Answers are equal if their `answer.canonical` is; ties go to the one that
  occurs first. A number is labelled by its value, words as `\\text{...}`, and
  other mathematics as written.

  Args:
    completions: texts of one task.
    truncated, rules: see `answer.verify`.
  """
  if truncated is None:
    truncated = [False] * len(completions)
  keys = [
    answer.canonical(text, truncated=cut, rules=rules)
    for text, cut in zip(completions, truncated, strict=True)
  ]
  votes = collections.Counter(key for key in keys if key is not None)
  if not votes:
    return Vote(None, None, 0)
  key, count = votes.most_common(1)[0]
  first = keys.index(key)
  text = extract.vote(completions[first], rules, cut=truncated[first]).text
  number = numbers.read(text)
  if number is not None:
    label = f'{number.value}%' if number.percent else key
  elif re.fullmatch(r'[A-Za-z ]+|\([A-Za-z]\)', text):
    label = f'\\text{{{text}}}'
  else:
    label = text
  try:
    answer.check_gold(label)
  except ValueError:
    label = None
  return Vote(text, label, count)


def line(
  task: Task,
  completions: Sequence[str],
  timeout_s: float,
  *,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
) -> dict[str, object]:
  """Returns a task's line of the label file.

  Args:
    task: the task.
    completions: samples of the model.
    timeout_s: limit on comparing the majority with the gold answer.
    truncated, rules: see `vote`.
  """
  majority = vote(completions, truncated=truncated, rules=rules)
  right = None
  if majority.label is not None:
    boxed = f'\\boxed{{{majority.text}}}'
    verdict = answer.verify([task.answer], [boxed], timeout_s=timeout_s)[0]
    decided = {enums.Verdict.CORRECT: True, enums.Verdict.WRONG: False}
    right = decided.get(verdict)
  return {
    'id': task.id,
    'task': fingerprint(task),
    'answer': majority.label,
    'votes': majority.count,
    'samples': len(completions),
    'right': right,
  }


def fingerprint(task: Task) -> str:
  """Returns a digest of question and gold answer, to detect changed tasks."""
  text = json.dumps([task.question, task.answer]).encode()
  return hashlib.blake2b(text, digest_size=8).hexdigest()


def check_verifier(tasks: Iterable[Task]) -> None:
  """Raises ValueError unless all tasks have the verifier 'math'."""
  for task in tasks:
    if task.verifier != 'math':
      raise ValueError(
        f'Task {registry.show(task.id)} has the verifier '
        f'{registry.show(task.verifier)}: labels are for tasks with one right '
        "answer, whose verifier is 'math'."
      )


def check_settings(
  path: str | pathlib.Path, made_with: Mapping, current: Mapping
) -> None:
  """Raises ValueError naming the settings that differ from the file's."""
  differing = [
    f'{key}: {made_with.get(key)!r} in the file, {registry.show(value)} in the '
    'config'
    for key, value in current.items()
    if made_with.get(key) != value
  ]
  if differing:
    raise ValueError(
      f'{path} was made with other settings: {"; ".join(differing)}. Restore '
      'these, or run scripts/label.py with another file.'
    )


def check_model(path: str, config: Any, model: Mapping[str, str]) -> None:
  """Raises ValueError if the labels are from a model with other weights.

  Files without recorded content, of older versions, are not compared.

  Args:
    path: the label file; '' for none.
    config: of the run.
    model: `digests.of_model` of the run's model.
  """
  if not path:
    return
  header, _ = load(path)
  names = ['model.name: tokenizer']
  # Weights in another dtype have other bytes, so their digest differs.
  made_with_dtype = header['made_with'].get('model.param_dtype')
  if made_with_dtype == config.model.param_dtype:
    names.append('model.name: weights')
  recorded = read_by(header)
  select = lambda content: {
    k: content[k] for k in names if k in content and k in recorded
  }
  differing = digests.differing(select(recorded), select(model))
  if differing:
    raise ValueError(
      f'{path} was made with another model by the name of '
      f'{config.model.name!r}: {"; ".join(differing)}. Restore the former '
      'model, or run scripts/label.py with another file.'
    )


def load(path: str | pathlib.Path) -> tuple[dict, list[dict]]:
  """Returns (header, lines) of a label file.

  An incomplete last line, left by a killed run, is ignored.

  Raises:
    ValueError: the file is missing, or scripts/label.py did not write it.
  """
  try:
    text = pathlib.Path(path).expanduser().read_text(encoding='utf-8')
  except (OSError, UnicodeDecodeError) as e:
    raise ValueError(
      f'labels: {path} cannot be read ({e}). Make it with scripts/label.py.'
    ) from e
  complete = text[: text.rfind('\n') + 1].splitlines()
  rows, types = [], {'made_with': dict, 'tasks': int}
  for number, content in enumerate(complete, 1):
    try:
      row = json.loads(content)
    except (ValueError, RecursionError):
      row = None
    is_valid = isinstance(row, dict) and all(
      key in row and isinstance(row[key], type_) for key, type_ in types.items()
    )
    if not is_valid:
      raise ValueError(
        f'{path}: line {number} is not a line of a label file. Make the file '
        'again with scripts/label.py.'
      )
    rows.append(row)
    types = {'id': str, 'task': str, 'answer': str | None, 'right': bool | None}
  if not rows:
    raise ValueError(f'{path} is empty. Make it again with scripts/label.py.')
  return rows[0], rows[1:]


def write(path: pathlib.Path, rows: Iterable[Mapping]) -> None:
  """Replaces the file atomically."""
  tmp = path.with_name(path.name + '.tmp')
  with tmp.open('w', encoding='utf-8') as f:
    f.writelines(json.dumps(row) + '\n' for row in rows)
    f.flush()
    os.fsync(f.fileno())
  os.replace(tmp, path)


def append(path: pathlib.Path, rows: Iterable[Mapping]) -> None:
  """Appends lines and flushes them to disk."""
  with path.open('a', encoding='utf-8') as f:
    f.writelines(json.dumps(row) + '\n' for row in rows)
    f.flush()
    os.fsync(f.fileno())


def _join(
  tasks: Sequence[Task],
  lines: Sequence[Mapping],
  path: str,
  labelled_env: str,
) -> list[Task]:
  """Returns the labelled tasks, in the order of `tasks`."""
  by_id = {row['id']: row for row in lines}
  if len(by_id) < len(lines):
    raise ValueError(
      f'{path} labels a task twice. Make it again with scripts/label.py.'
    )
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
      f'{path} labels other tasks than those of this env: its '
      f'{next(iter(by_id))!r} is missing or has another question. It was made '
      f'for env={registry.show(labelled_env)}.'
    )
  return out
