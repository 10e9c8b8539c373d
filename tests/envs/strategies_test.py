"""Solutions follow the given shares and reliabilities."""

import collections
import itertools
import json
import math

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.envs import strategies, strategy_form
from rlvr_jax.verifiers import confidence, dispatch

MIXED = 'scratchpad=0.5, direct=0.3, decoy=0.2'


def build(options=''):
  return registry.get('env', f'strategies({options})')()


def tasks(env, count, split='train'):
  return [env[split][i] for i in range(count)]


def value(letter, values):
  return (ord(letter) - ord('a') + 1) % values


@pytest.mark.parametrize('values', [2, 3, 10])
def test_the_answer_is_the_sum_of_the_letters(values):
  for task in tasks(build(f'values={values}'), 100):
    total = sum(value(letter, values) for letter in task.question)
    assert task.answer == str(total % 10)
    assert len(set(task.question)) == len(task.question) == 5


def test_known_solutions():
  """e, f, c, p, r are positions 5, 6, 3, 16, 18: their values 2, 0, 0, 1, 0."""
  assert sum(value(x, 3) for x in 'efcpr') == 3
  made = strategies._task
  fixed = dict(
    split='train', offset=0, low=5, lengths=1, values=3, confidence=None, seed=0
  )
  one = lambda shares, **kw: made(
    7, shares=shares, rates=(1.0, 1.0, 1.0), **fixed, **{'boxed': (), **kw}
  )
  pad = one((1.0, 0.0, 0.0))
  letters = sorted(pad.question)
  sums = itertools.accumulate(value(x, 3) for x in letters)
  steps = ''.join(f'{x}{s % 10}' for x, s in zip(letters, sums, strict=True))
  assert pad.data['solution'] == f'{steps} #### {pad.answer}'
  direct = one((0.0, 1.0, 0.0), boxed=('direct',))
  assert direct.data['solution'] == f'\\boxed{{{pad.answer}}}'
  place = value(letters[0], 10)
  decoy = one((0.0, 0.0, 1.0))
  assert decoy.data['solution'] == f'min {letters[0]}{place} #### {place}'
  assert pad.question == direct.question == decoy.question


@pytest.mark.parametrize('options', ['', 'terms=2', 'terms=(3, 6)', 'seed=5'])
def test_no_set_of_letters_repeats(options):
  env = build(options)
  every = [
    ''.join(sorted(t.question))
    for split in ('train', 'test')
    for t in tasks(env, min(len(env[split]), 800), split)
  ]
  assert len(set(every)) == len(every)


def test_a_small_space_is_covered_once():
  env = build('terms=2')
  assert len(env['train']) + len(env['test']) == math.comb(26, 2)


def test_lengths_come_in_equal_shares():
  env = build('terms=(3, 5)')
  count = collections.Counter(t.data['terms'] for t in tasks(env, 300))
  assert count == {3: 100, 4: 100, 5: 100}
  assert all(len(t.question) == t.data['terms'] for t in tasks(env, 30))


@pytest.mark.parametrize(
  'options',
  [MIXED, f"{MIXED}, boxed=('scratchpad', 'decoy')", f'{MIXED}, confidence=1'],
)
def test_shares_and_reliabilities_match_the_options(options):
  count = 1200
  sampled = tasks(
    build(f'{options}, scratchpad_reliability=0.8, direct_reliability=0.4'),
    count,
  )
  solutions = [t.data['solution'] for t in sampled]
  verdicts = dispatch.verify(sampled, solutions)
  right = [v == enums.Verdict.CORRECT for v in verdicts]
  assert set(verdicts) <= {enums.Verdict.CORRECT, enums.Verdict.WRONG}
  assert [strategy_form.classify(t, s) for t, s in zip(sampled, solutions)] == [
    t.data['strategy'] for t in sampled
  ]
  got = strategy_form.usage(sampled, solutions, right)
  for name, share, rate in (
    ('scratchpad', 0.5, 0.8),
    ('direct', 0.3, 0.4),
    ('decoy', 0.2, 0.1),
  ):
    n = share * count  # four standard errors either way
    assert got[f'strategy/{name}'] == pytest.approx(
      share, abs=4 * math.sqrt(share * (1 - share) / count)
    )
    assert got[f'strategy_accuracy/{name}'] == pytest.approx(
      rate, abs=4 * math.sqrt(rate * (1 - rate) / n) + 0.05 * (name == 'decoy')
    )
  assert got['strategy/none'] == 0.0


def test_an_error_is_one_wrong_step_that_later_steps_continue_from():
  env = build('scratchpad=1.0, direct=0.0, scratchpad_reliability=0.0')
  for task in tasks(env, 100):
    text = task.data['solution']
    total, odd = 0, 0
    for at in range(0, 10, 2):
      step = (int(text[at + 1]) - total) % 10
      odd += step != value(text[at], 3)
      total = int(text[at + 1])
    assert odd == 1
    assert text.endswith(f'#### {total}')
    assert str(total) != task.answer


def test_the_decoy_is_a_function_of_the_letters():
  env = build('scratchpad=0.0, direct=0.0, decoy=1.0')
  solutions = collections.defaultdict(set)
  for task in tasks(env, 300):
    solutions[min(task.question)].add(task.data['solution'])
  assert all(len(texts) == 1 for texts in solutions.values())


def test_confidence_is_independent_of_the_answer():
  env = build(f"{MIXED}, confidence='uniform'")
  sampled = tasks(env, 1100)
  stated = [confidence.parse(t.data['solution']) for t in sampled]
  assert set(stated) == {i / 10 for i in range(11)}
  verdicts = dispatch.verify(sampled, [t.data['solution'] for t in sampled])
  right = [v == enums.Verdict.CORRECT for v in verdicts]
  high = [r for r, q in zip(right, stated, strict=True) if q > 0.5]
  low = [r for r, q in zip(right, stated, strict=True) if q < 0.5]
  gap = sum(high) / len(high) - sum(low) / len(low)
  assert abs(gap) < 4 * math.sqrt(0.25 / len(high) + 0.25 / len(low))
  constant = build('confidence=0.9')['train'][0]
  assert constant.data['solution'].endswith('\n<confidence>0.9</confidence>')


def test_tasks_are_functions_of_the_arguments_and_survive_json():
  one, two = build(), build()
  other = build('seed=1')
  for i in range(20):
    task = one['train'][i]
    assert task == two['train'][i]
    assert json.loads(json.dumps(task)) == list(task)
  assert tasks(one, 20) != tasks(other, 20)
  # Another mixture changes solutions but no question.
  mixed = build(MIXED)
  questions = lambda env: [t.question for t in tasks(env, 20)]
  assert questions(mixed) == questions(one)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ('scratchpad=0.9', 'must add up to 1'),
    ('scratchpad=1.5', r'scratchpad=1\.5 must be a number in \[0, 1\]'),
    ('direct_reliability=True', 'direct_reliability=True'),
    ("boxed='direct'", 'must be a tuple'),
    ("boxed=('luck',)", 'must be a tuple of strategies'),
    ("confidence='high'", "or 'uniform', or None"),
    ('confidence=2', 'confidence=2'),
    ('terms=1', 'terms=1'),
    ('terms=(4, 3)', 'terms=3'),
    ('terms=14', 'terms=14'),
    ('values=1', 'values=1'),
    ('terms=2, train_size=400', 'raise its lower end'),
  ],
)
def test_bad_arguments_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    build(options)
