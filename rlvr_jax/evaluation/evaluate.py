"""Draws samples of held-out tasks. What they say: `summary`."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import registry
from rlvr_jax.envs import dialogue
from rlvr_jax.evaluation import eval_metrics
from rlvr_jax.evaluation import sample_store as samples_lib
from rlvr_jax.models import sampler, sharding
from rlvr_jax.reporting import run_writer
from rlvr_jax.rollouts import judge, single_turn


def sampling(c, end_ids, shrink: bool = False) -> sampler.Sampling:
  """How a config evaluates."""
  return sampler.Sampling(
    c.max_completion_length,
    end_ids,
    c.eval.temperature,
    c.eval.top_k,
    c.eval.top_p,
    shrink,
  )


def batch_size(c, mesh) -> int:
  """Samples at a time: eval.batch_size, in equal parts for the devices."""
  return sharding.whole(c.eval.batch_size, sharding.batch_shards(mesh))


@functools.partial(jax.jit, static_argnums=0)
def keys(seed: int, task, round_):
  """A PRNG key for each (task, round), i32[B] both; of nothing else."""
  base = jax.random.fold_in(jax.random.key(seed), 1)
  fold = lambda t, r: jax.random.fold_in(jax.random.fold_in(base, t), r)
  return jax.vmap(fold)(jnp.asarray(task), jnp.asarray(round_))


def run(
  tasks: Sequence,
  sample: Callable,
  *,
  encode: Callable,
  store: samples_lib.Samples,
  batch_size: int,
  max_prompt_length: int,
  progress: Callable = lambda done: None,
  seen: Callable = lambda task, round_, transcript: None,
) -> samples_lib.Table:
  """Draws what `store` still lacks, in batches of one shape.

  The next batch is drawn while the answers of the last one are checked.

  Args:
    sample: (prompt i32[B,S], length i32[B], task i32[B], round i32[B]) -> a
      function of a count, that waits for the B = batch_size samples, one a
      prompt, and gives (transcript, surprisal in nats) of the first so many:
      see `policy.evaluator`. A short last batch is filled with its first row.
    store: as many samples as it has room for; `done` of them are there.
    progress: called with the number of samples done, at first and after each
      batch.
    seen: called with each sample that is drawn.
  """
  tasks = list(tasks)
  prompt, length = single_turn.encode_prompts(tasks, encode, max_prompt_length)
  progress(store.done)

  def start(first):
    items = range(first, min(first + batch_size, store.total))
    items = [samples_lib.item(j, len(tasks)) for j in items]
    (full,) = batches(items, batch_size)
    which, round_ = np.array(full, np.int32).T
    return items, sample(prompt[which], length[which], which, round_)

  def finish(items, read):
    rows = read(len(items))
    store.add(
      [
        samples_lib.record(tasks[i], t, x)
        for (i, _), (t, x) in zip(items, rows, strict=True)
      ]
    )
    for (i, r), (t, _) in zip(items, rows, strict=True):
      seen(i, r, t)
    progress(store.done)

  running = None
  for first in range(store.done, store.total, batch_size):
    following = start(first)
    if running is not None:
      finish(*running)
    running = following
  if running is not None:
    finish(*running)
  return store.table


def batches(items: Sequence, size: int) -> Iterator[list]:
  """Lists of one size; the last one is filled with its first item."""
  for start in range(0, len(items), size):
    some = list(items[start : start + size])
    yield some + some[:1] * (size - len(some))


def countdown(total: int, say: Callable, every_s: float = 5.0) -> Callable:
  """The `progress` that says how far it is, at most once in `every_s`."""
  began = last = first = None

  def tell(done):
    nonlocal began, last, first
    now = time.monotonic()
    if first is None:  # what was there before says nothing of the speed
      began = last = now
      first = done
    elif done == total or now - last >= every_s:
      last = now
      left = (now - began) / (done - first) * (total - done)
      say(f'{done}/{total} samples, {run_writer.clock(left)} left')

  return tell


def check_keep_best(c, evaluated) -> None:
  """ValueError unless an evaluation of these tasks can have the metric."""
  if not c.keep_best:
    return
  talks = dialogue.is_dialogue(evaluated[0])
  known = eval_metrics.possible(
    c.eval.samples,
    turns=judge.limits(c, evaluating=True).turns if talks else 0,
    strategies=any('strategy' in task.data for task in evaluated),
  )
  name = c.keep_best.removeprefix('-')
  if name not in known:
    short = [k for k in known if not k.endswith(('_low', '_high'))]
    raise ValueError(
      f'keep_best={registry.show(c.keep_best)} is no metric of an evaluation.'
      f'{registry.nearest(name, known)} There are: {", ".join(short)}; each of '
      'them with _low and _high, and with a - before it where the smallest '
      'value is the best.'
    )
