"""How does a recursive-descent parser step through tokens?"""

import contextlib
from collections.abc import Iterator

from rlvr_jax.verifiers.maths.notation import Token, Unreadable

DEPTH = 60  # deepest nesting of brackets, and of exponents
NESTED = 100  # deepest nesting of operations, so also the most terms of a sum
OPEN = {'(': ')', '[': ']', '{': '}', '\\{': '\\}', 'lfloor': 'rfloor',
        'lceil': 'rceil'}  # fmt: skip
CLOSE = frozenset(OPEN.values())


def is_op(token: Token, *values: str) -> bool:
  """Whether a token is an operator with one of these values."""
  return token.kind == 'op' and token.value in values


class Tokens:
  """Tokens and the position of a parser in them."""

  def __init__(self, tokens: list[Token]):
    self.tokens = tokens
    self.at = self.end = 0
    self.bars = self.level = 0  # open |; nesting of terms
    self.depths = self._depths()

  def _depths(self) -> list[int]:
    """Returns each token's bracket depth; for a bracket, that around it."""
    out, opened = [], []
    for token in self.tokens:
      value = token.value if token.kind == 'op' else None
      closes = value in CLOSE or str(value).startswith('end ')
      if closes:
        if not opened:
          raise Unreadable('its brackets do not match')
        want = opened.pop()
        mixed = value in (')', ']') and want in (')', ']')  # [0, 1)
        if not mixed and value != want:
          raise Unreadable('its brackets do not match')
      out.append(len(opened))
      if value in OPEN:
        opened.append(OPEN[value])
      elif str(value).startswith('begin '):
        opened.append('end ' + value[6:])
      if len(opened) > DEPTH:
        raise Unreadable(f'its brackets nest deeper than {DEPTH}')
    if opened:
      raise Unreadable('its brackets do not match')
    return out

  def _peek(self, *values: str) -> bool:
    """Whether the next token is one of these operators."""
    return self.at < self.end and is_op(self.tokens[self.at], *values)

  def _take(self, *values: str) -> bool:
    """Consumes the next token if it is one of these operators."""
    matches = self._peek(*values)
    self.at += matches
    return matches

  def _need(self, *values: str) -> None:
    if not self._take(*values):
      raise Unreadable(f'{values[0]!r} is missing')

  @contextlib.contextmanager
  def _deeper(self) -> Iterator[None]:
    self.level += 1
    if self.level > DEPTH:
      raise Unreadable(f'it nests deeper than {DEPTH}')
    yield
    self.level -= 1


def check_depth(tree: tuple) -> None:
  """Raises Unreadable if operations nest deeper than `NESTED`."""
  todo = [(tree, 1)]
  while todo:
    node, depth = todo.pop()
    if depth > NESTED:
      raise Unreadable(f'it has more than {NESTED} operations in a row')
    todo += [(x, depth + 1) for x in node if isinstance(x, tuple)]
