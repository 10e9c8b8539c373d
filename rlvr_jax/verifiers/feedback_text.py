"""What can be said about a completion besides its verdict, by each verifier?

A plain sentence or two that the policy, or a teacher, can read: which step is
the first wrong one, what an expression came to, which test failed. Nothing here
names the gold answer. What a model wrote is quoted in short, or parsed by the
parsers that judge it; nothing is evaluated.
"""

from collections.abc import Callable
from typing import NamedTuple

from rlvr_jax import enums
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import (
  answer,
  countdown_expression,
  program_tests,
  step_text,
  written_steps,
)
from rlvr_jax.verifiers.extraction import extract

LONGEST = 400  # characters of a feedback
_QUOTE = 60  # characters of a quotation


class Asked(NamedTuple):
  """How a completion was judged, and what may be said.

  Attributes:
    verdict: WRONG, NO_ANSWER or UNVERIFIABLE.
    cut: whether the length limit cut the completion.
    rules: by which its answer was found.
    hidden: whether tests that the question does not show may be named.
  """

  verdict: enums.Verdict
  cut: bool
  rules: extract.Rules
  hidden: bool


def quote(text: str) -> str:
  """Returns a text in quotation marks, on one line, cut to 60 characters."""
  text = ' '.join(text[: 4 * _QUOTE].split())
  text = ''.join(x if x.isprintable() else '\ufffd' for x in text)
  return f"'{text[:_QUOTE]}...'" if len(text) > _QUOTE else f"'{text}'"


def limited(text: str) -> str:
  """Returns a feedback of at most `LONGEST` characters."""
  return text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'


def _none(asked: Asked, form: str) -> str:
  cut = ' The text was cut off at the length limit.' if asked.cut else ''
  return f'No answer was found.{cut or form}'


def _math(task: Task, text: str, asked: Asked) -> str:
  wrong = written_steps.wrong_equality(
    text, rules=asked.rules, secret=answer.gold_values(task.answer)
  )
  if asked.verdict == enums.Verdict.NO_ANSWER:
    none = _none(asked, ' Mark the final answer, as in \\boxed{}.')
    return f'{none} {wrong}'.strip()
  (stated,) = answer.stated(
    [task.answer], [text], truncated=[asked.cut], rules=asked.rules
  )
  if stated is None:
    return f'The answer is too long to be checked. {wrong}'.strip()
  if asked.verdict == enums.Verdict.UNVERIFIABLE:
    return f'The answer {quote(stated)} could not be checked. {wrong}'.strip()
  return f'The answer {quote(stated)} is wrong. {wrong}'.strip()


def _countdown(task: Task, text: str, asked: Asked) -> str:
  return countdown_expression.feedback(
    task.data['numbers'],
    task.data['target'],
    text,
    use=task.data.get('use', 'exactly_once'),
  )


def _reasoning_gym(task: Task, text: str, asked: Asked) -> str:
  try:
    stated = extract.stated(text)
  except extract.TooLong:
    return 'The answer is too long to be checked.'
  if stated is None:
    return _none(asked, ' Write it between <answer> and </answer>.')
  if asked.verdict == enums.Verdict.UNVERIFIABLE:
    return f'The answer {quote(stated)} could not be checked.'
  return f'The answer {quote(stated)} is wrong.'


def _step(task: Task, text: str, asked: Asked) -> str:
  step = step_text.step(text, 'optional')
  if step is None:
    return (
      'No step was found: it has to follow one closed <think>...</think>, or '
      'there must be no such tag.'
    )
  words, wanted = step.split(), task.answer.split()
  for i, (word, right) in enumerate(zip(words, wanted)):
    if word != right:
      return f'Word {i + 1} of the step, {quote(word)}, is not as expected.'
  if len(words) < len(wanted):
    return f'The step ends too early, after word {len(words)}.'
  return f'The step should end after word {len(wanted)}.'


def _exact(task: Task, text: str, asked: Asked) -> str:
  reply = extract.reply(text)
  about_chain = written_steps.wrong_step(task.question, task.answer, reply)
  if about_chain is not None:
    return about_chain
  if asked.verdict == enums.Verdict.NO_ANSWER:
    return _none(asked, ' Write it after ####.')
  stated = reply[-extract.TAIL :].rpartition('####')[2]
  return f'The answer {quote(stated)} is wrong.'


def _program(task: Task, text: str, asked: Asked) -> str:
  return program_tests.feedback(
    task.data['tests'], task.data['shown'], text, hidden=asked.hidden
  )


def _pair(task: Task, text: str, asked: Asked) -> str:
  if asked.verdict == enums.Verdict.WRONG:
    return 'This is the text that was rejected.'
  return 'This is neither the chosen nor the rejected text.'


def _judgment(task: Task, text: str, asked: Asked) -> str:
  if asked.verdict == enums.Verdict.NO_ANSWER:
    return _none(asked, ' Give the verdict in the form that was asked for.')
  return 'The verdict is wrong.'


# By the names in `dispatch.VERIFIERS`.
FEEDBACK: dict[str, Callable[[Task, str, Asked], str]] = {
  'math': _math,
  'countdown': _countdown,
  'reasoning_gym': _reasoning_gym,
  'step': _step,
  'exact': _exact,
  'program': _program,
  'pair': _pair,
  'judgment': _judgment,
}
