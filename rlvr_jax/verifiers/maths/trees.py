"""Which symbols, functions and numbers does a tree of `reader` contain?"""

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
  """Whether a tree is a scalar term: a number or a symbolic formula."""
  return tree[0] in SCALAR


def below(tree: tuple) -> list[tuple]:
  """Returns the direct children of a tree."""
  if tree[0] == 'rel':
    return list(tree[2])
  if tree[0] == 'matrix':
    return [x for row in tree[1:] for x in row]
  return [x for x in tree[1:] if isinstance(x, tuple)]


def free(*trees: tuple) -> set[str]:
  """Returns the symbols of trees, without constants and indices of sums."""
  return set().union(*(symbols(t) for t in trees)) - CONSTANTS


def symbols(tree: tuple) -> set[str]:
  """Returns the symbols of a tree, constants included, indices of sums not."""
  if tree[0] in ('sum', 'prod'):
    index, first, last, body = tree[1:]
    return symbols(first) | symbols(last) | (symbols(body) - {index})
  if tree[0] == 's':
    return {tree[1]}
  return set().union(*(symbols(x) for x in below(tree)))


def decimal(tree: tuple) -> bool:
  """Whether a tree contains a number with a decimal point."""
  return (tree[0] == 'n' and tree[2]) or any(decimal(x) for x in below(tree))


def has(tree: tuple, kind: str) -> bool:
  """Whether a tree contains a node of this kind."""
  return tree[0] == kind or any(has(x, kind) for x in below(tree))


def has_function(tree: tuple, *names: str) -> bool:
  """Whether a tree contains one of these functions."""
  return (tree[0] == 'f' and tree[1] in names) or any(
    has_function(x, *names) for x in below(tree)
  )


def digits_of(*trees: tuple) -> int:
  """Returns the total number of digits of the numbers in trees."""
  total = 0
  for tree in trees:
    if tree[0] == 'n':
      value = tree[1]
      bits = value.numerator.bit_length() + value.denominator.bit_length()
      total += int(bits * 0.30103) + 1
    else:
      total += digits_of(*below(tree))
  return total
