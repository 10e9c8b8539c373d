"""The format of an answer, whatever its content."""

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rewards import answer_format as form
from rlvr_jax.rewards import base

T, A = '<think>a</think>', '<answer>3</answer>'
B, C = '<analysis>b</analysis>', '<confidence>0.8</confidence>'
CASES = [
  ('boxed', 'so \\boxed{3} it is', True),
  ('boxed', '\\boxed{\\frac{1}{2}}', True),
  ('boxed', '\\boxed{3} \\boxed{3}', False),
  ('boxed', '\\boxed{3', False),
  ('boxed', '\\boxed{}', False),
  ('boxed', '3', False),
  ('boxed', '\\boxed{' * 100_000, False),
  ('boxed', '\\boxed{' + 'x' * 1_000_000 + '}', False),
  ('answer', 'well <answer>3</answer>\n', True),
  ('answer', '<answer> </answer>', False),
  ('answer', '</answer>3<answer>', False),
  ('answer', '<answer>3</answer><answer>3</answer>', False),
  ('answer', '<answer>3', False),
  ('answer', '', False),
  ('think_answer', '<think>a</think>\n<answer>3</answer>\n', True),
  ('think_answer', '<think>a</think><answer>3</answer> bye', False),
  ('think_answer', 'hi <think>a</think><answer>3</answer>', False),
  ('think_answer', '<think>a</think> so <answer>3</answer>', False),
  ('think_answer', '<think></think><answer>3</answer>', False),
  ('think_answer', '<answer>3</answer><think>a</think>', False),
  ('think_answer', '<think><answer>3</answer></think>', False),
  # The prompt opens <think>.
  ('think_answer', 'a</think><answer>3</answer>', True),
  ('think_answer', '</think><answer>3</answer>', False),
  ('think_answer', '<answer>3</answer>', False),
  ('think_answer', '<think>' * 100_000, False),
  ('tabc', T + A + B + C, True),
  ('tabc', f'\n{T}\n\n{A}\n{B}\n{C}\n', True),
  ('tabc', T[7:] + A + B + C, True),  # the template opened <think>
  ('tabc', T + B + A + C, False),
  ('tabc', T + A + C, False),
  ('tabc', T + A + B + C + ' bye', False),
  ('tabc', 'hi ' + T + A + B + C, False),  # two <think>: one is prepended
  ('tabc', T + A + ' so ' + B + C, False),
  ('tabc', T + A + B + C + C, False),
  ('tabc', T + A + B + '<confidence>nan</confidence>', False),
  ('tabc', T + A + B + '<confidence>80%</confidence>', False),
  ('tabc', T + A + '<analysis> </analysis>' + C, False),
  ('tabc', T + '<answer>' + B + C + '</answer>', False),
  ('tabc', A + B + C, False),
  ('tabc', '', False),
  ('tabc', '<think>' * 100_000, False),
  ('tac', T + A + C, True),
  ('tac', T + A + B + C, False),
  ('tac', T + C + A, False),
  ('tbac', T + B + A + C, True),
  ('tbac', T + A + B + C, False),
  ('hash', 'a\n#### 3', True),
  ('hash', '#### 3\n', True),
  ('hash', 'a #### 3', False),
  ('hash', '#### 3\nbye', False),
  ('hash', '#### 3\n#### 4', False),
  ('hash', 'a\n####', False),
  ('hash', '#' * 1_000_000, False),
]


@pytest.mark.parametrize(('pattern', 'text', 'right'), CASES)
def test_known_forms(pattern, text, right):
  assert form.follows(text, pattern) is right


@pytest.mark.parametrize(
  ('prefill', 'text', 'right'),
  [
    ('<think>\n', 'a</think><answer>3</answer>', True),
    ('<think>\n', '<think>a</think><answer>3</answer>', False),
    ('<think>\n', '</think><answer>3</answer>', False),
    ('', 'a</think><answer>3</answer>', False),
    ('', '<think>a</think><answer>3</answer>', True),
    (None, 'a</think><answer>3</answer>', True),
  ],
)
def test_a_thought_that_the_prompt_opens_belongs_to_the_form(
  prefill, text, right
):
  transcript = base.Transcript(
    text, 3, enums.Stop.END, enums.Verdict.WRONG, prefill=prefill
  )
  (got,) = form.format([None], [transcript], pattern='think_answer')
  assert got.value == right


def test_as_a_reward_it_ignores_the_verdict():
  reward = registry.get('reward', "format(pattern='boxed', wrong=-1)")
  batch = [
    base.Transcript(text, 3, enums.Stop.END, verdict)
    for text, verdict in [
      ('\\boxed{3}', enums.Verdict.WRONG),
      ('3', enums.Verdict.CORRECT),
    ]
  ]
  assert reward([None] * 2, batch) == [
    base.RewardResult(1.0, {'format': 1.0}),
    base.RewardResult(-1.0, {'format': -1.0}),
  ]


def test_an_unknown_pattern_is_refused():
  with pytest.raises(ValueError, match=r"'box' Did you mean 'boxed'\?"):
    form.follows('', 'box')
  with pytest.raises(ValueError, match='boxed, answer, think_answer, hash'):
    form.format([], [], pattern='xml')
