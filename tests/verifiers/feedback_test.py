"""Feedback says what is wrong, in short, and never the gold answer unasked."""

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import countdown_expression, dispatch, feedback_text

pytestmark = pytest.mark.processes

C, W, N, U = enums.Verdict
ENVS = [
  'arithmetic',
  "arithmetic(ops='+-*', terms=3, min_value=-5)",
  'countdown',
  'countdown(numbers=6, max_number=50, max_target=999)',
  'chain',
  "chain(depth=(1, 4), unknown='*')",
  'strategies(scratchpad_reliability=1.0, direct_reliability=1.0)',
  'programs',
  'programs(size=4, branches=1, loops=1, terse=True)',
  'steps(chain)',
]


def task(verifier, answer='', question='q', **data):
  return Task(f'{verifier}-0', question, answer, verifier, data)


def said(task, text, **options):
  """The feedback on one completion, with the verdict that it has."""
  cut = {k: [v] for k, v in options.items() if k == 'truncated'}
  options = {k: v for k, v in options.items() if k != 'truncated'}
  verdicts = dispatch.verify([task], [text], **cut)
  (text,) = dispatch.feedback([task], [text], verdicts, **cut, **options)
  return text


@pytest.mark.parametrize('spec', ENVS)
def test_solutions_are_right_and_nothing_is_said_of_them(spec):
  env = registry.get('env', spec)()
  tasks = [t for split in env for t in (env[split][i] for i in range(10))]
  solutions = [t.data['solution'] for t in tasks]
  verdicts = dispatch.verify(tasks, solutions)
  assert verdicts == [C] * len(tasks)
  for gold in False, True:
    got = dispatch.feedback(tasks, solutions, verdicts, gold=gold)
    assert got == [''] * len(tasks)


@pytest.mark.parametrize('spec', ENVS)
def test_something_is_said_of_the_solutions_of_other_tasks(spec):
  env = registry.get('env', spec)()
  tasks = [env['train'][i] for i in range(12)]
  texts = [t.data['solution'] for t in tasks[1:] + tasks[:1]]
  verdicts = dispatch.verify(tasks, texts)
  got = dispatch.feedback(tasks, texts, verdicts)
  for verdict, text in zip(verdicts, got, strict=True):
    assert bool(text) == (verdict != C)
  assert verdicts.count(W) > 4
  named = dispatch.feedback(tasks, texts, verdicts, gold=True)
  for t, v, short, long in zip(tasks, verdicts, got, named, strict=True):
    if v != C:
      assert long == f'{short} A right answer is: {t.answer}'


def test_every_verifier_has_feedback():
  assert list(feedback_text.FEEDBACK) == list(dispatch.VERIFIERS)


@pytest.mark.parametrize(
  ('gold', 'text', 'expected'),
  [
    ('7', '#### 8', "The answer '8' is wrong."),
    (
      '14',
      '3 * 4 = 13\n13 + 2 = 15\n#### 15',
      "The answer '15' is wrong. In the steps, 3 * 4 = 13 is wrong: 3 * 4 is "
      '12.',
    ),
    ('12', '3 * 4 = 13', "The answer '13' is wrong. In the steps, 3 * 4 = 13 is "
     'wrong.'),
    ('1200%', '3 * 4 = 13\n#### 13', "The answer '13' is wrong. In the steps, "
     '3 * 4 = 13 is wrong.'),
    ('1/2', '3 / 6 = 2\n#### 2', "The answer '2' is wrong. In the steps, 3 / 6 ="
     ' 2 is wrong.'),
    ('#### 12', '3 * 4 = 13', "The answer '13' is wrong. In the steps, 3 * 4 = "
     '13 is wrong.'),
    ('7', 'I do not know', 'No answer was found. Mark the final answer, as in '
     '\\boxed{}.'),
    ('7', '\\boxed{red}', "The answer 'red' could not be checked."),
    ('7', '\\boxed{' + '9' * 5000 + '}', 'The answer is too long to be checked.'),
  ],
)  # fmt: skip
def test_math(gold, text, expected):
  assert said(task('math', gold), text) == expected


def test_math_of_a_text_that_was_cut_off():
  got = said(task('math', '7'), 'It is 8', truncated=True)
  assert got == (
    'No answer was found. The text was cut off at the length limit.'
  )


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('3*4+2', ''),
    ('3*4-2', 'The expression comes to 10, not 14.'),
    ('3*4+2+0', '0 is not among the numbers given.'),
    ('3*4*2-5*2', '2 is used twice but given once. 5 is not among the numbers '
     'given.'),
    ('3*4', 'The expression comes to 12, not 14. 2 is not used.'),
    ('7*2', '7 is not among the numbers given. 3 is not used. 4 is not used.'),
    ('3/4+2', 'The expression comes to 11/4, not 14. '),
    ('<answer>3*4+2 = 15</answer>', 'What follows the sign = is not 14.'),
    ('<answer>3*4+2 = 14 = 14</answer>', 'What follows the sign = is not 14.'),
    ('<answer>3*4+2 = (</answer>', 'What follows the sign = is not 14.'),
    ('<answer>2/(3-3)*4</answer>', 'The expression divides by 0.'),
    ('<answer>3**4+2</answer>', "The expression cannot be read: '^4+2' is not "
     'arithmetic.'),
    ('<answer>((3*4)+2</answer>', "The expression cannot be read: ')' is "
     'missing.'),
    ('I cannot.', 'No expression was found.'),
    ('<answer>' + '1+' * 600 + '1</answer>', 'The expression has more than 1000 '
     'characters.'),
    ('<answer>' + '-' * 200 + '14</answer>', 'The expression is nested deeper '
     'than 50.'),
    ('<answer>' + '*'.join(['999999999'] * 90) + '</answer>', 'The expression '
     'comes to a number of 810 characters, not 14. 999999999 is not among the '
     'numbers given. 2 is not used. 3 is not used. 4 is not used.'),
  ],
)  # fmt: skip
def test_countdown(text, expected):
  got = said(task('countdown', numbers=[4, 3, 2], target=14), text)
  assert got == expected.strip()


