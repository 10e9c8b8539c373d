"""Verdicts for a batch of tasks, each by the verifier that it names."""

import importlib.util
from collections.abc import Sequence

from rlvr_jax import enums, registry
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import (
  answer,
  countdown_expression,
  gym_scorers,
  pool,
  step_text,
)
from rlvr_jax.verifiers.extraction import extract

Verdict = enums.Verdict  # what `verify` returns stands beside it
# Of the judgments. Raise it with every change that can turn a verdict, or that
# reads an answer in another way: samples and labels that another version judged
# are not used any more.
VERSION = 2

SOLVED = 1.0  # reasoning-gym's score of a right answer


def verify(
  tasks: Sequence[Task],
  completions: Sequence[str],
  *,
  timeout_s: float = 3.0,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
  timed_out: set[int] | None = None,
) -> list[enums.Verdict]:
  """Judges each completion by its task's verifier.

  Verifiers, and the task fields that they read:
    math: `answer` (see `answer.verify`).
    countdown: `data['numbers']`, `data['target']`; `data['use']` if the rule
      is not 'exactly_once' (see `countdown_expression.verify`).
    reasoning_gym: `data['dataset']`, `data['entry']`. The data set's scorer
      (`gym_scorers.scorer`), in a worker; CORRECT at the score `SOLVED`, so
      partial credit is WRONG. It is given `extract.stated`.

    step: `answer`, the expert's step; CORRECT where the part after the
      thought (`step_text.step`) has the same words.
    exact: `answer`; CORRECT where the same words follow the last ####.

  Args:
    tasks: n tasks, of any mixture of verifiers.
    completions: n texts.
    timeout_s: seconds of CPU time for one check.
    truncated, rules: see `answer.verify`.
    timed_out: the rows whose check ran out of time are added to it; they are
      UNVERIFIABLE.

  Raises:
    ValueError: unknown verifier (lists the known ones), lengths differ, a
      gold answer that cannot be read, reasoning-gym is not installed, one of
      its generators is refused.
  """
  if len(tasks) != len(completions):
    raise ValueError(
      f'{len(tasks)} tasks for {len(completions)} completions: give the task '
      'of each completion.'
    )
  rows: dict[str, list[int]] = {}
  for i, task in enumerate(tasks):
    if task.verifier not in VERIFIERS:
      raise ValueError(
        f'Task {task.id!r} has the unknown verifier {task.verifier!r}.'
        f'{registry.nearest(task.verifier, VERIFIERS)} '
        f'Known: {", ".join(VERIFIERS)}.'
      )
    rows.setdefault(task.verifier, []).append(i)
  out: list = [None] * len(tasks)
  for name, where in rows.items():
    how, late = {}, set()
    if name == 'math':
      cut = None if truncated is None else [truncated[i] for i in where]
      how = {'truncated': cut, 'rules': rules}
    verdicts = VERIFIERS[name](
      [tasks[i] for i in where],
      [completions[i] for i in where],
      timeout_s,
      late,
      **how,
    )
    if timed_out is not None:
      timed_out |= {where[i] for i in late}
    for i, verdict in zip(where, verdicts):
      out[i] = verdict
  return out


def fallback(
  tasks: Sequence[Task],
  completions: Sequence[str],
  *,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
) -> list[bool]:
  """Where the answer that the verifier `math` judges is marked by nothing.

  Arguments as of `verify`. False for other verifiers.
  """
  out = [False] * len(tasks)
  rows = [i for i, task in enumerate(tasks) if task.verifier == 'math']
  found = answer.unmarked(
    [tasks[i].answer for i in rows],
    [completions[i] for i in rows],
    truncated=None if truncated is None else [truncated[i] for i in rows],
    rules=rules,
  )
  for i, unmarked in zip(rows, found, strict=True):
    out[i] = unmarked
  return out


def _math(tasks, completions, timeout_s, late, truncated, rules):
  golds = [task.answer for task in tasks]
  return answer.verify(
    golds,
    completions,
    timeout_s=timeout_s,
    truncated=truncated,
    rules=rules,
    timed_out=late,
  )


def _countdown(tasks, completions, timeout_s, late):
  return [
    countdown_expression.verify(
      task.data['numbers'],
      task.data['target'],
      text,
      use=task.data.get('use', 'exactly_once'),
    )
    for task, text in zip(tasks, completions)
  ]


def _reasoning_gym(tasks, completions, timeout_s, late):
  if importlib.util.find_spec('reasoning_gym') is None:
    raise ValueError(
      f'Task {tasks[0].id!r} needs reasoning-gym, which is not installed: '
      "pip install 'rlvr_jax[gym]'."
    )
  for dataset in {task.data['dataset'] for task in tasks}:
    gym_scorers.check(dataset)
  out: list = []
  jobs: dict[str, dict[int, dict]] = {}
  for i, (task, text) in enumerate(zip(tasks, completions)):
    try:
      found = extract.stated(text)
    except extract.TooLong:
      out.append(enums.Verdict.UNVERIFIABLE)
      continue
    out.append(enums.Verdict.NO_ANSWER)
    if found is not None:
      dataset = task.data['dataset']
      job = {'dataset': dataset, 'entry': task.data['entry'], 'answer': found}
      jobs.setdefault(dataset, {})[i] = job
  for dataset, rows in jobs.items():
    replies = pool.run(
      f'gym:{dataset}', list(rows.values()), timeout_s=timeout_s
    )
    for i, reply in zip(rows, replies):
      if reply.failure == pool.LATE:
        late.add(i)
      if reply.failure:
        out[i] = enums.Verdict.UNVERIFIABLE
      elif reply.value == SOLVED:
        out[i] = enums.Verdict.CORRECT
      else:
        out[i] = enums.Verdict.WRONG
  return out


def _step(tasks, completions, timeout_s, late):
  out = []
  for task, text in zip(tasks, completions):
    found = step_text.step(text, 'optional')
    if found is None:
      out.append(enums.Verdict.NO_ANSWER)
    elif found.split() == task.answer.split():
      out.append(enums.Verdict.CORRECT)
    else:
      out.append(enums.Verdict.WRONG)
  return out


def _exact(tasks, completions, timeout_s, late):
  out = []
  for task, text in zip(tasks, completions):
    _, mark, found = extract.reply(text).rpartition('####')
    if not mark or not found.strip():
      out.append(enums.Verdict.NO_ANSWER)
    elif found.split() == task.answer.split():
      out.append(enums.Verdict.CORRECT)
    else:
      out.append(enums.Verdict.WRONG)
  return out


VERIFIERS = {
  'math': _math,
  'countdown': _countdown,
  'reasoning_gym': _reasoning_gym,
  'step': _step,
  'exact': _exact,
}
