"""Length penalties."""

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base


def values(spec, *lengths):
  rows = [
    base.Transcript('', n, enums.Stop.END, enums.Verdict.CORRECT)
    for n in lengths
  ]
  results = registry.get('reward', spec)([None] * len(rows), rows)
  return [r.value for r in results]


def test_overlong_at_the_settings_of_dapo():
  lengths = (0, 16_383, 16_384, 18_432, 20_480, 20_481, 10**9)
  want = [0, 0, 0, -0.5, -1, -1, -1]
  assert values('overlong(20480, 4096)', *lengths) == want
  scaled = values('overlong(20480, buffer=4096, factor=3)', *lengths)
  assert scaled == [3 * x for x in want]


def test_overlong_never_rises_with_length():
  got = values('overlong(10, 10)', *range(13))
  assert got == pytest.approx([-min(n / 10, 1) for n in range(13)])


def test_length_penalty_is_linear():
  got = values('length_penalty(0.25)', 0, 1, 8)
  assert got == [0, -0.25, -2]
  assert str(got[0]) == '0.0'


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('overlong(10, 0)', r'buffer=0 must be in 1\.\.max_length=10'),
    ('overlong(10, 11)', 'buffer=11 must be in'),
    ('overlong(10.5, 2)', 'max_length=10.5 must be a whole number'),
    ('overlong(10, 2, -1)', 'factor=-1.0 must be at least 0'),
    ('overlong(10, 2, 1e999)', 'factor=inf'),
    ('length_penalty(-0.1)', 'per_token=-0.1 must be at least 0'),
    ('length_penalty(x)', "per_token='x'"),
  ],
)
def test_options_out_of_range_are_refused(spec, message):
  with pytest.raises(ValueError, match=message):
    values(spec)
