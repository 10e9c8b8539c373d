"""Two tables of samples: differences, solvable sets, and the page."""

import numpy as np
import pytest

from rlvr_jax import enums
from rlvr_jax.evaluation import compare, eval_metrics, sample_store
from rlvr_jax.stats import coverage, intervals

IDS = [f't{i}' for i in range(6)]


def table(*rows, confidence=None):
  """A row of marks for each task, x for a right one."""
  right = np.array([[mark == 'x' for mark in row] for row in rows])
  made = sample_store.Samples(IDS[: len(rows)], right.shape[1]).table
  made.verdict[:] = np.where(right, enums.Verdict.CORRECT, enums.Verdict.WRONG)
  made.stop[:], made.tokens[:], made.surprisal[:] = enums.Stop.END, 4, 2.0
  made.answer[:] = ~right
  if confidence is not None:
    made.confidence[:] = confidence
  return made


# The base finds everything now and then; the other, three of them surely.
BASE = table('x...', '.x..', '..x.', '...x', 'xx..', '....')
OTHER = table('xxxx', 'xxxx', '....', '....', 'xxxx', '....')


def test_a_policy_does_not_differ_from_itself():
  got = compare.compare(BASE, BASE, IDS)
  for name, m in got['metrics'].items():
    assert (m['difference'], m['low'], m['high']) == (0, 0, 0), name
  assert got['crossover'] == {'k': 1, 'low': 1, 'high': 1, 'share': 1}
  assert got['coverage']['gained'] == got['coverage']['lost'] == []


def test_numbers_of_both_sides_by_hand():
  got = compare.compare(BASE, OTHER, IDS)
  assert (got['n'], got['samples'], got['k']) == (6, 4, 4)
  accuracy = got['metrics']['accuracy']
  assert accuracy['base'] == pytest.approx(6 / 24)
  assert accuracy['other'] == pytest.approx(12 / 24)
  assert accuracy['difference'] == pytest.approx(6 / 24)
  a, b = BASE.right.mean(-1), OTHER.right.mean(-1)
  gain = (b - a)[:, None]
  drawn = intervals.draws(lambda w: w @ gain / 6, 6, seed=0)
  want = np.ravel(intervals.percentiles(drawn))
  assert (accuracy['low'], accuracy['high']) == pytest.approx(want)
  # pass@2 is (4 x .5 + 5/6) / 6 against .5: behind; pass@4 is 5/6: ahead.
  assert got['curves']['base']['k'] == [1, 2, 4]
  assert got['curves']['base']['value'] == pytest.approx([0.25, 17 / 36, 5 / 6])
  assert got['curves']['other']['value'] == pytest.approx([0.5] * 3)
  assert got['crossover']['k'] == 4
  assert got['delta_se']['k'] == 4
  assert got['delta_se']['value'] == pytest.approx(5 / 6 - 0.5)
  assert got['coverage'] == {
    'kept': ['t0', 't1', 't4'],
    'lost': ['t2', 't3'],
    'gained': [],
    'neither': ['t5'],
  }


def test_fewer_samples_solve_less():
  got = compare.compare(BASE, OTHER, IDS, k=2)
  assert got['coverage']['kept'] == ['t0', 't1', 't4']
  assert got['coverage']['lost'] == []
  assert got['delta_se']['k'] == 2
  one = compare.compare(BASE, OTHER, IDS, k=1)['coverage']
  assert (one['kept'], one['gained']) == (['t0', 't4'], ['t1'])


def test_the_interval_of_the_crossover_is_that_of_its_resamples():
  # The other way round: only resamples without t2 and t3 have one.
  got = compare.compare(OTHER, BASE, IDS, seed=3)['crossover']
  assert got['k'] == np.inf
  ks = [1, 2, 4]
  each = np.stack([eval_metrics.pass_at(t, ks) for t in (OTHER, BASE)], 1)
  drawn = intervals.draws(lambda w: w @ each.reshape(6, -1) / 6, 6, seed=3)
  stars = coverage.crossover(ks, drawn[:, :3], drawn[:, 3:])
  assert got['share'] == pytest.approx(np.isfinite(stars).mean())
  assert 0 < got['share'] < 1
  ends = np.quantile(stars, [0.025, 0.975], method='nearest')
  assert (got['low'], got['high']) == tuple(ends)


def test_one_greedy_sample_has_no_budgets():
  got = compare.compare(table(*'x.x.'), table(*'xxx.'), IDS[:4])
  assert got['metrics']['accuracy']['difference'] == pytest.approx(0.25)
  assert 'crossover' not in got
  assert got['curves']['base']['k'] == []
  assert got['coverage']['gained'] == ['t1']
  assert 'crossover' not in compare.html(got, ('a', 'b'))


def test_undefined_stays_undefined_and_only_shared_metrics_are_compared():
  sure = table('xx', 'xx', confidence=0.5)
  mixed = table('x.', 'xx', confidence=[[0.9, 0.1], [0.9, 0.8]])
  got = compare.compare(sure, mixed, IDS[:2])['metrics']
  auroc = got['auroc']
  assert np.isnan([auroc[k] for k in ('base', 'difference', 'low')]).all()
  assert auroc['other'] == pytest.approx(1)
  assert got['brier']['difference'] == pytest.approx(
    (0.01 + 0.01 + 0.01 + 0.04) / 4 - 0.25
  )
  silent = compare.compare(sure, table('x.', 'xx'), IDS[:2])['metrics']
  assert 'auroc' not in silent
  assert 'accuracy' in silent


@pytest.mark.parametrize(
  ('other', 'k', 'says'),
  [
    (table('x'), None, 'same tasks and number'),
    (OTHER, 5, 'k=5 must be from 1 to the 4'),
    (OTHER, 0, 'k=0'),
  ],
)
def test_what_cannot_be_compared_is_refused(other, k, says):
  with pytest.raises(ValueError, match=says):
    compare.compare(BASE, other, IDS, k=k)


def test_median_over_responses_draws_whole_tasks():
  values = np.array([1, 10, 2, 20, 3, 30.0])  # three rounds of two tasks
  got = compare.median(values, 2)
  # Twice the first task, both, twice the second.
  assert got == {'median': 6.5, 'low': 2, 'high': 20, 'n': 6}
  values[:2] = np.nan
  assert compare.median(values, 2)['n'] == 4
  assert np.isnan(compare.median(np.full(4, np.nan), 2)['median'])


def test_page_names_both_and_escapes():
  got = compare.compare(BASE, OTHER, ['<b>x</b>', *IDS[1:]])
  got['perplexity'] = {'base_under_other': compare.median([1.5] * 4, 2)}
  page = compare.html(got, ('old', 'new'))
  for text in (
    'old against new',
    '6 problems x 4 samples',
    '+0.25',
    'crossover k*',
    '2 only old solves',
    'perplexity of base under other',
    '&lt;b&gt;x&lt;/b&gt;',
  ):
    assert text in page, text
  assert '<b>x' not in page
  assert page.count('<img ') == 1
