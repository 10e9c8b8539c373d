"""What do the updates of a signal gain? An arm of the prediction test."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from rlvr_jax import algorithm as algorithms
from rlvr_jax import experiment, types
from rlvr_jax.enums import Verdict
from rlvr_jax.envs import labels
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import batches, optimizer, train_step
from rlvr_jax.models import micro_batch, sharding
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import groups
from rlvr_jax.signal_map import (
  advantages,
  cell,
  direct,
  lines,
  prediction,
  samples,
  signals,
  vectors,
)
from rlvr_jax.signal_map.signals import Signal
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract

ROWS = 512  # rollouts that are sampled at once for a pass rate


class Settings(NamedTuple):
  """What is tried; see the flags of scripts/signal_map.py.

  Attributes:
    seeds: repetitions, each with its own problems and rollouts.
    prompts: problems of an update's batch.
    samples: of each of the map's problems, before and after.
    optimizers: 'fixed', one step of a given length along the gradient, and
      'adamw', the run's optimiser.
    updates: of 'adamw'.
    length: of 'fixed'; 0: that which would gain `prediction.GAIN` along g if
      the pass rate were linear.
    rate: learning rate of 'adamw', constant; 0: the run's.
  """

  seeds: int = 3
  prompts: int = 16
  samples: int = 64
  optimizers: tuple[str, ...] = ('fixed', 'adamw')
  updates: int = 6
  length: float = 0.0
  rate: float = 0.0

  def check(self) -> None:
    """ValueError for a value that cannot work; names the flag."""
    known = ('fixed', 'adamw')
    rules = {
      f'--predict={self.seeds}': (self.seeds >= 1, 'at least 1'),
      f'--predict_prompts={self.prompts}': (self.prompts >= 1, 'at least 1'),
      f'--predict_samples={self.samples}': (self.samples >= 1, 'at least 1'),
      f'--predict_optimizers={",".join(self.optimizers)}': (
        self.optimizers and not set(self.optimizers) - set(known),
        f'some of {", ".join(known)}',
      ),
      f'--predict_updates={self.updates}': (self.updates >= 1, 'at least 1'),
      f'--predict_length={self.length}': (
        0 <= self.length < math.inf,
        '0 or more',
      ),
      f'--predict_rate={self.rate}': (0 <= self.rate < math.inf, '0 or more'),
    }
    for flag, (holds, rule) in rules.items():
      if not holds:
        raise ValueError(f'{flag} must be {rule}.')


class Trial:
  """Takes the updates of the arms and measures what they gain.

  Attributes:
    measured: the cell that predicts, with all arms.
    settings: see `Settings`.
    length: of a 'fixed' step.

  The surrogate is that of the run, except where a signal imitates.
  """

  def __init__(
    self,
    measured: cell.Cell,
    arms: Sequence[Signal],
    settings: Settings,
    surrogate: str,
  ):
    taught = [s.name for s in arms if s.teacher is not None]
    if taught:
      raise ValueError(
        f'--predict takes no arm with a teacher, such as {taught[0]!r}.'
      )
    self.measured, self.settings = measured, settings
    self.length = (
      settings.length or prediction.GAIN / prediction.reference_norm(measured)
    )
    self._arms, self._surrogate = arms, surrogate
    policy, mesh = measured.policy, measured.mesh
    self._to_sampler = sharding.to_sampler(policy.model, mesh)
    self._optimizers = {
      name: self._optimizer(name) for name in settings.optimizers
    }
    self._samplers: dict[tuple, samples.Sampler] = {}
    self._collected: dict[tuple, groups.Collected] = {}
    self._before: dict[int, np.ndarray] = {}
    self._slopes: dict[str, tuple[Signal, dict[str, float]]] = {}

  def updates(self, name: str) -> int:
    """How many updates an arm takes with an optimiser."""
    return 1 if name == 'fixed' else self.settings.updates

  def _optimizer(self, name):
    """(tx, schedule, jitted update)."""
    c, m = self.measured.config, self.measured
    if name == 'fixed':
      schedule = optax.constant_schedule(self.length)
      tx = optax.chain(
        optax.normalize_by_update_norm(),
        optax.scale_by_learning_rate(schedule),
      )
    else:
      o = ml_collections.ConfigDict(c.optimizer)
      with o.unlocked():
        o.schedule, o.warmup_steps = 'constant', 0
        o.learning_rate = self.settings.rate or o.learning_rate
      schedule = optimizer.make_schedule(o, 1)
      tx = optimizer.make_optimizer(o, 1, c.seed)
    trainable = c.optimizer.trainable
    abstract = train_step.abstract_state(m.policy.model, tx, trainable, m.mesh)
    update = jax.jit(
      functools.partial(
        train_step.update,
        model=m.policy.model,
        tx=tx,
        schedule=schedule,
        temperature=c.temperature,
        trainable=trainable,
        look=False,
      ),
      static_argnames=('algorithm', 'shapes'),
      out_shardings=(train_step.shardings_of(abstract), None),
    )
    return tx, abstract, update

  def _sampler(self, signal: Signal | None, group: int, rows: int):
    """Samples `group` rollouts of tasks, `rows` at once, for a signal's arm.

    None: of the run's own tasks, for their verdicts alone.
    """
    m = self.measured
    env, imitates = ('', False) if signal is None else _source(signal)
    place = (signal is None, env, imitates, group)
    if place not in self._samplers:
      shards = sharding.batch_shards(m.mesh)
      needed = [
        spec
        for s in self._arms
        if signal is not None and _source(s) == (env, imitates)
        for spec in s.rewards
        if base.needs_signals([spec]) or base.reward_models([spec])
      ]
      c = samples.config_for(
        m.config, group, shards, env=env, imitates=imitates, rewards=needed
      )
      with c.unlocked():
        count = max(rows // c.num_generations, 1)
        c.train_batch_size = sharding.whole(count, shards)
        if signal is None:  # a verdict needs no beliefs
          c.dialogue.belief, c.dialogue.belief_on_win = '', False
      initial = m.sources['', False].sampler.initial
      x = experiment.Experiment(c, m.mesh)
      self._samplers[place] = samples.Sampler(x, m.policy, initial)
    return self._samplers[place]

  def tasks(self, signal: Signal, seed: int, update: int) -> list[Task]:
    """The problems of an update: of the training split, after the cell's.

    One solution each where the signal imitates, as many as there are rollouts.
    """
    s, m = self.settings, self.measured
    sampler = self._sampler(signal, m.settings.group, self.rollouts)
    count = self.rollouts if signal.imitates else s.prompts
    begin = max(m.settings.candidates, m.settings.imitate)
    begin += (seed * s.updates + update) * self.rollouts
    found = samples.first(sampler.x.tasks, m.settings.seed, begin + count)
    tasks = found[begin:]
    if not signals.needs([signal], *labels.REWARDS):
      return tasks
    c = m.config
    pilot = self._sampler(None, m.settings.pilot, ROWS)._replace(
      policy=self._labeller
    )
    return samples.labelled(
      pilot(tasks, samples.stream(m.settings.seed, 4, seed, update)),
      extract.rules_of(c.verifier),
      c.verify_timeout_s,
    )

  @functools.cached_property
  def _labeller(self) -> FrozenModel:
    m = self.measured
    return m.of_pilot(self._sampler(None, m.settings.pilot, ROWS).x)

  @property
  def rollouts(self) -> int:
    """Of a batch."""
    return self.settings.prompts * self.measured.settings.group

  def _rollouts_of(self, signal, policy, seed, update) -> groups.Collected:
    """The rollouts of an update; arms share those of the first one."""
    m = self.measured
    labelled = signals.needs([signal], *labels.REWARDS)
    place = (*_source(signal), labelled, seed, update)
    if place not in self._collected:
      sampler = self._sampler(signal, m.settings.group, self.rollouts)
      collected = sampler._replace(policy=policy)(
        self.tasks(signal, seed, update),
        samples.stream(m.settings.seed, 2, seed, update),
      )
      if update:
        return collected
      self._collected[place] = collected
    return self._collected[place]

  def _batch(self, signal: Signal, collected: groups.Collected):
    """(rows to train on, turn rewards [B,T]) of the signal."""
    c = self._sampler(
      signal, self.measured.settings.group, self.rollouts
    ).x.config
    rollout, score = collected.rollout, collected.score
    if not signal.imitates:
      x, n = np.shape(rollout.length)
      whole = np.arange(n).reshape(1, 1, 1, n).repeat(x, 0)
      rollout, score = advantages.scored(signal, c, collected, whole)
    batch = batches.make_batch(c, signal.algorithm, rollout, score)
    rewards = types.rows(np.asarray(algorithms.turn_rewards(rollout, score)))
    return batch, rewards

  def train(
    self, signal: Signal, seed: int, name: str
  ) -> tuple[FrozenModel, dict[str, float]]:
    """The policy after its updates; sums of their lengths, and facts.

    Args:
      signal: resolved, see `signals.parse`.
      name: of the optimiser.
    """
    m, c = self.measured, self.measured.config
    tx, abstract, update = self._optimizers[name]
    shards = sharding.batch_shards(m.mesh)
    group = 1 if signal.imitates else m.settings.group
    rows = sharding.whole(self.rollouts // group, shards) * group
    shapes = micro_batch.Shapes(
      group=group,
      max_prompt=c.max_prompt_length,
      groups_per_micro_batch=math.gcd(
        rows // group, shards * max(c.groups_per_micro_batch, 1)
      ),
      chunk=c.logits_chunk,
      pack=False,  # packing compiles longer than these few batches take
    )
    surrogate = 'reinforce' if signal.imitates else self._surrogate
    algorithm = direct.core(signal.algorithm, surrogate)
    state = train_step.new_state(
      jax.tree.map(jnp.copy, m.policy.params),
      tx=tx,
      trainable=c.optimizer.trainable,
      abstract=abstract,
    )
    policy, length, norms = m.policy, 0.0, []
    for number in range(self.updates(name)):
      collected = self._rollouts_of(signal, policy, seed, number)
      batch, rewards = self._batch(signal, collected)
      batch = sharding.to_mesh(vectors.pad(batch, rows))
      if signal.algorithm.critic is not None:
        batch, _ = _prepare(
          state.params,
          batch,
          sharding.to_mesh(np.pad(rewards, ((0, rows - len(rewards)), (0, 0)))),
          algorithm=signal.algorithm,
          model=m.policy.model,
          temperature=c.temperature,
          shapes=shapes,
        )
      new, metrics = update(
        state, (batch,), algorithm=algorithm, shapes=(shapes,)
      )
      if float(metrics['update_skipped']):
        raise FloatingPointError(
          f'{signal.name}: the update was skipped, since a number was not '
          'finite: see learner.train_step.update.'
        )
      length += float(_distance(new.params, state.params))
      norms.append(float(metrics['grad_norm']))
      state = new
      policy = m.policy._replace(
        params=state.params, sampler_params=self._to_sampler(state.params)
      )
    return policy, {
      'length': length,
      'grad_norm': float(np.mean(norms)),
      'updates': len(norms),
    }

  def rates(self, policy: FrozenModel, seed: int) -> np.ndarray:
    """f64[X]: pass rates of the map's problems, on the seed's random numbers.

    Equal seeds share them, before and after and whatever the arm.
    """
    m, s = self.measured, self.settings
    sampler = self._sampler(None, s.samples, ROWS)._replace(policy=policy)
    collected = sampler(m.tasks, samples.stream(m.settings.seed, 3, seed))
    return (collected.score.verdict == Verdict.CORRECT).mean(-1)

  def lines(self, signal: Signal, seed: int, name: str) -> list[dict[str, Any]]:
    """A line of signal.jsonl for each bin; that of all problems comes last."""
    m = self.measured
    if signal.name not in self._slopes:
      best = lines.best_baseline(m.facts)
      resolved = signals.parse(signal.name, m.config, best)
      self._slopes[signal.name] = (
        resolved,
        prediction.slopes(m, resolved, self.rollouts),
      )
    resolved, slope = self._slopes[signal.name]
    with sharding.use(m.mesh):
      if seed not in self._before:
        self._before[seed] = self.rates(m.policy, seed)
      policy, facts = self.train(resolved, seed, name)
      before = self._before[seed]
      after = self.rates(policy, seed) if facts['length'] else before
    out = []
    for of, keep in reversed(prediction.bins(m).items()):
      gain = (after - before)[keep]
      out.append(
        {
          'signal': signal.name,
          'bin': prediction.BIN,
          'of': of,
          'seed': seed,
          'optimizer': name,
          'slope': slope[of],
          'predicted': facts['length'] * slope[of],
          'gain': float(gain.mean()),
          'gain_se': float(gain.std(ddof=1) / np.sqrt(len(gain))),
          'p': float(before[keep].mean()),
          'rollouts': self.rollouts,
          **facts,
        }
      )
    return out


def _source(signal: Signal) -> tuple[str, bool]:
  """Where its rollouts come from: (env, whether they are solutions)."""
  return signal.env, signal.imitates


_prepare = jax.jit(
  train_step.prepare,
  static_argnames=('algorithm', 'model', 'temperature', 'shapes'),
)


@jax.jit
def _distance(a: Any, b: Any) -> jax.Array:
  return optax.tree.norm(jax.tree.map(jnp.subtract, a, b))
