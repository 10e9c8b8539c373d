"""How good is a policy? Samples held-out tasks; `eval_metrics` sums up."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlvr_jax import failures, types
from rlvr_jax.envs import dialogue
from rlvr_jax.evaluation import sample_store
from rlvr_jax.io import frozen_model
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import micro_batch, sampler, sharding, token_logprobs
from rlvr_jax.random_streams import Stream
from rlvr_jax.reporting import run_writer
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import (
  branches,
  certainty_signals,
  episode,
  episode_end,
  episode_scores,
  single_turn,
)
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract


def sampling(
  c: ml_collections.ConfigDict,
  end_ids: tuple[int, ...],
  compact_batch: bool = False,
) -> sampler.Sampling:
  """The sampling parameters of an evaluation."""
  if c.eval.branch:
    return sampler.Sampling(
      c.max_completion_length,
      end_ids,
      compact_batch=compact_batch,
      branch=c.eval.samples,
    )
  return sampler.Sampling(
    c.max_completion_length,
    end_ids,
    c.eval.temperature,
    c.eval.top_k,
    c.eval.top_p,
    compact_batch,
  )


def reads_signals(c: ml_collections.ConfigDict) -> bool:
  """Whether it needs the policy's probabilities, so weights that score."""
  return c.eval.signals or c.eval.branch


def draw(
  c: ml_collections.ConfigDict,
  policy: FrozenModel,
  prompt: np.ndarray,
  length: np.ndarray,
  task: np.ndarray,
  round_: np.ndarray,
  mesh: jax.sharding.Mesh,
) -> sampler.Sampled:
  """One sample of each prompt, on the mesh: of these tasks and rounds i32[B].

  Sample r of a task is its r-th one by key, or with eval.branch by the rank of
  its first token.
  """
  options = sampling(c, policy.tokenizer.end_ids, compact_batch=mesh.size == 1)
  key = keys(c.seed, task, round_)
  rank = round_ if options.branch else None
  return frozen_model.sample(policy, prompt, length, key, options, rank=rank)


def batch_size(
  c: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, tasks: int
) -> int:
  """Rows per batch: eval.batch_size, or all samples of `tasks` tasks if fewer.

  Rounded up to a multiple of data*fsdp.
  """
  rows = min(c.eval.batch_size, tasks * c.eval.samples)
  return sharding.whole(rows, sharding.batch_shards(mesh))


# (prompt i32[B,S], length i32[B], task i32[B], round i32[B]) -> a function of a
# count that waits for the B samples, one per prompt, and returns (transcript,
# surprisal in nats) of the first `count` of them.
SampleFn = Callable[
  [np.ndarray, np.ndarray, np.ndarray, np.ndarray],
  Callable[[int], list[tuple[base.Transcript, float]]],
]


@functools.partial(jax.jit, static_argnums=0)
def keys(seed: int, task: np.ndarray, round_: np.ndarray) -> jax.Array:
  """One PRNG key per row, [B], from its task and round, i32[B] each.

  It depends on nothing else, so that batch size and resuming cannot change a
  sample.
  """
  base = jax.random.fold_in(jax.random.key(seed), Stream.EVALUATION)
  fold = lambda t, r: jax.random.fold_in(jax.random.fold_in(base, t), r)
  return jax.vmap(fold)(jnp.asarray(task), jnp.asarray(round_))


