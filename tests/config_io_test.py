"""Config files, overrides and what they refuse."""

import importlib.util
import json
import math
import pathlib
import shutil

import ml_collections
import pytest
from ml_collections import config_dict

from rlvr_jax import config as config_lib

ROOT = pathlib.Path(__file__).parents[1]
_COMMON = ROOT / 'configs' / 'common.py'

_FILE = """
import ml_collections
from ml_collections import config_dict
from configs import common

def get_config(arg=''):
  scale = common.parse_arg(arg, scale=('full', 'tiny'))['scale']
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.total_steps = 40 if scale == 'full' else 2
  c.estimator = 'grpo'
  c.shuffle = True
  c.limit = config_dict.placeholder(int)
  c.name = None
  c.optim = dict(learning_rate=1e-6, betas=(0.9, 0.99), warmup_steps=1)
  c.grid = dict(shape=(1, 8), axes=('data', 'fsdp'))
  return c
"""


@pytest.fixture
def path(tmp_path):
  folder = tmp_path / 'configs'
  folder.mkdir()
  shutil.copy(_COMMON, folder)
  (folder / 'toy.py').write_text(_FILE)
  (folder / 'plain.py').write_text(
    'import ml_collections\n'
    'def get_config():\n  return ml_collections.ConfigDict(dict(a=1))\n'
  )
  (folder / 'none.py').write_text('x = 1\n')
  return str(folder / 'toy.py')


def test_overrides_of_every_type(path):
  c = config_lib.load(
    path,
    [
      'seed=3',
      'estimator=grpo(eps=1e-6)',
      'shuffle=False',
      'limit=5',
      'name=abc',
      'optim.learning_rate=1',
      'optim.betas=(0, 0.5)',
      'grid.shape=[2, 4]',
      "grid.axes=('a', 'b')",
    ],
  )
  assert (c.seed, c.estimator, c.shuffle) == (3, 'grpo(eps=1e-6)', False)
  assert (c.limit, c.name) == (5, 'abc')
  assert isinstance(c.optim.learning_rate, float)
  assert c.optim.betas == (0.0, 0.5)
  assert isinstance(c.optim.betas[0], float)
  assert c.grid.shape == (2, 4)
  assert c.grid.axes == ('a', 'b')
  with pytest.raises(AttributeError):
    c.new = 1
  # A string is taken as it is, quotes, commas and '=' included.
  assert config_lib.load(path, ["estimator='x, y=1'"]).estimator == "'x, y=1'"
  assert config_lib.load(path, ['estimator=']).estimator == ''


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('seeed=1', "no key 'seeed'. Did you mean 'seed'?"),
    ('learning_rate=1', "Did you mean 'optim.learning_rate'?"),
    ('optim.lerning_rate=1', "Did you mean 'optim.learning_rate'?"),
    ('seed.x=1', "no key 'seed.x'"),
    ('optim=1', 'group of keys; set one of: optim.betas, optim.learn'),
    ('seed=1.5', "'seed' is int, now 0; '1.5' is not"),
    ('seed=', "'seed' is int, now 0"),
    ('limit=x', "'limit' is int, now None"),
    ('shuffle=maybe', "'shuffle' is bool, now True; 'maybe' is not. Give true"),
    ('optim.learning_rate=fast', 'is float, now 1e-06'),
    ('grid.shape=8', "'grid.shape' is tuple, now (1, 8)"),
    ('grid.shape=(1.5, 2)', "'grid.shape' is tuple"),
    ('grid.shape=__import__("os")', "'grid.shape' is tuple"),
    ('grid.axes=(1, 2)', "'grid.axes' is tuple"),
    ('seed', 'has no value'),
  ],
)
def test_overrides_that_are_refused(path, override, message):
  with pytest.raises(ValueError) as e:
    config_lib.load(path, [override])
  assert message in str(e.value)


def test_files_and_args_that_are_refused(path, tmp_path, monkeypatch):
  folder = pathlib.Path(path).parent
  with pytest.raises(ValueError, match=r'Did you mean .*toy\.py.*plain\.py'):
    config_lib.load(str(folder / 'tou.py'))
  (folder / 'studies').mkdir()
  shutil.move(path, folder / 'studies' / 'toy.py')
  with pytest.raises(ValueError, match=r"Did you mean '.*/studies/toy\.py'\?"):
    config_lib.load(path)
  shutil.move(folder / 'studies' / 'toy.py', path)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match=r'There are: configs/none\.py'):
    config_lib.load('nowhere/toy.py')
  with pytest.raises(ValueError, match=r"ARG 'tinny'\. Did you mean 'tiny'"):
    config_lib.load(f'{path}:tinny')
  with pytest.raises(ValueError, match='takes no ARG'):
    config_lib.load(f'{folder}/plain.py:tiny')
  with pytest.raises(ValueError, match='no get_config'):
    config_lib.load(f'{folder}/none.py')
  assert config_lib.load(f'{path}:tiny').total_steps == 2


