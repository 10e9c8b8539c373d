"""Rewards that are not about being right."""

import json
import time

import numpy as np
import pytest

from rlvr_jax import codes, registry
from rlvr_jax.envs import labels
from rlvr_jax.envs.core import Task
from rlvr_jax.rewards import core, spurious

BOX = r'so \boxed{4}'
PYTHON = 'import os  # Python'


def said(text, verdict=codes.Verdict.WRONG, tokens=3):
  return core.Transcript(text, tokens, codes.Stop.END, verdict)


def task(i=0, **data):
  return Task(f'train-{i}', '2+2', '4', 'math', data)


def values(spec, *texts, **kw):
  rows = [said(t) if isinstance(t, str) else t for t in texts]
  graded = registry.get('reward', spec)([task(**kw)] * len(rows), rows)
  return [g.value for g in graded]


def test_random_has_its_rate_and_repeats_itself():
  texts = ['same words'] * 4000
  got = values('random(p=0.3)', *texts)
  assert set(got) == {0.0, 1.0}
  assert np.mean(got) == pytest.approx(0.3, abs=0.03)
  assert got == values('random(p=0.3)', *texts)
  assert got != values('random(p=0.3, seed=1)', *texts)
  assert values('random(p=0.0)', *texts[:99]) == [0.0] * 99
  assert values('random(p=1.0)', *texts[:99]) == [1.0] * 99


def test_random_is_no_function_of_a_row_s_own_words():
  """The same words get other draws when any other row changes."""
  before = values('random', *['x'] * 200)
  after = values('random', *['x'] * 199, 'y')
  assert 60 < sum(a != b for a, b in zip(before, after)) < 140
  # Ids count as well, so equal completions of other tasks draw anew.
  rows = [said('x')] * 200
  other = registry.get('reward', 'random')([task(7)] * 200, rows)
  assert [g.value for g in other] != before


def test_random_rejects_what_is_no_probability():
  for p in (-0.1, 1.5, float('nan')):
    with pytest.raises(ValueError, match='p'):
      values(f'random(p={p})' if p == p else "random(p='nan')", 'x')


def test_contains_ignores_case():
  assert values('contains(python)', PYTHON, 'PYTHON', 'pyth on') == [1, 1, 0]
  with pytest.raises(ValueError, match='some length'):
    values("contains('')", 'x')


@pytest.mark.parametrize(
  ('text', 'value'),
  [
    ('abcdefghij' * 10, 0.0),
    ('abcdefghij' * 9, 1.0),
    ('abcdefghij' * 9 + 'abcdefghi', 1.0),
    ('x' + 'abcdefghij' * 10 + 'y', 0.0),
    ('ab' * 50, 0.0),  # ten characters ten times, too
    ('ab' * 49, 1.0),
    (''.join(chr(33 + i) for i in range(90)) * 10, 0.0),
    (''.join(chr(1000 + i) for i in range(257)) * 12, 1.0),  # too long
    ('', 1.0),
    ('\ud800' * 100, 0.0),  # half a character
  ],
)
def test_no_repetition(text, value):
  assert values('no_repetition', text) == [value]


def test_no_repetition_is_quick_on_a_megabyte():
  rng = np.random.default_rng(0)
  text = ''.join(map(chr, rng.integers(32, 127, 10**6)))
  start = time.perf_counter()
  assert not spurious.repeats(text)
  assert time.perf_counter() - start < 60  # seconds; it takes a fraction of one


def test_inverse_and_all_of_by_hand():
  assert values('inverse(format(boxed))', BOX, 'no box') == [0, 1]
  assert values('inverse(inverse(format(boxed)))', BOX, 'x') == [1, 0]
  spec = 'all_of(format(boxed), contains(python))'
  both = BOX + PYTHON
  assert values(spec, BOX, PYTHON, both, 'x') == [0, 0, 1, 0]
  spec = 'all_of(format(boxed), inverse(contains(python)))'
  assert values(spec, BOX, PYTHON, both, 'x') == [1, 0, 0, 0]


