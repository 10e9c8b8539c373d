"""Compares two checkpoints on the same held-out tasks.

    python scripts/compare.py BASE OTHER [--step_base=N] [--step_other=N]
        [--samples=N] [--tasks=N] [--k=K] [--env=ENV] [--temperature=T]
        [--ppl_tasks=N] [--ppl_samples=N]

BASE and OTHER are directories of runs; with the same one twice, --step_base=0
compares a run with the model before training. Both are sampled with the
settings of OTHER (env, system prompt, lengths, temperature, seed), which
--config.key=value changes: only with the same prompts do they compare.

Prints for every metric the difference with its 95% interval (paired bootstrap
over problems); the crossover k*, from which on BASE solves as many problems;
the problems solved in k samples by both, one or none; Delta_SE; and the
perplexity, at temperature 1, of the responses of each under both. Adds a line
to OTHER/compare.jsonl and writes a page beside it. Samples are kept as by
scripts/evaluate.py: run an interrupted command again to resume it.
"""

import argparse
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import ml_collections

from rlvr_jax import config as config_lib
from rlvr_jax import registry, storage

Pair = tuple[ml_collections.ConfigDict, ml_collections.ConfigDict]

# Keys that both sides share: tasks, prompt, sampling, verification.
SHARED = (
  'env',
  'seed',
  'system_prompt',
  'chat_template_args',
  'max_prompt_length',
  'max_completion_length',
  'verify_timeout_s',
  'verifier.require_mark',
  'verifier.unfinished_thought',
  'verifier.truncated',
  'verifier.boxes',
  'verifier.hedges',
  'verifier.percent',
  'verifier.thousands',
  'verifier.semicolons',
  'verifier.ratios',
  'verifier.domain',
  'verifier.approximate',
  'eval.num_tasks',
  'eval.samples',
  'eval.batch_size',
  'eval.temperature',
  'eval.top_k',
  'eval.top_p',
  'eval.branch',
  'eval.signals',
)


def parse(
  argv: Sequence[str],
) -> tuple[argparse.Namespace, Pair, Pair]:
  """(flags, the runs' own configs, their configs for the comparison)."""
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('base', metavar='BASE')
  parser.add_argument('other', metavar='OTHER')
  number = lambda name, text, **kw: parser.add_argument(
    f'--{name}', type=int, metavar='N', help=text, **kw
  )
  number('step_base', 'of its checkpoint; default: the newest')
  number('step_other', 'of its checkpoint; default: the newest')
  number('k', 'solvable: right in one of the first k samples; default: all')
  number(
    'ppl_tasks', 'tasks whose responses are scored; default: 10', default=10
  )
  number('ppl_samples', 'responses to each of these; default: 16', default=16)
  config_lib.add_eval_flags(parser, overrides)
  flags = parser.parse_args(rest)
  for name in ('ppl_tasks', 'ppl_samples'):
    if getattr(flags, name) < 0:
      raise ValueError(f'--{name} must be at least 0; 0 leaves it out.')
  other = config_lib.of_run(flags.other, overrides)
  if flags.k is not None and not 1 <= flags.k <= other.eval.samples:
    raise ValueError(
      f'--k={flags.k} must be from 1 to --samples={other.eval.samples}.'
    )
  shared = {k: v for k, v in config_lib.flatten(other).items() if k in SHARED}
  with registry.first_stays():  # both sides are sampled by OTHER's functions
    base = config_lib.of_run(flags.base, ())
  same = base.copy_and_resolve_references()
  same.update_from_flattened_dict(shared)
  return flags, (base, other), (same, other)


