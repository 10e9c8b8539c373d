"""A Cloud TPU slice: creates it, runs one command on all its hosts, resumes.

    python scripts/tpu.py create --workdir=DIR --name=NAME --zone=ZONE
        --type=v5litepod-16 [--spot | --reserved] [--project=P] [--setup=CMD]
    python scripts/tpu.py up --workdir=DIR
    python scripts/tpu.py run --workdir=DIR [--delete] -- python \
        scripts/train.py --config=configs/gsm8k.py --workdir=gs://BUCKET/run
    python scripts/tpu.py watch | logs | fetch | stop | delete --workdir=DIR

create asks for a queued resource and waits for it; up sends the tree as it
stands, with what is not committed, to all hosts and installs it there; run
starts the command on all of them, where it goes on when this machine or its
connection ends, and then watches. A host that ends with an error ends all, and
the command is started again (--retries, with growing pauses), but not where it
refused its config. A preempted slice is deleted, created, installed and started
again. The command must resume when it is started again, from what all hosts see
and what outlives the slice: a --workdir in a bucket, or on a network file
system that is mounted in --setup, which is run on each host in the tree, after
it was sent.

DIR, on this machine, holds launch.json (what was created and started, and the
commit), tree.tar.gz (what was sent) and what fetch brought: the files of the
command's --workdir but its checkpoints, and logs/host-I.txt. --dry-run prints
every gcloud command, and calls none. Needs gcloud, with a project and a login.
"""

import argparse
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import tpu_cloud

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The images have Python 3.10.
SETUP = (
  'set -e; command -v python3.11 || { sudo apt-get update -q; '
  'sudo apt-get install -qy python3.11-venv; }; '
  'source scripts/setup_env.sh; setup_env tpu,gcs,hub'
)
REFUSED = 2  # `rlvr_jax.processes.REFUSED`, and of a wrong command line
STOPPED = 130  # of a command that was asked to end, after its step
LOST = 20  # polls in a row without an answer: the slice is taken for lost
LONGEST_S = 600.0  # pause before another attempt
STEADY_S = 3600.0  # a command that ran so long may fail --retries times again


