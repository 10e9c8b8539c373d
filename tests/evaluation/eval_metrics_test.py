"""Numbers from tables of samples, by hand and by counting."""

import itertools

import numpy as np
import pytest

from rlvr_jax import enums
from rlvr_jax.evaluation import eval_metrics, sample_store
from rlvr_jax.rewards import base
from rlvr_jax.stats import intervals
from rlvr_jax.tasks import Task

MARKS = {
  'x': enums.Verdict.CORRECT,
  '.': enums.Verdict.WRONG,
  '?': enums.Verdict.UNVERIFIABLE,
}


TASK = Task('t', 'abcd?', '7', 'math', {})


def table(*rows, texts=None, confidences=None, task=TASK, **each):
  """A row of marks for each task; `texts` are the completions."""
  texts = texts or [['7'] * len(row) for row in rows]
  confidences = confidences or [[None] * len(row) for row in rows]
  store = sample_store.Samples(
    [f't{i}' for i in range(len(rows))], len(rows[0])
  )
  for r, i in itertools.product(range(len(rows[0])), range(len(rows))):
    text, q = texts[i][r], confidences[i][r]
    if q is not None:
      text = f'<answer>{text}</answer><confidence>{q}</confidence>'
    transcript = base.Transcript(text, 3, enums.Stop.END, MARKS[rows[i][r]])
    store.add([sample_store.record(task, transcript._replace(**each), 1.5)])
  return store.table


def test_strategies_are_reported_where_tasks_have_them():
  texts = [['#### 1', '1'], ['#### 3', '\\boxed{2}']]
  plain = eval_metrics.summary(table('x.', 'x?', texts=texts))
  assert not any('strategy' in name for name in plain)
  task = TASK._replace(data={'strategy': 'direct', 'terms': 2})
  metrics = eval_metrics.summary(table('x.', 'x?', texts=texts, task=task))
  assert metrics['eval/strategy/direct'] == 0.75
  assert metrics['eval/strategy/none'] == 0.25
  assert metrics['eval/strategy_accuracy/direct'] == pytest.approx(2 / 3)
  assert 'eval/strategy_accuracy/decoy' not in metrics
  assert metrics['eval/strategy/direct_low'] < 0.75
  assert metrics['eval/strategy/direct_high'] > 0.75
  assert metrics.keys() > plain.keys()


def test_games_won_within_so_many_turns():
  games = table('xx', '.x')
  games.turns[:] = [[1, 3], [6, 4]]
  got = eval_metrics.summary(games)
  shares = [got[f'eval/won_within@{k}'] for k in (1, 2, 4, 6)]
  assert shares == [0.25, 0.25, 0.75, 0.75]
  assert got['eval/turns_to_success'] == pytest.approx(8 / 3)
  assert got['eval/won_within@1_high'] > 0.25


def test_accuracy_of_single_samples_has_wilsons_interval():
  got = eval_metrics.summary(table(*('x' * 3 + '.' * 7)))
  assert got['eval/accuracy'] == pytest.approx(0.3)
  # 3 of 10, 95 %, as published calculators give it.
  assert got['eval/accuracy_low'] == pytest.approx(0.10779, abs=1e-4)
  assert got['eval/accuracy_high'] == pytest.approx(0.60322, abs=1e-4)
  assert got['eval/n'] == 10
  assert got['eval/samples'] == 1
  assert not any('pass@' in k or 'maj@' in k for k in got)


@pytest.mark.parametrize(
  ('mark', 'low', 'high'), [('x', 0.7225, 1), ('.', 0, 0.2775)]
)
def test_an_interval_at_the_ends_is_not_empty(mark, low, high):
  got = eval_metrics.summary(table(*(mark * 10)))
  assert got['eval/accuracy_low'] == pytest.approx(low, abs=1e-4)
  assert got['eval/accuracy_high'] == pytest.approx(high, abs=1e-4)


def test_never_right_in_many_samples_is_not_certain_either():
  got = eval_metrics.summary(table(*['....'] * 10))
  for name in ('accuracy', 'pass@4', 'maj@4', 'unverifiable'):
    assert got[f'eval/{name}_low'] == 0
    assert got[f'eval/{name}_high'] == pytest.approx(0.2775, abs=1e-4)


