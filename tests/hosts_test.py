"""Several hosts: real processes that join, agree, are stopped, and fail."""

import ast
import contextlib
import importlib.util
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

from rlvr_jax import failures, hosts

ROOT = pathlib.Path(__file__).parents[1]

# What each host runs: argv[1] is the part, argv[2] a folder of all hosts.
_PROGRAM = r"""
import contextlib, functools, json, os, pathlib, signal, sys, time
part, folder = sys.argv[1], pathlib.Path(sys.argv[2])
os.chdir(folder)
from rlvr_jax import failures, hosts, interrupts
import jax
hosts.HEARTBEAT_S = 10
said = {}
send = lambda name: os.kill(os.getpid(), getattr(signal, name))

def refusal(f):
  try:
    f()
  except ValueError as e:
    return str(e)

def agree():
  from rlvr_jax import enums, tasks
  from rlvr_jax.reporting import run_lock
  from rlvr_jax.rewards import base
  from rlvr_jax.rollouts import groups, single_turn
  from rlvr_jax.models import sampler
  from rlvr_jax.verifiers import dispatch
  import numpy as np
  me = jax.process_index()
  said['cache'] = jax.config.jax_enable_compilation_cache
  said['gather'] = hosts.gather({'host': me, 'text': 'x' * (3 + 40 * me)})
  said['agreed'] = hosts.agreed(float('nan') if me else [me, '\ud800'])
  said['any'] = [hosts.on_any(me == 1), hosts.on_any(False)]
  hosts.must_agree('seeds', 1)
  said['differ'] = refusal(lambda: hosts.must_agree('configs', me))
  said['first'] = hosts.from_first(lambda: f'made by {me}')
  mine = []
  said['share'] = hosts.share(5, lambda rows: [mine.append(i) or i * i for i in rows])
  said['mine'] = hosts.gather(mine)

  def refuse():
    with hosts.together():
      if me == 1:
        raise ValueError('no such folder')
  said['refused'] = refusal(refuse)

  # Each host verifies its half, and one of them lies.
  asked = []
  def verify(tasks, texts, **options):
    asked.extend(texts)
    return [enums.Verdict.UNVERIFIABLE if me else enums.Verdict.CORRECT for _ in texts]
  dispatch.verify = verify
  class Letters:
    prefill = ''
    def decode(self, ids):
      return ''.join(map(chr, ids))
  rows = np.arange(65, 71)[:, None]
  sampled = sampler.Sampled(rows, np.zeros((6, 1), np.float32), np.ones(6, int), np.zeros(6, int))
  some = [tasks.Task(str(i), '?', '1', 'exact', {}) for i in range(3)]
  _, transcripts = single_turn.transcribe(some, sampled, Letters(), 1.0)
  said['verdicts'] = [t.verdict.name for t in transcripts]
  said['verified'] = hosts.gather(asked)
  noise = groups.agreed(lambda tasks, ts: [base.RewardResult(np.float32(me + 2), {'x': me}) for _ in ts])
  said['rewards'] = noise(some, transcripts[:2])

  def hold(path):
    with run_lock.hold(path):
      pass
  said['held'] = refusal(lambda: hold(folder / 'shared'))
  lock = None if me else run_lock.locked(folder / 'taken')
  said['taken'] = refusal(lambda: hold(folder / 'taken'))
  run_lock._SEEN_S = 0.0
  os.makedirs(f'disk{me}', exist_ok=True)
  os.chdir(f'disk{me}')
  said['own disks'] = refusal(lambda: hold(pathlib.Path('run')))
  os.chdir('..')

  with interrupts.interruptible() as interrupted:
    for step in range(1, 9):
      if step == 3 and me == 1:
        send('SIGTERM')
      if hosts.on_any(interrupted()):
        break
  said['stopped after'] = step

@functools.cache
def recorded_runs():
  sys.path.insert(0, os.environ['TESTS'])
  import recorded_runs_test as recorded
  recorded.compile_once()
  return recorded

def train():
  from rlvr_jax.io import manifest
  from rlvr_jax.verifiers import dispatch
  recorded = recorded_runs()
  summed, checksum = [], manifest.OnDisk.checksum
  def reading(self, name):
    known = name in self._known
    size, crc = checksum(self, name)
    summed.append(size if '/d/' in name and not known else 0)
    return [size, crc]
  manifest.OnDisk.checksum = reading
  rows, verify = [], dispatch.verify
  def counting(tasks, *args, **options):
    rows.append(len(tasks))
    return verify(tasks, *args, **options)
  dispatch.verify = counting
  stop_after, me = 2, jax.process_index()
  step = failures.stepped
  def stepped():
    step()
    if me == 1:
      send('SIGTERM')  # of one host, in the step that comes
  failures.stepped = stepped
  try:
    recorded.run(folder, 'sft', folder / 'sft')
  except interrupts.Stopped:
    said['stopped'] = recorded.last_step(folder / 'sft')
  failures.stepped = step
  recorded.run(folder, 'sft', folder / 'sft')
  said['rows'] = sum(rows)
  said['bytes'] = sum(summed)

def bucket():
  import tempfile
  from rlvr_jax import storage
  recorded = recorded_runs()
  # Each host has a disk of its own.
  os.makedirs(f'disk{jax.process_index()}', exist_ok=True)
  os.chdir(f'disk{jax.process_index()}')
  tempfile.tempdir = os.getcwd()
  commit = storage.Bucket.commit
  def killed(self, step, *args):
    # The arrays and the manifest of step 2 are written, and do not count yet.
    if step == 2:
      send('SIGKILL')
    commit(self, step, *args)
  if 'KILLED' in os.environ:
    storage.Bucket.commit = killed
  recorded.run(folder, 'sft', 'gs://bkt/runs/a')

def fails():
  if jax.process_index() == 1:
    raise RuntimeError('the disk\nis on fire')
  hosts.gather('for ever')

def killed():
  if jax.process_index() == 1:
    send('SIGKILL')
  hosts.gather('for ever')

def hangs():
  failures.START_S = 1.0
  time.sleep(600)

with hosts.join():
  for name in part.split(','):
    globals()[name]()
    print('SAID', json.dumps(said), flush=True)
    said = {}
"""


