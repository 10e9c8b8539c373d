"""Trains: python scripts/train.py --config=configs/NAME.py[:ARG] --workdir=DIR

The same command again goes on where the last checkpoint left off. Any key of
the config can be changed with --config.key=value. DIR is a folder or, on
Google Cloud, gs://bucket/path. With --show it prints what
the config comes to, and stops; it needs no --workdir then.
"""

import argparse
import os
import shlex
import sys

from rlvr_jax import config as config_lib
from rlvr_jax import config_file, storage


def show(spec: str, config) -> str:
  """A line for each key; with * and the default where common.py has another."""
  values, base = config_lib.flatten(config), config_file.defaults(spec)
  known = values if base is None else config_lib.flatten(base)
  lines, differing = [], 0
  for key, value in values.items():
    line = f'  {key} = {value!r}'
    if key not in known:
      line = f'* {key} = {value!r}  (no key of common.py)'
    elif known[key] != value:
      line = f'* {key} = {value!r}  (default {known[key]!r})'
    differing += line[0] == '*'
    lines.append(line)
  head = (
    f'# {spec}: {differing} of {len(values)} keys differ from common.py (*)'
  )
  return '\n'.join([head, *lines])


@config_lib.run_main
def main(argv) -> int:
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py[:ARG]')
  parser.add_argument('--workdir', metavar='DIR')
  parser.add_argument(
    '--show', action='store_true', help='print the config and stop'
  )
  flags = parser.parse_args(rest)
  if not (flags.show or flags.workdir):
    parser.error('--workdir=DIR is needed, or --show.')
  config = config_lib.load(flags.config, overrides)
  storage.bucket(flags.workdir or '')  # refuses what it does not support
  if flags.show:
    try:
      print(show(flags.config, config), flush=True)
    except BrokenPipeError:  # of `| head`, which has read enough
      # Python flushes once more at its end, which would print a traceback.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  from rlvr_jax import hosts, recipes, train  # late: JAX takes a second

  recipes.ensure(config)
  with hosts.join():
    train.train(
      config,
      flags.workdir,
      shlex.join(['python', 'scripts/train.py', *argv]),
      config_file.source(flags.config),
    )
  return 0


if __name__ == '__main__':
  sys.exit(main())