def test_pass_at_k_equals_brute_force():
  rows = ['x...', '....', 'xxxx', '.xx.', 'xxx.']
  got = eval_metrics.summary(table(*rows))
  for k in (1, 2, 4):
    want = np.mean(
      [
        np.mean(['x' in some for some in itertools.combinations(row, k)])
        for row in rows
      ]
    )
    assert got[f'eval/pass@{k}'] == pytest.approx(want, abs=1e-6)
    assert got[f'eval/pass@{k}_low'] <= want <= got[f'eval/pass@{k}_high']
  # pass@1 is the accuracy; powers of two, and all four.
  assert got['eval/pass@1'] == pytest.approx(got['eval/accuracy'], abs=1e-6)
  assert 'eval/pass@3' not in got
  assert got['eval/accuracy'] == pytest.approx(10 / 20)


def test_budgets_are_powers_of_two_and_the_number_itself():
  got = eval_metrics.summary(table('x..', '...'))
  ks = {k for k in got if k.startswith('eval/pass@') and k[-1].isdigit()}
  assert ks == {'eval/pass@1', 'eval/pass@2', 'eval/pass@3'}
  assert got['eval/pass@3'] == pytest.approx(0.5)
  assert {k for k in got if k.startswith('eval/maj@')} == {
    'eval/maj@3', 'eval/maj@3_low', 'eval/maj@3_high',
  }  # fmt: skip
  assert eval_metrics.powers(1024)[-2:] == [512, 1024]
  assert eval_metrics.powers(1500)[-1] == 1024
  assert eval_metrics.powers(1) == [1]


@pytest.mark.parametrize(
  ('texts', 'marks', 'right'),
  [
    (['7', '7', '8'], 'xx.', 1),
    (['8', '8', '7'], '..x', 0),
    (['8', '7.0', '7'], '.xx', 1),  # equal numbers are one answer
    (['8', '7', '9'], '.x.', 0),  # a tie goes to the first
    (['7', '8', '9'], 'x..', 1),
    (['none', 'none', '7'], '..x', 1),  # no answer is no vote
    (['none', 'none', 'none'], '...', 0),
  ],
)
def test_majority_vote_by_hand(texts, marks, right):
  got = eval_metrics.summary(table(marks, texts=[texts]))
  assert got['eval/maj@3'] == right


def test_a_vote_of_few_is_the_mean_over_blocks():
  """Samples 7 7 8 8 | 8 8 7 7: a tie each, to the first."""
  texts = [['7', '7', '8', '8', '8', '8', '7', '7']]
  got = eval_metrics.summary(table('xx....xx', texts=texts))
  assert got['eval/maj@4'] == 0.5
  assert got['eval/maj@8'] == 1.0


def test_confidences_weigh_votes():
  """A A A B B with .3 .2 .2 .6 .9, B right: only the plain vote errs."""
  got = eval_metrics.summary(
    table(
      '...xx',
      texts=[list('11122')],
      confidences=[[0.3, 0.2, 0.2, 0.6, 0.9]],
    )
  )
  assert got['eval/maj@5'] == 0
  assert got['eval/weighted_maj@5'] == 1
  assert got['eval/max_confidence@5'] == 1
  # Without confidences there is one vote.
  plain = eval_metrics.summary(table('...xx', texts=[list('11122')]))
  assert not any('weighted' in k or 'max_conf' in k for k in plain)


def test_calibration_of_those_who_state_a_confidence():
  """The known answer of `calibration`, plus two that state none."""
  q = [[0.95, 0.55], [0.95, 0.55], [0.95, 0.15], [0.95, 0.15], [None, None]]
  got = eval_metrics.summary(table('xx', 'x.', 'x.', '..', 'xx', confidences=q))
  for name, value in {
    'confidence_stated': 0.8,
    'mean_confidence': (4 * 0.95 + 2 * 0.55 + 2 * 0.15) / 8,
    'ece': 0.15,
    'brier': 0.1825,
    'auroc': 0.8125,
    'aurc': 1 / 3,
  }.items():
    assert got[f'eval/{name}'] == pytest.approx(value), name
    assert got[f'eval/{name}_low'] <= value <= got[f'eval/{name}_high']
  bins = got['curves/reliability']
  assert bins['count'] == [0, 2, 0, 0, 0, 2, 0, 0, 0, 4]
  assert got['curves/risk_coverage']['coverage'] == [0.5, 0.75, 1]


