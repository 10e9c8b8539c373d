"""Task, and what environments share: lazy splits, permutations, split sizes.

An environment maps 'train' and 'test' to sequences of tasks. A generated
sequence builds each task on access, so its length costs nothing.
"""

import hashlib
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rlvr_jax import registry


class Task(NamedTuple):
  """A question with a verifiable answer. Plain values, so it survives JSON."""

  id: str  # unique in its environment, such as 'train-17'
  question: str  # text of the user message
  answer: str  # gold answer
  verifier: str  # a name of `verifiers.dispatch`, or a dialogue's game
  # Extra inputs of the verifier; 'solution': a demonstration to imitate;
  # 'messages': a prompt of several messages, in place of the question.
  data: dict


Env = Mapping[str, Sequence[Task]]
MOST_TASKS = 10**9  # per split


class Lazy(Sequence[Task]):
  """`size` tasks, the i-th built by `make(i)` on access.

  `of` is the data that they are built from, if any: tasks of another
  environment, or rows of a file. Digests cover it.

  Raises:
    ValueError: size is negative, or no integer.
  """

  def __init__(
    self,
    size: int,
    make: Callable[[int], Task],
    of: Sequence | None = None,
  ):
    if not hasattr(size, '__index__') or size < 0:
      raise ValueError(
        f'Lazy(size={registry.show(size)}): a split has 0 tasks or more. Check '
        'the options that its size comes from by `check_int` or `split_sizes`.'
      )
    self._size = operator.index(size)
    self._make = make
    self.of = of

  def __len__(self) -> int:
    return self._size

  def __getitem__(self, index: int) -> Task:  # type: ignore[override]
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


def uniform(n: int, *key: object) -> int:
  """A pseudo-random integer in 0..n-1, a function of `key` only.

  The same on every platform and Python version: a 256-bit BLAKE2b digest
  modulo n, with bias below n / 2**256.
  """
  text = '/'.join(map(str, key)).encode()
  digest = hashlib.blake2b(text, digest_size=32).digest()
  return int.from_bytes(digest, 'big') % n


def permute(index: int, n: int, *key: object) -> int:
  """The image of `index` under a permutation of 0..n-1 given by `key`.

  A Feistel network on an a x b grid with a*b >= n (alternately
  left += f(right) mod a and right += f(left) mod b), repeated until the result
  is below n (cycle walking: Black and Rogaway, "Ciphers with Arbitrary Finite
  Domains", 2002). A bijection of the grid is thereby one of 0..n-1; since
  a*b - n < a, repetitions are rare. Time and memory do not depend on n.

  Raises:
    ValueError: index outside 0..n-1.
  """
  if not 0 <= index < n:
    raise ValueError(f'Index {index} must lie in 0..{n - 1}.')
  a = math.isqrt(n - 1) + 1
  b = -(-n // a)
  joined = '/'.join(map(str, key))
  while True:
    left, right = divmod(index, b)
    for r in range(8):
      if r % 2:
        right = (right + uniform(b, joined, r, left)) % b
      else:
        left = (left + uniform(a, joined, r, right)) % a
    index = left * b + right
    if index < n:
      return index


def split_sizes(
  space: int, train_size: int | None, test_size: int | None, *, what: str
) -> tuple[int, int]:
  """(train, test) sizes of the splits of a space of `space` distinct problems.

  A size of None means, for test, a fifth of the space, at most 256 tasks and
  what train_size leaves; for train, the rest, at most 10,000 tasks. `what`
  describes the space and how to enlarge it, for the error message.

  Raises:
    ValueError: a size outside 1..10**9, or more tasks than problems.
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
      'share none: use fewer tasks or enlarge the space.'
    )
  return train, test


def check_int(
  name: str, value: Any, *, low: int, high: int | None = None
) -> None:
  """Raises ValueError unless `value` is an int in low..high."""
  whole = isinstance(value, int) and not isinstance(value, bool)
  if not whole or value < low or (high is not None and value > high):
    limit = f'at least {low}' if high is None else f'in {low}..{high}'
    raise ValueError(
      f'{name}={registry.show(value)} must be an integer {limit}.'
    )
