"""Majority labels: the vote, the label file, the join with tasks."""

import json

import pytest

from rlvr_jax.envs import labels
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import answer
from rlvr_jax.verifiers.extraction import extract

SHARED = {'model.name': 'tiny()', 'system_prompt': ''} | {
  f'verifier.{key}': value for key, value in extract.RULES._asdict().items()
}
MADE_WITH = {**SHARED, 'env': 'arithmetic()', 'seed': 0}


def task(i, gold='4', **kw):
  return Task(f'train-{i}', f'Q{i}?', gold, 'math', {'n': i})._replace(**kw)


TASKS = [task(0), task(1), task(2), task(3), task(4, '\\text{red}')]
COMPLETIONS = [
  ['it is 4', '4.0', '5'],  # right
  ['5', '5', '4'],  # wrong
  ['', 'none', 'words'],  # no answer
  ['4', '5', '5', '4'],  # a tie: the first answer wins
  ['<answer>blue</answer>', '<answer>Blue</answer>', '3'],  # wrong, in words
]


def env(tasks=TASKS):
  return {'train': tasks, 'test': ['held out']}


@pytest.fixture
def path(tmp_path):
  path = tmp_path / 'labels.jsonl'
  header = {'made_with': MADE_WITH, 'samples': 3, 'tasks': len(TASKS)}
  rows = [
    labels.line(t, texts, 3.0)
    for t, texts in zip(TASKS, COMPLETIONS, strict=True)
  ]
  labels.write(path, [header])
  labels.append(path, rows)
  return path


def attach(path, *specs, tasks=TASKS, **changed):
  return labels.attach(env(tasks), str(path), specs, {**SHARED, **changed})


def edit(path, number, **changed):
  rows = [json.loads(x) for x in path.read_text().splitlines()]
  rows[number] |= changed
  labels.write(path, rows)


@pytest.mark.parametrize(
  ('completions', 'want'),
  [
    (['so 0.5', '\\boxed{\\frac12}', '1/2', '3', '3'], ('1/2', 3)),
    (['-1,000', '1000'], ('-1000', 1)),
    (['10%', '10', '10\\%'], ('10%', 2)),
    (['\\boxed{x+1}', '$x + 1$', '2'], ('x+1', 2)),
    (['<answer>red</answer>', '\\boxed{Red}'], ('\\text{red}', 2)),
    (['\\boxed{(B)}', '\\boxed{B}', '\\boxed{b}'], ('\\text{B}', 3)),
    (['<answer>do not know!</answer>'], (None, 0)),
    (['4', '5'], ('4', 1)),
    (['', 'none'], (None, 0)),
    ([], (None, 0)),
    (['\\boxed{' + '(' * 9000, '4'], ('4', 1)),
  ],
)
def test_the_majority_label_accepts_all_completions_that_voted_for_it(
  completions, want
):
  _, label, votes = labels.vote(completions)
  assert (label, votes) == want
  if label is not None:
    verdicts = answer.verify([label] * len(completions), completions)
    assert verdicts.count(0) >= votes


def test_votes_use_the_extraction_rules_of_the_verdict():
  completions = ['so 4', 'so 4', '#### 5']
  assert labels.vote(completions).label == '4'
  rules = extract.Rules(require_mark=True)
  assert labels.vote(completions, rules=rules).label == '5'
  cut = [True, True, False]
  assert labels.vote(completions, truncated=cut).label == '5'
  row = labels.line(task(0, '5'), completions, 3.0, truncated=cut)
  assert (row['answer'], row['votes'], row['right']) == ('5', 1, True)


def test_the_lines_say_whether_the_majority_is_right(path):
  header, rows = labels.load(path)
  assert header['made_with'] == MADE_WITH
  assert [row['answer'] for row in rows] == [
    '4',
    '5',
    None,
    '4',
    '\\text{blue}',
  ]
  assert [row['right'] for row in rows] == [True, False, None, True, False]
  assert [row['votes'] for row in rows] == [2, 2, 0, 2, 2]
  assert [row['samples'] for row in rows] == [3, 3, 3, 4, 3]


def test_a_letter_is_right_for_every_spelling_of_the_gold_answer():
  for gold in ('x', '\\text{x}', '\\text{X}'):
    row = labels.line(task(0, gold), ['\\boxed{x}'], 3.0)
    assert (row['answer'], row['right']) == ('\\text{x}', True)


