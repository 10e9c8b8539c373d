"""Verdicts on countdown expressions."""

from fractions import Fraction

import pytest

from rlvr_jax import enums
from rlvr_jax.verifiers import countdown_expression

C, W, N, U = enums.Verdict
CASES = [
  ('<answer>3*4+2</answer>', C),
  ('<think><answer>3*4+2</answer></think> I do not know.', N),
  ('<think>So \\boxed{3*4+2}</think><answer>3*4</answer>', W),
  ('<think>Is it 3*4?</think>3*4+2', C),
  ('<think>3*4+2 = 14', N),  # the thought never ends
  ('The form is <answer></answer>.\n\\boxed{3*4+2}', C),
  ('<answer> (3 * 4) + 2 = 14 </answer>', C),
  ('<answer>3*4+2 = 15</answer>', W),
  ('<answer>3*4 = 12 + 2 = 14</answer>', W),
  ('<answer>1+1</answer> or <answer>2+3*4</answer>', C),  # the last
  ('\\boxed{3 \\times 4 + 2}', C),
  ('\\boxed{3 \\cdot 4 - (-2)}', C),
  ('<answer>\\boxed{2+4\\cdot3}</answer>', C),
  ('First 3+4 = 7.\nSo 3*4+2 = 14.', C),
  ('3 × 4 + 2', C),
  ('- 3 × 4 + 2 = 14', C),  # a bullet
  ('**3*4+2** = 14\nDone.', C),
  ('1. We use (3 * 4) + 2 = 14', C),
  ('$3*4+2$ reaches the target 14', C),
  ('<answer>3*4+2+0</answer>', W),
  ('<answer>3*4</answer>', W),
  ('<answer>14</answer>', W),
  ('<answer>3*4+2*1</answer>', W),
  ('<answer>7*2</answer>', W),
  ('<answer>34-2</answer>', W),
  ('<answer>3*4+2)</answer>', W),
  ('<answer>((3*4)+2</answer>', W),
  ('<answer>3*4+</answer>', W),
  ('<answer>3**4+2</answer>', W),
  ('<answer>3^4+2</answer>', W),
  ('<answer>3.0*4+2</answer>', W),
  ('<answer>3 4 2</answer>', W),
  ('<answer>2/(3-3)*4</answer>', W),
  ('<answer>__import__("os")</answer>', W),
  ('<answer>no way</answer>', W),
  ('<answer></answer>', N),
  ('', N),
  ('I cannot.', N),
  ('the target is 14', N),
  ('<answer>' + '(' * 200 + '14' + ')' * 200 + '</answer>', U),
  ('<answer>' + '-' * 200 + '14</answer>', U),
  ('<answer>' + '1+' * 600 + '1</answer>', U),
  ('<answer>' + '(' * 1_000_000, U),
  ('(' * 1_000_000, N),
  ('9' * 1_000_000, N),
  ('<answer>' + '9' * 900 + '</answer>', W),
  ('<answer>\0\ud800</answer>', W),
]


@pytest.mark.parametrize(('text', 'verdict'), CASES)
def test_known_answers(text, verdict):
  assert countdown_expression.verify([3, 4, 2], 14, text) == verdict


def test_a_leftover_number_is_for_the_rule_to_judge():
  text = '<answer>3*4+2</answer>'
  numbers = [2, 3, 4, 9]
  assert countdown_expression.verify(numbers, 14, text) == W
  assert countdown_expression.verify(numbers, 14, text, use='at_most_once') == C
  assert countdown_expression.verify([3], 6, '3+3', use='at_most_once') == W
  assert countdown_expression.verify([3, 3], 6, '3+3') == C
  with pytest.raises(ValueError, match='exactly_once, at_most_once'):
    countdown_expression.verify([3], 3, '3', use='once')


@pytest.mark.parametrize(
  ('text', 'value'),
  [
    ('2+3*4', 14),
    ('8-3-2', 3),
    ('8/4/2', 1),
    ('1/3+1/6', Fraction(1, 2)),
    ('-(2-5)*-1', -3),
    ('\\frac{6}{4}+[1]', Fraction(5, 2)),
    ('8/(3-8/3)', 24),
  ],
)
def test_arithmetic_is_exact_and_binds_from_the_left(text, value):
  assert countdown_expression.evaluate(text)[0] == value
