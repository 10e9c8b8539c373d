"""Limits, confinement and replies of workers. The checks are hostile code."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from rlvr_jax.verifiers import pool, sandbox

pytestmark = pytest.mark.processes

TOY = """
import fcntl, os, resource, signal, socket, subprocess, threading, time
from rlvr_jax.verifiers import worker

def burn(seconds):
  end = time.process_time() + seconds
  while time.process_time() < end:
    pass
  return seconds

def stuck():
  return sum(range(10**15))  # in C, where no signal handler of Python runs

def sleep(seconds):
  time.sleep(seconds)
  return seconds

def forge(row):
  for fd in range(3, 64):
    try: os.write(fd, b'{"id": "' + b'0' * 32 + b'", "value": 1}\\n')
    except OSError: pass
  return row

def late(row):
  def write():
    time.sleep(0.2)
    forge(row)
  threading.Thread(target=write).start()
  return row

def tries(path):
  out = {}
  for name, act in {
    'socket': socket.socket,
    'write': lambda: open(path + '/made', 'w').write('x'),
    'append': lambda: open(path + '/there', 'a').write('x'),
    'truncate': lambda: os.truncate(path + '/there', 0),
    'unlink': lambda: os.unlink(path + '/there'),
    'rename': lambda: os.rename(path + '/there', path + '/gone'),
    'mkdir': lambda: os.mkdir(path + '/made'),
    'chmod': lambda: os.chmod(path + '/there', 0),
    'fork': os.fork,
    'exec': lambda: os.execv('/bin/true', ['true']),
    'spawn': lambda: subprocess.run(['true']),
    'kill': lambda: os.kill(os.getppid(), signal.SIGKILL),
    'limit': lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1)),
    'memory': lambda: resource.prlimit(0, resource.RLIMIT_AS, (-1, -1)),
    'owner': lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()),
    'type': lambda: fcntl.ioctl(0, 0x5412, b'x'),
    'nice': lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
    'session': os.setsid,
    'memfd': lambda: os.memfd_create('x'),
    'read': lambda: open(path + '/there').read(),
    'import': lambda: __import__('wave').__name__,
    'environment': lambda: sorted(os.environ),
    'files': lambda: [os.readlink(f'/proc/self/fd/{f}').split(':')[0]
                      for f in os.listdir('/proc/self/fd')
                      if os.path.exists(f'/proc/self/fd/{f}')],
  }.items():
    try: out[name] = act()
    except OSError as e: out[name] = f'{type(e).__name__} {e.errno}'
  return out

def leave(code):
  os._exit(code)

def pid():
  return os.getpid()

def nothing(_):
  return None

for f in (burn, stuck, sleep, forge, late, tries, leave, pid):
  worker.KINDS[f.__name__] = (nothing, f)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
  """A pool whose workers have the checks above."""
  (tmp_path / 'toy_checks.py').write_text(TOY)
  monkeypatch.syspath_prepend(tmp_path)
  code = pool._CODE.replace('worker.main()', 'import toy_checks; worker.main()')
  assert code != pool._CODE
  monkeypatch.setattr(pool, '_CODE', code)
  pool.shutdown()
  yield tmp_path
  pool.shutdown()


def test_the_limit_is_cpu_time_not_wall_time(toy):
  asleep = pool.run('sleep', [{'seconds': 1.5}], timeout_s=0.5)
  assert asleep == [pool.Reply(1.5, None)]
  rows = [{'seconds': s} for s in (0.1, 60, 0.2, 61)]
  found = pool.run('burn', rows, timeout_s=1)
  assert found == [
    pool.Reply(0.1, None),
    pool.Reply(None, 'timeout'),
    pool.Reply(0.2, None),
    pool.Reply(None, 'timeout'),
  ]


def test_the_limit_ends_what_is_stuck_in_c(toy):
  assert pool.run('stuck', [{}], timeout_s=0.5) == [pool.Reply(None, 'timeout')]


