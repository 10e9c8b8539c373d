"""The training loop, read from top to bottom.

config -> tasks -> sample -> reward -> credit -> estimate -> update -> report
"""

import math
import pathlib
import time

import jax

from rlvr_jax import algorithm as algorithms
from rlvr_jax import config_file, experiment, processes, resume, types
from rlvr_jax.experiment import Experiment
from rlvr_jax.io import checkpoint
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import batches, optimizer
from rlvr_jax.models import sharding
from rlvr_jax.reporting import alarms, report, run_writer
from rlvr_jax.resume import Progress
from rlvr_jax.rollouts import groups
from rlvr_jax.rollouts.collector import Collection

# Metrics that compare with the log-probs of the policy's own samples.
SAMPLER_METRICS = (
  'sampler_trainer/logp_diff_mean',
  'sampler_trainer/logp_diff_max',
  'ratio',
  'clip_ratio',
)


def train(
  config,
  workdir,
  command: str = '',
  source: config_file.Source | None = None,
) -> None:
  """Trains, or goes on with, the run in `workdir`. See DIR in docs/USE.md.

  Args:
    command, source: what the user typed, and the config file; kept in workdir.

  Raises:
    ValueError: config, data or model that cannot work; at start.
    FloatingPointError: too many updates in a row were skipped.
    RuntimeError: the rewards refused all rows of too many steps in a row.
  """
  workdir, c = pathlib.Path(workdir), config
  with run_writer.hold(workdir):
    config_file.check(workdir, source)
    x, begun = experiment.build(config, workdir)
    with (
      sharding.use(x.mesh),
      checkpoint.open(
        workdir,
        max_to_keep=c.max_to_keep,
        keep_best='score' if c.keep_best else None,
      ) as saved,
      processes.interruptible() as interrupted,
    ):
      run = experiment.start(x, begun, saved)
      state, progress = run.state, run.progress
      # The first update takes the memory of both.
      del begun
      run = run._replace(state=None)
      sampler_params = x.programs.to_sampler(state.params)
      with open_log(x, run, workdir, command, source) as log:
        if not run.resumed:
          run.evaluate(0, sampler_params, log)
        for step in range(progress.step + 1, c.total_steps + 1):
          ##### rollouts #####
          began, clock = time.perf_counter(), Clock()
          collection = run.collect(
            sampler_params, state.params, step, progress.position, clock
          )
          progress = progress._replace(step=step, position=collection.position)
          del sampler_params

          ##### update #####
          state, metrics, progress = update(
            x, state, collection, run.reference, progress
          )
          sampler_params = x.programs.to_sampler(state.params)
          jax.block_until_ready(sampler_params)
          clock('update')

          ##### what it said #####
          metrics = collection.metrics | metrics
          metrics |= clock.metrics(time.perf_counter() - began, collection)
          alarms.say(log, c, step, metrics)
          progress = progress.after_rewards(c.method, metrics)
          log.metrics(step, metrics)
          log.rollouts(
            step,
            groups.lines(collection.parts[0], 'train', c.log_transcripts),
          )
          last = step == c.total_steps
          if last or (c.eval_every and step % c.eval_every == 0):
            score = run.evaluate(step, sampler_params, log)
            progress = progress._replace(score=score)

          ##### stop, save #####
          if progress.failures >= c.max_skipped_updates:
            saved.wait()
            raise alarms.error(c, progress, metrics, checkpoint.steps(workdir))
          stop = interrupted()
          if not progress.skipped and (
            last or stop or step % c.save_every == 0
          ):
            log.sync()
            saved.save(
              step, state, progress._asdict() | resume.remember(c, run.read)
            )
          if stop and not last:
            saved.wait()
            log.say(
              f'stopped after step {step}; the same command goes on from here'
            )
            raise KeyboardInterrupt
        saved.wait()
      if jax.process_index() == 0:
        report.build([workdir], workdir / 'report.html')
        print(f'report: {workdir / "report.html"}')


def update(
  x: Experiment,
  state: types.TrainState,
  collection: Collection,
  reference: FrozenModel | None,
  progress: Progress,
) -> tuple[types.TrainState, dict[str, float], Progress]:
  """c.num_iterations updates on the rollouts of a step; `state` is donated.

  Args:
    reference: of the kl in the loss.

  Returns:
    the new state, the metrics of the step's updates, and the progress with
    the number of updates in a row that were skipped.
  """
  c, programs = x.config, x.programs
  rollout, score = collection.rollout, collection.score
  batch = batches.make_batch(c, x.algorithm, rollout, score)
  batch, metrics = sharding.to_mesh(batch), {}
  if x.algorithm.critic or x.algorithm.correction:
    ends = types.rows(algorithms.turn_rewards(rollout, score))
    batch, new = programs.prepare(state.params, batch, sharding.to_mesh(ends))
    metrics = {k: float(v) for k, v in new.items()}
  if reference is not None:
    batch = batch.replace(
      logp_ref=programs.forward(reference.params, batch).logp
    )
  teacher = None if x.teacher is None else x.teacher.params
  all_tokens = progress.step % c.metrics_every == 0
  for _ in range(c.num_iterations):
    state, new = programs.update(state, (batch,), teacher, all_tokens)
    new = {k: float(v) for k, v in new.items()}
    if not all_tokens:
      new = {k: v for k, v in new.items() if not math.isnan(v)}
    if c.method != 'rl':  # the sampler's log-probs are not the policy's
      new = {k: v for k, v in new.items() if k not in SAMPLER_METRICS}
    skipped = progress.skipped + 1 if new['update_skipped'] > 0 else 0
    progress = progress._replace(skipped=skipped)
    metrics = merge(metrics, new)
  return state, metrics, progress


def merge(old: dict, new: dict) -> dict:
  """Merges the updates of one step: logp_diff_* keep the first value (later
  updates are off-policy by design), update_skipped adds up, the rest keep the
  last."""
  first = ('sampler_trainer/logp_diff_mean', 'sampler_trainer/logp_diff_max')
  out = {
    **old,
    **{k: v for k, v in new.items() if k not in first or k not in old},
  }
  if 'update_skipped' in old:
    out['update_skipped'] = old['update_skipped'] + new['update_skipped']
  return out


def open_log(x: Experiment, run: experiment.Run, workdir, command, source):
  """The run's files, cut back to the step it goes on from; says what it does."""
  c, step = x.config, run.progress.step
  log = run_writer.open(
    workdir,
    c,
    step=step if run.resumed else None,
    total_steps=c.total_steps,
    transcripts=c.log_transcripts,
    console_every=c.log_every,
    command=command,
    source=source,
  )
  log.say(f'model: {run.policy.source}; mesh {dict(x.mesh.shape)}')
  if c.model.param_dtype == 'bfloat16':
    log.say(optimizer.NARROW.format(c.optimizer.learning_rate))
  if c.labels:
    log.say(f'labels: {len(x.tasks)} tasks have one to train on')
  if step:
    log.say(f'resuming after step {step}')
  return log


class Clock:
  """Seconds by stage: call it with the name of the stage that ends."""

  def __init__(self):
    self.seconds, self._last = {}, time.perf_counter()

  def __call__(self, name: str) -> None:
    now = time.perf_counter()
    self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
    self._last = now

  def metrics(self, total: float, collection: Collection) -> dict[str, float]:
    """Times of a step that took `total` seconds, and its tokens a second."""
    tokens = sum(
      t.num_tokens
      for part in collection.parts
      for group in part.transcripts
      for t in group
    )
    times = {f'timing_s/{k}': v for k, v in self.seconds.items()}
    return times | {'step_time': total, 'perf/tokens_per_s': tokens / total}
