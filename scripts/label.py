"""Labels the training tasks of a config with its model's most frequent answer.

    python scripts/label.py --config=configs/NAME.py[:ARG] --out=FILE
        [--samples=64] [--tasks=N] [--config.a.b=v]

Draws --samples of each of the first N tasks from the model that the config
starts from, at the config's temperature, and writes a line a task (see
rlvr_jax/envs/labels.py). The rewards `majority` and `incorrect` read it:
--config.labels=FILE. Samples are kept beside it in FILE.samples as they are
drawn: the same command goes on from there when it was stopped.
"""

import argparse
import collections
import json
import os
import pathlib
import sys

from rlvr_jax import config as config_lib


def parse(argv):
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py[:ARG]')
  parser.add_argument('--out', required=True, metavar='FILE')
  parser.add_argument(
    '--samples', type=int, default=64, metavar='N', help='of each task: 64'
  )
  parser.add_argument(
    '--tasks', type=int, metavar='N', help='the first N of the train split; all'
  )
  flags = parser.parse_args(rest)
  if flags.samples < 1 or (flags.tasks is not None and flags.tasks < 1):
    raise ValueError(
      f'--samples={flags.samples} and --tasks={flags.tasks} must be at least 1.'
    )
  return flags, config_lib.load(flags.config, overrides)


def draw(c, out, count: int | None, samples: int, say) -> tuple[dict, list]:
  """(what was sampled, tasks); the samples are in FILE.samples."""
  from rlvr_jax import checks, evaluate, policy, registry, sampler, sharding
  from rlvr_jax import samples as samples_lib

  mesh = sharding.make_mesh(c.mesh.shape)
  checks.check_config(c, mesh)
  split = registry.get('env', c.env)()['train']
  tasks = [split[i] for i in range(min(len(split), count or len(split)))]
  with sharding.use(mesh):
    asked = policy.load(c, out.parent, 0, mesh)
    encode = lambda task: asked.encode(c, task)
    how = sampler.Sampling(
      c.max_completion_length,
      asked.tokenizer.end_ids,
      c.temperature,
      shrink=mesh.size == 1,
    )
    params = sharding.to_sampler(asked.model, mesh)(asked.params)
    depends = {
      name: getattr(c, name)
      for name in (
        'seed',
        'env',
        'system_prompt',
        'temperature',
        'max_prompt_length',
        'max_completion_length',
      )
    } | {'model': c.model.name, 'samples': samples}
    total = len(tasks) * samples
    say(f'{len(tasks)} tasks x {samples} samples of {c.model.name}')
    with samples_lib.open(
      kept(out), depends, [t.id for t in tasks], samples, c.eval.batch_size
    ) as store:
      evaluate.run(
        tasks,
        policy.drawer(params, c, model=asked.model, mesh=mesh, how=how),
        encode=encode,
        tokenizer=asked.tokenizer,
        store=store,
        batch_size=c.eval.batch_size,
        max_prompt_length=c.max_prompt_length,
        timeout_s=c.verify_timeout_s,
        progress=evaluate.countdown(total, say),
      )
  return depends, tasks


def kept(out: pathlib.Path) -> pathlib.Path:
  return out.with_name(out.name + '.samples')


def vote(path, tasks, samples: int) -> list[dict]:
  """The lines of the labels. Ties go to the answer said first."""
  votes = [collections.Counter() for _ in tasks]
  right = [set() for _ in tasks]
  with open(path, encoding='utf-8') as f:
    next(f)
    for _, text in zip(range(len(tasks) * samples), f, strict=False):
      r = json.loads(text)
      if r['answer'] is not None:
        votes[r['task']][r['answer']] += 1
        if r['verdict'] == 'CORRECT':
          right[r['task']].add(r['answer'])
  lines = []
  for i, task in enumerate(tasks):
    said, count = (votes[i].most_common(1) or [(None, 0)])[0]
    lines.append(
      {
        'index': i,
        'id': task.id,
        'answer': None if said is None else gold(said),
        'votes': count,
        'samples': samples,
        'right': said in right[i],
      }
    )
  return lines


def gold(said: str) -> str | None:
  """The answer as a gold answer; None for what no verifier could compare."""
  from rlvr_jax.rewards import answer

  for text in (said, f'\\text{{{said}}}'):
    try:
      answer.check_gold(text)
      return text
    except ValueError:
      continue
  return None


def main(argv) -> int:
  try:
    flags, config = parse(argv)
    from rlvr_jax import recipes

    recipes.ensure(config)
    say = lambda text: print(text, flush=True)
    out = pathlib.Path(flags.out).expanduser()
    out.parent.mkdir(parents=True, exist_ok=True)
    header, tasks = draw(config, out, flags.tasks, flags.samples, say)
    lines = vote(kept(out), tasks, flags.samples)
    part = out.with_name(out.name + '.tmp')
    part.write_text(''.join(json.dumps(x) + '\n' for x in (header, *lines)))
    os.replace(part, out)
    share = sum(x['right'] for x in lines) / len(lines)
    wrong = sum(x['answer'] is not None and not x['right'] for x in lines)
    say(
      f'{out}: {len(lines)} tasks; the most frequent answer is right for '
      f'{share:.1%}, wrong for {wrong}'
    )
  except (ValueError, OSError, RuntimeError) as e:
    print(f'error: {e}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
