"""Samples completions of held-out tasks. What they come to: `eval_metrics`."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import registry
from rlvr_jax.enums import Stream
from rlvr_jax.envs import dialogue
from rlvr_jax.evaluation import eval_metrics, sample_store
from rlvr_jax.io import frozen_model
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sampler, sharding
from rlvr_jax.reporting import run_writer
from rlvr_jax.rollouts import episode, episode_scores, groups, single_turn
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract


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
  base = jax.random.fold_in(jax.random.key(seed), Stream.EVALUATION)
  fold = lambda t, r: jax.random.fold_in(jax.random.fold_in(base, t), r)
  return jax.vmap(fold)(jnp.asarray(task), jnp.asarray(round_))


def run(
  tasks: Sequence,
  sample: Callable,
  *,
  encode: Callable,
  store: sample_store.Samples,
  batch_size: int,
  max_prompt_length: int,
  progress: Callable = lambda done: None,
  on_sample: Callable = lambda task, round_, transcript: None,
) -> sample_store.Table:
  """Draws what `store` still lacks, in batches of one shape.

  The next batch is drawn while the answers of the last one are checked.

  Args:
    sample: (prompt i32[B,S], length i32[B], task i32[B], round i32[B]) -> a
      function of a count, that waits for the B = batch_size samples, one a
      prompt, and gives (transcript, surprisal in nats) of the first so many:
      see `make_sample_fn`. A short last batch is filled with its first row.
    store: as many samples as it has room for; `done` of them are there.
    progress: called with the number of samples done, at first and after each
      batch.
    on_sample: called with each sample that is drawn.
  """
  tasks = list(tasks)
  prompt, length = single_turn.encode_prompts(tasks, encode, max_prompt_length)
  progress(store.done)

  def start(first):
    items = range(first, min(first + batch_size, store.total))
    items = [sample_store.item(j, len(tasks)) for j in items]
    (full,) = batches(items, batch_size)
    which, round_ = np.array(full, np.int32).T
    return items, sample(prompt[which], length[which], which, round_)

  def finish(items, read):
    rows = read(len(items))
    store.add(
      [
        sample_store.record(tasks[i], t, x)
        for (i, _), (t, x) in zip(items, rows, strict=True)
      ]
    )
    for (i, r), (t, _) in zip(items, rows, strict=True):
      on_sample(i, r, t)
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


def eta(total: int, say: Callable, every_s: float = 5.0) -> Callable:
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


def make_sample_fn(
  c, asked: FrozenModel, tasks: Sequence[Task], oracle: Callable, mesh
) -> Callable:
  """The `sample` of `run` for these tasks: single answers, or dialogues.

  Args:
    asked: who answers.
    oracle: from `rollouts.oracle.make_oracle`, for dialogues.
  """
  settings = sampling(c, asked.tokenizer.end_ids, shrink=mesh.size == 1)

  def surprisal(logp):
    return float(-np.asarray(logp, np.float64).sum())

  def single_turns(prompt, length, task, round_):
    key = keys(c.seed, task, round_)
    out = frozen_model.sample(asked, prompt, length, key, settings)

    def read(count):
      first = sampler.Sampled(*(x[:count] for x in sharding.to_host(out)))
      _, transcripts = single_turn.transcribe(
        [tasks[i] for i in task[:count]],
        first,
        asked.tokenizer,
        c.verify_timeout_s,
        extract.rules_of(c.verifier),
      )
      return list(zip(transcripts, map(surprisal, first.logp), strict=True))

    return read

  def dialogues(prompt, length, task, round_):
    del prompt, length
    limits = episode.dialogue_limits(c, evaluating=True)
    actor = episode.policy_actor(
      asked,
      settings._replace(shrink=False),
      keys(c.seed, task, round_),
      group=1,
      limits=limits,
    )
    episodes, _, _ = episode.run_episodes(
      [tasks[i] for i in task],
      actor,
      encode=encoder(c, asked),
      tokenizer=asked.tokenizer,
      group=1,
      max_prompt_length=c.max_prompt_length,
      limits=limits,
      oracle=oracle,
    )
    return lambda count: [
      (episode_scores.transcript(g), surprisal(g.logp))
      for g in episodes[:count]
    ]

  return dialogues if dialogue.is_dialogue(tasks[0]) else single_turns


class Evaluator(NamedTuple):
  """The evaluations of a run while it trains; see `__call__`.

  Attributes:
    policy: its weights are given with each call.
    oracle: from `rollouts.oracle.make_oracle`.
  """

  config: Any
  policy: FrozenModel
  tasks: Sequence[Task]
  oracle: Callable
  mesh: Any

  def __call__(self, step: int, sampler_params, log) -> float | None:
    """Evaluates at a step and logs it; the score of keep_best, if any.

    Args:
      sampler_params: the policy's weights in the sampler's layout.
      log: the run's `reporting.run_writer`.
    """
    c, tasks, first = self.config, self.tasks, {}
    asked = self.policy._replace(sampler_params=sampler_params)

    def on_sample(task, round_, transcript):
      if round_ == 0:
        first[task] = transcript

    table = run(
      tasks,
      make_sample_fn(c, asked, tasks, self.oracle, self.mesh),
      encode=encoder(c, asked),
      store=sample_store.Samples([t.id for t in tasks], c.eval.samples),
      batch_size=batch_size(c, self.mesh),
      max_prompt_length=c.max_prompt_length,
      on_sample=on_sample,
    )
    metrics = eval_metrics.summary(table)
    log.eval(step, metrics)
    records = [groups.record(t, first[i], 'eval') for i, t in enumerate(tasks)]
    log.rollouts(step, records)
    return eval_metrics.score(metrics, c.keep_best)


def encoder(c, asked: FrozenModel) -> Callable:
  """task -> prompt ids."""
  return lambda t: asked.tokenizer.encode_chat(t.question, c.system_prompt)


def check_keep_best(c, evaluated) -> None:
  """ValueError unless an evaluation of these tasks can have the metric."""
  if not c.keep_best:
    return
  is_dialogue = dialogue.is_dialogue(evaluated[0])
  known = eval_metrics.possible(
    c.eval.samples,
    turns=episode.dialogue_limits(c, evaluating=True).turns
    if is_dialogue
    else 0,
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
