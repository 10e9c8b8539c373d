"""Worked solutions as training rows."""

import pytest

from rlvr_jax import enums
from rlvr_jax.io import tokenizer
from rlvr_jax.rollouts import imitation
from rlvr_jax.tasks import Task

BYTES = tokenizer.byte_level()


def task(name, solution=None):
  data = {} if solution is None else {'solution': solution}
  return Task(name, f'{name}?', '7', 'math', data)


def test_targets_are_the_solutions_and_an_end_token():
  got = imitation.targets([task('a', 'so 7'), task('b', '7')], BYTES, 6)
  end = BYTES.end_ids[0]
  assert got.tokens[0].tolist() == [*b'so 7', end, 0]
  assert got.tokens[1].tolist() == [ord('7'), end, 0, 0, 0, 0]
  assert got.length.tolist() == [5, 2]
  assert set(got.stop) == {enums.Stop.END}


@pytest.mark.parametrize(
  ('bad', 'message'),
  [(task('b'), "'b' has no worked solution"), (task('b', '7' * 6), 'has 7 to')],
)
def test_a_task_without_a_usable_solution_is_named(bad, message):
  with pytest.raises(ValueError, match=message):
    imitation.targets([task('a', '7'), bad], BYTES, 6)
