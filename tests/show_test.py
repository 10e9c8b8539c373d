"""`train.py --show`, and what scripts do with errors."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from rlvr_jax import config

ROOT = pathlib.Path(__file__).parents[1]
TINY = f'{ROOT}/configs/tiny.py'


@pytest.fixture(scope='module')
def train():
  path = ROOT / 'scripts' / 'train.py'
  spec = importlib.util.spec_from_file_location('train_script', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.main


def test_every_key_is_shown_and_what_differs_is_marked(
  train, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  spec = f'{TINY}:smoke'
  flags = ['--config.algo.estimate=rloo', '--show', '--workdir=new']
  assert train([f'--config={spec}', *flags]) == 0
  head, *lines = capsys.readouterr().out.splitlines()
  values = config.flatten(config.load(spec, ['algo.estimate=rloo']))
  assert [line[2:].split(' = ')[0] for line in lines] == list(values)
  assert '  seed = 0' in lines
  assert "* algo.estimate = 'rloo'  (default 'grpo')" in lines
  assert '* total_steps = 3  (default 100)' in lines
  marked = [line for line in lines if line.startswith('*')]
  assert all('  (default ' in line for line in marked)
  assert head == (
    f'# {spec}: {len(marked)} of {len(values)} keys differ from common.py (*)'
  )
  assert not list(tmp_path.iterdir())


def test_a_run_can_be_shown(train, tmp_path, capsys):
  path = tmp_path / 'config.json'
  path.write_text(config.to_json(config.load(TINY)))
  assert train([f'--config={path}', '--show']) == 0
  of_run = capsys.readouterr().out.splitlines()[1:]
  assert train([f'--config={TINY}', '--show']) == 0
  assert of_run == capsys.readouterr().out.splitlines()[1:]


def test_a_key_that_common_lacks_is_marked(train, tmp_path, capsys):
  path = tmp_path / 'config.json'
  values = json.loads(config.to_json(config.load(TINY)))
  path.write_text(json.dumps(values | {'mine': 1}))
  assert train([f'--config={path}', '--show']) == 0
  assert '* mine = 1  (no key of common.py)' in capsys.readouterr().out


def test_without_workdir_nothing_is_trained(train, capsys):
  with pytest.raises(SystemExit):
    train([f'--config={TINY}'])
  assert '--workdir=DIR is needed, or --show' in capsys.readouterr().err


def test_what_is_refused_is_printed_and_a_bug_keeps_its_traceback(capsys):
  class Other(ValueError):
    pass

  def status(error):
    def main(argv):
      assert argv == ['x']
      raise error

    return config.run_main(main)(['x'])

  for error in (ValueError('no'), RuntimeError('no'), FileNotFoundError('no')):
    assert status(error) == 1
    assert capsys.readouterr().err == 'error: no\n'
  assert status(KeyboardInterrupt()) == 130
  for bug in (Other('bug'), KeyError('bug'), RecursionError('bug')):
    with pytest.raises(type(bug)):
      status(bug)
  assert config.run_main(lambda argv: None)([]) == 0
  assert config.run_main(lambda argv: 3)([]) == 3


def test_a_reader_that_has_read_enough_ends_it_quietly():
  read, write = os.pipe()
  os.close(read)
  done = subprocess.run(
    [sys.executable, 'scripts/train.py', f'--config={TINY}', '--show'],
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    stdout=write,
    stderr=subprocess.PIPE,
  )
  os.close(write)
  assert (done.returncode, done.stderr) == (0, b'')
