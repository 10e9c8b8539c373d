"""Lazy splits, permutations, split sizes."""

import itertools

import pytest

from rlvr_jax.tasks import Lazy, Task, permute, split_sizes, uniform


@pytest.mark.parametrize('n', [*range(1, 41), 97, 100, 101, 1000, 1024, 4099])
def test_permute_is_a_permutation(n):
  for key in 'a', 'b':
    assert sorted(permute(i, n, key) for i in range(n)) == list(range(n))


@pytest.mark.parametrize('n', [10**9, 2**64 + 13, 10**60 + 7])
def test_permute_of_large_spaces_is_injective(n):
  images = {permute(i, n, 'k') for i in range(500)}
  images |= {permute(n - 1 - i, n, 'k') for i in range(500)}
  assert len(images) == 1000
  assert all(0 <= x < n for x in images)
  # The image is spread out: each quarter of the space gets its share.
  quarters = [sum(x * 4 // n == q for x in images) for q in range(4)]
  assert min(quarters) > 180


def test_permute_is_fixed_across_platforms():
  assert [permute(i, 10, 'seed', 7) for i in range(10)] == GOLDEN_10
  assert permute(123, 10**12, 'seed', 7) == GOLDEN_BIG


GOLDEN_10 = [7, 9, 0, 1, 2, 8, 6, 4, 5, 3]
GOLDEN_BIG = 664192461780


def test_keys_give_nearly_uniform_permutations():
  # All 24 orders of four items occur, at about the same rate.
  counts = dict.fromkeys(itertools.permutations(range(4)), 0)
  for key in range(2400):
    counts[tuple(permute(i, 4, key) for i in range(4))] += 1
  assert 60 < min(counts.values()) <= max(counts.values()) < 140


def test_permute_refuses_an_index_outside():
  for bad in -1, 5:
    with pytest.raises(ValueError, match=r'must lie in 0\.\.4'):
      permute(bad, 5, 'k')


def test_uniform_covers_its_range_evenly():
  counts = [0] * 7
  for i in range(7000):
    counts[uniform(7, 'x', i)] += 1
  assert 880 < min(counts) <= max(counts) < 1120
  assert uniform(10**9, 'x', 1) == uniform(10**9, 'x', 1)


def test_lazy_builds_on_demand():
  built = []

  def make(i):
    built.append(i)
    return Task(f't-{i}', 'q', 'a', 'math', {})

  tasks = Lazy(10**12, make)
  assert len(tasks) == 10**12
  assert built == []
  assert tasks[10**11].id == 't-100000000000'
  assert built == [10**11]
  assert [t.id for t in Lazy(3, make)] == ['t-0', 't-1', 't-2']


def test_lazy_refuses_slices_and_negative_indices():
  tasks = Lazy(3, lambda i: i)
  with pytest.raises(TypeError, match='slice'):
    tasks[0:2]
  for bad in -1, 3:
    with pytest.raises(IndexError, match=r'not in 0\.\.2'):
      tasks[bad]


@pytest.mark.parametrize('size', [-1, 2.0, None, '3'])
def test_a_split_has_a_size(size):
  with pytest.raises(ValueError, match=r'0 tasks or more. Check .*split_sizes'):
    Lazy(size, lambda i: i)
  assert len(Lazy(0, lambda i: i)) == 0


def test_split_sizes():
  sizes = lambda *args: split_sizes(*args, what='w')
  assert sizes(200, None, None) == (160, 40)
  assert sizes(2, None, None) == (1, 1)
  assert sizes(10**9, None, None) == (10_000, 256)
  assert sizes(882, 800, None) == (800, 82)
  assert sizes(100, 90, 10) == (90, 10)
  with pytest.raises(ValueError, match=r'91 \+ test_size 10 = 101.*only 100'):
    sizes(100, 91, 10)
  with pytest.raises(ValueError, match='only 1 distinct'):
    sizes(1, None, None)
  with pytest.raises(ValueError, match='test_size=0 must be'):
    sizes(10, 2, 0)
  with pytest.raises(ValueError, match='train_size=True must be'):
    sizes(10, True, None)
