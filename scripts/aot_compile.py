"""Compiles a config's programs for a TPU slice on a machine without TPUs.

    python scripts/aot_compile.py --config=configs/NAME.py[:ARG] \\
        --topology=v5e:8x8 [--config.a.b=v]

Prints the memory per device and the collectives of each program. Exit status
1: a program does not fit, the decode loop gathers weights, the mesh does not
divide the model, no such topology, or no libtpu (pip install 'rlvr_jax[tpu]').
The compiler's estimates of time and FLOPs are not shown: they count the body of
a loop once.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence

# Tracing runs on the CPU. libtpu must not claim a TPU of this host, fail
# because another process holds one, or query the cloud's metadata server;
# TPU_WORKER_HOSTNAMES and TPU_ACCELERATOR_TYPE only silence its warnings.
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TPU_SKIP_MDS_QUERY'] = '1'
os.environ['ALLOW_MULTIPLE_LIBTPU_LOAD'] = '1'
os.environ['TPU_WORKER_HOSTNAMES'] = 'localhost'
os.environ['TPU_ACCELERATOR_TYPE'] = 'v5litepod-4'
# JAX could write these programs, and then would fail to read them.
os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'

import jax
import ml_collections

from rlvr_jax import config as config_lib
from rlvr_jax.learner import programs
from rlvr_jax.models import sharding
from rlvr_jax.tpu import aot, hlo

_REMEDY = {
  'to_sampler': 'a larger tensor in mesh.shape, or a larger slice',
  'sample': 'a smaller train_batch_size, num_generations or '
  'max_completion_length, a larger tensor in mesh.shape, or a larger slice',
  'begin': 'a smaller train_batch_size, num_generations or '
  'dialogue.max_turns, a larger tensor in mesh.shape, or a larger slice',
  'turn': 'a smaller train_batch_size, num_generations, dialogue.max_turns or '
  'max_completion_length, a larger tensor in mesh.shape, or a larger slice',
  'judge': 'a smaller judge.batch_size, judge.max_prompt_length or '
  'judge.max_completion_length, a larger tensor in mesh.shape, or a larger '
  'slice',
  'belief': 'a smaller train_batch_size, num_generations or logits_chunk, a '
  'larger tensor in mesh.shape, or a larger slice',
  'update': 'a smaller groups_per_micro_batch or '
  'logits_chunk, a larger parts_per_group, model.remat=True, a larger tensor '
  'in mesh.shape, or a larger slice',
  'prepare': 'a smaller groups_per_micro_batch or '
  'logits_chunk, or a larger slice',
  'reference': 'a smaller groups_per_micro_batch or '
  'logits_chunk, algo.beta=0, or a larger slice',
}


def problems(
  chip: aot.Chip, reports: Sequence[aot.Report], moved: Sequence[str]
) -> list[str]:
  """Reasons for exit status 1, one line each."""
  lines = []
  for r in reports:
    if r.memory is None:
      why = f'the compiler refused: {r.refusal}'
    elif r.memory.total > chip.usable * aot.GIB:
      over = r.memory.total / aot.GIB - chip.usable
      why = (
        f'it needs {r.memory.total / aot.GIB:.2f} GiB per device, {over:.2f} '
        f'more than the {chip.usable} there are.'
      )
    else:
      continue
    lines.append(f'{r.name} does not fit: {why} Try {_REMEDY[r.name]}.')
  if moved:
    lines.append(
      'the decode loop moves weights between chips for every token: '
      f'{"; ".join(sorted(set(moved)))}.'
    )
  return lines


def header(
  c: ml_collections.ConfigDict,
  topology: str,
  chip: aot.Chip,
  mesh: jax.sharding.Mesh,
) -> str:
  """The lines on config and slice, above the tables."""
  axes = ', '.join(f'{k} {v}' for k, v in mesh.shape.items())
  device = 'chips' if chip.per_chip == 1 else 'half chips'
  of_parts = ''
  if c.parts_per_group > 1:
    of_parts = f', each with 1/{c.parts_per_group} of its group'
  return (
    f'{c.model.name} on {topology}: {mesh.size} {device}; mesh {axes}\n'
    f'{c.train_batch_size} prompts x {c.num_generations} samples, '
    f'{c.max_prompt_length} + {c.max_completion_length} tokens; '
    f'{programs.prompts_per_micro_batch(c, mesh)} prompts per micro-batch'
    f'{of_parts}; attention {c.model.attention or "splash"}; '
    f'beta {c.algo.beta}\n'
    f'{chip.hbm} GiB HBM per chip; the compiler can allocate {chip.usable} GiB '
    f'per device; libtpu {compiler()}'
  )


def compiler() -> str:
  """The version of libtpu, which decides how much memory a program needs."""
  return importlib.metadata.version('libtpu')


def memory_table(chip: aot.Chip, reports: Sequence[aot.Report]) -> str:
  """The table of `aot.Memory`, one row per program."""
  names = ('arguments', 'outputs', 'reused', 'temporaries', 'resident')
  rows = [('program', *names, 'total', f'of {chip.usable}', 'compile s')]
  for r in reports:
    if r.memory is None:
      cells = ['-'] * 6 + ['refused']
    else:
      cells = [f'{x / aot.GIB:.2f}' for x in (*r.memory, r.memory.total)]
      cells += [f'{r.memory.total / aot.GIB / chip.usable:.0%}']
    rows.append((r.name, *cells, f'{r.seconds:.0f}'))
  return 'GiB per device\n' + align(rows, left=1)


def summary(
  c: ml_collections.ConfigDict,
  chip: aot.Chip,
  mesh: jax.sharding.Mesh,
  reports: Sequence[aot.Report],
) -> dict:
  """What --json holds: a program's total in GiB, None where it was refused."""
  return {
    'mesh': list(mesh.shape.values()),
    'micro_batch': programs.prompts_per_micro_batch(c, mesh),
    'usable': chip.usable,
    'libtpu': compiler(),
    'programs': {
      r.name: r.memory and r.memory.total / aot.GIB for r in reports
    },
  }


