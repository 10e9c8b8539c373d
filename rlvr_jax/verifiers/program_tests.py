"""Does a program of the stack language pass the tests of its task?"""

from collections.abc import Sequence

from rlvr_jax import enums
from rlvr_jax.verifiers import stack_language
from rlvr_jax.verifiers.extraction import extract

# An input and the output that is expected of it: stacks, top last.
Test = Sequence[Sequence[int]]


def read(completion: str) -> str | None:
  """Returns the text of the program in a completion; None if there is none.

  From the text after the thought: the last `<answer>`, else the last block
  between ```, else the last line that is not empty.

  Raises:
    extract.TooLong: it is longer than `stack_language.LENGTH`.
  """
  reply = extract.reply(completion)
  text = extract.tagged(reply)
  if text is None:
    text = reply[-extract.TAIL :]
    if '```' not in text:
      text = text.strip().rpartition('\n')[2]
  if '```' in text:
    text = _block(text)
  text = text.strip('`\t\r\n ')
  if len(text) > stack_language.LENGTH:
    raise extract.TooLong
  return text or None


def _block(text: str) -> str:
  """Returns the last block between ```, without the name of its language."""
  parts = text.split('```')
  # The last part is outside, unless the last block never closes.
  inside = parts[-2] if len(parts) % 2 else parts[-1]
  first, line_ends, rest = inside.partition('\n')
  return rest if line_ends and len(first.split()) < 2 else inside


def verify(tests: Sequence[Test], completion: str) -> enums.Verdict:
  """Judges the program in a completion.

  Args:
    tests: at least one. A test passes if the run ends without a fault and
      leaves the expected numbers and no others.

  Returns:
    CORRECT if all tests pass; WRONG, also for what is no program; NO_ANSWER; or
    UNVERIFIABLE for a program that is too long.
  """
  try:
    text = read(completion)
    if text is None:
      return enums.Verdict.NO_ANSWER
    program = stack_language.parse(text)
  except extract.TooLong:
    return enums.Verdict.UNVERIFIABLE
  except stack_language.Unreadable:
    return enums.Verdict.WRONG
  passes = first_failure(program, tests) is None
  return enums.Verdict.CORRECT if passes else enums.Verdict.WRONG


def first_failure(
  program: stack_language.Program, tests: Sequence[Test]
) -> tuple[int, stack_language.Run] | None:
  """Returns the index and the run of the first test that fails, or None."""
  for i, (given, expected) in enumerate(tests):
    run = stack_language.run(program, given)
    if run.fault or list(run.stack) != list(expected):
      return i, run
  return None


def feedback(
  tests: Sequence[Test], shown: int, completion: str, *, hidden: bool = False
) -> str:
  """Says what is wrong with the program in a completion; '' if nothing is.

  Args:
    tests: see `verify`.
    shown: how many of the tests, from the first, are in the question.
    hidden: whether input, stack and expected output of the other tests may be
      named too; else it is only said that one of them fails.
  """
  try:
    text = read(completion)
    if text is None:
      return (
        'No program was found: write it between <answer> and </answer>, or on '
        'the last line.'
      )
    program = stack_language.parse(text)
  except extract.TooLong:
    return f'The program has more than {stack_language.LENGTH} characters.'
  except stack_language.Unreadable as e:
    return f'The program cannot be read: {e}.'
  failure = first_failure(program, tests)
  if failure is None:
    return ''
  i, run = failure
  given, expected = tests[i]
  start = 'On another input'
  if i < shown or hidden:
    start = f'On the input {stack_language.show(given)}'
  if i >= shown:
    start = f'The examples pass. {start}'
  if run.fault:
    where = f'word {run.at + 1} ({program.words[run.at]!r})'
    if i < shown or hidden:
      where += f', step {run.steps}, stack {stack_language.show(run.stack)}'
    return f'{start} the program fails at {where}: {run.fault}.'
  if i >= shown and not hidden:
    return f'{start} the program leaves a wrong output.'
  return (
    f'{start} the program leaves {stack_language.show(run.stack)}; expected is '
    f'{stack_language.show(expected)}.'
  )
