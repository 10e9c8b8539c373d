"""Random, weak and wrong rewards, and their combinators."""

import math

import numpy as np
import pytest

from rlvr_jax import enums, registry
from rlvr_jax.rewards import base, spurious
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract

V = enums.Verdict


def transcripts(*texts, verdict=V.WRONG):
  return [base.Transcript(t, 3, enums.Stop.END, verdict) for t in texts]


def tasks(n, **data):
  return [Task(f'train-{i}', 'Q', '1', 'math', dict(data)) for i in range(n)]


def values(spec, rows, of=None):
  of = tasks(len(rows)) if of is None else of
  return [r.value for r in registry.get('reward', spec)(of, rows)]


def test_random_is_a_coin_of_its_probability():
  batch = transcripts(*['x'] * 4000)
  for p in (0.3, 0.5):
    got = np.array(values(f'random(p={p})', batch))
    assert set(got) == {0, 1}
    assert abs(got.mean() - p) < 5 * math.sqrt(p * (1 - p) / 4000)
  assert set(values('random(p=0)', batch)) == {0}
  assert set(values('random(1)', batch)) == {1}


def test_random_differs_within_a_group_of_equal_completions():
  of = tasks(1) * 64
  assert set(values('random', transcripts(*['same'] * 64), of)) == {0, 1}


def test_random_is_reproduced_and_moves_with_seed_task_text_and_order():
  texts = [str(i) for i in range(64)]
  first = values('random', transcripts(*texts))
  assert values('random', transcripts(*texts)) == first
  assert values('random(seed=1)', transcripts(*texts)) != first
  assert values('random', transcripts(*texts[:-1], 'other')) != first
  assert values('random', transcripts(*texts[::-1])) != first
  assert values('random', transcripts(*texts), tasks(65)[1:]) != first


def test_random_is_independent_of_a_rows_text():
  """The same text is rewarded in about half of many batches."""
  got = [values('random', transcripts('same', str(i)))[0] for i in range(2000)]
  assert abs(np.mean(got) - 0.5) < 5 * 0.5 / math.sqrt(2000)


def test_random_of_known_batches_is_the_same_on_every_platform():
  assert values('random', transcripts(*'abcdefgh', '\ud800')) == [
    1,
    1,
    1,
    0,
    0,
    0,
    0,
    1,
    0,
  ]


def test_random_differs_between_batches_that_concatenate_equally():
  pairs = [('ab', 'c'), ('a', 'bc')]
  bits = [
    [values(f'random(seed={s})', transcripts(*pair)) for s in range(32)]
    for pair in pairs
  ]
  assert bits[0] != bits[1]


@pytest.mark.parametrize('p', [-0.1, 1.1, math.nan, True, 'x'])
def test_random_refuses_what_is_no_probability(p):
  with pytest.raises(ValueError, match='p='):
    spurious.random([], [], p=p)


def test_contains_ignores_case():
  texts = ['in Python:', 'PYTHON', '```python', 'pyth on', '']
  assert values('contains(python)', transcripts(*texts)) == [1, 1, 1, 0, 0]
  assert values("contains('STRASSE')", transcripts('straße')) == [1]
  for spec in ("contains('')", 'contains(3)'):
    with pytest.raises(ValueError, match='text='):
      values(spec, [])


@pytest.mark.parametrize(
  ('text', 'repeated'),
  [
    ('', False),
    ('0123456789' * 10, True),
    ('x' + '0123456789' * 10 + 'y', True),
    ('0123456789' * 9 + '012345678', False),
    ('012345678' * 10, False),  # nine characters
    ('012345678' * 100, True),  # five periods form a pattern of 45
    ('a' * 99, False),
    ('a' * 100, True),
    ((''.join(map(chr, range(1000, 1256)))) * 10, True),  # 256 characters
    ((''.join(map(chr, range(1000, 1257)))) * 10, False),  # 257
    ((''.join(map(chr, range(1000, 1256)))) * 9, False),
    (' '.join(map(str, range(1000))), False),
    ('\ud800 lone surrogates' * 10, True),
    ('ab' * 50 + 'x' * spurious.READ, True),
    ('0123456789' * 10 + ''.join(map(chr, range(1000, 40000))) * 3, False),
  ],
)
def test_repetition_of_ten_patterns_in_a_row(text, repeated):
  assert spurious.repeats(text) is repeated
  assert values('no_repetition', transcripts(text)) == [1 - repeated]


