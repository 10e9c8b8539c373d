"""The training loop, read from top to bottom.

config -> tasks -> sample -> reward -> credit -> estimate -> update -> report
"""

import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from rlvr_jax import algorithm as algorithms
from rlvr_jax import config as config_lib
from rlvr_jax import (
  config_file,
  experiment,
  failures,
  hosts,
  interrupts,
  resume,
  speed,
  storage,
  types,
)
from rlvr_jax.experiment import Experiment
from rlvr_jax.io import checkpoint
from rlvr_jax.learner import batches, optimizer, train_step
from rlvr_jax.learner import loss as losses
from rlvr_jax.learner import teacher as teachers
from rlvr_jax.models import attention, sharding
from rlvr_jax.reporting import alarms, report, run_lock, run_writer, sinks
from rlvr_jax.resume import Progress
from rlvr_jax.rollouts import log_records
from rlvr_jax.rollouts.collector import Collection
from rlvr_jax.start import Initial, Run, start

# Metrics that compare the sampler's log-probs with the trainer's.
SAMPLER_METRICS = (
  'sampler_trainer/logp_diff_mean',
  'sampler_trainer/logp_diff_max',
  'ratio',
  'clip_ratio',
)
# Metrics of predicted tokens, of which a reward model has none.
TOKEN_METRICS = ('entropy', 'advantage/nonzero_frac')
# Metrics of the gradient of on-policy rows, in each step.
SIGNAL_METRICS = (
  'signal/norm_sq',
  'signal/cross',
  'signal/pairs',
  'signal/live',
)


def train(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  command: str = '',
  source: config_file.Source | None = None,
) -> None:
  """Trains the run in `workdir`, or resumes it. See DIR in docs/USE.md.

  Args:
    config: all keys, from `config.load`.
    workdir: the run's directory, created if it does not exist, or an address
      gs://bucket/path.
    command: the command line, kept for the report.
    source: the config file, kept for commands that read the run.

  Raises:
    ValueError: config, data or model that cannot work; before anything is
      written.
    FloatingPointError: max_skipped_updates updates in a row were skipped.
    RuntimeError: the rewards refused all rows of max_skipped_updates steps in
      a row.
    interrupts.Stopped: SIGINT or SIGTERM of any host, once the current step is
      saved.
  """
  c = config
  sinks.check(c.log_to)
  speed.use_cache(c.compilation_cache, workdir)
  hosts.must_agree('configs', config_lib.to_json(c))
  with run_lock.hold(workdir):
    config_file.check(storage.folder(workdir), source)
    x, pretrained = experiment.build(c, workdir)
    with (
      sharding.use(x.mesh),
      checkpoint.open(
        workdir,
        max_to_keep=c.max_to_keep,
        keep_best='score' if c.keep_best else None,
      ) as saved,
      interrupts.interruptible() as interrupted,
      speed.Profile(storage.folder(workdir), c.profile_steps) as profile,
    ):
      run, state, progress = start(x, pretrained, saved)
      # A new state has taken over the pretrained weights, by donation. A
      # resumed run needs them only for its reference, which holds them.
      del pretrained
      # The sampler has its own layout, made once per update: no weight is
      # gathered inside the decode loop.
      sampler_params = x.programs.to_sampler(state.params)
      meter = speed.Meter(x.architecture, x.mesh)
      with open_log(x, run, progress.step, workdir, command, source) as log:
        if not run.resumed:
          with meter.aside('eval'):
            run.evaluate(0, sampler_params, state.params, log)
        for step in range(progress.step + 1, c.total_steps + 1):
          ##### rollouts #####
          profile.before(step)
          meter.start()
          collection = run.collect(
            sampler_params, state.params, step, progress.place, meter
          )
          progress = progress._replace(step=step, place=collection.place)
          examined = examine(x, run, collection, state, sampler_params, step)
          if examined:
            meter('teacher')
          # The update needs its memory. It is stale after the update anyway.
          del sampler_params

          ##### update #####
          # `state` is donated: the old one must not be used after this line.
          state, metrics, progress = update(
            x, state, collection, run.initial, progress, meter
          )
          sampler_params = x.programs.to_sampler(state.params)
          # Dispatch is asynchronous; without this the next rollout would be
          # charged with the time of the update.
          jax.block_until_ready(sampler_params)
          meter('update')
          profile.after(step)

          ##### metrics and transcripts #####
          metrics = collection.metrics | examined | metrics
          rollouts = [part.rollout for part in collection.parts]
          meter.sampled(rollouts, by=run.collect.writes)
          metrics |= meter.metrics()
          alarms.check(log, c, step, metrics)
          progress = progress.after_rewards(c.method, metrics)
          log.metrics(step, metrics)
          log.rollouts(
            step,
            log_records.lines(collection.parts[0], 'train', c.log_transcripts),
          )
          last = step == c.total_steps
          if last or (c.eval_every and step % c.eval_every == 0):
            with meter.aside('eval'):
              score = run.evaluate(step, sampler_params, state.params, log)
            progress = progress._replace(score=score)

          ##### stop, save #####
          if progress.failures >= c.max_skipped_updates:
            saved.wait()  # so that the error lists the last checkpoint too
            raise alarms.error(c, progress, metrics, checkpoint.steps(workdir))
          stop = hosts.on_any(interrupted())
          # A policy that may be diverging must not push out the checkpoints
          # from before it did.
          if not progress.skipped and (
            last or stop or step % c.save_every == 0
          ):
            # A resumed run drops the lines after its checkpoint and trusts
            # those before it, so they must be on disk first.
            log.sync()
            extra = progress.to_json() | resume.remember(c, run.read)
            with meter.aside('checkpoint'):
              saved.save(step, train_step.saved(state), extra)
          if stop and not last:
            saved.wait()
            log.say(
              f'stopped after step {step}; run the same command to resume'
            )
            raise interrupts.Stopped
          failures.stepped()
        saved.wait()
      if hosts.first():
        page = storage.folder(workdir) / 'report.html'
        report.build([workdir], page)
        storage.push(workdir)
        print(f'report: {os.path.join(workdir, page.name)}')


