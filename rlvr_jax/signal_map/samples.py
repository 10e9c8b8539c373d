"""The rollouts of a cell: problems chosen by a pilot, many samples of each."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from rlvr_jax import types
from rlvr_jax.enums import Verdict
from rlvr_jax.envs import labels
from rlvr_jax.experiment import Experiment
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sharding
from rlvr_jax.random_streams import Stream
from rlvr_jax.rollouts import (
  collector,
  groups,
  oracle,
  reward_scores,
  task_sampling,
  task_stream,
)
from rlvr_jax.signal_map.vectors import Rows
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract


def config_for(
  c: ml_collections.ConfigDict,
  group: int,
  shards: int,
  *,
  env: str = '',
  imitates: bool = False,
  rewards: Sequence[str] = (),
  teacher: Mapping[str, Any] | None = None,
) -> ml_collections.ConfigDict:
  """The config of a run that samples `group` rollouts of each task.

  Rewards of signals are computed later, on the same transcripts; `rewards` are
  those that need the policy's probabilities, which are computed now.

  Args:
    c: of the run whose checkpoint is measured.
    shards: batch shards of the mesh.
    env: of other tasks; '' for the run's own.
    imitates: for the solutions of the tasks, one each.
    teacher: of a signal with one, `Signal.teacher`.
  """
  rows = max(c.train_batch_size * c.num_generations, c.eval.batch_size)
  group = 1 if imitates else group
  out = copy.deepcopy(c).unlock()
  out.update_from_flattened_dict(
    {
      'method': 'sft' if imitates else 'rl',
      'teacher.name': '',
      'teacher.weights': 'live',
      'teacher.context': 'none',
      'teacher.accuracy_every': 0,
      'judge.name': '',
      'judge.weight': 0.0,
      'judge.control': '',
      'env': env or c.env,
      'labels': '',
      'train_tasks': 0 if env else c.train_tasks,
      'reward_funcs': ('outcome', *dict.fromkeys(rewards)),
      'reward_weights': (1.0,) * (1 + len(dict.fromkeys(rewards))),
      'num_generations': group,
      'train_batch_size': sharding.whole(max(rows // group, 1), shards),
      'groups_per_micro_batch': 1,
      'max_resample_batches': 0,
      'min_reward_std': 0.0,
      'task_sampling': 'uniform',
      'sampling.branch': False,
      'keep_best': '',
      'algo.credit': 'outcome',
      'algo.estimate': 'dr_grpo',
      'algo.surrogate': 'reinforce',
      'algo.kl': '',
      'algo.beta': 0.0,
      'algo.correction': '',
      'algo.preference': '',
      'algo.reward_kl': '',
      'algo.reward_beta': 0.0,
      'algo.distill': '',
      **(teacher or {}),
    }
  )
  if imitates:
    out.dialogue.belief, out.dialogue.belief_on_win = '', False
  return out.lock()


class Sampler(NamedTuple):
  """Samples rollouts of a checkpoint; see `__call__`.

  Attributes:
    x: experiment of `config_for`.
    policy: the checkpoint, in both layouts.
    initial: the policy before training, for dialogue.belief='initial'.
    feedback: see `Collector`.
  """

  x: Experiment
  policy: FrozenModel
  initial: FrozenModel | None
  feedback: bool = False

  def __call__(
    self,
    tasks: Sequence[Task],
    key: jax.Array,
    progress: Callable[[int], None] = lambda done: None,
  ) -> groups.Collected:
    """The rollouts of all tasks, train_batch_size tasks at a time.

    Args:
      key: of sampling.
      progress: called with the number of tasks done.
    """
    c = self.x.config
    make = collector.Collector(
      config=c,
      algorithm=self.x.algorithm,
      policy=self.policy,
      reward=self.x.reward,
      stream=task_stream.TaskStream(tasks, c.seed, task_sampling.uniform()),
      sampling=collector.training_sampling(
        c, self.policy.tokenizer.end_ids, self.x.mesh
      ),
      teacher=None,
      oracle=oracle.make_oracle(c, self.x.oracle),
      initial=lambda params: self.initial,
      forward=self.x.programs.forward,
      attach_scores=reward_scores.attach(c, self.x.reward_models, self.x.mesh),
      feedback=self.feedback,
    )
    parts, size = [], c.train_batch_size
    for start in range(0, len(tasks), size):
      some = list(tasks[start : start + size])
      full = some + some[:1] * (size - len(some))  # one shape, one program
      part = make.collect(full, self.policy, jax.random.fold_in(key, start))
      parts.append(_first(part, len(some)))
      progress(start + len(some))
    return join(parts)


def _first(part: groups.Collected, count: int) -> groups.Collected:
  """The first `count` groups."""
  cut = lambda tree: jax.tree.map(lambda x: np.asarray(x)[:count], tree)
  listed = lambda x: None if x is None else x[:count]
  return groups.Collected(
    part.tasks[:count],
    cut(part.rollout),
    cut(part.score),
    part.transcripts[:count],
    part.results[:count],
    listed(part.episodes),
    listed(part.log_fields),
  )


def join(parts: Sequence[groups.Collected]) -> groups.Collected:
  """One collection of several with the same G and T."""
  together = lambda trees: jax.tree.map(lambda *x: np.concatenate(x), *trees)
  listed = lambda name: [row for p in parts for row in getattr(p, name)]
  has = lambda name: getattr(parts[0], name) is not None
  return groups.Collected(
    listed('tasks'),
    together([p.rollout for p in parts]),
    together([p.score for p in parts]),
    listed('transcripts'),
    listed('results'),
    listed('episodes') if has('episodes') else None,
    listed('log_fields') if has('log_fields') else None,
  )


def first(tasks: Sequence[Task], seed: int, count: int) -> list[Task]:
  """The first `count` tasks of the stream that training with `seed` takes."""
  order = task_stream.TaskStream(tasks, seed, task_sampling.uniform())
  return order.at(range(count))


def stream(seed: int, *place: int) -> jax.Array:
  """The key of one of the map's uses of random numbers."""
  key = jax.random.fold_in(jax.random.key(seed), Stream.SIGNAL_MAP)
  for number in place:
    key = jax.random.fold_in(key, number)
  return key