# What each script has done when it joins: argv[1] is a finished run.
_JOINS = r"""
import json, os, runpy, sys
from jax._src import xla_bridge
from rlvr_jax import hosts
root, run = os.environ['PYTHONPATH'], sys.argv[1]
started = {}

def join():
  started[name] = xla_bridge.backends_are_initialized()
  raise SystemExit

hosts.join = join
config = f'--config={root}/configs/tiny.py:smoke'
for name, flags in {
  'train': [config, '--workdir=new'],
  'evaluate': ['--workdir=' + run, '--config.seed=5'],
  'compare': [run, run, '--samples=2'],
  'label': [config, '--out=new.jsonl'],
  'signal_map': ['--workdir=' + run, '--signals=outcome,majority,random|rloo'],
}.items():
  sys.argv = [name, *flags]
  try:
    runpy.run_path(f'{root}/scripts/{name}.py', run_name='__main__')
  except SystemExit:
    pass
print('STARTED', json.dumps(started))
"""


def start(folder, parts, count=2, **env):
  """Exit statuses and outputs of `count` hosts that run these parts."""
  (folder / 'program.py').write_text(_PROGRAM)
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  common = os.environ | {
    'PYTHONPATH': str(ROOT),
    'TESTS': str(ROOT / 'tests'),
    'JAX_NUM_CPU_DEVICES': '1',
    'JAX_COMPILATION_CACHE_DIR': '',
  }
  if count > 1:
    common |= {
      'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}',
      'JAX_NUM_PROCESSES': str(count),
    }
  running = [
    subprocess.Popen(
      [sys.executable, str(folder / 'program.py'), parts, str(folder)],
      env=common | ({'JAX_PROCESS_ID': str(i)} if count > 1 else {}) | env,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for i in range(count)
  ]
  try:
    texts = [p.communicate(timeout=500)[0] for p in running]
  finally:
    for p in running:
      p.kill()
  return [p.returncode for p in running], texts


def said(text):
  """What a host found, a dict for each of its parts."""
  return [
    json.loads(line.removeprefix('SAID '))
    for line in text.splitlines()
    if line.startswith('SAID ')
  ]


def test_what_one_host_finds_out_is_agreed_and_its_failure_ends_all(tmp_path):
  status, texts = start(tmp_path, 'agree,fails')
  assert status == [1, 1], texts
  sentence = 'error: host 1 of 2: the disk is on fire'
  assert [t.count(sentence) for t in texts] == [1, 1], texts
  assert 'Traceback' not in ''.join(texts)
  assert 'host 0 of 2, 2 devices\n' in texts[0]
  (first,), (second,) = map(said, texts)
  assert first.pop('refused') == 'on host 1: no such folder'
  assert second.pop('refused') == 'no such folder'
  assert 'does not see it' in first.pop('own disks')
  assert 'does not see it' in second.pop('own disks')
  assert 'Another process is training in' in first.pop('taken')
  assert second.pop('taken').startswith('on host 0: Another process is')
  assert first == second
  assert first == {
    'cache': False,
    'gather': [{'host': i, 'text': 'x' * (3 + 40 * i)} for i in (0, 1)],
    'agreed': [0, '\ud800'],
    'any': [True, False],
    'first': 'made by 0',
    'differ': 'The 2 hosts have different configs. Start the same command in '
    'the same tree on all of them, with a workdir that all of them see.',
    'share': [0, 1, 4, 9, 16],
    'mine': [[0, 2, 4], [1, 3]],
    'verdicts': ['CORRECT', 'UNVERIFIABLE'] * 3,
    'verified': [['A', 'C', 'E'], ['B', 'D', 'F']],
    'rewards': [[2.0, {'x': 0.0}, False]] * 2,
    'held': None,
    'stopped after': 3,
  }


def test_scripts_join_before_jax_takes_its_devices(smoke, tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', _JOINS, str(smoke[0])],
    env=os.environ | {'PYTHONPATH': str(ROOT)},
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )
  assert 'STARTED' in done.stdout, done.stdout + done.stderr
  started = json.loads(done.stdout.partition('STARTED ')[2])
  names = ('train', 'evaluate', 'compare', 'label', 'signal_map')
  assert started == dict.fromkeys(names, False), done.stdout + done.stderr


def test_a_host_that_is_killed_ends_the_other(tmp_path):
  status, texts = start(tmp_path, 'killed')
  assert status[1] == -9
  assert status[0] != 0, texts


def test_a_launched_program_that_hangs_ends_with_its_stacks(tmp_path):
  (status,), (text,) = start(tmp_path, 'hangs', 1, RLVR_LAUNCHED='1')
  assert status == 1
  assert 'in hangs' in text
  assert 'error: host 0 of 1: no progress for ' in text


def module(name):
  """A module of tests/."""
  spec = importlib.util.spec_from_file_location(
    name, ROOT / 'tests' / f'{name}.py'
  )
  made = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(made)
  return made


@pytest.mark.timeout(1200)  # three programs of two hosts
def test_two_hosts_stopped_and_resumed_write_what_one_did(tmp_path):
  """On a disk that both see; and from a bucket, where they share nothing else.

  In the bucket the first host is killed while it saves, and the same command
  goes on.
  """
  recorded = module('recorded_runs_test')
  has_gcs = importlib.util.find_spec('gcsfs') is not None
  env = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'cache')}
  with contextlib.ExitStack() as stack:
    if has_gcs:
      serve = module('fake_gcs').serve(fail=0.02)
      store, clients = stack.enter_context(serve)
      env |= clients
    parts = 'train,bucket' if has_gcs else 'train'
    status, texts = start(tmp_path, parts, KILLED='1', **env)
    assert (status[0], bool(status[1])) == (
      (-9, True) if has_gcs else (0, False)
    ), texts
    first, second = (said(t)[0] for t in texts)
    assert first['stopped'] == second['stopped'] == 2
    # 3 steps of 4 rows, 2 evaluations of 4 x 2: each row on one host.
    assert first['rows'] == second['rows'] == (3 * 4 + 2 * 8) // 2
    # Each host reads again what it wrote of a checkpoint, and no more.
    assert 0.5 < first['bytes'] / second['bytes'] < 2
    found = recorded.contents(tmp_path / 'sft')
    if has_gcs:
      commits = lambda: json.loads(
        store.data('runs/a/checkpoints/commits.json')
      )['steps']
      assert [*commits()] == ['1']
      assert any(re.search('/2-.*manifest.json', n) for n in store.names())
      status, texts = start(tmp_path, 'bucket', **env)
      assert status == [0, 0], texts
      (tmp_path / 'a').mkdir()
      for name in recorded.FILES:
        data = store.data(f'runs/a/{name}.jsonl')
        (tmp_path / 'a' / f'{name}.jsonl').write_bytes(data)
      recorded.compare(recorded.contents(tmp_path / 'a'), found, exact=True)
      assert [*commits()][-1] == '3'
      under = {n.split('/')[3] for n in store.names() if n.count('/') > 3}
      assert under == {*commits().values()}
      for i in (0, 1):  # with nothing of the run but copies of its lines
        disk = tmp_path / f'disk{i}'
        assert not [p for p in disk.rglob('*') if p.name == 'checkpoints']
        assert not (disk / 'gs:').exists()
  _, want = recorded.read('sft')
  recorded.compare(found, want, exact=False)


