r"""Is a completion's final answer equal to the gold answer?

Plain numbers are compared here, exactly; other mathematics (`maths.symbolic`)
in worker processes (`pool`) that are killed when they exceed their time. The
text is never evaluated: `maths.reader` parses it. No answer can stall or crash
the batch, or change the verdict of another row.

Conventions (those on which graders differ are options: `rules.Rules`):
- LaTeX, plain notation (`2*pi*r`, `sqrt(2)/2`, `x**2`) and Unicode (`2√3`) are
  read, in gold answers too. Symbols are case-sensitive: R/r is not r/R.
- Rational numbers are compared exactly: 0.3333 is not 1/3. A decimal equals an
  irrational number up to a relative error of 5e-7. Formulas are equal if they
  agree wherever both have a real value.
- 10% equals 0.1 and 10, but the formula `10\% \text{ of } x` is not 10.
- '18 dollars', '$18.00', '18' are equal: units and currency are ignored.
- `x = 3` equals 3 (but y = 3 is not a gold x = 3), and so does
  `m + n = 30 + 40 = 70` the number 70; but 2x = 6 is not 3, and a false
  equation (17 = 18) is wrong. A value after an approximation sign, or one cut
  off by an ellipsis, is not the answer.
- (1,2) is an ordered pair or an open interval, which differs from [1,2] and
  (2,1); {1,2} is a set, 1,2 a list in any order. Intervals equal inequalities.
- 3! is 6; 18_{16} is 24; 5 \pmod 7 is 5.
- A gold answer in words is written `\text{...}` and compared without case and
  spaces; yes, no, true, false and the letter of a choice need no \text. The
  letter may be followed by the text of the choice: (E) 12. Other words are not
  mathematics: refused in a gold answer, UNVERIFIABLE in a completion.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
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

Verdict = enums.Verdict  # so that callers of `verify` find it here

_CORRECT, _WRONG, _NO_ANSWER, _UNVERIFIABLE = enums.Verdict


# 3.14... and 1, 2, ... are cut off; 5... ends a sentence.
_CUT_OFF = re.compile(r'(?:\.\d+|,) ?\.\.\.?$')
_END = re.compile(r'(?:\\[,;:! ]|(?<!\\)\\$|[.;:,\s])+$')  # `\,` is a space
_NAME = re.compile(r'([A-Za-z])(?:_\{?\w+\}?)? ?= ?[-+.\d\\]')


class _Gold(NamedTuple):
  number: numbers.Number | None
  latex: str
  words: str | None  # of a gold `\text{...}`, as `answer_words.key`
  of_reals: bool = False  # a set of reals, so 'x < 1 or x > 3' is no hedge


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

  `extract.find` finds the final answer. A symbolic check takes at most
  `timeout_s` (see `pool.run` for the total).

  Args:
    golds: n answers, such as '18', '\frac{\sqrt{2}}{2}', '(1,2)'; a solution
      that ends in '#### 18' or in a box is accepted too.
    completions: n texts, of any content and length.
    timeout_s: seconds of CPU time for one symbolic check.
    truncated: n flags, whether a completion hit the length limit; then only a
      marked answer counts. None means that none did.
    rules: conventions on which graders differ.
    timed_out: a set to which the indices of rows whose check timed out are
      added.

  Returns:
    n verdicts. UNVERIFIABLE: the answer exceeds the size limits, cannot be
    read as mathematics, or its check failed or timed out.

  Raises:
    ValueError: a gold answer cannot be read (a fault in the data, never a WRONG
      verdict), the lengths differ, or an element is not a string.
  """
  _check_strings(golds, 'golds')
  _check_strings(completions, 'completions')
  if len(golds) != len(completions):
    raise ValueError(
      f'{len(golds)} golds for {len(completions)} completions: '
      'give one gold answer for each completion.'
    )
  truncated = _truncated_flags(truncated, len(golds))
  options = rules.changes()
  parsed = {gold: _read_gold(gold) for gold in set(golds)}
  verdicts: list = []
  jobs = {}
  for i, (gold, text) in enumerate(zip(golds, completions)):
    verdict = _judge(parsed[gold], text, rules, truncated[i])
    verdicts.append(verdict)
    if isinstance(verdict, str):  # LaTeX, which a worker compares
      jobs[i] = {'gold': parsed[gold].latex, 'answer': verdict, **options}
  replies = pool.run('math', list(jobs.values()), timeout_s=timeout_s)
  codes = {'correct': _CORRECT, 'wrong': _WRONG, 'unreadable': _UNVERIFIABLE}
  for i, reply in zip(jobs, replies):
    if reply.value == 'bad gold':
      raise _bad_gold(golds[i], 'it cannot be read')
    verdicts[i] = _UNVERIFIABLE if reply.failure else codes[reply.value]
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
  """Returns where `verify` falls back on an unmarked last formula or number.

  Arguments as for `verify`.
  """
  found = _found(golds, completions, truncated, rules)
  return [x is not None and not x.marked for x in found]


