"""Which written step of a solution is the first that is wrong?

Only what plain arithmetic can decide: no text is evaluated, expressions are
parsed by `countdown_expression.evaluate`, in exact fractions. What is not
clearly an equality of numbers is passed over, since to call a right step wrong
would be worse than silence.
"""

import itertools
import re
from collections.abc import Container
from fractions import Fraction

from rlvr_jax.verifiers import countdown_expression
from rlvr_jax.verifiers.rules import RULES, Rules

LENGTH = 20_000  # characters of a text that are read, from its start
EQUALITIES = 300  # most equalities that are checked
_SIDE = 120  # most characters of one side
_QUESTION = 200  # most characters of a question that may be a chain

# A stretch of numbers, operators and signs of equality.
_STRETCH = re.compile(r'[-+*/().,0-9= \t]{3,2000}')
_CLAUSE = re.compile(r'[.,;:](?=[ \t\n]|\Z)')  # not the point in 2.5
_GROUPED = re.compile(r'(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])')
# What may stand before an equality: the start of a line or clause, or a word
# that is no part of an expression, as 'twice' in 'twice 3 + 4' is.
_BEFORE = re.compile(
  r'(?:\A|[\n!?]|[A-Za-z]>|\b(?:so|thus|then|is|are|was|have|has|had|get|gets|got|'
  r'gives|give|hence|and|therefore|that|since|because|now|first|next|finally|'
  r'also|compute|calculate|we|know|check|costs?|makes?|earns?|spends?|where|'
  r'means|but|if))[ \t]*\Z',
  re.IGNORECASE,
)
# What may follow: the end of a line or clause, or the name of a unit. Not the
# rest of an expression, a unit that scales it, or a remainder, which makes
# 7 / 2 = 3 right.
_AFTER = re.compile(
  r'[ \t]*(?:\Z|[\n!?)<])|[ \t]+(?!(?:mod|modulo|remainder|rem|with|percent|per|'
  r'hundred|thousand|million|billion|trillion|dozen|times|plus|minus|over|'
  r'divided|squared|cubed|to|or|bn)\b)[A-Za-z]{2,}'
)
# In another base or modulus other equalities hold; a quotient may be rounded.
_OTHER_RULES = re.compile(
  r'\b(?:base[ -]?[0-9]|binary|octal|hexadecimal|mod(?:ulo|ular)?\b)',
  re.IGNORECASE,
)
_ROUNDED = re.compile(
  r'remain|round|approx|about|whole|full|floor|quotient|nearest|left over',
  re.IGNORECASE,
)
_OPERATION = re.compile(r'[0-9)]\s*[-+*/]')
_CHAIN = re.compile(r'[0-9](?:[-+*][0-9])+')
_LINE = re.compile(r'([0-9])([-+*])([0-9])=([0-9])')


def wrong_equality(
  text: str, *, rules: Rules = RULES, secret: Container[Fraction] = ()
) -> str:
  """Says which equality of numbers in a text is the first that is false.

  Every 'a = b' of neighbours in 'a = b = c' is one. A decimal stands for all
  numbers that are rounded or cut to it: 10 / 3 = 3.33 is not false, and neither
  is 10 / 3 = 3 in a text that speaks of rounding or a remainder. In a running
  total, 3 + 4 = 7 + 2 = 9, the sum is taken as it is meant.

  Args:
    text: of any content and length.
    rules: whether a comma separates thousands.
    secret: numbers that are not to be named: what an expression comes to is
      left out if it is one of them.

  Returns:
    A sentence, or '' if no equality is false.
  """
  text = text[:LENGTH]
  if _OTHER_RULES.search(text):
    return ''
  rounded = _ROUNDED.search(text) is not None
  text = text.replace('**', ' ').replace('\r', '\n')
  text = _CLAUSE.sub('\n', countdown_expression.respell(text))
  checked = 0
  for match in _STRETCH.finditer(text):
    sides = _sides(text, match, rules)
    for left, right in itertools.pairwise(sides):
      if left is None or right is None:
        continue
      if not _OPERATION.search(left[0] + '=' + right[0]):
        continue  # 'step 2 = 3 apples'
      checked += 1
      if checked > EQUALITIES:
        return ''
      quotient = rounded and '/' in left[0] and abs(left[1] - right[1]) < 1
      if _differ(left, right) and not quotient and not _runs_on(left, right):
        said = f'In the steps, {left[0]} = {right[0]} is wrong'
        if not _OPERATION.search(left[0]) or left[1] in secret:
          return f'{said}.'
        return f'{said}: {left[0]} is {_show(left[1])}.'
  return ''


