"""How is a TPU slice had, and what is run on its hosts? For scripts/tpu.py."""

import pathlib
import re
import shlex
import subprocess
from typing import Any

# Prefix of --type -> runtime version: docs.cloud.google.com/tpu, "TPU software
# versions".
RUNTIMES = {
  'v4': 'tpu-ubuntu2204-base',
  'v5litepod': 'v2-alpha-tpuv5-lite',
  'v5p': 'v2-alpha-tpuv5',
  'v6e': 'v2-alpha-tpuv6e',
}
ENDED = ('SUSPENDING', 'SUSPENDED', 'FAILED', 'DELETING')
STATES = ('ACTIVE', *ENDED, 'ACCEPTED', 'PROVISIONING', 'CREATING')
WAITING = 'WAITING_FOR_RESOURCES'


# What runs on a host, in its home directory; {} are quoted words.
UNPACK = r"""
mkdir -p rlvr/tree && cd rlvr/tree && touch ../setup.log &&
find . -mindepth 1 -maxdepth 1 ! -name .venv ! -name runs -exec rm -rf {{}} + &&
tar xzf ../../rlvr-tree.tar.gz && rm ../../rlvr-tree.tar.gz &&
bash -c {setup} > ../setup.log 2>&1 || {{ tail -n 20 ../setup.log >&2; exit 1; }}
"""
START = r"""
cd rlvr/tree || exit 1
rm -f ../status; echo {attempt} > ../attempt
export RLVR_LAUNCHED=1 PYTHONUNBUFFERED=1 PATH="$PWD/.venv/bin:$PATH"
setsid nohup bash -c {inner} >> ../log.txt 2>&1 < /dev/null &
echo $! > ../pid
until kill -0 -- -$! || ! kill -0 $!; do sleep 0.1; done 2> /dev/null
"""
# A signal of STOP reaches all of the session; this shell outlives it, and
# keeps the exit status of the command.
INNER = r"""
echo "--- attempt {attempt}, $(date)"; trap : TERM INT; {command}
echo $? > ../status.new; mv ../status.new ../status
"""
STOP = r"""
cd rlvr 2> /dev/null && [ -e pid ] && [ ! -e status ] || exit 0
kill -TERM -- -$(cat pid) 2> /dev/null || exit 0
for i in $(seq {seconds}); do [ -e status ] && break; sleep 1; done
kill -KILL -- -$(cat pid) 2> /dev/null; exit 0
"""
POLL = r"""
cd rlvr 2> /dev/null || exit 0
alive() { kill -0 -- -$(cat pid) 2> /dev/null; }
for look in 1 2; do
  [ -e status ] && s=$(cat status) && break
  alive && s=running && break
  s=lost; sleep 1  # or it ended between the two questions
done
echo "rlvr $(cat host) $(cat attempt) $s"
"""
PACK = r"""
cd rlvr/tree && tar czf ../../rlvr-files.tar.gz --exclude=./checkpoints \
  --exclude=./.lock -C {folder} . || [ $? = 1 ]  # a file grew meanwhile
"""
# The same for a command whose --workdir is in a bucket.
PACK_BUCKET = r"""
cd rlvr/tree && export PATH="$PWD/.venv/bin:$PATH" &&
python -m rlvr_jax.storage {folder} ../../rlvr-files.tar.gz
"""


class Failed(Exception):
  """A gcloud command failed, or the slice cannot be had."""


class QueuedResources:
  """The Cloud TPU API: queued resources of v4, v5e, v5p and v6e.

  Another backend is another class with these methods: create, state, hosts,
  ssh, send, get and delete.
  """

  def __init__(self, launch: dict[str, Any], dry: bool):
    self.launch, self.dry = launch, dry
    self.name = launch['name']

  def _call(self, *words: str, check: bool = True) -> tuple[int, str]:
    """(status, output) of a gcloud command; its errors too where it failed."""
    command = ['gcloud', 'compute', 'tpus', *words]
    command += [f'--zone={self.launch["zone"]}', '--quiet']
    if self.launch['project']:
      command.append(f'--project={self.launch["project"]}')
    if self.dry:
      print(shlex.join(command))
      return 0, ''
    try:
      done = subprocess.run(
        command, capture_output=True, text=True, check=False
      )
    except FileNotFoundError:
      raise ValueError(
        'gcloud is not installed: cloud.google.com/sdk'
      ) from None
    if check and done.returncode:
      raise Failed(f'{shlex.join(command[:6])} failed: {last(done.stderr)}')
    text = done.stdout + (done.stderr if done.returncode else '')
    return done.returncode, text

  def create(self) -> None:
    """Asks for the slice; it is there when its state is ACTIVE."""
    words = [f'--{self.launch["pay"]}'] if self.launch['pay'] else []
    self._call(
      'queued-resources',
      'create',
      self.name,
      f'--node-id={self.name}',
      f'--accelerator-type={self.launch["type"]}',
      f'--runtime-version={self.launch["runtime"]}',
      *words,
    )

  def state(self) -> str:
    """One of STATES, WAITING, GONE, or UNKNOWN where Google does not say."""
    code, text = self._call(
      'queued-resources', 'describe', self.name, check=False
    )
    if self.dry:
      return 'ACTIVE'
    if code:
      return 'GONE' if re.search('NOT_FOUND|not found', text) else 'UNKNOWN'
    # YAML, JSON or a value, as gcloud is configured; not a state it once had.
    words = re.findall(rf'\b({"|".join((*STATES, WAITING))})\b', text)
    return words[-1] if words else 'UNKNOWN'

  def ssh(
    self, command: str, host: int | str = 'all', check: bool = True
  ) -> tuple[int, str]:
    """(status, output) of a shell command on a host, or on all of them."""
    return self._call(
      *('tpu-vm', 'ssh', self.name, f'--worker={host}'),
      f'--command={command.strip()}',
      check=check,
    )

  def send(self, path: pathlib.Path, name: str) -> None:
    """Copies a file to the home directory on all hosts."""
    target = f'{self.name}:{name}'
    self._call('tpu-vm', 'scp', str(path), target, '--worker=all')

  def get(self, name: str, path: pathlib.Path, host: int) -> None:
    """Copies a file from the home directory of a host."""
    source = f'{self.name}:{name}'
    self._call('tpu-vm', 'scp', source, str(path), f'--worker={host}')

  def hosts(self) -> int:
    """Number of hosts that answer."""
    _, text = self.ssh('echo rlvr-host')
    return 1 if self.dry else text.count('rlvr-host')

  def delete(self) -> None:
    """Deletes the slice, whatever its state; returns when it is gone."""
    self._call('queued-resources', 'delete', self.name, '--force')


def last(text: str) -> str:
  """The end of a message, as one line."""
  return ' '.join(text.split())[-500:] or 'it says nothing'
