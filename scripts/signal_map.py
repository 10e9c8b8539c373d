r"""How much does each training signal say about a checkpoint? The signal map.

    python scripts/signal_map.py --workdir=DIR [--steps=0,20,40]
        [--signals='outcome|dr_grpo,outcome|max_rl,random,sft']

For every checkpoint of --steps (default: the newest; 0 is the model before
training) it samples many rollouts of some training problems, computes the
gradient of each rollout's log-probability, and from their inner products how
many rollouts each signal needs until a batch's gradient is louder than its
noise (`noise_scale`), how far problems agree (`omega`), and how well the signal
points along the gradient of the pass rate (`root`). A signal is
REWARD|ESTIMATOR|AGGREGATE|CREDIT on ENV, see rlvr_jax/signal_map/signals.py.

--direct=N also computes the gradients of N batches of these problems by
training's own code and compares their SNR with the predicted one. --predict=N
tests the map: from the checkpoint, N times each, every signal takes real
updates, and what the pass rate gains is held against the prediction.

Results are lines of DIR/signal.jsonl, the pictures DIR/signal_map.svg and .png
(of --predict: signal_predict), and a section of DIR/report.html. Gradients are
kept, as sketches, in DIR/signal/: run an interrupted command again to resume
it; one with more signals reuses them. --config.key=value changes any key of the
run's config, such as --config.env.

    python scripts/signal_map.py --draw DIR [DIR ...] --out=FILE
        [--labels=hard,hard,rare] [--x=KEY [--at=1,1,2]] [--table=LIST]

draws FILE.svg and FILE.png of runs that were measured, in one picture, and
writes FILE.md, a table of signals. Runs with the same label are one, with the
median of their seeds; without --labels those are whose directories differ in
seed=N or sN alone. --x puts something else than the pass rate across: a key of
the lines of signal.jsonl or of the run's config, a number in a spec, such as
--x=env.depth, or, with --at, anything that is a number for each DIR.
Checkpoints measured with several settings count with the newest.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

from rlvr_jax import config as config_lib
from rlvr_jax import storage

SIGNALS = (
  'outcome|dr_grpo,outcome|grpo,outcome|rloo,outcome|max_rl,outcome|psr,'
  'outcome|nsr,outcome|pass_at_k,random,permuted(reward=outcome),'
  'inverse(reward=outcome),constant(value=1.0)'
)


def parse(argv: Sequence[str]):
  """(flags, config): the run's config, changed by the overrides."""
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--workdir', required=True, metavar='DIR')
  add('--steps', default='', metavar='N,N', help='default: the newest')
  add('--signals', default=SIGNALS, metavar='LIST', help=f'default: {SIGNALS}')
  number = dict(type=int, metavar='N')
  add('--prompts', default=40, help='problems', **number)
  add('--samples', default=128, help='rollouts of each problem', **number)
  add('--group', default=0, help="default: the run's", **number)
  add('--rollouts', default=0, help="of a batch; default: the run's", **number)
  add('--pilot', default=16, help='rollouts that choose problems', **number)
  add('--candidates', default=0, help='problems in the pilot', **number)
  add('--pilot_step', help='its checkpoint; default: each step', **number)
  add('--pass_rate', default='0,1', metavar='LOW,HIGH', help='in the pilot')
  add('--imitate', default=256, help='solutions, for sft', **number)
  add('--partitions', default=4, help='ways to group the rollouts', **number)
  add('--sketch', default=4096, help='dimensions; 0: exact', **number)
  add('--split', default='train', metavar='SPLIT', help='of the problems')
  add('--seed', default=0, help='of problems, rollouts, groups', **number)
  add(
    '--direct',
    default=0,
    help="batches whose gradient training's own code computes; 0: none",
    **number,
  )
  add(
    '--predict',
    default=0,
    help='seeds of the prediction test; 0: none',
    **number,
  )
  trial = '; prediction test'
  add('--predict_prompts', default=16, help=f'of a batch{trial}', **number)
  add(
    '--predict_samples',
    default=64,
    help=f'of a problem, before and after{trial}',
    **number,
  )
  add('--predict_updates', default=6, help=f'of adamw{trial}', **number)
  add(
    '--predict_optimizers',
    default='fixed,adamw',
    metavar='LIST',
    help=f"one step of a given length, the run's optimiser{trial}",
  )
  real = dict(type=float, default=0.0, metavar='X')
  add(
    '--predict_length',
    help=f'of the fixed step; 0: a gain of 0.1 along the gradient{trial}',
    **real,
  )
  add(
    '--predict_rate',
    help=f"learning rate of adamw; 0: the run's{trial}",
    **real,
  )
  flags = parser.parse_args(rest)
  return flags, config_lib.of_run(flags.workdir, overrides)


