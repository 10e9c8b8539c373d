"""Writes one HTML page of one run, or of several side by side.

python scripts/report.py DIR [DIR ...] --out=FILE.html
"""

import argparse
import sys
from collections.abc import Sequence

from rlvr_jax import config as config_lib
from rlvr_jax import storage
from rlvr_jax.reporting import report


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('dirs', nargs='+', metavar='DIR')
  parser.add_argument('--out', required=True, metavar='FILE.html')
  args = parser.parse_args(argv)
  out = storage.local(args.out, '--out')
  print(f'Wrote {report.build(args.dirs, out)}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
