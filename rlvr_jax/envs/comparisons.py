"""Tasks: which of two numbers is larger? Pairs whose true order is known."""

import itertools
import math

from rlvr_jax import registry
from rlvr_jax.tasks import Env, Lazy, Task, check_int, permute, split_sizes
from rlvr_jax.tasks import uniform as draw


@registry.register('env')
def comparisons(
  *,
  max_value: int = 99,
  terms: int = 1,
  train_size: int | None = None,
  test_size: int | None = None,
  label_noise: float | int = 0.0,
  seed: int = 0,
) -> Env:
  """Pairs of whole numbers in 0..max_value; the larger one is chosen.

  In the form of `pairs`: data['chosen'], data['rejected']. For
  method='preference', and for judges by `judgments(pairs=comparisons())`. No
  two tasks have the same two numbers.

  Args:
    max_value: the largest number, at least 2.
    terms: a number is written as a sum of so many, such as 14+23: they must be
      added before they can be compared. data['worth'] says what each response
      comes to, for `judgments(think=True)`.
    train_size, test_size: tasks of each split; None: see `tasks.split_sizes`.
    label_noise: share of the train pairs whose label is wrong, in [0, 1]; the
      test labels are right.
    seed: of the order of the pairs.

  Raises:
    ValueError: an option is out of range.
  """
  check_int('max_value', max_value, low=2, high=10**6)
  check_int('terms', terms, low=1, high=9)
  check_int('seed', seed, low=0)
  if not 0 <= label_noise <= 1:
    raise ValueError(f'label_noise={label_noise} must lie in [0, 1].')
  space = max_value * (max_value + 1) // 2
  train, test = split_sizes(
    space, train_size, test_size, what='pairs of numbers; raise max_value'
  )

  def task(split: str, start: int, i: int) -> Task:
    index = permute(start + i, space, 'comparisons', seed)
    larger, smaller = _pair(index)
    chosen = _written(larger, terms, (seed, index, 0))
    rejected = _written(smaller, terms, (seed, index, 1))
    worth = {chosen: str(larger), rejected: str(smaller)}
    noise = draw(2**32, 'comparisons', seed, 'noise', i) < label_noise * 2**32
    if split == 'train' and noise:
      chosen, rejected = rejected, chosen
    data = {'chosen': chosen, 'rejected': rejected, 'worth': worth}
    return Task(f'{split}-{i}', 'Larger?', chosen, 'pair', data)

  return {
    'train': Lazy(train, lambda i: task('train', test, i)),
    'test': Lazy(test, lambda i: task('test', 0, i)),
  }


def _written(value: int, terms: int, key: tuple[int, ...]) -> str:
  """`value` as a sum of `terms` numbers of at least 0."""
  cuts = [draw(value + 1, 'comparisons', *key, k) for k in range(terms - 1)]
  ends = [0, *sorted(cuts), value]
  return '+'.join(str(b - a) for a, b in itertools.pairwise(ends))


def _pair(index: int) -> tuple[int, int]:
  """The index-th (a, b) with a > b >= 0, by a and then by b."""
  a = (1 + math.isqrt(8 * index + 1)) // 2
  return a, index - a * (a - 1) // 2
