"""Tasks: chains of one-digit operations that need every intermediate result.

    4+3*2-9  ->  4+3=7
                 7*2=4
                 4-9=5
                 #### 745

Evaluated left to right, modulo 10. Each step is one memorisable fact. The
answer lists all results, so a guess is right with probability 10**-depth.
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
  pattern: str = '',
  unknown: str = '',
  seed: int = 0,
  train_size: int | None = None,
  test_size: int | None = None,
) -> Env:
  """Chains of `depth` operations; data['solution'] has one line for each.

  The problems are enumerated and permuted by `seed`; the test split is the
  start of the permutation and the train split follows it, so the splits are
  disjoint.

  Args:
    depth: operations per problem: n, or (low, high) for every depth from low
      to high in equal shares.
    ops: operators to sample from, out of + - *.
    pattern: the operators of every problem, one after the other, such as '++-'
      with depth=3, in place of sampled ones: so that all problems have the
      same number of hard steps. '': sampled from `ops`.
    unknown: the operators among `ops` whose results are sampled from 0..9
      instead of computed. A base model trained on them knows their form but
      cannot know their results.
    seed: of the permutation, and of what is sampled.
    train_size: tasks; None for the remaining problems, at most 10,000.
    test_size: tasks; None for a fifth of the problems, at most 256.

  Raises:
    ValueError: an option is out of range, or the sizes exceed the number of
      problems.
  """
  low, high = depth if isinstance(depth, tuple) else (depth, depth)
  check_int('depth', low, low=1, high=30)
  check_int('depth', high, low=low, high=30)
  if not ops or set(ops) - set(OPERATIONS) or len(set(ops)) < len(ops):
    raise ValueError(
      f'ops={registry.show(ops)} must name at least one of '
      f'{"".join(OPERATIONS)}, each at most once.'
    )
  if pattern and (
    len(pattern) != low or low != high or set(pattern) - set(ops)
  ):
    raise ValueError(
      f'pattern={registry.show(pattern)} must have one operator of '
      f'ops={registry.show(ops)} for each of the depth={registry.show(depth)} '
      'operations.'
    )
  if set(unknown) - set(ops):
    raise ValueError(
      f'unknown={registry.show(unknown)} must be a subset of '
      f'ops={registry.show(ops)}.'
    )
  depths = range(low, high + 1)
  space = 10 * (10 * (1 if pattern else len(ops))) ** low * len(depths)
  train, test = split_sizes(
    space,
    train_size,
    test_size,
    what=f'depth={depth}, ops={registry.show(ops)}',
  )
  make = lambda split, i, position: _task(
    f'{split}-{i}', position, depths, ops, pattern, unknown, seed, space
  )
  return {
    'train': Lazy(train, lambda i: make('train', i, test + i)),
    'test': Lazy(test, lambda i: make('test', i, i)),
  }


def _task(
  task_id: str,
  position: int,
  depths: range,
  ops: str,
  pattern: str,
  unknown: str,
  seed: int,
  space: int,
) -> Task:
  """Builds the problem at one position of the permuted problems."""
  number = permute(position, space, 'chain', seed)
  number, depth_index = divmod(number, len(depths))
  depth = depths[depth_index]
  value = number % 10
  number //= 10
  text, lines, results = str(value), [], ''
  for k in range(depth):
    if pattern:
      number, digit = divmod(number, 10)
      sign = ops.index(pattern[k])
    elif k < depths[0]:
      number, digit = divmod(number, 10)
      number, sign = divmod(number, len(ops))
    else:  # the operations up to depths[0] already make the problem unique
      digit = uniform(10, 'chain', seed, position, k)
      sign = uniform(len(ops), 'sign', seed, position, k)
    result = OPERATIONS[ops[sign]](value, digit)
    if ops[sign] in unknown:
      result = uniform(10, 'unknown', seed, position, k)
    text += f'{ops[sign]}{digit}'
    lines.append(f'{value}{ops[sign]}{digit}={result}')
    value = result
    results += str(result)
  solution = '\n'.join([*lines, f'#### {results}'])
  return Task(task_id, text, results, 'exact', {'solution': solution})
