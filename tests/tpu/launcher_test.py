"""scripts/tpu.py, with a gcloud whose hosts are processes of this machine."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# In place of training: a line a step, resumed; faults are files that it eats.
_PROGRAM = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(dict(w.split('=', 1) for w in sys.argv[1:])['--workdir'])
me = os.environ['TPU_WORKER_ID']
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
path = folder / f'steps-{me}.txt'
done = len(path.read_text().split()) if path.exists() else 0
(folder / f'argv-{me}.json').write_text(json.dumps(sys.argv[1:]))
if (folder / 'refuse').exists():
  print('error: no such reward', flush=True)
  sys.exit(2)
for step in range(done + 1, 7):
  if me == '0' and step == 5:
    while not (folder / 'go').exists() and not stop:
      time.sleep(0.05)
  if stop:
    sys.exit(130)
  with path.open('a') as f:
    f.write(f'{step}\\n')
  if me == '1' and step == 2 and (folder / 'crash').exists():
    (folder / 'crash').unlink()
    sys.exit('the disk is on fire')
print('finished', flush=True)
"""


class Place:
  """A repository with the launcher, a fake cloud, a disk that hosts share."""

  def __init__(self, folder):
    self.cloud, self.shared = folder / 'cloud', folder / 'shared'
    self.repo, self.dir = folder / 'repo', folder / 'launch'
    for path in (
      self.cloud,
      self.shared,
      self.repo / 'scripts',
      folder / 'bin',
    ):
      path.mkdir(parents=True)
    for name in ('tpu.py', 'tpu_cloud.py'):
      shutil.copy(ROOT / 'scripts' / name, self.repo / 'scripts')
    (self.repo / 'program.py').write_text(_PROGRAM)
    (self.repo / '.gitignore').write_text('secret\n')
    (self.repo / 'secret').write_text('')
    git = [
      'git',
      '-C',
      str(self.repo),
      '-c',
      'user.name=a',
      '-c',
      'user.email=b',
    ]
    for words in (['init', '-q'], ['add', '.'], ['commit', '-qm', 'all']):
      subprocess.run([*git, *words], check=True)
    (self.repo / 'new.txt').write_text('not committed')
    gcloud = folder / 'bin' / 'gcloud'
    fake = ROOT / 'tests' / 'tpu' / 'fake_gcloud.py'
    gcloud.write_text(f'#!/bin/sh\nexec {sys.executable} -S {fake} "$@"\n')
    gcloud.chmod(0o755)
    self.env = os.environ | {
      'PATH': f'{folder / "bin"}:{os.environ["PATH"]}',
      'FAKE': str(self.cloud),
    }

  def command(self, verb, *words):
    return [
      *(sys.executable, str(self.repo / 'scripts' / 'tpu.py'), verb),
      *(f'--workdir={self.dir}', *words),
    ]

  def tpu(self, verb, *words):
    return subprocess.run(
      self.command(verb, *words),
      env=self.env,
      capture_output=True,
      text=True,
      check=False,
      timeout=300,
    )

  def create(self, *words):
    flags = [
      '--name=s',
      '--zone=z-a',
      '--type=v5e-8',
      '--setup=touch installed',
    ]
    return self.tpu('create', *flags, '--spot', '--poll=0.1', *words)

  def run(self, *words):
    flags = ('--poll=0.2', '--backoff=0.1', '--grace=10', '--delete')
    command = (sys.executable, 'program.py', f'--workdir={self.shared}', *words)
    return self.command('run', *flags, '--', *command)

  def calls(self):
    text = (self.cloud / 'calls.txt').read_text()
    return [json.loads(line) for line in text.splitlines()]

  def launch(self):
    return json.loads((self.dir / 'launch.json').read_text())


@pytest.fixture
def place(tmp_path):
  return Place(tmp_path)


def until(what):
  deadline = time.monotonic() + 120
  while not what():
    assert time.monotonic() < deadline
    time.sleep(0.05)


