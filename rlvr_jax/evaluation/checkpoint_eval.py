"""How good is a checkpoint? Samples it; keeps the samples beside the run."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections

import rlvr_jax
from rlvr_jax import config, digests, resume
from rlvr_jax.evaluation import evaluate, sample_store
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.rollouts import task_stream
from rlvr_jax.rollouts.oracle import make_oracle
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import dispatch


def settings(
  c: ml_collections.ConfigDict,
  policy: FrozenModel,
  tasks: Sequence[Task],
  oracle: FrozenModel | None,
) -> dict[str, Any]:
  """Everything that samples and verdicts depend on, except their number."""
  free = (*resume.MAY_CHANGE, 'eval.samples')
  read = {
    'env: tasks to evaluate on': digests.of_tasks(tasks),
    'verifier: version': str(dispatch.VERSION),
    **policy.read,
    **({} if oracle is None else oracle.read),
  }
  return {
    'version': rlvr_jax.__version__,
    'step': policy.step,
    'content': read,
    'config': {k: v for k, v in config.flatten(c).items() if k not in free},
  }


def evaluate_checkpoint(
  c: ml_collections.ConfigDict,
  policy: FrozenModel,
  tasks: Sequence[Task],
  workdir: str | os.PathLike,
  mesh: jax.sharding.Mesh,
  say: Callable[[str], None],
  oracle: FrozenModel | None = None,
) -> sample_store.Table:
  """Samples each task eval.samples times.

  The samples are kept in a file of `workdir`, from which an interrupted
  evaluation resumes. Call it inside `sharding.use(mesh)`.

  Args:
    policy: from `frozen_model.load_checkpoint`; one that scores if
      `evaluate.reads_signals`.
    say: prints a line; also called with the progress every few seconds.
    oracle: the model of dialogue.oracle.

  Raises:
    ValueError: a prompt longer than max_prompt_length, or a file that another
      process is writing.
  """
  encode = evaluate.encoder(c, policy)
  task_stream.check_prompts(tasks, encode, c.max_prompt_length)
  size = evaluate.batch_size(c, mesh, len(tasks))
  sampled_with = settings(c, policy, tasks, oracle)
  path = sample_store.path_of(workdir, policy.step, sampled_with)
  total = len(tasks) * c.eval.samples
  say(f'step {policy.step}: {len(tasks)} tasks x {c.eval.samples} samples')
  for stale, why in sample_store.stale(workdir, policy.step, sampled_with):
    say(f'{stale} is not used, since these differ: {"; ".join(why)}')
  with sample_store.open(
    path, sampled_with, [t.id for t in tasks], c.eval.samples, size, tasks
  ) as store:
    if store.done:
      say(f'{store.done} of {total} samples are in {path}')
    return evaluate.run(
      tasks,
      evaluate.make_sample_fn(c, policy, tasks, make_oracle(c, oracle), mesh),
      encode=encode,
      store=store,
      batch_size=size,
      max_prompt_length=c.max_prompt_length,
      branch=c.eval.branch,
      progress=evaluate.eta(total, say),
    )