class Launcher:
  """A slice, and what runs on it; everything that must outlive us is saved."""

  def __init__(self, flags: argparse.Namespace):
    self.folder, self.flags = pathlib.Path(flags.workdir), flags
    self.path = self.folder / 'launch.json'
    if flags.verb == 'create':
      self.launch = _launch(flags, self.path)
    elif self.path.exists():
      self.launch = json.loads(self.path.read_text('utf-8'))
    else:
      raise ValueError(f'There is no {self.path}: create a slice first.')
    self.cloud = tpu_cloud.QueuedResources(self.launch, flags.dry_run)

  def save(self, **changes: Any) -> None:
    """Changes launch.json, whole or not at all."""
    self.launch.update(changes)
    if self.flags.dry_run:
      return
    self.folder.mkdir(parents=True, exist_ok=True)
    new = self.path.with_suffix('.new')
    new.write_text(json.dumps(self.launch, indent=2) + '\n', 'utf-8')
    new.replace(self.path)

  def say(self, text: str) -> None:
    print(f'{time.strftime("%H:%M:%S")} {self.launch["name"]}: {text}')
    sys.stdout.flush()

  def create(self) -> None:
    """Returns when the slice is there; one that has ended is replaced."""
    state = self.cloud.state() if not self.flags.dry_run else 'GONE'
    if state in tpu_cloud.ENDED:
      self.delete()
      state = 'GONE'
    if state == 'GONE':
      self.save(installed=False)
      self.cloud.create()
    said = None
    while (state := self.cloud.state()) != 'ACTIVE':
      if state in (*tpu_cloud.ENDED, 'GONE'):
        raise tpu_cloud.Failed(f'the slice is {state} before it was there')
      if state != said:
        self.say(f'waiting for the slice: {state}')
      said = state
      time.sleep(self.flags.poll)
    self.say('the slice is there')

  def up(self, pack: bool = True) -> None:
    """Sends the tree to all hosts and installs it."""
    tree = self.folder / 'tree.tar.gz'
    if pack and not self.flags.dry_run:
      self.folder.mkdir(parents=True, exist_ok=True)
      self.save(commit=_pack(tree))
    self.cloud.send(tree, 'rlvr-tree.tar.gz')
    self.cloud.ssh(
      tpu_cloud.UNPACK.format(setup=shlex.quote(self.launch['setup']))
    )
    count = self.cloud.hosts()
    number = lambda i: self.cloud.ssh(f'echo {i} > rlvr/host', i)
    with futures.ThreadPoolExecutor(16) as pool:
      list(pool.map(number, range(count)))
    self.save(installed=True, hosts=count)
    self.say(f'{self.launch["commit"]} is on {count} hosts')

  def start(self) -> None:
    """Starts the command on all hosts; it goes on without us."""
    attempt, command = self.launch['attempt'] + 1, self.launch['command']
    self.save(attempt=attempt, status='running')
    inner = tpu_cloud.INNER.format(attempt=attempt, command=shlex.join(command))
    self.cloud.ssh(
      tpu_cloud.START.format(attempt=attempt, inner=shlex.quote(inner))
    )
    self.say(f'attempt {attempt}: {shlex.join(command)}')

  def stop(self) -> None:
    """Ends the command on all hosts: first asks, so that it may save."""
    self.cloud.ssh(tpu_cloud.STOP.format(seconds=self.flags.grace), check=False)

  def poll(self) -> list[str] | None:
    """'running', 'lost' or an exit status, by host; None: not all answered."""
    code, text = self.cloud.ssh(tpu_cloud.POLL, check=False)
    if self.flags.dry_run:
      return ['0']
    found = re.findall(r'^rlvr (\d+) (\d+) (\w+)$', text, re.M)
    attempt = str(self.launch['attempt'])
    known = {int(host): s for host, of, s in found if of == attempt}
    if code or len(known) < self.launch['hosts']:
      return None
    return [known[i] for i in sorted(known)]

  def watch(self) -> int:
    """Keeps the command running until it has ended; its exit status."""
    failures, silent, began = 0, 0, time.monotonic()
    runs = self.launch['status'] == 'running'
    while True:
      try:
        if not runs:
          self._again()
          runs, silent, began = True, 0, time.monotonic()
        state = self.cloud.state()
        if state in (*tpu_cloud.ENDED, 'GONE'):
          self.say(f'the slice is {state}')
          self.save(status='preempted', installed=False)
          runs = False
          continue
        status = self.poll()
        silent = 0 if status else silent + 1
        if silent >= LOST:
          self.delete()
          raise tpu_cloud.Failed('its hosts do not answer')
        if status and set(status) == {'0'}:
          return self._ended(0)
        if status and not set(status) <= {'0', 'running'}:
          self.stop()
          if str(REFUSED) in status:
            return self._ended(REFUSED)
          if json.loads(self.path.read_text('utf-8'))['status'] == STOPPED:
            return self._ended(STOPPED)  # by `stop`, in another process
          raise tpu_cloud.Failed(f'ended by host: {", ".join(status)}')
        time.sleep(self.flags.poll)
      except tpu_cloud.Failed as e:
        self.say(str(e))
        runs = False
        failures = 1 + failures * (time.monotonic() - began < STEADY_S)
        if failures > self.flags.retries:
          return self._ended(1)
        seconds = min(self.flags.backoff * 2 ** (failures - 1), LONGEST_S)
        self.say(f'again in {seconds:g} s')
        time.sleep(seconds)

  def _again(self):
    """Starts the command, on a new slice if there is none."""
    if self.cloud.state() != 'ACTIVE' or not self.launch['installed']:
      self.create()
    if not self.launch['installed']:
      self.up(pack=not (self.folder / 'tree.tar.gz').exists())
    self.stop()  # what an attempt may have left
    self.start()

  def _ended(self, status):
    words = {0: 'the command has ended', REFUSED: 'it was refused: no retry'}
    words |= {STOPPED: 'it was stopped'}
    self.say(words.get(status, 'it failed too often'))
    self.save(status=status)
    if status or self.flags.delete:
      try:
        self.fetch()
      except tpu_cloud.Failed as e:
        self.say(str(e))
    if status:
      self.say(f'its output is in {self.folder / "logs"}')
    if self.flags.delete:
      self.delete()
      self.say('the slice is deleted')
    else:
      self.say(
        f'still there: python {sys.argv[0]} delete --workdir={self.folder}'
      )
    return status

  def logs(self) -> None:
    """Prints the end of a host's log."""
    number = f'tail -n {self.flags.lines} rlvr/log.txt'
    print(self.cloud.ssh(number, self.flags.host)[1], end='')

  def fetch(self) -> None:
    """Brings the run's files, and the log of each host."""
    logs = self.folder / 'logs'
    if not self.flags.dry_run:
      logs.mkdir(parents=True, exist_ok=True)
    for i in range(self.launch['hosts']):
      self.cloud.get('rlvr/log.txt', logs / f'host-{i}.txt', i)
    folder = _option(self.launch['command'], '--workdir')
    if folder is None:
      return
    in_bucket = folder.startswith('gs://')
    pack = tpu_cloud.PACK_BUCKET if in_bucket else tpu_cloud.PACK
    self.cloud.ssh(pack.format(folder=shlex.quote(folder)), 0)
    files = self.folder / 'files.tar.gz'
    self.cloud.get('rlvr-files.tar.gz', files, 0)
    if not self.flags.dry_run:
      with tarfile.open(files) as f:
        f.extractall(self.folder, filter='data')
      files.unlink()
    self.say(f'fetched to {self.folder}')

  def delete(self) -> None:
    """Deletes the slice."""
    self.cloud.delete()
    self.save(installed=False)


