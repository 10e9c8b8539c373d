"""Finding final answers, and reading plain numbers."""


import pytest

from rlvr_jax.rewards import extract

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
  assert extract.last_formula('it costs $5 or $6') is None
  assert extract.last_formula('$$ y $$') == 'y'
  assert extract.last_formula('\\(a\\) and \\[b\\]') == 'b'


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
    ('\\boxed{red}', 'red'),
    ('The answer is red blue.\nBye', 'red blue.'),
    ('a\nred blue\n\n', 'red blue'),
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


def test_a_text_without_a_readable_answer_has_no_span():
  for text in ('', 'words', '\\boxed{}', '12 \\boxed{18', '<answer> </answer>'):
    assert extract.answer_span(text, numeric=True) is None
  text = '\\boxed{' + '(' * 100_000 + '}'
  assert extract.answer_span(text, numeric=True) is None
