"""Labels training tasks with the majority answer of a config's starting model.

    python scripts/label.py --config=configs/NAME.py[:ARG] --out=FILE.jsonl
        [--samples=64] [--tasks=N]

For the rewards `majority` and `incorrect`: train with
--config.labels=FILE.jsonl. Samples as training does (temperature, limits,
batches of train_batch_size x num_generations). Run an interrupted command
again to resume it; the file equals that of a run that was never interrupted.
--config.key=value changes any key of the config.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np

from rlvr_jax import config as config_lib
from rlvr_jax import digests, storage
from rlvr_jax.envs import labels
from rlvr_jax.verifiers.extraction import extract


def parse(
  argv: Sequence[str],
) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
  """(flags, config) of the command line."""
  rest, overrides = config_lib.split(argv)
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--config', required=True, metavar='FILE.py[:ARG]')
  parser.add_argument('--out', required=True, metavar='FILE.jsonl')
  parser.add_argument(
    '--samples', type=int, default=64, metavar='N', help='per task; default: 64'
  )
  parser.add_argument(
    '--tasks',
    type=int,
    metavar='N',
    help='the first N of the train split; default: all',
  )
  flags = parser.parse_args(rest)
  for name in ('samples', 'tasks'):
    value = getattr(flags, name)
    if value is not None and value < 1:
      raise ValueError(f'--{name}={value} must be at least 1.')
  return flags, config_lib.load(flags.config, overrides)


def resume(path: pathlib.Path, header: dict, batch: int) -> int:
  """Cuts the file to whole batches and returns how many tasks it has.

  Creates it if it does not exist. An incomplete batch is sampled again, since
  the random numbers of a row depend on its batch.

  Raises:
    ValueError: the file was made with other settings, or is no file of labels.
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
      f'{"; ".join(differ)}. Write to another file, or restore those.'
    )
  if len(rows) < header['tasks']:
    rows = rows[: len(rows) // batch * batch]
    labels.write(path, [old, *rows])
  return len(rows)


def run(
  c: ml_collections.ConfigDict,
  out: pathlib.Path,
  samples: int,
  limit: int | None,
  say: Callable[[str], None] = print,
) -> None:
  """Writes a line for each of the first `limit` tasks; see `labels.line`."""
  import jax

  from rlvr_jax import experiment, hosts
  from rlvr_jax.evaluation import evaluate
  from rlvr_jax.io import frozen_model
  from rlvr_jax.models import sharding
  from rlvr_jax.random_streams import Stream
  from rlvr_jax.rollouts import collector, single_turn, task_stream

  x = experiment.create(c)
  split = x.env['train']
  count = min(limit or len(split), len(split))
  tasks = [split[i] for i in range(count)]
  labels.check_verifier(tasks)
  batch, group = c.train_batch_size, c.num_generations
  with sharding.use(x.mesh):
    policy = x.checkpoint(out.parent, 0)
    header = {
      'made_with': labels.settings(c),
      'samples': samples,
      'tasks': count,
      'content': labels.made_from(tasks, policy.read),
    }
    done = hosts.from_first(lambda: resume(out, header, batch))
    if done:
      say(f'{out} has {done} of {count} tasks')
    if done == count:
      return
    tokenizer, encode = policy.tokenizer, evaluate.encoder(c, policy)
    task_stream.check_prompts(tasks, encode, c.max_prompt_length)
    sampling = collector.training_sampling(c, tokenizer.end_ids, x.mesh)
    sampling = sampling._replace(branch=0)  # votes are of samples
    base = jax.random.fold_in(jax.random.key(c.seed), Stream.LABELS)
    progress = evaluate.eta((count - done) * samples, say)
    progress(0)
    say(f'{count - done} tasks x {samples} samples')
    for start in range(done, count, batch):
      chunk = tasks[start : start + batch]
      full = chunk + chunk[:1] * (batch - len(chunk))  # one shape, one program
      prompt, length = single_turn.encode_prompts(
        full, encode, c.max_prompt_length
      )
      transcripts = [[] for _ in chunk]
      for round_ in range(-(-samples // group)):
        # From the index in the split, so that a resumed run samples the same.
        key = jax.random.fold_in(jax.random.fold_in(base, start), round_)
        sampled = frozen_model.sample(
          policy, prompt, length, key, sampling, group=group
        )
        sampled = sharding.to_host(sampled)
        sampled = type(sampled)(
          *(np.asarray(field)[: len(chunk) * group] for field in sampled)
        )
        _, rows = single_turn.transcribe(
          chunk,
          sampled,
          tokenizer,
          c.verify_timeout_s,
          extract.rules_of(c.verifier),
        )
        for i, row in enumerate(rows):
          transcripts[i // group].append(row)
        part = min((round_ + 1) * group, samples)
        progress((start - done) * samples + part * len(chunk))
      if not hosts.first():
        continue
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
          for task, rows in zip(chunk, transcripts, strict=True)
        ],
      )


def summary(path: pathlib.Path) -> str:
  """One sentence on the labels in a file."""
  _, rows = labels.load(path)
  have = [row for row in rows if row['answer'] is not None]
  right = sum(row['right'] is True for row in have)
  wrong = sum(row['right'] is False for row in have)
  return (
    f'{path}: {len(have)} of {len(rows)} tasks have a majority answer, right '
    f'for {right} and wrong for {wrong}'
  )


@config_lib.run_main
def main(argv: Sequence[str]) -> int:
  flags, config = parse(argv)
  from rlvr_jax import hosts, recipes

  out = storage.local(flags.out, '--out').expanduser()
  recipes.ensure(config)
  say = lambda text: print(text, flush=True)
  with hosts.join():
    run(config, out, flags.samples, flags.tasks, say)
  if hosts.first():
    print(summary(out))
  return 0


if __name__ == '__main__':
  sys.exit(main())
