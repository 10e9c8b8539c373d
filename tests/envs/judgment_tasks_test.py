"""Tasks of a judge: sides, splits, traces, verdicts."""

import json

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.envs import comparisons, judgment_tasks
from rlvr_jax.verifiers import dispatch

PAIRS = 'comparisons(max_value=60, train_size=1000, test_size=5)'


def tasks(split='train', pairs=PAIRS, **options):
  options = {'format': 'letter'} | options
  env = judgment_tasks.judgments(pairs=registry.Spec(pairs), **options)
  return list(env[split])


def test_comparisons_are_all_pairs_once():
  env = comparisons.comparisons(max_value=9, train_size=40, test_size=5)
  seen = set()
  for task in [*env['train'], *env['test']]:
    a, b = int(task.data['chosen']), int(task.data['rejected'])
    assert a > b
    seen.add((a, b))
  assert len(seen) == 45


def test_numbers_are_written_as_sums():
  env = comparisons.comparisons(max_value=30, terms=3, test_size=20)
  value = lambda text: sum(map(int, text.split('+')))
  for task in env['test']:
    sides = [task.data['chosen'], task.data['rejected']]
    assert all(text.count('+') == 2 for text in sides)
    assert value(sides[0]) > value(sides[1])
    assert task.data['worth'] == {x: str(value(x)) for x in sides}
  with pytest.raises(ValueError, match='terms'):
    comparisons.comparisons(terms=0)


def test_a_judge_can_imitate_a_thought():
  for task in tasks(pairs='comparisons(terms=2, test_size=5)', think=True)[:9]:
    _, a, b = task.question.split('\n')
    worth = [sum(map(int, x[3:].split('+'))) for x in (a, b)]
    letter = 'AB'[worth[1] > worth[0]]
    said = f'<think>{worth[0]} {worth[1]}</think>{letter}'
    assert task.data['solution'] == said
    assert dispatch.verify([task], [said])[0] == enums.Verdict.CORRECT
  with pytest.raises(ValueError, match=r"has no data\['worth'\]"):
    tasks(pairs='answer_pairs(env=arithmetic(test_size=5))', think=True)
  with pytest.raises(ValueError, match='both say what to imitate'):
    tasks(think=True, traces='traces.jsonl')


def test_label_noise_flips_its_share_of_train_pairs():
  env = comparisons.comparisons(
    max_value=99, train_size=2000, test_size=200, label_noise=0.2
  )
  flipped = lambda split: [
    int(t.data['chosen']) < int(t.data['rejected']) for t in env[split]
  ]
  assert not any(flipped('test'))
  # 400 of 2,000; five standard deviations are 89.
  assert abs(sum(flipped('train')) - 400) < 90
  with pytest.raises(ValueError, match='label_noise'):
    comparisons.comparisons(label_noise=1.5)


def test_sides_are_balanced_and_the_same_every_time():
  train = tasks()
  first = sum(t.data['better'] == 0 for t in train)
  assert abs(first - 500) < 80  # five standard deviations of 1,000 coins
  assert [t.data for t in train] == [t.data for t in tasks()]
  assert [t.data for t in train] != [t.data for t in tasks(seed=1)]
  for task in train[:20]:
    _, a, b = task.question.split('\n')
    larger = int(a[3:]) > int(b[3:])
    assert task.data['better'] == (0 if larger else 1)
    assert task.answer == 'AB'[task.data['better']]
    assert task.id.endswith(f'-{task.data["better"] + 1}')
  assert {t.answer for t in tasks(sides='first')} == {'A'}
  assert {t.answer for t in tasks(sides='second')} == {'B'}
  both = tasks(sides='both')
  assert len(both) == 2000
  assert [t.answer for t in both[:4]] == ['A', 'B', 'A', 'B']


def test_test_tasks_are_both_orders_of_each_pair():
  test = tasks('test', hint=True)
  assert [t.answer for t in test] == ['A', 'B'] * 5
  assert len({t.data['pair'] for t in test}) == 5
  assert len({t.id for t in test}) == 10
  assert not any('Hint' in t.question for t in test)
  assert all('Hint' in t.question for t in tasks(hint=True)[:5])


