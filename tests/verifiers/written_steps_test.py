"""The first wrong step is named; what is no plain arithmetic is passed over."""

from fractions import Fraction

import pytest

from rlvr_jax.envs import chain
from rlvr_jax.verifiers import rules, written_steps

WRONG = [
  ('2 + 3 = 6', '2 + 3 = 6 is wrong: 2 + 3 is 5.'),
  ('so 2+3=5, 4+5=10 apples.', '4+5 = 10 is wrong: 4+5 is 9.'),
  ('1. 3 + 4 = 8', '3 + 4 = 8 is wrong: 3 + 4 is 7.'),
  ('2+3 = 4+1 = 6', '4+1 = 6 is wrong: 4+1 is 5.'),
  ('5 = 2 + 4', '5 = 2 + 4 is wrong.'),
  ('$5 + $3 = $9', '5 + 3 = 9 is wrong: 5 + 3 is 8.'),
  ('\\(2 \\times 3 = 7\\)', '2 * 3 = 7 is wrong: 2 * 3 is 6.'),
  ('6 ÷ 4 = 2', '6 / 4 = 2 is wrong: 6 / 4 is 1.5.'),
  ('**2 + 3 = 6**', '2 + 3 = 6 is wrong: 2 + 3 is 5.'),
  ('We have 1,000 + 2 = 1,003.', '1,000 + 2 = 1,003 is wrong: 1,000 + 2 is 1002.'),
  ('She earns 3 * 12.5 = 37.6 dollars', '3 * 12.5 = 37.6 is wrong: 3 * 12.5 is 37.5.'),
  ('10/3 = 3', '10/3 = 3 is wrong: 10/3 is about 3.3333.'),
  ('1 - 4/3 = 0', '1 - 4/3 = 0 is wrong: 1 - 4/3 is about -0.3333.'),
  ('<think>2+3=6</think> 5', '2+3 = 6 is wrong: 2+3 is 5.'),
  ('3 + 4 = 7 + 2 = 10', '7 + 2 = 10 is wrong: 7 + 2 is 9.'),
  ('So 15 / 4 = 5, remainder 3', '15 / 4 = 5 is wrong: 15 / 4 is 3.75.'),
  ('x = 2 + 3 = 6', '2 + 3 = 6 is wrong: 2 + 3 is 5.'),
  ('2+2=4\n2+2=5\n2+2=6', '2+2 = 5 is wrong: 2+2 is 4.'),
]  # fmt: skip
SILENT = [
  '',
  '2 + 3 = 5',
  'x - 2 = 3',  # the start of the expression is missing
  '5x - 2 = 3',
  'f(2) + 1 = 9',
  'twice 3 + 4 = 14',
  'half of 8 + 4 = 6',
  '- 3 × 4 + 2 = 14',  # an item of a list
  '20% of 50 = 11',
  '5 hours - 2 = 4',
  '2 + 3 = 5x',  # its end
  '2 + 3 = 5 * y',
  '2 + 3 = 1 million',
  '17 / 5 = 3 remainder 2',
  '17 / 5 = 3 R2',
  '7*2 = 4 (mod 10)',
  '7*2=4 mod 10',
  '2**3 = 9',
  '2^3 = 9',
  '2³ = 9',
  '4! + 1 = 2',
  '\\frac{1}{2} + 3 = 4',
  '√16 + 1 = 2',
  '12:30 = 750',
  'day 2 = 3',
  '7 = 8',
  '3 + 4 = 7 + 2 = 9',  # a running total
  '1 + 1 = 10 in binary',
  'In base 2, 1 + 1 = 10.',
  '15 / 4 = 3, remainder 3',
  'Rounded down, 15 / 4 = 3 boxes are full.',
  '10/3 = 3.33',  # rounded, and cut
  '2/3 = 0.66',
  '2/3 = 0.67',
  '3 * 3.33 = 10',
  '10/3 = 3.333...',
  '1/0 = 5',
  '2 1/2 + 1 = 4',
  'It is 2 + 3 =\n6',
  '=====',
  '1 + = 2',
  '٣+٤=8',
  '2 + 3 = 6\ud800',
]


@pytest.mark.parametrize(('text', 'said'), WRONG)
def test_the_first_false_equality_is_named(text, said):
  assert written_steps.wrong_equality(text) == f'In the steps, {said}'


@pytest.mark.parametrize('text', SILENT)
def test_no_step_is_called_wrong_without_reason(text):
  assert written_steps.wrong_equality(text) == ''