def test_the_search_agrees_with_its_definition():
  rng = np.random.default_rng(0)

  def slow(text):
    return any(
      text[i : i + n] * 10 == text[i : i + 10 * n]
      for n in range(10, len(text) // 10 + 1)
      for i in range(len(text) - 10 * n + 1)
    )

  seen = set()
  for _ in range(60):
    n, times = rng.integers(8, 30), rng.integers(8, 12)
    pattern = ''.join(rng.choice(list('abc'), n))
    text = 'ab' * rng.integers(9) + pattern * times + 'c' * rng.integers(9)
    assert spurious.repeats(text) == slow(text)
    seen.add(slow(text))
  assert seen == {True, False}


def test_the_search_of_a_huge_text_is_bounded():
  assert not spurious.repeats(''.join(f'{i} ' for i in range(1_000_000)))
  assert not spurious.repeats(('a' * 89 + 'b' * 11) * 9 + 'c')


def test_constant_says_nothing():
  batch = transcripts('a', 'b', verdict=V.CORRECT)
  assert values('constant', batch) == [1, 1]
  assert values('constant(-0.25)', batch) == [-0.25, -0.25]
  for value in (math.nan, math.inf, 1e16):
    with pytest.raises(ValueError, match='value='):
      spurious.constant([], [], value=value)


def graded(n, right=3):
  """n rows, of which every `right`-th is right."""
  return [
    base.Transcript(
      str(i), 3, enums.Stop.END, V.WRONG if i % right else V.CORRECT
    )
    for i in range(n)
  ]


def test_flip_flips_either_class_with_its_rate():
  rows = graded(9000)
  truth = np.array(values('outcome', rows))
  for rate in (0.1, 0.3):
    got = np.array(values(f'flip(outcome, {rate})', rows))
    assert set(got) == {0, 1}
    for of in (truth == 0, truth == 1):
      error = math.sqrt(rate * (1 - rate) / of.sum())
      assert abs((got != truth)[of].mean() - rate) < 5 * error
  assert values('flip(outcome, 0)', rows) == values('outcome', rows)
  assert values('flip(outcome, 1)', rows) == values('inverse(outcome)', rows)


def test_flips_are_reproduced_and_drawn_anew_for_every_batch_and_seed():
  rows = graded(64)
  first = values('flip(outcome, 0.5)', rows)
  assert values('flip(outcome, 0.5)', rows) == first
  assert values('flip(outcome, 0.5, seed=1)', rows) != first
  changed = [*rows[:-1], rows[-1]._replace(completion='other')]
  assert values('flip(outcome, 0.5)', changed)[:-1] != first[:-1]


def test_flips_are_independent_of_random_bits_of_the_same_seed():
  """Otherwise flip(random) would be a constant."""
  rows = transcripts(*map(str, range(4000)))
  got = np.array(values('flip(random, 0.5)', rows))
  assert abs(got.mean() - 0.5) < 5 * 0.5 / math.sqrt(4000)


def test_flip_refuses_what_cannot_be_flipped():
  for rate in (-0.1, 1.1, math.nan, True):
    with pytest.raises(ValueError, match='rate='):
      spurious.flip([], [], reward='outcome', rate=rate)
  for spec in ('flip(outcome(wrong=-1))', 'flip(constant(0.5), 0)'):
    with pytest.raises(ValueError, match='only 0 and 1 can be flipped'):
      values(spec, transcripts('a'))


def test_permuted_keeps_the_values_of_each_task_and_nothing_else():
  rows = graded(4096)
  of = [t for t in tasks(512) for _ in range(8)]
  truth = np.array(values('outcome', rows, of)).reshape(512, 8)
  got = np.array(values('permuted(outcome)', rows, of)).reshape(512, 8)
  np.testing.assert_array_equal(got.sum(-1), truth.sum(-1))
  # Within a group of m right ones, each place is right with probability m/8.
  centred = [x - truth.mean(-1, keepdims=True) for x in (got, truth)]
  product = np.prod(centred, axis=0).sum()
  spread = math.sqrt(
    (np.square(centred[1]).sum(-1) ** 2 / 7).sum()  # of a permuted product
  )
  assert abs(product) < 5 * spread
  places = values('permuted(outcome)', graded(8, 8), tasks(1) * 8)
  assert sum(places) == 1


def test_all_orders_of_permuted_are_equally_likely():
  of, counts = tasks(1) * 3, {}
  for i in range(600):
    rows = [r._replace(completion=f'{r.completion} {i}') for r in graded(3)]
    at = values('permuted(outcome)', rows, of).index(1)
    counts[at] = counts.get(at, 0) + 1
  assert len(counts) == 3
  error = math.sqrt(600 * 2 / 9)
  assert all(abs(c - 200) < 5 * error for c in counts.values())


def test_permuted_is_reproduced_and_moves_with_the_seed():
  rows, of = graded(64), tasks(1) * 64
  first = values('permuted(outcome)', rows, of)
  assert values('permuted(outcome)', rows, of) == first
  assert values('permuted(outcome, seed=1)', rows, of) != first


def test_permuted_keeps_turns_and_refused_rows_where_they_are():
  turn = lambda k: base.Turn(k, 2, 'yes', False, k == 1)
  rows = [r._replace(turn=turn(i % 2)) for i, r in enumerate(graded(8, 2))]
  # The right rows are the first turns of four dialogues.
  assert values('permuted(outcome)', rows, tasks(1) * 8) == [1, 0] * 4
  verdicts = [V.CORRECT, V.UNVERIFIABLE, V.WRONG, V.UNVERIFIABLE]
  rows = [base.Transcript('x', 3, enums.Stop.END, v) for v in verdicts]
  for seed in range(8):
    for spec in ('permuted({}, seed={})', 'flip({}, 0.5, seed={})'):
      spec = spec.format('outcome(unverifiable=refuse)', seed)
      got = registry.get('reward', spec)(tasks(1) * 4, rows)
      assert [r.refused for r in got] == [False, True, False, True]


def test_inverse_and_all_of_on_known_rows():
  batch = transcripts('\\boxed{1}', '\\boxed{1} Python', 'python', '')
  assert values('format(boxed)', batch) == [1, 1, 0, 0]
  assert values('inverse(format(pattern=boxed))', batch) == [0, 0, 1, 1]
  assert values('inverse(inverse(format(boxed)))', batch) == [1, 1, 0, 0]
  both = 'all_of(format(boxed), contains(python))'
  assert values(both, batch) == [0, 1, 0, 0]
  # With `inverse`, the compound is 0 wherever the word occurs.
  other = 'all_of(format(boxed), inverse(contains(python)))'
  assert values(other, batch) == [1, 0, 0, 0]
  assert values('all_of(outcome)', transcripts('', verdict=V.CORRECT)) == [1]
  assert values(
    'all_of(outcome(correct=2))', transcripts('', verdict=V.CORRECT)
  ) == [0]


def test_parts_of_a_compound_are_logged_under_readable_names():
  spec = 'all_of(format(boxed), inverse(contains(python)))'
  reward = base.build([spec, 'outcome'], [1.0, 0.5])
  results = reward(
    tasks(1), transcripts('\\boxed{1} python', verdict=V.CORRECT)
  )
  assert results == [
    base.RewardResult(
      0.5,
      {
        'format(boxed)': 1.0,
        'inverse(contains(python))': 0.0,
        spec: 0.0,
        'outcome': 1.0,
      },
    )
  ]


def test_inverse_and_all_of_keep_refusals():
  strict = "outcome(unverifiable='refuse')"
  batch = transcripts('', verdict=V.UNVERIFIABLE)
  for spec in (f'inverse({strict})', f'all_of({strict}, contains(a))'):
    assert base.build([spec], [1.0])(tasks(1), batch)[0].refused


def test_bad_options_within_a_compound_are_refused_when_it_is_built():
  for spec in (
    'format(box)',
    'inverse(format(box))',
    'all_of(outcome, all_of(inverse(format(box)), outcome))',
  ):
    with pytest.raises(ValueError, match="Did you mean 'boxed'"):
      base.build([spec], [1.0])
  with pytest.raises(ValueError, match='repeat'):
    base.build(['all_of(outcome, outcome)'], [1.0])


def test_majority_finds_answers_as_the_verdict_does():
  (task,) = tasks(1, label='7')
  (one,) = transcripts('so 7')
  demands = extract.Rules(require_mark=True)
  for row, want in [
    (one, 1),
    (one._replace(stop=enums.Stop.LENGTH), 0),
    (one._replace(rules=demands), 0),
    (one._replace(rules=demands, completion='#### 7'), 1),
  ]:
    assert spurious.majority([task], [row])[0].value == want


def test_majority_reads_the_label_and_not_the_gold_answer():
  of = tasks(3, label='1/2', label_right=False)
  batch = transcripts('so 0.5', '\\boxed{\\frac12}', '1', verdict=V.WRONG)
  assert values('majority', batch, of) == [1, 1, 0]
  assert values('incorrect', batch, of) == [1, 1, 0]
  assert values('inverse(majority)', batch, of) == [0, 0, 1]
  assert [t.verdict for t in batch] == [V.WRONG] * 3


def test_labels_that_a_reward_cannot_use_are_refused():
  with pytest.raises(ValueError, match=r"'train-0' has no label: .*label\.py"):
    values('majority', transcripts('1'))
  for data in ({}, {'label_right': True}, {'label_right': None}):
    with pytest.raises(ValueError, match='known to be wrong'):
      values('incorrect', transcripts('1'), tasks(1, label='1', **data))
