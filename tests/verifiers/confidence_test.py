"""Which stated confidences are read, and which are format failures."""

import math

import pytest

from rlvr_jax.verifiers import confidence

READ = [
  ('0.8', 0.8),
  ('.8', 0.8),
  ('1', 1.0),
  ('1.', 1.0),
  ('0', 0.0),
  ('0.', 0.0),
  ('1.0', 1.0),
  ('00.50', 0.5),
  ('01', 1.0),
  ('+0.5', 0.5),
  ('8e-1', 0.8),
  ('8E-1', 0.8),
  ('1e-3', 0.001),
  ('10e-1', 1.0),
  ('1e0', 1.0),
  ('0e999', 0.0),
  ('1e-999', 0.0),
  ('-0', 0.0),
  ('-0.0', 0.0),
  (' 0.8 ', 0.8),
  ('\n\t0.8\r\n', 0.8),
  ('0.' + '3' * 300, 1 / 3),
]
NOT_READ = [
  '',
  ' ',
  'nan',
  'NaN',
  '-nan',
  'inf',
  '-inf',
  'Infinity',
  '1e999',
  '80%',
  '80',
  '85.0',
  '1.2',
  '1.0000001',
  '-0.1',
  '-1e-9',
  '--0.5',
  '+-0.5',
  '0,8',
  '0.8.1',
  '.',
  '+',
  'e-1',
  '1e',
  '1e-',
  '0.8 0.9',
  '0.8 or so',
  'about 0.8',
  'high',
  '4/5',
  '0x1',
  '0b1',
  '0_8',
  '0.8_0',
  '1_0e-1',
  '٠.٨',  # Arabic-Indic digits, which float() reads
  '０.８',  # full width
  '½',
  '0.8\x00',
  '0.\n8',
  '0. 8',
  '"0.8"',
  '(0.8)',
  '$0.8$',
  'True',
  'None',
  '0.8j',
  '<b>0.8</b>',
  '0.' + '3' * 10_000,
  '1' * 10_000,
  ' ' * 10_000 + '0.8',
  '__import__("os")',
]


@pytest.mark.parametrize(('inside', 'value'), READ)
def test_plain_numbers_are_read(inside, value):
  got = confidence.parse(f'so <confidence>{inside}</confidence> it is')
  assert got == pytest.approx(value, abs=0, rel=1e-12)
  assert math.copysign(1, got) == 1


@pytest.mark.parametrize('inside', NOT_READ)
def test_anything_else_is_a_format_failure(inside):
  assert confidence.parse(f'<confidence>{inside}</confidence>') is None


@pytest.mark.parametrize(
  'text',
  [
    '',
    '0.8',
    '<confidence>0.8',
    '0.8</confidence>',
    '</confidence>0.8<confidence>',
    '<confidence>0.8<confidence>',
    '<Confidence>0.8</Confidence>',
    '< confidence>0.8</confidence>',
    '<confidence>0.8</ confidence>',
    '<confidence>0.8</confidence><confidence>0.8</confidence>',
    '<confidence><confidence>0.8</confidence></confidence>',
    '<confidence>0.8</confidence></confidence>',
    '<confidence>0.8</confidence><confidence>',
    '<confidence>' * 100_000,
    '\\boxed{0.8}',
    '<answer>0.8</answer>',
  ],
)
def test_exactly_one_closed_tag_is_required(text):
  assert confidence.parse(text) is None


def test_a_text_of_any_size_is_read():
  # A backtracking search would not terminate in reasonable time.
  for text in (
    '<confidence>' + '9' * 1_000_000 + '</confidence>',
    '<confidence>0.8</confidence>' + '0' * 1_000_000,
    '<confidence></confidence>' * 100_000,
    '0.' * 1_000_000,
  ):
    confidence.parse(text)


@pytest.mark.parametrize(
  ('text', 'count'),
  [
    ('', 0),
    ('5-7=8', 0),
    ('Wait, hmm. Perhaps 8? Maybe 9: actually, it seems 8.', 6),
    ('Alternatively it might be 9, but that is not likely. Check!', 4),
    ('wait wait WAIT', 3),
    # As the paper's code counts, inside of longer words too.
    ('unlikely: checking, hmmm, awaited', 4),
    ('Hm, may be it was in deed so', 0),
  ],
)
def test_words_of_uncertainty(text, count):
  assert confidence.uncertainty_words(text) == count
