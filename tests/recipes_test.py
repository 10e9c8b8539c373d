"""Base models that several processes want: trained once, by one that lives."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from rlvr_jax import recipes
from rlvr_jax.reporting import run_lock, run_writer

ROOT = pathlib.Path(__file__).parents[1]
_BASE = f"""
from rlvr_jax import config

def get_config():
  return config.load({str(ROOT / 'configs' / 'tiny.py') + ':smoke'!r},
    ['total_steps=3', 'model.name=tiny(layers=1, width=32)']).unlock()
"""
# In the place of scripts/train.py: holds the lock and works until told to end.
_TRAIN = """
import fcntl, json, os, pathlib, sys, time
flags = dict(w.split('=', 1) for w in sys.argv[1:])
folder = pathlib.Path(flags['--workdir'])
folder.mkdir(parents=True, exist_ok=True)
lock = os.open(folder / '.lock', os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
with open('starts', 'a') as f:
  f.write(f'{os.getpid()}\\n')
while not pathlib.Path('go').exists():
  time.sleep(0.02)
if pathlib.Path('go').read_text() == 'fail':
  sys.exit('told to fail')
(folder / 'checkpoints' / '3').mkdir(parents=True)
(folder / 'metrics.jsonl').write_text(json.dumps({'step': 3}) + '\\n')
"""
# A process that needs the base.
_WANTS = """
import pathlib, signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # were it ignored
from rlvr_jax import recipes
recipes._TRAIN = pathlib.Path('train.py')
made = types.SimpleNamespace
names = dict.fromkeys(('model', 'teacher', 'oracle', 'judge'), '') | {sys.argv[1]: 'base.py'}
recipes.ensure(made(
  model=made(name=names['model']),
  teacher=made(name=names['teacher']),
  dialogue=made(oracle=names['oracle']),
  judge=made(name=names['judge']),
  reward_funcs=(),
))
print('has it', flush=True)
"""


class Place:
  """A folder with processes in it, and what they said."""

  def __init__(self, folder):
    self.dir, self.running = folder, []
    (folder / 'base.py').write_text(_BASE)
    (folder / 'train.py').write_text(_TRAIN)
    self.base = folder / 'runs' / 'base' / 'base'

  def start(self, *command):
    out = self.dir / f'out{len(self.running)}'
    with out.open('wb') as f:
      process = subprocess.Popen(
        [sys.executable, *(command or ('-c', _WANTS, 'model'))],
        cwd=self.dir,
        env=os.environ | {'PYTHONPATH': str(ROOT), 'JAX_NUM_CPU_DEVICES': '1'},
        stdout=f,
        stderr=subprocess.STDOUT,
      )
    self.running.append(process)
    return process, out

  def pids(self):
    path = self.dir / 'starts'
    return path.read_text().split() if path.exists() else []

  def go(self, text='go'):
    (self.dir / 'new').write_text(text)
    (self.dir / 'new').rename(self.dir / 'go')


@pytest.fixture
def place(tmp_path):
  made = Place(tmp_path)
  yield made
  for process in made.running:
    process.kill()
    process.wait()


def until(what, *shown):
  """Waits for it; no test is about how long it takes."""
  deadline = time.monotonic() + 300
  while not what():
    text = '\n'.join(out.read_text() for out in shown)
    assert time.monotonic() < deadline, text
    time.sleep(0.05)


def ended(pid):
  """Whether there is no such process, or nobody has asked for its status."""
  try:
    text = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except FileNotFoundError:
    return True
  return text.rpartition(')')[2].split()[0] == 'Z'


def test_two_that_want_the_same_train_it_once(place):
  (a, first), (b, second) = place.start(), place.start()
  said = lambda: first.read_text() + second.read_text()
  until(lambda: place.pids() and 'waiting' in said(), first, second)
  assert len(place.pids()) == 1
  assert 'base.py is trained by another process, now at step 0' in said()
  place.go()
  assert (a.wait(300), b.wait(300)) == (0, 0), said()
  assert said().count('comes first') == 1
  assert said().count('has it') == 2
  assert len(place.pids()) == 1


@pytest.mark.parametrize('key', ['teacher', 'oracle', 'judge'])
def test_whoever_is_named_by_a_config_is_trained(place, key):
  process, out = place.start('-c', _WANTS, key)
  place.go()
  until(lambda: process.poll() is not None, out)
  assert process.returncode == 0, out.read_text()
  assert len(place.pids()) == 1


def test_a_trainer_ends_with_the_one_that_wants_and_another_takes_over(place):
  a, first = place.start()
  until(lambda: len(place.pids()) == 1, first)
  b, second = place.start()
  until(lambda: 'waiting' in second.read_text(), second)
  a.send_signal(signal.SIGKILL)
  a.wait()
  until(lambda: len(place.pids()) == 2, second)
  until(lambda: ended(place.pids()[0]), second)
  place.go()
  assert b.wait(300) == 0, second.read_text()
  assert 'has it' in second.read_text()


def test_a_trainer_started_by_hand_is_waited_for_too(place):
  flags = ['--config=base.py', f'--workdir={place.base}']
  by_hand, _ = place.start('train.py', *flags)
  until(lambda: len(place.pids()) == 1)
  a, first = place.start()
  until(lambda: 'waiting' in first.read_text(), first)
  place.go()
  assert (by_hand.wait(300), a.wait(300)) == (0, 0), first.read_text()
  assert 'comes first' not in first.read_text()


def test_ctrl_c_ends_both(place):
  a, first = place.start()
  until(lambda: len(place.pids()) == 1, first)
  a.send_signal(signal.SIGINT)
  assert a.wait(300) != 0
  until(lambda: ended(place.pids()[0]), first)
  assert 'KeyboardInterrupt' in first.read_text()
  assert 'could not be trained' not in first.read_text()


def test_one_that_fails_says_how_to_see_why(place):
  a, first = place.start()
  place.go('fail')
  assert a.wait(300) != 0
  assert 'told to fail' in first.read_text()
  assert "The model 'base.py' could not be trained" in first.read_text()


def test_a_base_of_another_config_is_refused(place):
  place.base.mkdir(parents=True)
  (place.base / 'metrics.jsonl').write_text('{"step": 3}\n')
  (place.base / 'config.json').write_text('{"seed": 1}')
  a, first = place.start()
  assert a.wait(300) != 0
  assert 'holds a run with another config' in first.read_text()
  assert 'seed: 1 -> 0' in first.read_text()
  assert 'temperature' not in first.read_text()  # came later, maybe


def test_the_real_script_ends_with_its_parent_and_goes_on(place):
  """Killed in the midst of training the base; the base goes on from there."""
  base = place.dir / 'base.py'
  forever = ['total_steps=1000000', 'save_every=1']
  base.write_text(_BASE.replace("['total_steps=3'", f'[*{forever}'))
  script = str(ROOT / 'scripts' / 'train.py')
  a, first = place.start(
    script,
    f'--config={ROOT}/configs/tiny.py:smoke',
    '--workdir=mine',
    '--config.model.name=base.py',
  )
  until(lambda: (place.base / 'checkpoints' / '2').exists(), first)
  assert run_lock.locked(place.base) is None  # it trains
  a.send_signal(signal.SIGKILL)
  a.wait()

  def free():
    lock = run_lock.locked(place.base)
    return lock is not None and os.close(lock) is None

  until(free, first)
  steps = [x['step'] for x in run_writer.read(place.base / 'metrics.jsonl')]
  assert steps == list(range(1, len(steps) + 1))
  assert not (place.dir / 'mine').exists()


def test_finished_means_saved(tmp_path):
  assert not recipes.finished(tmp_path, 3)
  lines = [{'step': s} for s in (1, 2, 3)]

  def write(*more):
    text = ''.join(json.dumps(x) + '\n' for x in [*lines, *more])
    (tmp_path / 'metrics.jsonl').write_text(text)

  write()
  (tmp_path / 'checkpoints' / '2').mkdir(parents=True)
  assert not recipes.finished(tmp_path, 3)  # killed before its last checkpoint
  (tmp_path / 'checkpoints' / '3').mkdir()
  assert recipes.finished(tmp_path, 3)
  assert not recipes.finished(tmp_path, 4)
  write({'step': 4, 'update_skipped': 1.0})
  assert recipes.finished(tmp_path, 4)
