r"""Is a solution's final answer equal to the gold answer?

Numbers are compared exactly, here; other mathematics by math-verify, in
worker processes (`pool`) that are killed when their time is up. Nothing
evaluates the text, and no answer can stall, crash or zero its neighbours.

Conventions:
- 0.3333 is not 1/3: two plain numbers are compared exactly. math-verify, which
  judges the rest, compares a decimal with \sqrt{2} after rounding to 6 places.
- 10% equals 0.1 and 10. '18 dollars', '$18.00', '18' are equal: units and
  currency are not checked.
- `x = 3` equals 3. (1,2) is an ordered pair or an open interval, which differs
  from [1,2] and (2,1); {1,2} is a set.
- A gold answer in words is written `\text{...}` and compared without case and
  spaces. Other words are not mathematics (math-verify would read 'apples' as a
  product of letters): refused in a gold answer, UNVERIFIABLE in a solution.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rlvr_jax import codes
from rlvr_jax.rewards import extract, numbers, pool

Verdict = codes.Verdict  # what `verify` returns stands beside it

SYMBOLS = 1000  # characters that a symbolic answer may have
DEPTH = 100  # brackets within brackets

_CORRECT, _WRONG, _NO_ANSWER, _UNVERIFIABLE = codes.Verdict
_NOT_A_VALUE = frozenset(
  [
    'nan',
    '-nan',
    '+nan',
    'inf',
    '-inf',
    '+inf',
    'infinity',
    '-infinity',
    '+infinity',
    'none',
    'null',
  ]
)
_TEXT = re.compile(r'\\(?:text|textbf|textit|mathrm|mbox|textrm)\{([^{}]*)\}')
_COMMAND = re.compile(
  r'\\(?:begin|end|operatorname|mathbb|mathcal)\{[a-zA-Z*]*\}|\\[a-zA-Z]+'
)
_WORD = re.compile(r'[A-Za-z]{4,}')
_FUNCTIONS = frozenset(
  ['sqrt', 'sinh', 'cosh', 'tanh', 'arcsin', 'arccos', 'arctan']
)


class _Gold(NamedTuple):
  number: numbers.Number | None
  latex: str
  words: str | None  # what a gold `\text{...}` says


def verify(
  golds: Sequence[str], completions: Sequence[str], *, timeout_s: float = 3.0
) -> list[codes.Verdict]:
  r"""Judges each completion's final answer against its gold answer.

  Where the answer is found: `extract.final`. Symbolic answers cost at most
  `timeout_s` each (see `pool.run` for the total).

  Args:
    golds: n answers, such as '18', '\frac{\sqrt{2}}{2}', '(1,2)'; a solution
      that ends in '#### 18' or in a box will do.
    completions: n texts, of any content and length.
    timeout_s: seconds for one symbolic check, without the worker's start.

  Returns:
    n verdicts. UNVERIFIABLE: the answer is longer than what is read, cannot
    be read as mathematics, or its check failed or took too long.

  Raises:
    ValueError: a gold answer cannot be read (it is a fault in the data, never
      a wrong verdict), the lengths differ, or an element is no string.
  """
  _check_strings(golds, 'golds')
  _check_strings(completions, 'completions')
  if len(golds) != len(completions):
    raise ValueError(
      f'{len(golds)} golds for {len(completions)} completions: '
      'give one gold answer for each completion.'
    )
  known = {gold: _read_gold(gold) for gold in set(golds)}
  verdicts: list = []
  jobs = {}
  for i, (gold, text) in enumerate(zip(golds, completions)):
    found = _judge(known[gold], text)
    verdicts.append(found)
    if isinstance(found, str):  # the worker's to say
      jobs[i] = {'gold': known[gold].latex, 'answer': found}
  replies = pool.run('math', list(jobs.values()), timeout_s=timeout_s)
  said = {'correct': _CORRECT, 'wrong': _WRONG, 'unreadable': _UNVERIFIABLE}
  for i, reply in zip(jobs, replies):
    if reply.value == 'bad gold':
      raise _bad_gold(golds[i], 'it cannot be read')
    verdicts[i] = _UNVERIFIABLE if reply.failure else said[reply.value]
  return verdicts


def check_gold(gold: str) -> None:
  """Raises ValueError unless `gold` can be used as a gold answer."""
  check_golds([gold])


def check_golds(golds: Sequence[str], *, timeout_s: float = 10.0) -> None:
  """Raises ValueError at the first gold answer that `verify` would refuse.

  For code that builds data sets. Plain numbers and `\\text{...}` are decided
  here, other answers in a worker.

  Raises:
    ValueError: names the answer and what to do.
    RuntimeError: no worker can be started, so nothing is known.
  """
  _check_strings(golds, 'golds')
  symbolic = []
  for gold in golds:
    read = _read_gold(gold)
    if read.number is None and read.words is None:
      symbolic.append((gold, {'gold': read.latex, 'answer': None}))
  replies = pool.run('math', [job for _, job in symbolic], timeout_s=timeout_s)
  for (gold, _), reply in zip(symbolic, replies):
    if (reply.failure or '').startswith('not started'):
      raise RuntimeError(f'Cannot check gold answers: worker {reply.failure}.')
    if reply.value == 'bad gold' or reply.failure:
      raise _bad_gold(gold, reply.failure or 'it cannot be read')


def canonical(completion: str) -> str | None:
  """A key for counting votes: equal plain numbers get equal keys.

  Numbers become 'p' or 'p/q' (with '%' if it was there); other answers lose
  spaces and dollar signs. None where there is no answer to count.
  """
  try:
    answer = extract.final(completion, numeric=False)
    read = None if answer is None else numbers.read(answer)
  except extract.TooLong:
    return None
  if answer is None:
    return None
  if read is None:
    return _words(answer) or None
  return f'{read.value}{"%" if read.percent else ""}'


def _judge(gold: _Gold, text: str) -> codes.Verdict | str:
  """A verdict, or the LaTeX that a worker must compare with the gold."""
  try:
    answer = extract.final(text, numeric=gold.number is not None)
    if answer is None:
      return _NO_ANSWER
    read = numbers.read(answer)
  except extract.TooLong:
    return _UNVERIFIABLE
  if gold.number is not None and read is not None:
    return _CORRECT if numbers.equal(gold.number, read) else _WRONG
  if gold.words is not None:
    return _CORRECT if _words(answer) == gold.words else _WRONG
  latex = _strip(answer)
  if latex == gold.latex:
    return _CORRECT
  return _UNVERIFIABLE if _fault(latex) else latex


def _read_gold(gold: str) -> _Gold:
  answer = gold.strip()
  try:
    if '\\boxed' in gold or '####' in gold:
      answer = extract.final(gold, numeric=False) or ''
    number = numbers.read(answer)
  except extract.TooLong as e:
    raise _bad_gold(gold, 'it is too long') from e
  latex = _strip(answer)
  if number is not None:
    return _Gold(number, latex, None)
  if _TEXT.fullmatch(latex) and _words(latex):
    return _Gold(None, latex, _words(latex))
  fault = _fault(latex)
  if fault:
    raise _bad_gold(gold, fault)
  return _Gold(None, latex, None)


def _fault(latex: str) -> str | None:
  """Why math-verify should not be asked, or None."""
  if not any(c.isalnum() or c == '\\' for c in latex):
    return 'it is empty'
  if len(latex) > SYMBOLS:
    return f'it has more than {SYMBOLS} characters'
  if latex.lower() in _NOT_A_VALUE:
    return 'it is no value'
  if '\0' in latex or any('\ud800' <= c <= '\udfff' for c in latex):
    return 'it holds characters that no text has'
  depth = deepest = 0
  for c in latex:
    depth += (c in '([{') - (c in ')]}')
    deepest = max(deepest, depth)
  if deepest > DEPTH:
    return f'its brackets nest deeper than {DEPTH}'
  words = _WORD.findall(_COMMAND.sub(' ', _TEXT.sub(' ', latex)))
  words = [w for w in words if w not in _FUNCTIONS]
  return f'it holds the word {words[0]!r}' if words else None


def _strip(text: str) -> str:
  """Without the signs of mathematics mode, which the worker adds."""
  text = text.strip().replace('\\$', '').replace('$', '')
  for sign in ('\\(', '\\)', '\\[', '\\]', '**'):
    text = text.replace(sign, '')
  return text.replace('−', '-').strip().rstrip('.;:,!').strip()


def _words(text: str) -> str:
  """Bare text for comparing words: no case, no spaces, no parentheses."""
  text = _TEXT.sub(r'\1', _strip(text))
  bare = ''.join(text.split()).casefold().strip('*.')
  return bare[1:-1] if re.fullmatch(r'\(\w\)', bare) else bare


def _check_strings(texts: Sequence[str], name: str) -> None:
  if isinstance(texts, str):
    raise ValueError(f'{name} is one string: give a sequence of strings.')
  for i, text in enumerate(texts):
    if not isinstance(text, str):
      raise ValueError(
        f'{name}[{i}] is {str(text)[:80]!r}, a {type(text).__name__}: '
        'give a string.'
      )


def _bad_gold(gold: str, why: str) -> ValueError:
  shown = gold if len(gold) <= 200 else gold[:200] + '...'
  return ValueError(
    f'The gold answer {shown!r} cannot be used: {why}. Write a number, a LaTeX '
    'expression, or words as \\text{...}; or drop the task.'
  )