def run(
  tasks: Sequence[Task],
  sample: SampleFn,
  *,
  encode: Callable[[Task], list[int]],
  store: sample_store.Samples,
  batch_size: int,
  max_prompt_length: int,
  branch: bool = False,
  progress: Callable[[int], None] = lambda done: None,
  on_sample: Callable[[int, int, base.Transcript], None] = (
    lambda task, round_, transcript: None
  ),
) -> sample_store.Table:
  """Samples what `store` still lacks, in batches of one shape.

  The next batch is sampled while completions of the last one are verified:
  the device does not wait for the host.

  Args:
    sample: see `SampleFn`. A short last batch is filled with its first row.
    encode: task -> prompt ids.
    store: has room for all samples; `store.done` of them are there already.
    batch_size: rows per call of `sample`.
    max_prompt_length: S, the width that prompts are padded to.
    branch: whether samples are branches: see `rollouts.branches`.
    progress: called with the number of samples done, at the start and after
      each batch.
    on_sample: called with (task, round, transcript) of each new sample.
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
    failures.alive()
    store.add(
      [
        sample_store.record(tasks[i], t, x, branch=branch)
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
  """Lists of one size; a short last one is filled with its first item."""
  for start in range(0, len(items), size):
    batch = list(items[start : start + size])
    yield batch + batch[:1] * (size - len(batch))


def eta(
  total: int, say: Callable[[str], None], every_s: float = 5.0
) -> Callable[[int], None]:
  """A `progress` that prints the time left, at most once in `every_s`."""
  began = last = first = None

  def progress(done):
    nonlocal began, last, first
    failures.alive()
    now = time.monotonic()
    if first is None:  # samples read from a file do not count as speed
      began = last = now
      first = done
    elif done == total or now - last >= every_s:
      last = now
      left = (now - began) / (done - first) * (total - done)
      say(f'{done}/{total} samples, {run_writer.clock(left)} left')

  return progress


def make_sample_fn(
  c: ml_collections.ConfigDict,
  policy: FrozenModel,
  tasks: Sequence[Task],
  oracle: Callable,
  mesh: jax.sharding.Mesh,
) -> SampleFn:
  """The `sample` of `run` for these tasks, single-turn or dialogues.

  Args:
    policy: with `sampler_params`; with `params` too if `reads_signals`.
    oracle: replies in dialogues; from `rollouts.oracle.make_oracle`.

  Raises:
    ValueError: see `branches.check`.
  """
  is_dialogue = dialogue.is_dialogue(tasks[0])
  # An evaluation may ask for what its run did not.
  branches.check(c, is_dialogue, policy.model.config.vocab_size)
  outputs = None
  if reads_signals(c):
    outputs = _scorer(c, policy, mesh, batch_size(c, mesh, len(tasks)))

  def surprisal(logp):
    return float(-np.asarray(logp, np.float64).sum())

  def single_turns(prompt, length, task, round_):
    out = draw(c, policy, prompt, length, task, round_, mesh)

    def read(count):
      whole = sharding.to_host(out)
      sampled = sampler.Sampled(*(x[:count] for x in whole))
      _, transcripts = single_turn.transcribe(
        [tasks[i] for i in task[:count]],
        sampled,
        policy.tokenizer,
        c.verify_timeout_s,
        extract.rules_of(c.verifier),
      )
      if outputs is not None:
        rollout = single_turn.to_rollout(prompt, length, whole, 1)
        transcripts = certainty_signals.attach(
          transcripts,
          rollout.turn[:count, 0],
          sampled,
          outputs(rollout),
          policy.tokenizer.decode,
        )
      return list(zip(transcripts, map(surprisal, sampled.logp), strict=True))

    return read

  def dialogues(prompt, length, task, round_):
    del prompt, length
    limits = episode_end.dialogue_limits(c, evaluating=True)
    actor = episode.policy_actor(
      policy,
      sampling(c, policy.tokenizer.end_ids),
      keys(c.seed, task, round_),
      group=1,
      limits=limits,
    )
    episodes, _, _ = episode.run_episodes(
      [tasks[i] for i in task],
      actor,
      encode=encoder(c, policy),
      tokenizer=policy.tokenizer,
      group=1,
      max_prompt_length=c.max_prompt_length,
      limits=limits,
      oracle=oracle,
    )
    return lambda count: [
      (episode_scores.transcript(e), surprisal(e.logp))
      for e in episodes[:count]
    ]

  return dialogues if is_dialogue else single_turns


def _scorer(
  c: ml_collections.ConfigDict,
  policy: FrozenModel,
  mesh: jax.sharding.Mesh,
  rows: int,
) -> Callable[[types.Rollout], token_logprobs.Outputs]:
  """The policy's outputs, with certainty, on the rows of a batch of samples."""
  # Fewer rows at a time than are decoded: see `perplexity.perplexities`.
  few = 4 * sharding.batch_shards(mesh)
  score = micro_batch.scorer(
    policy.model,
    mesh,
    temperature=c.temperature,
    shapes=micro_batch.Shapes(
      group=1,
      max_prompt=c.max_prompt_length,
      groups_per_micro_batch=math.gcd(rows, few),
      chunk=c.logits_chunk,
      pack=mesh.size == 1,
    ),
    certainty=True,
  )

  def outputs(rollout):
    unweighted = np.zeros(rollout.tokens.shape, np.float32)
    batch = sharding.to_mesh(types.flatten(rollout, unweighted))
    return sharding.to_host(score(policy.params, batch))

  return outputs


def encoder(
  c: ml_collections.ConfigDict, policy: FrozenModel
) -> Callable[[Task], list[int]]:
  """The function task -> prompt ids, by the policy's chat template."""
  return lambda t: single_turn.encode_task(t, policy.tokenizer, c.system_prompt)