@pytest.mark.parametrize(
  ('given', 'says'),
  [
    (
      {'JAX_NUM_PROCESSES': '2'},
      'JAX_NUM_PROCESSES=2: hosts join by all three',
    ),
    (
      {
        'JAX_COORDINATOR_ADDRESS': 'a:1',
        'JAX_NUM_PROCESSES': '2',
        'JAX_PROCESS_ID': '2',
      },
      'from 0 to N - 1',
    ),
    (
      {
        'JAX_COORDINATOR_ADDRESS': 'a',
        'JAX_NUM_PROCESSES': '2',
        'JAX_PROCESS_ID': '0',
      },
      'HOST:PORT',
    ),
  ],
)
def test_an_environment_that_names_no_hosts_is_refused(
  monkeypatch, given, says
):
  for name, value in given.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(ValueError, match=says):
    hosts.expected()


def test_alone_nothing_changes(monkeypatch, capsys):
  value = object()
  assert hosts.expected() == 1
  assert hosts.gather(value) == [value]
  assert hosts.agreed(value) is value
  assert hosts.from_first(lambda: value) is value
  assert hosts.on_any(True)
  assert not hosts.on_any(False)
  assert hosts.share(3, lambda rows: [value] * len(rows)) == [value] * 3
  handler = signal.getsignal(signal.SIGTERM)
  with hosts.join():
    assert signal.getsignal(signal.SIGTERM) is handler
  assert capsys.readouterr().out == 'host 0 of 1, 8 devices\n'


