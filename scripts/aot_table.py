"""Compiles the presets of a config for a TPU slice: a table of memory.

    python scripts/aot_table.py --config=configs/v5e8.py --topology=v5e:2x4
        --out=configs/v5e8_aot.md [--only=ARG]

For each ARG in the config file's `AOT` it runs scripts/aot_compile.py, one at a
time, and writes its row into the table in --out; rows of others stay. Exit
status 1: a preset does not fit or cannot be compiled, and its row says so. For
a nightly job: minutes to an hour a preset, a few GiB of memory, no TPU.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from rlvr_jax import config as config_lib
from rlvr_jax import config_file

PROGRAMS = ('to_sampler', 'sample', 'update')
HEAD = (
  '| ARG | data x fsdp x tensor | prompts x samples | tokens | '
  'prompts a micro-batch | trains | to_sampler | sample | update | of | libtpu |'
)


def compiled(spec: str, topology: str) -> dict | None:
  """What aot_compile.py says of a config; None: it failed."""
  script = pathlib.Path(__file__).with_name('aot_compile.py')
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / 'report.json'
    subprocess.run(
      [
        *(sys.executable, str(script), f'--config={spec}'),
        *(f'--topology={topology}', f'--json={out}'),
      ],
      check=False,
    )
    return json.loads(out.read_text()) if out.exists() else None


def row(arg: str, spec: str, report: dict | None) -> str:
  """A line of the table; GiB a device, or `refused`."""
  c = config_lib.load(spec, ())
  cells = [
    f'`{arg}`',
    'failed' if report is None else ' x '.join(map(str, report['mesh'])),
    f'{c.train_batch_size} x {c.num_generations}',
    f'{c.max_prompt_length} + {c.max_completion_length:,}',
    '-' if report is None else str(report['micro_batch']),
    'adapters' if c.model.lora else 'all',
  ]
  for name in PROGRAMS:
    total = report and report['programs'].get(name)
    cells.append(f'{total:.2f}' if total else 'refused' if report else '-')
  for name in ('usable', 'libtpu'):
    cells.append('-' if report is None else str(report[name]))
  return '| ' + ' | '.join(cells) + ' |'


def fits(report: dict | None) -> bool:
  """Whether every program was compiled and has room."""
  return report is not None and all(
    total is not None and total <= report['usable']
    for total in report['programs'].values()
  )


def document(config: str, topology: str, out: str, rows: Sequence[str]) -> str:
  """The whole file."""
  name = pathlib.Path(config).name
  return f"""# `{name}`, compiled ahead of time for {topology}

Written by the command below on a machine without TPUs (`pip install -e '.[tpu]'`). Nothing was run: no speed is claimed.

```
python scripts/aot_table.py --config={config} --topology={topology} --out={out}
```

bfloat16 computation, every layer recomputed; float32 weights and AdamW, or with adapters a bfloat16 base and float32 adapters. GiB a
device: arguments, outputs, temporaries and what stays resident meanwhile; `of` is what the compiler hands out. `refused`: it does
not fit. No row for an ARG: it was not compiled. `libtpu` is the compiler's version, on which the memory depends: with jax 0.10.2
`[tpu]` installs 0.0.42.1, and `pip install libtpu==VERSION` another.

{HEAD}
|{'---|' * (HEAD.count('|') - 1)}
{chr(10).join(rows)}
"""


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py')
  parser.add_argument('--topology', required=True, metavar='GENERATION:SHAPE')
  parser.add_argument('--out', required=True, metavar='FILE.md')
  parser.add_argument('--only', metavar='ARG', help='compile only this preset')
  flags = parser.parse_args(argv)
  args = config_file.module(flags.config).AOT
  if flags.only not in (None, *args):
    raise ValueError(f'--only={flags.only} is none of {", ".join(args)}.')
  out, rows, wrong = pathlib.Path(flags.out), {}, []
  if out.exists():
    found = re.findall(r'^(\| `(.+?)` \|.*)$', out.read_text('utf-8'), re.M)
    rows = {arg: line for line, arg in found}
  for arg in args if flags.only is None else (flags.only,):
    spec = f'{flags.config}:{arg}'
    report = compiled(spec, flags.topology)
    rows[arg] = row(arg, spec, report)
    wrong += [] if fits(report) else [arg]
    lines = [rows[a] for a in args if a in rows]
    text = document(flags.config, flags.topology, flags.out, lines)
    out.write_text(text, 'utf-8')
    print(rows[arg], flush=True)
  for arg in wrong:
    print(f'error: {arg} does not fit {flags.topology}', file=sys.stderr)
  return 1 if wrong else 0


if __name__ == '__main__':
  sys.exit(main())