def test_split():
  rest, overrides = config_lib.split(
    ['--config=x.py', '--config.a.b=1=2', '--config.c', '-3', '--workdir=w']
  )
  assert rest == ['--config=x.py', '--workdir=w']
  assert overrides == ['a.b=1=2', 'c=-3']
  for bad in (['--config.a'], ['--config.a', '--workdir=w']):
    with pytest.raises(ValueError, match=r'--config\.a has no value'):
      config_lib.split(bad)


def test_json_round_trip(path, tmp_path):
  c = config_lib.load(path, ['optim.learning_rate=inf'])
  saved = tmp_path / 'config.json'
  saved.write_text(config_lib.to_json(c))
  assert json.loads(saved.read_text())['optim']['learning_rate'] == 'inf'
  back = config_lib.load(str(saved), ['seed=4'])
  assert config_lib.diff(c, back) == {'seed': (0, 4)}
  assert back.grid.shape == (1, 8)
  assert math.isinf(back.optim.learning_rate)
  saved.write_text('{"a": 1')
  with pytest.raises(ValueError, match='not a config in JSON'):
    config_lib.load(str(saved))


def test_diff():
  old = {'a': {'b': 1, 'c': (1, 2)}, 'gone': 0, 'flag': True}
  new = {'a': {'b': 2, 'c': [1, 2]}, 'more': None, 'flag': 1}
  assert config_lib.diff(old, new) == {
    'a.b': (1, 2),
    'gone': (0, '(absent)'),
    'flag': (True, 1),
    'more': ('(absent)', None),
  }


def test_recorder():
  c = ml_collections.ConfigDict(
    {'a': 1, 'b': {'c': 2, 'd': 3, 'e': {'f': 4}}, 'g': {'h': 5, 'i': 6}}
  )
  r = config_lib.Recorder(c)
  assert r.unread() == ['a', 'b.c', 'b.d', 'b.e.f', 'g.h', 'g.i']
  group = r.b
  assert (r.a, group['c'], r['b'].e.f) == (1, 2, 4)
  assert r.unread() == ['b.d', 'g.h', 'g.i']
  assert dict(**r.g) == {'h': 5, 'i': 6}
  assert 'b' in r
  assert list(r) == list(c)
  assert config_lib.to_json(r) == config_lib.to_json(c)
  assert config_lib.diff(r, c) == {}
  assert r.unread() == ['b.d']
  with pytest.raises(AttributeError):
    _ = r.nothing
  with pytest.raises(AttributeError, match='read only'):
    r.a = 2


def test_references_are_resolved():
  c = ml_collections.ConfigDict({'a': 2})
  c.b = c.get_ref('a') * 2
  c.p = config_dict.placeholder(int)
  assert config_lib.flatten(c) == {'a': 2, 'b': 4, 'p': None}


def test_arg_language():
  spec = importlib.util.spec_from_file_location('common', _COMMON)
  common = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(common)
  known = {'scale': ('full', 'tiny'), 'seeds': 3, 'fast': False, 'lr': 0.1}
  parse = lambda arg: tuple(common.parse_arg(arg, **known).values())
  assert parse('') == ('full', 3, False, 0.1)
  assert parse('tiny,seeds=5,fast,lr=2') == ('tiny', 5, True, 2.0)
  assert parse('scale=tiny,fast=true') == ('tiny', 3, True, 0.1)
  for bad, message in {
    'tinny': "Did you mean 'tiny'? Known: full, tiny, scale, seeds, fast, lr.",
    'seed=1': "Did you mean 'seeds'?",
    'seeds=x': "ARG 'seeds' is int, not 'x'",
    'scale=big': "'scale' is one of full, tiny, not 'big'",
    'seeds': 'Unknown config ARG',
  }.items():
    with pytest.raises(ValueError) as e:
      parse(bad)
    assert message in str(e.value)