def run(
  flags: argparse.Namespace,
  own: Pair,
  configs: Pair,
  say: Callable[[str], None],
) -> dict:
  """The result of `compare.compare`, with perplexities.

  Args:
    flags: from `parse`.
    own: the runs' configs, for loading: random weights depend on the seed.
    configs: for sampling.
    say: prints a line.
  """
  from rlvr_jax import experiment
  from rlvr_jax.evaluation import (
    checkpoint_eval,
    compare,
    evaluate,
    perplexity,
  )
  from rlvr_jax.io import frozen_model
  from rlvr_jax.models import sharding

  # Meshes and models may differ; tasks and prompts may not.
  xs = [experiment.create(c) for c in configs]
  tasks = xs[1].all_eval_tasks
  scored = tasks[: flags.ppl_tasks]
  dirs, steps = (flags.base, flags.other), [flags.step_base, flags.step_other]
  names, tables, prompts = ('base', 'other'), [], []
  responses, perplexities = {}, {}

  def load(i):
    scoring = bool(flags.ppl_tasks) or evaluate.reads_signals(configs[i])
    return frozen_model.load_checkpoint(
      own[i], dirs[i], steps[i], xs[i].mesh, scoring=scoring
    )

  def score(i, policy, of):
    values = perplexity.perplexities(
      configs[i], policy, responses[of], xs[i].mesh
    )
    key = f'{names[of]}_under_{names[i]}'
    perplexities[key] = compare.median(values, len(scored))

  for i in (0, 1):
    say(f'{names[i]}: {dirs[i]}')
    with sharding.use(xs[i].mesh):
      policy = load(i)
      steps[i] = policy.step
      tables.append(
        checkpoint_eval.evaluate_checkpoint(
          configs[i], policy, tasks, dirs[i], xs[i].mesh, say, xs[i].oracle
        )
      )
      if scored and flags.ppl_samples:
        prompts.append(list(map(evaluate.encoder(configs[i], policy), scored)))
        if prompts[-1] != prompts[0]:
          raise ValueError(
            'Base and other encode the same task as different tokens: neither '
            "can score the other's responses. Give --ppl_tasks=0."
          )
        responses[i] = perplexity.responses(
          configs[i], policy, scored, flags.ppl_samples, xs[i].mesh
        )
        for of in range(i + 1):
          score(i, policy, of)
      del policy  # one model at a time
  if responses:
    with sharding.use(xs[0].mesh):
      score(0, load(0), 1)
  result = compare.compare(*tables, [t.id for t in tasks], k=flags.k)
  for name, i in zip(names, (0, 1), strict=True):
    result[name] = {'dir': str(dirs[i]), 'step': steps[i]}
  return result | ({'perplexity': perplexities} if perplexities else {})


def show(result: Mapping, names: Sequence[str]) -> None:
  """Prints the tables of the page."""
  import rich.console
  import rich.table

  from rlvr_jax.evaluation import compare

  for head, rows in (
    (('', *names, 'difference', '95% interval'), compare.rows(result)),
    (('', 'value', '95% interval'), compare.facts(result)),
  ):
    table = rich.table.Table()
    for i, name in enumerate(head):
      table.add_column(name, justify='right' if i else 'left')
    for row in rows:
      table.add_row(*row)
    rich.console.Console(markup=False).print(table)


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  flags, own, configs = parse(argv)
  from rlvr_jax import hosts
  from rlvr_jax.evaluation import compare
  from rlvr_jax.reporting import pages, run_writer

  with (
    hosts.join(),
    storage.kept(flags.base, hosts.first()),
    storage.kept(flags.other, hosts.first()),
  ):
    result = run(flags, own, configs, lambda text: print(text, flush=True))
  if not hosts.first():
    return 0
  folder = storage.folder(flags.other)
  sides = [result[side] for side in ('base', 'other')]
  names = [f'{pathlib.Path(s["dir"]).name} step {s["step"]}' for s in sides]
  show(result, names)
  run_writer.append(
    folder / 'compare.jsonl',
    sides[1]['step'],
    {
      **result,
      'env': configs[1].env,
      'temperature': configs[1].eval.temperature,
    },
  )
  out = folder / 'compare-{}-{}.html'.format(*(s['step'] for s in sides))
  pages.save(out, compare.html(result, names))
  storage.push(flags.other)
  at = functools.partial(os.path.join, flags.other)
  print(f'added to {at("compare.jsonl")}; page: {at(out.name)}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
