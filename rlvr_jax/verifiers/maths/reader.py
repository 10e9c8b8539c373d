r"""How is a mathematical text parsed into a tree of tuples?

Nothing is evaluated, and no library parses the text. Symbols are
case-sensitive. Scalar trees:

  ('n', Fraction, decimal)  ('s', symbol)  ('+', a, b)  ('neg', a)  ('*', a, b)
  ('/', a, b)  ('^', a, b)  ('!', a)  ('f', name, a, ...)  ('pm', sign, a, b)
  ('deg', a)  ('pct', a)  ('sum', symbol, first, last, body), ('prod', ...)

Trees that contain them:

  ('list', x, ...) in any order   ('set', x, ...)   ('tuple', x, ...)
  ('interval', a, b, closed left, closed right)   ('all', 'R')
  ('union', x, y)  ('inter', x, y)  ('minus', x, y)   ('matrix', row, ...)
  ('rel', signs, sides)   ('or', x, ...)  ('and', x, ...)   ('ratio', x, ...)
  ('mod', x, modulus)   ('name', text): the left side of an equation
"""

import itertools
import re
from fractions import Fraction

from rlvr_jax.verifiers.maths import notation, spelling, terms, units
from rlvr_jax.verifiers.maths.descent import CLOSE, OPEN, is_op
from rlvr_jax.verifiers.maths.notation import Token, Unreadable
from rlvr_jax.verifiers.maths.trees import is_scalar

RELATIONS = ('=', '<', '>', '<=', '>=', '!=', 'approx', 'equiv', 'in', 'notin')
_LEADING = re.compile(
  r'(?:(?!\b(?:not|least|most|more|less|than|about|approximately|nearly)\b)'
  r'[A-Za-z ,])*\b(?:is|are|equals?|be|get|answer|thus|hence|so|therefore|have)'
  r' ?:?|(?:therefore|thus|hence|so|final answer|answer|exactly)[,:]?'
  r'|(?!.*\b(?:wrong|incorrect|false|not|least|most|more|less|than|about|nearly)\b)(?:[A-Za-z]+ ?){1,4}:',
  re.IGNORECASE,
)
_APPLIED = re.compile(
  r"[A-Za-z]+(?:_\{?\w+\}?|\^\{-1\}|'+)*\([\w, ]+\)"
  r'|frac\{d(?:\^\{?\d\}?)?[a-zA-Z]?\}\{d[a-z](?:\^\{?\d\}?)?\}'
)
_FRENCH = re.compile(
  r'(^ ?|\\cup ?|\\in ?|= ?|∪ ?)([\[\](])([^\[\]()=]*[,;][^\[\]()=]*)([\[\])])'
  r'(?= ?(?:$|\\cup|∪))'
)
_DERIVATIVE = re.compile(  # not 'dy/dx = ...', a name for the value after it
  r'\\[dt]?frac ?\{ ?d(?: ?\^ ?\{?\d\}?)? ?[a-z]?(?:\([a-z]\))? ?\} ?'
  r'\{ ?d ?[a-z](?: ?\^ ?\{?\d\}?)? ?\} ?(?![= ])'
)
_COMBINATIONS = re.compile(r'(?<![\w\\])C ?\( ?(\d{1,4}) ?, ?(\d{1,4}) ?\)')
_DATE = re.compile(r'\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{2,4}')


def read(
  text: str,
  *,
  loose: bool = False,
  thousands: bool = True,
  semicolons: bool = True,
) -> tuple:
  """Parses an answer into a tree.

  Args:
    text: mathematics without math delimiters such as dollar signs.
    loose: whether the answer must be a number (see `units.strip`); then C(5,2)
      is 10, not a point.
    thousands: see `notation.tokens`.
    semicolons: whether '[0; 1]' is an interval.

  Raises:
    Unreadable: it is not mathematics that can be parsed; the message is the
      reason.
  """
  if len(text) > notation.SYMBOLS:
    raise Unreadable(f'it has more than {notation.SYMBOLS} characters')
  if _DATE.fullmatch(text.strip()):
    raise Unreadable('it is a date')
  if _DERIVATIVE.search(text):
    raise Unreadable('it holds a derivative, which is not supported')
  text = _FRENCH.sub(_english, text)
  text = units.strip(spelling.plain(text).strip(), loose=loose)
  text = re.sub(r'(?<![\d.])(\d*\.\d*)\((\d+)\)$', r'\1\\overline{\2}', text)
  if loose:
    text = _COMBINATIONS.sub(r'\\binom{\1}{\2}', text)
  tokens = notation.tokens(text, thousands=thousands)
  return _Reader(tokens, semicolons).whole()


def _english(match: re.Match) -> str:
  """Rewrites the French interval ]0, 1[ as (0, 1)."""
  before, left, inside, right = match.groups()
  left, right = left.replace(']', '('), right.replace('[', ')')
  return f'{before}{left}{inside}{right}'


