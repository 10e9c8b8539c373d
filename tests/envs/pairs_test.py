"""Files of pairs: both forms of the field, and errors that name lines."""

import json

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.envs import pairs
from rlvr_jax.verifiers import dispatch


def user(text):
  return {'role': 'user', 'content': text}


def says(text):
  return {'role': 'assistant', 'content': text}


def write(path, rows):
  path.write_text(
    ''.join(r if isinstance(r, str) else json.dumps(r) + '\n' for r in rows),
    'utf-8',
  )
  return str(path)


def get(path, **options):
  return registry.get('env', registry.spec('pairs', path=path, **options))()


def plain(i):
  return {'prompt': f'{i}+1?', 'chosen': str(i + 1), 'rejected': str(i)}


# One pair in each way that it may be written.
SAME = [
  {'prompt': '2+2?', 'chosen': '4', 'rejected': '5'},
  {
    'prompt': [user('2+2?')],
    'chosen': [says('4')],
    'rejected': [says('5')],
  },
  {
    'chosen': [user('2+2?'), says('4')],
    'rejected': [user('2+2?'), says('5')],
    'score_chosen': 7.5,
  },
  {  # the prompt as text, and again at the start of both sides
    'prompt': '2+2?',
    'chosen': [user('2+2?'), says('4')],
    'rejected': [user('2+2?'), says('5')],
  },
  {
    'prompt': None,
    'chosen': [user('2+2?') | {'name': 'x'}, says('4')],
    'rejected': [user('2+2?'), says('5')],
  },
  {'prompt': [user('2+2?')], 'chosen': '4', 'rejected': '5'},
]


@pytest.mark.parametrize('row', SAME)
def test_all_forms_are_one_task(tmp_path, row):
  test = write(tmp_path / 'test.jsonl', [plain(9)])
  train = write(tmp_path / 'a.jsonl', ['\n', row])
  (task,) = get(train, test_path=test)['train']
  assert task == (
    'train-2', '2+2?', '4', 'pair', {'chosen': '4', 'rejected': '5'}
  )  # fmt: skip


def test_a_chat_is_its_messages(tmp_path):
  chat = [{'role': 'system', 'content': 'Be brief.'}, user('Hi'), says('Yes?')]
  chat += [user('2+2?')]
  rows = [
    {'prompt': chat, 'chosen': [says('4')], 'rejected': [says('Well, 4')]},
    {'chosen': [*chat, says('4')], 'rejected': [*chat, says('Well, 4')]},
  ]
  test = write(tmp_path / 'test.jsonl', [plain(9)])
  tasks = get(write(tmp_path / 'a.jsonl', rows), test_path=test)['train']
  for task in tasks:
    assert task.data['messages'] == chat
    assert (task.data['chosen'], task.data['rejected']) == ('4', 'Well, 4')
    assert task.question == (
      'system: Be brief.\nuser: Hi\nassistant: Yes?\nuser: 2+2?'
    )


def test_splits_share_no_prompt(tmp_path):
  rows = [plain(i) for i in range(40)]
  rows += [r | {'rejected': 'no idea'} for r in rows]
  env = get(write(tmp_path / 'a.jsonl', rows), test_fraction=0.3)
  asked = {k: {t.question for t in env[k]} for k in env}
  assert not asked['train'] & asked['test']
  assert len(env['train']) + len(env['test']) == 80
  assert len(env['test']) == 2 * len(asked['test'])
  some = write(tmp_path / 'b.jsonl', rows[3:5])
  with pytest.raises(ValueError, match=r'2 questions.*line 1 = line 4'):
    get(write(tmp_path / 'a.jsonl', rows), test_path=some)


def test_a_gold_answer_is_for_the_verifier_of_maths(tmp_path):
  rows = [plain(3) | {'answer': 4}, plain(5) | {'answer': '\\frac{12}{2}'}]
  test = write(tmp_path / 'test.jsonl', [plain(9)])
  tasks = get(write(tmp_path / 'a.jsonl', rows), test_path=test)['train']
  assert [(t.answer, t.verifier) for t in tasks] == [
    ('4', 'math'),
    ('\\frac{12}{2}', 'math'),
  ]


