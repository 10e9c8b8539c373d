"""The runs that a config's `sweep(add)` lists, one after another.

    python scripts/sweep.py --config=configs/NAME.py[:ARG] --workdir=DIR \\
        [--config.a.b=v]

`sweep(add)` calls `add(seed=1)` or `add(**{'optim.learning_rate': 1e-5})` for
each run. A run has the directory DIR/<its values>. Finished runs are skipped
and killed ones resumed, so the same command goes on where it stopped. The
report of all is DIR/report.html.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

from rlvr_jax import config as config_lib
from rlvr_jax import report, writer

_TRAIN = pathlib.Path(__file__).with_name('train.py')


def plan(spec: str, overrides: list[str]) -> dict[str, list[str]]:
  """{label: overrides} of the runs, all checked before the first starts.

  Raises:
    ValueError: the config lists no runs, two runs are the same, or a run
      changes a key to what the config refuses.
  """
  module = config_lib.module(spec)
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
    words = [f'{key}={value}' for key, value in changes.items()]
    label = re.sub(r'[^\w.,=+-]+', '_', ','.join(words)).strip('_') or 'base'
    label = label[:120]
    if label in planned:
      raise ValueError(
        f'sweep(add) of {spec} lists {label!r} twice; the names of '
        'directories must differ.'
      )
    planned[label] = [*overrides, *words]
    config_lib.load(spec, planned[label])
  return planned


def finished(folder: pathlib.Path, total_steps: int) -> bool:
  """Whether the run in `folder` has done its last step."""
  lines = list(writer.read(folder / writer.METRICS))
  return bool(lines) and lines[-1]['step'] >= total_steps


def main(argv=None) -> int:
  """Returns 1 if a run failed; the others are run nevertheless."""
  rest, overrides = config_lib.split(sys.argv[1:] if argv is None else argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py[:ARG]')
  parser.add_argument('--workdir', required=True, metavar='DIR')
  args = parser.parse_args(rest)
  planned = plan(args.config, overrides)
  failed, folders = [], []
  for i, (label, words) in enumerate(planned.items(), 1):
    folder = pathlib.Path(args.workdir) / label
    config = config_lib.load(args.config, words)
    where = f'[{i}/{len(planned)}] {label}'
    writer.check_config(folder, config)
    if finished(folder, config.total_steps):
      print(f'{where}: finished before', flush=True)
    else:
      print(
        f'{where}: {"resumes" if folder.exists() else "starts"}', flush=True
      )
      command = [sys.executable, str(_TRAIN), f'--config={args.config}']
      command += [f'--workdir={folder}', *(f'--config.{w}' for w in words)]
      code = subprocess.run(command, check=False).returncode
      if code:
        print(f'{where}: failed with exit status {code}', flush=True)
        failed.append(label)
    if folder.exists():
      folders.append(folder)
  if folders:
    out = pathlib.Path(args.workdir) / 'report.html'
    print(f'Wrote {report.build(folders, out)}')
  if failed:
    print(f'Failed: {json.dumps(failed)}. Run the same command again.')
  return 1 if failed else 0


if __name__ == '__main__':
  try:
    sys.exit(main())
  except (ValueError, OSError) as e:
    sys.exit(f'sweep.py: {e}')
