r"""Is a solution's final answer equal to the gold answer?

Numbers are compared exactly, here; other mathematics (`maths.symbolic`) in
worker processes (`pool`) that are killed when their time is up. Nothing
evaluates the text: it is read by a reader of our own (`maths.reader`). No
answer can stall, crash or zero its neighbours.

Conventions (those on which graders differ can be chosen: `extract.Rules`):
- LaTeX, plain notation (`2*pi*r`, `sqrt(2)/2`, `x**2`) and Unicode (`2√3`) are
  read, in gold answers too. Symbols keep their case: R/r is not r/R.
- Rational numbers are compared exactly: 0.3333 is not 1/3. A decimal equals an
  irrational number up to a relative error of 5e-7. Formulas are equal if they
  are wherever both have a real value.
- 10% equals 0.1 and 10, but the formula `10\% \text{ of } x` is not 10.
- '18 dollars', '$18.00', '18' are equal: units and currency are not checked.
- `x = 3` equals 3 (but y = 3 is not a gold x = 3), and so does
  `m + n = 30 + 40 = 70` the number 70; but 2x = 6 is not 3, and a false
  equation (17 = 18) is wrong. What follows an approximation sign, or is cut
  off by an ellipsis, is not the answer.
- (1,2) is an ordered pair or an open interval, which differs from [1,2] and
  (2,1); {1,2} is a set, 1,2 a list in any order. Intervals equal inequalities.
- 3! is 6; 18_{16} is 24; 5 \pmod 7 is 5.
- A gold answer in words is written `\text{...}` and compared without case and
  spaces; yes, no, true, false and the letter of a choice need no \text. The
  letter may be followed by its text: (E) 12. Other words are not mathematics:
  refused in a gold answer, UNVERIFIABLE in a solution.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rlvr_jax import enums
from rlvr_jax.verifiers import pool
from rlvr_jax.verifiers.extraction import (
  answer_words,
  extract,
  numbers,
  sentence,
)
from rlvr_jax.verifiers.maths import notation, reader, real_sets, vote_keys
from rlvr_jax.verifiers.maths.conventions import DEFAULT

Verdict = enums.Verdict  # what `verify` returns stands beside it

_CORRECT, _WRONG, _NO_ANSWER, _UNVERIFIABLE = enums.Verdict


# 3.14... and 1, 2, ... break off; 5... is the end of a sentence.
_CUT_OFF = re.compile(r'(?:\.\d+|,) ?\.\.\.?$')
_END = re.compile(r'(?:\\[,;:! ]|(?<!\\)\\$|[.;:,\s])+$')  # `\,` is a space
_NAME = re.compile(r'([A-Za-z])(?:_\{?\w+\}?)? ?= ?[-+.\d\\]')


class _Gold(NamedTuple):
  number: numbers.Number | None
  latex: str
  words: str | None  # what a gold `\text{...}` says, as `answer_words.key`
  of_reals: bool = False  # a set of them, so 'x < 1 or x > 3' is no hedge


def verify(
  golds: Sequence[str],
  completions: Sequence[str],
  *,
  timeout_s: float = 3.0,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
  timed_out: set[int] | None = None,
) -> list[enums.Verdict]:
  r"""Judges each completion's final answer against its gold answer.

  Where the answer is found: `extract.find`. Symbolic answers cost at most
  `timeout_s` each (see `pool.run` for the total).

  Args:
    golds: n answers, such as '18', '\frac{\sqrt{2}}{2}', '(1,2)'; a solution
      that ends in '#### 18' or in a box will do.
    completions: n texts, of any content and length.
    timeout_s: seconds of CPU time for one symbolic check.
    truncated: n, whether a limit cut the text: then only a marked answer
      counts. None: no text was.
    rules: conventions on which graders differ.
    timed_out: the rows whose check ran out of time are added to it.

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
  truncated = _cut(truncated, len(golds))
  chosen = {
    name: getattr(rules, name)
    for name, usual in DEFAULT._asdict().items()
    if getattr(rules, name) != usual
  }
  known = {gold: _read_gold(gold) for gold in set(golds)}
  verdicts: list = []
  jobs = {}
  for i, (gold, text) in enumerate(zip(golds, completions)):
    found = _judge(known[gold], text, rules, truncated[i])
    verdicts.append(found)
    if isinstance(found, str):  # the worker's to say
      jobs[i] = {'gold': known[gold].latex, 'answer': found, **chosen}
  replies = pool.run('math', list(jobs.values()), timeout_s=timeout_s)
  said = {'correct': _CORRECT, 'wrong': _WRONG, 'unreadable': _UNVERIFIABLE}
  for i, reply in zip(jobs, replies):
    if reply.value == 'bad gold':
      raise _bad_gold(golds[i], 'it cannot be read')
    verdicts[i] = _UNVERIFIABLE if reply.failure else said[reply.value]
    if reply.failure == pool.LATE and timed_out is not None:
      timed_out.add(i)
  return verdicts


def unmarked(
  golds: Sequence[str],
  completions: Sequence[str],
  *,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
) -> list[bool]:
  """Where `verify` judges a last formula or number that nothing marks.

  Arguments as of `verify`.
  """
  truncated = _cut(truncated, len(golds))
  known = {gold: _sought(_read_gold(gold)) for gold in set(golds)}
  out = []
  for gold, text, cut in zip(golds, completions, truncated, strict=True):
    try:
      found = extract.find(text, known[gold], rules, cut=cut)
    except extract.TooLong:
      found = None
    out.append(found is not None and not found.marked)
  return out


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


