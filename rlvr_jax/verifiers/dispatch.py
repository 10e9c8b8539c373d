"""Which verifier judges each completion of a batch, and what is its verdict?"""

import importlib.util
from collections.abc import Callable, Sequence

from rlvr_jax import enums, registry
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import (
  answer,
  countdown_expression,
  feedback_text,
  gym_scorers,
  judgments,
  pool,
  program_tests,
  step_text,
)
from rlvr_jax.verifiers.extraction import extract

Verdict = enums.Verdict  # so that callers of `verify` find it here
# Raise it with every change that can alter a verdict or how an answer is read:
# stored samples and labels from another version are then not reused.
VERSION = 2

SOLVED = 1.0  # reasoning-gym's score for a correct answer


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
      (`gym_scorers.scorer`) scores `extract.stated` in a worker. The score
      `SOLVED` is CORRECT, anything less is WRONG: there is no partial credit.
    step: `answer`, the expert's step; CORRECT if the text after the thought
      (`step_text.step`) has the same words.
    exact: `answer`; CORRECT if the same words follow the last ####.
    program: `data['tests']` (see `program_tests.verify`).
    pair: `data['chosen']`, `data['rejected']`, or one of them; CORRECT and
      WRONG for these texts, UNVERIFIABLE for any other.
    judgment: `data['judge']`, `data['better']`; NO_ANSWER if the judge's format
      cannot read it, CORRECT if it prefers that place, else WRONG.

  Args:
    tasks: n tasks; their verifiers may differ.
    completions: n texts.
    timeout_s: seconds of CPU time for one check.
    truncated, rules: see `answer.verify`.
    timed_out: a set to which the indices of rows whose check timed out are
      added; their verdict is UNVERIFIABLE.

  Returns:
    n verdicts.

  Raises:
    ValueError: unknown verifier (the error lists the known ones), the lengths
      differ, a gold answer cannot be read, reasoning-gym is not installed, or
      one of its generators is refused.
  """
  _check(tasks, completions)
  rows: dict[str, list[int]] = {}
  for i, task in enumerate(tasks):
    rows.setdefault(task.verifier, []).append(i)
  out: list = [None] * len(tasks)
  for name, indices in rows.items():
    options, late = {}, set()
    if name == 'math':
      cut = None if truncated is None else [truncated[i] for i in indices]
      options = {'truncated': cut, 'rules': rules}
    verdicts = VERIFIERS[name](
      [tasks[i] for i in indices],
      [completions[i] for i in indices],
      timeout_s,
      late,
      **options,
    )
    if timed_out is not None:
      timed_out |= {indices[i] for i in late}
    for i, verdict in zip(indices, verdicts):
      out[i] = verdict
  return out


def fallback(
  tasks: Sequence[Task],
  completions: Sequence[str],
  *,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
) -> list[bool]:
  """Returns where the verifier `math` falls back on an unmarked answer.

  Arguments as for `verify`. False for tasks of other verifiers.
  """
  out = [False] * len(tasks)
  rows = [i for i, task in enumerate(tasks) if task.verifier == 'math']
  flags = answer.unmarked(
    [tasks[i].answer for i in rows],
    [completions[i] for i in rows],
    truncated=None if truncated is None else [truncated[i] for i in rows],
    rules=rules,
  )
  for i, unmarked in zip(rows, flags, strict=True):
    out[i] = unmarked
  return out


def feedback(
  tasks: Sequence[Task],
  completions: Sequence[str],
  verdicts: Sequence[enums.Verdict],
  *,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
  gold: bool = False,
  hidden_tests: bool = False,
) -> list[str]:
  """Says of each completion what is wrong with it.

  One or two sentences, at most `feedback_text.LONGEST` characters, a function
  of the arguments alone. They cost what parsing costs: no worker is asked. By
  verifier:
    math: the answer that was read, and the first false equality of numbers.
    countdown: what the expression comes to, and numbers against the rule.
    reasoning_gym: the answer that was read.
    step: the first word that differs.
    exact: of a chain (`envs.chain`), the first wrong step or digit; else the
      answer that was read.
    program: why it cannot be read, or the first test that fails, with a fault
      (word, step, stack) or with the outputs.

  Args:
    tasks, completions, truncated, rules: as for `verify`.
    verdicts: n, what `verify` returned.
    gold: whether the gold answer is added to each feedback. Without it no
      feedback contains it, unless the question or the completion does.
    hidden_tests: whether a program is told tests that its question does not
      show.

  Returns:
    n texts; '' for a CORRECT completion. They quote completions, so they hold
    whatever a model wrote: text from a stranger, like the completions.

  Raises:
    ValueError: unknown verifier, or the lengths differ.
  """
  _check(tasks, completions)
  cut = [False] * len(tasks) if truncated is None else truncated
  out = []
  for task, text, verdict, is_cut in zip(
    tasks, completions, verdicts, cut, strict=True
  ):
    if verdict == enums.Verdict.CORRECT:
      out.append('')
      continue
    asked = feedback_text.Asked(verdict, bool(is_cut), rules, hidden_tests)
    said = feedback_text.FEEDBACK[task.verifier](task, text, asked)
    said = feedback_text.limited(said)
    if gold:
      said = f'{said} A right answer is: {task.answer}'.strip()
    out.append(said)
  return out


def _check(tasks: Sequence[Task], completions: Sequence[str]) -> None:
  if len(tasks) != len(completions):
    raise ValueError(
      f'{len(tasks)} tasks for {len(completions)} completions: give the task '
      'of each completion.'
    )
  for task in tasks:
    if task.verifier not in VERIFIERS:
      raise ValueError(
        f'Task {task.id!r} has the unknown verifier {task.verifier!r}.'
        f'{registry.nearest(task.verifier, VERIFIERS)} '
        f'Known: {", ".join(VERIFIERS)}.'
      )


def _math(
  tasks: Sequence[Task],
  completions: Sequence[str],
  timeout_s: float,
  late: set[int],
  truncated: Sequence[bool] | None,
  rules: extract.Rules,
) -> list[enums.Verdict]:
  golds = [task.answer for task in tasks]
  return answer.verify(
    golds,
    completions,
    timeout_s=timeout_s,
    truncated=truncated,
    rules=rules,
    timed_out=late,
  )


def _countdown(
  tasks: Sequence[Task],
  completions: Sequence[str],
  timeout_s: float,
  late: set[int],
) -> list[enums.Verdict]:
  return [
    countdown_expression.verify(
      task.data['numbers'],
      task.data['target'],
      text,
      use=task.data.get('use', 'exactly_once'),
    )
    for task, text in zip(tasks, completions)
  ]


def _reasoning_gym(
  tasks: Sequence[Task],
  completions: Sequence[str],
  timeout_s: float,
  late: set[int],
) -> list[enums.Verdict]:
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
      stated = extract.stated(text)
    except extract.TooLong:
      out.append(enums.Verdict.UNVERIFIABLE)
      continue
    out.append(enums.Verdict.NO_ANSWER)
    if stated is not None:
      dataset = task.data['dataset']
      job = {'dataset': dataset, 'entry': task.data['entry'], 'answer': stated}
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


def _each(verdict: Callable[[Task, str], enums.Verdict]):
  """The verifier of rows whose verdict takes no time: no limit, no worker."""

  def verify(
    tasks: Sequence[Task],
    completions: Sequence[str],
    timeout_s: float,
    late: set[int],
  ) -> list[enums.Verdict]:
    return [verdict(task, text) for task, text in zip(tasks, completions)]

  return verify


def _right(is_right: bool) -> enums.Verdict:
  return enums.Verdict.CORRECT if is_right else enums.Verdict.WRONG


def _step(task: Task, text: str) -> enums.Verdict:
  step = step_text.step(text, 'optional')
  if step is None:
    return enums.Verdict.NO_ANSWER
  return _right(step.split() == task.answer.split())


def _exact(task: Task, text: str) -> enums.Verdict:
  _, mark, stated = extract.reply(text).rpartition('####')
  if not mark or not stated.strip():
    return enums.Verdict.NO_ANSWER
  return _right(stated.split() == task.answer.split())


def _program(task: Task, text: str) -> enums.Verdict:
  return program_tests.verify(task.data['tests'], text)


def _pair(task: Task, text: str) -> enums.Verdict:
  sides = {'rejected': enums.Verdict.WRONG, 'chosen': enums.Verdict.CORRECT}
  known = {task.data[k]: v for k, v in sides.items() if k in task.data}
  # Exactly first: the two may differ in white space alone.
  verdicts = {k.strip(): v for k, v in known.items()} | known
  other = verdicts.get(text.strip(), enums.Verdict.UNVERIFIABLE)
  return verdicts.get(text, other)


def _judgment(task: Task, text: str) -> enums.Verdict:
  judgment = judgments.format_of(task.data['judge']).read(text, 2)
  if judgment is None:
    return enums.Verdict.NO_ANSWER
  return _right(judgment.winner == task.data['better'])  # a tie is wrong


VERIFIERS = {
  'math': _math,
  'countdown': _countdown,
  'reasoning_gym': _reasoning_gym,
  'step': _each(_step),
  'exact': _each(_exact),
  'program': _each(_program),
  'pair': _each(_pair),
  'judgment': _each(_judgment),
}