def test_auroc_without_errors_is_nan_with_no_interval():
  q = [[0.9, 0.4], [0.3, 0.2]]
  got = eval_metrics.summary(table('xx', 'xx', confidences=q))
  ends = [got[f'eval/auroc{e}'] for e in ('', '_low', '_high')]
  assert np.isnan(ends).all()
  assert got['eval/brier'] == pytest.approx((0.01 + 0.36 + 0.49 + 0.64) / 4)


def test_intervals_are_those_of_the_bootstrap_over_problems():
  rng = np.random.default_rng(0)
  rows = [''.join(rng.choice(list('x.'), 3)) for _ in range(12)]
  made = table(*rows)
  got = eval_metrics.summary(made, seed=5)
  right = made.right.mean(-1)[:, None]
  drawn = intervals.draws(lambda w: w @ right / 12, 12, seed=5)
  low, high = np.ravel(intervals.percentiles(drawn))
  assert got['eval/accuracy_low'] == pytest.approx(low)
  assert got['eval/accuracy_high'] == pytest.approx(high)


def test_statistics_of_weights_are_those_of_repeated_problems():
  rng = np.random.default_rng(1)
  rows = [''.join(rng.choice(list('x.'), 4)) for _ in range(4)]
  q = rng.integers(0, 11, (4, 4)) / 10
  names, of_weights = eval_metrics.statistics(
    table(*rows, confidences=q.tolist())
  )
  at = [0, 0, 2, 3]
  again, of_ones = eval_metrics.statistics(
    table(*(rows[i] for i in at), confidences=q[at].tolist())
  )
  assert names == again
  np.testing.assert_allclose(
    of_weights(np.array([2.0, 0, 1, 1])), of_ones(np.ones(4))
  )


def test_solve_rates_have_zero_apart():
  right = np.arange(10)[None] < np.array([0, 0, 1, 2, 3, 7, 10])[:, None]
  assert eval_metrics.solve_rates(right).tolist() == [
    2,
    1,
    1,
    1,
    0,
    0,
    0,
    1,
    0,
    0,
    1,
  ]
  # One of twenty is above 0.
  assert eval_metrics.solve_rates(np.arange(20)[None] < 1).tolist()[:2] == [
    0,
    1,
  ]


def test_words_of_uncertainty_are_counted_per_sample():
  texts = [['Wait, maybe 7', '7'], ['hmm 7', '7']]
  got = eval_metrics.summary(table('x.', 'x.', texts=texts))
  assert got['eval/uncertainty_words'] == 3 / 4
  assert got['eval/uncertainty_words_low'] == 0.5  # of the second task alone
  assert got['eval/uncertainty_words_high'] == 1


def test_bootstrap_is_over_tasks_and_fixed_by_the_seed():
  rows = ['x' * 4] * 5 + ['.' * 4] * 5
  a, b = (eval_metrics.summary(table(*rows), seed=3) for _ in range(2))
  assert a == b
  # Ten tasks, not forty independent samples: 0.5 +- 1.96 sqrt(0.25 / 10).
  assert a['eval/accuracy_low'] == pytest.approx(0.19, abs=0.06)
  assert a['eval/accuracy_high'] == pytest.approx(0.81, abs=0.06)
  # Where all tasks agree there is no doubt to resample.
  sure = eval_metrics.summary(table('x.', '.x'))
  assert sure['eval/accuracy_low'] == sure['eval/accuracy_high'] == 0.5


def test_other_rates_are_means_over_samples():
  store = table('x?', '.?')
  store.stop[0, 0], store.tokens[0, 0] = enums.Stop.LENGTH, 7
  got = eval_metrics.summary(store)
  assert got['eval/unverifiable'] == 0.5
  assert got['eval/clipped_ratio'] == 0.25
  assert got['eval/mean_length'] == (7 + 3 * 3) / 4
  # 1.5 nats a sample, over all of the 16 tokens.
  assert got['eval/sampled_entropy'] == pytest.approx(4 * 1.5 / 16)


