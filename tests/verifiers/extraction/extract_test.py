"""Which part of a text is found as its final answer."""

import pathlib
import runpy

import pytest

from rlvr_jax.verifiers import answer
from rlvr_jax.verifiers.extraction import extract, sentence, spans

NUMBER = sentence.Expected(numeric=True)

FINAL = [
  ('\\boxed{1} then \\boxed{2}', '2'),
  ('\\boxed{\\frac{1}{2}}', '\\frac{1}{2}'),
  ('\\boxed{\\{1, 2\\}}', '\\{1, 2\\}'),
  ('\\boxed {7} #### 3', '7'),
  ('\\boxed 7', '7'),
  ('\\fbox{7}', '7'),
  ('\\boxed{18} or \\boxed{19', '18'),  # the last one that closes
  ('12 \\boxed{18', None),  # cut off: no answer yet
  ('\\boxed{}', None),
  ('steps 1, 2\n#### 18\n', '18'),
  ('#### 18\nThat is 3 more.', '18'),
  ('#### Step 3\nso the sum is 18', '18'),
  ('<think>4</think><answer> 18 </answer>', '18'),
  ('<answer>so 5 + 13 = 18</answer>', '18'),
  ('The answer is 42.', '42'),
  ('**Answer:** 42', '42'),
  ('The final answer is: **42**. I took 3 steps.', '42'),
  ('The answer is 18 dollars for 7 days.', '18 dollars'),
  ('The answer is $18 for eggs and $20 for milk', '$18'),
  ('The answer is 10 - 4 = 6', '6'),
  ('The answer is clear. We get 18', '18'),
  ('first 18 then 19', '19'),
  ('10 - 7', None),  # part of a term
  ('10-7', None),
  ('it is -$5 in all', '-$5'),
  ('on the 3rd', None),
  ('x11 is 12', '12'),
  ('1,2,3', None),
  ('no digits', None),
  ('', None),
]


@pytest.mark.parametrize(('text', 'answer'), FINAL)
def test_final_answer(text, answer):
  assert extract.final(text, numeric=True) == answer


def test_a_symbolic_gold_prefers_the_last_formula_to_the_last_number():
  text = 'Hence $x^2 + 1$, in 3 steps.'
  assert extract.final(text, numeric=False) == 'x^2 + 1'
  assert extract.final(text, numeric=True) == '3'


@pytest.mark.parametrize(
  ('text', 'inner'),
  [
    ('it costs $5 or $6', []),
    ('$$ y $$', ['y']),
    ('\\(a\\) and \\[b\\]', ['a', 'b']),
  ],
)
def test_formulas_stand_between_dollars_or_brackets(text, inner):
  found = spans.formulas(text, (0, len(text)))
  assert [text[slice(*span)] for span in found] == inner


def test_the_answer_of_a_megabyte_is_found_at_its_end_or_in_its_box():
  noise = 'lorem ipsum { \\ $ ' * 60_000
  assert extract.final(noise + ' so 18', numeric=True) == '18'
  assert extract.final('\\boxed{18}' + noise, numeric=True) == '18'
  with pytest.raises(extract.TooLong):
    extract.final('\\boxed{' + '(' * 100_000 + '}', numeric=True)


@pytest.mark.parametrize(
  ('text', 'answer'),
  [
    ('thinking\n<answer>red blue</answer>', 'red blue'),
    ('<answer>\n_ Q\nQ _</answer>', '_ Q\nQ _'),
    ('<answer>"a b" *', '"a b" *'),
    ('<answer>[]</answer>', '[]'),
    ('<answer> </answer>', None),
    ('\\boxed{a} or <answer>b</answer>', 'b'),
    ('<answer>\\boxed{a}</answer>', 'a'),
    ('\\boxed{red}', 'red'),
    ('The answer is red blue.\nBye', 'red blue.'),
    ('a\nred blue\n\n', 'red blue'),
    ('<think>\\boxed{red}</think>\nblue', 'blue'),
    ('<think>\\boxed{red}</think>\n', None),
    ('<think>red', None),
    ('<answer>red</answer> No: \\boxed{blue}', 'blue'),
    (' \n', None),
    ('', None),
  ],
)
def test_stated_answer(text, answer):
  assert extract.stated(text) == answer


@pytest.mark.parametrize('numeric', [True, False])
def test_the_span_of_the_answer_holds_it(numeric):
  texts = [text for text, _ in FINAL]
  texts += ['Hence $x^2 + 1$, in 3 steps.', 'so \\[ y \\] and $$ 3 $$ ', 'a = ']
  texts += ['x' * 30_000 + text for text in texts]
  for text in texts:
    span = extract.answer_span(text, numeric=numeric)
    want = extract.final(text, numeric=numeric)
    assert (text[slice(*span)] if span else None) == want


def test_the_span_is_where_the_answer_was_said_and_not_an_equal_text():
  for text, start in [
    ('18 + 0 = \\boxed{ 18 }, or 18.', 17),
    ('18 <answer>so 9 + 9 = 18</answer> 18', 22),
    ('18\n#### 18\n18', 8),
    ('18; the answer is 18. 18 steps', 18),
    ('18, no: 18', 8),
  ]:
    assert extract.answer_span(text, numeric=True) == (start, start + 2)


