"""Hub data sets in a folder: which files are a split, and what rows hold."""

import importlib
import json
import logging

import pytest

from rlvr_jax import registry


def rows(n, start=0):
  return [
    {'question': f'What is {i} + 1?', 'answer': f'#### {i + 1}'}
    for i in range(start, start + n)
  ]


def lines(path, records):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(
    ''.join(r if isinstance(r, str) else json.dumps(r) + '\n' for r in records)
  )


def parquet(path, records, **options):
  pa = pytest.importorskip('pyarrow')
  path.parent.mkdir(parents=True, exist_ok=True)
  importlib.import_module('pyarrow.parquet').write_table(
    pa.Table.from_pylist(records), path, **options
  )


def get(path, **options):
  options = {'pick': 'hash'} | options
  return registry.get('env', registry.spec('folder', str(path), **options))()


def ids(env):
  return {split: [t.id for t in tasks] for split, tasks in env.items()}


def test_shards_of_a_hub(tmp_path):
  for write, ext in (lines, 'jsonl'), (parquet, 'parquet'):
    data = tmp_path / ext / 'data'
    write(data / f'train-00000-of-00002.{ext}', rows(5))
    write(data / f'train-00001-of-00002.{ext}', rows(4, 5))
    write(data / f'test-00000-of-00001.{ext}', rows(2, 20))
    lines(tmp_path / ext / '.cache' / 'train.jsonl', ['{'])
    lines(tmp_path / ext / 'README.md', ['# data'])
    env = get(tmp_path / ext, split='train[3:8]')
    assert ids(env) == {
      'train': [f'train-{i}' for i in range(3, 8)],
      'test': ['test-0', 'test-1'],
    }
    assert [t.answer for t in env['train']] == ['4', '5', '6', '7', '8']
    (data / f'train-00001-of-00002.{ext}').unlink()
    with pytest.raises(ValueError, match=r'has 1 files of train, .* are 2'):
      get(tmp_path / ext)


def test_splits_by_name(tmp_path):
  lines(tmp_path / 'a' / 'gsm-training.jsonl', rows(3))
  lines(tmp_path / 'a' / 'dev_set.jsonl', rows(2, 9))
  lines(tmp_path / 'a' / 'hard.jsonl', rows(1, 20))
  env = get(tmp_path / 'a', test_split='validation+hard')
  assert ids(env)['test'] == ['validation-0', 'validation-1', 'hard-0']
  lines(tmp_path / 'b' / 'eval' / 'x.jsonl', rows(1))
  lines(tmp_path / 'b' / 'train' / 'x.jsonl', rows(1, 3))
  assert ids(get(tmp_path / 'b'))['test'] == ['test-0']
  # No name tells a split, so all rows are train; one file is a data set too.
  lines(tmp_path / 'c' / 'x.jsonl', [*rows(2), '\n', *rows(2, 2)])
  lines(tmp_path / 'c' / 'y.jsonl', rows(30, 4))
  env = get(tmp_path / 'c', split='train[:34]', test_split='')
  assert sorted(t.id for s in env.values() for t in s) == sorted(
    f'train-{i}' for i in range(34)
  )
  one = get(
    tmp_path / 'c' / 'y.jsonl', split='train[:9]', test_split='train[9:]'
  )
  assert len(one['test']) == 21


def test_folders_that_mix_data_are_refused(tmp_path):
  lines(tmp_path / 'a' / 'main' / 'train.jsonl', rows(1))
  lines(tmp_path / 'a' / 'socratic' / 'train.jsonl', rows(1))
  with pytest.raises(ValueError, match=r'several folders \(main, socratic\)'):
    get(tmp_path / 'a')
  lines(tmp_path / 'b' / 'train.jsonl', rows(1))
  lines(tmp_path / 'b' / 'train.parquet', rows(1))
  with pytest.raises(ValueError, match=r'train as \.jsonl and \.parquet'):
    get(tmp_path / 'b')
  lines(tmp_path / 'c' / 'train.csv', ['a,b'])
  with pytest.raises(ValueError, match=r'no .parquet or .jsonl file, but .csv'):
    get(tmp_path / 'c')
  with pytest.raises(ValueError, match='There is no folder'):
    get(tmp_path / 'd')
  with pytest.raises(ValueError, match="There is no folder ''"):
    get('')
  lines(tmp_path / 'e.jsonl', rows(4))
  with pytest.raises(
    ValueError, match=r'no split .test.* has train \(4 rows\)'
  ):
    get(tmp_path / 'e.jsonl')


