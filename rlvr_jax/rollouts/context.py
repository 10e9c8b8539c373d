"""What does a teacher read that the student did not, before the same answer?

A context is a function of the step's rows and of the row that is judged:

  context(tasks [P], transcripts [P][G], group, row) -> Context | None

None: there is nothing to tell, the row has no teacher and leaves the loss. In a
dialogue the text of a row is its messages, one a line.

Templates write a context into the prompt, by name. What models wrote stands in
it as text: `io.encoding.Tokenizer` makes no control token of it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract

Rows = Sequence[Sequence[base.Transcript]]


class Context(NamedTuple):
  """What a teacher is told; with neither, it reads the student's prompt."""

  solution: str = ''  # a text that is said to solve the task
  feedback: str = ''  # what the verifier says of the row's own attempt


class Template(NamedTuple):
  """A prompt's text: `whole` of {question}, {solution} and {feedback}.

  The two parts are '' where the context lacks them, and of {text} otherwise. A
  part of None cannot be told.
  """

  whole: str
  solution: str | None
  feedback: str | None


TEMPLATES = {
  # Without instruction: for models that follow none.
  'plain': Template(
    '{question}{solution}{feedback}', '\n\n{text}', '\n\n{text}'
  ),
  # arXiv:2601.20802 and its code, verl/trainer/config/actor/actor.yaml.
  'sdpo': Template(
    '{question}{solution}{feedback}\n\nCorrectly solve the original question.\n',
    '\nCorrect solution:\n\n{text}\n\n',
    '\nThe following is feedback from your unsuccessful earlier attempt:\n\n'
    '{text}\n\n',
  ),
  # arXiv:2601.18734, data_collator.py of its code; there the wish for \boxed{}
  # follows, which here is in the question.
  'opsd': Template(
    '{question}\n\n{solution}',
    'Here is a reference solution to this problem:\n{text}\n\n\nAfter '
    'understanding the reference solution and the rationale behind each step, '
    'now articulate your own step-by-step reasoning that derives the same '
    'final answer to the problem below:\n',
    None,
  ),
  # arXiv:2601.19897, main.py of its code.
  'sdft': Template(
    '\n{question}\n\n{solution}',
    'This is an example for a response to the question:\n{text}\n\nNow answer '
    'with a response of your own, including the thinking process.\n',
    None,
  ),
}

# What each context needs: a row's 'sibling' in its group, 'feedback', a task's
# 'gold' solution or 'demonstration', 'others' (groups of other tasks).
NEEDS = {
  'none': (),
  'placebo': (),
  'solution': ('sibling',),
  'shortest_right': ('sibling',),
  'wrong': ('sibling',),
  'feedback': ('feedback',),
  'solution_or_feedback': ('feedback',),
  'both': ('feedback',),
  'gold': ('gold',),
  'demonstration': ('demonstration',),
  'shuffled': ('others',),
}


def needs(spec: str) -> tuple[str, ...]:
  """What the context of a spec needs; one that is not of this file, all."""
  return NEEDS.get(registry.parse(spec)[0], ('feedback',))


@registry.register('context')
def none(tasks: Sequence[Task], transcripts: Rows, group: int, row: int):
  """Nothing: the teacher differs by its weights alone.

  On-policy distillation from another model. With the policy's own weights loss
  and gradient are exactly 0.
  """
  return Context()


@registry.register('context')
def solution(
  tasks: Sequence[Task],
  transcripts: Rows,
  group: int,
  row: int,
  *,
  own: bool = False,
):
  """The first right row of the group but the row itself, or with it (`own`).

  SDPO's code (arXiv:2601.20802), which excludes the row itself by default, so
  that the only right row of a group has no teacher; its paper's Table 2
  includes it. Right is a verdict and no threshold of rewards.
  """
  right = _siblings(transcripts[group], row, own, enums.Verdict.CORRECT)
  return Context(solution=right[0].completion) if right else None


@registry.register('context')
def shortest_right(
  tasks: Sequence[Task],
  transcripts: Rows,
  group: int,
  row: int,
  *,
  own: bool = False,
):
  """The right row with the fewest tokens, as in `solution`.

  SSOPD (arXiv:2605.17497), for the longest wrong row: teacher.rows.
  """
  right = _siblings(transcripts[group], row, own, enums.Verdict.CORRECT)
  shortest = min(right, key=lambda t: t.num_tokens, default=None)
  return Context(solution=shortest.completion) if shortest else None


@registry.register('context')
def feedback(tasks: Sequence[Task], transcripts: Rows, group: int, row: int):
  """What the verifier says of the row; nothing of a right one."""
  said = transcripts[group][row].feedback
  return Context(feedback=said) if said else None


@registry.register('context')
def solution_or_feedback(
  tasks: Sequence[Task],
  transcripts: Rows,
  group: int,
  row: int,
  *,
  own: bool = False,
):
  """`solution`, and `feedback` where there is none: SDPO's default."""
  found = solution(tasks, transcripts, group, row, own=own)
  return found or feedback(tasks, transcripts, group, row)