def test_without_one_only_both_texts_have_a_verdict(tmp_path):
  test = write(tmp_path / 'test.jsonl', [plain(9)])
  row = {'prompt': 'a', 'chosen': ' Yes.\n', 'rejected': 'No.'}
  (task,) = get(write(tmp_path / 'a.jsonl', [row]), test_path=test)['train']
  texts = [' Yes.\n', 'Yes.', 'No.', 'Yes. No.', '']
  assert dispatch.verify([task] * 5, texts) == [
    enums.Verdict.CORRECT,
    enums.Verdict.CORRECT,
    enums.Verdict.WRONG,
    enums.Verdict.UNVERIFIABLE,
    enums.Verdict.UNVERIFIABLE,
  ]


def test_sides_that_differ_in_white_space_have_their_own_verdicts(tmp_path):
  test = write(tmp_path / 'test.jsonl', [plain(9)])
  row = {'prompt': 'a', 'chosen': 'abc', 'rejected': ' abc'}
  (task,) = get(write(tmp_path / 'a.jsonl', [row]), test_path=test)['train']
  assert dispatch.verify([task] * 3, ['abc', ' abc', 'abc\n']) == [
    enums.Verdict.CORRECT,
    enums.Verdict.WRONG,
    enums.Verdict.CORRECT,
  ]


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    ({'prompt': 'a', 'chosen': 'b'}, "has no 'rejected'"),
    ({'prompt': 'a', 'chozen': 'b', 'rejected': 'c'}, "Did you mean 'chozen'"),
    ({'chosen': 'b', 'rejected': 'c'}, "has no prompt.*give 'prompt'"),
    ({'prompt': 'a', 'chosen': 'b', 'rejected': 'b'}, "both 'b'.*Take the row"),
    ({'prompt': 'a', 'chosen': 'b', 'rejected': ' \n'}, 'rejected is empty'),
    ({'prompt': '', 'chosen': 'b', 'rejected': 'c'}, 'prompt is empty'),
    ({'prompt': 'a', 'chosen': 3, 'rejected': 'c'}, 'chosen=3 is neither'),
    ({'prompt': [], 'chosen': 'b', 'rejected': 'c'}, r'prompt=\[\] is neither'),
    ({'prompt': 'a', 'chosen': ['b'], 'rejected': 'c'}, "the message 'b'"),
    (
      {'prompt': [says('a')], 'chosen': 'b', 'rejected': 'c'},
      'no prompt that ends with a message of the user',
    ),
    (
      {'prompt': 'a', 'chosen': [user('b')], 'rejected': [says('c')]},
      'chosen adds 1 messages of user',
    ),
    (
      {'prompt': 'a', 'chosen': [says('b')] * 2, 'rejected': [says('c')]},
      'chosen adds 2 messages of assistant, assistant',
    ),
    (
      {'chosen': [user('a'), says('b')], 'rejected': [user('a'), says('b')]},
      'are equal, or one starts the other',
    ),
    (
      {'chosen': [user('a')], 'rejected': [user('a'), says('b')]},
      'are equal, or one starts the other',
    ),
    (
      {'chosen': [user('a'), says('b')], 'rejected': [user('x'), says('c')]},
      "has no prompt.*'prompt'",
    ),
    (
      {'prompt': [{'role': 'tool', 'content': 'a'}]}
      | {'chosen': 'b', 'rejected': 'c'},
      "role 'tool': there are system, user, assistant",
    ),
    (
      {'prompt': [{'role': 'user', 'content': None}]}
      | {'chosen': 'b', 'rejected': 'c'},
      "'role' and 'content', a string",
    ),
    (plain(1) | {'answer': [2]}, r'answer=\[2\] is not a string or a number'),
    (plain(1) | {'answer': 'n/a'}, 'n/a'),
    (plain(1) | {'rejected': '\ud800'}, 'unpaired surrogate'),
    ('not json\n', 'is not JSON'),
    ('[1]\n', 'is a list, not an object'),
  ],
)
def test_bad_rows_are_refused_by_line(tmp_path, row, message):
  path = write(tmp_path / 'a.jsonl', [plain(0), row, plain(7)])
  with pytest.raises(ValueError, match=f'has 1 bad rows. Line 2: .*{message}'):
    get(path)
  with pytest.raises(ValueError, match="A row needs 'prompt', 'chosen'"):
    get(path)


