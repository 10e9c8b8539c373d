"""Splitting worked solutions into steps."""

import pytest

from rlvr_jax.envs import split_solution


def texts(solution, by):
  return [(s.title, s.text) for s in split_solution.split(solution, by)]


def test_lines_of_gsm8k_without_calculator_annotations():
  text = 'She sold 48/2 = <<48/2=24>>24 clips.\n\nIn all 48+24 = <<48+24=72>>72.\n#### 72'
  assert texts(text, 'line') == [
    ('', 'She sold 48/2 = 24 clips.'),
    ('', 'In all 48+24 = 72.'),
    ('', '#### 72'),
  ]


def test_sentences():
  got = texts('It is 3.5 m. So 7 m! Right?\nYes.', 'sentence')
  assert [t for _, t in got] == ['It is 3.5 m.', 'So 7 m!', 'Right?', 'Yes.']


def test_numbered_steps_with_titles():
  text = (
    'Here:\n1. Find the sum: 3+4=7\n2) **Halve it**\nwe take 7/2\nwhich is 3.5\n'
    'Step 3: it is 3.5'
  )
  assert texts(text, 'numbered') == [
    ('Find the sum', '3+4=7'),
    ('Halve it', 'we take 7/2\nwhich is 3.5'),
    ('', 'it is 3.5'),
  ]


def test_a_decimal_inside_a_line_starts_no_step():
  assert texts('1. we pay 2.50 and 3.10\n2. 5.60', 'numbered') == [
    ('', 'we pay 2.50 and 3.10'),
    ('', '5.60'),
  ]


@pytest.mark.parametrize(
  ('solution', 'expected'),
  [
    (
      '1. Title\n3.5 apples cost 7\nso 2\n2. Two\ntext',
      [('Title', '3.5 apples cost 7\nso 2'), ('Two', 'text')],
    ),
    (
      '1. We get 2:1 ratio\n2. At 12:30 he left',
      [('', 'We get 2:1 ratio'), ('', 'At 12:30 he left')],
    ),
    ('**Step 1:** Find x.\n**Step 2:** y', [('', 'Find x.'), ('', 'y')]),
    ('### 1. First\nab\n### 2. Second\nc', [('First', 'ab'), ('Second', 'c')]),
    ('1. **Title:** text here\nmore', [('Title', 'text here\nmore')]),
    ('1. Title:\nmore', [('Title', 'more')]),
  ],
)
def test_numbers_that_are_not_steps_and_heading_marks(solution, expected):
  assert texts(solution, 'numbered') == expected


@pytest.mark.parametrize('by', ['line', 'sentence', 'numbered'])
def test_an_empty_solution_has_no_steps(by):
  assert texts(' \n\n', by) == []


def test_an_unknown_split_is_refused():
  with pytest.raises(ValueError, match='line, sentence, numbered'):
    split_solution.split('a', 'paragraph')