def find(text, expected=NUMBER, **kw):
  found = extract.find(text, expected, extract.Rules(**kw))
  return found and found.text


def test_conventions_can_be_chosen():
  thought = '<think>Perhaps \\boxed{7}, but'
  assert find(thought) is None
  assert find(thought, unfinished_thought='read') == '7'
  cut = lambda rules: extract.find('so 7', NUMBER, rules, cut=True)
  assert cut(extract.Rules()) is None
  assert cut(extract.Rules(truncated='read')).text == '7'
  two = '\\boxed{3} or \\boxed{5}'
  assert find(two) == '5'
  assert find(two, boxes='agree') is None
  assert find('\\boxed{5}, again \\boxed{5}', boxes='agree') == '5'
  for text in ('#### 3 or 5', 'The answer is 3 or 5.', '\\boxed{3 or 5}'):
    assert find(text) is None
    assert find(text, hedges='first') == '3'
  assert find('so 7') == '7'
  assert find('so 7', require_mark=True) is None
  assert find('The answer is 7', require_mark=True) == '7'


def test_rules_are_those_of_the_config():
  root = pathlib.Path(__file__).parents[3]
  common = runpy.run_path(str(root / 'configs' / 'common.py'))
  assert extract.rules_of(common['base']().verifier) == extract.RULES
  given = extract.RULES._asdict() | {'boxes': 'agree', 'approximate': 0.0}
  assert extract.rules_of(given)._asdict() == given


def test_an_answer_is_marked_or_found_by_its_place():
  for text, marked in [
    ('\\boxed{7}', True),
    ('<answer>7</answer>', True),
    ('#### 7', True),
    ('so #### 7', True),
    ('The answer is 7.', True),
    ('Final Answer\n\n7', True),
    ('7 is the answer', True),
    ('so $7$', False),
    ('so 7', False),
  ]:
    assert extract.find(text, NUMBER).marked == marked, text
    ended = text + '\n' * marked
    assert (extract.find(ended, NUMBER, cut=True) is not None) == marked
  assert answer.unmarked(['7'] * 2, ['so 7', '#### 7']) == [True, False]
  assert answer.unmarked(['7'], ['so 7'], truncated=[True]) == [False]


def test_numeric_golds_are_judged_by_what_reaches_furthest():
  for text, want in [
    ('$\\frac{1+\\sqrt{5}}{2}$', '\\frac{1+\\sqrt{5}}{2}'),
    ('we get $2\\sqrt{3}$', '2\\sqrt{3}'),
    ('$x + 1$ is 7', '7'),
    ('18 is the value of $x$', '18'),
    ('area = \\pi r^2', None),
    ('84 / 7 = ? I will try 7*12', None),
    ('the ratio is 1:2', None),
    ('it costs $5 or so; $18 in all', '$18'),
  ]:
    assert find(text) == want, text


def test_several_boxes_are_one_list_for_a_gold_that_is_a_list():
  several = sentence.Expected(several=True)
  for text, want in [
    ('\\boxed{1} and \\boxed{2}', '1, 2'),
    ('$x=\\boxed{1}$, $y=\\boxed{2}$', '1, 2'),
    ('\\boxed{9}. Wait: \\boxed{1} or \\boxed{2}', '1, 2'),
    ('\\boxed{1, 2}. So \\boxed{1, 2}', '1, 2'),
    ('The answer is $x=1$ or $x=2$.', 'x=1, x=2'),
  ]:
    assert find(text, several) == want
    assert extract.find(text, several).marked
  for gold, list_ in [
    ('1,2', True),
    ('\\{1,2\\}', True),
    ('\\left\\{1,2\\right\\}', True),
    ('x=1 \\text{ or } x=2', True),
    ('\\pm 3', True),
    ('(1,2)', False),
    ('[1,2)', False),
    ('10{,}000x', False),
    ('\\sqrt{2}', False),
  ]:
    got = sentence.expected_form(gold, numeric=False, words=None)
    assert got.several == list_, gold


def test_a_very_long_line_is_read_in_linear_time():
  """Marks, signs and emphasis by the thousand; quadratic time takes hours."""
  for part in (
    '*',
    '$',
    'answer is ',
    '\\boxed{1}',
    '<think>',
    '1 or ',
    '####',
  ):
    text = part * (1_000_000 // len(part))
    for expected in (
      NUMBER,
      sentence.Expected(choice=True),
      sentence.Expected(),
    ):
      found = extract.find(text + ' so 18', expected)
      assert found is None or len(found.text) < 5_000


def test_a_text_without_a_readable_answer_has_no_span():
  for text in ('', 'words', '\\boxed{}', '12 \\boxed{18', '<answer> </answer>'):
    assert extract.answer_span(text, numeric=True) is None
  text = '\\boxed{' + '(' * 100_000 + '}'
  assert extract.answer_span(text, numeric=True) is None