def test_bad_lines_are_named(tmp_path, caplog):
  bad = ['{', '[1]\n', '\n', '[' * 9999 + '\n', '{"question": "x"}\n']
  bad[0] += '\n'
  lines(tmp_path / 'train.jsonl', [*rows(3), *bad, *rows(3, 3)])
  (tmp_path / 'test.jsonl').write_bytes(
    json.dumps(rows(1, 30)[0]).encode() + b'\n{"question": "\xff"}\n'
  )
  with caplog.at_level(logging.WARNING):
    env = get(tmp_path, max_bad=0.5)
  assert ids(env)['train'] == [f'train-{i}' for i in (0, 1, 2, 7, 8, 9)]
  test, train = caplog.messages
  assert "1 of 2 rows of 'test'" in test
  assert 'test.jsonl line 2: is not UTF-8' in test
  assert "4 of 10 rows of 'train'" in train
  for part in (
    'line 4: is not JSON',
    'line 5: is a list, not an object',
    'line 7: ',
    "line 8: answer: has no field 'answer'",
  ):
    assert f'train.jsonl {part}' in train
  with pytest.raises(ValueError, match="Fields: 'answer', 'question'"):
    get(tmp_path, question='problem', max_bad=0.5)


def test_parquet_records(tmp_path):
  pytest.importorskip('pyarrow')
  records = [
    {
      'prompt': [{'role': 'user', 'content': f'What is {i} / 10?'}],
      'reward_model': {'ground_truth': i / 10},
      'choices': {'label': ['A', 'B'], 'text': [f'{i / 10}', 'x']},
      'key': 'A',
    }
    for i in range(40)
  ]
  parquet(tmp_path / 'train.parquet', records, row_group_size=7)
  options = {
    'question': 'prompt.0.content',
    'answer': 'reward_model.ground_truth',
    'split': 'train[5:25]',
    'test_split': 'train[25:]',
    'pick': 'plain',
  }
  env = get(tmp_path, **options)
  assert ids(env)['test'] == [f'train-{i}' for i in range(25, 40)]
  assert [t.answer for t in env['train']] == [str(i / 10) for i in range(5, 25)]
  chosen = get(
    tmp_path,
    **options | {'answer': 'key', 'pick': 'choice(options=choices)'},
  )
  assert chosen['test'][0].question.endswith('?\n\nA. 2.5\nB. x')
  assert chosen['test'][0].answer == 'A'
  with pytest.raises(
    ValueError, match="Fields: 'choices', 'key', 'prompt', 'reward"
  ):
    get(tmp_path, **options | {'answer': 'gold'})


def test_parquet_values_and_damage(tmp_path):
  pa = pytest.importorskip('pyarrow')
  pq = importlib.import_module('pyarrow.parquet')
  questions = pa.array([f'Q{i}?' for i in range(4)] + ['Q?'])
  bad = pa.array([b'x'] * 4 + [b'\xff'], pa.binary()).view(pa.string())
  table = pa.table(
    {
      'question': questions,
      'answer': pa.array([0.1, 0.2, None, 1e30, 3.0], pa.float32()),
      'other': bad,
    }
  )
  pq.write_table(table, tmp_path / 'train.parquet')
  options = {'split': 'train[:2]', 'test_split': 'train[2:]', 'max_bad': 0.9}
  env = get(tmp_path, pick='plain', **options)  # it does not read the others
  assert [t.answer for t in env['train']] == ['0.1', '0.2']
  assert ids(env)['test'] == ['train-3', 'train-4']
  with pytest.raises(ValueError, match=r'train.parquet row 4: .*utf-8'):
    get(tmp_path, pick='choice(options=question)', **options)
  whole = (tmp_path / 'train.parquet').read_bytes()
  for content in (b'version https://git-lfs', whole[:40] + whole[-40:], b''):
    (tmp_path / 'train.parquet').write_bytes(content)
    with pytest.raises(ValueError, match=r'no Parquet file|is damaged'):
      get(tmp_path, pick='plain', **options)


def test_missing_pyarrow_names_the_remedy(tmp_path, monkeypatch):
  real = importlib.import_module

  def refuse(name, *args):
    if name.startswith('pyarrow'):
      raise ImportError(f'No module named {name!r}')
    return real(name, *args)

  (tmp_path / 'train.parquet').write_bytes(b'PAR1')
  monkeypatch.setattr(importlib, 'import_module', refuse)
  with pytest.raises(ValueError, match=r"pip install 'rlvr_jax\[parquet\]'"):
    get(tmp_path)
