r"""How are terms parsed: numbers, products, roots, functions, matrices?

The lower half of `reader`, whose docstring defines the trees.
"""

from fractions import Fraction

from rlvr_jax.verifiers.maths import descent, trees, units
from rlvr_jax.verifiers.maths.descent import is_op
from rlvr_jax.verifiers.maths.notation import Token, Unreadable

_INVERSE = {
  name: 'a' + name
  for name in ['sin', 'cos', 'tan', 'cot', 'sec', 'csc', 'sinh', 'cosh', 'tanh']
}
_NAMES = {
  f'arc{n}': f'a{n}' for n in ['sin', 'cos', 'tan', 'cot', 'sec', 'csc']
}
_NAMES |= {'log': 'log', 'lg': 'log10'}


class Terms(descent.Tokens):
  """A recursive-descent parser of terms."""

  def _scalar(self, start: int, end: int) -> tuple:
    """Parses the tokens from `start` to `end` as one term."""
    saved = self.at, self.end, self.bars
    self.at, self.end, self.bars = start, end, 0
    tree = self._sum()
    while (
      self.at < self.end
      and self.tokens[self.at].kind == 'text'
      and (
        self.tokens[self.at].upright
        and units.only('\x01' + self.tokens[self.at].value)
      )
    ):
      self.at += 1
    descent.check_depth(tree)
    if self.at < self.end:
      token = self.tokens[self.at]
      word = 'the word ' if token.kind == 'text' else ''
      raise Unreadable(f'it holds {word}{str(token.value)[:40]!r}')
    self.at, self.end, self.bars = saved
    return tree

  def _sum(self) -> tuple:
    tree = None
    if self._peek('pm', 'mp'):
      sign = 1 if self.tokens[self.at].value == 'pm' else -1
      self.at += 1
      tree = ('pm', sign, ('n', Fraction(0), False), self._product())
    else:
      tree = self._product()
    while self.at < self.end:
      if self._take('+'):
        tree = ('+', tree, self._product())
      elif self._take('-'):
        tree = ('+', tree, ('neg', self._product()))
      elif self._peek('pm', 'mp'):
        sign = 1 if self.tokens[self.at].value == 'pm' else -1
        self.at += 1
        tree = ('pm', sign, tree, self._product())
      elif self._take('bmod'):
        tree = ('f', 'mod', tree, self._product())
      else:
        break
    return tree

  def _product(self) -> tuple:
    tree = self._signed()
    while self.at < self.end:
      if self._take('*'):
        tree = ('*', tree, self._signed())
      elif self._take('/'):
        tree = ('/', tree, self._signed())
      elif self._take('choose'):
        tree = ('f', 'binom', tree, self._product())
      elif self._take('over'):
        tree = ('/', tree, self._product())
      elif self._starts():
        tree = ('*', tree, self._power())
      else:
        break
    return tree

  def _signed(self) -> tuple:
    minus = False
    while self._peek('-', '+'):
      minus ^= self.tokens[self.at].value == '-'
      self.at += 1
    tree = self._power()
    return ('neg', tree) if minus else tree

  def _starts(self) -> bool:
    """Whether a factor begins here, without a multiplication sign."""
    token = self.tokens[self.at]
    if token.kind in ('num', 'sym', 'fn'):
      return True
    if is_op(token, '|'):
      return not self.bars
    return is_op(token, '(', '[', '{', 'frac', 'lfloor', 'lceil') or (
      token.kind == 'op' and token.value.startswith('begin ')
    )

  def _power(self) -> tuple:
    tree = self._postfix(self._atom())
    if self._take('^'):
      if self._take('circ') or self._take('deg'):
        tree = ('deg', tree)
      elif (
        self._peek('{')
        and self.at + 2 < self.end
        and (is_op(self.tokens[self.at + 1], 'circ'))
      ):
        self.at += 2
        self._need('}')
        tree = ('deg', tree)
      else:
        tree = ('^', tree, self._raised())
      tree = self._postfix(tree)
    return tree

  def _raised(self) -> tuple:
    """Parses an exponent."""
    if self._peek('-', '+'):
      return self._signed()
    tree = self._postfix(self._atom())
    if self._take('^'):
      with self._deeper():
        tree = ('^', tree, self._raised())
    return tree

  def _postfix(self, tree: tuple) -> tuple:
    while self.at < self.end:
      if self._take('!'):
        if self._peek('!', '='):
          raise Unreadable('a double factorial')
        tree = ('!', tree)
      elif self._take('%'):
        tree = ('pct', tree)
      elif self._take('deg'):
        tree = ('deg', tree)
      elif self._peek("'", 'prime'):
        if tree[0] != 's':
          raise Unreadable('a derivative')
        self.at += 1
        tree = ('s', tree[1] + "'")
      else:
        break
    return tree

  def _group(self) -> tuple:
    """Parses {...}, or the single token that LaTeX accepts instead."""
    if self._take('{'):
      tree = self._sum()
      self._need('}')
      return tree
    token = self.tokens[self.at] if self.at < self.end else None
    if token and token.kind == 'num' and isinstance(token.value, str):
      first, rest = token.value[0], token.value[1:]
      if rest:
        self.tokens[self.at] = token._replace(value=rest)
      else:
        self.at += 1
      return ('n', Fraction(int(first)), False)
    return self._atom()

  def _atom(self) -> tuple:
    with self._deeper():
      return self._one()

  def _one(self) -> tuple:
    if self.at >= self.end:
      raise Unreadable('something is missing at its end')
    token = self.tokens[self.at]
    self.at += 1
    if token.kind == 'num':
      return self._number(token)
    if token.kind == 'sym':
      return self._symbol(token.value)
    if token.kind == 'fn':
      return self._function(token.value)
    if token.kind != 'op':
      what = 'word' if token.kind == 'text' else 'set'
      raise Unreadable(f'it holds the {what} {str(token.value)[:40]!r}')
    sign = token.value
    if sign in ('(', '[', '{'):
      bars, self.bars = self.bars, 0
      tree = self._sum()
      self._need(descent.OPEN[sign])
      self.bars = bars
      return tree
    if sign == '|':
      self.bars += 1
      tree = self._sum()
      self._need('|')
      self.bars -= 1
      return ('f', 'abs', tree)
    if sign in ('lfloor', 'lceil'):
      tree = self._sum()
      self._need(descent.OPEN[sign])
      return ('f', {'lfloor': 'floor', 'lceil': 'ceil'}[sign], tree)
    if sign == 'frac':
      top = self._group()
      return ('/', top, self._group())
    if sign in ('sum', 'prod'):
      return self._series(sign)
    if sign.startswith('begin '):
      return self._matrix(sign[6:])
    if sign in ('overline', 'vec', 'hat', 'bar', 'tilde', 'widehat',
                'overrightarrow'):  # fmt: skip
      inside = self._group()
      named = all(isinstance(x, str) for x in _flat(inside))
      if not named or len(_flat(inside)) > 3:
        raise Unreadable(f'it holds \\{sign}')
      return ('s', f'{sign} {"".join(_flat(inside))}')
    if sign in ('int', 'iint', 'iiint', 'oint', 'lim', 'partial', 'nabla'):
      raise Unreadable(f'it holds \\{sign}, which is not supported')
    raise Unreadable(f'it holds {sign[:40]!r}')

  def _number(self, token: Token) -> tuple:
    tree = ('n', Fraction(token.value), token.decimal)
    if not isinstance(token.value, str) or token.decimal:
      return tree
    # 2\frac{1}{2} and 2 1/2 are mixed numbers.
    if self._peek('frac'):
      saved, tokens = self.at, list(self.tokens[self.at : self.at + 3])
      self.at += 1
      top, bottom = self._group(), self._group()
      if top[0] == bottom[0] == 'n' and not top[2] and bottom[1]:
        return ('+', tree, ('/', top, bottom))
      self.at, self.tokens[saved : saved + 3] = saved, tokens
    three = self.tokens[self.at : min(self.at + 3, self.end)]
    if (
      len(three) == 3
      and [t.kind for t in three] == ['num', 'op', 'num']
      and (
        three[1].value == '/'
        and three[0].spaced
        and isinstance(three[0].value, str)
        and isinstance(three[2].value, str)
        and int(three[0].value) < int(three[2].value)
      )
    ):
      self.at += 3
      top, bottom = (('n', Fraction(t.value), False) for t in three[::2])
      return ('+', tree, ('/', top, bottom))
    if three and three[0].kind == 'num':
      raise Unreadable('two numbers without a sign between them')
    return tree

  def _symbol(self, name: str) -> tuple:
    token = self.tokens[self.at] if self.at < self.end else None
    if (
      token
      and token.kind == 'num'
      and not token.spaced
      and isinstance(token.value, str)
      and name not in ('e', 'i', 'pi', 'oo')
    ):  # x1
      self.at += 1
      name = f'{name}_{token.value}'
    elif self._take('_'):
      inside = self._group()
      name = f'{name}_{"".join(map(str, _flat(inside)))}'
    return ('s', name)

  def _function(self, name: str) -> tuple:
    power = base = None
    if name == 'sqrt' and self._take('['):
      base = self._sum()
      self._need(']')
    while self._peek('^', '_'):
      sign = self.tokens[self.at].value
      self.at += 1
      if sign == '_' and name not in ('log', 'lg'):
        raise Unreadable(f'{name} with an index')
      inside = self._group() if sign == '_' else self._raised()
      power, base = (inside, base) if sign == '^' else (power, inside)
    two = self.tokens[self.at : self.at + 2]
    plain = len(two) == 2 and is_op(two[1], '(') and not two[0].spaced
    if plain and name == 'log' and not base and two[0].value in ('2', '10'):
      base = ('n', Fraction(two[0].value), False)  # log2(3)
      self.at += 1
    arguments = self._arguments(name)
    if name == 'sqrt':
      half = ('/', ('n', Fraction(1), False), base or ('n', Fraction(2), False))
      tree = ('f', 'root', *arguments, half[2])
    elif name == 'cbrt':
      tree = ('f', 'root', *arguments, ('n', Fraction(3), False))
    elif base is not None or (len(arguments) == 2 and name == 'log'):
      tree = ('f', 'logb', base or arguments[1], arguments[0])
    elif power == ('neg', ('n', Fraction(1), False)) and name in _INVERSE:
      return ('f', _INVERSE[name], *arguments)
    else:
      tree = ('f', _NAMES.get(name, name), *arguments)
    return tree if power is None else ('^', tree, power)

  def _arguments(self, name: str) -> list[tuple]:
    if self._take('\\{'):
      out = [self._sum()]
      while self._take(','):
        out.append(self._sum())
      self._need('\\}')
      return out
    if self._peek('(') or (name == 'binom' and self._peek('{')):
      if name == 'binom' and self._take('{'):
        first = self._sum()
        self._need('}')
        return [first, self._group()]
      self.at += 1
      out = [self._sum()]
      while self._take(','):
        out.append(self._sum())
      self._need(')')
      return out
    if name in ('sqrt', 'cbrt') and not self._peek('{'):
      return [self._postfix(self._atom())]
    if name == 'sqrt':
      return [self._group()]
    if name == 'binom':
      return [self._group(), self._group()]
    if name in ('max', 'min', 'gcd', 'lcm', 'abs', 'floor', 'ceil'):
      raise Unreadable(f'{name} without brackets')
    # \sin 2x: the factors up to the next sign or function
    tree = self._signed()
    while (
      self.at < self.end
      and self._starts()
      and (self.tokens[self.at].kind != 'fn')
    ):
      tree = ('*', tree, self._power())
    return [tree]

  def _series(self, name: str) -> tuple:
    limits = {}
    for _ in range(2):
      sign = '_' if self._peek('_') else '^'
      self._need(sign)
      if sign == '^':
        limits['last'] = self._group()
        continue
      self._need('{')
      token = self.tokens[self.at]
      if token.kind != 'sym':
        raise Unreadable(f'the index of \\{name}')
      self.at += 1
      self._need('=')
      limits['index'], limits['first'] = token.value, self._sum()
      self._need('}')
    if limits.get('last') == ('s', 'oo'):
      raise Unreadable(f'an infinite \\{name} is not supported')
    if len(limits) != 3:
      raise Unreadable(f'the limits of \\{name}')
    return (name, limits['index'], limits['first'], limits['last'],
            self._product())  # fmt: skip

  def _matrix(self, kind: str) -> tuple:
    if kind not in ('pmatrix', 'bmatrix', 'matrix', 'array', 'vmatrix',
                    'smallmatrix', 'Bmatrix'):  # fmt: skip
      raise Unreadable(f'it holds {kind!r}')
    rows, row = [], []
    level = self.depths[self.at - 1] + 1
    start = self.at
    for i in range(self.at, self.end):
      token = self.tokens[i]
      last = is_op(token, 'end ' + kind) and self.depths[i] == level - 1
      if last or (self.depths[i] == level and is_op(token, '&', 'row')):
        if start < i:
          row.append(self._scalar(start, i))
        elif not (last and not row):
          raise Unreadable('an empty entry in a matrix')
        start = i + 1
        if (last or token.value == 'row') and row:
          rows.append(tuple(row))
          row = []
      if last:
        self.at = i + 1
        break
    if not rows or len({len(r) for r in rows}) > 1:
      raise Unreadable('the rows of a matrix differ in length')
    tree = ('matrix', *rows)
    return ('f', 'det', tree) if kind == 'vmatrix' else tree


def _flat(tree: tuple) -> list[str | int | Fraction]:
  """Returns the names and numbers in a tree."""
  out = []
  for x in tree[1:] if tree[0] in trees.SCALAR else tree:
    if isinstance(x, tuple):
      out += _flat(x)
    elif not isinstance(x, bool):
      out.append(x)
  return out
