"""Tasks: pairs of completions, or ones with a label, from a file of the user.

The two forms of the field: plain strings, and lists of chat messages.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from rlvr_jax import registry
from rlvr_jax.envs import jsonl
from rlvr_jax.tasks import Env, Lazy, Task, uniform
from rlvr_jax.verifiers import answer as answers

Messages = list[dict[str, str]]
NONE = registry.Spec('')
ROLES = ('system', 'user', 'assistant')
_RULE = (
  "A row needs 'prompt', 'chosen' and 'rejected', strings or lists of messages "
  "{'role': ..., 'content': ...}; without 'prompt' the messages that chosen and "
  'rejected start with are the prompt.'
)

_LABEL_RULE = (
  "A row needs 'prompt' and 'completion', strings or lists of messages, and "
  "'label', true or false."
)
_ATTEMPTS = 1000  # to find another answer


class Row(NamedTuple):
  """One line of a file, checked."""

  line: int  # from 1
  question: str  # the prompt as text
  answer: str  # gold answer, '' for none
  messages: Messages | None  # the prompt, if more than a user's message
  data: dict[str, Any]  # chosen, rejected and margin; or completion and label


@registry.register('env')
def pairs(
  *,
  path: str,
  test_path: str = '',
  test_fraction: float = 0.1,
  test_env: registry.Spec = NONE,
) -> Env:
  """Pairs for method='preference' or 'reward_model', one JSON object per line.

  In two forms:

    {"prompt": "2+2?", "chosen": "4", "rejected": "5"}

    {"prompt": [{"role": "user", "content": "2+2?"}],
     "chosen": [{"role": "assistant", "content": "4"}],
     "rejected": [{"role": "assistant", "content": "5"}]}

  A string is the content of one message, of the user or the assistant, and is
  put into the chat template too. Messages may be a chat of several turns with a
  system message, which ends with the user's; chosen and rejected add one
  message of the assistant. They may repeat the prompt at their start, and the
  prompt may then be left out: it is what both start with. Other fields are not
  read, but for 'margin', a number of at least 0 by which a reward model should
  score chosen higher, and 'answer', a gold answer that the verifier of maths
  compares with (see `jsonl`). Without one, a completion is right if it is the
  chosen text, wrong if it is the rejected one, and else cannot be verified.

  data['chosen'] and data['rejected'] are the texts; data['messages'] is the
  prompt where it is more than one message of the user, and the question is then
  all of it as text. Splits and ids are those of `jsonl`.

  Args:
    path: the file; all its rows are the train split if `test_path` or
      `test_env` is given.
    test_path: a second file, the test split.
    test_fraction: share of the prompts for the test split, in (0, 1).
    test_env: env whose test split is this one's: tasks with gold answers, on
      which a policy that learned from pairs is compared with others.

  Raises:
    ValueError: a file is missing or empty, rows are invalid (the message counts
      all and shows the first five with their lines): chosen and rejected are
      empty or equal, add another number of messages, or have no common prompt;
      a test prompt is also in train, or test_fraction is out of range; both
      test_path and test_env are given, or test_env has no test split.
  """
  if test_path and test_env:
    raise ValueError(
      f'test_path={registry.show(test_path)} and test_env='
      f'{registry.show(test_env)} both name the test split: give one.'
    )
  if not test_env:
    return _splits(_pair, _RULE, path, test_path, test_fraction)
  env = registry.get('env', test_env)()
  if not len(env.get('test', ())):
    raise ValueError(f'test_env={registry.show(test_env)} has no test split.')
  rows = jsonl.read_lines(path, _pair, _RULE)
  return {'train': _tasks(rows, 'train'), 'test': env['test']}


@registry.register('env')
def labelled(
  *, path: str, test_path: str = '', test_fraction: float = 0.1
) -> Env:
  """Completions with a label, for method='reward_model' with a loss of rows.

    {"prompt": "2+2?", "completion": "4", "label": true}

  As `pairs`, with strings or messages; the prompt must be there. The label says
  whether the completion is good. These are the unpaired preferences of TRL. A
  judge's meta reward model has judgments as completions, and whether they were
  right as labels.

  data['completion'] and data['label'] are the two, data['messages'] as in
  `pairs`.

  Args:
    path, test_path, test_fraction: see `pairs`.

  Raises:
    ValueError: see `pairs`; all labels to train on are the same.
  """
  env = _splits(_labelled, _LABEL_RULE, path, test_path, test_fraction)
  train = env['train']
  if len({t.data['label'] for t in train}) < 2:
    raise ValueError(
      f'{registry.show(path)}: all {len(train)} rows of the train split have the '
      f'label {train[0].data["label"]}: a model must see both to tell them apart.'
    )
  return env


@registry.register('env')
def answer_pairs(*, env: registry.Spec, seed: int = 0) -> Env:
  """Pairs out of tasks with gold answers: the right answer, and another one.

  Of each task of `env` the chosen text is its answer and the rejected one the
  answer of another task of the same split, drawn by `seed` until it differs.

  Args:
    env: an environment of single questions with the verifier of maths.

  Raises:
    ValueError: it is another kind of environment, or has one answer only.
  """
  with registry.naming('env', env):
    source = registry.get('env', env)()
  return {
    split: Lazy(
      len(tasks), functools.partial(_of_answers, tasks, env, seed), tasks
    )
    for split, tasks in source.items()
  }


def _of_answers(tasks: Sequence[Task], env: str, seed: int, i: int) -> Task:
  task = tasks[i]
  if task.verifier != 'math':
    raise ValueError(
      f'answer_pairs({env}): task {registry.show(task.id)} has no gold answer '
      f'that another task could have (its verifier is {task.verifier!r}). Take '
      'an env such as arithmetic() or gsm8k(...).'
    )
  for attempt in range(_ATTEMPTS):
    at = uniform(len(tasks), 'answer_pairs', seed, i, attempt)
    if tasks[at].answer != task.answer:
      sides = {'chosen': task.answer, 'rejected': tasks[at].answer}
      return task._replace(data=task.data | sides)
  raise ValueError(
    f'answer_pairs({env}): {_ATTEMPTS} other tasks have the answer '
    f'{registry.show(task.answer)} of task {registry.show(task.id)} too: there '
    'is no other answer to reject. Take tasks with several answers.'
  )


def _splits(parse, rule, path, test_path, test_fraction) -> Env:
  rows = jsonl.read_lines(path, parse, rule)
  if test_path:
    test = jsonl.read_lines(test_path, parse, rule)
    jsonl.check_disjoint(rows, test, path, test_path)
  else:
    rows, test = jsonl.split(rows, test_fraction, path)
  return {'train': _tasks(rows, 'train'), 'test': _tasks(test, 'test')}


def _labelled(line: int, content: bytes) -> Row:
  """Parses one line; ValueError says what is wrong with it."""
  record = jsonl.load_object(content)
  (side,) = _sides(record, 'completion')
  if not isinstance(record.get('label'), bool):
    raise ValueError(
      f'label={registry.show(record.get("label"), 60)} is not true or false.'
    )
  if record.get('prompt') is None:
    raise ValueError("has no 'prompt'.")
  prompt = _messages('prompt', record['prompt'], 'user')
  (text,) = _added(prompt, {'completion': side})
  data = {'completion': text, 'label': record['label']}
  return _row(line, record, prompt, data)


def _pair(line: int, content: bytes) -> Row:
  """Parses one line; ValueError says what is wrong with it."""
  record = jsonl.load_object(content)
  sides = _sides(record, 'chosen', 'rejected')
  if record.get('prompt') is not None:
    prompt = _messages('prompt', record['prompt'], 'user')
  else:
    prompt = []
    for a, b in zip(*sides):
      if a != b:
        break
      prompt.append(a)
    if len(prompt) == min(map(len, sides)) > 0:
      raise ValueError(
        'chosen and rejected are equal, or one starts the other.'
      )
    sides = [x[len(prompt) :] for x in sides]
  texts = _added(prompt, dict(zip(('chosen', 'rejected'), sides)))
  data: dict[str, Any] = dict(zip(('chosen', 'rejected'), texts))
  if texts[0] == texts[1]:
    raise ValueError(
      f'chosen and rejected are both {registry.show(texts[0], 60)}: equal '
      'completions say nothing about which is better. Take the row out.'
    )
  margin = record.get('margin')
  if margin is not None:
    is_number = type(margin) in (int, float) and math.isfinite(margin)
    if not is_number or not 0 <= margin <= 1e6:
      raise ValueError(
        f'margin={registry.show(margin, 60)} is not a number in [0, 1e6].'
      )
    data['margin'] = float(margin)
  return _row(line, record, prompt, data)


def _sides(record: dict, *keys: str) -> list[Messages]:
  for key in keys:
    if key not in record:
      raise ValueError(f'has no {key!r}.{registry.nearest(key, record)}')
  return [_messages(key, record[key], 'assistant') for key in keys]


def _added(prompt: Messages, sides: dict[str, Messages]) -> list[str]:
  """The text that each side adds to the prompt, which it may repeat."""
  sides = {
    k: x[len(prompt) :] if x[:-1] == prompt else x for k, x in sides.items()
  }
  if not prompt or prompt[-1]['role'] != 'user':
    raise ValueError(
      "has no prompt that ends with a message of the user: give 'prompt', or "
      'let chosen and rejected start with the same messages.'
    )
  for key, side in sides.items():
    if len(side) != 1 or side[0]['role'] != 'assistant':
      raise ValueError(
        f'{key} adds {len(side)} messages of '
        f'{", ".join(m["role"] for m in side) or "nobody"} to the prompt; it '
        "must add one, the assistant's."
      )
    if not side[0]['content'].strip():
      raise ValueError(f'{key} is empty.')
  return [side[0]['content'] for side in sides.values()]


def _row(
  line: int, record: dict, prompt: Messages, data: dict[str, Any]
) -> Row:
  """The row, with its gold answer checked."""
  gold = record.get('answer', '')
  if isinstance(gold, (int, float)) and not isinstance(gold, bool):
    gold = str(gold)
  if not isinstance(gold, str):
    raise ValueError(
      f'answer={registry.show(gold, 60)} is not a string or a number.'
    )
  if gold:
    jsonl.check_text(gold)
    answers.check_gold(gold)
  one = len(prompt) == 1
  return Row(
    line,
    prompt[0]['content']
    if one
    else '\n'.join(f'{m["role"]}: {m["content"]}' for m in prompt),
    gold.strip(),
    None if one else prompt,
    data,
  )


def _messages(key: str, value: Any, role: str) -> Messages:
  """The messages of a field; a string is one of `role`."""
  if isinstance(value, str):
    value = [{'role': role, 'content': value}]
  if not isinstance(value, list) or not value:
    raise ValueError(
      f'{key}={registry.show(value, 60)} is neither a string nor a list of '
      'messages.'
    )
  out = []
  for m in value:
    if not isinstance(m, dict) or not isinstance(m.get('content'), str):
      raise ValueError(
        f'{key} has the message {registry.show(m, 60)}: it must be an object '
        "with 'role' and 'content', a string."
      )
    if m.get('role') not in ROLES:
      raise ValueError(
        f'{key} has a message of the role {registry.show(m.get("role"), 60)}: '
        f'there are {", ".join(ROLES)}.'
      )
    jsonl.check_text(m['content'])
    out.append({'role': m['role'], 'content': m['content']})
  if not any(m['content'].strip() for m in out):
    raise ValueError(f'{key} is empty.')
  return out


def _tasks(rows: list[Row], split: str) -> list[Task]:
  out = []
  for row in rows:
    data, good = row.data, row.data.get('label', True)
    if row.messages is not None:
      data = data | {'messages': row.messages}
    if 'completion' in data:  # what the verifier of pairs knows of it
      data = data | {'chosen' if good else 'rejected': data['completion']}
    out.append(
      Task(
        f'{split}-{row.line}',
        row.question,
        row.answer or data.get('chosen', ''),
        'math' if row.answer else 'pair',
        data,
      )
    )
  return out
