"""Tasks: pairs of a chosen and a rejected completion, from a file of the user.

The two forms of the field: plain strings, and lists of chat messages.
"""

from typing import Any, NamedTuple

from rlvr_jax import registry
from rlvr_jax.envs import jsonl
from rlvr_jax.tasks import Env, Task
from rlvr_jax.verifiers import answer as answers

Messages = list[dict[str, str]]
NONE = registry.Spec('')
ROLES = ('system', 'user', 'assistant')
_RULE = (
  "A row needs 'prompt', 'chosen' and 'rejected', strings or lists of messages "
  "{'role': ..., 'content': ...}; without 'prompt' the messages that chosen and "
  'rejected start with are the prompt.'
)


class Row(NamedTuple):
  """One line of a file, checked."""

  line: int  # from 1
  question: str  # the prompt as text
  answer: str  # gold answer, '' for none
  messages: Messages | None  # the prompt, if more than a user's message
  chosen: str
  rejected: str


@registry.register('env')
def pairs(
  *,
  path: str,
  test_path: str = '',
  test_fraction: float = 0.1,
  test_env: registry.Spec = NONE,
) -> Env:
  """Pairs for method='preference', one JSON object per line, in two forms.

    {"prompt": "2+2?", "chosen": "4", "rejected": "5"}

    {"prompt": [{"role": "user", "content": "2+2?"}],
     "chosen": [{"role": "assistant", "content": "4"}],
     "rejected": [{"role": "assistant", "content": "5"}]}

  A string is the content of one message, of the user or the assistant, and is
  put into the chat template too. Messages may be a chat of several turns with a
  system message, which ends with the user's; chosen and rejected add one
  message of the assistant. They may repeat the prompt at their start, and the
  prompt may then be left out: it is what both start with. Other fields are not
  read, but for 'answer', a gold answer that the verifier of maths compares with
  (see `jsonl`). Without one, a completion is right if it is the chosen text,
  wrong if it is the rejected one, and else cannot be verified.

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
  rows = jsonl.read_lines(path, _row, _RULE)
  if test_env:
    env = registry.get('env', test_env)()
    if not len(env.get('test', ())):
      raise ValueError(f'test_env={registry.show(test_env)} has no test split.')
    return {'train': _tasks(rows, 'train'), 'test': env['test']}
  if test_path:
    test = jsonl.read_lines(test_path, _row, _RULE)
    jsonl.check_disjoint(rows, test, path, test_path)
  else:
    rows, test = jsonl.split(rows, test_fraction, path)
  return {'train': _tasks(rows, 'train'), 'test': _tasks(test, 'test')}


def _row(line: int, content: bytes) -> Row:
  """Parses one line; ValueError says what is wrong with it."""
  record = jsonl.load_object(content)
  sides = []
  for key in ('chosen', 'rejected'):
    if key not in record:
      raise ValueError(f'has no {key!r}.{registry.nearest(key, record)}')
    sides.append(_messages(key, record[key], 'assistant'))
  if record.get('prompt') is not None:
    prompt = _messages('prompt', record['prompt'], 'user')
    # They may repeat the prompt: all messages but those that they add.
    sides = [x[len(prompt) :] if x[:-1] == prompt else x for x in sides]
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
  if not prompt or prompt[-1]['role'] != 'user':
    raise ValueError(
      "has no prompt that ends with a message of the user: give 'prompt', or "
      'let chosen and rejected start with the same messages.'
    )
  for key, side in zip(('chosen', 'rejected'), sides):
    if len(side) != 1 or side[0]['role'] != 'assistant':
      raise ValueError(
        f'{key} adds {len(side)} messages of '
        f'{", ".join(m["role"] for m in side) or "nobody"} to the prompt; it '
        "must add one, the assistant's."
      )
    if not side[0]['content'].strip():
      raise ValueError(f'{key} is empty.')
  chosen, rejected = (side[0]['content'] for side in sides)
  if chosen == rejected:
    raise ValueError(
      f'chosen and rejected are both {registry.show(chosen, 60)}: equal '
      'completions say nothing about which is better. Take the row out.'
    )
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
    chosen,
    rejected,
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
    data: dict[str, Any] = {'chosen': row.chosen, 'rejected': row.rejected}
    if row.messages is not None:
      data['messages'] = row.messages
    out.append(
      Task(
        f'{split}-{row.line}',
        row.question,
        row.answer or row.chosen,
        'math' if row.answer else 'pair',
        data,
      )
    )
  return out
