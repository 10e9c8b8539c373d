"""Tokens and a place among them, for readers by descent."""

import contextlib

from rlvr_jax.verifiers.maths.notation import Token, Unreadable

DEPTH = 60  # brackets within brackets, exponents within exponents
NESTED = 100  # operations within operations: a sum has at most as many terms
OPEN = {'(': ')', '[': ']', '{': '}', '\\{': '\\}', 'lfloor': 'rfloor',
        'lceil': 'rceil'}  # fmt: skip
CLOSE = frozenset(OPEN.values())


def is_op(token: Token, *values: str) -> bool:
  return token.kind == 'op' and token.value in values


class Tokens:
  """Tokens and a place among them."""

  def __init__(self, found: list[Token]):
    self.tokens = found
    self.at = self.end = 0
    self.bars = self.level = 0  # | that are open; terms within terms
    self.depths = self._depths()

  def _depths(self) -> list[int]:
    """How many brackets each token stands in; a bracket: those around it."""
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

  def _peek(self, *values) -> bool:
    return self.at < self.end and is_op(self.tokens[self.at], *values)

  def _take(self, *values) -> bool:
    found = self._peek(*values)
    self.at += found
    return found

  def _need(self, *values) -> None:
    if not self._take(*values):
      raise Unreadable(f'{values[0]!r} is missing')

  @contextlib.contextmanager
  def _deeper(self):
    self.level += 1
    if self.level > DEPTH:
      raise Unreadable(f'it nests deeper than {DEPTH}')
    yield
    self.level -= 1


def check_depth(tree) -> None:
  todo = [(tree, 1)]
  while todo:
    node, depth = todo.pop()
    if depth > NESTED:
      raise Unreadable(f'it has more than {NESTED} operations in a row')
    todo += [(x, depth + 1) for x in node if isinstance(x, tuple)]
