"""A config file with functions of its own: a run finds them ever after."""

import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rlvr_jax import config, config_file, registry
from rlvr_jax.io import load
from rlvr_jax.reporting import run_writer

pytestmark = pytest.mark.usefixtures('one_device')
ROOT = pathlib.Path(__file__).parents[1]
SMALL = (
  'model.name=tiny(layers=1, width=32)',
  'save_every=1',
  'train_batch_size=8',
  'groups_per_micro_batch=8',
  'eval.num_tasks=8',
  'eval.batch_size=8',
  'total_steps=6',
)


def script(name):
  return module(name).main


def module(name):
  path = ROOT / 'scripts' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(f'{name}_script', path)
  loaded = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(loaded)
  return loaded


def forget():
  """Drops the functions of config files, as a new process has none."""
  for functions in registry._FUNCTIONS.values():
    for name, fn in list(functions.items()):
      if not fn.__module__.startswith('rlvr_jax.'):
        del functions[name]
  config_file._LOADED.clear()
  config_file._notice.cache_clear()


@contextlib.contextmanager
def new_process():
  """Without functions of other tests' files; afterwards with them alone."""
  before = registry.registered()
  forget()
  yield
  forget()
  for (kind, name), fn in before.items():
    registry._FUNCTIONS[kind][name] = fn


@pytest.fixture(autouse=True)
def _new_process():
  with new_process():
    yield


def is_known(name):
  return any(name in known for known in registry._FUNCTIONS.values())


##### forkme.py, from its first step to its report #####


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
  """The workdir of a run of a fork, killed after its first step; the file that
  it was started with is gone."""
  folder = tmp_path_factory.mktemp('fork')
  file, workdir = folder / 'mine.py', folder / 'runs' / 'arm=near_ranks,seed=0'
  shutil.copy(ROOT / 'configs' / 'forkme.py', file)
  command = [
    sys.executable,
    str(ROOT / 'scripts' / 'train.py'),
    f'--config={file}:smoke,arm=near_ranks',
    f'--workdir={workdir}',
    *(f'--config.{x}' for x in SMALL),
  ]
  env = os.environ | {'PYTHONPATH': str(ROOT), 'JAX_NUM_CPU_DEVICES': '1'}
  with (folder / 'log').open('wb') as log:
    process = subprocess.Popen(
      command, env=env, stdout=log, stderr=subprocess.STDOUT
    )
  deadline = time.monotonic() + 300
  while not (workdir / 'checkpoints' / '1').exists():
    assert process.poll() is None, (folder / 'log').read_text()
    assert time.monotonic() < deadline, (folder / 'log').read_text()
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  file.unlink()
  return workdir


@pytest.fixture(scope='module')
def finished(killed):
  """The same, gone on from its own config.json to its end."""
  # Set up before `_new_process` of the first test, which would keep what the
  # run registers for the files of other tests.
  with new_process():
    flags = [f'--config={killed}/config.json', f'--workdir={killed}']
    assert script('train')(flags) == 0
  return killed


def test_a_killed_run_goes_on_without_its_file(finished):
  steps = [x['step'] for x in run_writer.read(finished / run_writer.METRICS)]
  assert steps == list(range(1, 7))
  kept = config_file.kept(finished)
  assert kept.text == (ROOT / 'configs' / 'forkme.py').read_text()
  assert kept.arg == 'smoke,arm=near_ranks'
  assert set(kept.registers) == {
    'estimator ranks',
    'reward near',
    'env larger',
  }
  last = run_writer.read(finished / run_writer.ROLLOUTS)
  assert any('near' in x.get('parts', x) for x in last)


def test_every_command_finds_the_functions(finished, tmp_path, capsys):
  workdir = shutil.copytree(finished, tmp_path / 'runs' / finished.name)
  for name, *flags in (
    ('evaluate', f'--workdir={workdir}', '--env=larger(digits=6)'),
    ('compare', workdir, workdir, '--step_base=0', '--ppl_tasks=0'),
    ('report', workdir, f'--out={tmp_path}/r.html'),
    ('study', workdir.parent, '--over=reward'),
    ('label', f'--config={workdir}/config.json', f'--out={tmp_path}/l.jsonl',
      '--samples=4', '--tasks=2'),
  ):  # fmt: skip
    forget()
    assert script(name)([str(f) for f in flags]) == 0, name
  assert 'larger(digits=6), test, at step 6' in capsys.readouterr().out