def test_parts_inside_keep_their_names_and_refusals():
  func = registry.get('reward', "all_of(outcome(unverifiable='refuse'))")
  row = said('?', codes.Verdict.UNVERIFIABLE)
  (graded,) = func([task()], [row])
  assert graded.refused
  func = registry.get('reward', 'all_of(outcome, format(boxed))')
  (graded,) = func([task()], [said(BOX, codes.Verdict.CORRECT)])
  assert graded.parts == {'outcome': 1.0, 'format': 1.0}


@pytest.mark.parametrize(
  'spec',
  ['inverse(formt(boxed))', 'all_of(outcome, contain(python))', 'all_of()'],
)
def test_bad_specs_inside_are_refused(spec):
  with pytest.raises(ValueError, match=r'Unknown reward|needs'):
    values(spec, 'x')


def test_nested_specs_are_not_evaluated():
  with pytest.raises(ValueError, match='Unknown reward'):
    registry.get('reward', "inverse(__import__('os'))")
  deep = 'inverse(' * 200 + 'outcome' + ')' * 200
  with pytest.raises(ValueError, match=r'Bad spec|Unknown|deep'):
    registry.get('reward', deep)


def test_needs_are_seen_inside_others():
  assert core.needs_signals(['outcome', 'inverse(self_certainty)'])
  assert not core.needs_signals(['outcome', 'contains(self_certainty)'])
  assert core.needs_labels(['all_of(majority, inverse(incorrect))']) == [
    'incorrect',
    'majority',
  ]
  assert core.needs_labels(['contains(majority)']) == []


# --- labels ---------------------------------------------------------------

HEADER = {'model': 'tiny()', 'samples': 4}


def write(path, *lines, cut=''):
  rows = [json.dumps(line) + '\n' for line in (HEADER, *lines)]
  path.write_text(''.join(rows) + cut)
  return path


def line(i, answer, right=False):
  return {
    'index': i,
    'id': f'train-{i}',
    'answer': answer,
    'votes': 3,
    'samples': 4,
    'right': right,
  }


def test_labels_reward_agreement_and_leave_the_truth(tmp_path):
  tasks = [task(i) for i in range(4)]
  path = write(
    tmp_path / 'l.jsonl',
    line(0, '5'),
    line(2, '4', right=True),
    line(3, None),
    cut='{"index',
  )
  wrong = labels.attach(tasks, path, ['incorrect'])
  assert [t.id for t in wrong] == ['train-0']
  voted = labels.attach(tasks, path, ['majority'])
  assert [t.id for t in voted] == ['train-0', 'train-2']
  assert {t.answer for t in voted} == {'4'}
  rows = [said('#### 5'), said('#### 4')]
  func = registry.get('reward', 'incorrect')
  assert [g.value for g in func([wrong[0]] * 2, rows)] == [1, 0]
  func = registry.get('reward', 'majority')
  assert [g.value for g in func([voted[1]] * 2, rows)] == [0, 1]
  with pytest.raises(ValueError, match=r'scripts/label\.py'):
    func([task()], rows[:1])


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    ([line(0, '4', right=True)], 'no task with a label'),
    ([line(9, '5')], 'there are 4 tasks'),
    ([line(0, '5') | {'id': 'train-1'}], "labels 'train-1' at place 0"),
    ([{'index': 0}], 'line 2'),
  ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, lines, message):
  path = write(tmp_path / 'l.jsonl', *lines)
  with pytest.raises(ValueError, match=message):
    labels.attach([task(i) for i in range(4)], path, ['incorrect'])


def test_a_missing_file_of_labels_names_the_remedy(tmp_path):
  with pytest.raises(ValueError, match=r'scripts/label\.py'):
    labels.read(tmp_path / 'none.jsonl')