def pass_rates(collected: groups.Collected) -> np.ndarray:
  """f64[X]: share of correct rollouts of each problem."""
  return (np.asarray(collected.score.verdict) == Verdict.CORRECT).mean(-1)


def choose(
  pilot: groups.Collected, count: int, between: tuple[float, float]
) -> np.ndarray:
  """i[X]: the first `count` problems whose pilot pass rate is in the range.

  Raises:
    ValueError: there are fewer than three.
  """
  rate = pass_rates(pilot)
  low, high = between
  found = np.flatnonzero((rate >= low) & (rate <= high))[:count]
  if len(found) < 3:
    raise ValueError(
      f'{len(found)} of {len(rate)} candidates have a pass rate between {low} '
      f'and {high}, and a map needs three problems: widen --pass_rate, or raise '
      '--candidates.'
    )
  return found


def labelled(
  pilot: groups.Collected, rules: extract.Rules, timeout_s: float
) -> list[Task]:
  """The pilot's tasks with its majority answers as labels.

  A task without a majority answer gets none of its rollouts right. Raises
  ValueError for tasks whose verifier is not 'math'.
  """
  labels.check_verifier(pilot.tasks)
  out = []
  for task, rows in zip(pilot.tasks, pilot.transcripts, strict=True):
    line = labels.line(
      task,
      [t.completion for t in rows],
      timeout_s,
      truncated=[t.cut for t in rows],
      rules=rules,
    )
    label = '\\text{none}' if line['answer'] is None else line['answer']
    data = {**task.data, 'label': label, 'label_right': line['right']}
    out.append(task._replace(data=data))
  return out


def rows(rollout: types.Rollout, turns: int) -> Rows:
  """The rows [X*G,T] of a rollout, with weight 1 on the tokens of each turn."""
  tokens = types.rows(np.asarray(rollout.tokens))
  turn = types.rows(np.asarray(rollout.turn))
  of_turn = turn[:, None] == np.arange(turns)[None, :, None]
  return Rows(np.asarray(tokens, np.int32), np.asarray(of_turn, np.float32))
