"""Evaluates a checkpoint of a run, on held-out tasks, with 95% intervals.

    python scripts/evaluate.py --workdir=DIR [--step=N] [--samples=N]
        [--tasks=N] [--env=ENV] [--temperature=T]

--step=0 is the model that the run started from. Any key of the run's config
can be changed for the evaluation with --config.key=value, the split too:
--config.eval.split=train takes the tasks that were trained on. The result is a
line of DIR/eval.jsonl whose `source` is 'evaluate'. At the settings of the
run it draws what training drew at that step.

What the numbers are made of is kept as it is drawn, in
DIR/samples-<step>-<hash of the settings>.jsonl: the same command goes on from
there when it was stopped, and one with more --samples draws only what is new.
"""

import argparse
import math
import pathlib
import sys

from rlvr_jax import config as config_lib


def parse(argv):
  """(flags, config): the run's config with what the flags change in it."""
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument(
    '--step', type=int, metavar='N', help='of the checkpoint; the newest'
  )
  config_lib.add_eval_flags(parser, overrides)
  flags = parser.parse_args(rest)
  return flags, config_lib.of_run(flags.workdir, overrides)


def run(c, workdir, step, say=print) -> tuple[int, dict]:
  """(step, metrics) of the policy at `step` on eval.split, with the digest of
  its tasks."""
  from rlvr_jax import digests, experiment
  from rlvr_jax.evaluation import checkpoint_eval, eval_metrics
  from rlvr_jax.models import sharding

  x = experiment.open(c)
  with sharding.use(x.mesh):
    asked = x.checkpoint(workdir, step)
    table = checkpoint_eval.evaluate_checkpoint(
      c, asked, x.eval_tasks, workdir, x.mesh, say, x.oracle
    )
  return asked.step, {
    **eval_metrics.summary(table),
    'tasks': digests.of_tasks(x.eval_tasks),
  }


def show(metrics: dict) -> None:
  """A table: a metric, its value, its interval where it has one."""
  import rich.console
  import rich.table

  table = rich.table.Table()
  for name, side in (
    ('', 'left'),
    ('value', 'right'),
    ('95% interval', 'left'),
  ):
    table.add_column(name, justify=side)
  for name, value in metrics.items():
    if not name.startswith('eval/') or name.endswith(('_low', '_high')):
      continue
    ends = [metrics.get(f'{name}_{end}', math.nan) for end in ('low', 'high')]
    known = not any(map(math.isnan, ends))
    interval = '{:.3f} to {:.3f}'.format(*ends) if known else ''
    table.add_row(name.removeprefix('eval/'), f'{value:.4g}', interval)
  rich.console.Console(markup=False).print(table)


@config_lib.run_main
def main(argv) -> int:
  flags, config = parse(argv)
  from rlvr_jax.reporting import run_writer

  say = lambda text: print(text, flush=True)
  step, metrics = run(config, flags.workdir, flags.step, say)
  path = pathlib.Path(flags.workdir) / run_writer.EVAL
  run_writer.append(
    path,
    step,
    {
      **metrics,
      'source': 'evaluate',
      'env': config.env,
      'split': config.eval.split,
      'temperature': config.eval.temperature,
    },
  )
  say(f'{config.env}, {config.eval.split}, at step {step}')
  show(metrics)
  say(f'added to {path}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
