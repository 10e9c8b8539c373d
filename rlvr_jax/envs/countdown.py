"""Countdown: reach a target with given numbers, each used once."""

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
  """Make a target from `numbers` numbers in 1..max_number with + - * /.

  Every task is solvable with all its numbers, each once, over positive whole
  intermediate results: the target is the value of an expression drawn at
  random, kept in `data['solution']`. Each task has its own multiset of
  numbers, taken from a permutation of all of them that `seed` names, test
  split first; so no two tasks share numbers and target, in a split or across.

  Args:
    numbers: how many numbers a task gives, 2..8.
    max_number: largest number.
    max_target: largest target, at least max_number: the differences of any
      numbers reach some target up to max_number, not always a smaller one.
    seed: names the permutation and the expressions.
    train_size: tasks; None for the rest of the space, at most 10,000.
    test_size: tasks; None for a fifth of the space, at most 256.

  Raises:
    ValueError: a bad value, or fewer multisets than tasks.
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
    'train': Lazy(train, functools.partial(make, split='train', at=test)),
    'test': Lazy(test, functools.partial(make, split='test', at=0)),
  }


def _task(index, *, split, at, space, numbers, max_number, max_target, seed):
  rank = permute(at + index, space, 'countdown', seed)
  drawn = _multiset(rank, numbers, max_number)
  order = [permute(i, numbers, 'order', seed, rank) for i in range(numbers)]
  drawn = [drawn[i] for i in order]
  target, solution = _solvable(drawn, max_target, seed, rank)
  listed = ', '.join(map(str, drawn[:-1])) + f' and {drawn[-1]}'
  return Task(
    id=f'{split}-{index}',
    question=(
      f'Use the numbers {listed}, each exactly once, with +, -, *, / and '
      f'parentheses to write an expression that equals {target}.'
    ),
    answer=solution,
    verifier='countdown',
    data={'numbers': drawn, 'target': target, 'solution': solution},
  )


def _multiset(rank: int, size: int, high: int) -> list[int]:
  """The rank-th multiset of `size` numbers in 1..high.

  Multisets match sets of `size` out of high + size - 1 (add 0, 1, 2, ... to
  the sorted numbers); sets are ranked by the combinatorial number system.
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


def _solvable(drawn: list[int], max_target: int, *key) -> tuple[int, str]:
  """A target in 1..max_target, none of the numbers, and its expression."""
  for attempt in range(_ATTEMPTS):
    value, text = _combine(drawn, *key, attempt)
    if value <= max_target and value not in drawn:
      return value, text
  # The two largest give their difference, or 1 if equal: never above the
  # largest number, so it always ends inside the range.
  items = [(x, str(x)) for x in drawn]
  while len(items) > 1:
    items.sort()
    (b, right), (a, left) = items[-2:]
    new = (
      (a - b, f'({left} - {right})') if a > b else (1, f'({left} / {right})')
    )
    items[-2:] = [new]
  return items[0][0], _bare(items[0][1])


def _combine(drawn: list[int], *key) -> tuple[int, str]:
  """Joins random pairs until one positive whole value is left."""
  items = [(x, str(x)) for x in drawn]
  step = 0
  while len(items) > 1:
    i = uniform(len(items), *key, step, 'first')
    x = items.pop(i)
    j = uniform(len(items), *key, step, 'second')
    y = items.pop(j)
    (a, left), (b, right) = max(x, y), min(x, y)
    made = [(a + b, '+'), (a * b, '*')]
    if a > b:
      made.append((a - b, '-'))
    if a % b == 0:
      made.append((a // b, '/'))
    value, op = made[uniform(len(made), *key, step, 'op')]
    items.append((value, f'({left} {op} {right})'))
    step += 1
  return items[0][0], _bare(items[0][1])


def _bare(text: str) -> str:
  """Without the outermost parentheses."""
  return text[1:-1]
