"""Slices, bad rows and gold rules of data sets, on a source made here."""

import logging

import pytest

from rlvr_jax import enums, registry
from rlvr_jax.envs import records
from rlvr_jax.envs.records import Part
from rlvr_jax.verifiers import answer as answers


class Source:
  """Records in memory, by split."""

  name = 'made'

  def __init__(self, **splits):
    self.splits = splits
    self.sizes = {k: len(v) for k, v in splits.items()}

  def read(self, split, rows, keys):
    for i in rows:
      yield f'{split} row {i}', self.splits[split][i]

  def fields(self, split):
    return list(self.splits[split][0])


def rows(n, start=0):
  return [
    {'question': f'What is {i} + 1?', 'answer': str(i + 1)}
    for i in range(start, start + n)
  ]


def get(source, question='question', answer='answer', **options):
  fields = records.Fields(
    question, answer, options.pop('pick', 'plain'), options.pop('solution', '')
  )
  defaults = {
    'split': 'train',
    'test_split': 'test',
    'test_fraction': 0.1,
    'max_bad': 0.1,
  }
  return records.env(source, fields, **defaults | options)


def pick(spec, value, **record):
  made = registry.get('pick', spec)(value, record)
  return made if isinstance(made, str) else made.answer


@pytest.mark.parametrize(
  ('spec', 'named'),
  [
    ('train', [('train', 0, 11)]),
    ('train[:90%]', [('train', 0, 10)]),  # 9.9 rows: the nearest
    ('train[90%:]', [('train', 10, 11)]),
    ('train[-3:]', [('train', 8, 11)]),
    ('train[-50%:]', [('train', 5, 11)]),  # 5.5 rows from the end are 6
    ('train[2:4]', [('train', 2, 4)]),
    ('train[5:99]', [('train', 5, 11)]),
    ('test + train[:1]', [('test', 0, 2), ('train', 0, 1)]),
    ('train[:2]+train[2:3]', [('train', 0, 2), ('train', 2, 3)]),
  ],
)
def test_slices(spec, named):
  expected = [Part(split, range(a, b)) for split, a, b in named]
  assert records.parts(spec, {'train': 11, 'test': 2}, 'made') == expected


@pytest.mark.parametrize(
  ('spec', 'message'),
  [
    ('tran', r"no split 'tran'. Did you mean 'train'\? It has train \(11 rows"),
    ('train[:', 'is no split'),
    ('train[3:3]', 'names no rows of train: it has 11'),
    ('train[:200%]', r'200% must be in'),
    ('train[:3]+train[2:4]', 'names rows twice'),
    ('', 'is no split'),
  ],
)
def test_bad_slices(spec, message):
  with pytest.raises(ValueError, match=message):
    records.parts(spec, {'train': 11, 'test': 2}, 'made')


def test_slices_by_percent_leave_no_row_out():
  for size in (2, 3, 7, 10, 39):
    for percent in range(1, 100):
      if 0 < (percent * size + 50) // 100 < size:
        spec = f'a[:{percent}%]+a[{percent}%:]'
        named = records.parts(spec, {'a': size}, 'made')
        assert [i for part in named for i in part.rows] == list(range(size))


def test_ids_are_rows_of_the_data_set():
  source = Source(train=rows(30), test=rows(5, 50))
  env = get(source, split='train[10:]')
  assert [t.id for t in env['train']][:2] == ['train-10', 'train-11']
  assert env['train'][0] == get(source)['train'][10]
  both = get(source, split='train[:10]', test_split='train[10:20]+test')
  assert [t.id for t in both['test']][9:11] == ['train-19', 'test-0']
  with pytest.raises(ValueError, match='share 5 rows of train, from 5'):
    get(source, split='train[:10]', test_split='train[5:20]')


def test_without_a_test_split_as_jsonl_does():
  env = get(Source(train=rows(60)), test_split='', test_fraction=0.2)
  more = get(Source(train=rows(80)), test_split='', test_fraction=0.2)
  ids = {t.id for t in env['test']}
  assert len(env['train']) + len(env['test']) == 60
  assert 0 < len(ids) < 30
  assert ids == {t.id for t in more['test'] if int(t.id[6:]) < 60}


