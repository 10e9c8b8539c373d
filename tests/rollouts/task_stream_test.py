"""The stream is a function of seed and position."""

import json

import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.rollouts import task_stream
from rlvr_jax.rollouts.task_stream import Place
from rlvr_jax.tasks import Lazy, Task


def tasks(n):
  return Lazy(n, lambda i: Task(str(i), f'q{i}', 'a', 'math', {}))


def stream(n, seed=0, spec='uniform'):
  sampling = registry.get('task_sampling', spec)()
  return task_stream.TaskStream(tasks(n), seed, sampling)


def ids(n, seed, position, count):
  s, place = stream(n, seed), Place.of()._replace(position=position)
  return [int(t.id) for t in s.at(s.choose(place, 1, count))]


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
    ids(0, 0, 0, 1)
  with pytest.raises(ValueError, match='position=-1 must be'):
    ids(3, 0, -1, 1)
  with pytest.raises(ValueError, match='count=-1 must be'):
    ids(3, 0, 0, -1)


def test_a_uniform_stream_needs_its_position_alone():
  s, place = stream(7), Place.of()
  positions = s.choose(place, 1, 5)
  after = s.after(place, 1, positions, np.zeros((5, 2), int))
  assert after.to_json() == Place.of().to_json() | {'position': 5}
  assert s.metrics(place, 1) == {}
  assert s.choose(after, 2, 5).tolist() == list(range(5, 10))


@pytest.mark.parametrize('n', [1, 3, 40, 10**9])
def test_weighted_places_survive_json_bit_for_bit(n):
  """Saved and read after each step, a run takes the same tasks."""
  s = stream(n, 3, 'signal(power=3.0, decay=0.9)')
  rng = np.random.default_rng(0)
  whole, broken = Place.of(), Place.of()
  for step in range(1, 25):
    positions = s.choose(whole, step, 8)
    assert (s.choose(broken, step, 8) == positions).all()
    assert s.metrics(whole, step) == s.metrics(broken, step)
    verdict = rng.integers(0, 4, (8, 4))
    whole = s.after(whole, step, positions, verdict)
    broken = s.after(broken, step, positions, verdict)
    broken = Place.of(json.loads(json.dumps(broken.to_json())))
  assert whole.to_json() == broken.to_json()
  visited = s.metrics(whole, 25)['tasks/visited']
  assert visited == len(whole.seen) <= min(n, 192)


def test_the_number_of_tasks_that_are_effective():
  """Before any verdict all are alike; a floor of 1 keeps them so."""
  s = stream(50, 0, 'signal(floor=1.0)')
  place = Place.of()
  assert s.metrics(place, 1)['tasks/effective'] == pytest.approx(50)
  place = s.after(place, 1, s.choose(place, 1, 20), np.zeros((20, 2), int))
  assert s.metrics(place, 2)['tasks/effective'] == pytest.approx(50)
  one = stream(50, 0, 'signal(floor=0.0, power=100.0)')
  place = one.after(Place.of(), 1, np.array([0]), np.tile([0, 1], (1, 4)))
  place = one.after(place, 2, np.arange(1, 50), np.ones((49, 8), int))
  assert one.metrics(place, 3)['tasks/effective'] == pytest.approx(1, rel=1e-6)


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
