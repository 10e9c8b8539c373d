"""Small runs give the numbers and texts that were recorded of them.

What this is for: a change that is meant to change no result. Each run has three
steps and an evaluation before and after, and then goes on from its checkpoint
of step 2, as if it had been killed before the one of step 3 was there; both
must write what tests/recorded/NAME.jsonl holds, but for metrics of the wall
clock.

A change that is meant to change results makes new records:

  python tests/recorded_runs_test.py [NAME ...]

and `git diff` shows what it did. Say in the commit why the numbers moved.

Numbers are compared bit for bit where the `fingerprint` of a record is this
machine's, since compiled code depends on the CPU and the version of JAX.
Elsewhere they are compared up to rounding, and where rounding made a sampled
token another one there is nothing left to compare: the test is skipped.
"""

import contextlib
import gc
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import traceback

import pytest

pytestmark = pytest.mark.timeout(1800)
ROOT = pathlib.Path(__file__).parents[1]
RECORDS = ROOT / 'tests' / 'recorded'
AGAIN = 'python tests/recorded_runs_test.py'
FILES = ('metrics', 'eval', 'rollouts')
WALL_CLOCK = ('step_time', 'timing_s/', 'perf/')
STEPS = 3
RTOL, ATOL = 1e-3, 1e-5  # on another machine

SMALL = (
  'model.name=tiny(layers=1, width=32)',
  f'total_steps={STEPS}',
  'save_every=1',
  'eval_every=0',
  'train_batch_size=4',
  'num_generations=2',
  'groups_per_micro_batch=2',
  'eval.num_tasks=4',
  'eval.batch_size=8',
  'eval.samples=2',
  'eval.temperature=1.0',
  'log_transcripts=8',
  'log_every=1',  # the line after which a run is stopped
  'optimizer.learning_rate=1e-2',
  # Without it Adam moves a parameter as far for a gradient that is rounding.
  'optimizer.eps=1e-3',
)
# Rewards that have spread: random weights are hardly ever right.
SUMS = (
  'max_completion_length=4',
  'reward_funcs=("outcome", "random")',
  'reward_weights=(1.0, 0.5)',
)
GAMES = (
  'max_completion_length=4',
  'dialogue.max_turns=3',
  'dialogue.max_length=128',
  'eval.num_tasks=2',
  'eval.max_turns=0',
)
# Programs that compile sooner, and run slower: as in conftest.py.
FAST = (
  '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false '
  '--xla_llvm_disable_expensive_passes=true '
  '--xla_cpu_parallel_codegen_split_count=1'
)
TINY = 'configs/tiny.py:smoke'
GAME_CONFIG = 'configs/studies/twenty_questions/twenty_questions.py'
PAIRS = f'pairs(path={str(RECORDS / "pairs.jsonl")!r})'
# NAME -> (config, overrides). {FOLDER} has the directories of the runs before,
# which serve as models.
RUNS = {
  'grpo': (TINY, (*SUMS, 'num_iterations=2')),
  'grpo_kl': (TINY, (*SUMS, 'algo.kl=k3', 'algo.beta=0.1')),
  'gae': (TINY, (*SUMS, 'algo.estimate=gae(gamma=1.0, lam=0.95)')),
  'dialogue': (f'{GAME_CONFIG}:credit=delta_belief', GAMES),
  'sft': (TINY, ('method=sft', 'num_generations=1', 'max_completion_length=4')),
  'distill': (
    TINY,
    ('method=distill', 'teacher.name={FOLDER}/sft', 'max_completion_length=4'),
  ),
  'dpo': (
    TINY,
    (
      'method=preference',
      'algo.preference=dpo(beta=0.5)',
      f'env={PAIRS}',
      'max_completion_length=4',
    ),
  ),
  'reward_model': (
    TINY,
    (
      'method=reward_model',
      'algo.reward_loss=bradley_terry(center=0.01)',
      f'env={PAIRS}',
      'max_completion_length=4',
    ),
  ),
  'ppo': (
    TINY,
    (
      'reward_funcs=("reward_model(\'{FOLDER}/reward_model\')",)',
      'max_completion_length=4',
      'algo.estimate=gae(gamma=0.98, lam=0.95)',
      'algo.reward_kl=k1',
      'algo.reward_beta=0.05',
      'algo.kl=k3',
      'algo.beta=0.05',
    ),
  ),
}