def draw(argv: Sequence[str]) -> int:
  """Draws the maps of several runs in one picture."""
  from rlvr_jax.reporting import (
    pages,
    signal_lines,
    signal_plot,
    signal_table,
  )
  from rlvr_jax.signal_map import signals

  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--draw', nargs='+', required=True, metavar='DIR', help='runs')
  add('--out', required=True, metavar='FILE', help='without .svg or .png')
  add('--labels', default='', metavar='NAME,NAME', help='one for each DIR')
  add(
    '--x', default=signal_lines.PASS_RATE, metavar='KEY', help='what is across'
  )
  add('--at', default='', metavar='N,N', help='of each DIR, for --x')
  add('--table', metavar='LIST', help='signals beside outcome, in FILE.md')
  flags = parser.parse_args(argv)
  labels = flags.labels.split(',') if flags.labels else ()
  at = _numbers('at', flags.at, float) if flags.at else ()
  drawn = signal_lines.read(flags.draw, labels, flags.x, at)
  out = storage.local(flags.out, '--out')
  stem = out.with_suffix('') if out.suffix in ('.svg', '.png') else out
  paths = list(signal_plot.save(drawn, stem))
  if flags.table is not None:
    named = [s for s in signals.split(flags.table, ',') if s]
    paths.append(pages.save(f'{stem}.md', signal_table.table(drawn, named)))
  for path in paths:
    print(f'Wrote {path}')
  return 0


def show(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Draws the map of a run and writes its report anew; the paths written."""
  from rlvr_jax.reporting import report, signal_lines, signal_plot

  drawn = signal_lines.read([workdir])
  paths = signal_plot.save(drawn, workdir / 'signal_map') if drawn.cells else []
  page = workdir / 'report.html'
  if page.exists():
    paths.append(report.build([workdir], page))
  return paths


def _numbers(flag, text, kind):
  try:
    return [kind(word) for word in text.split(',')]
  except ValueError as e:
    raise ValueError(
      f'--{flag}={text!r}: write numbers with commas between them.'
    ) from e


def settings_of(flags, c):
  """The cell's `Settings` and the steps to measure. ValueError as for flags."""
  from rlvr_jax.signal_map import cell

  between = _numbers('pass_rate', flags.pass_rate, float)
  if len(between) != 2:
    raise ValueError(f'--pass_rate={flags.pass_rate!r}: write LOW,HIGH.')
  group = flags.group or c.num_generations
  settings = cell.Settings(
    prompts=flags.prompts,
    samples=flags.samples,
    group=group,
    rollouts=flags.rollouts or c.train_batch_size * c.num_generations,
    pilot=flags.pilot,
    candidates=flags.candidates or flags.prompts,
    pilot_step=flags.pilot_step,
    between=tuple(between),
    imitate=flags.imitate,
    partitions=flags.partitions,
    sketch=flags.sketch,
    split=flags.split,
    seed=flags.seed,
  )
  settings.check()
  steps = _numbers('steps', flags.steps, int) if flags.steps else [None]
  return settings, steps


def trial_of(flags):
  """The `trial.Settings` of the flags. ValueError as for flags."""
  from rlvr_jax.signal_map import trial

  tried = trial.Settings(
    seeds=flags.predict,
    prompts=flags.predict_prompts,
    samples=flags.predict_samples,
    optimizers=tuple(flags.predict_optimizers.split(',')),
    updates=flags.predict_updates,
    length=flags.predict_length,
    rate=flags.predict_rate,
  )
  tried.check()
  return tried


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  if any(word.partition('=')[0] == '--draw' for word in argv):
    return draw(argv)
  flags, config = parse(argv)
  from rlvr_jax import hosts
  from rlvr_jax.signal_map import direct, predict, signal_map, signals

  settings, steps = settings_of(flags, config)
  say = lambda text: print(text, flush=True)
  workdir = flags.workdir
  tried = trial_of(flags) if flags.predict else None
  with hosts.join():
    chosen = signals.parse_all(flags.signals, config)  # tries them: JAX starts
    cell = (config, workdir, steps, chosen, settings)
    with storage.kept(workdir, hosts.first()):
      signal_map.run(*cell, say)
      if flags.direct:
        direct.run(*cell, flags.direct, say)
      if tried is not None:
        predict.run(*cell, tried, say)
  if hosts.first():
    for path in show(storage.folder(workdir)):
      say(f'Wrote {os.path.join(workdir, path.name)}')
    storage.push(workdir)
  return 0


if __name__ == '__main__':
  sys.exit(main())
