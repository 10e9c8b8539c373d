"""Stated confidences: how they are read, and what they earn."""

import numpy as np
import pytest

from rlvr_jax import codes, registry
from rlvr_jax.envs.core import Task
from rlvr_jax.rewards import confidence, core, format

RIGHT, WRONG = codes.Verdict.CORRECT, codes.Verdict.WRONG
TASK = Task('t', 'q', '4', 'math', {})
SCORES = ('brier', 'spherical', 'log_score', 'absolute')


def tag(inside):
  return f'#### 4\n<confidence>{inside}</confidence>'


@pytest.mark.parametrize(
  ('inside', 'q'),
  [
    ('0.8', 0.8), ('.8', 0.8), ('0', 0.0), ('1', 1.0), ('1.', 1.0),
    ('1.0', 1.0), (' 0.25\n', 0.25), ('8e-1', 0.8), ('1E-3', 0.001),
    ('+0.5', 0.5), ('-0', 0.0), ('-0.0', 0.0), ('00.5', 0.5),
    ('0.' + '3' * 300, 1 / 3), ('1e-400', 0.0), ('0e999', 0.0),
    # No plain number in [0, 1]:
    ('nan', None), ('NaN', None), ('inf', None), ('-inf', None),
    ('infinity', None), ('1e400', None), ('80%', None), ('80', None),
    ('1.2', None), ('-0.1', None), ('1.0000001', None), ('0,8', None),
    ('0_1', None), ('1/2', None), ('', None), ('   ', None), ('.', None),
    ('-', None), ('e', None), ('e-1', None), ('0.5.', None), ('0.5 0.6', None),
    ('0x1', None), ('0b1', None), ('high', None), ('about 0.5', None),
    ('0.5!', None), ('0.5\x00', None), ('٠.٥', None), ('０.５', None),
    ('½', None), ('True', None), ('None', None), ('[0.5]', None),
    ('"0.5"', None), ('$0.5$', None), (r'\boxed{0.5}', None), ('0.5f', None),
    ('1' * 10_000, None), ('0.' + '0' * 10_000, None),
    ('<confidence>0.5', None), ('0.5</confidence>', None),
  ],
)  # fmt: skip
def test_what_stands_in_the_tag(inside, q):
  got = confidence.parse(tag(inside))
  assert got == (None if q is None else pytest.approx(q))
  assert got is None or str(got) != '-0.0'


@pytest.mark.parametrize(
  'text',
  [
    '',
    'confidence: 0.8',
    '0.8',
    '<confidence>0.8',
    '0.8</confidence>',
    '</confidence>0.8<confidence>',
    '<Confidence>0.8</Confidence>',
    '<confidence >0.8</confidence>',
    tag(0.8) + tag(0.8),
    tag(0.8) + '<confidence>',
    tag(0.8) + '</confidence>',
  ],
)
def test_a_tag_that_is_missing_open_or_repeated(text):
  assert confidence.parse(text) is None


def value(spec, q, c):
  text = tag(q) if q is not None else '#### 4'
  row = core.Transcript(text, 3, codes.Stop.END, RIGHT if c else WRONG)
  (graded,) = registry.get('reward', spec)([TASK], [row])
  assert np.isfinite(graded.value)
  assert not graded.refused
  return graded.value


@pytest.mark.parametrize(
  ('c', 'q', 'want'),
  [
    (1, 1, 1), (1, 0.8, 0.96), (1, 0.5, 0.75), (1, 0, 0),
    (0, 0, 0), (0, 0.5, -0.25), (0, 0.8, -0.64), (0, 1, -1),
  ],
)  # fmt: skip
def test_outcome_and_brier_are_rlcr(c, q, want):
  assert value('outcome', q, c) + value('brier', q, c) == pytest.approx(want)


def test_the_authors_code_is_a_choice_of_weights():
  funcs = ('confident', 'all_of(outcome, confident)', 'brier(malformed=0.0)')
  reward = core.combine(
    [registry.get('reward', f) for f in funcs], funcs, (1.0, 0.5, 0.5)
  )
  for c in (0, 1):
    for q in (0, 0.3, 1, None):
      text = '#### 4' if q is None else tag(q)
      row = core.Transcript(text, 3, codes.Stop.END, RIGHT if c else WRONG)
      f = float(q is not None)
      want = 0.5 * f + 0.5 * f * c + 0.5 * f * (1 - (c - (q or 0)) ** 2)
      assert reward([TASK], [row])[0].value == pytest.approx(want)


