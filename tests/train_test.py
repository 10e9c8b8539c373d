"""Whole runs in processes of their own: killed, stopped, abused, resumed."""

import importlib.util
import json
import os
import pathlib
import random
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from rlvr_jax import checkpoint, registry, sharding, writer
from rlvr_jax import config as config_lib
from rlvr_jax.io import export, tokenizer
from rlvr_jax.models import transformer

# The fixture `runs` starts seven processes, on machines of any load.
pytestmark = pytest.mark.timeout(1800)

ROOT = pathlib.Path(__file__).parents[1]
TRAIN = ROOT / 'scripts' / 'train.py'

# scripts/train.py with a reward that random models get, and one fault.
_DRIVER = r"""
import json, os, runpy, signal, sys, threading
import jax
from rlvr_jax import manifest, registry, writer
from rlvr_jax.rewards import core

@registry.register('reward')
def parity(tasks, transcripts):
  values = [sum(map(ord, t.completion)) % 2 for t in transcripts]
  return [core.Graded(float(v), {'parity': float(v)}) for v in values]

fault, _, value = os.environ['FAULT'].partition(':')
send = lambda name: os.kill(os.getpid(), getattr(signal, name))
kill = lambda: send('SIGKILL')

def wrap(module, name, before=None, after=None):
  f = getattr(module, name)
  def wrapped(*args, **kwargs):
    if before: before(*args)
    out = f(*args, **kwargs)
    if after: after(*args)
    return out
  setattr(module, name, wrapped)

lines = 0
def on_line(path, step, _):
  global lines
  if path.name != writer.METRICS:
    return
  lines += 1
  if fault == 'random' and lines == 1:
    threading.Timer(float(value), kill).start()
  elif fault in ('SIGKILL', 'SIGINT', 'SIGTERM') and step == int(value):
    send(fault)  # before the checkpoint of this step
wrap(writer, 'append', after=on_line)
if fault == 'save':  # arrays are written, the seal is not
  wrap(manifest, 'write', before=lambda p, _: p.stem == value and kill())

compiled = []
jax.monitoring.register_event_duration_secs_listener(
  lambda event, _, fun_name='', **kwargs: compiled.append([lines, fun_name])
  if event == '/jax/core/compile/backend_compile_duration' else None)
sys.argv = ['train.py', *sys.argv[2:]]
try:
  runpy.run_path(os.environ['TRAIN'], run_name='__main__')
finally:
  print('COMPILED', json.dumps(compiled))
"""

# Everything that a run must find again: the reference's weights, the position
# in the data after resampling, the second update's optimiser state.
_ARGS = (
  '--config.reward_funcs=("parity",)',
  '--config.total_steps=6',
  '--config.eval_every=2',
  '--config.save_every=2',
  '--config.log_transcripts=2',
  '--config.optimizer.learning_rate=1e-2',
  '--config.num_generations=2',  # groups without spread are common
  '--config.max_resample_batches=2',
  '--config.num_iterations=2',
  '--config.algo.kl=k3',
  '--config.algo.beta=0.1',
)


def save_model(folder):
  """A one-layer model with random weights, as a Hugging Face folder."""
  config = registry.get('model', 'tiny(layers=1)')()
  shapes, _ = sharding.params_shardings(
    transformer.Decoder(config), sharding.make_mesh((1, -1, 1))
  )
  rng = np.random.default_rng(0)
  make = lambda x: rng.normal(0, 0.1, x.shape).astype(np.float32)
  params = jax.tree.map(make, shapes)
  export.export(folder, config, params, tokenizer.byte_level())
  return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """run(workdir, *args, fault='') -> CompletedProcess of train.py."""
  folder = tmp_path_factory.mktemp('driver')
  (folder / 'driver.py').write_text(_DRIVER)
  model = save_model(folder / 'model')
  env = os.environ | {
    'TRAIN': str(TRAIN),
    'JAX_NUM_CPU_DEVICES': '1',
    # Programs compile in the first run only.
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  }

  def run(workdir, *args, fault=''):
    return subprocess.run(
      [
        sys.executable,
        str(folder / 'driver.py'),
        'driver',
        f'--config={ROOT}/configs/tiny.py:smoke',
        f'--workdir={workdir}',
        f'--config.model.name={model}',
        *_ARGS,
        *args,
      ],
      cwd=folder,
      env=env | {'FAULT': fault},
      capture_output=True,
      text=True,
      check=False,
      timeout=900,
    )

  return run


