"""Evaluates a checkpoint of a run on held-out tasks, with 95% intervals.

    python scripts/evaluate.py --workdir=DIR [--step=N] [--samples=N]
        [--tasks=N] [--env=ENV] [--temperature=T]

--step=0 is the model that the run started from. Any key of the run's config
can be changed for the evaluation with --config.key=value. The result is a
line of DIR/eval.jsonl whose `source` is 'evaluate'. At the settings of the
run it draws what training drew at that step.
"""

import argparse
import pathlib
import sys
import time

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
  for name, key, text in (
    ('samples', 'eval.samples', 'of each task: pass@k needs several'),
    ('tasks', 'eval.num_tasks', 'the first N of the test split'),
    ('temperature', 'eval.temperature', '0 is greedy'),
    ('env', 'env', "other tasks, such as 'gsm8k()'"),
  ):
    parser.add_argument(
      f'--{name}',
      metavar='VALUE',
      type=lambda value, key=key: overrides.append(f'{key}={value}'),
      help=f"{text}; default: the run's config",
    )
  flags = parser.parse_args(rest)
  path = pathlib.Path(flags.workdir) / 'config.json'
  if not path.is_file():
    raise ValueError(
      f'{flags.workdir} holds no run: there is no config.json in it. Give the '
      '--workdir of scripts/train.py.'
    )
  config = config_lib.load(str(path), overrides)
  if config.eval.samples > 1 and config.eval.temperature == 0:
    raise ValueError(
      f'{config.eval.samples} samples at temperature 0 are the same one. Give '
      f'--temperature={config.temperature}, or --samples=1.'
    )
  return flags, config


def policy(c, workdir, step, mesh):
  """(model, sampler's params, tokenizer, step) of a checkpoint, or the start.

  Raises:
    ValueError: no checkpoint, or none of that step (lists those there are).
  """
  import jax
  import jax.numpy as jnp

  from rlvr_jax import checkpoint, checks, sharding, train
  from rlvr_jax.io import load
  from rlvr_jax.models import transformer

  model_config = load.load_config(c.model.name)
  checks.check_model(c, model_config)
  model = transformer.Decoder(
    model_config,
    dtype=jnp.dtype(c.model.dtype),
    param_dtype=jnp.dtype(c.model.param_dtype),
  )
  shapes, shardings = sharding.params_shardings(model, mesh)
  abstract = jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    shapes,
    shardings,
  )
  found = checkpoint.steps(workdir)
  if step != 0 and (not found or step not in (None, *found)):
    asked = 'no checkpoint' if step is None else f'no checkpoint of step {step}'
    raise ValueError(
      f'{workdir} has {asked}. There are: {", ".join(map(str, found)) or "none"}'
      '. Take one of these, or --step=0 for the model it started from.'
    )
  place = train.placer(abstract) if step == 0 else lambda path, x: None
  loaded = load.load(c.model.name, dtype=c.model.param_dtype, place=place)
  if step == 0:
    params = loaded.params
    if params is None:
      params = sharding.init_params(model, jax.random.key(c.seed), mesh)
  else:
    tree, _, step = checkpoint.load(
      workdir, {'params': abstract}, step=step, partial=True
    )
    params = tree['params']
  params = sharding.to_sampler(model, mesh)(params)
  return model, params, loaded.tokenizer, step


def run(c, workdir, step, say=print) -> tuple[int, dict]:
  """(step, metrics) of the policy at `step` on the test split."""
  import jax

  from rlvr_jax import checks, data, evaluate, registry, sampler, sharding

  mesh = sharding.make_mesh(c.mesh.shape)
  checks.check_config(c, mesh)
  test = registry.get('env', c.env)()['test']
  tasks = [test[i] for i in range(min(c.eval.num_tasks, len(test)))]
  with sharding.use(mesh):
    model, params, tokenizer, step = policy(c, workdir, step, mesh)
    encode = lambda task: tokenizer.encode_chat(task.question, c.system_prompt)
    data.check_prompts(tasks, encode, c.max_prompt_length)
    how = evaluate.sampling(c, tokenizer.end_ids, shrink=mesh.size == 1)
    # The stream of keys that training's evaluations use.
    key = jax.random.fold_in(jax.random.key(c.seed), 1)
    put = lambda x: sharding.from_host(x, sharding.rows(mesh))

    def sample(prompt, length, batch, round_):
      k = jax.random.fold_in(jax.random.fold_in(key, batch), round_)
      drawn = sampler.sample(
        params, put(prompt), put(length), k, model=model, how=how, group=1
      )
      return sharding.to_host(drawn)

    total = len(tasks) * c.eval.samples
    say(f'step {step}: {len(tasks)} tasks x {c.eval.samples} samples')
    result = evaluate.run(
      tasks,
      sample,
      encode=encode,
      tokenizer=tokenizer,
      samples=c.eval.samples,
      batch_size=c.eval.batch_size,
      max_prompt_length=c.max_prompt_length,
      timeout_s=c.verify_timeout_s,
      progress=progress(total, say),
    )
  return step, evaluate.summary(result)


def progress(total: int, say, every_s: float = 5.0):
  """The callback that says how far it is, at most once in `every_s`."""
  from rlvr_jax import writer

  start = last = time.monotonic()

  def tell(done):
    nonlocal last
    now = time.monotonic()
    if done == total or now - last >= every_s:
      last, left = now, (now - start) / done * (total - done)
      say(f'{done}/{total} samples, {writer.clock(left)} left')

  return tell


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
    if name.endswith(('_low', '_high')):
      continue
    low, high = (metrics.get(f'{name}_{end}') for end in ('low', 'high'))
    interval = '' if low is None else f'{low:.3f} to {high:.3f}'
    table.add_row(name.removeprefix('eval/'), f'{value:.4g}', interval)
  rich.console.Console(markup=False).print(table)


def main(argv) -> int:
  try:
    flags, config = parse(argv)
    from rlvr_jax import writer

    say = lambda text: print(text, flush=True)
    step, metrics = run(config, flags.workdir, flags.step, say)
    path = pathlib.Path(flags.workdir) / writer.EVAL
    writer.append(
      path,
      step,
      {
        **metrics,
        'source': 'evaluate',
        'env': config.env,
        'temperature': config.eval.temperature,
      },
    )
    say(f'{config.env} at step {step}')
    show(metrics)
    say(f'added to {path}')
  except (ValueError, OSError, RuntimeError) as e:
    print(f'error: {e}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
