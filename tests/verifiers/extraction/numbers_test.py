"""Plain numbers are read exactly."""

from fractions import Fraction

import pytest

from rlvr_jax.verifiers.extraction import numbers

NUMBERS = [
  ('18', 18),
  ('-18', -18),
  ('−18', -18),  # U+2212
  ('+7', 7),
  ('7.', 7),
  ('.5', Fraction(1, 2)),
  ('1,000', 1000),
  ('1{,}000', 1000),
  ('1,234,567.50', Fraction(2469135, 2)),
  ('$18.00', 18),
  ('\\$18', 18),
  ('-$5', -5),
  ('€3', 3),
  ('3/4', Fraction(3, 4)),
  ('-3/4', Fraction(-3, 4)),
  ('\\frac{3}{4}', Fraction(3, 4)),
  ('-\\dfrac{3}{4}', Fraction(-3, 4)),
  ('\\frac{-3}{4}', Fraction(-3, 4)),
  ('\\frac12', Fraction(1, 2)),
  ('2\\frac{1}{2}', Fraction(5, 2)),
  ('2 1/2', Fraction(5, 2)),
  ('-2 1/2', Fraction(-5, 2)),
  ('1e3', 1000),
  ('1.5E-2', Fraction(3, 200)),
  ('2\\times 10^{3}', 2000),
  ('2 \\cdot 10^3', 2000),
  ('x = 3', 3),
  ('18 dollars per day', 18),
  ('5 \\text{ cm}^2', 5),
  ('5 \\text{ men}', 5),
  ('\\textbf{5}', 5),
  ('3 million', 3_000_000),
  ('3\\text{ million}', 3_000_000),
  ('90^\\circ', 90),
  ('3rd', 3),
  ('**18**', 18),
  ('\\(18\\)', 18),
]
NOT_NUMBERS = [
  '',
  'five',
  '5x',
  '5xy',
  '2 ab',
  '5\\pi',
  '5 pi',
  '1,2',
  '1,23',
  '(1,2)',
  '2/0',
  '\\frac{1}{0}',
  '5 and 3',
  '5 or 3',
  '1 + 1',
  '2^3',
  '\\sqrt{2}',
  'nan',
  'inf',
  '1.2.3',
  '--1',
]


@pytest.mark.parametrize(('text', 'value'), NUMBERS)
def test_plain_numbers_are_read_exactly(text, value):
  assert numbers.read(text) == (value, False)


@pytest.mark.parametrize('text', NOT_NUMBERS)
def test_other_texts_are_no_plain_numbers(text):
  assert numbers.read(text) is None


@pytest.mark.parametrize(
  'text',
  ['9' * 5000, '1e401', '1e-999999999', '1e' + '9' * 399, '0.' + '1' * 500],
)
def test_a_number_is_never_written_out_beyond_its_limits(text):
  with pytest.raises(numbers.TooLong):
    numbers.read(text)


def test_percent_is_read_both_ways_and_equality_is_exact():
  read = numbers.read
  assert read('10%') == (10, True)
  assert read('10 percent') == read('10\\%') == read('10 per cent')
  assert numbers.equal(read('10%'), read('0.1'))
  assert numbers.equal(read('10'), read('10%'))
  assert numbers.equal(read('10%'), read('10.0\\%'))
  assert not numbers.equal(read('10%'), read('0.1%'))
  assert not numbers.equal(read('1/3'), read('0.3333333333'))
