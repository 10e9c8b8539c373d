"""Labels training tasks with the majority answer of a config's starting model.

    python scripts/label.py --config=configs/NAME.py[:ARG] --out=FILE.jsonl
        [--samples=64] [--tasks=N]

For the rewards `majority` and `incorrect`: train with --config.labels=FILE.jsonl.
Samples as training does (temperature, limits, batches of train_batch_size x
num_generations). The same command again goes on where it was stopped, and the
file equals that of a run never stopped. Any key of the config can be changed
with --config.key=value.
"""

import argparse
import pathlib
import sys

import numpy as np

from rlvr_jax import config as config_lib
from rlvr_jax import digests
from rlvr_jax.envs import labels
from rlvr_jax.verifiers.extraction import extract


def parse(argv):
  """(flags, config)."""
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py[:ARG]')
  parser.add_argument('--out', required=True, metavar='FILE.jsonl')
  parser.add_argument(
    '--samples', type=int, default=64, metavar='N', help='of each task; 64'
  )
  parser.add_argument(
    '--tasks',
    type=int,
    metavar='N',
    help='the first N of the train split; all of them',
  )
  flags = parser.parse_args(rest)
  for name in ('samples', 'tasks'):
    value = getattr(flags, name)
    if value is not None and value < 1:
      raise ValueError(f'--{name}={value} must be at least 1.')
  return flags, config_lib.load(flags.config, overrides)


def resume(path: pathlib.Path, header: dict, batch: int) -> int:
  """Tasks that the file has, cut to whole batches; makes it if need be.

  Raises:
    ValueError: the file was made with other settings, or is no such file.
  """
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    labels.write(path, [header])
    return 0
  old, rows = labels.load(path)
  flat = lambda h: (
    h['made_with'] | {f'--{name}': h.get(name) for name in ('samples', 'tasks')}
  )
  labels.check_settings(path, flat(old), flat(header))
  before = labels.read_by(old)
  if before and (differ := digests.differing(before, header['content'])):
    raise ValueError(
      f'{path} was made from other data, weights or verifier: '
      f'{"; ".join(differ)}. Label to another file, or bring the former back.'
    )
  if len(rows) < header['tasks']:
    rows = rows[: len(rows) // batch * batch]
    labels.write(path, [old, *rows])
  return len(rows)


def run(c, out, samples: int, limit: int | None, say=print) -> None:
  """Writes a line for each task to `out`; see `labels.line`."""
  import jax

  from rlvr_jax import experiment
  from rlvr_jax.enums import Stream
  from rlvr_jax.evaluation import evaluate
  from rlvr_jax.io import frozen_model
  from rlvr_jax.models import sharding
  from rlvr_jax.rollouts import collector, single_turn, task_stream

  x = experiment.open(c)
  split = x.env['train']
  count = min(limit or len(split), len(split))
  tasks = [split[i] for i in range(count)]
  labels.check_verifier(tasks)
  batch, group = c.train_batch_size, c.num_generations
  with sharding.use(x.mesh):
    asked = x.checkpoint(out.parent, 0)
    header = {
      'made_with': labels.settings(c),
      'samples': samples,
      'tasks': count,
      'content': labels.made_from(tasks, asked.read),
    }
    done = resume(out, header, batch)
    if done:
      say(f'{out} has {done} of {count} tasks')
    if done == count:
      return
    tokenizer, encode = asked.tokenizer, evaluate.encoder(c, asked)
    task_stream.check_prompts(tasks, encode, c.max_prompt_length)
    sampling = collector.training_sampling(c, tokenizer.end_ids, x.mesh)
    base = jax.random.fold_in(jax.random.key(c.seed), Stream.LABELS)
    tell = evaluate.eta((count - done) * samples, say)
    tell(0)
    say(f'{count - done} tasks x {samples} samples')
    for start in range(done, count, batch):
      some = tasks[start : start + batch]
      full = some + some[:1] * (batch - len(some))
      prompt, length = single_turn.encode_prompts(
        full, encode, c.max_prompt_length
      )
      said = [[] for _ in some]
      for round_ in range(-(-samples // group)):
        # Of the place in the split, so that a resumed run draws the same.
        key = jax.random.fold_in(jax.random.fold_in(base, start), round_)
        drawn = frozen_model.sample(
          asked, prompt, length, key, sampling, group=group
        )
        drawn = sharding.to_host(drawn)
        drawn = type(drawn)(
          *(np.asarray(field)[: len(some) * group] for field in drawn)
        )
        _, rows = single_turn.transcribe(
          some,
          drawn,
          tokenizer,
          c.verify_timeout_s,
          extract.rules_of(c.verifier),
        )
        for i, row in enumerate(rows):
          said[i // group].append(row)
        part = min((round_ + 1) * group, samples)
        tell((start - done) * samples + part * len(some))
      labels.append(
        out,
        [
          labels.line(
            task,
            [row.completion for row in rows[:samples]],
            c.verify_timeout_s,
            truncated=[row.cut for row in rows[:samples]],
            rules=extract.rules_of(c.verifier),
          )
          for task, rows in zip(some, said, strict=True)
        ],
      )


def summary(path) -> str:
  """What a file holds, in a sentence."""
  _, rows = labels.load(path)
  have = [row for row in rows if row['answer'] is not None]
  right = sum(row['right'] is True for row in have)
  wrong = sum(row['right'] is False for row in have)
  return (
    f'{path}: {len(have)} of {len(rows)} tasks have a majority answer, right '
    f'for {right} and wrong for {wrong}'
  )


@config_lib.run_main
def main(argv) -> int:
  flags, config = parse(argv)
  from rlvr_jax import recipes

  recipes.ensure(config)
  out = pathlib.Path(flags.out).expanduser()
  run(
    config,
    out,
    flags.samples,
    flags.tasks,
    lambda text: print(text, flush=True),
  )
  print(summary(out))
  return 0


if __name__ == '__main__':
  sys.exit(main())
