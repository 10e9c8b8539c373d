#!/usr/bin/env python3
"""A gcloud whose slices are folders, and whose hosts are processes, of FAKE.

It takes the commands and flags that Google documents for queued resources, and
no others. Every call is a line of calls.txt. A slice waits for two looks, then
it is ACTIVE. `gcloud fake preempt NAME` ends it as Google does: all processes
get SIGTERM, then SIGKILL, the disks are gone, the state is SUSPENDED.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(os.environ['FAKE'])
HOSTS = int(os.environ.get('FAKE_HOSTS', '2'))
FLAGS = {
  'queued-resources create': (
    'node-id accelerator-type runtime-version spot reserved zone project quiet'
  ),
  'queued-resources describe': 'zone project quiet format',
  'queued-resources delete': 'zone project quiet force async',
  'tpu-vm ssh': 'worker command zone project quiet',
  'tpu-vm scp': 'worker zone project quiet recurse',
  'fake preempt': '',
}


def fail(text, code=1):
  sys.exit(print(f'ERROR: (gcloud) {text}', file=sys.stderr) or code)


def read(name):
  path = HERE / f'{name}.json'
  if not path.exists():
    fail(f'NOT_FOUND: Resource {name!r} was not found')
  return json.loads(path.read_text())


def write(name, values):
  (HERE / f'{name}.json').write_text(json.dumps(values))


def homes(name, worker):
  ids = range(HOSTS) if worker == 'all' else [int(worker)]
  return [(i, HERE / name / f'host-{i}') for i in ids]


def ssh(name, flags):
  codes = []
  for i, home in homes(name, flags['worker']):
    env = os.environ | {
      'HOME': str(home),
      'HOSTNAME': f't1v-n-{i}',
      'JAX_FORCE_TPU_INIT': '1',
      'TPU_WORKER_HOSTNAMES': ','.join(['localhost'] * HOSTS),
      'TPU_WORKER_ID': str(i),
      **dict.fromkeys(
        (
          'MEGASCALE_COORDINATOR_ADDRESS',
          'MEGASCALE_NUM_SLICES',
          'MEGASCALE_SLICE_ID',
        ),
        '',
      ),
    }
    shell = subprocess.Popen(
      ['bash', '-c', flags['command']],
      cwd=home,
      env=env,
      stdin=subprocess.DEVNULL,
      start_new_session=True,
    )
    codes.append(shell.wait())
    with contextlib.suppress(ProcessLookupError):  # the connection drops
      os.killpg(shell.pid, signal.SIGHUP)
  return max(codes)


def scp(name, words, flags):
  source, target = words
  for _, home in homes(name, flags['worker']):
    if target.startswith(f'{name}:'):
      shutil.copy(source, home / target.partition(':')[2])
    else:
      shutil.copy(home / source.partition(':')[2], target)
  return 0


def end(name):
  """The processes of all hosts, which have their pid in rlvr/pid."""
  for sig in (signal.SIGTERM, signal.SIGKILL):
    for pid in (HERE / name).glob('host-*/rlvr/pid'):
      with contextlib.suppress(ProcessLookupError, ValueError):
        os.killpg(int(pid.read_text()), sig)
    time.sleep(0.3)
  shutil.rmtree(HERE / name, ignore_errors=True)


def main(argv):
  with open(HERE / 'calls.txt', 'a') as f:
    f.write(json.dumps(argv) + '\n')
  words = [w for w in argv if not w.startswith('--')]
  if words[:2] == ['compute', 'tpus']:
    words = words[2:]
  verb, words = ' '.join(words[:2]), words[2:]
  flags = dict(
    w.removeprefix('--').partition('=')[::2] for w in argv if w[:2] == '--'
  )
  if verb not in FLAGS:
    fail(f'Invalid choice: {verb!r}', 2)
  for flag in flags:
    if flag not in FLAGS[verb].split():
      fail(f'unrecognized arguments: --{flag}', 2)
  name = words[0].partition(':')[0]
  if verb == 'tpu-vm scp':
    name = next(w for w in words if ':' in w).partition(':')[0]
  if verb == 'queued-resources create':
    if (HERE / f'{name}.json').exists():
      fail(f'ALREADY_EXISTS: {name}')
    alive = [p for p in HERE.glob('*.json')]
    assert not alive, f'two slices at once: {alive}'
    return write(name, {'looks': 2, 'state': 'WAITING_FOR_RESOURCES'})
  slice_ = read(name)
  if verb == 'queued-resources describe':
    if slice_['state'] == 'WAITING_FOR_RESOURCES':
      slice_['looks'] -= 1
      if slice_['looks'] < 0:
        slice_['state'] = 'ACTIVE'
        for _, home in homes(name, 'all'):
          home.mkdir(parents=True)
      write(name, slice_)
    return print(f'name: {name}\nstate:\n  state: {slice_["state"]}')
  if verb == 'queued-resources delete':
    end(name)
    return (HERE / f'{name}.json').unlink()
  if verb == 'fake preempt':
    write(name, {'state': 'SUSPENDED'})
    return end(name)
  if slice_['state'] != 'ACTIVE':
    fail(f'FAILED_PRECONDITION: {name} is {slice_["state"]}')
  if verb == 'tpu-vm ssh':
    return ssh(name, flags)
  return scp(name, words, flags)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
