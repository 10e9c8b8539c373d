"""What a task is, and what the environments share.

An environment maps 'train' and 'test' to sequences of tasks. A sequence
that is made by a program builds a task when it is asked for one, so its
length costs nothing.
"""

import hashlib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rlvr_jax import registry


class Task(NamedTuple):
  """One question with a checkable answer. Plain values: it survives json."""

  id: str  # unique in its environment, such as 'train-17'
  question: str  # what the user message says
  answer: str  # gold answer
  verifier: str  # 'math', 'countdown' or 'reasoning_gym'
  # What the verifier needs beyond the answer; 'solution', a text to imitate.
  data: dict


Env = Mapping[str, Sequence[Task]]
MOST_TASKS = 10**9  # of a split


class Lazy(Sequence):
  """`size` tasks, the i-th of them built by `make(i)` when asked for.

  `of` is what they are built from, where that is not the program alone: tasks
  of another environment, or rows of a file.
  """

  def __init__(
    self,
    size: int,
    make: Callable[[int], Task],
    of: Sequence | None = None,
  ):
    self._size = size
    self._make = make
    self.of = of

  def __len__(self):
    return self._size

  def __getitem__(self, index):
    if isinstance(index, slice):
      raise TypeError(
        f'Tasks are built one by one, so a slice ({index}) is refused: '
        'write [tasks[i] for i in range(a, b)].'
      )
    i = operator.index(index)
    if not 0 <= i < self._size:
      raise IndexError(
        f'Task {i} is not in 0..{self._size - 1}; '
        'negative indices are not supported.'
      )
    return self._make(i)


def uniform(n: int, *key) -> int:
  """An integer in 0..n-1 that is a function of `key` alone.

  Equal on every platform and Python version: a BLAKE2b digest of 256 bits
  modulo n, whose bias is below n / 2**256.
  """
  text = '/'.join(map(str, key)).encode()
  digest = hashlib.blake2b(text, digest_size=32).digest()
  return int.from_bytes(digest, 'big') % n


def permute(index: int, n: int, *key) -> int:
  """Where the permutation of 0..n-1 that `key` names sends `index`.

  A Feistel network on an a x b grid with a*b >= n (alternately
  left += f(right) mod a and right += f(left) mod b), walked on until it
  lands below n (Black and Rogaway, "Ciphers with Arbitrary Finite Domains",
  2002). A bijection of the grid, so one of 0..n-1 too; since a*b - n < a,
  it rarely walks. Takes constant time and memory whatever n is.

  Raises:
    ValueError: index outside 0..n-1.
  """
  if not 0 <= index < n:
    raise ValueError(f'Index {index} must lie in 0..{n - 1}.')
  a = math.isqrt(n - 1) + 1
  b = -(-n // a)
  key = '/'.join(map(str, key))
  while True:
    left, right = divmod(index, b)
    for r in range(8):
      if r % 2:
        right = (right + uniform(b, key, r, left)) % b
      else:
        left = (left + uniform(a, key, r, right)) % a
    index = left * b + right
    if index < n:
      return index


def split_sizes(
  space: int, train_size: int | None, test_size: int | None, *, what: str
) -> tuple[int, int]:
  """Sizes of both splits in a space of so many distinct problems.

  None asks for a fifth of the space up to 256 tasks (test; less where
  train_size leaves less), and for the rest of it up to 10,000 tasks (train). `what` names the space and how to widen
  it.

  Raises:
    ValueError: a size outside 1..10**9, or more tasks than there are problems.
  """
  for name, size in ('train_size', train_size), ('test_size', test_size):
    if size is not None:
      check_int(name, size, low=1, high=MOST_TASKS)
  test, train = test_size, train_size
  if test is None:
    test = max(1, min(256, space // 5, space - (train or 0)))
  if train is None:
    train = max(1, min(10_000, space - test))
  if train + test > space:
    raise ValueError(
      f'train_size {train} + test_size {test} = {train + test} tasks, but '
      f'there are only {space} distinct problems ({what}). The splits '
      'share none: ask for fewer tasks or widen the space.'
    )
  return train, test


def check_int(name: str, value, *, low: int, high: int | None = None) -> None:
  """Raises ValueError unless `value` is an int in low..high."""
  whole = isinstance(value, int) and not isinstance(value, bool)
  if not whole or value < low or (high is not None and value > high):
    limit = f'at least {low}' if high is None else f'in {low}..{high}'
    raise ValueError(
      f'{name}={registry.show(value)} must be an integer {limit}.'
    )