def test_another_run_starts_from_it(finished, tmp_path):
  """From its config, and from its weights by a config that has no such task."""
  keep(f'{finished}/config.json', tmp_path / 'again')
  assert config_file.kept(tmp_path / 'again') == config_file.kept(finished)
  forget()
  assert load.load(str(finished)).params is not None
  assert not is_known('near')  # code that comes with weights is not run


def test_an_architecture_that_comes_with_weights_is_not_run(finished, tmp_path):
  shutil.copytree(finished, tmp_path / 'run')
  path = tmp_path / 'run' / 'config.json'
  values = json.loads(path.read_text())
  values['model']['name'] = 'mine_too(layers=1)'
  path.write_text(json.dumps(values))
  record = tmp_path / 'run' / config_file.RECORD
  values = json.loads(record.read_text())
  record.write_text(json.dumps(values | {'registers': ['model mine_too']}))
  with pytest.raises(ValueError, match='register it in your own config file'):
    load.load(str(tmp_path / 'run'))


##### what a run keeps #####

_FILE = """
import dataclasses
from configs import common
from rlvr_jax import registry

BONUS = 1.0

def get_config(arg=''):
  c = common.base()
  c.reward_funcs = ('mine',)
  return c

def bonus():
  return BONUS

@registry.register('reward')
def mine(tasks, transcripts, *, weight: float = 1.0):
  'A reward.'
  return [bonus() * weight for t in transcripts]
"""


@pytest.fixture
def run(tmp_path):
  """(workdir, file) of a run that only wrote down what it is."""
  file, workdir = tmp_path / 'mine.py', tmp_path / 'run'
  file.write_text(_FILE)
  keep(f'{file}:x', workdir)
  forget()
  return workdir, file


def keep(spec, workdir):
  c = config.load(spec.partition(':')[0])
  made = dict(step=None, total_steps=1, transcripts=0)
  source = config_file.source(spec)
  with run_writer.open(workdir, c, source=source, **made):
    pass


def test_a_run_keeps_file_and_arg(run):
  workdir, file = run
  kept = config_file.kept(workdir)
  assert kept == (str(file), 'x', _FILE, ('reward mine',))
  assert not is_known('mine')
  config.of_run(workdir, ())
  assert is_known('mine')


def test_a_file_that_changed_is_used_as_kept_and_said(run, capsys):
  workdir, file = run
  file.write_text(_FILE.replace('BONUS = 1.0', 'BONUS = 5.0'))
  config.of_run(workdir, ())
  config.of_run(workdir, ())
  said = capsys.readouterr().err
  assert said.count('notice: BONUS of') == 1
  assert str(file) in said
  assert registry.get('reward', 'mine')([], [0]) == [1.0]
  file.write_text('def (')  # not even Python
  config.of_run(workdir, ())
  assert 'notice: BONUS, bonus, mine, registry of' in capsys.readouterr().err


def test_functions_that_changed_are_refused_when_a_run_goes_on(run):
  workdir, file = run

  def check(text):
    file.write_text(text)
    config.load(str(file))
    config_file.check(workdir, config_file.source(str(file)))

  check(_FILE)
  check(_FILE.replace("'A reward.'", "'It is mine.'  # by now"))
  check(_FILE + '\n@registry.register("kl")\ndef more(a, b):\n  return a\n')
  check(_FILE.replace("('mine',)", "('mine(weight=2.0)',)"))  # of the config
  check(_FILE.replace('import registry', 'import types, registry'))
  for old, new in (
    ('* weight', '+ weight'),
    ('BONUS = 1.0', 'BONUS = 2.0'),
    ('return BONUS', 'return 2 * BONUS'),
  ):
    with pytest.raises(ValueError, match='run was trained with other') as e:
      check(_FILE.replace(old, new))
    assert f'{file} changed since. Bring them back from' in str(e.value)
    assert 'config.py, or use a new workdir' in str(e.value)
  config_file.check(workdir, None)  # a config that came from no file


def test_a_sweep_does_not_go_on_with_functions_that_changed(run):
  workdir, file = run
  file.write_text(_FILE.replace('BONUS = 1.0', 'BONUS = 2.0'))
  sweep = module('sweep')
  planned = {workdir.name: sweep.Run(str(file), [])}
  with pytest.raises(ValueError, match=r'other functions: BONUS of .*mine\.py'):
    sweep.execute(workdir.parent, planned, 1)


def test_where_the_copy_is_gone_the_file_will_do(run):
  workdir, file = run
  (workdir / 'config.py').unlink()
  config.of_run(workdir, ())
  assert is_known('mine')
  file.unlink()
  with pytest.raises(ValueError, match=r'reward mine, of .*\.py\. That file'):
    config.of_run(workdir, ())
  (workdir / 'config_file.json').write_text('{}')
  with pytest.raises(ValueError, match='is damaged'):
    config.of_run(workdir, ())
  (workdir / 'config_file.json').unlink()  # as of an older version
  config.of_run(workdir, ())


