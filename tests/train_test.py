"""Whole runs in processes of their own: killed, stopped, abused, resumed."""

import importlib.util
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import jax
import numpy as np
import optax
import pytest

from rlvr_jax import config as config_lib
from rlvr_jax import experiment, registry, resume, train
from rlvr_jax.io import checkpoint, load
from rlvr_jax.learner import optimizer
from rlvr_jax.reporting import alarms, run_lock, run_writer
from rlvr_jax.rewards import base

# The fixture `runs` starts five processes; machines may be slow.
pytestmark = [
  pytest.mark.timeout(1800),
  pytest.mark.usefixtures('one_device', 'no_page'),
]

ROOT = pathlib.Path(__file__).parents[1]
TRAIN = ROOT / 'scripts' / 'train.py'

# scripts/train.py with a reward that random models get, and one fault.
_DRIVER = r"""
import json, os, runpy, signal, sys
import jax
from rlvr_jax import registry
from rlvr_jax.io import manifest
from rlvr_jax.reporting import report, run_writer
from rlvr_jax.rewards import base

report.build = lambda *_: None

@registry.register('reward')
def parity(tasks, transcripts):
  values = [sum(map(ord, t.completion)) % 2 for t in transcripts]
  return [base.RewardResult(float(v), {'parity': float(v)}) for v in values]

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
  if path.name != run_writer.METRICS:
    return
  lines += 1
  if fault in ('SIGKILL', 'SIGINT', 'SIGTERM') and step == int(value):
    send(fault)  # before the checkpoint of this step
wrap(run_writer, 'append', after=on_line)
if fault == 'save':  # arrays are written, the seal is not
  wrap(manifest, 'write', before=lambda p: p.path.stem == value and kill())

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

# Everything that a resumed run must restore: the reference's weights, the
# position in the data after resampling, the verdicts by which tasks are chosen,
# the second update's optimiser state.
_ARGS = (
  '--config.reward_funcs=("parity",)',
  '--config.total_steps=6',
  '--config.eval_every=2',
  '--config.save_every=2',
  '--config.log_transcripts=2',
  '--config.optimizer.learning_rate=1e-2',
  '--config.num_generations=2',  # groups without spread are common
  '--config.max_resample_batches=2',
  '--config.train_tasks=40',
  '--config.task_sampling=signal(power=4.0)',
  '--config.num_iterations=2',
  '--config.algo.kl=k3',
  '--config.algo.beta=0.1',
)


@pytest.fixture(scope='module')
def run(tmp_path_factory, save_model):
  """run(workdir, *args, fault='') -> CompletedProcess of train.py."""
  folder = tmp_path_factory.mktemp('driver')
  (folder / 'driver.py').write_text(_DRIVER)
  model = save_model(folder / 'model', spec='tiny(layers=1)')
  env = os.environ | {
    'TRAIN': str(TRAIN),
    'JAX_NUM_CPU_DEVICES': '1',
    # Of its own: some of these processes are killed.
    'JAX_COMPILATION_CACHE_DIR': str(folder / 'cache'),
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
  """The lines of a run's files, without wall-clock metrics."""
  return {
    name: [
      {k: v for k, v in line.items() if not run_writer.is_wall_clock(k)}
      for line in run_writer.read(folder / name)
    ]
    for name in (run_writer.METRICS, run_writer.EVAL, run_writer.ROLLOUTS)
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
  """(folder, output): an undisturbed run in `a`, an interrupted one in `b`."""
  folder = tmp_path_factory.mktemp('runs')
  whole = run(folder / 'a')
  assert whole.returncode == 0, whole.stderr
  plan = (
    ('SIGINT:1', (130,), 'stopped after step 1; run the same command'),
    ('SIGKILL:3', (-9,), 'resuming after step 1'),
    ('save:4', (-9,), 'resuming after step 2'),
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
  metrics = whole[run_writer.METRICS]
  assert [m['step'] for m in metrics] == [1, 2, 3, 4, 5, 6]
  assert [e['step'] for e in whole[run_writer.EVAL]] == [0, 2, 4, 6]
  # There was something to learn, or equality would mean little.
  assert sum(m['grad_norm'] > 0 for m in metrics) >= 4
  assert all(m['update_skipped'] == 0 for m in metrics)
  assert any(m['resample_batches'] > 0 for m in metrics)
  assert any(m['kl'] > 0 for m in metrics)
  visited = [m['tasks/visited'] for m in metrics]
  assert visited[0] == 0 < visited[1] < visited[5] <= 40
  extra = [folder / x / 'checkpoints' / '6' / 'extra/extra.json' for x in 'ab']
  assert extra[0].read_text() == extra[1].read_text()


def test_programs_compile_once(runs):
  compiled = json.loads(re.search(r'^COMPILED (.*)', runs[1], re.M)[1])
  names = [name for _, name in compiled]
  assert names.count('jit(update)') == 1
  # Single rows of the evaluation; groups of the training batch, in parts.
  assert names.count('jit(sample)') == 1
  assert names.count('jit(_first_token)') == names.count('jit(_go_on)') == 1
  # Nothing compiles after the second step.
  late = [name for lines, name in compiled if lines >= 2]
  assert not late


@pytest.mark.parametrize('rate', ['inf', '1e38'])
def test_an_update_that_is_not_finite_never_reaches_a_checkpoint(
  main, tmp_path, monkeypatch, capsys, rate
):
  """With the check of the learning rate at start out of the way."""
  make = optimizer.make_optimizer

  def wild(c, *args):
    return optax.chain(make(c, *args), optax.scale(float(rate)))

  saved, save = [], checkpoint.Checkpointer.save
  good = lambda x: np.isfinite(np.asarray(x)).all()

  def checked(self, step, state, extra):
    leaves = jax.tree.leaves((state.params, state.opt_state))
    assert all(map(good, leaves))
    saved.append(step)
    save(self, step, state, extra)

  monkeypatch.setattr(optimizer, 'make_optimizer', wild)
  monkeypatch.setattr(checkpoint.Checkpointer, 'save', checked)
  overrides = ('save_every=1', 'total_steps=9', 'reward_funcs=("random",)')
  assert main(tmp_path, *(f'--config.{x}' for x in overrides)) == 1
  err = capsys.readouterr().err
  assert '3 updates in a row had a loss, gradient, log-prob or result' in err
  assert 'Lower optimizer.learning_rate' in err
  lines = list(run_writer.read(tmp_path / run_writer.METRICS))
  assert [m['update_skipped'] for m in lines][-3:] == [1, 1, 1]
  # Weights that such a step gave are never saved.
  assert len(saved) == len(lines) - 3
  assert f'Checkpoints kept: {checkpoint.steps(tmp_path)}' in err
  assert all(m['update/moved_frac'] == 0 for m in lines if m['update_skipped'])


def test_a_policy_that_one_update_ruins_ends_the_run(main, tmp_path, capsys):
  """All numbers stay finite, but later steps have nothing to learn from."""
  code = main(
    tmp_path,
    '--config.reward_funcs=("random",)',
    '--config.total_steps=9',
    '--config.optimizer.learning_rate=10',
    '--config.optimizer.weight_decay=100',
    '--config.optimizer.schedule=constant',
    '--config.model.name=tiny(layers=1, width=32)',
  )
  out, err = capsys.readouterr()
  assert code == 1
  assert out.count('ALARM step') == 3
  assert 'error: 3 updates in a row had' in err
  assert 'too certain of every token to be moved' in err


def test_metrics_of_tokens_come_every_metrics_every_steps(
  main, tmp_path, capsys
):
  """A random model is never right: no group has a gradient.

  And weights that are kept in bfloat16 are announced.
  """
  overrides = ('model.name=tiny(layers=1, width=32)', 'metrics_every=2')
  overrides += ('model.param_dtype=bfloat16',)
  assert main(tmp_path, *(f'--config.{x}' for x in overrides)) == 0
  printed = capsys.readouterr().out.splitlines()
  notices = [x for x in printed if x.startswith('model.param_dtype=bfloat16: ')]
  assert len(notices) == 1
  assert 'at optimizer.learning_rate=0.001' in notices[0]
  assert 'update/moved_frac' in notices[0]
  lines = list(run_writer.read(tmp_path / run_writer.METRICS))
  assert [m['batch_empty'] for m in lines] == [1, 1, 1]
  names = {'entropy', 'ratio', 'clip_ratio', 'sampler_trainer/logp_diff_max'}
  assert [len(names & m.keys()) for m in lines] == [0, 4, 0]
  assert lines[1]['entropy'] > 1


@pytest.mark.parametrize(
  ('gap', 'tokens', 'warned'),
  [
    (0.009, 0.5, 0),
    (0.011, 0.0, 1),
    (math.nan, 0.0, 1),
    (math.nan, math.nan, 0),
  ],
)
def test_a_gap_between_sampler_and_trainer_raises_an_alarm(gap, tokens, warned):
  printed = []
  log = types.SimpleNamespace(say=printed.append)
  c = types.SimpleNamespace(max_logp_diff=0.01, method='rl')
  metrics = {'sampler_trainer/logp_diff_max': gap}
  alarms.check(log, c, 3, metrics | {'advantage/nonzero_frac': tokens})
  assert len(printed) == warned
  assert all('ALARM step 3' in line for line in printed)


@pytest.mark.parametrize('skipped', [0, 2])
def test_a_skipped_update_raises_an_alarm(skipped):
  printed = []
  log = types.SimpleNamespace(say=printed.append)
  c = types.SimpleNamespace(max_logp_diff=0.01, method='rl', num_iterations=3)
  alarms.check(log, c, 3, {'update_skipped': float(skipped)})
  assert len(printed) == bool(skipped)
  assert all('ALARM step 3: 2 of 3 updates' in line for line in printed)


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
    (['keep_best=eval/accurcy'], "Did you mean 'eval/accuracy'?"),
    (['mesh.shape=(3, -1, 1)'], 'product is the number of devices, 8'),
    (['mesh.shape=(1, 1, 8)'], 'no multiple of mesh axis tensor=8'),
    (
      ['total_steps=0', 'save_every=0'],
      'total_steps=0 must be a whole number from 1 to 1000000000; save_every=0',
    ),
  ],
)
def test_what_cannot_work_is_refused_at_start(
  main, tmp_path, capsys, monkeypatch, one_device, args, says
):
  monkeypatch.setattr(experiment, 'mesh_of', one_device)  # eight
  code = main(tmp_path / 'run', *(f'--config.{arg}' for arg in args))
  assert says in one_line(capsys)
  assert code == 1
  assert not (tmp_path / 'run' / run_writer.METRICS).exists()