BAD = {
  1: {'question': 'What?', 'answer': 'a long story'},
  3: {'question': ' ', 'answer': '4'},
  5: {'answer': '4'},
  7: ValueError('is not JSON.'),
  8: {'question': 'What is 2 + 1?', 'answer': '4'},
  9: {'question': 'what is 50 + 1?', 'answer': '51'},
}


def test_bad_rows_are_left_out_counted_and_named(caplog):
  train = rows(40)
  for i, row in BAD.items():
    train[i] = row
  source = Source(train=train, test=rows(3, 50))
  with caplog.at_level(logging.WARNING):
    env = get(source, max_bad=0.15)
  assert {int(t.id[6:]) for t in env['train']} == set(range(40)) - set(BAD)
  (message,) = caplog.messages
  for part in (
    "'made': 6 of 40 rows of 'train' cannot be used",
    "train row 1: The gold answer 'a long story' cannot be used",
    'train row 3: question: is empty.',
    "train row 5: question: has no field 'question'.",
    'train row 7: is not JSON.',
    "row 8: answers '4' what train row 2 answers '3'.",
    'Also train 9.',
  ):
    assert part in message
  # More than are allowed, or all: refused, with what would let them pass.
  with pytest.raises(ValueError, match=r'6 of 40 .* max_bad=0.15 leaves them'):
    get(source, max_bad=0.14)
  with pytest.raises(ValueError, match=r'2 of 2 .* None is left') as error:
    get(Source(train=[BAD[1], BAD[3]], test=rows(1)), max_bad=0.9)
  assert 'Fields' not in str(error.value)


def test_a_test_question_in_train_is_a_bad_row():
  source = Source(train=rows(12), test=rows(1, 4))
  env = get(source)
  assert 'train-4' not in {t.id for t in env['train']}
  assert len(env['train']) == 11
  with pytest.raises(
    ValueError, match='train row 4: is also test row 0 of the'
  ):
    get(source, max_bad=0.0)


def test_missing_fields_are_refused_with_those_there_are():
  with pytest.raises(
    ValueError, match=r"no field 'anser'. Did you mean 'answer'.*question"
  ):
    get(Source(train=rows(3), test=rows(1, 9)), answer='anser')
  with pytest.raises(ValueError, match=r"Unknown pick 'box'.*boxed"):
    get(Source(train=rows(3), test=rows(1, 9)), pick='box')


def test_nested_fields():
  record = {'p': [{'content': 'q'}], 'r': {'gold': 4}, 'a.b': 1, 'n': None}
  assert records.field(record, 'p.0.content') == 'q'
  assert records.field(record, 'r.gold') == 4
  assert records.field(record, 'a.b') == 1
  for path in ('p.1.content', 'r.x', 'r.gold.x', 'p.-1', '', 'n'):
    with pytest.raises(ValueError, match=r'has no field|is null'):
      records.field(record, path)


@pytest.mark.parametrize(
  ('spec', 'value', 'gold'),
  [
    ('plain', 18, '18'),
    ('plain', 0.25, '0.25'),
    ('plain', True, 'true'),
    ('plain', '\\frac{1}{2}', '\\frac{1}{2}'),
    ('words', 'New York', '\\text{New York}'),
    ('hash', '9*2=18\n#### 1,018 ', '1,018'),
    ('boxed', 'So $x=\\boxed{\\frac{1}{2}}$.', '\\frac{1}{2}'),
    ('boxed', 'First \\boxed{1}, but \\boxed{2}', '2'),
    ('boxed', '$x=\\boxed{1}$ and $x=\\boxed{2}$', '1, 2'),
  ],
)
def test_gold_rules(spec, value, gold):
  made = pick(spec, value)
  assert made == gold
  answers.check_gold(made)
  right = answers.verify([made], [f'\\boxed{{{gold}}}'])
  assert right == [enums.Verdict.CORRECT]