def canonical(
  completion: str,
  *,
  truncated: bool = False,
  rules: extract.Rules = extract.RULES,
) -> str | None:
  """A key for counting votes: equal answers get equal keys.

  Numbers become 'p' or 'p/q' (50% is 1/2), other mathematics a key of its
  value (`vote_keys.key`), words themselves. What is not read loses spaces and
  dollar signs. None where there is no answer to count.
  """
  try:
    found = extract.vote(completion, rules, cut=truncated)
    answer = found and found.text
    read = None if answer is None else numbers.read(answer)
  except extract.TooLong:
    return None
  if answer is None:
    return None
  if read is not None:
    return str(read.value / 100 if read.percent else read.value)
  latex = _strip(answer)
  if re.fullmatch(
    r'[a-j]', answer_words.key(latex)
  ):  # (B) and b are one choice
    return answer_words.key(latex)
  return vote_keys.key(latex) or answer_words.key(latex) or None


def _judge(gold: _Gold, text: str, rules, cut: bool) -> enums.Verdict | str:
  """A verdict, or the LaTeX that a worker must compare with the gold."""
  try:
    found = extract.find(text, _sought(gold), rules, cut=cut)
    if found is None:
      return _NO_ANSWER
    answer = found.text
    if rules.thousands == 'european':
      answer = notation.european(answer)
    read = numbers.read(answer)
  except extract.TooLong:
    return _UNVERIFIABLE
  latex = _strip(answer)
  if gold.number is not None and read is not None:
    # 10\% \text{ of the total} is 10%, and not 10.
    either = rules.percent == 'either' and not numbers.part_of(answer)
    same = numbers.equal(gold.number, read, either=either)
    same = same and _unknown(latex) in (
      None,
      _unknown(gold.latex) or _unknown(latex),
    )
    return _CORRECT if same else _WRONG
  if (
    gold.number is not None
    and (spelt := answer_words.numeral(latex)) is not None
  ):
    return _CORRECT if spelt == gold.number.value else _WRONG
  if gold.words is not None:
    if answer_words.same(gold.words, latex):
      return _CORRECT
    if not re.fullmatch(r'[A-Z]', gold.latex):  # a choice, or a symbol
      return _WRONG
  if gold.number is None:
    latex = answer_words.MEANT.get(answer_words.key(latex), latex)
    if '\\mathbb' in gold.latex:
      latex = re.sub(r'\\mathbf ?(?=\{[CNQRZ]\})', r'\\mathbb', latex)
  if latex == gold.latex:
    return _CORRECT
  fault = _fault(latex, rules, gold)
  return _UNVERIFIABLE if fault else latex


def _sought(gold: _Gold) -> sentence.Sought:
  sought = sentence.sought(
    gold.latex, numeric=gold.number is not None, words=gold.words
  )
  return sought._replace(several=True) if gold.of_reals else sought


def _cut(truncated: Sequence[bool] | None, count: int) -> Sequence[bool]:
  if truncated is None:
    return [False] * count
  if len(truncated) != count:
    raise ValueError(
      f'{len(truncated)} entries of truncated for {count} golds: say of each '
      'completion whether it was cut.'
    )
  return truncated


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
  said = answer_words.key(latex)
  if said and (
    answer_words.UPRIGHT.fullmatch(latex)
    or said in answer_words.KNOWN
    or re.fullmatch(r'\(?[A-J]\)?', latex)
  ):
    return _Gold(None, latex, said)
  if fault := _fault(latex, extract.RULES):
    raise _bad_gold(gold, fault)
  tree = reader.read(latex)
  of_reals = real_sets.is_set(tree) and tree[0] != 'interval'
  return _Gold(None, latex, None, of_reals)


def _fault(
  latex: str, rules: extract.Rules, gold: _Gold | None = None
) -> str | None:
  """Why a worker should not be asked, or None."""
  if not any(c.isalnum() or c in '\\{∅∞√' for c in latex):
    return 'it is empty'
  bare = latex.casefold().strip('*_`. ')
  if bare in answer_words.MISSING and not (
    bare.endswith('inf') and gold and '\\infty' in gold.latex
  ):
    return 'it is no value'
  if '\0' in latex or any('\ud800' <= c <= '\udfff' for c in latex):
    return 'it holds characters that no text has'
  try:
    loose = gold is not None and gold.number is not None
    reader.read(latex, loose=loose, semicolons=rules.semicolons)
  except notation.Unreadable as e:
    return str(e)
  return None


def _unknown(latex: str) -> str | None:
  """The x of 'x = 3'."""
  found = _NAME.match(latex)
  return found and found[1].casefold()


def _strip(text: str) -> str:
  """Without the signs of mathematics mode, and what ends a sentence."""
  text = text.strip().replace('\\$', '').replace('$', '')
  text = re.sub(r'\\[()\[\]](?!\d+(?:\.\d+)?(?:pt|em|ex|mm))', '', text)
  text = text.strip().strip('`').strip()
  if not _CUT_OFF.search(text):
    text = _END.sub('', text).strip()
  bold = re.fullmatch(r'(\*\*|__)(.*[^*_])\1', text, re.DOTALL)
  return bold[2].strip() if bold else text


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
