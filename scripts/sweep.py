"""The runs that a config's `sweep(add)` lists, N at a time.

    python scripts/sweep.py --config=configs/NAME.py[:ARG] --workdir=DIR \\
        [--jobs=N] [--config.a.b=v]

`sweep(add)` calls `add(seed=1)` or `add(**{'optimizer.learning_rate': 1e-5})`
for each run; the keyword `arg` is ARG words instead of keys:
`add(arg='arm=nsr', seed=1)`. A run has the directory DIR/<its values>. Finished
runs are skipped and killed ones resumed, so the same command goes on where it
stopped. The report of all is DIR/report.html.

With --jobs=N above 1, what a run says goes to its log.txt. Every run uses all
cores where it can, so N runs of a tiny model gain, and N large ones do not.
Programs that several runs share are compiled once and kept in DIR/.cache.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from typing import NamedTuple

from rlvr_jax import config as config_lib
from rlvr_jax import config_file, processes, recipes, resume, storage
from rlvr_jax.reporting import report, run_writer

_TRAIN = pathlib.Path(__file__).with_name('train.py')


class Run(NamedTuple):
  spec: str  # of the config
  overrides: list[str]


def plan(spec: str, overrides: list[str]) -> dict[str, Run]:
  """{label: run}, all checked before the first starts.

  Raises:
    ValueError: the config lists no runs, two runs are the same, or a run
      changes a key to what the config refuses.
  """
  module = config_file.module(spec)
  if not hasattr(module, 'sweep'):
    raise ValueError(
      f'{spec} has no sweep(add), so it lists no runs. Define one that calls '
      'add(key=value) for each run, or use scripts/train.py.'
    )
  runs = []
  module.sweep(lambda **changes: runs.append(changes))
  if not runs:
    raise ValueError(f'sweep(add) of {spec} never calls add, so it is empty.')
  planned = {}
  for changes in runs:
    arg = changes.pop('arg', '')
    words = [f'{key}={value}' for key, value in changes.items()]
    label = ','.join(filter(None, (arg, *words)))
    label = re.sub(r'[^\w.,=+-]+', '_', label).strip('_')[:120] or 'base'
    if label in planned:
      raise ValueError(
        f'sweep(add) of {spec} lists {label!r} twice; the names of '
        'directories must differ.'
      )
    file, _, given = spec.partition(':')
    full = ','.join(filter(None, (given, arg)))
    planned[label] = Run(
      f'{file}:{full}' if full else file, [*overrides, *words]
    )
    config_lib.load(*planned[label])
  return planned


def start(folder: pathlib.Path, run: Run, quiet: bool) -> subprocess.Popen:
  """The process of a run; it ends with this one."""
  command = [str(_TRAIN), f'--config={run.spec}']
  command += [f'--workdir={folder}', *(f'--config.{w}' for w in run.overrides)]
  env = {
    'JAX_COMPILATION_CACHE_DIR': str(folder.parent.resolve() / '.cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  } | os.environ
  if not quiet:
    return processes.start(command, env=env)
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / 'log.txt', 'ab') as log:
    return processes.start(
      command, env=env, stdout=log, stderr=subprocess.STDOUT
    )


def execute(workdir: pathlib.Path, planned: dict[str, Run], jobs: int) -> list:
  """Runs what is not finished; labels of those that failed."""
  left, failed = collections.deque(), []
  for label, run in planned.items():
    config = config_lib.load(*run)
    resume.check_config(workdir / label, config)
    config_file.check(workdir / label, config_file.source(run.spec))
    if recipes.finished(workdir / label, config.total_steps):
      print(f'{label}: finished before', flush=True)
    else:
      recipes.ensure(config)  # before two runs want the same
      left.append(label)
  total, done, began, running = len(left), 0, time.monotonic(), {}
  try:
    while left or running:
      while left and len(running) < jobs:
        label = left.popleft()
        folder = workdir / label
        verb = 'resumes' if folder.exists() else 'starts'
        print(f'{label}: {verb}', flush=True)
        running[label] = start(folder, planned[label], jobs > 1)
      for label, process in list(running.items()):
        try:
          code = process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
          continue
        process.stdin.close()
        del running[label]
        done += 1
        spent = time.monotonic() - began
        clock = run_writer.clock(spent / done * (total - done))
        how = f'failed with exit status {code}' if code else 'finished'
        print(f'[{done}/{total}] {label}: {how}; {clock} left', flush=True)
        failed += [label] * bool(code)
  finally:
    for process in running.values():
      process.terminate()
    for process in running.values():
      processes.wait(process)
  return failed


@config_lib.run_main
def main(argv) -> int:
  """Returns 1 if a run failed; the others are run nevertheless."""
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py[:ARG]')
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument('--jobs', type=int, default=1, metavar='N')
  args = parser.parse_args(rest)
  if args.jobs < 1:
    raise ValueError(f'--jobs={args.jobs} must be at least 1.')
  workdir = storage.local(args.workdir, 'the --workdir of a sweep')
  planned = plan(args.config, overrides)
  failed = execute(workdir, planned, args.jobs)
  folders = [workdir / label for label in planned]
  folders = [f for f in folders if (f / 'config.json').exists()]
  if folders:
    print(f'Wrote {report.build(folders, workdir / "report.html")}')
  if failed:
    print(f'Failed: {json.dumps(failed)}. Run the same command again.')
  return 1 if failed else 0


if __name__ == '__main__':
  sys.exit(main())
