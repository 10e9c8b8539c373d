"""Writes one HTML page of one run, or of several side by side.

python scripts/report.py DIR [DIR ...] --out=FILE.html
"""

import argparse
import sys
from collections.abc import Sequence

from rlvr_jax.reporting import report


def main(argv: Sequence[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('dirs', nargs='+', metavar='DIR')
  parser.add_argument('--out', required=True, metavar='FILE.html')
  args = parser.parse_args(argv)
  try:
    print(f'Wrote {report.build(args.dirs, args.out)}')
  except (ValueError, OSError) as e:
    sys.exit(f'report.py: {e}')


if __name__ == '__main__':
  main()
