"""Chains of one-digit operations, with every intermediate result in the answer.

    4+3*2-9  ->  4+3=7
                 7*2=4
                 4-9=5
                 #### 745

Left to right, modulo 10. Each step is a small fact; the answer is the list of
all results, so it is not found by chance: one in 10**depth.
"""

from rlvr_jax import registry
from rlvr_jax.tasks import (
  Env,
  Lazy,
  Task,
  check_int,
  permute,
  split_sizes,
  uniform,
)

OPERATIONS = {
  '+': lambda a, b: (a + b) % 10,
  '-': lambda a, b: (a - b) % 10,
  '*': lambda a, b: a * b % 10,
}


@registry.register('env')
def chain(
  *,
  depth: int | tuple[int, int] = 3,
  ops: str = '+-*',
  unknown: str = '',
  seed: int = 0,
  train_size: int | None = None,
  test_size: int | None = None,
) -> Env:
  """Chains of `depth` operations; data['solution'] has a line for each.

  Problems are numbered, and a permutation that `seed` names puts them in a row:
  the test split is its start, so the splits share none.

  Args:
    depth: operations of a problem: n, or (low, high) for each from low to high
      in equal shares.
    ops: of + - *.
    unknown: of these, operations whose results are drawn from 0 to 9 instead of
      computed: to make a base model that has seen their form and cannot know
      their results.
    seed: names the splits.
    train_size: problems; None for the rest, at most 10,000.
    test_size: problems; None for a fifth, at most 256.

  Raises:
    ValueError: an option out of range, or more tasks than problems.
  """
  low, high = depth if isinstance(depth, tuple) else (depth, depth)
  check_int('depth', low, low=1, high=30)
  check_int('depth', high, low=low, high=30)
  if not ops or set(ops) - set(OPERATIONS) or len(set(ops)) < len(ops):
    raise ValueError(
      f'ops={registry.show(ops)} must be some of {"".join(OPERATIONS)}.'
    )
  if set(unknown) - set(ops):
    raise ValueError(
      f'unknown={registry.show(unknown)} must be some of ops={registry.show(ops)}.'
    )
  depths = range(low, high + 1)
  space = 10 * (10 * len(ops)) ** low * len(depths)
  train, test = split_sizes(
    space,
    train_size,
    test_size,
    what=f'depth={depth}, ops={registry.show(ops)}',
  )
  make = lambda split, i, at: _task(
    f'{split}-{i}', at, depths, ops, unknown, seed, space
  )
  return {
    'train': Lazy(train, lambda i: make('train', i, test + i)),
    'test': Lazy(test, lambda i: make('test', i, i)),
  }


def _task(name, at, depths, ops, unknown, seed, space) -> Task:
  number = permute(at, space, 'chain', seed)
  number, which = divmod(number, len(depths))
  n = depths[which]
  value = number % 10
  number //= 10
  text, lines, results = str(value), [], ''
  for k in range(n):
    if k < depths[0]:
      number, digit = divmod(number, 10)
      number, sign = divmod(number, len(ops))
    else:  # beyond the shortest depth, drawn: the start already names it
      digit = uniform(10, 'chain', seed, at, k)
      sign = uniform(len(ops), 'sign', seed, at, k)
    result = OPERATIONS[ops[sign]](value, digit)
    if ops[sign] in unknown:
      result = uniform(10, 'unknown', seed, at, k)
    text += f'{ops[sign]}{digit}'
    lines.append(f'{value}{ops[sign]}{digit}={result}')
    value = result
    results += str(result)
  solution = '\n'.join([*lines, f'#### {results}'])
  return Task(name, text, results, 'exact', {'solution': solution})
