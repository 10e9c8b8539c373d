"""A sweep runs, skips, resumes and reports; training itself is a fake."""

import importlib.util
import pathlib
import subprocess
import sys
import time

import pytest

_PATH = pathlib.Path(__file__).parents[1] / 'scripts' / 'sweep.py'
_CONFIG = """
import ml_collections

def get_config(arg=''):
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.total_steps = 2
  c.model = dict(name='tiny()')
  c.teacher = dict(name='')
  c.dialogue = dict(oracle='')
  c.judge = dict(name='')
  c.reward_funcs = ('outcome',)
  c.algorithm = dict(estimator='grpo')
  return c

def sweep(add):
  for estimator in ('grpo(eps=1e-6)', 'rloo', 'bad'):
    add(**{'algorithm.estimator': estimator})
"""
# Does one step per call, so the first call leaves runs unfinished.
_TRAIN = """
import json, pathlib, sys
flags = dict(w.split('=', 1) for w in sys.argv[1:])
if flags['--config.algorithm.estimator'] == 'bad':
  sys.exit(3)
folder = pathlib.Path(flags['--workdir'])
folder.mkdir(parents=True, exist_ok=True)
values = dict(
  seed=int(flags['--config.seed']),
  total_steps=2,
  model=dict(name='tiny()'),
  teacher=dict(name=''),
  dialogue=dict(oracle=''),
  judge=dict(name=''),
  reward_funcs=['outcome'],
  algorithm=dict(estimator=flags['--config.algorithm.estimator']),
)
(folder / 'config.json').write_text(json.dumps(values))
with (folder / 'metrics.jsonl').open('a+') as f:
  f.seek(0)
  f.write(json.dumps(dict(step=len(f.readlines()) + 1, reward=0.5)) + '\\n')
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
  spec = importlib.util.spec_from_file_location('sweep', _PATH)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  (tmp_path / 'train.py').write_text(_TRAIN)
  monkeypatch.setattr(module, '_TRAIN', tmp_path / 'train.py')
  (tmp_path / 'toy.py').write_text(_CONFIG)
  return module


def test_runs_resumes_skips_and_reports(sweep, tmp_path, capfd):
  folder = tmp_path / 'out'
  argv = [f'--config={tmp_path}/toy.py', f'--workdir={folder}']
  argv += ['--config.seed=3']
  labels = [
    'algorithm.estimator=grpo_eps=1e-6',
    'algorithm.estimator=rloo',
    'algorithm.estimator=bad',
  ]
  says = []
  for _ in range(3):
    assert sweep.main(argv) == 1
    out = capfd.readouterr().out
    says.append(
      [w for w in ('starts', 'resumes', 'finished before') if f': {w}' in out]
    )
    assert f'{labels[2]}: failed with exit status 3' in out
  # The failing run never makes its directory, so it always starts.
  assert says == [
    ['starts'],
    ['starts', 'resumes'],
    ['starts', 'finished before'],
  ]
  found = sorted(p.name for p in folder.iterdir() if p.is_dir())
  assert found == sorted(labels[:2])
  assert 'estimator=rloo' in (folder / 'report.html').read_text()
  assert (folder / labels[0] / 'config.json').read_text().count(
    '"seed": 3'
  ) == 1


def test_refusals(sweep, tmp_path, capsys):
  path = tmp_path / 'other.py'
  start = _CONFIG.partition('def sweep')[0]

  def plan(text):
    path.write_text(start + text)
    return sweep.plan(str(path), [])

  with pytest.raises(ValueError, match=r'has no sweep\(add\)'):
    plan('')
  with pytest.raises(ValueError, match='never calls add'):
    plan('def sweep(add): pass')
  with pytest.raises(ValueError, match="lists 'seed=1' twice"):
    plan('def sweep(add): add(seed=1); add(seed=1)')
  with pytest.raises(ValueError, match="Did you mean 'seed'"):
    plan('def sweep(add): add(seed=1); add(sed=2)')
  assert plan('def sweep(add): add(seed=1); add(seed=2)') == {
    'seed=1': (str(path), ['seed=1']),
    'seed=2': (str(path), ['seed=2']),
  }
  assert sweep.main([f'--config={path}', '--workdir=x', '--jobs=0']) == 1
  assert 'error: --jobs=0' in capsys.readouterr().err


def test_arg_words_are_added_to_those_given(sweep, tmp_path):
  path = tmp_path / 'toy.py'
  path.write_text(
    _CONFIG.partition('def sweep')[0]
    + "def sweep(add): add(arg='arm=a,clip=false', seed=1)\n"
  )
  assert sweep.plan(f'{path}:tiny', ['total_steps=3']) == {
    'arm=a,clip=false,seed=1': (
      f'{path}:tiny,arm=a,clip=false',
      ['total_steps=3', 'seed=1'],
    )
  }


def test_jobs_write_logs_of_their_own(sweep, tmp_path, capfd):
  """Two at a time: both start before one ends, and the console stays short."""
  (tmp_path / 'train.py').write_text(
    _TRAIN + "\nprint('hello from a run')\n" + 'import time; time.sleep(1)\n'
  )
  folder = tmp_path / 'out'
  argv = [f'--config={tmp_path}/toy.py', f'--workdir={folder}', '--jobs=2']
  argv += ['--config.seed=3']
  assert sweep.main(argv) == 1
  out = capfd.readouterr().out
  assert 'hello' not in out
  told = [line.rpartition(': ')[2] for line in out.splitlines()]
  assert told[:2] == ['starts', 'starts']
  assert '[3/3]' in out
  log = folder / 'algorithm.estimator=rloo' / 'log.txt'
  assert 'hello from a run' in log.read_text()


def test_runs_end_with_a_sweep_that_is_killed(sweep, tmp_path):
  """And hold no lock then, so that the same command can go on."""
  (tmp_path / 'train.py').write_text(
    _TRAIN + "\nimport os, time; print('pid', os.getpid(), flush=True)\n"
    'time.sleep(600)\n'
  )
  folder = tmp_path / 'out'
  program = (
    'import sys, runpy, pathlib\n'
    f"sys.argv = ['sweep.py', '--config={tmp_path}/toy.py', "
    f"'--workdir={folder}', '--jobs=2', '--config.seed=3']\n"
    f"m = runpy.run_path({str(_PATH)!r}, run_name='sweep')\n"
    "m['start'].__globals__['_TRAIN'] = pathlib.Path("
    f'{str(tmp_path / "train.py")!r})\n'
    "m['main']()\n"
  )
  with (tmp_path / 'said').open('wb') as f:
    process = subprocess.Popen([sys.executable, '-c', program], stdout=f)
  try:
    logs = lambda: [p.read_text() for p in folder.glob('*/log.txt')]
    deadline = time.monotonic() + 300
    while sum('pid ' in text for text in logs()) < 2:
      assert time.monotonic() < deadline, (tmp_path / 'said').read_text()
      time.sleep(0.05)
  finally:
    process.kill()
    process.wait()
  pids = [int(text.split()[1]) for text in logs()]
  while not all(map(ended, pids)):
    assert time.monotonic() < deadline
    time.sleep(0.05)


def ended(pid):
  """Whether there is no such process, or nobody has asked for its status."""
  try:
    text = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except FileNotFoundError:
    return True
  return text.rpartition(')')[2].split()[0] == 'Z'