def contents(folder):
  """The lines of a run's files, without what a clock measured."""
  return {
    name: [
      {k: v for k, v in line.items() if not writer.is_wall_clock(k)}
      for line in writer.read(folder / name)
    ]
    for name in (writer.METRICS, writer.EVAL, writer.ROLLOUTS)
  }


def corrupt(folder, step):
  """Flips a byte in the largest file of a checkpoint."""
  files = [p for p in (folder / 'checkpoints' / str(step)).rglob('*')]
  path = max((p for p in files if p.is_file()), key=lambda p: p.stat().st_size)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


@pytest.fixture(scope='module')
def runs(run, tmp_path_factory):
  """(folder, output): a run in `a` that is left alone, one in `b` that not."""
  folder = tmp_path_factory.mktemp('runs')
  whole = run(folder / 'a')
  assert whole.returncode == 0, whole.stderr
  seconds = random.uniform(0, 0.5)
  plan = (
    ('SIGINT:1', (130,), 'stopped after step 1; the same command goes on'),
    ('SIGTERM:2', (130,), 'stopped after step 2; the same command goes on'),
    ('SIGKILL:3', (-9,), 'resuming after step 2'),
    ('save:4', (-9,), 'resuming after step 2'),
    (f'random:{seconds}', (-9, 0), 'resuming after step 2'),
    ('corrupt', (0,), r'is unusable: .*(\n.*)*Going on from the checkpoint of'),
  )
  for fault, codes, says in plan:
    if fault == 'corrupt':
      corrupt(folder / 'b', checkpoint.steps(folder / 'b')[-1])
    done = run(folder / 'b', fault=fault)
    text = done.stdout + done.stderr
    assert done.returncode in codes, f'{fault}: {text}'
    assert re.search(says, text), f'{fault}: {text}'
    assert 'Traceback' not in text, text
  return folder, whole.stdout


def test_a_run_killed_again_and_again_equals_one_never_stopped(runs):
  folder, _ = runs
  whole, broken = contents(folder / 'a'), contents(folder / 'b')
  assert whole == broken
  metrics = whole[writer.METRICS]
  assert [m['step'] for m in metrics] == [1, 2, 3, 4, 5, 6]
  assert [e['step'] for e in whole[writer.EVAL]] == [0, 2, 4, 6]
  # There was something to learn, or equality would mean little.
  assert sum(m['grad_norm'] > 0 for m in metrics) >= 4
  assert all(m['update_skipped'] == 0 for m in metrics)
  assert any(m['resample_batches'] > 0 for m in metrics)
  assert any(m['kl'] > 0 for m in metrics)
  extra = [folder / x / 'checkpoints' / '6' / 'extra.json' for x in 'ab']
  assert extra[0].read_text() == extra[1].read_text()


def test_programs_compile_once(runs):
  compiled = json.loads(re.search(r'^COMPILED (.*)', runs[1], re.M)[1])
  names = [name for _, name in compiled]
  assert names.count('jit(update)') == 1
  # Groups of the training batch, single rows of the evaluation.
  assert names.count('jit(sample)') == 2
  # Whatever the number of steps: nothing at all after the second one.
  late = [name for lines, name in compiled if lines >= 2]
  assert not late


def test_a_policy_that_blows_up_stops_the_run(run, tmp_path):
  done = run(
    tmp_path,
    '--config.total_steps=20',
    '--config.num_iterations=1',
    '--config.save_every=1',
    '--config.optimizer.learning_rate=1e25',
  )
  assert done.returncode == 1, done.stdout + done.stderr
  assert 'error: 3 updates in a row had a loss or gradient' in done.stderr
  assert 'Lower optimizer.learning_rate' in done.stderr
  assert 'Traceback' not in done.stderr
  lines = list(writer.read(tmp_path / writer.METRICS))
  skipped = [line['update_skipped'] for line in lines]
  assert skipped[-3:] == [1.0] * 3
  assert 3 < len(lines) < 20
  good = len(skipped) - 3
  assert checkpoint.steps(tmp_path)[-1] == good
  assert f'Checkpoints kept: {checkpoint.steps(tmp_path)}' in done.stderr


