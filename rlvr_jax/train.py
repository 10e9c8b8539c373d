"""The training loop, read from top to bottom.

config -> tasks -> sample -> reward -> credit -> estimate -> update -> report
"""

import math
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from rlvr_jax import (
  algorithm,
  checks,
  config_file,
  digests,
  processes,
  registry,
  resume,
  source,
  types,
)
from rlvr_jax.envs import dialogue, labels
from rlvr_jax.evaluation import eval_metrics, evaluate, policy, sample_store
from rlvr_jax.io import checkpoint, load
from rlvr_jax.learner import batches, optimizer, programs, train_step
from rlvr_jax.models import sampler, sharding, transformer
from rlvr_jax.reporting import alarms, report, run_writer
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import (
  collector,
  episode_scores,
  judge,
  single_turn,
  task_stream,
)

# Metrics that compare with the log-probs of the policy's own samples.
OF_SAMPLES = (
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
  """Trains, or goes on with, the run in `workdir`. See DIR in the README.

  Args:
    command, source: what the user typed, and the config file; kept in workdir.

  Raises:
    ValueError: config, data or model that cannot work; at start.
    FloatingPointError: too many updates in a row were skipped.
    RuntimeError: the rewards refused all rows of too many steps in a row.
  """
  workdir = pathlib.Path(workdir)
  with run_writer.hold(workdir):
    resume.check_config(workdir, config)
    config_file.check(workdir, source)
    _train(config, workdir, command, source)


def _train(c, workdir: pathlib.Path, command: str, file) -> None:
  ##### config, mesh #####
  checks.check_values(c)
  mesh = sharding.make_mesh(c.mesh.shape)
  checks.check_config(c, mesh)
  put = lambda tree: sharding.from_host(tree, sharding.rows(mesh))

  ##### tasks, rewards #####
  whole = checks.environment(c)
  env = labels.attach(
    whole, c.labels, c.reward_funcs, labels.settings(c, labels.SHARED)
  )
  train_tasks = checks.training_tasks(c, env['train'])
  talks = dialogue.is_dialogue(train_tasks[0])
  reward = base.build(c.reward_funcs, c.reward_weights)
  eval_tasks = checks.eval_tasks(c, env)
  evaluate.check_keep_best(c, eval_tasks)
  read = resume.tasks_read(c, whole, train_tasks, eval_tasks)
  resume.check_content(c, workdir, checkpoint.extra(workdir), read)

  ##### algorithm, programs #####
  algo = algorithm.from_config(c.algo)
  checks.check_algorithm(c, algo)
  if c.method != 'rl':
    algo = algorithm.supervised(algo)
  with registry.naming('model.name', c.model.name):
    model_config = load.load_config(c.model.name)
  checks.check_model(c, model_config)
  checks.check_memory(c, model_config)
  checks.check_dialogue(c, algo, talks, model_config)
  teacher = source.open_teacher(c, mesh)
  oracle = source.open_oracle(c, mesh)
  answer = judge.oracle(c, oracle.judge, put)
  run = programs.build(
    c,
    mesh,
    algo,
    model_config,
    teacher=teacher.model if c.teacher.logits else None,
    certainty=base.needs_signals(c.reward_funcs),
  )
  model, abstract = run.model, run.abstract

  ##### weights, tokenizer #####
  place = sharding.placer(abstract.params)
  resuming = bool(checkpoint.steps(workdir))
  initially = algo.kl is not None or (talks and c.dialogue.belief == 'initial')
  if resuming and not initially:
    place = lambda path, x: None  # the checkpoint has the weights
  loaded = load.load(c.model.name, dtype=c.model.param_dtype, place=place)
  tokenizer = loaded.tokenizer.with_options(c.chat_template_args)
  read |= digests.of_model('model.name', loaded.weights, tokenizer)
  read |= source.content_of(teacher, 'teacher.name')
  read |= source.content_of(oracle, 'dialogue.oracle')
  labels.check_model(c.labels, c, read)
  resume.check_content(c, workdir, checkpoint.extra(workdir), read)
  encode = lambda task: tokenizer.encode_chat(task.question, c.system_prompt)
  checks.check_tasks(c, train_tasks, eval_tasks, encode, tokenizer)
  source.check_vocabulary(c, teacher, tokenizer)

  with (
    sharding.use(mesh),
    checkpoint.open(
      workdir,
      max_to_keep=c.max_to_keep,
      keep_best='score' if c.keep_best else None,
    ) as saved,
    processes.interruptible() as interrupted,
  ):
    ##### state: resumed, else pretrained, else random #####
    initial = lambda: (
      sharding.init_params(model, jax.random.key(c.seed), mesh)
      if loaded.params is None
      else transformer.with_value(model, loaded.params, place)
    )
    found = saved.restore(abstract)
    reference = None
    if algo.kl is not None:
      reference = jax.tree.map(jnp.copy, initial())
    frozen = None  # the initial policy, to ask what it believes
    if talks and c.dialogue.belief == 'initial':
      frozen = run.to_sampler(initial())
    if found is None:
      state = train_step.new_state(
        initial(),
        c.seed,
        tx=run.tx,
        trainable=c.optimizer.trainable,
        abstract=abstract,
      )
      done, extra = 0, {'position': 0, 'skipped': 0}
    else:
      state, extra, done = found
    unknown = found is not None and 'content' not in extra
    extra = {'refused': 0} | extra | resume.remember(c, read)
    loaded = loaded._replace(params=None)
    base_key = jax.random.key(c.seed)

    ##### sampling #####
    how = sampler.Sampling(
      c.max_completion_length,
      tokenizer.end_ids,
      c.temperature,
      shrink=mesh.size == 1,
    )
    how_eval = evaluate.sampling(c, tokenizer.end_ids, shrink=mesh.size == 1)

    collect = collector.make(
      c,
      algo,
      run,
      talks=talks,
      encode=encode,
      tokenizer=tokenizer,
      reward=reward,
      teacher=teacher,
      answer=answer,
      frozen=frozen,
      how=how,
      put=put,
    )
    draw_eval = policy.evaluator(
      c,
      eval_tasks,
      model=model,
      mesh=mesh,
      how=how_eval,
      encode=encode,
      tokenizer=tokenizer,
      answer=answer,
    )

    ##### evaluation #####
    def evaluate_at(s, params):
      first = {}

      def seen(task, round_, transcript):
        if round_ == 0:
          first[task] = transcript

      table = evaluate.run(
        eval_tasks,
        draw_eval(params),
        encode=encode,
        store=sample_store.Samples([t.id for t in eval_tasks], c.eval.samples),
        batch_size=evaluate.batch_size(c, mesh),
        max_prompt_length=c.max_prompt_length,
        seen=seen,
      )
      scores = eval_metrics.summary(table)
      log.eval(s, scores)
      log.rollouts(
        s,
        [
          single_turn.record(task, first[i], 'eval')
          for i, task in enumerate(eval_tasks)
        ],
      )
      # Of this step, for its checkpoint; some metrics are not always there.
      extra['score'] = eval_metrics.score(scores, c.keep_best)

    ##### one batch of groups #####
    def gather(s, params, state, clock):
      """Groups of step s, sampled again while too few carry gradient."""
      parts, keep, spread = [], [], []
      for attempt in range(1 + c.max_resample_batches):
        tasks = task_stream.tasks_at(
          train_tasks,
          seed=c.seed,
          position=extra['position'],
          count=c.train_batch_size,
        )
        extra['position'] += c.train_batch_size
        key = jax.random.fold_in(jax.random.fold_in(base_key, 2), s)
        key = jax.random.fold_in(key, attempt)
        part = collect(tasks, params, state.params, key, clock)
        part = part._replace(score=sharding.agree(part.score))
        parts.append(part)
        adv = batches.weights(c, algo, part.rollout, part.score)
        keep.append(
          (adv != 0).any((1, 2)) & single_turn.varied(part, c.min_reward_std)
        )
        spread.append(np.asarray(algorithm.informative(algo, part.score)))
        if sum(k.sum() for k in keep) >= c.train_batch_size:
          break
      metrics = single_turn.metrics(parts, np.concatenate(spread))
      if talks:
        metrics |= episode_scores.metrics(parts)
      if c.max_resample_batches:
        metrics['resample_batches'] = len(parts) - 1
        return (
          parts,
          *single_turn.select(parts, keep, c.train_batch_size),
          metrics,
        )
      return parts, parts[0].rollout, parts[0].score, metrics

    ##### loop #####
    log = run_writer.open(
      workdir,
      c,
      step=None if found is None else done,
      total_steps=c.total_steps,
      transcripts=c.log_transcripts,
      console_every=c.log_every,
      command=command,
      source=file,
    )
    with log:
      log.say(f'model: {loaded.source}; mesh {dict(mesh.shape)}')
      if c.model.param_dtype == 'bfloat16':
        log.say(optimizer.NARROW.format(c.optimizer.learning_rate))
      if c.labels:
        log.say(f'labels: {len(train_tasks)} tasks have one to train on')
      if done:
        log.say(f'resuming after step {done}')
      if unknown:
        log.say(resume.UNKNOWN)
      params = run.to_sampler(state.params)
      if found is None:
        evaluate_at(0, params)
      for s in range(done + 1, c.total_steps + 1):
        started, clock = time.perf_counter(), Clock()
        parts, rolled, scored, metrics = gather(s, params, state, clock)
        del params
        batch = put(batches.batch(c, algo, rolled, scored))
        if algo.critic or algo.correction:
          ends = types.rows(algorithm.turn_rewards(rolled, scored))
          batch, new = run.prepare(state.params, batch, put(ends))
          metrics |= {k: float(v) for k, v in new.items()}
        if reference is not None:
          logp = run.forward(reference, batch).logp
          batch = batch.replace(logp_ref=logp)
        look = s % c.metrics_every == 0
        for _ in range(c.num_iterations):
          state, new = run.update(state, batch, teacher.params, look)
          new = {k: float(v) for k, v in new.items()}
          if not look:
            new = {k: v for k, v in new.items() if not math.isnan(v)}
          if c.method != 'rl':  # the sampler's log-probs are not the policy's
            new = {k: v for k, v in new.items() if k not in OF_SAMPLES}
          bad = new['update_skipped'] > 0
          extra['skipped'] = extra['skipped'] + 1 if bad else 0
          metrics = merge(metrics, new)
        params = run.to_sampler(state.params)
        jax.block_until_ready(params)
        clock('update')
        wall = time.perf_counter() - started
        tokens = sum(
          t.num_tokens for p in parts for g in p.transcripts for t in g
        )
        metrics |= {f'timing_s/{k}': v for k, v in clock.seconds.items()}
        metrics |= {'step_time': wall, 'perf/tokens_per_s': tokens / wall}
        alarms.say(log, c, s, metrics)
        every = c.method == 'rl' and metrics['rewards/refused'] == 1
        extra['refused'] = extra['refused'] + 1 if every else 0
        log.metrics(s, metrics)
        log.rollouts(s, single_turn.lines(parts[0], 'train', c.log_transcripts))
        last, extra['score'] = s == c.total_steps, None
        if last or (c.eval_every and s % c.eval_every == 0):
          evaluate_at(s, params)
        if max(extra['skipped'], extra['refused']) >= c.max_skipped_updates:
          saved.wait()
          kept = checkpoint.steps(workdir)
          raise alarms.error(c, s, extra, metrics, kept)
        stop = interrupted()
        if not extra['skipped'] and (last or stop or s % c.save_every == 0):
          log.sync()
          saved.save(s, state, extra)
        if stop and not last:
          saved.wait()
          log.say(f'stopped after step {s}; the same command goes on from here')
          raise KeyboardInterrupt
      saved.wait()
    if jax.process_index() == 0:
      report.build([workdir], workdir / 'report.html')
      print(f'report: {workdir / "report.html"}')


def merge(old: dict, new: dict) -> dict:
  """Metrics of a step with several updates: the first one's, but the gap of
  that first update, or of what was before it (the later ones are off-policy by
  design), the sum of skipped updates, and the last of everything else."""
  first = ('sampler_trainer/logp_diff_mean', 'sampler_trainer/logp_diff_max')
  out = {
    **old,
    **{k: v for k, v in new.items() if k not in first or k not in old},
  }
  if 'update_skipped' in old:
    out['update_skipped'] = old['update_skipped'] + new['update_skipped']
  return out


class Clock:
  """Seconds by stage: call it with the name of the stage that ends."""

  def __init__(self):
    self.seconds, self._last = {}, time.perf_counter()

  def __call__(self, name: str) -> None:
    now = time.perf_counter()
    self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
    self._last = now