def stated(
  golds: Sequence[str],
  completions: Sequence[str],
  *,
  truncated: Sequence[bool] | None = None,
  rules: extract.Rules = extract.RULES,
) -> list[str | None]:
  """Returns the text that `verify` takes for the answer of each completion.

  None if there is none, or it is too long. Arguments as for `verify`.
  """
  found = _found(golds, completions, truncated, rules)
  return [x and x.text for x in found]


def _found(
  golds: Sequence[str],
  completions: Sequence[str],
  truncated: Sequence[bool] | None,
  rules: extract.Rules,
) -> list[extract.Found | None]:
  truncated = _truncated_flags(truncated, len(golds))
  expected = {gold: _expected(_read_gold(gold)) for gold in set(golds)}
  out: list = []
  for gold, text, cut in zip(golds, completions, truncated, strict=True):
    try:
      out.append(extract.find(text, expected[gold], rules, cut=cut))
    except extract.TooLong:
      out.append(None)
  return out


def gold_values(gold: str) -> list[Fraction]:
  """Returns the numbers that a gold answer means, none if it is no number."""
  number = _read_gold(gold).number
  if number is None:
    return []
  return (
    [number.value, number.value / 100] if number.percent else [number.value]
  )


def check_gold(gold: str) -> None:
  """Raises ValueError unless `gold` can be used as a gold answer."""
  check_golds([gold])


def check_golds(golds: Sequence[str], *, timeout_s: float = 10.0) -> None:
  """Raises ValueError at the first gold answer that `verify` would refuse.

  Raises:
    ValueError: names the answer and the remedy.
    RuntimeError: see `gold_problems`.
  """
  for why in gold_problems(golds, timeout_s=timeout_s).values():
    raise ValueError(why)


def gold_problems(
  golds: Sequence[str], *, timeout_s: float = 10.0
) -> dict[int, str]:
  """{index: why, and the remedy} of gold answers that `verify` would refuse.

  For code that builds data sets. Plain numbers and `\\text{...}` are checked in
  this process, other answers in workers.

  Raises:
    ValueError: an element is not a string.
    RuntimeError: no worker can be started, so the answers are unchecked.
  """
  _check_strings(golds, 'golds')
  out, symbolic = {}, {}
  for i, gold in enumerate(golds):
    try:
      parsed = _read_gold(gold)
    except ValueError as e:
      out[i] = str(e)
      continue
    if parsed.number is None and parsed.words is None:
      symbolic[i] = {'gold': parsed.latex, 'answer': None}
  replies = pool.run('math', list(symbolic.values()), timeout_s=timeout_s)
  for i, reply in zip(symbolic, replies):
    if (reply.failure or '').startswith('not started'):
      raise RuntimeError(f'Cannot check gold answers: worker {reply.failure}.')
    if reply.value == 'bad gold' or reply.failure:
      why = reply.failure or 'it cannot be read'
      out[i] = str(_bad_gold(golds[i], why))
  return dict(sorted(out.items()))


