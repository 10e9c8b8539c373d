"""Tasks: Countdown, reach a target with given numbers, each used once."""

import functools
import math

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

_ATTEMPTS = 32


@registry.register('env')
def countdown(
  *,
  numbers: int = 4,
  max_number: int = 99,
  max_target: int = 100,
  seed: int = 0,
  train_size: int | None = None,
  test_size: int | None = None,
) -> Env:
  """Reach a target from `numbers` numbers in 1..max_number with + - * /.

  Every task can be solved with each number used once and all intermediate
  results positive integers: the target is the value of a random expression,
  stored in `data['solution']`. The multisets of numbers are enumerated and
  permuted by `seed`, and each task has its own, test split first; so no two
  tasks share numbers and target, within or across splits.

  Args:
    numbers: numbers per task, 2..8.
    max_number: largest number.
    max_target: largest target, at least max_number: subtraction always reaches
      some target up to max_number, but not always a smaller one.
    seed: of the permutation and of the expressions.
    train_size: tasks; None for the remaining multisets, at most 10,000.
    test_size: tasks; None for a fifth of the multisets, at most 256.

  Raises:
    ValueError: an option is out of range, or the sizes exceed the number of
      multisets.
  """
  check_int('numbers', numbers, low=2, high=8)
  check_int('max_number', max_number, low=2, high=10**6)
  check_int('max_target', max_target, low=max_number)
  space = math.comb(max_number + numbers - 1, numbers)
  train, test = split_sizes(
    space,
    train_size,
    test_size,
    what=f'multisets for numbers={numbers}, max_number={max_number}: '
    'raise either',
  )
  make = functools.partial(
    _task,
    space=space,
    numbers=numbers,
    max_number=max_number,
    max_target=max_target,
    seed=seed,
  )
  return {
    'train': Lazy(train, functools.partial(make, split='train', offset=test)),
    'test': Lazy(test, functools.partial(make, split='test', offset=0)),
  }


def _task(
  index: int,
  *,
  split: str,
  offset: int,
  space: int,
  numbers: int,
  max_number: int,
  max_target: int,
  seed: int,
) -> Task:
  rank = permute(offset + index, space, 'countdown', seed)
  ordered = _multiset(rank, numbers, max_number)
  shuffled = [
    ordered[permute(i, numbers, 'order', seed, rank)] for i in range(numbers)
  ]
  target, solution = _solvable(shuffled, max_target, seed, rank)
  listed = ', '.join(map(str, shuffled[:-1])) + f' and {shuffled[-1]}'
  return Task(
    id=f'{split}-{index}',
    question=(
      f'Use the numbers {listed}, each exactly once, with +, -, *, / and '
      f'parentheses to write an expression that equals {target}.'
    ),
    answer=solution,
    verifier='countdown',
    data={'numbers': shuffled, 'target': target, 'solution': solution},
  )


def _multiset(rank: int, size: int, high: int) -> list[int]:
  """Returns the rank-th multiset of `size` numbers in 1..high, sorted.

  Adding 0, 1, 2, ... to the sorted numbers maps multisets one-to-one to sets
  of `size` out of high + size - 1, which the combinatorial number system
  ranks.
  """
  out = []
  top = high + size - 1
  for k in range(size, 0, -1):
    low = 0
    while low < top - 1:  # the largest c < top with comb(c, k) <= rank
      middle = (low + top) // 2
      if math.comb(middle, k) <= rank:
        low = middle
      else:
        top = middle
    rank -= math.comb(low, k)
    out.append(low - (k - 1) + 1)
    top = low
  return out[::-1]


def _solvable(
  numbers: list[int], max_target: int, *key: int
) -> tuple[int, str]:
  """Returns a target in 1..max_target and an expression that reaches it.

  The target is none of the numbers unless all attempts fail.
  """
  for attempt in range(_ATTEMPTS):
    value, text = _combine(numbers, *key, attempt)
    if value <= max_target and value not in numbers:
      return value, text
  # Replace the two largest by their difference, or by 1 if they are equal:
  # never above the largest number, so the result is always in range.
  items = [(x, str(x)) for x in numbers]
  while len(items) > 1:
    items.sort()
    (b, right), (a, left) = items[-2:]
    new = (
      (a - b, f'({left} - {right})') if a > b else (1, f'({left} / {right})')
    )
    items[-2:] = [new]
  return items[0][0], _bare(items[0][1])


def _combine(numbers: list[int], *key: int) -> tuple[int, str]:
  """Combines random pairs until one positive integer is left."""
  items = [(x, str(x)) for x in numbers]
  step = 0
  while len(items) > 1:
    i = uniform(len(items), *key, step, 'first')
    x = items.pop(i)
    j = uniform(len(items), *key, step, 'second')
    y = items.pop(j)
    (a, left), (b, right) = max(x, y), min(x, y)
    results = [(a + b, '+'), (a * b, '*')]
    if a > b:
      results.append((a - b, '-'))
    if a % b == 0:
      results.append((a // b, '/'))
    value, op = results[uniform(len(results), *key, step, 'op')]
    items.append((value, f'({left} {op} {right})'))
    step += 1
  return items[0][0], _bare(items[0][1])


def _bare(text: str) -> str:
  """Drops the outermost parentheses."""
  return text[1:-1]