@pytest.mark.parametrize('count', [1, 2, 5, 8])
def test_all_names_that_an_evaluation_has_were_possible(count):
  numbers = ('eval/n', 'eval/samples')
  names = lambda store: [
    k for k in eval_metrics.summary(store) if k.startswith('eval/')
  ]
  plain = table('x' * count, '.' * count)
  known = eval_metrics.possible(count)
  assert set(names(plain)) - {*numbers} <= set(known)
  assert 'eval/accuracy' in known
  assert ('eval/pass@2' in known) == (count >= 2)
  assert 'eval/pass@16' not in known
  assert not [k for k in known if 'won_within' in k or 'strategy' in k]
  stated = table('x' * count, confidences=[[0.5] * count])
  assert [k for k in names(stated) if k not in numbers] == known
  task = TASK._replace(data={'strategy': 'direct', 'terms': 2})
  metrics = table('x' * count, texts=[['#### 1'] * count], task=task)
  with_them = eval_metrics.possible(count, strategies=True)
  assert set(names(metrics)) - {*numbers} <= set(with_them)
  games = table('x' * count, '.' * count)
  for most in (1, 3, 6, 7):
    games.turns[:] = most
    known = eval_metrics.possible(count, turns=7)
    assert set(names(games)) - {*numbers} <= set(known)
  assert 'eval/won_within@8' not in known


def test_what_keep_best_makes_largest():
  scores = {'eval/ece': 0.25}
  assert eval_metrics.score(scores, 'eval/ece') == 0.25
  assert eval_metrics.score(scores, '-eval/ece') == -0.25
  assert eval_metrics.score(scores, '-eval/maj@8') is None
  assert eval_metrics.score(scores, '') is None


def test_cot_decoding_takes_the_candidate_with_the_largest_gap():
  """By hand; -1: no answer was located, fault 1: the branch is dropped."""
  candidates = table('.x.x', 'x.x.', '.xxx')
  candidates.gap[:] = [[0.2, 0.9, 0.9, 0.9], [0.5, 0.75, -1, 1.0], [-1] * 4]
  candidates.fault[:] = 0
  candidates.fault[1, 3] = 1
  got = eval_metrics.summary(candidates)
  # Rank 0, then ranks 1, 1 and, where there is no answer at all, 0 again.
  assert got['eval/cot_decoding@1'] == pytest.approx(1 / 3)
  for k in (2, 4):
    assert got[f'eval/cot_decoding@{k}'] == pytest.approx(1 / 3)
    # Chosen gaps 0.9 and 0.75, of a right and of a wrong answer.
    want = (0.1 + 0.75) / 2
    assert got[f'eval/cot_decoding_ece@{k}'] == pytest.approx(want)
  assert got['eval/cot_decoding_ece@1'] == pytest.approx((0.2 + 0.5) / 2)
  assert got['eval/branches/end'] == pytest.approx(1 / 12)
  assert got['eval/branches/junk'] == 0
  assert got['eval/answer_located'] == pytest.approx(7 / 12)
  # The right answer of the second problem's third candidate has no gap.
  candidates.gap[1, 2] = 0.8
  got = eval_metrics.summary(candidates)
  assert got['eval/cot_decoding@2'] == pytest.approx(1 / 3)
  assert got['eval/cot_decoding@4'] == pytest.approx(2 / 3)
  low, high = (got[f'eval/cot_decoding@4_{end}'] for end in ('low', 'high'))
  assert low < 2 / 3 < high


def test_calibration_of_the_answer_gap():
  """Six answers of ten bins: the calibration error is 1/3."""
  answers = table('xx.x..')
  answers.gap[:] = [0.95, 0.85, 0.85, 0.65, 0.55, 0.35]
  got = eval_metrics.summary(answers)
  assert got['eval/answer_gap_ece'] == pytest.approx(0.333333, abs=1e-6)
  assert got['eval/answer_gap'] == pytest.approx(0.7)
  assert got['eval/answer_located'] == 1
  assert got['eval/answer_gap_auroc'] == pytest.approx(7.5 / 9)
  assert 'eval/cot_decoding@1' not in got
  answers.gap[:] = -1
  got = eval_metrics.summary(answers)
  assert got['eval/answer_located'] == 0
  assert 'eval/answer_gap' not in got


def test_names_of_signals_and_branches_are_possible():
  candidates = table('.x.x', 'x.x.')
  candidates.gap[:], candidates.fault[:] = 0.5, 0
  got = {k for k in eval_metrics.summary(candidates) if k.startswith('eval/')}
  names = set(eval_metrics.possible(4, signals=True, branch=True))
  assert got - {'eval/n', 'eval/samples'} <= names
  assert not any('cot' in name for name in eval_metrics.possible(4))
