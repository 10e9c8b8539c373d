"""Sinks hold what the files hold, each step once, also of a killed run."""

import json
import math
import os
import pathlib
import struct
import subprocess
import sys

import pytest

from rlvr_jax.reporting import run_writer, sinks

CONFIG = {'seed': 0, 'optimizer': {'learning_rate': 0.5}}


def run(folder, step, last, name):
  options = {'total_steps': 4, 'transcripts': 1, 'log_to': (name,)}
  with run_writer.open(folder, CONFIG, step=step, **options) as log:
    if step is None:
      log.eval(0, {'eval/accuracy': 0.125})
    for s in range((step or 0) + 1, last + 1):
      log.metrics(s, {'reward': s / 4, 'loss': math.nan, 'kl': math.inf})
    log.eval(last, {'eval/accuracy': last / 8})


def killed(folder, name):
  """Ends after step 3, goes on from step 1 to 4."""
  run(folder, None, 3, name)
  run(folder, 1, 4, name)


WANT = {
  'reward': [(s, s / 4) for s in (1, 2, 3, 4)],
  'eval/accuracy': [(0, 0.125), (3, 0.375), (4, 0.5)],
}


@pytest.mark.filterwarnings('default')
def test_tensorboard_has_what_the_files_have(tmp_path):
  pytest.importorskip('tensorboard')
  from tensorboard.backend.event_processing import event_accumulator

  killed(tmp_path, 'tensorboard')
  events = event_accumulator.EventAccumulator(str(tmp_path / 'tensorboard'))
  events.Reload()
  assert sorted(events.Tags()['scalars']) == sorted(WANT)
  for name, want in WANT.items():
    assert [(e.step, e.value) for e in events.Scalars(name)] == want


def records(data):
  """Of W&B's file: LevelDB's log, blocks of 32 KiB after a header."""
  at, part = 7, b''
  while at + 7 <= len(data):
    if 32_768 - at % 32_768 < 7:  # no room for another head
      at += 32_768 - at % 32_768
      continue
    _, size, kind = struct.unpack_from('<IHB', data, at)
    part += data[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):  # whole, or the last part
      yield part
      part = b''


@pytest.mark.filterwarnings('default')
def test_wandb_offline(tmp_path, monkeypatch):
  pytest.importorskip('wandb')
  from wandb.proto import wandb_internal_pb2

  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('WANDB_SILENT', 'true')
  monkeypatch.setenv('WANDB_DISABLE_CODE', 'true')
  killed(tmp_path, 'wandb')
  found = {name: [] for name in WANT}
  ids, files = set(), sorted(tmp_path.rglob('*.wandb'))
  for path in sorted(files, key=lambda p: p.stat().st_mtime):
    for data in records(path.read_bytes()):
      record = wandb_internal_pb2.Record()
      record.ParseFromString(data)
      if record.WhichOneof('record_type') == 'run':
        ids.add(record.run.run_id)
      items = record.history.item
      line = {x.key or '/'.join(x.nested_key): x.value_json for x in items}
      for name in WANT.keys() & line.keys():
        found[name].append((int(line['_step']), float(line[name])))
  assert found == WANT
  assert len(files) == 2  # offline, each start has a file
  assert len(ids) == 1  # of one run


# In a process: Trackio reads where its files are when it is imported.
_TRACKIO = """
import json, pathlib, sys
sys.path[:0] = sys.argv[2:]
import sinks_test
sinks_test.killed(pathlib.Path(sys.argv[1]) / 'run', 'trackio')
import trackio
from trackio.sqlite_storage import SQLiteStorage
(run,) = trackio.Api().runs('rlvr_jax')
logs = SQLiteStorage.get_logs('rlvr_jax', run.name)
print('LOGS', json.dumps({
  k: [[x['step'], x[k]] for x in logs if k in x] for k in sinks_test.WANT
}))
"""


def test_trackio(tmp_path):
  pytest.importorskip('trackio')
  here = pathlib.Path(__file__).resolve()
  done = subprocess.run(
    [sys.executable, '-c', _TRACKIO, tmp_path, here.parent, here.parents[2]],
    env=os.environ | {'TRACKIO_DIR': str(tmp_path / 'trackio')},
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )
  said = [x for x in done.stdout.splitlines() if x.startswith('LOGS')]
  assert said, done.stdout + done.stderr
  found = json.loads(said[0].removeprefix('LOGS '))
  assert {k: [tuple(x) for x in v] for k, v in found.items()} == WANT


def test_a_package_that_is_missing_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(sinks.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ValueError, match=r"pip install 'rlvr_jax\[wandb\]'"):
    run(tmp_path, None, 1, 'wandb')


def test_only_finite_numbers_are_sent():
  line = {'step': 3, 'a': 1, 'b': 0.5, 'c': 'nan', 'd': 'text', 'e': math.inf}
  assert sinks.numbers(line) == {'a': 1.0, 'b': 0.5}