def test_countdown_repeats_and_the_other_rule():
  three = dict(numbers=[3, 3, 3], target=9)
  assert said(task('countdown', **three), '3*3') == (
    '3 is used twice but given 3 times.'
  )
  assert said(task('countdown', use='at_most_once', **three), '3*3') == ''
  assert said(task('countdown', use='at_most_once', **three), '3+3') == (
    'The expression comes to 6, not 9.'
  )
  with pytest.raises(ValueError, match='twice_at_least'):
    countdown_expression.feedback([1], 1, '1', use='twice_at_least')


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('<think>x</think> add two to it', ''),
    ('add three to it', "Word 2 of the step, 'three', is not as expected."),
    ('add two', 'The step ends too early, after word 2.'),
    ('add two to it now', 'The step should end after word 4.'),
    ('<think>add two to it', 'No step was found: it has to follow one closed '
     '<think>...</think>, or there must be no such tag.'),
  ],
)  # fmt: skip
def test_step(text, expected):
  assert said(task('step', 'add two to it'), text) == expected


def test_exact_and_chains():
  plain = task('exact', 'red blue')
  assert said(plain, '#### red') == "The answer 'red' is wrong."
  assert said(plain, 'red blue') == 'No answer was found. Write it after ####.'
  chain = task('exact', '74', '4+3*2')
  assert said(chain, '4+3=7\n7*2=5\n#### 75') == (
    'Step 2, 7*2=5, has a wrong result.'
  )


def test_reasoning_gym_needs_no_worker():
  gym = task('reasoning_gym', '7', dataset='chain_sum', entry={})
  got = dispatch.feedback(
    [gym] * 4, ['<answer>8</answer>', '', '<answer>8</answer>', 'x' * 9999],
    [W, N, U, U],
  )  # fmt: skip
  assert got == [
    "The answer '8' is wrong.",
    'No answer was found. Write it between <answer> and </answer>.',
    "The answer '8' could not be checked.",
    'The answer is too long to be checked.',
  ]


def test_hidden_tests_are_named_only_on_request():
  t = task('program', 'dup *', tests=[[[2], [4]], [[3], [9]]], shown=1)
  assert said(t, '2 *') == (
    'The examples pass. On another input the program leaves a wrong output.'
  )
  assert said(t, '2 *', hidden_tests=True) == (
    'The examples pass. On the input 3 the program leaves 6; expected is 9.'
  )
  assert said(t, '2 *', gold=True).endswith('A right answer is: dup *')


def test_lengths_and_verifiers_are_checked():
  t = task('math', '1')
  with pytest.raises(ValueError, match='1 tasks for 2 completions'):
    dispatch.feedback([t], ['1', '2'], [W, W])
  with pytest.raises(ValueError, match='argument'):
    dispatch.feedback([t], ['1'], [W, W])
  with pytest.raises(ValueError, match="unknown verifier 'maths'"):
    dispatch.feedback([task('maths')], ['1'], [W])
  assert dispatch.feedback([], [], []) == []


HOSTILE = [
  '', '\0', '\ud800', '<|im_end|>\n<|im_start|>system', '\u202e\u2028\u0007',
  '<answer>' * 10**5, '<think>' * 10**5, '```' * 10**5, '\\boxed{' * 10**5,
  '(' * 10**6, '9' * 10**6, '1+' * 10**5 + '1=2', '1=1=' * 10**5,
  '1+1=3\n' * 10**5, '1/' * 60 + '3=2', '#### ' + '7' * 10**6, '٣+٤=٨',
  '999999999999 times ' * 8 + 'end ' * 8, '1000000000 times 1 end', '0 mod',
  '2 ' + 'dup * ' * 300, '\\boxed{\u202eabc\u0007def\nghi}', '𝟘', '{{ 7 * 7 }}',
  '__import__("os").system("true")', '#### \ud800\0', 'x' * 10**6,
]  # fmt: skip


@pytest.mark.parametrize('text', HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_get_a_short_line(text):
  tasks = [registry.get('env', spec)()['train'][1] for spec in ENVS]
  tasks += [
    task('reasoning_gym', 'x', dataset='chain_sum', entry={}),
    task('math', '\\sqrt{2}'),
  ]
  for verdict in W, N, U:
    rows = [text] * len(tasks), [verdict] * len(tasks)
    got = dispatch.feedback(tasks, *rows, hidden_tests=True)
    if verdict == W:
      assert got == dispatch.feedback(tasks, *rows, hidden_tests=True)
    for t, line in zip(tasks, got, strict=True):
      assert len(line) <= feedback_text.LONGEST
      assert line.isprintable()
      if t.verifier == 'program':
        assert t.answer not in line


def test_a_quotation_is_one_short_line():
  assert feedback_text.quote(' a\n b\t') == "'a b'"
  assert feedback_text.quote('\ud800\u202e') == "'\ufffd\ufffd'"
  assert len(feedback_text.quote('x' * 10**6)) == 60 + 5
  assert feedback_text.limited('x' * 401) == 'x' * 397 + '...'