def test_wall_time_ends_what_waits(toy, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(pool, 'BUSY', (1.0, 1.0))
    found = pool.run('sleep', [{'seconds': 10**6}], timeout_s=0.5)
  assert found == [pool.Reply(None, 'timeout')]
  assert pool.run('sleep', [{'seconds': 0}], timeout_s=0.5)[0].failure is None


def test_a_busy_machine_changes_no_reply(toy):
  # On an idle machine 0.5 s of CPU time take 0.5 s; here several seconds.
  busy = [
    subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    for _ in range(3 * pool.size())
  ]
  try:
    rows = [{'seconds': 0.5 + i / 1000} for i in range(pool.size())]
    found = pool.run('burn', rows, timeout_s=1)
  finally:
    for process in busy:
      process.kill()
      process.wait()
  assert found == [pool.Reply(row['seconds'], None) for row in rows]


def alive(pid):
  try:
    os.kill(pid, 0)
    with open(f'/proc/{pid}/stat') as f:  # nobody may have waited for it
      return f.read().rpartition(')')[2].split()[0] != 'Z'
  except (ProcessLookupError, FileNotFoundError):
    return False


def test_a_child_that_a_check_ends_is_replaced(toy):
  (before,) = pool.run('pid', [{}], timeout_s=5)
  (same,) = pool.run('pid', [{}], timeout_s=5)
  worker = pool._get().idle.queue[-1].process.pid
  assert before == same
  assert before.value not in (worker, os.getpid())
  left = pool.run('leave', [{'code': 0}], timeout_s=5)
  assert left == [pool.Reply(None, 'died')]
  (after,) = pool.run('pid', [{}], timeout_s=5)
  assert after.value != before.value
  assert pool._get().idle.queue[-1].process.pid == worker  # not started anew
  pool.shutdown()
  while alive(after.value):  # no process outlives the pool
    time.sleep(0.05)


WAITS = """
import signal
from rlvr_jax.verifiers import pool
signal.signal(signal.SIGINT, signal.default_int_handler)  # were it ignored
pool._CODE = pool._CODE.replace('worker.main()', 'import toy_checks; worker.main()')
pids = [reply.value for reply in pool.run('pid', [{}], timeout_s=60)]
worker = pool._get().idle.queue[-1].process.pid
print(*pids, worker, flush=True)
pool.run('burn', [{'seconds': 900 + i} for i in range(4)], timeout_s=1000)
"""


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGINT])
def test_no_check_outlives_its_parent(toy, number):
  parent = subprocess.Popen(
    [sys.executable, '-c', WAITS],
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
  )
  with parent:
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(1)  # until all checks run
    parent.send_signal(number)
    parent.wait(timeout=200)
  while any(alive(pid) for pid in pids):
    time.sleep(0.05)


@pytest.mark.parametrize('kind', ['forge', 'late'])
def test_a_forged_reply_is_rejected(toy, kind):
  rows = [{'row': i} for i in range(3)]
  for _ in range(2):
    for row in rows:  # one by one: the same worker
      (found,) = pool.run(kind, [row], timeout_s=5)
      assert found in (
        pool.Reply(row['row'], None),
        pool.Reply(None, 'died'),
      )
      if kind == 'forge':
        assert found.failure == 'died'
      time.sleep(0.4)  # until the late one has written
      assert pool.run('burn', [{'seconds': 0.01}], timeout_s=5) == [
        pool.Reply(0.01, None)
      ]


def test_the_parent_checks_the_id_too(toy, monkeypatch):
  seen = set()
  dumps = json.dumps

  def other_id(value, **options):
    if isinstance(value, dict) and 'id' in value:
      seen.add(value['id'])
      value = value | {'id': 'f' * 32}
    return dumps(value, **options)

  assert pool.run('pid', [{}], timeout_s=5)[0].failure is None
  monkeypatch.setattr(pool.json, 'dumps', other_id)
  found = pool.run('pid', [{}], timeout_s=5)
  assert found[0].failure is not None
  assert len(seen) >= 1
  assert all(len(i) == 32 for i in seen)


ALLOWED = {'read', 'import', 'environment', 'files'}


def test_a_check_has_no_network_no_writing_no_processes(toy, monkeypatch):
  if pool.walls() != list(sandbox.WALLS):
    pytest.skip(f'This system allows only {pool.walls()}.')
  monkeypatch.setenv('SECRET_TOKEN', 'x')
  pool.shutdown()
  (toy / 'there').write_text('text')
  (found,) = pool.run('tries', [{'path': str(toy)}], timeout_s=10)
  results = found.value
  refused = {name for name in results if results[name] == 'PermissionError 1'}
  assert refused == set(results) - ALLOWED
  assert results['read'] == 'text'
  assert results['import'] == 'wave'
  # The null device, and a pipe each way to the worker; none to this process.
  assert sorted(results['files']) == ['/dev/null'] * 3 + ['pipe'] * 2
  assert 'SECRET_TOKEN' not in results['environment']
  assert set(results['environment']) <= {
    *pool.ENVIRONMENT,
    'LC_CTYPE',  # which Python sets
    'OMP_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'PYTHONHASHSEED',
  }
  assert (toy / 'there').read_text() == 'text'
  assert sorted(os.listdir(toy)) == ['__pycache__', 'there', 'toy_checks.py']


def test_without_seccomp_limits_hold_and_one_warning_is_logged(
  tmp_path, caplog
):
  code = (
    'import resource\n'
    'from rlvr_jax.verifiers import sandbox\n'
    'sandbox._filter = lambda: False\n'
    'walls = sandbox.confine()\n'
    "f = open('x', 'wb', buffering=0)\n"
    "try: print(walls, f.write(b'1'))\n"
    'except OSError as e: print(walls, type(e).__name__)\n'
    'print(resource.getrlimit(resource.RLIMIT_NPROC)[1])\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.stdout == '[] OSError\n0\n', done.stderr
  with caplog.at_level(logging.WARNING):
    pool._warned.clear()
    pool._warn_missing_walls([])
    pool._warn_missing_walls(['network'])
    pool._warn_missing_walls(list(sandbox.WALLS))
  assert len(caplog.records) == 1
  assert 'could not give up: network, writing' in caplog.records[0].message