def test_majority_keeps_the_tasks_that_have_one(path):
  out = attach(path, 'outcome', 'inverse(majority)')
  assert [t.id for t in out['train']] == [
    'train-0',
    'train-1',
    'train-3',
    'train-4',
  ]
  assert out['test'] == ['held out']
  first, second = out['train'][:2]
  assert first.data == {'n': 0, 'label': '4', 'label_right': True}
  assert second.data == {'n': 1, 'label': '5', 'label_right': False}
  # The gold answer, the question and the original task are unchanged.
  assert [t._replace(data={}) for t in out['train'][:2]] == [
    t._replace(data={}) for t in TASKS[:2]
  ]
  assert TASKS[0].data == {'n': 0}


def test_incorrect_keeps_the_tasks_whose_majority_is_known_to_be_wrong(path):
  for specs in (['incorrect'], ['all_of(outcome, incorrect)', 'majority']):
    train = attach(path, *specs)['train']
    assert [t.id for t in train] == ['train-1', 'train-4']
  edit(path, 2, right=None)
  assert [t.id for t in attach(path, 'incorrect')['train']] == ['train-4']


def test_the_join_is_by_id_and_some_tasks_may_have_no_label(path):
  tasks = [task(9), *TASKS[::-1]]
  train = attach(path, 'majority', tasks=tasks)['train']
  assert [t.id for t in train] == ['train-4', 'train-3', 'train-1', 'train-0']


def test_without_label_rewards_the_environment_is_unchanged():
  same = env()
  assert labels.attach(same, '', ['outcome'], SHARED) is same


def refused(message, path, *specs, **kw):
  with pytest.raises(ValueError, match=message):
    attach(path, *(specs or ['majority']), **kw)


def test_rewards_without_labels_and_labels_without_rewards_are_refused(path):
  refused(r'reward majority needs labels.*scripts/label\.py', '')
  refused('reward incorrect needs labels', '', 'inverse(all_of(incorrect))')
  refused('no reward of .* reads labels', path, 'outcome')


def test_a_file_that_does_not_fit_is_refused(path, tmp_path):
  refused('cannot be read', tmp_path / 'nowhere')
  refused(
    "model.name: 'tiny.*' in the file, 'smollm2' in the config",
    path,
    **{'model.name': 'smollm2'},
  )
  refused("system_prompt: '' in the file", path, system_prompt='Think.')
  refused("labels other tasks .* 'train-4' is missing", path, tasks=TASKS[:4])
  other = [*TASKS[:2], task(2, '77'), *TASKS[3:]]
  refused("labels other tasks .* 'train-2' .*another q", path, tasks=other)
  gym = [*TASKS[:2], task(2, verifier='countdown'), *TASKS[3:]]
  refused("'train-2' has the verifier 'countdown'", path, tasks=gym)


def test_a_file_that_is_unfinished_or_broken_is_refused(path):
  whole = path.read_text()
  path.write_text(whole[:-5])  # the last line is incomplete
  refused('labels of 4 of 5 tasks: run the command', path)
  path.write_text(whole + whole.splitlines()[-1] + '\n')
  refused('labels a task twice', path)
  path.write_text(whole + '{"id": 3}\n')
  refused('line 7 is not a line of a label file', path)
  typed = whole.replace('"answer": "5"', '"answer": 5')
  path.write_text(typed)
  refused('line 3 is not a line of', path)
  path.write_text('{"made_with": 1, "tasks": 1}\n')
  refused('line 1 is not a line of', path)
  path.write_text('[' * 5000 + '\n')
  refused('line 1 is not a line of', path)
  path.write_text('')
  refused('is empty', path)
  path.write_bytes(b'\xff\n')
  refused('cannot be read', path)


def test_a_file_without_a_label_to_train_on_is_refused(path):
  for number in (2, 5):
    edit(path, number, right=True)
  refused('None of the 5 tasks .* has a label that is wrong', path, 'incorrect')
  for number in range(1, 6):
    edit(path, number, answer=None)
  refused('None of the 5 tasks .* has a label: label more', path)


def test_a_label_that_is_not_a_valid_gold_answer_is_refused(path):
  edit(path, 1, answer='apples')
  refused("'apples' cannot be used", path)