def update(
  x: Experiment,
  state: types.TrainState,
  collection: Collection,
  initial: Initial | None,
  progress: Progress,
  meter: speed.Meter,
) -> tuple[types.TrainState, dict[str, float], Progress]:
  """Runs c.num_iterations updates on the rollouts of one step.

  Args:
    x: the run's config, algorithm and programs.
    state: donated.
    collection: rollouts and scores, host arrays.
    initial: the policy before training, where the loss reads it.
    progress: of this step; counts skipped updates in a row.
    meter: is told what is trained on.

  Returns:
    the new state, the metrics of the updates, merged, and the progress.
  """
  c, programs = x.config, x.programs
  rollout, score = collection.rollout, collection.score

  def trained_on(batch, rollout):
    live = np.asarray(losses.may_have_gradient(x.algorithm, batch))
    live = live.reshape(len(rollout.tokens), -1).any(-1)
    meter.trained(rollout, live, c.num_iterations)
    return sharding.to_mesh(batch)

  batch = batches.make_batch(c, x.algorithm, rollout, score, collection.lesson)
  batch, metrics = trained_on(batch, rollout), {}
  every = c.positions_every
  if c.method == 'rl' and every and progress.step % every == 0:
    found = programs.gaps(state.params, batch)
    metrics = {k: float(v) for k, v in found.items() if not math.isnan(v)}
  if x.algorithm.needs_reference:
    batch = batch.replace(
      logp_ref=programs.forward(initial.params(state.params), batch).logp
    )
  if x.algorithm.critic or x.algorithm.correction:
    rewards = types.rows(algorithms.turn_rewards(rollout, score))
    batch, prepared = programs.prepare(
      state.params, batch, sharding.to_mesh(rewards)
    )
    metrics |= {k: float(v) for k, v in prepared.items()}
  # What a teacher's weights are beside those that the state has.
  kept = None
  if x.algorithm.distill and (x.teacher or initial):
    kept = x.teacher.params if x.teacher else initial.kept
  # Groups without gradient cost a forward pass for their metrics alone.
  all_tokens = progress.step % c.metrics_every == 0
  look = sharding.on_all(np.bool_(all_tokens))
  trained = [batch]
  if collection.judgments is not None:
    judged = batches.make_batch(c, x.algorithm, *collection.judgments)
    judged = judged.replace(adv=c.judge.weight * judged.adv)
    trained.append(trained_on(judged, collection.judgments[0]))
  for _ in range(c.num_iterations):
    state, result = programs.update(state, tuple(trained), kept, look)
    result = {k: float(v) for k, v in result.items()}
    if not all_tokens:  # means that were not computed are NaN
      result = {
        k: v
        for k, v in result.items()
        if k in SIGNAL_METRICS or not math.isnan(v)
      }
    if c.method != 'rl':  # the rows are not the policy's samples
      result = {k: v for k, v in result.items() if k not in SAMPLER_METRICS}
    if c.method == 'reward_model':
      result = {k: v for k, v in result.items() if k not in TOKEN_METRICS}
    skipped = progress.skipped + 1 if result['update_skipped'] > 0 else 0
    progress = progress._replace(skipped=skipped)
    metrics = merge(metrics, result)
  return state, metrics, progress


