"""Tasks with labels that a model's own samples gave: see scripts/label.py.

A file of labels is jsonl: a first line that says what was sampled, then a line
for each task: index in the split, id, answer (the most frequent one, or null),
votes, samples, right (whether that answer is).
"""

import json
import pathlib
from collections.abc import Sequence

from rlvr_jax.envs import core

FIELDS = {
  'index': int,
  'id': str,
  'answer': str | None,
  'votes': int,
  'samples': int,
  'right': bool,
}


def read(path) -> tuple[dict, list[dict]]:
  """(header, lines) of a file of labels; a last line that is cut is left out.

  Raises:
    ValueError: no such file, or one that scripts/label.py did not write.
  """
  path = pathlib.Path(path).expanduser()
  if not path.is_file():
    raise ValueError(
      f'There is no file of labels {str(path)!r}. Make it: python '
      'scripts/label.py --config=... --out=FILE.'
    )
  found = []
  for number, text in enumerate(path.read_text('utf-8').splitlines(True), 1):
    if not text.endswith('\n'):
      break  # a killed run wrote it
    try:
      line = json.loads(text)
      good = isinstance(line, dict)
      if number > 1:
        good = good and all(isinstance(line[k], t) for k, t in FIELDS.items())
      else:
        good = good and 'samples' in line and 'index' not in line
    except (ValueError, KeyError):
      good = False
    if not good:
      raise ValueError(
        f'{path}, line {number}, is no line of labels: {text[:80]!r}. Make the '
        'file again with scripts/label.py.'
      )
    found.append(line)
  if not found:
    raise ValueError(f'{path} is empty. Make it with scripts/label.py.')
  return found[0], found[1:]


def attach(
  tasks: Sequence[core.Task], path, wanted: Sequence[str]
) -> Sequence[core.Task]:
  """The tasks that have all the labels `wanted`, in order.

  `data['labels']` of each maps 'majority' to the most frequent answer of the
  model that was sampled, and 'incorrect' to the same where it is wrong. The
  true answer stays as it is.

  Args:
    tasks: the split that was labelled.
    path: the file.
    wanted: of 'majority', 'incorrect'.

  Raises:
    ValueError: a file that is none, or of other tasks; no task is left; a
      verifier other than 'math', which compares answers with answers.
  """
  _, lines = read(path)
  kept = {}
  for line in lines:
    label = line['answer']
    labels = {'majority': label}
    labels['incorrect'] = None if line['right'] else label
    if all(labels[name] is not None for name in wanted):
      kept[line['index']] = (line['id'], labels)
  if not kept:
    raise ValueError(
      f'{path} has no task with a label for {", ".join(wanted)}, of '
      f'{len(lines)} tasks. Label more tasks, or another model.'
    )
  order = sorted(kept)

  def make(i):
    index = order[i]
    name, labels = kept[index]
    task = tasks[index]
    if task.id != name:
      raise ValueError(
        f'{path} labels {name!r} at place {index}, where the tasks have '
        f'{task.id!r}: the labels are of another env. Label this one.'
      )
    if task.verifier != 'math':
      raise ValueError(
        f'Task {name!r} is checked by {task.verifier!r}; labels need answers '
        "that are compared with answers: verifier 'math'."
      )
    return task._replace(data=task.data | {'labels': labels})

  if order[-1] >= len(tasks):
    raise ValueError(
      f'{path} labels a task at place {order[-1]}; there are {len(tasks)} '
      'tasks: the labels are of another env. Label this one.'
    )
  make(0)  # the wrong file is refused now
  return core.Lazy(len(order), make)