@registry.register('context')
def both(
  tasks: Sequence[Task],
  transcripts: Rows,
  group: int,
  row: int,
  *,
  own: bool = False,
):
  """`solution` and `feedback`, or the one of them that there is.

  TRL's default for SDPO, and the best of the paper's ablation (Table 6), if
  "both" means one prompt there.
  """
  one = solution(tasks, transcripts, group, row, own=own) or Context()
  other = feedback(tasks, transcripts, group, row) or Context()
  if not (one.solution or other.feedback):
    return None
  return Context(one.solution, other.feedback)


@registry.register('context')
def gold(
  tasks: Sequence[Task],
  transcripts: Rows,
  group: int,
  row: int,
  *,
  answer: bool = False,
):
  """data['solution'], the task's worked solution (OPSD); or its answer."""
  text = tasks[group].answer if answer else tasks[group].data.get('solution')
  return Context(solution=text) if text else None


@registry.register('context')
def demonstration(
  tasks: Sequence[Task], transcripts: Rows, group: int, row: int
):
  """data['demonstration'], messages in a dialogue; else data['solution'].

  SDFT (arXiv:2601.19897).
  """
  data = tasks[group].data
  text = data.get('demonstration') or data.get('solution')
  if text and not isinstance(text, str):
    text = '\n'.join(text)
  return Context(solution=text) if text else None


@registry.register('context')
def placebo(
  tasks: Sequence[Task],
  transcripts: Rows,
  group: int,
  row: int,
  *,
  text: str = 'Think carefully.',
):
  """A control: words that say nothing of the task, where a solution would be.

  What the form of a context does by itself. `none` is the control that changes
  nothing at all.

  Raises:
    ValueError: no text.
  """
  if not text.strip():
    raise ValueError(f"text={registry.show(text)} says nothing: take 'none'.")
  return Context(solution=text)


@registry.register('context')
def shuffled(tasks: Sequence[Task], transcripts: Rows, group: int, row: int):
  """A control: the solution of another task of the step.

  The first right row of the next group that has one and another question; else
  the worked solution of the next such task that has one.
  """
  others = [(group + i) % len(tasks) for i in range(1, len(tasks))]
  others = [p for p in others if tasks[p].question != tasks[group].question]
  for p in others:
    right = _siblings(transcripts[p], -1, True, enums.Verdict.CORRECT)
    if right:
      return Context(solution=right[0].completion)
  texts = (tasks[p].data.get('solution') for p in others)
  text = next(filter(None, texts), None)
  return Context(solution=text) if text else None


@registry.register('context')
def wrong(
  tasks: Sequence[Task],
  transcripts: Rows,
  group: int,
  row: int,
  *,
  own: bool = False,
):
  """A control: the first wrong row of the group, told as if it were right."""
  found = _siblings(transcripts[group], row, own, enums.Verdict.WRONG)
  return Context(solution=found[0].completion) if found else None


def _siblings(
  transcripts: Sequence[base.Transcript],
  row: int,
  own: bool,
  verdict: enums.Verdict,
) -> list[base.Transcript]:
  """The rows of a group that have the verdict and a text."""
  return [
    t
    for i, t in enumerate(transcripts)
    if t.verdict == verdict and (own or i != row) and t.completion.strip()
  ]


def told(
  task: Task, context: Context, template: Template, *, remove_thinking: bool
) -> Task | None:
  """The task as the teacher reads it; None if nothing remains to be told.

  The text of the question is written anew, or that of the last message of the
  user where a task has messages.

  Args:
    remove_thinking: of a solution, only the text after the thought is told.
  """
  solution = context.solution
  if remove_thinking and solution:
    solution = extract.reply(solution).strip()
  if context == Context():
    return task
  if not (solution or context.feedback):
    return None
  write = lambda part, text: part.format(text=text) if part and text else ''
  parts = {
    'solution': write(template.solution, solution),
    'feedback': write(template.feedback, context.feedback),
  }
  if not any(parts.values()):
    return None
  whole = lambda question: template.whole.format(question=question, **parts)
  messages = task.data.get('messages')
  if messages is None:
    return task._replace(question=whole(task.question))
  last = max(i for i, m in enumerate(messages) if m['role'] == 'user')
  messages = [
    m | {'content': whole(m['content'])} if i == last else m
    for i, m in enumerate(messages)
  ]
  return task._replace(data=task.data | {'messages': messages})


def of_rows(
  context: Callable,
  tasks: Sequence[Task],
  transcripts: Rows,
  template: Template,
  *,
  remove_thinking: bool,
) -> list[list[Task | None]]:
  """[P][G] tasks as the teacher of each row reads them; None: no teacher.

  Raises:
    ValueError: a context that is neither None nor a `Context`.
  """
  out: list[list[Task | None]] = []
  for p, task in enumerate(tasks):
    out.append([])
    for g in range(len(transcripts[p])):
      found = context(tasks, transcripts, p, g)
      if found is not None and not isinstance(found, Context):
        raise ValueError(
          f'teacher.context returned {registry.show(found)}: return a '
          'rollouts.context.Context, or None where there is nothing to tell.'
        )
      if found is not None:
        found = told(task, found, template, remove_thinking=remove_thinking)
      out[-1].append(found)
  return out
