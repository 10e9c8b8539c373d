"""Similarity of steps: difflib's values, bounded cost, the scored part."""

import difflib
import random

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base, similarity
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import dispatch, pool, step_text


@pytest.mark.parametrize(
  ('a', 'b', 'unit', 'expected'),
  [
    ('abcd', 'bcde', 'char', 0.75),
    ('abc', 'abc', 'char', 1.0),
    ('', 'abc', 'char', 0.0),
    ('abc', '', 'char', 0.0),
    ('', '', 'char', 1.0),
    ('tide', 'diet', 'char', 0.25),
    ('diet', 'tide', 'char', 0.5),
    ('2x = 6 , so x = 3', '2x = 6 so x = 3', 'word', 14 / 15),
    ('abc', 'abcdef', 'char', 2 / 3),
    ('x+1', 'x + 1', 'token', 1.0),
    ('ab12', 'ab 12', 'token', 1.0),
    ('a b', 'a  b', 'word', 1.0),
  ],
)
def test_known_ratios(a, b, unit, expected):
  assert similarity.ratio(a, b, unit=unit) == pytest.approx(expected)


@pytest.mark.parametrize('alphabet', ['ab', 'abcdefgh ', 'aé漢\n'])
def test_both_implementations_equal_difflib(alphabet):
  rng = random.Random(0)
  for _ in range(60):
    a, b = (
      ''.join(rng.choices(alphabet, k=rng.randrange(60))) for _ in range(2)
    )
    blocks = difflib.SequenceMatcher(None, a, b, False).get_matching_blocks()
    assert step_text._matched(a, b) == sum(n for *_, n in blocks)
    want = difflib.SequenceMatcher(None, a, b, False).ratio()
    assert similarity.ratio(a, b) == pytest.approx(want)


def test_long_texts_equal_difflib():
  rng = random.Random(1)
  a = ''.join(rng.choices('the quick brown fox', k=700))
  b = a[:300] + ''.join(rng.choices('lazy dog ', k=200)) + a[320:]
  want = difflib.SequenceMatcher(None, a, b, False).ratio()
  assert similarity.ratio(a, b) == pytest.approx(want)


def test_autojunk_collapses_from_200_elements_on_and_is_off():
  expert = (
    'Each of the four boxes holds twelve pens, so there are 48 pens in all. '
    'Half of them are given away, which leaves 24. Then six more are bought, '
    'and the final number of pens on the shelf is thirty, since 24 + 6 = 30.'
  )
  prediction = (
    'There are four boxes with twelve pens each, hence 48 pens altogether. We '
    'give away one half of them and 24 are left, and six new ones are bought.'
  )
  with_junk = lambda n: similarity.ratio(prediction, expert[:n], autojunk=True)
  assert with_junk(199) > 0.4
  assert with_junk(200) < with_junk(199) - 0.1
  assert similarity.ratio(prediction, expert[:200]) == pytest.approx(
    similarity.ratio(prediction, expert[:199]), abs=0.02
  )


@pytest.mark.parametrize(
  ('a', 'b'),
  [
    ('a' * 200_000, 'a' * 199_999),
    ('ab' * 100_000, 'ba' * 100_000),
    ('a' * 100_000, 'b'),
    ('(' * 100_000, ')' * 100_000),
  ],
)
def test_very_long_texts_have_bounded_cost(a, b):
  assert 0 <= similarity.ratio(a, b) <= 1  # a full comparison takes hours


