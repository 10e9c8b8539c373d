"""Programs in completions are found, judged by tests, and told what failed."""

import pytest

from rlvr_jax import enums
from rlvr_jax.verifiers import program_tests
from rlvr_jax.verifiers.extraction import extract

C, W, N, U = enums.Verdict
# a b -> a * b + b; the last two are not shown
TESTS = [[[2, 3], [9]], [[4, 0], [0]], [[0, 7], [7]], [[5, 5], [30]]]
RIGHT = 'swap over * +'


@pytest.mark.parametrize(
  ('completion', 'text'),
  [
    (RIGHT, RIGHT),
    (f'It is this:\n\n{RIGHT}\n\n', RIGHT),
    (f'<answer>{RIGHT}</answer>', RIGHT),
    (f'<answer>dup</answer> no: <answer>\n{RIGHT}\n</answer> Done.', RIGHT),
    (f'<answer>{RIGHT}', RIGHT),
    ('<answer>over over < if\nswap then</answer>', 'over over < if\nswap then'),
    (f'<think>Is it dup?</think>{RIGHT}', RIGHT),
    (f'<think><answer>dup</answer></think>{RIGHT}', RIGHT),
    (f'<think>{RIGHT}', None),
    (f'```\n{RIGHT}\n```', RIGHT),
    (f'So:\n```forth\n{RIGHT}\n```\nThat is all.', RIGHT),
    (f'```\ndup\n```\nor\n```\n{RIGHT}\n```', RIGHT),
    (f'So:\n```\n{RIGHT}', RIGHT),
    (f'<answer>\n```\n{RIGHT}\n```\n</answer>', RIGHT),
    ('```dup *```', 'dup *'),
    (f'`{RIGHT}`', RIGHT),
    ('<answer></answer>', None),
    ('', None),
    (' \n\t', None),
    ('```', None),
  ],
)
def test_the_program_is_found(completion, text):
  assert program_tests.read(completion) == text
  verdict = C if text == RIGHT else N if text is None else W
  assert program_tests.verify(TESTS, completion) == verdict
  said = program_tests.feedback(TESTS, 2, completion)
  assert (said == '') == (verdict == C)


@pytest.mark.parametrize(
  ('program', 'verdict', 'said'),
  [
    (RIGHT, C, ''),
    ('dup swap swap drop swap over * +', C, ''),  # another spelling
    (
      '+',
      W,
      'On the input 2 3 the program leaves 5; expected is 9.',
    ),
    (
      'drop drop',
      W,
      'On the input 2 3 the program leaves (empty); expected is 9.',
    ),
    (
      'drop drop 9',  # right on the first only
      W,
      'On the input 4 0 the program leaves 9; expected is 0.',
    ),
    (
      'swap * +',
      W,
      "On the input 2 3 the program fails at word 3 ('+'), step 3, stack 6: "
      "'+' needs 2 numbers.",
    ),
    (
      'over swap mod',
      W,
      'On the input 2 3 the program leaves 2 2; expected is 9.',
    ),
    (
      'swap over * foo',
      W,
      "The program cannot be read: 'foo' (word 4, character 13) is no word of "
      'the language.',
    ),
    ('1 times', W, "The program cannot be read: 'times' (word 2, character 3)"
     " has no 'end' after it."),
    ('1 ' * 2000, U, 'The program has more than 2000 characters.'),
    (
      '1000000000 times end',
      W,
      "On the input 2 3 the program fails at word 3 ('end'), step 1000, stack "
      '2 3: more than 1000 steps.',
    ),
  ],
)  # fmt: skip
def test_the_first_failure_is_told(program, verdict, said):
  assert program_tests.verify(TESTS, program) == verdict
  assert program_tests.feedback(TESTS, 2, program) == said


def test_hidden_tests_are_named_only_on_request():
  # Right on the two examples by chance.
  program = 'dup if drop drop 9 else swap drop then'
  assert program_tests.verify(TESTS, program) == W
  quiet = program_tests.feedback(TESTS, 2, program)
  assert quiet == (
    'The examples pass. On another input the program leaves a wrong output.'
  )
  loud = program_tests.feedback(TESTS, 2, program, hidden=True)
  assert loud == (
    'The examples pass. On the input 0 7 the program leaves 9; expected is 7.'
  )
  fails = 'over if swap over * + else swap mod mod then'
  assert program_tests.feedback(TESTS, 2, fails) == (
    "The examples pass. On another input the program fails at word 9 ('mod'): "
    "'mod' by 0."
  )
  assert 'input 0 7' in program_tests.feedback(TESTS, 2, fails, hidden=True)


def test_a_test_compares_the_whole_stack_in_order():
  tests = [[[1, 2], [2, 1]]]
  assert program_tests.verify(tests, 'swap') == C
  for text in '0 drop', 'swap 1', 'swap drop', '0 swap 1':
    assert program_tests.verify(tests, text) == W


def test_too_long_is_not_wrong():
  for text in '1 ' * 2000, '<answer>' + '1 ' * 9000, '1' * 10**6:
    with pytest.raises(extract.TooLong):
      program_tests.read(text)
    assert program_tests.verify(TESTS, text) == U
