"""Tasks: which of two responses is better? A judge is trained on them."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

from rlvr_jax import registry
from rlvr_jax.envs import jsonl
from rlvr_jax.tasks import Env, Lazy, Task, uniform
from rlvr_jax.verifiers import judgments as judges
from rlvr_jax.verifiers.judgments import LETTERS, Judge

SIDES = ('random', 'both', 'first', 'second')


@registry.register('env')
def judgments(
  *,
  pairs: registry.Spec,
  format: str = 'rm_r1',
  sides: str = 'random',
  hint: bool = False,
  think: bool = False,
  traces: str = '',
  drop_easy: bool = False,
  seed: int = 0,
) -> Env:
  """Judgments of the pairs of another environment.

  Training a judge is training on these tasks: method='rl' with the reward
  `outcome(wrong=-1.0)`, +1 for the right verdict and -1 for a wrong or an
  unreadable one; a judge may need a large KL (`algo.kl`, `algo.beta`).
  method='sft' imitates `traces`, or without them the bare verdict;
  method='rejection' the right judgments of a teacher or of the policy itself.

  A judge that always prefers one place is right as often as the better response
  stands there: the side is random for each pair. Test tasks come in twos, both
  orders of one pair, for consistency and bias. Verdicts are CORRECT, WRONG (a
  tie of scores too) and NO_ANSWER for an unreadable judgment.

  Args:
    pairs: an environment whose tasks have data['chosen'] and data['rejected'],
      such as pairs(path=...) or comparisons().
    format: a judge by name, such as 'rm_r1(parser=evaluation)': see
      rlvr_jax/verifiers/judge_formats.py.
    sides: where the better response of train tasks stands: 'random', 'both' (a
      task each), and to show what a bias does 'first' or 'second'.
    hint: train prompts name the better response, to sample traces from models
      that would often be wrong. Their traces may skip the reasoning.
    think: the verdict to imitate follows a thought, which says what each
      response comes to: the pair's data['worth'], as comparisons(terms=2) has.
    traces: a file with judgments of train tasks, one JSON object a line with
      'id' and 'completion', such as the rollouts.jsonl of a run on the same
      `pairs`, `format`, `sides` and `seed`. A task's first right one is its
      data['solution'] then, and tasks without one are left out.
    drop_easy: with traces: tasks with several traces that are all right are
      left out (rejective fine-tuning of SPCT, which drops what is too easy).
    seed: of the sides.

  Raises:
    ValueError: the environment has no pairs, there is no such format or side,
      the file of traces cannot be read, or holds no right judgment.
  """
  if sides not in SIDES:
    raise ValueError(
      f'sides={registry.show(sides)}: choose one of {", ".join(SIDES)}.'
    )
  if drop_easy and not traces:
    raise ValueError('drop_easy=True leaves out traces: give a file of them.')
  if think and traces:
    raise ValueError('think=True and traces: both say what to imitate.')
  with registry.naming('format'):
    judge = registry.get('judge', format)()
  with registry.naming('env', pairs):
    source = registry.get('env', pairs)()
  for split in source.values():
    if len(split):
      _sides_of(split[0])  # refuses other tasks before any is asked for
      if think and not isinstance(split[0].data.get('worth'), dict):
        raise ValueError(
          f"think=True: task {registry.show(split[0].id)} has no data['worth'], "
          'what each response comes to, as those of comparisons() have. Give '
          'traces of a judge that thinks.'
        )
  train = functools.partial(
    _task, source['train'], judge, format, sides, hint, seed, think
  )
  test = functools.partial(
    _task, source['test'], judge, format, 'both', False, 0, think
  )
  count = len(source['train']) * (1 + (sides == 'both'))
  made = {
    'train': Lazy(count, train, source['train']),
    'test': Lazy(2 * len(source['test']), test, source['test']),
  }
  if traces:
    return {**made, 'train': _imitated(made['train'], judge, traces, drop_easy)}
  return made


def _sides_of(task: Task) -> tuple[str, str]:
  """(chosen, rejected) of a pair; ValueError for another task."""
  sides = task.data.get('chosen'), task.data.get('rejected')
  if not all(isinstance(x, str) for x in sides):
    raise ValueError(
      f"task {registry.show(task.id)} has no data['chosen'] and "
      "data['rejected']: judgments(pairs=...) takes an environment of pairs, "
      'such as pairs(path=...) or comparisons().'
    )
  return sides  # type: ignore[return-value]


def _task(
  pairs: Sequence[Task],
  judge: Judge,
  format: str,
  sides: str,
  hint: bool,
  seed: int,
  think: bool,
  i: int,
) -> Task:
  """The i-th task; of 'both' sides, two tasks of a pair follow each other."""
  pair = pairs[i // 2 if sides == 'both' else i]
  better = {
    'random': uniform(2, 'judgments', seed, pair.id),
    'both': i % 2,
    'first': 0,
    'second': 1,
  }[sides]
  responses = list(_sides_of(pair))
  if better:
    responses.reverse()
  hinted = better if hint else None
  task = task_of(pair, judge, format, responses, better, hint=hinted)
  if think:
    thought = ' '.join(pair.data['worth'][x] for x in responses)
    task.data['solution'] = f'<think>{thought}</think>{task.data["solution"]}'
  return task


def task_of(
  pair: Task,
  judge: Judge,
  format: str,
  responses: Sequence[str],
  better: int,
  hint: int | None = None,
) -> Task:
  """The task to judge `responses`, in the order shown, to pair's question."""
  messages = judge.prompt(pair.question, responses, hint)
  data = {'judge': format, 'better': better, 'pair': pair.id}
  data['solution'] = judge.verdict(better, len(responses))
  if len(messages) > 1:
    data['messages'] = messages
  question = '\n'.join(m['content'] for m in messages)
  name = f'{pair.id}-{better + 1}'
  return Task(name, question, LETTERS[better], 'judgment', data)