def test_a_missing_or_empty_file_is_refused(tmp_path):
  with pytest.raises(ValueError, match='There is no file'):
    get(str(tmp_path / 'none.jsonl'))
  with pytest.raises(ValueError, match='is empty'):
    get(write(tmp_path / 'a.jsonl', ['\n']))


def test_margins_of_pairs(tmp_path):
  row = {'prompt': 'q', 'chosen': 'a', 'rejected': 'b'}
  rows = [row | {'prompt': str(i), 'margin': i} for i in range(3)]
  env = pairs.pairs(path=write(tmp_path / 'a', rows), test_fraction=0.4)
  tasks = [t for split in env.values() for t in split]
  assert {t.question: t.data['margin'] for t in tasks} == {
    '0': 0.0, '1': 1.0, '2': 2.0
  }  # fmt: skip
  for bad in (-1, 'x', True, float('nan'), float('inf'), 1e7, [1]):
    path = write(tmp_path / 'b', [row | {'margin': bad}])
    with pytest.raises(ValueError, match=r'margin=.* is not a number in'):
      pairs.pairs(path=path)


def test_rows_with_labels(tmp_path):
  rows = [
    {'prompt': f'{i}', 'completion': 'yes', 'label': i % 2 == 0}
    for i in range(20)
  ]
  chat = [{'role': 'user', 'content': 'hi'}]
  said = [*chat, {'role': 'assistant', 'content': 'no'}]
  rows.append({'prompt': chat, 'completion': said, 'label': False})
  env = pairs.labelled(path=write(tmp_path / 'a', rows))
  by_question = {t.question: t for split in env.values() for t in split}
  assert len(by_question) == 21
  assert by_question['0'].data == {
    'completion': 'yes', 'label': True, 'chosen': 'yes'
  }  # fmt: skip
  assert by_question['hi'].data['rejected'] == 'no'
  tasks = [by_question['0'], by_question['1'], by_question['1']]
  verdicts = dispatch.verify(tasks, ['yes', 'yes', ''], timeout_s=1.0)
  assert [v.name for v in verdicts] == ['CORRECT', 'WRONG', 'UNVERIFIABLE']
  for change, says in (
    ({'label': 1}, 'label=1 is not true or false'),
    ({'prompt': None}, "has no 'prompt'"),
    ({'completion': ' '}, 'completion is empty'),
    ({'completion': chat}, 'completion adds 1 messages of user'),
  ):
    with pytest.raises(ValueError, match=says):
      pairs.labelled(path=write(tmp_path / 'b', [rows[0] | change]))
  with pytest.raises(
    ValueError, match='rows of the train split have the label'
  ):
    pairs.labelled(path=write(tmp_path / 'b', rows[:20:2]))


def test_pairs_of_right_and_other_answers():
  env = registry.get('env', 'answer_pairs(arithmetic(max_value=3))')()
  plain = registry.get('env', 'arithmetic(max_value=3)')()
  for split in ('train', 'test'):
    assert len(env[split]) == len(plain[split])
    for a, b in zip(env[split], plain[split]):
      assert (a.id, a.question, a.answer) == (b.id, b.question, b.answer)
      assert a.data['chosen'] == b.answer != a.data['rejected']
  assert list(env['train']) == list(env['train'])
  made = registry.get('env', 'answer_pairs(countdown())')()
  with pytest.raises(ValueError, match='its verifier is'):
    made['train'][0]
  made = registry.get('env', "answer_pairs(arithmetic(max_value=0, ops='+-'))")
  with pytest.raises(ValueError, match='no other answer to reject'):
    made()['train'][0]


def test_the_test_split_of_another_env(tmp_path):
  path = write(tmp_path / 'a.jsonl', [plain(i) for i in range(5)])
  spec = 'arithmetic(max_value=9, test_size=3)'
  env = get(path, test_env=registry.Spec(spec))
  assert len(env['train']) == 5
  assert list(env['test']) == list(registry.get('env', spec)()['test'])
  with pytest.raises(ValueError, match='both name the test split'):
    get(path, test_env=registry.Spec(spec), test_path=path)
  with pytest.raises(ValueError, match="Did you mean 'arithmetic'"):
    get(path, test_env=registry.Spec('arithmetics()'))