def compile_once() -> None:
  """From now on a run has the programs of the one before, if its config is
  equal, and no page.

  The programs alone: what a resumed run must restore, it builds anew.
  """
  from rlvr_jax import config, experiment
  from rlvr_jax.reporting import report

  gc.set_threshold(50_000, 10, 10)  # see conftest.py
  build, last = experiment.build, {}

  def build_once(c, workdir):
    x, pretrained = build(c, workdir)
    if (key := config.to_json(c)) not in last:
      last.clear()
      last[key] = x.programs
    vars(x)['programs'] = last[key]
    return x, pretrained

  experiment.build = build_once
  report.build = lambda *_: None


def make(folder: pathlib.Path, names) -> None:
  """NAME and NAME-resumed in `folder`, in this process, whatever fails."""
  compile_once()
  (folder / 'fingerprint.json').write_text(json.dumps(fingerprint()))
  for name in names:
    try:
      run(folder, name, folder / name)
      resumed = folder / f'{name}-resumed'
      shutil.copytree(folder / name, resumed)
      shutil.rmtree(resumed / 'checkpoints' / str(STEPS))
      assert (resumed / 'checkpoints' / str(STEPS - 1)).exists()
      run(folder, name, resumed)
    except Exception:
      traceback.print_exc()


def run(folder, name, workdir) -> None:
  from rlvr_jax import config, train

  spec, changes = RUNS[name]
  changes = [x.replace('{FOLDER}', str(folder)) for x in changes]
  c = config.load(f'{ROOT}/{spec}', [*SMALL, *changes])
  with contextlib.redirect_stdout(io.StringIO()):
    train.train(c, workdir)


def contents(folder) -> dict[str, list[dict]]:
  """{file: its lines}, without what is of this machine or directory."""
  out = {}
  for name in FILES:
    text = (folder / f'{name}.jsonl').read_text('utf-8')
    text = text.replace(f'{folder.parent}/', '')  # in names of rewards
    out[name] = [
      {k: v for k, v in json.loads(x).items() if not k.startswith(WALL_CLOCK)}
      for x in text.splitlines()
    ]
  return out


def last_step(folder) -> int:
  """0 where there is no run."""
  if not (folder / 'metrics.jsonl').exists():
    return 0
  return contents(folder)['metrics'][-1]['step']


def finished(folder) -> bool:
  return last_step(folder) == STEPS


def fingerprint() -> dict[str, str]:
  """On what the bits of a result depend, besides our code."""
  import jax
  import jaxlib
  import numpy as np

  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text('utf-8').splitlines()
  except OSError:
    lines = []
  cores = os.cpu_count()
  if hasattr(os, 'sched_getaffinity'):  # this process may have fewer
    cores = len(os.sched_getaffinity(0))
  kind = ('flags', 'Features', 'model name', 'CPU part')
  cpu = '\n'.join(sorted({x for x in lines if x.startswith(kind)}))
  return {
    'jax': jax.__version__,
    'jaxlib': jaxlib.__version__,
    'numpy': np.__version__,
    'platform': f'{platform.system()} {platform.machine()}',
    'devices': f'{jax.device_count()} {jax.default_backend()}',
    'cpu': hashlib.sha256(cpu.encode()).hexdigest()[:16],
    'cores': str(cores),  # how products are cut for threads
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
  }