class _Reader(terms.Terms):
  """Parses structure: relations, lists and sets, slice by slice."""

  def __init__(self, tokens: list[Token], semicolons: bool):
    super().__init__(tokens)
    self.semicolons = semicolons

  def whole(self) -> tuple:
    """Parses all tokens, without leading words such as 'the answer is'."""
    start, end = 0, len(self.tokens)
    while (
      start < end
      and self.tokens[start].kind == 'text'
      and (_LEADING.fullmatch(self.tokens[start].value))
    ):
      start += 1
      if start < end and is_op(self.tokens[start], ':'):
        start += 1
    for i in range(start + 1, end - 1):  # the value of x is 5
      token = self.tokens[i]
      if token.kind == 'text' and token.value.strip() in ('is', 'equals'):
        if all(t.kind in ('text', 'sym') for t in self.tokens[start:i]):
          start = i + 1
        break
    if start == end:
      raise Unreadable('it is empty')
    return self._modulo(start, end)

  def _find(self, start: int, end: int, *values: str) -> list[int]:
    """Returns the positions of these operators outside of brackets."""
    if start >= end:
      return []
    level = min(self.depths[start:end])
    return [
      i
      for i in range(start, end)
      if self.depths[i] == level and is_op(self.tokens[i], *values)
    ]

  def _parts(
    self, start: int, end: int, places: list[int]
  ) -> list[tuple[int, int]]:
    """Returns the (start, end) of the parts between these positions."""
    edges = [start - 1, *places, end]
    parts = [(a + 1, b) for a, b in itertools.pairwise(edges)]
    if any(a >= b for a, b in parts):
      raise Unreadable('a part of it is empty')
    return parts

  def _modulo(self, start: int, end: int) -> tuple:
    """Parses 5 \\pmod 7, x \\equiv 5 (mod 7), or anything without a modulus."""
    for i in range(start, end):
      if is_op(self.tokens[i], 'pmod') and self.depths[i] == 0:
        return ('mod', self._list(start, i), self._value(i + 1, end))
      bracket = is_op(self.tokens[i], '(') and i + 2 < end
      if (
        bracket
        and self.depths[i] == 0
        and (
          is_op(self.tokens[i + 1], 'bmod')
          or (
            self.tokens[i + 1].kind == 'text'
            and self.tokens[i + 1].value == 'mod'
          )
        )
        and is_op(self.tokens[end - 1], ')')
      ):
        return ('mod', self._list(start, i), self._value(i + 2, end - 1))
    return self._list(start, end)

  def _list(self, start: int, end: int) -> tuple:
    """Parses values separated by commas, semicolons, 'or', 'and'."""
    if is_op(self.tokens[end - 1], ',', ';', '.', ':'):
      end -= 1
    if start >= end:
      raise Unreadable('it is empty')
    for word in ('or', 'and'):
      if places := self._find(start, end, word):
        # 2, 3, and 5
        parts = [
          (a, b - (is_op(self.tokens[b - 1], ',') and b - 1 > a))
          for a, b in self._parts(start, end, places)
        ]
        return self._together(word, [self._list(a, b) for a, b in parts])
    for sign in (';', ','):
      if places := self._find(start, end, sign):
        edges = [start - 1, *places, end]
        # '2, 3, , 5' is what remains of '2, 3, and 5': skip the empty part
        parts = [(a + 1, b) for a, b in itertools.pairwise(edges) if a + 1 < b]
        return self._together(',', [self._value(a, b) for a, b in parts])
    return self._value(start, end)

  def _together(self, word: str, items: list[tuple]) -> tuple:
    """Combines answers: a list, or a condition if all are inequalities."""
    first = items[0]
    if first[0] == 'rel' and first[1] == ('!=',):  # x \\ne 0, 1
      items = [
        ('rel', ('!=',), (first[2][0], x)) if is_scalar(x) else x for x in items
      ]
    flat = []
    for item in items:
      flat += item[1:] if item[0] in ('list', word) else (item,)
    if all(_condition(x) for x in flat):
      return ('and' if word == ',' else word, *flat)
    # n = 2, 3, 4 names all of them.
    return ('list', *flat)

  def _value(self, start: int, end: int) -> tuple:
    """Parses one answer: a relation, a set, a tuple, a number."""
    places = self._find(start, end, *RELATIONS)
    if not places:
      return self._set(start, end)
    if places[0] == start:  # '= 5', '\approx 5'
      if self.tokens[start].value == '=' and start + 1 < end:
        return self._value(start + 1, end)
      raise Unreadable('its relation has one side')
    signs = tuple(self.tokens[i].value for i in places)
    sides = []
    for k, (a, b) in enumerate(self._parts(start, end, places)):
      named = k == 0 and signs[0] in ('=', 'approx', 'in')
      if named and self._applied(a, b):
        sides.append(('name', self._spelt(a, b)))
        continue
      try:
        sides.append(self._set(a, b))
      except Unreadable:
        # P(X > 2) = 1/3, \angle ABC = 30: a name
        if not named or self.tokens[a].kind == 'num':
          raise
        sides.append(('name', self._spelt(a, b)))
    return ('rel', signs, tuple(sides))

  def _spelt(self, start: int, end: int) -> str:
    return ''.join(str(t.value) for t in self.tokens[start:end])

  def _applied(self, start: int, end: int) -> bool:
    """Whether it is a function with its argument: f(x), f^{-1}(x), P(A)."""
    return bool(end - start > 3 and _APPLIED.fullmatch(self._spelt(start, end)))

  def _set(self, start: int, end: int) -> tuple:
    """Parses a set, tuple, interval or ratio, else a scalar."""
    if start >= end:
      raise Unreadable('a part of it is empty')
    for sign, name in (('cup', 'union'), ('cap', 'inter'),
                       ('setminus', 'minus')):  # fmt: skip
      if places := self._find(start, end, sign):
        parts = [self._set(a, b) for a, b in self._parts(start, end, places)]
        out = parts[0]
        for part in parts[1:]:
          out = (name, out, part)
        return out
    if end - start == 1 and self.tokens[start].kind == 'set':
      return ('all', self.tokens[start].value)
    if [t.value for t in self.tokens[start + 1 : end]] == ['^', '+'] and (
      self.tokens[start] == Token('set', 'R', self.tokens[start].spaced)
    ):
      zero = ('n', Fraction(0), False)
      return ('interval', zero, ('s', 'oo'), False, False)
    if end - start == 1 and is_op(self.tokens[start], 'emptyset'):
      return ('set',)
    # R - {2}
    dash = self._find(start, end, '-')[:1] == [start + 1]
    if dash and self.tokens[start].kind == 'set':
      return ('minus', self._set(start, start + 1), self._set(start + 2, end))
    if self._matched(start, end):
      inner = self._bracketed(start, end)
      if inner is not None:
        return inner
    # A(1, 2): a point with its letter
    if (
      end - start > 3
      and self.tokens[start].kind == 'sym'
      and (
        self._matched(start + 1, end) and self._find(start + 2, end - 1, ',')
      )
    ):
      return self._bracketed(start + 1, end)
    if places := self._find(start, end, ':'):
      parts = self._parts(start, end, places)
      return ('ratio', *(self._scalar(a, b) for a, b in parts))
    if is_op(self.tokens[start], 'begin cases', 'begin aligned', 'begin align'):
      raise Unreadable('it is a system')
    return self._scalar(start, end)

  def _matched(self, start: int, end: int) -> bool:
    """Whether one pair of brackets encloses everything."""
    first, last = self.tokens[start], self.tokens[end - 1]
    return (
      end - start > 1
      and is_op(first, *OPEN)
      and is_op(last, *CLOSE)
      and all(d > self.depths[start] for d in self.depths[start + 1 : end - 1])
    )

  def _bracketed(self, start: int, end: int) -> tuple | None:
    """Parses a tuple, interval or set; None for a number in brackets."""
    left, right = self.tokens[start].value, self.tokens[end - 1].value
    if left in ('lfloor', 'lceil'):
      return None
    inside = (start + 1, end - 1)
    if left == '\\{':
      return self._braces(*inside)
    if inside[0] == inside[1]:
      raise Unreadable('its brackets are empty')
    places = self._find(*inside, ',')
    if not places and self.semicolons:
      places = self._find(*inside, ';')
    if left == '{' and not places:
      return self._list(*inside)
    if left == '{':  # braces without a backslash
      return self._braces(*inside)
    if places:
      parts = [self._list(a, b) for a, b in self._parts(*inside, places)]
      if left + right == '()':
        return ('tuple', *parts)
      if len(parts) == 2 and all(is_scalar(p) for p in parts):
        return ('interval', *parts, left == '[', right == ']')
      if left + right == '[]':
        return ('tuple', *parts)
      raise Unreadable('its brackets do not match')
    if left + right not in ('()', '[]'):
      raise Unreadable('its brackets do not match')
    if self._find(*inside, 'cup', 'cap', 'setminus', *RELATIONS, 'or'):
      return self._list(*inside)
    return self._list(*inside) if self._matched(*inside) else None

  def _braces(self, start: int, end: int) -> tuple:
    """Parses the inside of set braces."""
    if start == end:
      return ('set',)
    if places := self._find(start, end, '|', ':'):
      if len(places) == 1:  # {x | x > 2}
        left = self._value(start, places[0])
        if left[0] in ('s', 'rel') and (
          left[0] == 's' or (left[1] == ('in',) and left[2][1] == ('all', 'R'))
        ):
          condition = self._list(places[0] + 1, end)
          if _condition(condition):
            return condition
      if self._find(start, end, ':'):
        raise Unreadable('a set by a condition that is not supported')
    inner = self._list(start, end)
    if _condition(inner):
      return inner
    return ('set', *(inner[1:] if inner[0] == 'list' else (inner,)))


def _condition(tree: tuple) -> bool:
  """Whether a tree is an inequality or a combination of inequalities."""
  if tree[0] in ('or', 'and'):
    return all(_condition(x) for x in tree[1:])
  return tree[0] == 'rel' and all(
    s in ('<', '>', '<=', '>=', '!=') for s in tree[1]
  )