def test_a_held_directory_is_refused_before_anything_is_read(
  main, tmp_path, capsys, monkeypatch
):
  """Neither tasks nor weights are read, nor is the config compared."""

  def read(*_, **__):
    raise AssertionError

  monkeypatch.setattr(registry, 'get', read)
  monkeypatch.setattr(load, 'load', read)
  monkeypatch.setattr(load, 'load_config', read)
  monkeypatch.setattr(resume, 'check_config', read)
  with run_lock.hold(tmp_path):
    assert main(tmp_path) == 1
  assert 'Another process is training in' in one_line(capsys)


@registry.register('reward')
def silent(tasks, transcripts, *, after: int = 0):
  """Refuses all rows, after the first `after` calls."""
  silent.calls += bool(transcripts)
  value = 0.0 if silent.calls <= after else float('nan')
  return [base.RewardResult(value, {'silent': value})] * len(transcripts)


def test_rewards_that_refuse_all_rows_raise_an_alarm(main, tmp_path, capsys):
  silent.calls, after = -1, 1  # the call at start is none of training
  spec = f'silent(after={after})'
  code = main(
    tmp_path,
    f'--config.reward_funcs=("{spec}", "outcome")',
    '--config.reward_weights=(1.0, 1.0)',
    '--config.total_steps=9',
    '--config.save_every=1',
    '--config.max_skipped_updates=2',
    '--config.model.name=tiny(layers=1, width=32)',
  )
  out, err = capsys.readouterr()
  assert code == 1
  alarms = [line for line in out.splitlines() if 'ALARM' in line]
  assert [a.partition(':')[0] for a in alarms] == [
    f'ALARM step {after + 1}',
    f'ALARM step {after + 2}',
  ]
  assert f'Reward {spec} refused every row' in alarms[0]
  assert f'error: Reward {spec} refused every row' in err
  assert f'in each of 2 steps in a row, up to step {after + 2}' in err
  assert 'change reward_funcs in a new workdir' in err
  lines = list(run_writer.read(tmp_path / run_writer.METRICS))
  assert [x['rewards/refused'] for x in lines] == [0.0] * after + [1.0] * 2