def _sides(
  text: str, match: re.Match[str], rules: Rules
) -> list[tuple[str, Fraction] | None]:
  """Text and value of each side of 'a = b = c'; None where unreadable."""
  parts = match[0].split('=')
  if len(parts) < 2:
    return []
  start, end = match.span()
  out = [_read(part.strip(), rules) for part in parts]
  if not _BEFORE.search(text[max(0, start - 20) : start]):
    out[0] = None
  spaces = parts[-1][len(parts[-1].rstrip()) :]
  if not _AFTER.match(spaces + text[end : end + 20]):
    out[-1] = None
  return out


def _read(part: str, rules: Rules) -> tuple[str, Fraction] | None:
  if not part or len(part) > _SIDE or re.match(r'[-+*/]\s', part):
    return None  # '- 3 + 4' may be an item of a list
  if rules.thousands == 'european':
    if ',' in part or '.' in part:
      return None
    plain = part
  else:
    plain = _GROUPED.sub(lambda m: m[0].replace(',', ''), part)
  try:
    value, _ = countdown_expression.evaluate(plain, decimals=True)
  except (ValueError, ZeroDivisionError, RecursionError):
    return None
  return part, value


def _differ(left: tuple[str, Fraction], right: tuple[str, Fraction]) -> bool:
  """Whether two sides differ by more than their decimals were rounded by."""
  both = f'{left[0]}={right[0]}'
  places = [len(x) for x in re.findall(r'\.([0-9]+)', both)]
  if not places:
    return left[1] != right[1]
  room = Fraction(1, 10 ** min(places))
  if max(places) > 1 and re.search(r'[*/]', both):
    # 3 * 3.33 = 10, after 10 / 3 = 3.33
    room *= max(Fraction(1), abs(left[1]), abs(right[1]))
  return abs(left[1] - right[1]) >= room


def _runs_on(left: tuple[str, Fraction], right: tuple[str, Fraction]) -> bool:
  """Whether the right side goes on from the value of the left one."""
  first = _read(re.match('[0-9.,]*', right[0])[0], RULES)
  return first is not None and first[1] == left[1]


def _show(value: Fraction) -> str:
  rounded = round(value, 4)
  scaled = rounded * 10**4
  if value.denominator == 1 or abs(scaled) > 10**20:
    return countdown_expression.show(value)
  sign, digits = '-' * (scaled < 0), f'{abs(int(scaled)):05d}'
  decimal = f'{sign}{digits[:-4]}.{digits[-4:]}'.rstrip('0').rstrip('.')
  return decimal if value == rounded else f'about {decimal}'


def wrong_step(question: str, answer: str, text: str) -> str | None:
  """Says what is the first wrong step of a chain (`envs.chain`).

  Args:
    question: such as '4+3*2'.
    answer: a digit for each operation, such as '74'.
    text: the completion.

  Returns:
    A sentence that names no right digit which the text lacks; '' if all is
    right; None if the question is no chain.
  """
  question = question.strip()
  if len(question) > _QUESTION or not _CHAIN.fullmatch(question):
    return None
  depth = len(question) // 2
  if len(answer) != depth or not re.fullmatch('[0-9]+', answer):
    return None
  steps, mark, stated = text[:LENGTH].rpartition('####')
  written = _LINE.findall(steps if mark else stated)
  before = question[0]
  for k in range(depth):
    name = f'Step {k + 1}'
    if k >= len(written):
      if written:
        return f'{name} of {depth} is missing.'
      break
    start, sign, digit, result = written[k]
    step = f'{start}{sign}{digit}={result}'
    if start != before:
      source = 'the first digit' if k == 0 else f'the result of step {k}'
      return f'{name}, {step}, does not begin with {source}, {before}.'
    if sign + digit != question[2 * k + 1 : 2 * k + 3]:
      want = question[2 * k + 1 : 2 * k + 3]
      return f'{name}, {step}, is not the operation {want} of the question.'
    if result != answer[k]:
      return f'{name}, {step}, has a wrong result.'
    before = result
  if len(written) > depth:
    return f'There are {len(written)} steps for {depth} operations.'
  if not mark or not stated.strip():
    return 'The answer after #### is missing.'
  given = ''.join(stated.split())[: depth + 1]
  for k, digit in enumerate(answer):
    if k >= len(given):
      return f'The answer has {len(given)} digits for {depth} operations.'
    if given[k] != digit:
      return f'Digit {k + 1} of the answer, {given[k]!r}, is wrong.'
  if len(given) > depth:
    return f'The answer has more than {depth} digits.'
  if stated.strip() != answer:
    return 'The digits of the answer are not written together.'
  return ''
