"""Compares two checkpoints on the same held-out tasks.

    python scripts/compare.py BASE OTHER [--step_base=N] [--step_other=N]
        [--samples=N] [--tasks=N] [--k=K] [--env=ENV] [--temperature=T]
        [--ppl_tasks=N] [--ppl_samples=N]

BASE and OTHER are directories of runs; with the same one twice, --step_base=0
compares a run with what it started from. Both are asked with the settings of
OTHER (env, system prompt, lengths, temperature, seed, which --config.key=value
changes), for the same prompt is what makes them comparable.

Says for every metric the difference with its 95% interval (paired bootstrap
over problems); the crossover k*, from which on BASE solves as much; which
problems are solved in k samples by both, one or none; Delta_SE; and how likely
each finds its own responses and the other's (perplexity at temperature 1).
Adds a line to OTHER/compare.jsonl and writes a page beside it. Samples are
kept as by scripts/evaluate.py, so a comparison that was stopped goes on.
"""

import argparse
import pathlib
import sys

from rlvr_jax import config as config_lib
from rlvr_jax import registry

# What both sides share: the tasks, the prompt, and how answers are drawn.
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
)


def parse(argv):
  """(flags, configs of base and other, the same as they are to be asked)."""
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('base', metavar='BASE')
  parser.add_argument('other', metavar='OTHER')
  number = lambda name, text, **kw: parser.add_argument(
    f'--{name}', type=int, metavar='N', help=text, **kw
  )
  number('step_base', 'of its checkpoint; the newest')
  number('step_other', 'of its checkpoint; the newest')
  number('k', 'solvable: right in one of the first k samples; default: all')
  number('ppl_tasks', 'tasks whose responses are scored; 10', default=10)
  number('ppl_samples', 'responses to each of these; 16', default=16)
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
  with registry.first_stays():  # what both are asked is OTHER's
    base = config_lib.of_run(flags.base, ())
  asked = base.copy_and_resolve_references()
  asked.update_from_flattened_dict(shared)
  return flags, (base, other), (asked, other)


def run(flags, own, configs, say) -> dict:
  """The comparison, as `compare.compare` and with perplexities.

  Args:
    own: configs that models are made by: a random start depends on its seed.
    configs: what they are asked.
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

  # Layouts may differ; tasks and prompts may not.
  xs = [experiment.open(c) for c in configs]
  tasks = xs[1].eval_tasks
  some = tasks[: flags.ppl_tasks]
  dirs, steps = (flags.base, flags.other), [flags.step_base, flags.step_other]
  names, tables, said, found, prompts = ('base', 'other'), [], {}, {}, []

  def load(i):
    return frozen_model.load_checkpoint(
      own[i], dirs[i], steps[i], xs[i].mesh, scoring=bool(flags.ppl_tasks)
    )

  def score(i, asked, of):
    values = perplexity.perplexities(configs[i], asked, said[of], xs[i].mesh)
    key = f'{names[of]}_under_{names[i]}'
    found[key] = compare.median(values, len(some))

  for i in (0, 1):
    say(f'{names[i]}: {dirs[i]}')
    with sharding.use(xs[i].mesh):
      asked = load(i)
      steps[i] = asked.step
      tables.append(
        checkpoint_eval.evaluate_checkpoint(
          configs[i], asked, tasks, dirs[i], xs[i].mesh, say, xs[i].oracle
        )
      )
      if some and flags.ppl_samples:
        prompts.append(list(map(evaluate.encoder(configs[i], asked), some)))
        if prompts[-1] != prompts[0]:
          raise ValueError(
            'Base and other encode the same task to other tokens, so neither '
            "can score the other's responses. Give --ppl_tasks=0."
          )
        said[i] = perplexity.responses(
          configs[i], asked, some, flags.ppl_samples, xs[i].mesh
        )
        for of in range(i + 1):
          score(i, asked, of)
      del asked
  if said:
    with sharding.use(xs[0].mesh):
      score(0, load(0), 1)
  result = compare.compare(*tables, [t.id for t in tasks], k=flags.k)
  for name, i in zip(names, (0, 1), strict=True):
    result[name] = {'dir': str(dirs[i]), 'step': steps[i]}
  return result | ({'perplexity': found} if found else {})


def show(result, names) -> None:
  """The tables of the page, on the console."""
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
def main(argv) -> int:
  flags, own, configs = parse(argv)
  from rlvr_jax.evaluation import compare
  from rlvr_jax.reporting import pages, run_writer

  result = run(flags, own, configs, lambda text: print(text, flush=True))
  folder = pathlib.Path(flags.other)
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
  print(f'added to {folder / "compare.jsonl"}; page: {out}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
