"""A user's file: splits by question, and errors that name lines."""

import json

import pytest

from rlvr_jax import registry
from rlvr_jax.envs import jsonl


def write(path, rows):
  path.write_text(
    ''.join(r if isinstance(r, str) else json.dumps(r) + '\n' for r in rows)
  )
  return str(path)


def rows(n):
  return [{'question': f'What is {i} + 1?', 'answer': i + 1} for i in range(n)]


def get(path, **options):
  options = ''.join(f', {k}={v!r}' for k, v in options.items())
  return registry.get('env', f'jsonl(path={path!r}{options})')()


def test_tasks_keep_their_values(tmp_path):
  path = write(
    tmp_path / 'a.jsonl',
    [
      {'q': 'Half of one?', 'a': '\\frac{1}{2}'},
      '\n',
      {'q': 'Two?', 'a': 2, 'more': None},
      {'q': 'A quarter?', 'a': 0.25},
    ],
  )
  env = get(path, question_key='q', answer_key='a')
  tasks = {t.question: t for split in env.values() for t in split}
  assert {q: t.answer for q, t in tasks.items()} == {
    'Half of one?': '\\frac{1}{2}',
    'Two?': '2',
    'A quarter?': '0.25',
  }
  assert tasks['Two?'].id.endswith('-3')
  assert {t.verifier for t in tasks.values()} == {'math'}


def test_split_share_and_stability(tmp_path):
  few = get(write(tmp_path / 'few.jsonl', rows(300)), test_fraction=0.2)
  many = get(write(tmp_path / 'many.jsonl', rows(400)), test_fraction=0.2)
  assert len(few['train']) + len(few['test']) == 300
  assert 35 <= len(few['test']) <= 85
  # Adding rows moves no existing row to another split.
  in_test = {t.question for t in many['test']}
  assert {t.question for t in few['test']} <= in_test
  assert not {t.question for t in few['train']} & in_test


def test_repeated_questions_stay_together(tmp_path):
  data = rows(60)
  again = [{**r, 'question': f'  {r["question"].upper()} '} for r in data]
  env = get(write(tmp_path / 'a.jsonl', data + again), test_fraction=0.3)
  questions = {
    split: {jsonl.normal(t.question) for t in env[split]} for split in env
  }
  assert not questions['train'] & questions['test']
  assert len(env['train']) + len(env['test']) == 120
  assert len(questions['test']) * 2 == len(env['test'])


def test_small_files_get_both_splits(tmp_path):
  for n in 2, 3, 5:
    env = get(write(tmp_path / f'{n}.jsonl', rows(n)), test_fraction=0.01)
    assert (len(env['train']), len(env['test'])) == (n - 1, 1)
    env = get(write(tmp_path / f'{n}.jsonl', rows(n)), test_fraction=0.999)
    assert len(env['train']) >= 1


def test_two_files(tmp_path):
  train = write(tmp_path / 'a.jsonl', rows(9))
  test = write(tmp_path / 'b.jsonl', rows(12)[9:])
  env = get(train, test_path=test)
  assert [t.id for t in env['test']] == ['test-1', 'test-2', 'test-3']
  assert len(env['train']) == 9
  both = write(tmp_path / 'c.jsonl', rows(9)[4:6])
  with pytest.raises(ValueError, match=r'2 questions.*line 1 = line 5'):
    get(train, test_path=both)


def test_all_bad_rows_are_reported_at_once(tmp_path):
  path = write(
    tmp_path / 'bad.jsonl',
    [
      *rows(2),
      'not json\n',
      '[1]\n',
      {'question': 'no answer', 'answr': 1},
      {'question': 3, 'answer': 1},
      {'question': ' ', 'answer': 1},
      {'question': 'wrong type', 'answer': [1]},
      {'question': 'truth', 'answer': True},
      {'question': 'What is 0 + 1?', 'answer': '2'},
      {'question': 'unreadable', 'answer': ''},
    ],
  )
  with pytest.raises(ValueError, match='has 9 bad rows') as e:
    get(path)
  text = str(e.value)
  assert 'Line 3: is not JSON' in text
  assert 'Line 4: is a list' in text
  assert "Line 5: has no 'answer'. Did you mean 'answr'?" in text
  assert 'Line 6: question=3 is not a string' in text
  assert 'Line 7: question is empty' in text
  assert 'Line 8' not in text