class Trace(NamedTuple):
  """A line of a file of traces, checked."""

  line: int
  question: str  # the task's id; `jsonl` calls it so
  answer: str  # the completion


def _trace(line: int, content: bytes) -> Trace:
  record = jsonl.load_object(content)
  for key in ('id', 'completion'):
    if not isinstance(record.get(key), str):
      raise ValueError(
        f'{key}={registry.show(record.get(key), 60)} is not a string.'
      )
    jsonl.check_text(record[key])
  return Trace(line, record['id'], record['completion'])


def _imitated(
  tasks: Sequence[Task], judge: Judge, path: str, drop_easy: bool
) -> list[Task]:
  """The tasks with a right trace, which becomes their data['solution']."""
  rule = "A row needs 'id', of a train task, and 'completion', strings."
  with registry.naming('traces'):
    rows = jsonl.read_lines(path, _trace, rule)
  by_task: dict[str, list[str]] = {}
  for row in rows:
    by_task.setdefault(row.question, []).append(row.answer)
  out = []
  for task in tasks:
    said = by_task.get(task.id, [])
    read = [judge.read(text, 2) for text in said]
    better = task.data['better']
    right = [
      text
      for text, judgment in zip(said, read)
      if judgment is not None and judgment.winner == better
    ]
    easy = drop_easy and len(said) > 1 and len(right) == len(said)
    if right and not easy:
      data = {**task.data, 'solution': right[0]}
      out.append(task._replace(data=data))
  if not out:
    raise ValueError(
      f'traces={registry.show(path)}: none of its {len(rows)} rows is a right '
      'judgment of a train task. Take traces of the same pairs, format, sides '
      'and seed.'
    )
  return out


def usage(
  tasks: Sequence[Task], completions: Sequence[str]
) -> dict[str, float]:
  """Balance and bias of judgments as metrics; {} if no task is one.

  Args:
    tasks: n tasks, the one of each completion; others than judgments are
      ignored.
    completions: n texts.

  Returns:
    `judge/label_first`: share of judgments whose better response is shown
    first, which must be near one half. `judge/first`: share of the readable
    ones that prefer the first. `judge/unreadable`: share of the others. NaN for
    a share of nothing.
  """
  rows = [
    (task.data['better'], judges.preferred(task, text))
    for task, text in zip(tasks, completions, strict=True)
    if task.verifier == 'judgment'
  ]
  if not rows:
    return {}
  readable = [place for _, place in rows if place is not None]
  mean = lambda x: sum(x) / len(x) if x else math.nan
  return {
    'judge/label_first': mean([better == 0 for better, _ in rows]),
    'judge/first': mean([place == 0 for place in readable]),
    'judge/unreadable': 1 - len(readable) / len(rows),
  }