def _launch(flags, path) -> dict[str, Any]:
  """The launch.json of `create`; what it was must not change."""
  prefix, _, size = flags.type.partition('-')
  prefix = {'v5e': 'v5litepod'}.get(prefix, prefix)
  runtime = flags.runtime or tpu_cloud.RUNTIMES.get(prefix)
  if runtime is None or not size.isdecimal():
    raise ValueError(
      f'--type={flags.type}: give one of {", ".join(tpu_cloud.RUNTIMES)} and a size, such '
      'as v5litepod-16. TPU7x is not served by this API.'
    )
  made = {
    'name': flags.name,
    'zone': flags.zone,
    'project': flags.project,
    'type': f'{prefix}-{size}',
    'runtime': runtime,
    'pay': 'spot' * flags.spot or 'reserved' * flags.reserved,
    'setup': flags.setup,
  }
  if path.exists():
    old = json.loads(path.read_text('utf-8'))
    if differ := [k for k in made if old[k] != made[k]]:
      raise ValueError(
        f'{path} is of a slice with another {", ".join(differ)}: delete it and '
        'use another --workdir.'
      )
    return old
  rest = {'installed': False, 'hosts': 1, 'attempt': 0, 'status': ''}
  return made | rest | {'command': [], 'commit': ''}


def _pack(path: pathlib.Path) -> str:
  """Writes the tree as it stands, without ignored files; says what it is."""
  git = lambda *words: (
    subprocess.run(
      ['git', '-C', str(ROOT), *words],
      capture_output=True,
      text=True,
      check=True,
    ).stdout
  )
  names = git('ls-files', '-co', '--exclude-standard', '-z').split('\0')
  commit = git('rev-parse', 'HEAD').strip()
  commit += ' with changes' * bool(git('status', '--porcelain').strip())
  new = path.with_suffix('.new')
  with tarfile.open(new, 'w:gz') as f:
    for name in sorted(filter(None, names)):
      if os.path.lexists(ROOT / name):  # else deleted and not committed
        f.add(ROOT / name, name, recursive=False)
    info = tarfile.TarInfo('COMMIT')
    info.size = len(commit)
    f.addfile(info, io.BytesIO(commit.encode()))
  new.replace(path)
  return commit


def _option(command: Sequence[str], name: str) -> str | None:
  """The value of --name=VALUE or --name VALUE."""
  for word, following in zip(command, [*command[1:], '']):
    if word == name:
      return following
    if word.startswith(f'{name}='):
      return word.partition('=')[2]
  return None


def _parse(argv):
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  verbs = ('create', 'up', 'run', 'watch', 'logs', 'fetch', 'stop', 'delete')
  add: Callable = parser.add_argument
  add('verb', choices=verbs)
  add('--workdir', required=True, metavar='DIR', help='on this machine')
  add('--dry-run', action='store_true', help='print gcloud commands')
  for name in ('name', 'zone', 'type'):
    add(f'--{name}', metavar=name.upper(), help='of the slice: create')
  add('--project', default='', help="default: gcloud's: create")
  add('--runtime', default='', help='default: by the type: create')
  pay = parser.add_mutually_exclusive_group()
  pay.add_argument('--spot', action='store_true', help='create')
  pay.add_argument('--reserved', action='store_true', help='create')
  add('--setup', default=SETUP, metavar='CMD', help='on each host: create')
  add('--detach', action='store_true', help='do not watch: run')
  add('--delete', action='store_true', help='at the end: run, watch')
  add('--retries', type=int, default=5, metavar='N', help='run, watch')
  add('--backoff', type=float, default=30.0, metavar='S', help='first pause')
  add('--poll', type=float, default=15.0, metavar='S', help='between looks')
  add('--grace', type=int, default=120, metavar='S', help='from TERM to KILL')
  add('--host', type=int, default=0, metavar='I', help='logs')
  add('--lines', type=int, default=100, metavar='N', help='logs')
  words = list(argv)
  cut = words.index('--') if '--' in words else len(words)
  flags = parser.parse_args(words[:cut])
  flags.command = words[cut + 1 :]
  if '://' in flags.workdir:
    parser.error(f'--workdir={flags.workdir} must be a folder of this machine.')
  if flags.verb == 'create' and not (flags.name and flags.zone and flags.type):
    parser.error('create needs --name, --zone and --type.')
  if (flags.verb == 'run') != bool(flags.command):
    parser.error('run, and it alone, takes a command: run ... -- python ...')
  return flags


def main(argv: Sequence[str]) -> int:
  flags = _parse(argv)
  try:
    launcher = Launcher(flags)
    if flags.verb == 'run':
      launcher.save(command=flags.command, attempt=0, status='')
      if flags.detach:
        launcher._again()
        return 0
    if flags.verb == 'stop':
      launcher.save(status=STOPPED)  # so that who watches starts it no more
    ended = ('', 0, 1, REFUSED, STOPPED)
    if flags.verb == 'watch' and launcher.launch['status'] in ended:
      raise ValueError('Nothing runs on this slice: give run a command.')
    if flags.verb in ('run', 'watch'):
      return launcher.watch()
    if flags.verb == 'create':
      launcher.save()
    getattr(launcher, flags.verb)()
  except (ValueError, tpu_cloud.Failed) as e:
    print(f'error: {e}', file=sys.stderr)
    return REFUSED if isinstance(e, ValueError) else 1
  except KeyboardInterrupt:
    print('The command goes on: watch follows it, stop ends it.')
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
