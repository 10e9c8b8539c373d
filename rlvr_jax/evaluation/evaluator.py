"""How good is the policy of a run while it trains?"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from rlvr_jax import registry
from rlvr_jax.envs import dialogue
from rlvr_jax.evaluation import (
  eval_metrics,
  evaluate,
  reward_accuracy,
  sample_store,
)
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.reporting import run_writer
from rlvr_jax.rollouts import episode_end, log_records
from rlvr_jax.tasks import Task


class Evaluator(NamedTuple):
  """Evaluates a run while it trains; see `__call__`.

  Attributes:
    config: all keys.
    policy: without weights; they come with each call.
    tasks: held-out tasks.
    oracle: from `rollouts.oracle.make_oracle`.
    mesh: of devices.
  """

  config: ml_collections.ConfigDict
  policy: FrozenModel
  tasks: Sequence[Task]
  oracle: Callable
  mesh: jax.sharding.Mesh

  def __call__(
    self,
    step: int,
    sampler_params: Any,
    params: Any,
    log: run_writer.Writer,
  ) -> float | None:
    """Evaluates, logs metrics and transcripts, returns the score of keep_best.

    Args:
      step: of training, for the logs.
      sampler_params, params: the policy's weights, in both layouts.
      log: the run's files.
    """
    c, tasks = self.config, self.tasks
    if c.method == 'reward_model':
      model = self.policy._replace(params=params, system_prompt=c.system_prompt)
      score = reward_accuracy.scores(c, model, tasks, self.mesh)
      metrics = reward_accuracy.summary(score, tasks)
      log.eval(step, metrics)
      return eval_metrics.score(metrics, c.keep_best)
    first = {}  # {task: its transcript in round 0}, to be read by people
    policy = self.policy._replace(sampler_params=sampler_params, params=params)

    def on_sample(task, round_, transcript):
      if round_ == 0:
        first[task] = transcript

    table = evaluate.run(
      tasks,
      evaluate.make_sample_fn(c, policy, tasks, self.oracle, self.mesh),
      encode=evaluate.encoder(c, policy),
      store=sample_store.Samples([t.id for t in tasks], c.eval.samples),
      batch_size=evaluate.batch_size(c, self.mesh, len(tasks)),
      max_prompt_length=c.max_prompt_length,
      branch=c.eval.branch,
      on_sample=on_sample,
    )
    metrics = eval_metrics.summary(table)
    log.eval(step, metrics)
    records = [
      log_records.record(t, first[i], 'eval') for i, t in enumerate(tasks)
    ]
    log.rollouts(step, records)
    return eval_metrics.score(metrics, c.keep_best)


def check_keep_best(
  c: ml_collections.ConfigDict, eval_tasks: Sequence[Task]
) -> None:
  """ValueError unless evaluations of `eval_tasks` have the metric keep_best."""
  if not c.keep_best:
    return
  is_dialogue = dialogue.is_dialogue(eval_tasks[0])
  if c.method == 'reward_model':
    known = reward_accuracy.possible(c)
  else:
    known = eval_metrics.possible(
      c.eval.samples,
      turns=episode_end.dialogue_limits(c, evaluating=True).turns
      if is_dialogue
      else 0,
      strategies=any('strategy' in task.data for task in eval_tasks),
      signals=evaluate.reads_signals(c),
      branch=c.eval.branch,
      judgments=any(task.verifier == 'judgment' for task in eval_tasks),
    )
  name = c.keep_best.removeprefix('-')
  if name not in known:
    short = [k for k in known if not k.endswith(('_low', '_high'))]
    raise ValueError(
      f'keep_best={registry.show(c.keep_best)} is no metric of an evaluation.'
      f'{registry.nearest(name, known)} There are: {", ".join(short)}; each '
      'also with _low or _high appended, and with a leading - to keep the '
      'smallest value.'
    )
