"""TFDS data sets by name, on a tiny one that is made here; no network."""

import importlib
import logging
import sys
import types

import numpy as np
import pytest

from rlvr_jax import registry
from rlvr_jax.envs import tfds as tfds_env

RECORDS = [
  {
    'question': f'What is {i} + 1?',
    'solution': f'So {i} + 1 = {i + 1}. #### {i + 1}',
    'choices': {'text': [str(i), str(i + 1)], 'label': ['A', 'B']},
    'answerKey': 'B',
    'half': i / 10,
    'count': i if i != 2 else np.iinfo(np.int64).min,
  }
  for i in range(20)
]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """A folder for prepared data sets; `rlvr_toy` can be prepared in it."""
  tfds = pytest.importorskip('tensorflow_datasets')
  f = tfds.features

  class RlvrToy(tfds.core.GeneratorBasedBuilder):
    """Sums."""

    VERSION = tfds.core.Version('1.0.0')
    pkg_dir_path = tmp_path_factory.mktemp('code')
    made = 0

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=f.FeaturesDict(
          {
            'question': f.Text(),
            'solution': f.Text(),
            'choices': f.Sequence({'text': f.Text(), 'label': f.Text()}),
            'answerKey': f.ClassLabel(names=['A', 'B']),
            'half': np.float32,
            'count': np.int64,
          }
        ),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager):
      type(self).made += 1
      return {
        'train': enumerate(RECORDS[:15]),
        'validation': enumerate(RECORDS[15:]),
      }

    def _generate_examples(self):
      raise NotImplementedError

  folder = tmp_path_factory.mktemp('tfds')
  get(folder)  # prepares it
  assert RlvrToy.made == 1
  return folder, RlvrToy


def get(data_dir, name='rlvr_toy', **options):
  options = {
    'answer': 'solution',
    'pick': 'hash',
    'test_split': 'validation',
    'data_dir': str(data_dir),
  } | options
  return registry.get('env', registry.spec('tfds', name, **options))()


def test_prepared_once_and_read_without_its_code(data_dir, monkeypatch):
  folder, builder = data_dir
  monkeypatch.setattr(
    sys.modules['tensorflow_datasets'], 'builder', None
  )  # nothing needs it any more
  for name in ('rlvr_toy', 'rlvr_toy:1.0.0', 'huggingface:rlvr_toy'):
    env = get(folder, name)
    assert [t.id for t in env['train']] == [f'train-{i}' for i in range(15)]
    assert env['test'][0] == (
      'validation-0',
      'What is 15 + 1?',
      '16',
      'math',
      {'solution': RECORDS[15]['solution']},
    )
  assert builder.made == 1
  assert 'tensorflow' not in sys.modules


def test_slices_and_values(data_dir, caplog):
  folder, _ = data_dir
  env = get(
    folder,
    split='train[:80%]',
    test_split='train[80%:]',
    answer='answerKey',
    pick='choice(options=choices)',
  )
  assert [t.id for t in env['test']] == ['train-12', 'train-13', 'train-14']
  assert env['train'][3].question == 'What is 3 + 1?\n\nA. 3\nB. 4'
  assert {t.answer for t in env['train']} == {'B'}
  half = get(folder, answer='half', pick='plain')
  assert [t.answer for t in half['train']][:3] == ['0.0', '0.1', '0.2']
  with caplog.at_level(logging.WARNING):
    count = get(folder, answer='count', pick='plain')
  assert len(count['train']) == 14
  assert "train row 2: answer: 'count' is null" in caplog.text


def test_refusals(data_dir):
  folder, _ = data_dir
  with pytest.raises(
    ValueError,
    match=r"Fields: 'answerKey', 'choices\.label', 'choices\.text', 'co",
  ):
    get(folder, answer='anser')
  with pytest.raises(
    ValueError, match=r"no split 'test'.* validation \(5 rows"
  ):
    get(folder, test_split='test')
  with pytest.raises(ValueError, match=r'15 of 15 rows .* None is left'):
    get(folder, pick='boxed', test_split='', max_bad=0.9)
  for name in ('rlvr_toi', 'rlvr_toy/x', 'rlvr_toy:9.9.9', '../x', 'a:b:c'):
    with pytest.raises(ValueError, match=r'not prepared in .* and cannot be'):
      get(folder, name)


def test_old_builders_are_found(data_dir, monkeypatch):
  folder, _ = data_dir
  tfds = importlib.import_module('tensorflow_datasets')
  found = []

  def prepare(self, *args, **kwargs):
    found.append(self.name)
    raise OSError('no network')

  monkeypatch.setattr(tfds.core.DatasetBuilder, 'download_and_prepare', prepare)
  with pytest.raises(ValueError, match='no network'):
    get(folder, 'gsm8k')
  assert found == ['gsm8k']


def test_newest_version_and_config(tmp_path):
  for path in (
    'd/1.9.0',
    'd/1.10.0',
    'd/2.0.0.incomplete1',
    'd/arc_easy/1.0.0',
  ):
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / 'dataset_info.json').write_text('{}')
  found = lambda name: tfds_env._prepared(tmp_path, name)
  assert found('d') == tmp_path / 'd/1.10.0'
  assert found('d:1.9.0') == tmp_path / 'd/1.9.0'
  assert found('huggingface:D/ARC-Easy') == tmp_path / 'd/arc_easy/1.0.0'
  for name in ('e', 'd/other', 'd:3.0.0', '', '/', '..', 'd/..', 'd/../d'):
    assert found(name) is None


def test_missing_tfds_names_the_remedy(monkeypatch):
  def refuse(name):
    raise ImportError(f'No module named {name!r}')

  monkeypatch.setattr(
    tfds_env, 'importlib', types.SimpleNamespace(import_module=refuse)
  )
  with pytest.raises(
    ValueError, match=r"pip install 'rlvr_jax\[tfds\]', or re"
  ):
    get('x')
