"""The stream is a function of seed and position."""

import pytest

from rlvr_jax.rollouts import task_stream
from rlvr_jax.tasks import Lazy, Task


def tasks(n):
  return Lazy(n, lambda i: Task(str(i), f'q{i}', 'a', 'math', {}))


def ids(n, seed, position, count):
  sampled = task_stream.tasks_at(
    tasks(n), seed=seed, position=position, count=count
  )
  return [int(t.id) for t in sampled]


@pytest.mark.parametrize('n', [1, 2, 3, 7, 12, 101, 128])
def test_an_epoch_has_every_task_once(n):
  for epoch in range(4):
    assert sorted(ids(n, 0, epoch * n, n)) == list(range(n))


def test_epochs_and_seeds_differ():
  n = 50
  orders = [tuple(ids(n, s, e * n, n)) for s in range(3) for e in range(3)]
  assert len(set(orders)) == 9


def test_pieces_join_to_the_stream():
  whole = ids(13, 5, 0, 60)
  pieces, position = [], 0
  for count in 1, 7, 0, 13, 20, 19:
    pieces += ids(13, 5, position, count)
    position += count
  assert pieces == whole
  # Across the end of an epoch, and at a far position.
  assert ids(13, 5, 10, 6) == whole[10:16]
  far = 13 * 10**15
  assert sorted(ids(13, 5, far, 13)) == list(range(13))


def test_a_billion_tasks_cost_nothing():
  n = 10**9
  ends = ids(n, 0, 0, 1000) + ids(n, 0, n - 1000, 1000)
  assert len(set(ends)) == 2000
  assert all(0 <= i < n for i in ends)
  assert ids(n, 0, n, 5) != ends[:5]


def test_the_stream_is_fixed():
  assert ids(10, 0, 0, 10) == GOLDEN


GOLDEN = [5, 4, 1, 6, 8, 2, 3, 0, 7, 9]


def test_bad_positions_are_refused():
  with pytest.raises(ValueError, match='split is empty'):
    task_stream.tasks_at([], seed=0, position=0, count=1)
  with pytest.raises(ValueError, match='position=-1 must be'):
    ids(3, 0, -1, 1)
  with pytest.raises(ValueError, match='count=-1 must be'):
    ids(3, 0, 0, -1)


def test_long_and_empty_prompts_are_refused():
  encode = lambda task: [0] * (3 if task.id != '2' else 9)
  four = list(tasks(4))
  task_stream.check_prompts(four, encode, 9)
  with pytest.raises(
    ValueError, match=r"1 of 4 .*max_prompt_length=8 .*'2' has 9.*=9"
  ):
    task_stream.check_prompts(four, encode, 8)
  with pytest.raises(ValueError, match="'0' has no tokens"):
    task_stream.check_prompts(four, lambda task: [], 2)
  with pytest.raises(ValueError, match='max_prompt_length=0 must be'):
    task_stream.check_prompts(four, encode, 0)