def test_verdicts():
  task = tasks()[0]
  right, wrong = task.answer, 'BA'['AB'.index(task.answer)]
  assert dispatch.verify([task] * 3, [right, wrong, 'neither']) == [
    enums.Verdict.CORRECT,
    enums.Verdict.WRONG,
    enums.Verdict.NO_ANSWER,
  ]
  scored = tasks(format='grm')[0]
  better = '\\boxed{9, 2}' if scored.data['better'] == 0 else '\\boxed{2, 9}'
  assert dispatch.verify([scored] * 2, [better, '\\boxed{7, 7}']) == [
    enums.Verdict.CORRECT,
    enums.Verdict.WRONG,
  ]
  said = dispatch.feedback([task], ['neither'], [enums.Verdict.NO_ANSWER])
  assert 'form' in said[0]


def test_a_format_with_a_system_message_keeps_it():
  task = tasks(format='rm_r1')[0]
  assert [m['role'] for m in task.data['messages']] == ['system', 'user']
  assert task.data['messages'][1]['content'] in task.question


def test_balance_is_reported():
  train = tasks()
  texts = [t.answer for t in train[:-1]] + ['?']
  got = judgment_tasks.usage(train, texts)
  share = sum(t.data['better'] == 0 for t in train) / 1000
  assert got['judge/label_first'] == share
  assert got['judge/unreadable'] == pytest.approx(1 / 1000)
  assert abs(got['judge/first'] - share) < 0.01
  plain = registry.get('env', 'arithmetic()')()['test'][0]
  assert judgment_tasks.usage([plain], ['7']) == {}


@pytest.fixture
def traces(tmp_path):
  def write(rows):
    path = tmp_path / 'traces.jsonl'
    path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
    return str(path)

  return write


def test_right_traces_are_imitated(traces):
  a, b, c, d = tasks()[:4]
  flip = {'A': 'B', 'B': 'A'}
  rows = [
    {'id': a.id, 'completion': f'<think>no</think>{flip[a.answer]}'},
    {'id': a.id, 'completion': f'<think>yes</think>{a.answer}'},
    {'id': b.id, 'completion': flip[b.answer]},
    {'id': c.id, 'completion': c.answer},
    {'id': c.id, 'completion': f' {c.answer}'},
    {'id': d.id, 'completion': 'unreadable'},
    {'id': 'another run', 'completion': 'A'},
  ]
  path = traces(rows)
  got = tasks(traces=path)
  assert [t.id for t in got] == [a.id, c.id]
  assert got[0].data['solution'] == f'<think>yes</think>{a.answer}'
  # All of c's were right: too easy.
  assert [t.id for t in tasks(traces=path, drop_easy=True)] == [a.id]
  assert len(tasks('test', traces=path)) == 10
  # A hinted run has the same ids: its traces serve prompts without the hint.
  assert [t.id for t in tasks(hint=True)[:4]] == [a.id, b.id, c.id, d.id]


@pytest.mark.parametrize(
  ('options', 'says'),
  [
    ({'sides': 'left'}, 'random, both, first, second'),
    ({'format': 'rm_r2'}, 'format: Unknown judge'),
    ({'pairs': 'arithmetic()'}, 'an environment of pairs'),
    ({'drop_easy': True}, 'give a file'),
    ({'traces': 'missing.jsonl'}, 'traces: There is no file'),
  ],
)
def test_refused(options, says):
  with pytest.raises(ValueError, match=says):
    tasks(**options)


def test_useless_traces_are_refused(traces):
  for rows, says in (
    ([{'id': 'x', 'completion': 'A'}], 'none of its 1 rows'),
    ([{'id': 'x'}], 'completion=None is not a string'),
  ):
    with pytest.raises(ValueError, match=says):
      tasks(traces=traces(rows))
