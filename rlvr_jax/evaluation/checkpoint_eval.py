"""Evaluates a checkpoint of a run; its samples are kept beside the run."""

from collections.abc import Callable

import rlvr_jax
from rlvr_jax import config, digests, resume
from rlvr_jax.evaluation import evaluate, sample_store
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.rollouts import task_stream
from rlvr_jax.rollouts.oracle import make_oracle
from rlvr_jax.verifiers import dispatch


def settings(c, asked: FrozenModel, tasks, oracle: FrozenModel | None) -> dict:
  """All that samples and their verdicts depend on, but their number."""
  free = (*resume.MAY_CHANGE, 'eval.samples')
  read = {
    'env: tasks to evaluate on': digests.of_tasks(tasks),
    'verifier: version': str(dispatch.VERSION),
    **asked.read,
    **({} if oracle is None else oracle.read),
  }
  return {
    'version': rlvr_jax.__version__,
    'step': asked.step,
    'content': read,
    'config': {k: v for k, v in config.flatten(c).items() if k not in free},
  }


def evaluate_checkpoint(
  c,
  asked: FrozenModel,
  tasks,
  workdir,
  mesh,
  say: Callable,
  oracle: FrozenModel | None = None,
) -> sample_store.Table:
  """eval.samples samples of each task.

  Kept in a file of `workdir`, from which an evaluation that was stopped goes
  on. Call it inside `sharding.use(mesh)`.

  Args:
    asked: from `frozen_model.load_checkpoint`.
    say: prints a line; told how far it is, now and then.
    oracle: the model of dialogue.oracle.

  Raises:
    ValueError: a prompt beyond the limit, or a file that is in use.
  """
  encode = evaluate.encoder(c, asked)
  task_stream.check_prompts(tasks, encode, c.max_prompt_length)
  size = evaluate.batch_size(c, mesh)
  depends = settings(c, asked, tasks, oracle)
  path = sample_store.path_of(workdir, asked.step, depends)
  total = len(tasks) * c.eval.samples
  say(f'step {asked.step}: {len(tasks)} tasks x {c.eval.samples} samples')
  for stale, why in sample_store.stale(workdir, asked.step, depends):
    say(f'{stale} is not used, since these differ: {"; ".join(why)}')
  with sample_store.open(
    path, depends, [t.id for t in tasks], c.eval.samples, size
  ) as store:
    if store.done:
      say(f'{store.done} of {total} samples are in {path}')
    return evaluate.run(
      tasks,
      evaluate.make_sample_fn(c, asked, tasks, make_oracle(c, oracle), mesh),
      encode=encode,
      store=store,
      batch_size=size,
      max_prompt_length=c.max_prompt_length,
      progress=evaluate.eta(total, say),
    )