def collectives_table(reports: Sequence[aot.Report]) -> str:
  """Number and size of the collectives, per program and kind."""
  rows = [('program', 'collective', 'count', 'MiB', 'in loops', 'MiB')]
  for r in reports:
    if r.collectives is None:
      rows.append((r.name, 'the compiler cannot print it', '?', '?', '?', '?'))
      continue
    for kind in hlo.COLLECTIVES:
      every = [c for c in r.collectives if c.kind == kind]
      if not every:
        continue
      cells = []
      for group in every, [c for c in every if c.in_loop]:
        size = sum(c.bytes for c in group) / 2**20
        cells += [str(len(group)), f'{size:.1f}']
      rows.append((r.name, kind, *cells))
  title = 'Collectives: size of results per device; loop bodies count once\n'
  return title + align(rows, left=2)


def align(rows: Sequence[Sequence[str]], left: int) -> str:
  """Text columns: the first `left` are left-aligned, the others right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  pad = lambda i, x: x.ljust(widths[i]) if i < left else x.rjust(widths[i])
  return '\n'.join(
    '  '.join(pad(i, x) for i, x in enumerate(row)).rstrip() for row in rows
  )


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py[:ARG]')
  parser.add_argument('--topology', required=True, metavar='GENERATION:SHAPE')
  parser.add_argument(
    '--only', choices=tuple(_REMEDY), help='compile only this program'
  )
  parser.add_argument(
    '--json', metavar='FILE', help='write the totals there too, GiB a device'
  )
  flags = parser.parse_args(rest)
  c = config_lib.load(flags.config, overrides)
  chip, devices = aot.topology(flags.topology)
  mesh = sharding.make_mesh(c.mesh.shape, devices)
  todo = aot.programs(c, mesh)
  print(header(c, flags.topology, chip, mesh), flush=True)
  started, reports, moved, decodes = time.perf_counter(), [], [], None
  for program in todo:
    if flags.only not in (None, program.name):
      continue
    elapsed = time.perf_counter() - started
    print(f'[{elapsed:4.0f} s] compiling {program.name}', flush=True)
    report = aot.compile_program(program, mesh)
    if program.weights is not None:
      decodes = report
      moved = hlo.weight_moves(report.collectives or (), program.weights, mesh)
    reports.append(report)
    if flags.json:
      text = json.dumps(summary(c, chip, mesh, reports))
      pathlib.Path(flags.json).write_text(text, 'utf-8')
  print(f'\n{memory_table(chip, reports)}\n\n{collectives_table(reports)}\n')
  if decodes is not None and decodes.collectives is None:
    print('Whether the decode loop moves weights between chips is not known.')
  elif decodes is not None and decodes.memory and not moved:
    print('The decode loop moves no weights between chips.')
  wrong = problems(chip, reports, moved)
  for line in wrong:
    print(f'error: {line}', file=sys.stderr)
  if not wrong:
    print('Fits. Compiled ahead of time; nothing was run.')
  return 1 if wrong else 0


if __name__ == '__main__':
  sys.exit(main())