@pytest.mark.parametrize(
  ('text', 'think', 'expected'),
  [
    ('<think>a</think> 3+4=7 ', 'required', '3+4=7'),
    ('a</think>3+4=7', 'required', '3+4=7'),  # the prompt opens <think>
    ('<think>\n</think>\nx', 'required', 'x'),
    ('<think>a</think>', 'required', None),
    ('<think>a</think> \n ', 'required', None),
    ('<think>a 3+4=7', 'required', None),
    ('3+4=7', 'required', None),
    ('<think>a</think>b</think>c', 'required', None),
    ('<think>a<think>b</think>c', 'required', None),
    ('<think>a</think><think>b</think>c', 'required', None),
    ('x<think>a</think>c', 'required', None),
    ('', 'required', None),
    ('3+4=7', 'optional', '3+4=7'),
    ('<think>a</think>b', 'optional', 'b'),
    ('<think>a', 'optional', None),
    ('<think>a</think>b', 'none', '<think>a</think>b'),
    (' ', 'none', None),
  ],
)
def test_the_scored_part_of_a_completion(text, think, expected):
  assert step_text.step(text, think) == expected


def rows(*texts, expert='3+4=7'):
  task = Task('t', 'q', expert, 'step', {'expert': expert})
  transcripts = [
    base.Transcript(t, 1, enums.Stop.END, enums.Verdict.WRONG) for t in texts
  ]
  return [task] * len(texts), transcripts


def values(spec, *texts, **kw):
  return [g.value for g in registry.get('reward', spec)(*rows(*texts, **kw))]


def test_the_thought_does_not_count():
  thoughts = ('', 'x', '3+4=7' * 50, 'é\n\n\t', '####')
  got = values('similarity', *(f'<think>{t}</think>3+4=8' for t in thoughts))
  assert got == [0.8] * 5


def test_a_malformed_completion_gets_minus_one():
  texts = ('<think>a 3+4=7', '3+4=7', '<think>a</think> ', '')
  assert values('similarity', *texts) == [-1.0] * 4
  assert values('similarity(failure=-0.5)', '') == [-0.5]


def test_the_order_of_arguments_matters():
  first = values('similarity(think=none)', 'tide', expert='diet')
  assert first == [0.25]
  other = 'similarity(think=none, order=expert_first)'
  assert values(other, 'tide', expert='diet') == [0.5]


@pytest.mark.parametrize('autojunk', [False, True])
def test_a_text_equals_itself_at_any_length(autojunk):
  text = 'to be or not to be, ' * 5000
  assert similarity.ratio(text, text, autojunk=autojunk) == 1.0


def test_a_row_that_times_out_is_refused_alone(monkeypatch):
  # tests/verifiers/pool_test.py tests the time limit; here it has passed.
  late = [pool.Reply(None, pool.LATE), pool.Reply(0.5, None)]
  monkeypatch.setattr(pool, 'run', lambda *_, **__: late)
  slow, fast = registry.get('reward', 'similarity(think=none)')(*rows('a', 'x'))
  assert slow.refused
  assert not fast.refused
  assert fast.value == 0.5


@pytest.mark.parametrize(
  ('spec', 'match'),
  [
    ('similarity(unit=words)', "Did you mean 'word'"),
    ('similarity(order=both)', 'order'),
    ('similarity(think=maybe)', 'think'),
    ('similarity(failure=x)', 'failure'),
  ],
)
def test_bad_options_are_refused_at_start(spec, match):
  with pytest.raises(ValueError, match=match):
    base.build((spec,), (1.0,))


def test_a_task_without_an_expert_is_named():
  task = Task('t9', 'q', '3', 'math', {})
  with pytest.raises(ValueError, match="'t9' has no expert text"):
    registry.get('reward', 'similarity')([task], rows('x')[1])


def test_verdicts_of_steps_and_of_exact_answers():
  step = Task('s', 'q', '3+4 = 7', 'step', {})
  exact = Task('e', 'q', '075', 'exact', {})
  completions = [
    '<think>a</think>3+4  = 7',
    '3+4=7',
    '<think>',
    '#### 075',
    '#### 75',
    'x',
  ]
  got = dispatch.verify([step] * 3 + [exact] * 3, completions)
  assert [v.name for v in got] == [
    'CORRECT', 'WRONG', 'NO_ANSWER', 'CORRECT', 'WRONG', 'NO_ANSWER',
  ]  # fmt: skip
