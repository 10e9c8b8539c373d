"""One cell of the map: what each signal says about one checkpoint."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

import rlvr_jax
from rlvr_jax import algorithm as algorithms
from rlvr_jax import experiment, hosts, registry, storage, types
from rlvr_jax.enums import Verdict
from rlvr_jax.envs import labels
from rlvr_jax.evaluation import evaluate
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import train_step
from rlvr_jax.models import micro_batch, sharding
from rlvr_jax.ops import signal as signal_ops
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import groups, task_stream
from rlvr_jax.signal_map import (
  advantages,
  distilled,
  measure,
  samples,
  signals,
  vectors,
)
from rlvr_jax.signal_map.signals import Signal
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract


class Settings(NamedTuple):
  """What a cell is measured with; see the flags of scripts/signal_map.py.

  Attributes:
    prompts: X, problems.
    samples: n, rollouts of each.
    group: G; rollouts: N, of a batch.
    pilot: rollouts of each of the `candidates`, by which problems are chosen
      and binned; pilot_step: by which checkpoint, None: the one measured.
    between: pass rates in the pilot of the problems that are taken.
    imitate: solutions that stand for imitation.
    partitions: ways to put the rollouts into groups.
    sketch: dimensions of a gradient's sketch; 0: the whole gradient.
    split: of the tasks.
    seed: of all that is chosen at random.
  """

  prompts: int = 40
  samples: int = 128
  group: int = 8
  rollouts: int = 256
  pilot: int = 16
  candidates: int = 40
  pilot_step: int | None = None
  between: tuple[float, float] = (0.0, 1.0)
  imitate: int = 256
  partitions: int = 4
  sketch: int = 4096
  split: str = 'train'
  seed: int = 0

  def check(self) -> None:
    """ValueError for a value that cannot work; names the flag."""
    rules = {
      f'--prompts={self.prompts}': (self.prompts >= 3, 'at least 3'),
      f'--samples={self.samples}': (
        self.samples >= 4 * self.group,
        f'at least {4 * self.group}: two groups of {self.group} in each half',
      ),
      f'--group={self.group}': (self.group >= 1, 'at least 1'),
      f'--rollouts={self.rollouts}': (self.rollouts >= 1, 'at least 1'),
      f'--pilot={self.pilot}': (self.pilot >= 2, 'at least 2'),
      f'--candidates={self.candidates}': (
        self.candidates >= self.prompts,
        f'at least --prompts={self.prompts}',
      ),
      f'--pass_rate={self.between}': (
        0 <= self.between[0] <= self.between[1] <= 1,
        'two rates in [0, 1], the lower one first',
      ),
      f'--imitate={self.imitate}': (self.imitate >= 3, 'at least 3'),
      f'--partitions={self.partitions}': (self.partitions >= 1, 'at least 1'),
      f'--sketch={self.sketch}': (self.sketch >= 0, '0 or more'),
    }
    for flag, (holds, rule) in rules.items():
      if not holds:
        raise ValueError(f'{flag} must be {rule}.')


class Source(NamedTuple):
  """Rollouts of one environment, and where their vectors are in the Gram.

  Attributes:
    sampler: of these rollouts.
    collected: [X,n].
    ids: i[X,n,K].
  """

  sampler: samples.Sampler
  collected: groups.Collected
  ids: np.ndarray

  @property
  def tokens(self) -> float:
    """Mean number of sampled tokens of a rollout."""
    return float((np.asarray(self.collected.rollout.turn) >= 0).sum(-1).mean())


class Cell:
  """Rollouts, vectors and inner products of a checkpoint.

  Attributes:
    config: of the run.
    settings: see `Settings`.
    policy: the checkpoint.
    pilot: f64[X], pass rates of the problems in the pilot.
    sources: by (env, whether it imitates).
    gram: [R,R], of all vectors of all sources.
    weighted: {signal of a critic: i[X,n,1], its rows' own vectors}.
    taught: {signal with a teacher: (i[X,2m,1], its groups' vectors; share of
      rows that the teacher judges)}.
  """

  def __init__(
    self,
    c: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    step: int | None,
    chosen: Sequence[Signal],
    settings: Settings,
    say: Callable[[str], None],
  ):
    settings.check()
    self.config, self.settings, self.say = c, settings, say
    self.workdir = workdir
    self.mesh = experiment.mesh_of(c)
    critic = any(s.algorithm.critic is not None for s in chosen)
    signals.check(c, chosen)
    x = self._experiment(settings.samples, chosen)
    judged = {
      s.name: self._experiment(settings.group, (), s.env, teacher=s.teacher)
      for s in chosen
      if s.teacher is not None
    }
    for name, one in judged.items():
      distilled.check(name, one)
    with sharding.use(self.mesh):
      self.policy = x.checkpoint(workdir, step, scoring=True, value_head=critic)
      self.step = int(self.policy.step or 0)
      initial = None
      if c.dialogue.belief == 'initial':
        initial = x.checkpoint(workdir, 0)
      self._initial = initial
      self.tasks, self.pilot = self._choose(x, chosen)
      self.sources: dict[tuple[str, bool], Source] = {}
      self._vectors: list[np.ndarray] = []
      self._add('', False, chosen, self.tasks)
      for env, imitates in dict.fromkeys((s.env, s.imitates) for s in chosen):
        if (env, imitates) not in self.sources:
          self._add(env, imitates, chosen, None)
      self.weighted = {
        s.name: self._critic_rows(s)
        for s in chosen
        if s.algorithm.critic is not None
      }
      self.taught = {
        s.name: self._taught(s, judged[s.name])
        for s in chosen
        if s.name in judged
      }
    every = np.concatenate(self._vectors)
    self.gram = every @ every.T
    self._vectors = []

  def _experiment(self, group, chosen, env='', imitates=False, teacher=None):
    needed = [
      spec
      for s in chosen
      if (s.env, s.imitates) == (env, imitates)
      for spec in s.rewards
      if base.needs_signals([spec]) or base.reward_models([spec])
    ]
    return experiment.Experiment(
      samples.config_for(
        self.config,
        group,
        sharding.batch_shards(self.mesh),
        env=env,
        imitates=imitates,
        rewards=needed,
        teacher=teacher,
      ),
      self.mesh,
    )

  def _choose(
    self, x: experiment.Experiment, chosen: Sequence[Signal]
  ) -> tuple[list[Task], np.ndarray]:
    """The problems of the cell and their pass rates in the pilot."""
    s, c = self.settings, x.config
    if not len(x.env.get(s.split, ())):
      raise ValueError(
        f'--split={registry.show(s.split)}: {c.env} has '
        f'{", ".join(f"{n} ({len(t)} tasks)" for n, t in x.env.items())}.'
      )
    split = x.tasks if s.split == 'train' else x.env[s.split]
    count = min(s.candidates, len(split))
    tasks = samples.first(split, s.seed, count)
    encode = evaluate.encoder(c, self.policy)
    task_stream.check_prompts(tasks, encode, c.max_prompt_length)
    pilot_x = self._experiment(s.pilot, ())
    say = evaluate.eta(count, lambda text: self.say(f'pilot: {text}'))
    say(0)
    pilot = samples.Sampler(pilot_x, self.of_pilot(pilot_x), None)(
      tasks, samples.stream(s.seed, 0), say
    )
    found = samples.choose(pilot, s.prompts, s.between)
    if signals.needs(chosen, *labels.REWARDS):
      rules = extract.rules_of(c.verifier)
      tasks = samples.labelled(pilot, rules, c.verify_timeout_s)
    return [tasks[i] for i in found], samples.pass_rates(pilot)[found]

  def of_pilot(self, x: experiment.Experiment) -> FrozenModel:
    """The policy of the pilot, whose majority answers are labels."""
    if self.settings.pilot_step in (None, self.step):
      return self.policy
    return x.checkpoint(self.workdir, self.settings.pilot_step, scoring=True)

  def _add(self, env, imitates, chosen, tasks):
    """Samples a source, computes its vectors and appends them."""
    s = self.settings
    x = self._experiment(s.samples, chosen, env, imitates)
    place = len(self.sources)
    if tasks is None:
      split = x.tasks
      count = min(s.imitate if imitates else s.prompts, len(split))
      tasks = samples.first(split, s.seed + place, count)
    sampler = samples.Sampler(
      x, self.policy, self._initial, signals.reads_feedback(chosen, env)
    )
    name = f'{env or "own tasks"}{", imitated" if imitates else ""}'
    say = evaluate.eta(len(tasks), lambda text: self.say(f'{name}: {text}'))
    say(0)
    collected = sampler(tasks, samples.stream(s.seed, 1, place), say)
    turns = collected.score.turns.shape[-1]
    ids = self._vectors_of(
      samples.rows(collected.rollout, turns), f'vectors, {name}'
    )
    shape = np.shape(collected.rollout.length)
    self.sources[env, imitates] = Source(
      sampler, collected, ids.reshape(*shape, turns)
    )

  def _vectors_of(self, rows: vectors.Rows, name: str) -> np.ndarray:
    """i[N,K]: where the rows' vectors are among all; appends new ones."""
    c = self.config
    found, which = vectors.distinct(rows)
    total = len(found.tokens)
    say = evaluate.eta(total, lambda text: self.say(f'{name}: {text}'))
    made = vectors.score_vectors(
      self.policy,
      found,
      temperature=c.temperature,
      trainable=c.optimizer.trainable,
      size=self.settings.sketch,
      store=self._store(found),
      progress=say,
    )
    n, k, m = made.shape
    start = sum(map(len, self._vectors))
    self._vectors.append(made.reshape(n * k, m))
    return start + which[:, None] * k + np.arange(k)[None]

  def _store(self, found):
    """Where vectors are kept for another time; None: nowhere."""
    # Their file has one writer, and a disk that outlives it.
    in_bucket = storage.bucket(self.workdir) is not None
    if not self.settings.sketch or hosts.count() > 1 or in_bucket:
      return None
    folder = storage.folder(self.workdir) / 'signal'
    return vectors.store_of(folder, self.step, found, self._identity())

  def _identity(self) -> dict[str, Any]:
    """What a vector depends on besides its row."""
    c = self.config
    return {
      'version': rlvr_jax.__version__,
      'policy': dict(self.policy.read),
      'temperature': c.temperature,
      'trainable': c.optimizer.trainable,
      'dtype': (c.model.dtype, c.model.param_dtype),
      'sketch': self.settings.sketch,
    }

  def _critic_rows(self, signal: Signal) -> np.ndarray:
    """i[X,n]: vectors of the rows, tokens weighted with GAE's advantages."""
    source = self.sources[signal.env, False]
    c, rollout = source.sampler.x.config, source.collected.rollout
    x, n = np.shape(rollout.length)
    whole = np.arange(n).reshape(1, 1, 1, n).repeat(x, 0)
    rollout, score = advantages.scored(signal, c, source.collected, whole)
    unweighted = np.zeros(np.shape(rollout.tokens), np.float32)
    batch = types.flatten(rollout, unweighted)
    batch = batch.replace(mask=advantages.trained(c, rollout))
    rewards = types.rows(algorithms.turn_rewards(rollout, score))
    shards = sharding.batch_shards(self.mesh)
    extra = (sharding.whole(x, shards) - x) * n  # rows without a trained token
    pad = lambda a: np.pad(np.asarray(a), [(0, extra), (0, 0)])
    prepared, _ = _prepare(
      self.policy.params,
      sharding.to_mesh(jax.tree.map(pad, batch)),
      sharding.to_mesh(pad(rewards)),
      algorithm=signal.algorithm,
      model=self.policy.model,
      temperature=c.temperature,
      shapes=micro_batch.Shapes(
        group=n,
        max_prompt=c.max_prompt_length,
        groups_per_micro_batch=shards,
        chunk=c.logits_chunk,
        pack=False,
      ),
    )
    weights = np.where(batch.mask, sharding.to_host(prepared).adv[: x * n], 0.0)
    rows = vectors.Rows(
      np.asarray(batch.tokens), weights[:, None].astype(np.float32)
    )
    ids = self._vectors_of(rows, f'vectors, {signal.name}')
    return ids.reshape(x, n, 1)

  def _taught(self, signal: Signal, x: experiment.Experiment):
    """(vectors, share of rows) of a signal with a teacher, see `taught`."""
    s, collected = self.settings, self.sources[signal.env, False].collected
    names = [task.id for task in collected.tasks]
    index = advantages.members(names, s.samples, s.group, s.seed, 0)
    count = index[0, ..., 0].size
    report = lambda text: self.say(f'groups, {signal.name}: {text}')
    found = distilled.of_groups(
      x,
      signal,
      self.policy,
      collected,
      index,
      workdir=self.workdir,
      size=s.sketch,
      progress=evaluate.eta(len(names) * count, report),
    )
    start = sum(map(len, self._vectors))
    self._vectors.append(np.concatenate(found.vectors))
    ids = start + np.arange(len(names) * count).reshape(-1, count, 1)
    return ids, found.taught

  @functools.cached_property
  def right(self) -> np.ndarray:
    """bool[X,n] of the problems' rollouts."""
    verdict = self.sources['', False].collected.score.verdict
    return np.asarray(verdict) == Verdict.CORRECT

  @functools.cached_property
  def reference(self) -> np.ndarray:
    """f64[2,X,R]: weights of grad p by problem, see `measure.reference`."""
    ids = self.sources['', False].ids
    return measure.reference(ids, self.right, len(self.gram))

  @functools.cached_property
  def facts(self) -> signal_ops.Facts:
    """The `ops.signal.Facts` of each problem, f64[X]."""
    ids, right = self.sources['', False].ids, self.right
    out = []
    for problem, rows in enumerate(ids):
      used, local = np.unique(rows, return_inverse=True)
      block = self.gram[np.ix_(used, used)].astype(np.float64)
      count = np.zeros((len(rows), len(used)))
      np.add.at(
        count,
        (np.arange(len(rows)).repeat(rows.shape[1]), local.ravel()),
        1.0,
      )
      out.append(signal_ops.facts(count @ block @ count.T, right[problem]))
    return signal_ops.Facts(*(np.array(x, float) for x in zip(*out)))


_prepare = jax.jit(
  train_step.prepare,
  static_argnames=('algorithm', 'model', 'temperature', 'shapes'),
)