@pytest.fixture
def main():
  """main(workdir, *args): scripts/train.py in this process, 8 devices."""
  spec = importlib.util.spec_from_file_location('train_script', TRAIN)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  sizes = ('train_batch_size', 'groups_per_micro_batch', 'eval.batch_size')
  return lambda workdir, *args: module.main(
    [
      f'--config={ROOT}/configs/tiny.py:smoke',
      f'--workdir={workdir}',
      *(f'--config.{name}=8' for name in sizes),
      *args,
    ]
  )


def one_line(capsys):
  error = capsys.readouterr().err
  assert error.startswith('error: '), error
  assert error.count('\n') == 1, error
  return error


@pytest.mark.parametrize(
  ('args', 'says'),
  [
    (['num_generations=1'], 'every advantage is 0. Set num_generations to 2'),
    (['lerning_rate=1'], "Did you mean 'optimizer.learning_rate'?"),
    (['optimizer.learning_rate=fast'], "is float, now 0.001; 'fast' is not."),
    (
      ['optimizer.learning_rate=-1.0'],
      '=-1.0 must be a number from 0 to 1e+30',
    ),
    (['optimizer.trainable=nothing'], 'matches no parameter. Parameters:'),
    (['optimizer.schedule=step'], "one of 'constant', 'linear', 'cosine'"),
    (['algo.estimate=gpro'], "Did you mean 'grpo'?"),
    (['algo.beta=0.1'], "set algo.kl='k2' or 'k3', or algo.beta=0"),
    (['reward_weights=(1.0, 2.0)'], '1 reward functions, 1 names, 2 weights'),
    (['model.name=/no/folder'], "Unknown model '/no/folder': no such folder."),
    (['max_prompt_length=30'], 'longer than max_prompt_length=30'),
    (['max_prompt_length=2000'], "more than the model's 1024 positions"),
    (['temperature=0.0'], 'temperature=0.0 must be a number from 0.01'),
    (['train_batch_size=12'], 'must be a multiple of data*fsdp=8'),
    (['mesh.shape=(3, -1, 1)'], 'product is the number of devices, 8'),
    (['mesh.shape=(1, 1, 8)'], 'no multiple of mesh axis tensor=8'),
    (
      ['total_steps=0', 'save_every=0'],
      'total_steps=0 must be a whole number from 1 to 1000000000; save_every=0',
    ),
  ],
)
def test_what_cannot_work_is_refused_at_start(
  main, tmp_path, capsys, args, says
):
  code = main(tmp_path / 'run', *(f'--config.{arg}' for arg in args))
  assert says in one_line(capsys)
  assert code == 1
  assert not (tmp_path / 'run' / writer.METRICS).exists()


def test_damaged_files_are_refused_at_start(main, tmp_path, capsys):
  (tmp_path / 'empty.jsonl').write_text('')
  env = f'--config.env=jsonl(path={str(tmp_path / "empty.jsonl")!r})'
  assert main(tmp_path / 'run', env) == 1
  assert 'is empty: write one JSON object per line' in one_line(capsys)

  weights = save_model(tmp_path / 'model') / 'model.safetensors'
  weights.write_bytes(weights.read_bytes()[:-1000])
  assert main(tmp_path / 'run', f'--config.model.name={weights.parent}') == 1
  assert 'is no whole safetensors file' in one_line(capsys)
  assert not (tmp_path / 'run' / writer.METRICS).exists()


def test_a_workdir_belongs_to_one_config_and_one_process(
  main, tmp_path, capsys
):
  stray = tmp_path / 'checkpoints' / '5.tmp'  # what another process saves
  stray.mkdir(parents=True)
  with writer.hold(tmp_path):
    assert main(tmp_path) == 1
  assert 'Another process is training in' in one_line(capsys)
  assert stray.exists()
  (tmp_path / 'config.json').write_text(
    config_lib.to_json(config_lib.load(f'{ROOT}/configs/tiny.py:smoke'))
  )
  assert main(tmp_path) == 1
  error = capsys.readouterr().err
  assert 'holds a run with another config' in error
  assert 'train_batch_size: 2 -> 8' in error
