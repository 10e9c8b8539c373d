"""Evaluates a checkpoint of a run, on held-out tasks, with 95% intervals.

    python scripts/evaluate.py --workdir=DIR [--step=N] [--samples=N]
        [--tasks=N] [--env=ENV] [--temperature=T] [--best_of=JUDGE]

--step=0 is the model before training. --config.key=value changes any key of
the run's config for the evaluation, --config.eval.split=train the split. The
result is a line of DIR/eval.jsonl whose `source` is 'evaluate'. With the run's
own settings, the samples are those of the evaluation during training.

--best_of='judge(format=rrm)' --config.judge.name=MODEL adds eval/best_of@k:
whether the best of k samples, as the model judges them, is right.

Samples are kept in DIR/samples-<step>-<hash of the settings>.jsonl: run an
interrupted command again to resume it; one with more --samples only adds the
new ones.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import ml_collections

from rlvr_jax import config as config_lib
from rlvr_jax import storage


def parse(
  argv: Sequence[str],
) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
  """(flags, config): the run's config, changed by the flags."""
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True, metavar='DIR')
  parser.add_argument(
    '--step',
    type=int,
    metavar='N',
    help='of the checkpoint; default: the newest',
  )
  parser.add_argument(
    '--best_of',
    default='',
    metavar='JUDGE',
    help="a reward such as 'judge(format=rrm, samples=2)'",
  )
  config_lib.add_eval_flags(parser, overrides)
  flags = parser.parse_args(rest)
  return flags, config_lib.of_run(flags.workdir, overrides)


def run(
  c: ml_collections.ConfigDict,
  workdir: str,
  step: int | None,
  say: Callable[[str], None] = print,
  best_of: str = '',
) -> tuple[int, dict]:
  """(step, metrics) of the policy at `step` on eval.split.

  The metrics include `tasks`, the digest of the tasks, and with a judge as
  `best_of` those of `evaluation.best_of`.
  """
  from rlvr_jax import digests, experiment
  from rlvr_jax.evaluation import best_of as best
  from rlvr_jax.evaluation import (
    checkpoint_eval,
    eval_metrics,
    evaluate,
    reward_accuracy,
  )
  from rlvr_jax.models import sharding
  from rlvr_jax.rewards import judged

  x = experiment.create(c)
  read = {'tasks': digests.of_tasks(x.all_eval_tasks)}
  settings = judged.settings([best_of]) if best_of else None
  if best_of and settings is None:
    raise ValueError(f"--best_of={best_of!r}: write it as 'judge(...)'.")
  if settings is not None:  # before anything is sampled
    best.check(c, settings, x.all_eval_tasks)
    x.judge  # noqa: B018
  with sharding.use(x.mesh):
    if c.method == 'reward_model':
      model = x.checkpoint(workdir, step, scoring=True, value_head=True)
      model = model._replace(system_prompt=c.system_prompt)
      score = reward_accuracy.scores(c, model, x.all_eval_tasks, x.mesh)
      metrics = reward_accuracy.summary(score, x.all_eval_tasks)
      return model.step, metrics | read
    policy = x.checkpoint(workdir, step, scoring=evaluate.reads_signals(c))
    table = checkpoint_eval.evaluate_checkpoint(
      c, policy, x.all_eval_tasks, workdir, x.mesh, say, x.oracle
    )
    metrics = eval_metrics.summary(table)
    if settings is not None:
      metrics |= best.evaluate_best_of(
        c, policy, x.all_eval_tasks, settings, x.judge, x.mesh, say
      )
  return policy.step, metrics | read


def show(metrics: Mapping) -> None:
  """Prints a table: metric, value, interval."""
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
def main(argv: Sequence[str]) -> int:
  flags, config = parse(argv)
  from rlvr_jax import hosts
  from rlvr_jax.reporting import run_writer

  say = lambda text: print(text, flush=True)
  with hosts.join(), storage.kept(flags.workdir, hosts.first()):
    step, metrics = run(config, flags.workdir, flags.step, say, flags.best_of)
  if not hosts.first():
    return 0
  path = storage.folder(flags.workdir) / run_writer.EVAL
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
  storage.push(flags.workdir)
  say(f'added to {os.path.join(flags.workdir, path.name)}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
