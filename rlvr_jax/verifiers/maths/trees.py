"""Questions about the trees of `reader`."""

SCALAR = frozenset(
  [
    'n',
    's',
    '+',
    'neg',
    '*',
    '/',
    '^',
    '!',
    'f',
    'pm',
    'deg',
    'pct',
    'sum',
    'prod',
  ]
)
CONSTANTS = frozenset({'pi', 'e', 'i', 'oo'})


def is_scalar(tree: tuple) -> bool:
  """Whether a tree is a term: a number, or a formula in symbols."""
  return tree[0] in SCALAR


def below(tree: tuple) -> list[tuple]:
  """The trees right below one."""
  if tree[0] == 'rel':
    return list(tree[2])
  if tree[0] == 'matrix':
    return [x for row in tree[1:] for x in row]
  return [x for x in tree[1:] if isinstance(x, tuple)]


def free(*trees: tuple) -> set[str]:
  """Symbols that are no constants, nor the index of a sum."""
  return set().union(*(symbols(t) for t in trees)) - CONSTANTS


def symbols(tree: tuple) -> set[str]:
  """Names of the symbols of a tree, constants too; not the index of a sum."""
  if tree[0] in ('sum', 'prod'):
    index, first, last, body = tree[1:]
    return symbols(first) | symbols(last) | (symbols(body) - {index})
  if tree[0] == 's':
    return {tree[1]}
  return set().union(*(symbols(x) for x in below(tree)))


def decimal(tree) -> bool:
  """Whether it has a number with a decimal point."""
  return (tree[0] == 'n' and tree[2]) or any(decimal(x) for x in below(tree))


def has(tree, kind) -> bool:
  return tree[0] == kind or any(has(x, kind) for x in below(tree))


def has_function(tree, *names: str) -> bool:
  return (tree[0] == 'f' and tree[1] in names) or any(
    has_function(x, *names) for x in below(tree)
  )


def digits_of(*trees: tuple) -> int:
  """Digits that the numbers in the trees have, together."""
  total = 0
  for tree in trees:
    if tree[0] == 'n':
      value = tree[1]
      bits = value.numerator.bit_length() + value.denominator.bit_length()
      total += int(bits * 0.30103) + 1
    else:
      total += digits_of(*below(tree))
  return total