@pytest.mark.parametrize(
  ('row', 'says'),
  [
    ({'question': 'a', 'answer': ['1']}, 'is not a string or a number'),
    ({'question': 'a', 'answer': True}, 'is not a string or a number'),
    ({'question': 'a', 'answer': '  '}, 'Line 2'),
    ({'question': 'What is 0 + 1?', 'answer': 2}, "'2' what line 1 .* '1'"),
  ],
)
def test_single_bad_rows(tmp_path, row, says):
  path = write(tmp_path / 'a.jsonl', [*rows(1), row])
  with pytest.raises(ValueError, match=says):
    get(path)


def test_files_that_hold_nothing(tmp_path):
  with pytest.raises(ValueError, match=r'no file .*nowhere\.jsonl'):
    get(str(tmp_path / 'nowhere.jsonl'))
  with pytest.raises(ValueError, match='is empty: write one JSON object'):
    get(write(tmp_path / 'empty.jsonl', ['\n']))
  with pytest.raises(ValueError, match='one question only'):
    get(write(tmp_path / 'one.jsonl', rows(1)))
  with pytest.raises(ValueError, match='needs path'):
    registry.get('env', 'jsonl')


@pytest.mark.parametrize('fraction', [0, 1, -0.1, True, 'x'])
def test_bad_fractions(tmp_path, fraction):
  path = write(tmp_path / 'a.jsonl', rows(3))
  with pytest.raises(ValueError, match='test_fraction='):
    get(path, test_fraction=fraction)


@pytest.mark.parametrize(
  ('one', 'other'),
  [
    ('18', 18.0),
    ('1/2', '0.5'),
    ('1,000', '1000'),
    ('\\frac{\\pi}{2}', '\\dfrac{\\pi}{2}'),
  ],
)
def test_one_answer_in_two_spellings_is_no_contradiction(one, other, tmp_path):
  extra = [{'question': 'A?', 'answer': a} for a in (one, other)]
  env = get(write(tmp_path / 'a.jsonl', [*rows(3), *extra]))
  assert sum(map(len, env.values())) == 5
  apart = {s for s, tasks in env.items() for t in tasks if t.question == 'A?'}
  assert len(apart) == 1


def test_questions_that_differ_in_case_are_two(tmp_path):
  two = [
    {'question': 'Express x by R.', 'answer': '2R'},
    {'question': 'Express x by r.', 'answer': '2r'},
  ]
  env = get(write(tmp_path / 'a.jsonl', [*rows(3), *two]))
  assert sum(map(len, env.values())) == 5
  train, test = (
    write(tmp_path / n, [*rows(i), two[i > 3]]) for n, i in (('b', 3), ('c', 5))
  )
  with pytest.raises(ValueError, match=r'3 questions .* are also in'):
    get(train, test_path=test)
  write(tmp_path / 'c', [two[1]])
  assert [t.answer for t in get(train, test_path=test)['test']] == ['2r']
  two[1]['answer'] = '2R'
  write(tmp_path / 'c', [two[1]])
  with pytest.raises(ValueError, match='1 questions of'):
    get(train, test_path=test)


def test_answers_that_differ_are_a_contradiction_still(tmp_path):
  extra = [{'question': 'A?', 'answer': a} for a in ('2R', '3R')]
  with pytest.raises(ValueError, match="Line 5: answers '3R' what line 4"):
    get(write(tmp_path / 'a.jsonl', [*rows(3), *extra]))


@pytest.mark.parametrize(
  'row',
  [
    '{"question": "x\\ud800?", "answer": 1}\n',
    '{"question": "x?", "answer": "1\\udfff"}\n',
    '{"question": "x?", "answer": 1, "solution": "\\ud800"}\n',
    '{"question": "x?", "answer": 1, "steps": ["a", "\\ud800 b"]}\n',
    '{"question": "x?", "answer": NaN}\n',
    '{"question": "x?", "answer": -Infinity}\n',
    '{"question": "x?", "answer": 1e999}\n',
    '{"question": "x?", "answer": ' + '9' * 5000 + '}\n',
    '{"question": "x?", "answer": ' + '9' * 1000 + '}\n',
    '{"question": "x?", "answer": ' + '[' * 9999 + ']' * 9999 + '}\n',
    '{"question": {"a": 1}, "answer": 1}\n',
    '[1]\n',
    '\x00\n',
  ],
)
def test_rows_that_no_run_can_use_are_named(row, tmp_path):
  path = write(tmp_path / 'a.jsonl', [*rows(3), row])
  with pytest.raises(ValueError, match=r'has 1 bad rows\. Line 4: ') as e:
    get(path)
  assert len(str(e.value)) < 600
  str(e.value).encode()