def test_a_secret_number_is_not_named():
  text, secret = '7 / 2 = 3', [Fraction(7, 2)]
  said = 'In the steps, 7 / 2 = 3 is wrong'
  assert written_steps.wrong_equality(text) == f'{said}: 7 / 2 is 3.5.'
  assert written_steps.wrong_equality(text, secret=secret) == f'{said}.'


def test_commas_of_other_countries_are_not_guessed():
  european = rules.Rules(thousands='european')
  for text in '1.000 + 1 = 2', '1,5 + 1 = 3':
    assert written_steps.wrong_equality(text, rules=european) == ''
  assert written_steps.wrong_equality('1 + 1 = 3', rules=european)


def test_hostile_texts_stay_small():
  for text in (
    '1+1=2\n' * 10**5 + '1+1=3',  # beyond what is read
    '1=1*' * 10**5,
    '(' * 10**6 + '=1',
    '9' * 10**6 + '+1=2',
    '=' * 10**6,
    '1,' * 10**6,
    '. ' * 10**6,
  ):
    assert written_steps.wrong_equality(text) == ''
  # 9 ** 60 is computed, as a number of 57 digits.
  said = written_steps.wrong_equality('*'.join(['9'] * 59) + ' = 1')
  assert said.endswith('is a number of 57 characters.')
  assert len(said) < 400


CHAIN = '4+3*2-9', '745'
STEPS = [
  ('4+3=7\n7*2=4\n4-9=5\n#### 745', ''),
  ('4+3=7\n7*2=5\n5-9=6\n#### 756', 'Step 2, 7*2=5, has a wrong result.'),
  ('4+3=8', 'Step 1, 4+3=8, has a wrong result.'),
  ('5+3=8', 'Step 1, 5+3=8, does not begin with the first digit, 4.'),
  ('4+3=7\n7*3=1', 'Step 2, 7*3=1, is not the operation *2 of the question.'),
  ('4+3=7\n5*2=0', 'Step 2, 5*2=0, does not begin with the result of step 1, 7.'),
  ('4+3=7\n7*2=4\n#### 74', 'Step 3 of 3 is missing.'),
  ('4+3=7\n7*2=4\n4-9=5\n5+1=6\n#### 1', 'There are 4 steps for 3 operations.'),
  ('4+3=7\n7*2=4\n4-9=5\n', 'The answer after #### is missing.'),
  ('', 'The answer after #### is missing.'),
  ('#### ', 'The answer after #### is missing.'),
  ('4+3=7\n7*2=4\n4-9=5\n#### 755', "Digit 2 of the answer, '5', is wrong."),
  ('#### 735', "Digit 2 of the answer, '3', is wrong."),
  ('#### 74', 'The answer has 2 digits for 3 operations.'),
  ('#### 7455', 'The answer has more than 3 digits.'),
  ('#### 7 4 5', 'The digits of the answer are not written together.'),
  ('#### ' + '7' * 10**6, "Digit 2 of the answer, '7', is wrong."),
]  # fmt: skip


@pytest.mark.parametrize(('text', 'said'), STEPS)
def test_the_first_wrong_step_of_a_chain(text, said):
  assert written_steps.wrong_step(*CHAIN, text) == said


@pytest.mark.parametrize(
  ('question', 'answer'),
  [
    ('What is 3+4?', '7'),
    ('4+3*2', '7'),
    ('4+3', '\\pi'),
    ('4', '4'),
    ('4/3', '1'),
    ('4+3' * 10**5, '7'),
    ('', ''),
  ],
)
def test_other_questions_are_no_chains(question, answer):
  assert written_steps.wrong_step(question, answer, '#### 1') is None


def test_each_error_in_a_chain_is_found_where_it_is():
  """One digit of a solution is changed: the step that holds it is named."""
  env = chain.chain(depth=(2, 4), unknown='*')
  for i in range(20):
    task = env['train'][i]
    solution = task.data['solution']
    lines = solution.split('\n')
    assert written_steps.wrong_step(task.question, task.answer, solution) == ''
    for k, line in enumerate(lines[:-1]):
      digit = str((int(line[-1]) + 1 + i % 9) % 10)
      wrong = [*lines[:k], line[:-1] + digit, *lines[k + 1 :]]
      assert (
        written_steps.wrong_step(task.question, task.answer, '\n'.join(wrong))
        == f'Step {k + 1}, {line[:-1]}{digit}, has a wrong result.'
      )
    for k in range(len(task.answer)):
      digit = str((int(task.answer[k]) + 1) % 10)
      wrong = task.answer[:k] + digit + task.answer[k + 1 :]
      assert (
        written_steps.wrong_step(task.question, task.answer, f'#### {wrong}')
        == f"Digit {k + 1} of the answer, '{digit}', is wrong."
      )