def test_a_program_hangs_after_many_times_its_median_step():
  progress = failures.Progress()
  assert progress.limit == failures.START_S  # it compiles
  for seconds in (900.0, 100.0, 100.0, 100.0):
    progress.tick(seconds)
    progress.stepped()
  assert progress.limit == 100.0 * failures.STUCK_MEDIANS > failures.STUCK_S
  progress.tick(50.0)
  progress.alive()  # does not end the step
  progress.tick(150.0)
  assert progress.idle == 150.0
  progress.stepped()
  assert progress.idle == 0.0
  assert progress.limit == 100.0 * failures.STUCK_MEDIANS
  for _ in range(9):
    progress.tick(0.1)
    progress.stepped()
  assert progress.limit == failures.STUCK_S


# What waits for the other hosts, or holds something that does.
_WAITS = {
  *('on_any', 'gather', 'agreed', 'from_first', 'together', 'share', 'whole'),
  *('to_host', 'to_mesh', 'from_host', 'save', 'restore', 'load', 'sample'),
  *('evaluate', 'collect', 'update', 'block_until_ready', 'finished'),
}


def _branches(tree):
  """The statements that only some hosts run."""
  for node in ast.walk(tree):
    if isinstance(node, (ast.If, ast.IfExp)):
      calls = [n for n in ast.walk(node.test) if isinstance(n, ast.Call)]
      names = [n.func.attr for n in calls if isinstance(n.func, ast.Attribute)]
      if 'first' in names:
        body = node.body if isinstance(node.body, list) else [node.body]
        rest = node.orelse if isinstance(node.orelse, list) else [node.orelse]
        yield from (*body, *rest)


def _waits(statement):
  """Names of the calls in it that wait for other hosts."""
  calls = [n.func for n in ast.walk(statement) if isinstance(n, ast.Call)]
  names = [getattr(f, 'attr', getattr(f, 'id', '')) for f in calls]
  return sorted({*names} & _WAITS)


def test_nothing_but_hosts_asks_which_process_it_is():
  asks = re.compile(
    r'process_index|process_count|multihost|jax\.distributed|process_allgather'
  )
  found, branches = [], []
  for folder in ('rlvr_jax', 'scripts'):
    for path in (ROOT / folder).rglob('*.py'):
      text, name = path.read_text(), str(path.relative_to(ROOT))
      if name not in ('rlvr_jax/hosts.py', 'rlvr_jax/failures.py'):
        found += [f'{name}: {m}' for m in asks.findall(text)]
        statements = list(_branches(ast.parse(text)))
        branches += statements
        found += [f'{name}: {w}' for s in statements for w in _waits(s)]
  assert not found
  assert len(branches) >= 8  # it looks where they are
  bad = ast.parse('if hosts.first():\n  x = sharding.to_host(y)')
  assert [_waits(s) for s in _branches(bad)] == [['to_host']]