def test_created_crashed_preempted_resumed_fetched_and_deleted(place):
  done = place.create()
  assert done.returncode == 0, done.stderr
  assert 'waiting for the slice: WAITING_FOR_RESOURCES' in done.stdout
  create = next(c for c in place.calls() if 'create' in c)
  assert {
    '--accelerator-type=v5litepod-8',
    '--runtime-version=v2-alpha-tpuv5-lite',
    '--spot',
  } < {*create}
  (place.shared / 'crash').write_text('')
  note = '--note=it\'s "quoted" $HOME and ; spaced'
  log = place.dir.with_suffix('.log')
  with log.open('w') as f:
    watcher = subprocess.Popen(
      place.run(note), env=place.env, stdout=f, stderr=subprocess.STDOUT
    )
  steps = [place.shared / f'steps-{i}.txt' for i in (0, 1)]
  lines = lambda i: steps[i].read_text().split() if steps[i].exists() else []
  # The crash of host 1 ended both, and the command began again.
  until(lambda: len(lines(0)) == 4 and len(lines(1)) == 6)
  assert place.launch()['attempt'] >= 2
  tree = place.cloud / 's' / 'host-1' / 'rlvr' / 'tree'
  commit = (tree / 'COMMIT').read_text()
  assert commit == place.launch()['commit']
  assert commit.endswith(' with changes')
  assert (tree / 'new.txt').read_text() == 'not committed'
  assert (tree / 'installed').exists()
  assert not (tree / 'secret').exists()
  # The launcher dies, the command goes on; another one follows it.
  watcher.kill()
  watcher.wait()
  (place.repo / 'new.txt').write_text('edited meanwhile')
  subprocess.run(['gcloud', 'fake', 'preempt', 's'], env=place.env, check=True)
  attempt = place.launch()['attempt']
  flags = place.run()[3 : place.run().index('--')]
  watcher = subprocess.Popen(
    place.command('watch', *flags[1:]),
    env=place.env,
    stdout=subprocess.PIPE,
    text=True,
  )
  until(lambda: place.launch()['attempt'] > attempt)
  assert (tree / 'new.txt').read_text() == 'not committed'
  (place.shared / 'go').write_text('')
  out, _ = watcher.communicate(timeout=200)
  assert watcher.returncode == 0, out
  assert 'the slice is SUSPENDED' in out
  assert [lines(0), lines(1)] == [list('123456')] * 2
  assert json.loads((place.dir / 'argv-1.json').read_text())[1] == note
  assert (place.dir / 'steps-0.txt').read_text() == '1\n2\n3\n4\n5\n6\n'
  assert 'finished' in (place.dir / 'logs' / 'host-0.txt').read_text()
  assert not (place.cloud / 's.json').exists()
  assert place.launch()['status'] == 0
  assert 'failure' not in log.read_text()
  assert 'ended by host' in log.read_text()


def test_a_refused_command_is_not_tried_again(place):
  assert place.create().returncode == 0
  (place.shared / 'refuse').write_text('')
  done = subprocess.run(
    place.run(), env=place.env, capture_output=True, text=True, check=False
  )
  assert done.returncode == 2, done.stdout + done.stderr
  assert 'it was refused: no retry' in done.stdout
  assert place.launch()['attempt'] == 1, done.stdout
  assert 'no such reward' in (place.dir / 'logs' / 'host-0.txt').read_text()
  assert not (place.cloud / 's.json').exists()
  assert place.tpu('watch').returncode == 2


def test_a_stopped_command_is_not_started_again(place):
  assert place.create().returncode == 0
  watcher = subprocess.Popen(
    place.run(), env=place.env, stdout=subprocess.PIPE, text=True
  )
  steps = place.shared / 'steps-0.txt'
  until(lambda: steps.exists() and len(steps.read_text().split()) == 4)
  assert place.tpu('stop', '--grace=2').returncode == 0
  out, _ = watcher.communicate(timeout=200)
  assert watcher.returncode == 130, out
  assert place.launch()['attempt'] == 1, out
  assert len(steps.read_text().split()) == 4


def test_a_dry_run_prints_what_it_would_call(place):
  done = place.create('--dry-run')
  assert done.returncode == 0
  assert (
    'gcloud compute tpus queued-resources create s --node-id=s' in done.stdout
  )
  assert not (place.cloud / 'calls.txt').exists()
  assert not place.dir.exists()


@pytest.mark.parametrize(
  ('words', 'says'),
  [
    (['create', '--name=s', '--zone=z', '--type=v7x-8'], 'v5litepod-16'),
    (['create', '--name=s'], 'needs --name, --zone and --type'),
    (['up'], 'create a slice first'),
    (['run'], 'takes a command'),
    (['up', '--', 'python'], 'takes a command'),
  ],
)
def test_what_cannot_work_is_refused(place, words, says):
  done = place.tpu(*words)
  assert done.returncode == 2
  assert says in done.stderr