@pytest.mark.parametrize(
  ('spec', 'value', 'message'),
  [
    ('plain', ['1'], "is a list, .*Name one of its parts, as in 'answers.0'"),
    ('plain', float('nan'), 'not a finite number'),
    ('plain', '\ud800', 'unpaired surrogate'),
    ('words', 'x}', 'not words alone'),
    ('hash', 'It is 4.', 'does not end in "#### NUMBER"'),
    ('boxed', 'It is 4.', r'no filled \\boxed'),
    ('boxed', '\\boxed{4', r'no filled \\boxed'),
    ('boxed', '\\boxed{' + 'x' * 9999 + '}', 'too long'),
  ],
)
def test_bad_answers(spec, value, message):
  with pytest.raises(ValueError, match=message):
    pick(spec, value)


TEXTS = ['3', '5', '2', 'none']


@pytest.mark.parametrize(
  ('options', 'value', 'letter'),
  [
    (TEXTS, 'B', 'B'),
    (TEXTS, '(c)', 'C'),
    (TEXTS, 'none', 'D'),
    (TEXTS, 1, 'B'),  # a number counts from 0
    (TEXTS, '2', 'C'),  # both the text and the number of C
    ({'label': ['1', '2'], 'text': ['x', 'y']}, '2', 'B'),
    ({'A': 'x', 'B': 'y'}, 'B', 'B'),
    ([{'label': 'p', 'text': 'x'}, {'label': 'q', 'text': 'y'}], 'q', 'B'),
    ('a ) 38 , b ) 27,675 , c ) none', 'b', 'B'),
    (['A)21', 'B) 21.5'], '21.5', 'B'),
  ],
)
def test_choices(options, value, letter):
  assert pick('choice(options=o)', value, o=options) == letter


def test_choices_by_what_the_field_holds():
  choose = lambda value, **o: pick(
    registry.spec('choice', options='o', **o), value, o=TEXTS
  )
  with pytest.raises(ValueError, match=r'may mean A and D: say .* by='):
    choose('3')
  assert choose('3', by='text') == 'A'
  assert choose('3', by='number') == 'D'
  assert choose('3', by='number', first=1) == 'C'
  for value, by in (('5', 'letter'), (4, 'any'), ('E', 'any'), (-1, 'number')):
    with pytest.raises(ValueError, match='none of the options'):
      choose(value, by=by)
  with pytest.raises(ValueError, match=r"by='x': choose one of any, letter"):
    choose('A', by='x')
  two = registry.get('pick', "choice(options=('a', 'b'))")
  assert two('b', {'a': 'yes', 'b': 7}).shown == 'A. yes\nB. 7'
  for record in ({'a': 'x'}, {'a': 'x', 'b': ''}):
    with pytest.raises(ValueError, match=r"no field 'b'|empty option"):
      two('A', record)
  for o in (['x'], list('abcdefghijk'), 'no list', 3, {}):
    with pytest.raises(ValueError, match=r'\d+ options|lists no|is not'):
      pick('choice(options=o)', 'A', o=o)


def test_a_question_shows_its_choices():
  train = [{'q': f'Q{i}?', 'o': ['x', 'y'], 'a': i % 2} for i in range(4)]
  source = Source(train=train[:3], test=train[3:])
  env = get(source, question='q', answer='a', pick="choice(options='o')")
  task = env['train'][1]
  assert task.question == 'Q1?\n\nA. x\nB. y'
  assert task.answer == 'B'
  said = ['\\boxed{B}', 'The answer is (B) y.', '\\boxed{A}']
  right, wrong = enums.Verdict.CORRECT, enums.Verdict.WRONG
  assert answers.verify(['B'] * 3, said) == [right, right, wrong]


def test_solutions_are_kept():
  train = [{'q': f'{i}?', 's': f'So. #### {i}', 'w': 'W'} for i in range(3)]
  source = Source(train=train[:2], test=train[2:])
  env = get(source, question='q', answer='s', pick='hash')
  assert env['train'][1].data == {'solution': 'So. #### 1'}
  env = get(source, question='q', answer='s', pick='hash', solution='w')
  assert env['train'][1].data == {'solution': 'W'}