def test_a_copy_that_cannot_be_loaded_says_what_it_needs(run):
  workdir, _ = run
  (workdir / 'config.py').write_text('import nowhere_to_be_found\n' + _FILE)
  with pytest.raises(ValueError, match=r"No module named 'nowhere.*Bring back"):
    config.of_run(workdir, ())


def test_a_file_that_registers_nothing_need_not_load(run):
  workdir, file = run
  plain = _FILE.partition('def bonus')[0].replace("('mine',)", "('outcome',)")
  file.write_text(plain)
  keep(str(file), workdir.with_name('plain'))
  file.unlink()
  (workdir.with_name('plain') / 'config.py').write_text('import nowhere')
  config.of_run(workdir.with_name('plain'), ())


def test_functions_of_another_run_do_not_replace_ours(run, tmp_path):
  workdir, file = run
  file.write_text(_FILE.replace('BONUS = 1.0', 'BONUS = 5.0'))
  keep(str(file), tmp_path / 'other')
  forget()
  config.of_run(workdir, ())
  with registry.first_stays():
    config.of_run(tmp_path / 'other', ())
  assert registry.get('reward', 'mine')([], [0]) == [1.0]
  config.of_run(tmp_path / 'other', ())
  assert registry.get('reward', 'mine')([], [0]) == [5.0]


def test_a_model_must_be_the_same_in_both(tmp_path):
  text = """
from rlvr_jax import registry
from rlvr_jax.models import model_config

@registry.register('model')
def mine_too():
  return model_config.tiny(layers={})

def get_config():
  from configs import common
  return common.base()
"""
  for name, layers in (('a', 1), ('b', 1), ('c', 2)):
    (tmp_path / f'{name}.py').write_text(text.format(layers))
  config.load(f'{tmp_path}/a.py')
  with registry.first_stays():
    config.load(f'{tmp_path}/b.py')
    with pytest.raises(
      ValueError, match=r'not the same in .*a\.py and .*c\.py'
    ):
      config.load(f'{tmp_path}/c.py')


def test_a_name_of_ours_cannot_be_taken(tmp_path):
  file = tmp_path / 'mine.py'
  file.write_text(_FILE.replace('def mine', 'def outcome'))
  registry.names('reward')
  with pytest.raises(
    ValueError, match=r'registered twice, by rlvr_jax.* config_'
  ):
    config.load(str(file))


##### copies of studies #####

STUDIES = sorted(p.name for p in (ROOT / 'configs' / 'studies').glob('*/'))


@pytest.mark.parametrize('name', STUDIES)
def test_the_copy_of_a_study_is_a_study(name, tmp_path):
  folder = tmp_path / 'configs' / 'studies' / 'mine'
  shutil.copytree(ROOT / 'configs' / 'studies' / name, folder)
  added = []
  config_file.module(f'{folder}/{name}.py').sweep(
    lambda **changes: added.append(changes)
  )
  assert added
  for changes in added:
    arg = changes.get('arg', '')
    ours = config.flatten(config.load(f'{folder}/{name}.py:{arg}'))
    theirs = config.flatten(
      config.load(f'{ROOT}/configs/studies/{name}/{name}.py:{arg}')
    )
    # Of this study, or not.
    for stage in ('model.name', 'teacher.name', 'reward_funcs'):
      original = str(theirs.pop(stage))
      original = original.replace(f'studies/{name}/', 'studies/mine/')
      assert str(ours.pop(stage)) == original
    assert ours == theirs


def test_a_copy_has_first_stages_of_its_own(tmp_path):
  folder = tmp_path / 'configs' / 'studies' / 'mine'
  shutil.copytree(ROOT / 'configs' / 'studies' / 'srl', folder)
  c = config.load(f'{folder}/srl.py:arm=srl_rlvr,seed=2')
  assert c.model.name == 'configs/studies/mine/srl.py:arm=srl,seed=2'
  where = load.recipe(c.model.name)
  assert where == pathlib.Path('runs/mine/arm=srl,seed=2')
  assert load.recipe('configs/studies/srl/srl.py') == pathlib.Path(
    'runs/srl/base'
  )
  assert load.recipe('/x/configs/base_models/substrate.py:hard,rl') == (
    pathlib.Path('runs/substrate/hard,rl')
  )
