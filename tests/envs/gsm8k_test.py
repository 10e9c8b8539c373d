"""GSM8K from files and through TFDS gives the same tasks."""

import hashlib
import importlib
import json
import os
import sys

import pytest

from rlvr_jax import registry
from rlvr_jax.envs import gsm8k

TRAIN = [
  ('Mia has 3 boxes of 12 pens. How many pens?', '3*12=<<3*12=36>>36\n#### 36'),
  ('A van sells for $1,300, two sell for?', 'Twice 1300.\n#### 2,600'),
  ('Bo owes 5 and has 2. What is left, in €?', '2-5=-3\n#### -3'),
]
TEST = [('Ten apples, four eaten. How many are left?', '10-4=6\n#### 6')]


def write(folder, train=TRAIN, test=TEST):
  folder.mkdir(exist_ok=True)
  for name, rows in ('train', train), ('test', test):
    lines = [json.dumps({'question': q, 'answer': a}) + '\n' for q, a in rows]
    (folder / f'{name}.jsonl').write_text(''.join(lines))
  return str(folder)


def get(**options):
  options = ', '.join(f'{k}={v!r}' for k, v in options.items())
  return registry.get('env', f'gsm8k({options})')()


def tasks(env):
  return {split: list(env[split]) for split in env}


def test_local_files(tmp_path):
  env = get(data_dir=write(tmp_path / 'd'))
  assert [t.answer for t in env['train']] == ['36', '2600', '-3']
  assert env['test'][0] == (
    'test-0',
    TEST[0][0],
    '6',
    'math',
    {'solution': TEST[0][1]},
  )
  named = get(
    train_file=str(tmp_path / 'd/train.jsonl'),
    test_file=str(tmp_path / 'd/test.jsonl'),
  )
  assert tasks(named) == tasks(env)


def test_prepared_once_then_read(tmp_path):
  pytest.importorskip('tensorflow_datasets')
  source, prepared = write(tmp_path / 'd'), tmp_path / 'p'
  files = {
    'train_file': f'{source}/train.jsonl',
    'test_file': f'{source}/test.jsonl',
  }
  plain = tasks(get(data_dir=source))
  assert tasks(get(data_dir=str(prepared), **files)) == plain
  (record,) = prepared.glob('*/*/*/*-train.array_record-*')
  made = record.stat().st_mtime_ns
  assert tasks(get(data_dir=str(prepared), **files)) == plain
  assert tasks(get(data_dir=str(prepared))) == plain
  assert record.stat().st_mtime_ns == made
  assert 'tensorflow' not in sys.modules
  # Other files make another data set; without files it is then ambiguous.
  write(tmp_path / 'd', train=TRAIN[:2])
  assert len(get(data_dir=str(prepared), **files)['train']) == 2
  with pytest.raises(ValueError, match='holds 2 prepared data sets'):
    get(data_dir=str(prepared))


class Downloads:
  """A download manager whose files are local already."""

  def __init__(self, folder):
    self.folder = folder

  def download(self, urls):
    assert all('openai/grade-school-math' in url for url in urls.values())
    return {k: f'{self.folder}/{url.split("/")[-1]}' for k, url in urls.items()}


def test_downloads_are_checked(tmp_path, monkeypatch):
  tfds = pytest.importorskip('tensorflow_datasets')
  folder = write(tmp_path / 'd')
  builder = gsm8k._builder_class()(
    files=None,
    data_dir=str(tmp_path / 'p'),
    config=tfds.core.BuilderConfig(name='published', version='1.0.0'),
    file_format='array_record',
  )
  with pytest.raises(ValueError, match='not the published GSM8K file'):
    builder._split_generators(Downloads(folder))
  digests = {
    split: hashlib.sha256(
      (tmp_path / 'd' / f'{split}.jsonl').read_bytes()
    ).hexdigest()
    for split in ('train', 'test')
  }
  monkeypatch.setattr(gsm8k, '_DIGESTS', digests)
  splits = builder._split_generators(Downloads(folder))
  examples = dict(splits['train'])
  assert examples[1] == {
    'question': TRAIN[1][0],
    'answer': '2600',
    'solution': TRAIN[1][1],
  }


def test_missing_tfds_names_the_remedy(tmp_path, monkeypatch):
  def refuse(name, *args, **kwargs):
    if name.split('.')[0] in ('tensorflow_datasets', 'importlib_resources'):
      raise ImportError(f'No module named {name!r}')
    return real(name, *args, **kwargs)

  real = importlib.import_module
  monkeypatch.setattr(importlib, 'import_module', refuse)
  with pytest.raises(ValueError, match=r"pip install 'rlvr_jax\[tfds\]'"):
    get(data_dir=str(tmp_path), download=True)
  assert len(get(data_dir=write(tmp_path / 'd'))['train']) == 3


def test_refusals(tmp_path):
  with pytest.raises(ValueError, match=r"not in data_dir=''.*download=True"):
    get()
  with pytest.raises(ValueError, match='give both or neither'):
    get(train_file='a')
  with pytest.raises(ValueError, match=r"no file 'a\.jsonl'"):
    get(train_file='a.jsonl', test_file='b.jsonl')
  bad = write(tmp_path / 'd', train=[*TRAIN, ('What?', 'It is 4.')])
  with pytest.raises(ValueError, match=r'Line 4: answer .*#### NUMBER'):
    get(data_dir=bad)
  leak = write(tmp_path / 'd', test=[TRAIN[0]])
  with pytest.raises(ValueError, match='What is trained on cannot be tested'):
    get(data_dir=leak)


def test_gold():
  assert gsm8k.gold('so 1 #### no\n#### $1,234,567 ') == '$1234567'
  assert gsm8k.gold('#### 0.5') == '0.5'


@pytest.mark.skipif(
  not os.environ.get('RLVR_JAX_GSM8K_DIR'), reason='needs the real files'
)
def test_real_files():
  env = get(data_dir=os.environ['RLVR_JAX_GSM8K_DIR'])
  assert (len(env['train']), len(env['test'])) == (7473, 1319)
  assert env['train'][0].answer == '72'
  assert all(t.answer.lstrip('-').isdigit() for s in env.values() for t in s)
