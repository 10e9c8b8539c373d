"""Every key of a config is read, documented, and the same in all files."""

import pathlib
import runpy

import ml_collections
import pytest

from rlvr_jax import config, config_file

ROOT = pathlib.Path(__file__).parents[1]
COMMON = ROOT / 'configs' / 'common.py'
BASE = runpy.run_path(str(COMMON))['base']
FILES = sorted(
  str(p.relative_to(ROOT))
  for p in (ROOT / 'configs').rglob('*.py')
  if p != COMMON
)


def test_every_key_is_read_by_a_run(smoke):
  # Read in dialogues alone, or with a judge or a teacher, which the run lacks:
  # that they have an effect there is what config_effects_test shows.
  others = ('dialogue.', 'judge.', 'teacher.')
  alone = {k for k in smoke[1] if not k.startswith(others)}
  assert alone <= {'eval.max_turns', 'algo.divergence'}


def test_a_key_that_nobody_reads_is_noticed():
  values = ml_collections.ConfigDict({'used': 1, 'group': {'dead': 2}})
  recorded = config.Recorder(values)
  assert recorded.used == 1
  assert recorded.unread() == ['group.dead']


@pytest.mark.parametrize('name', FILES)
def test_files_have_the_keys_of_base(name):
  base = config.flatten(BASE())
  loaded = config.load(str(ROOT / name))
  assert config.flatten(loaded).keys() == base.keys()
  assert config_file.module(str(ROOT / name)).__doc__
  for key, value in config.flatten(loaded).items():
    assert type(value) is type(base[key]), f'{name}: {key}={value!r}'


def test_every_key_is_explained():
  """Each `c.key = ...` of base has a comment, on its line or just above."""
  text = COMMON.read_text()
  body = text[text.index('def base()') : text.index('def tiny()')]
  bare, above = [], ''
  for line in map(str.strip, body.splitlines()):
    assigns = line.startswith('c.') and 'ConfigDict()' not in line
    if assigns and '  # ' not in line and not above.startswith('#'):
      bare.append(line)
    above = line
  assert bare == []