def canonical(
  completion: str,
  *,
  truncated: bool = False,
  rules: extract.Rules = extract.RULES,
) -> str | None:
  """Returns a key for counting votes: equal answers have equal keys.

  Numbers become 'p' or 'p/q' (50% is 1/2), other mathematics a key of its
  value (`vote_keys.key`), words themselves. Unreadable text is kept, without
  spaces and dollar signs. None if there is no answer.
  """
  try:
    found = extract.vote(completion, rules, cut=truncated)
    answer = found and found.text
    number = None if answer is None else numbers.read(answer)
  except extract.TooLong:
    return None
  if answer is None:
    return None
  if number is not None:
    return str(number.value / 100 if number.percent else number.value)
  latex = _strip(answer)
  words = answer_words.key(latex)
  if re.fullmatch(r'[a-j]', words):  # (B) and b are one choice
    return words
  return vote_keys.key(latex) or words or None


def _judge(
  gold: _Gold, text: str, rules: extract.Rules, cut: bool
) -> enums.Verdict | str:
  """Returns a verdict, or the LaTeX that a worker compares with the gold."""
  try:
    found = extract.find(text, _expected(gold), rules, cut=cut)
    if found is None:
      return _NO_ANSWER
    answer = found.text
    if rules.thousands == 'european':
      answer = notation.european(answer)
    number = numbers.read(answer)
  except extract.TooLong:
    return _UNVERIFIABLE
  latex = _strip(answer)
  if gold.number is not None and number is not None:
    # 10\% \text{ of the total} is 10%, and not 10.
    either = rules.percent == 'either' and not numbers.part_of(answer)
    equal = numbers.equal(gold.number, number, either=either)
    name, gold_name = _unknown(latex), _unknown(gold.latex)
    if name and gold_name and name != gold_name:
      equal = False
    return _CORRECT if equal else _WRONG
  if gold.number is not None:
    spelt = answer_words.numeral(latex)
    if spelt is not None:
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


def _expected(gold: _Gold) -> sentence.Expected:
  expected = sentence.expected_form(
    gold.latex, numeric=gold.number is not None, words=gold.words
  )
  return expected._replace(several=True) if gold.of_reals else expected


def _truncated_flags(
  truncated: Sequence[bool] | None, count: int
) -> Sequence[bool]:
  if truncated is None:
    return [False] * count
  if len(truncated) != count:
    raise ValueError(
      f'{len(truncated)} entries of truncated for {count} golds: give one flag '
      'for each completion.'
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
  words = answer_words.key(latex)
  if words and (
    answer_words.UPRIGHT.fullmatch(latex)
    or words in answer_words.KNOWN
    or re.fullmatch(r'\(?[A-J]\)?', latex)
  ):
    return _Gold(None, latex, words)
  if fault := _fault(latex, extract.RULES):
    raise _bad_gold(gold, fault)
  tree = reader.read(latex)
  of_reals = real_sets.is_set(tree) and tree[0] != 'interval'
  return _Gold(None, latex, None, of_reals)


def _fault(
  latex: str, rules: extract.Rules, gold: _Gold | None = None
) -> str | None:
  """Returns why an answer cannot be compared at all, or None."""
  if not any(c.isalnum() or c in '\\{∅∞√' for c in latex):
    return 'it is empty'
  bare = latex.casefold().strip('*_`. ')
  if bare in answer_words.MISSING and not (
    bare.endswith('inf') and gold and '\\infty' in gold.latex
  ):
    return 'it stands for a missing value'
  if '\0' in latex or any('\ud800' <= c <= '\udfff' for c in latex):
    return 'it holds characters that are not text'
  try:
    loose = gold is not None and gold.number is not None
    reader.read(latex, loose=loose, semicolons=rules.semicolons)
  except notation.Unreadable as e:
    return str(e)
  return None


def _unknown(latex: str) -> str | None:
  """Returns the x of 'x = 3', None without one."""
  match = _NAME.match(latex)
  return match and match[1].casefold()


def _strip(text: str) -> str:
  """Returns LaTeX without math delimiters and final punctuation."""
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