def test_scores_of_a_group_by_hand():
  # Card of RLCR: all wrong, q = .9 .5 .1 .5.
  r = np.array([value('brier', q, 0) for q in (0.9, 0.5, 0.1, 0.5)])
  np.testing.assert_allclose(r - r.mean(), [-0.48, 0.08, 0.32, 0.08])
  spherical = [
    0.0 - (p * -value('spherical', p, 1) + (1 - p) * -value('spherical', p, 0))
    for p in (0, 0.1, 0.25, 0.5, 0.75, 1)
  ]
  got = [p + s for p, s in zip((0, 0.1, 0.25, 0.5, 0.75, 1), spherical)]
  np.testing.assert_allclose(
    got, [0, 0.0055, 0.0406, 0.2071, 0.5406, 1], atol=5e-5
  )
  assert value('log_score(eps=0.01)', 0, 1) == pytest.approx(-4.60517)


GRID = np.round(np.arange(0.05, 1, 0.05), 2)


@pytest.mark.parametrize('name', SCORES)
def test_proper_scores_are_best_at_the_truth_and_absolute_is_not(name):
  for p in (0.1, 0.35, 0.6, 0.85):
    expected = [
      p * value(name, q, 1) + (1 - p) * value(name, q, 0) for q in GRID
    ]
    best = GRID[int(np.argmax(expected))]
    if name == 'absolute':
      assert best == (GRID[-1] if p > 0.5 else GRID[0])
    else:
      assert best == pytest.approx(p)


def test_the_weight_of_being_right_decides_about_wrong_answers_on_purpose():
  """V(p) = lambda p - E[S(p, c)] rises everywhere for lambda = 1 (Brier)."""

  def v(name, weight, p):
    return weight * p + p * value(name, p, 1) + (1 - p) * value(name, p, 0)

  rises = [v('brier', 1, p) for p in GRID]
  assert (np.diff(rises) > 0).all()
  np.testing.assert_allclose(rises, GRID**2)
  assert v('brier', 0.5, 0.25) == pytest.approx(-0.0625)
  assert v('log_score', 1, 0.3) < 0


@pytest.mark.parametrize(
  ('spec', 'worst'),
  [
    ('brier', -1), ('spherical', -1), ('absolute', -1),
    ('log_score(eps=0.01)', np.log(0.01)), ('brier(malformed=-2.0)', -2),
  ],
)  # fmt: skip
def test_without_a_confidence_the_worst_is_earned(spec, worst):
  for c in (0, 1):
    assert value(spec, None, c) == pytest.approx(worst)
  assert min(value(spec, q, c) for q in (0, 0.5, 1) for c in (0, 1)) >= worst


def test_bad_options_are_refused():
  for spec in ('log_score(eps=0.5)', "brier(malformed='low')"):
    with pytest.raises(ValueError, match=r'eps|malformed'):
      value(spec, 0.5, 1)


THINK, ANSWER = '<think>a</think>', '<answer>4</answer>'
WHY, SURE = '<analysis>b</analysis>', '<confidence>0.5</confidence>'


@pytest.mark.parametrize(
  ('pattern', 'text', 'follows'),
  [
    ('tabc', THINK + ANSWER + WHY + SURE, True),
    ('tabc', 'a</think>\n' + ANSWER + '\n' + WHY + '\n' + SURE + '\n', True),
    ('tabc', THINK + WHY + ANSWER + SURE, False),
    ('tabc', THINK + ANSWER + SURE, False),
    ('tabc', THINK + ANSWER + WHY + SURE + 'more', False),
    ('tabc', THINK + ANSWER + WHY + '<confidence>nan</confidence>', False),
    ('tac', THINK + ANSWER + SURE, True),
    ('tac', THINK + ANSWER + SURE + SURE, False),
    ('tac', ANSWER + SURE, False),
    ('tbac', THINK + WHY + ANSWER + SURE, True),
    ('tbac', THINK + ANSWER + WHY + SURE, False),
  ],
)
def test_patterns_of_rlcr(pattern, text, follows):
  assert format.follows(text, pattern) is follows