def examine(
  x: Experiment,
  run: Run,
  collection: Collection,
  state: types.TrainState,
  sampler_params: Any,
  step: int,
) -> dict[str, float]:
  """What the teacher answers itself, in the steps of teacher.accuracy_every.

  Args:
    sampler_params: of the policy that sampled.
  """
  c = x.config
  if run.examine is None or step % c.teacher.accuracy_every:
    return {}
  weights = None  # of teacher.name
  if not c.teacher.name and c.teacher.weights == 'live':
    weights = sampler_params
  if c.teacher.weights == 'initial':
    weights = x.programs.to_sampler(run.initial.params(state.params))
  if c.teacher.weights == 'ema':
    averaged = teachers.averaged_params(state, c.optimizer.trainable)
    weights = x.programs.to_sampler(averaged)
  return run.examine(collection.parts[0], step, weights)


def merge(
  metrics: Mapping[str, float], result: Mapping[str, float]
) -> dict[str, float]:
  """Adds the metrics of one more update of the same step.

  logp_diff_* and signal/* keep the first value (later updates are off-policy by
  design), update_skipped adds up, all others take the last value.
  """
  first = (
    'sampler_trainer/logp_diff_mean',
    'sampler_trainer/logp_diff_max',
    *SIGNAL_METRICS,
  )
  merged = {**metrics, **result}
  merged |= {k: metrics[k] for k in first if k in metrics}
  if 'update_skipped' in metrics:
    merged['update_skipped'] += metrics['update_skipped']
  return merged


def open_log(
  x: Experiment,
  run: Run,
  step: int,
  workdir: str | os.PathLike,
  command: str,
  source: config_file.Source | None,
) -> run_writer.Writer:
  """Opens the run's files, cut back to `step`, and prints what is trained."""
  c = x.config
  log = run_writer.open(
    workdir,
    c,
    step=step if run.resumed else None,
    total_steps=c.total_steps,
    transcripts=c.log_transcripts,
    console_every=c.log_every,
    command=command,
    source=source,
    log_to=c.log_to,
  )
  log.say(f'model: {run.policy.source}; mesh {dict(x.mesh.shape)}')
  if slow := attention.warning(c.model.attention):
    log.say(slow)
  if c.model.lora:
    log.say(f'{c.model.lora}: {_adapter_count(x):,} parameters are trained')
  elif c.model.param_dtype == 'bfloat16':
    log.say(optimizer.NARROW.format(c.optimizer.learning_rate))
  if c.labels:
    log.say(f'labels: {len(x.tasks)} tasks have one to train on')
  if step:
    log.say(f'resuming after step {step}')
  return log


def _adapter_count(x: Experiment) -> int:
  trained, _ = optimizer.split(
    x.programs.abstract.params, x.config.optimizer.trainable
  )
  return sum(leaf.size for leaf in trained.values())