def test_a_checkpoint_comes_after_its_lines_are_on_the_disk(
  main, tmp_path, monkeypatch
):
  """A power cut at any moment keeps the lines that a checkpoint counts on."""
  synced, seen = {}, []
  fsync, rename = os.fsync, os.rename

  def sync(fd):
    fsync(fd)
    path = pathlib.Path(os.readlink(f'/proc/self/fd/{fd}'))
    synced[path.name] = os.fstat(fd).st_size

  def move(src, dst):
    if re.fullmatch(r'\d+', os.path.basename(dst)):
      kept = {}
      for name in (run_writer.METRICS, run_writer.EVAL, run_writer.ROLLOUTS):
        text = (tmp_path / name).read_bytes()[: synced[name]].decode()
        assert text.endswith('\n')
        kept[name] = json.loads(text.splitlines()[-1])['step']
      seen.append((int(os.path.basename(dst)), kept))
    rename(src, dst)

  monkeypatch.setattr(os, 'fsync', sync)
  monkeypatch.setattr(os, 'rename', move)
  code = main(
    tmp_path,
    '--config.total_steps=3',
    '--config.save_every=1',
    '--config.eval_every=2',
    '--config.model.name=tiny(layers=1, width=32)',
  )
  assert code == 0
  # The next step may have begun while a checkpoint is finished.
  assert [step for step, _ in seen] == [1, 2, 3]
  for step, kept in seen:
    assert kept[run_writer.METRICS] >= step
    assert kept[run_writer.ROLLOUTS] >= step
    assert kept[run_writer.EVAL] >= step - step % 2


