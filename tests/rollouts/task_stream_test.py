"""The stream is a function of seed and position."""

import pytest

from rlvr_jax.rollouts import task_stream
from rlvr_jax.tasks import Lazy, Task


def tasks(n):
  return Lazy(n, lambda i: Task(str(i), f'q{i}', 'a', 'math', {}))


def ids(n, seed, position, count):
  drawn = task_stream.tasks_at(
    tasks(n), seed=seed, position=position, count=count
  )
  return [int(t.id) for t in drawn]


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
  # Across an epoch's end, and far away.
  assert ids(13, 5, 10, 6) == whole[10:16]
  far = 13 * 10**15
  assert sorted(ids(13, 5, far, 13)) == list(range(13))


def test_a_billion_tasks_cost_nothing():
  n = 10**9
  some = ids(n, 0, 0, 1000) + ids(n, 0, n - 1000, 1000)
  assert len(set(some)) == 2000
  assert all(0 <= i < n for i in some)
  assert ids(n, 0, n, 5) != some[:5]


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


def test_shards_join_to_the_whole():
  items = list(range(12))
  for count in 1, 2, 3, 4, 6, 12:
    parts = [task_stream.shard(items, i, count) for i in range(count)]
    assert [x for part in parts for x in part] == items
    assert {len(p) for p in parts} == {12 // count}
  with pytest.raises(
    ValueError, match=r'12 items .* 5 processes: take 10 or 15'
  ):
    task_stream.shard(items, 0, 5)
  with pytest.raises(ValueError, match='index=3 must be'):
    task_stream.shard(items, 3, 3)


def test_long_prompts_are_refused_or_dropped():
  encode = lambda task: [0] * (3 if task.id != '2' else 9)
  some = list(tasks(4))
  assert task_stream.check_prompts(some, encode, 9) is some
  with pytest.raises(
    ValueError, match=r"1 of 4 .*max_prompt_length=8 .*'2' has 9.*=9"
  ):
    task_stream.check_prompts(some, encode, 8)
  kept = task_stream.check_prompts(some, encode, 8, on_long='drop')
  assert [t.id for t in kept] == ['0', '1', '3']
  with pytest.raises(ValueError, match='dropping would leave no task'):
    task_stream.check_prompts(some, encode, 2, on_long='drop')
  with pytest.raises(ValueError, match="on_long='cut' must be 'error' or"):
    task_stream.check_prompts(some, encode, 2, on_long='cut')
  with pytest.raises(ValueError, match="'0' has no tokens"):
    task_stream.check_prompts(some, lambda task: [], 2)
  with pytest.raises(ValueError, match='max_prompt_length=0 must be'):
    task_stream.check_prompts(some, encode, 0)
