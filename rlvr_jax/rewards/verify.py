"""Verdicts for a batch of tasks, each by the verifier that it names."""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlvr_jax import codes, registry
from rlvr_jax.rewards import answer, countdown, extract, pool, similarity

if TYPE_CHECKING:
  from rlvr_jax.envs import core as envs

# Of the judgments. Raise it with every change that can turn a verdict, or that
# reads an answer in another way: samples and labels that another version judged
# are not used any more.
VERSION = 2

SOLVED = 0.99  # reasoning-gym's score of a right answer is 1.0


def verify(
  tasks: Sequence['envs.Task'],
  completions: Sequence[str],
  *,
  timeout_s: float = 3.0,
) -> list[codes.Verdict]:
  """Judges each completion by its task's verifier.

  Verifiers, and the task fields that they read:
    math: `answer` (see `answer.verify`).
    countdown: `data['numbers']`, `data['target']`; `data['use']` if the rule
      is not 'exactly_once' (see `countdown.verify`).
    reasoning_gym: `data['dataset']`, `data['entry']`. The data set's own
      scorer, in a worker since some evaluate the text with sympy; CORRECT
      from a score of `SOLVED` on, so partial credit is WRONG. It is given
      `extract.stated`.

    step: `answer`, the expert's step; CORRECT where the part after the
      thought (`similarity.step`) has the same words.
    exact: `answer`; CORRECT where the same words follow the last ####.

  Args:
    tasks: n tasks, of any mixture of verifiers.
    completions: n texts.
    timeout_s: seconds for one check.

  Raises:
    ValueError: unknown verifier (lists the known ones), lengths differ, a
      gold answer that cannot be read, reasoning-gym is not installed.
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
    verdicts = VERIFIERS[name](
      [tasks[i] for i in where], [completions[i] for i in where], timeout_s
    )
    for i, verdict in zip(where, verdicts):
      out[i] = verdict
  return out


def _math(tasks, completions, timeout_s):
  golds = [task.answer for task in tasks]
  return answer.verify(golds, completions, timeout_s=timeout_s)


def _countdown(tasks, completions, timeout_s):
  return [
    countdown.verify(
      task.data['numbers'],
      task.data['target'],
      text,
      use=task.data.get('use', 'exactly_once'),
    )
    for task, text in zip(tasks, completions)
  ]


def _reasoning_gym(tasks, completions, timeout_s):
  if importlib.util.find_spec('reasoning_gym') is None:
    raise ValueError(
      f'Task {tasks[0].id!r} needs reasoning-gym, which is not installed: '
      "pip install 'rlvr_jax[gym]'."
    )
  out: list = []
  jobs: dict[str, dict[int, dict]] = {}
  for i, (task, text) in enumerate(zip(tasks, completions)):
    try:
      found = extract.stated(text)
    except extract.TooLong:
      out.append(codes.Verdict.UNVERIFIABLE)
      continue
    out.append(codes.Verdict.NO_ANSWER)
    if found is not None:
      dataset = task.data['dataset']
      job = {'dataset': dataset, 'entry': task.data['entry'], 'answer': found}
      jobs.setdefault(dataset, {})[i] = job
  for dataset, rows in jobs.items():
    replies = pool.run(
      f'gym:{dataset}', list(rows.values()), timeout_s=timeout_s
    )
    for i, reply in zip(rows, replies):
      if reply.failure:
        out[i] = codes.Verdict.UNVERIFIABLE
      elif reply.value >= SOLVED:
        out[i] = codes.Verdict.CORRECT
      else:
        out[i] = codes.Verdict.WRONG
  return out


def _step(tasks, completions, timeout_s):
  out = []
  for task, text in zip(tasks, completions):
    found = similarity.step(text, 'optional')
    if found is None:
      out.append(codes.Verdict.NO_ANSWER)
    elif found.split() == task.answer.split():
      out.append(codes.Verdict.CORRECT)
    else:
      out.append(codes.Verdict.WRONG)
  return out


def _exact(tasks, completions, timeout_s):
  out = []
  for task, text in zip(tasks, completions):
    _, mark, found = text.rpartition('####')
    if not mark or not found.strip():
      out.append(codes.Verdict.NO_ANSWER)
    elif found.split() == task.answer.split():
      out.append(codes.Verdict.CORRECT)
    else:
      out.append(codes.Verdict.WRONG)
  return out


VERIFIERS = {
  'math': _math,
  'countdown': _countdown,
  'reasoning_gym': _reasoning_gym,
  'step': _step,
  'exact': _exact,
}