def test_a_run_goes_on_on_other_devices(tmp_path, monkeypatch):
  """1, then 2, then 1 again: the default config, and the same numbers."""
  mesh_of = experiment.mesh_of

  def run(devices, folder):
    some = jax.devices()[:devices]
    monkeypatch.setattr(experiment, 'mesh_of', lambda c: mesh_of(c, some))
    c = config_lib.load(
      f'{ROOT}/configs/tiny.py:smoke',
      [
        'save_every=1',
        'model.name=tiny(layers=1, width=32)',
        'optimizer.schedule=constant',
        'reward_funcs=("random",)',
        'total_steps=3',
      ],
    )
    train.train(c, tmp_path / folder)

  run(1, 'stayed')
  # Another, as if it had been killed after its first step.
  shutil.copytree(tmp_path / 'stayed', tmp_path / 'moved')
  checkpoints = tmp_path / 'moved' / 'checkpoints'
  shutil.rmtree(checkpoints / '2')
  shutil.rmtree(checkpoints / '3')
  run(2, 'moved')
  assert (checkpoints / '2').exists()  # trained again, on two devices
  shutil.rmtree(checkpoints / '3')
  run(1, 'moved')
  assert (checkpoints / '3').exists()
  moved, stayed = (
    list(run_writer.read(tmp_path / name / run_writer.METRICS))
    for name in ('moved', 'stayed')
  )
  assert [x['step'] for x in moved] == [1, 2, 3]
  for name in ('reward', 'entropy', 'grad_norm', 'learning_rate'):
    one, other = ([x[name] for x in lines] for lines in (moved, stayed))
    np.testing.assert_allclose(one, other, rtol=1e-3, err_msg=name)
  assert any(x['grad_norm'] > 0 for x in stayed)


def test_damaged_files_are_refused_at_start(main, save_model, tmp_path, capsys):
  (tmp_path / 'empty.jsonl').write_text('')
  env = f'--config.env=jsonl(path={str(tmp_path / "empty.jsonl")!r})'
  assert main(tmp_path / 'run', env) == 1
  assert 'is empty: write one JSON object per line' in one_line(capsys)

  weights = save_model(tmp_path / 'model') / 'model.safetensors'
  weights.write_bytes(weights.read_bytes()[:-1000])
  assert main(tmp_path / 'run', f'--config.model.name={weights.parent}') == 1
  assert 'is no whole safetensors file' in one_line(capsys)
  assert not (tmp_path / 'run' / run_writer.METRICS).exists()


def test_a_workdir_belongs_to_one_config_and_one_process(
  main, tmp_path, capsys
):
  stray = tmp_path / 'checkpoints' / '5.orbax-checkpoint-tmp'  # by another
  stray.mkdir(parents=True)
  with run_lock.hold(tmp_path):
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