def write(name, machine, found):
  """One JSON object a line, so that `git diff` shows what moved."""
  lines = [{'fingerprint': machine}]
  lines += [{file: line} for file in FILES for line in found[file]]
  RECORDS.mkdir(exist_ok=True)
  (RECORDS / f'{name}.jsonl').write_text(
    ''.join(json.dumps(x, ensure_ascii=False) + '\n' for x in lines), 'utf-8'
  )


def read(name):
  """(fingerprint, contents) of a record."""
  path = RECORDS / f'{name}.jsonl'
  first, *lines = map(json.loads, path.read_text('utf-8').splitlines())
  found = {file: [] for file in FILES}
  for line in lines:
    ((file, values),) = line.items()
    found[file].append(values)
  return first['fingerprint'], found


def leaves(x, path=()) -> dict[tuple, object]:
  """{path: value} of nested JSON."""
  if isinstance(x, (dict, list)):
    pairs = x.items() if isinstance(x, dict) else enumerate(x)
    return {p: v for k, y in pairs for p, v in leaves(y, (*path, k)).items()}
  return {path: x}


def compare(found, want, *, exact: bool):
  """Raises where they differ, or skips; see the top of this file."""
  found, want = leaves(found), leaves(want)
  texts = lambda values: {
    path: x
    for path, x in values.items()
    if path[0] == 'rollouts' and not isinstance(x, float)
  }
  if not exact and texts(found) != texts(want):
    pytest.skip(
      'recorded on another machine, and rounding made a sampled token another '
      f'one; to compare with this machine later: {AGAIN}'
    )
  name = lambda path: '/'.join(map(str, path))
  only = [name(path) for path in found.keys() ^ want.keys()]
  assert not only, f'only in the run or only in the record: {sorted(only)[:9]}'
  for path, a in found.items():
    b = want[path]
    same = repr(a) == repr(b)
    if not exact and isinstance(a, float) and isinstance(b, float):
      same = a == pytest.approx(b, rel=RTOL, abs=ATOL)
    assert same, f'{name(path)}: {a!r}, and it was {b!r}'


def made(folder, names) -> str:
  """`make` in a process with one device, where programs are compiled once.

  Returns what it printed: the reason, if a run is missing.
  """
  done = subprocess.run(
    [sys.executable, __file__, '--make', folder, *names],
    env=os.environ
    | {
      'PYTHONPATH': str(ROOT),
      'JAX_PLATFORMS': 'cpu',
      'JAX_NUM_CPU_DEVICES': '1',
      'XLA_FLAGS': FAST,
      'JAX_COMPILATION_CACHE_DIR': str(folder / 'cache'),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    },
    capture_output=True,
    text=True,
    check=False,
    timeout=1700,
  )
  return done.stderr


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return folder, made(folder, RUNS)


@pytest.mark.parametrize('name', RUNS)
def test_a_run_writes_what_was_recorded(runs, name):
  folder, printed = runs
  assert finished(folder / name), printed
  machine = json.loads((folder / 'fingerprint.json').read_text())
  recorded_on, want = read(name)
  compare(contents(folder / name), want, exact=recorded_on == machine)


@pytest.mark.parametrize('name', RUNS)
def test_a_run_that_lost_its_last_step_writes_the_same(runs, name):
  folder, printed = runs
  resumed = folder / f'{name}-resumed'
  assert finished(folder / name), printed
  assert finished(resumed), printed
  assert (resumed / 'checkpoints' / str(STEPS)).exists()  # made again
  compare(contents(resumed), contents(folder / name), exact=True)


def main(argv):
  if argv[:1] == ['--make']:
    make(pathlib.Path(argv[1]), argv[2:])
    return
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    printed = made(folder, RUNS)
    machine = json.loads((folder / 'fingerprint.json').read_text())
    for name in argv or RUNS:
      assert finished(folder / name), printed
      write(name, machine, contents(folder / name))
      print(f'recorded {RECORDS / name}.jsonl')


if __name__ == '__main__':
  main(sys.argv[1:])
