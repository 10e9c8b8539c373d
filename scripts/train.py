"""Trains: python scripts/train.py --config=configs/NAME.py[:ARG] --workdir=DIR

The same command again goes on where the last checkpoint left off. Any key of
the config can be changed with --config.key=value.
"""

import argparse
import shlex
import sys

from rlvr_jax import config as config_lib


def main(argv) -> int:
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py[:ARG]')
  parser.add_argument('--workdir', required=True, metavar='DIR')
  flags = parser.parse_args(rest)
  try:
    config = config_lib.load(flags.config, overrides)
    from rlvr_jax import recipes, train  # late: JAX takes a second to start

    recipes.ensure(config)
    train.train(
      config, flags.workdir, shlex.join(['python', 'scripts/train.py', *argv])
    )
  except (ValueError, OSError, RuntimeError, FloatingPointError) as e:
    if type(e) not in (ValueError, FloatingPointError, RuntimeError) and (
      not isinstance(e, OSError)
    ):
      raise  # a bug: its traceback is what helps
    print(f'error: {e}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
