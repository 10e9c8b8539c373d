"""The rollouts of one step: sampling, scoring and dynamic resampling."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rlvr_jax import algorithm as algorithms
from rlvr_jax import types
from rlvr_jax.envs import dialogue
from rlvr_jax.io import frozen_model
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sampler, sharding, token_logprobs
from rlvr_jax.ops import estimators
from rlvr_jax.random_streams import Stream
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import (
  belief,
  dynamic_sampling,
  episode,
  episode_end,
  episode_scores,
  groups,
  imitation,
  lessons,
  model_judge,
  single_turn,
)
from rlvr_jax.rollouts.task_stream import Place, TaskStream
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract

# Methods that train on texts of the tasks: nothing is sampled.
GIVEN = ('sft', 'preference', 'reward_model')


def training_sampling(
  c, end_ids: tuple[int, ...], mesh: jax.sharding.Mesh
) -> sampler.Sampling:
  """The sampling settings of a config for training rollouts."""
  return sampler.Sampling(
    c.max_completion_length,
    end_ids,
    c.temperature,
    compact_batch=mesh.size == 1,
    branch=c.num_generations if c.sampling.branch else 0,
  )


class Collection(NamedTuple):
  """The rollouts of one step.

  Attributes:
    rollout, score: of the P groups to train on.
    parts: everything that was sampled, one part per attempt: see
      max_resample_batches.
    metrics: means over everything that was sampled.
    place: in the stream of tasks, after those of this step.
    judgments: rollout and score of the policy's judgments, if they are trained.
    lesson: what a teacher judges in the rollout, if there is one.
  """

  rollout: types.Rollout
  score: types.Score
  parts: list[groups.Collected]
  metrics: dict[str, float]
  place: Place
  judgments: tuple[types.Rollout, types.Score] | None = None
  lesson: types.Lesson | None = None


class Collector(NamedTuple):
  """Makes the rollouts of a step: see `__call__`.

  Attributes:
    policy: the model in training; its weights are passed to each call.
    stream: of the training tasks.
    teacher: samples in place of the policy for methods 'distill' and
      'rejection'; may be None.
    oracle: from `oracle.make_oracle`, for dialogues.
    initial: (the policy's parameters) -> the policy before training, for
      dialogue.belief='initial'.
    forward: (parameters, batch) -> Outputs, for rewards that read the
      policy's own probabilities.
    attach_scores: from `reward_scores.attach`, for reward models.
    judge: of the completions, if a reward reads what it says.
    feedback: whether transcripts have the verifier's feedback, for a teacher.
  """

  config: Any
  algorithm: algorithms.Algorithm
  policy: FrozenModel
  reward: base.Reward
  stream: TaskStream
  sampling: sampler.Sampling
  teacher: FrozenModel | None
  oracle: episode.Oracle
  initial: Callable[[Any], FrozenModel] | None
  forward: Callable[[Any, types.Batch], token_logprobs.Outputs]
  attach_scores: Callable = lambda tasks, transcripts: transcripts
  judge: model_judge.ModelJudge | None = None
  feedback: bool = False

  def __call__(
    self,
    sampler_params: Any,
    params: Any,
    step: int,
    place: Place,
    clock: Callable[[str], None],
  ) -> Collection:
    """The rollouts of `step`.

    With max_resample_batches, batches of further tasks are sampled until
    train_batch_size groups carry gradient (dynamic sampling of DAPO).

    Args:
      sampler_params, params: the policy's weights, in both layouts.
      place: in the stream of tasks.
      clock: called with the name of each stage when it ends.
    """
    c = self.config
    policy = self.policy._replace(sampler_params=sampler_params, params=params)
    key = jax.random.fold_in(jax.random.key(c.seed), Stream.ROLLOUTS)
    key = jax.random.fold_in(key, step)
    parts, keep, spread, after = dynamic_sampling.collect(
      c,
      self.algorithm,
      self.stream,
      place,
      step,
      lambda tasks, attempt: self.collect(
        tasks, policy, jax.random.fold_in(key, attempt), clock
      ),
    )
    metrics = groups.metrics(parts, spread)
    metrics |= self.stream.metrics(place, step)
    if dialogue.is_dialogue(self.stream.tasks[0]):
      metrics |= episode_scores.metrics(parts)
    metrics |= lessons.metrics(parts)
    rollout, score, lesson = parts[0].rollout, parts[0].score, parts[0].lesson
    if c.max_resample_batches:
      metrics['resample_batches'] = len(parts) - 1
      rollout, score, lesson = dynamic_sampling.select(
        parts, keep, c.train_batch_size
      )
    judgments = parts[0].judgments
    return Collection(rollout, score, parts, metrics, after, judgments, lesson)

  def collect(
    self,
    tasks: Sequence[Task],
    policy: FrozenModel,
    key: jax.Array,
    clock: Callable[[str], None] = lambda stage: None,
  ) -> groups.Collected:
    """The scored rollouts of these tasks, num_generations of each.

    Args:
      policy: with the weights that sample.
      key: of sampling.
      clock: see `__call__`.
    """
    is_dialogue = dialogue.is_dialogue(tasks[0])
    collect = self._dialogues if is_dialogue else self._single_turn
    part = collect(tasks, policy, key, clock)
    if self.algorithm.distill is None:
      return part
    part = lessons.teach(self.config, part, self._encode)
    clock('teacher')
    return part

  @property
  def writes(self) -> str:
    """Who samples the rows: 'policy' or 'teacher'; '' if texts are given."""
    if self.config.method in GIVEN:
      return ''
    return 'teacher' if self._writer(self.policy) is self.teacher else 'policy'

  def _encode(self, task: Task) -> list[int]:
    return single_turn.encode_task(
      task, self.policy.tokenizer, self.config.system_prompt
    )

  def _writer(self, policy: FrozenModel) -> FrozenModel:
    """The model that samples the rows: see the table in `learner.batches`."""
    if self.config.method == 'rl' or self.teacher is None:
      return policy
    return self.teacher

  def _single_turn(self, tasks, policy, key, clock) -> groups.Collected:
    c, writer = self.config, self._writer(policy)
    uses_greedy = 'greedy' in estimators.takes(self.algorithm.estimate)

    def sample(prompt, length):
      return frozen_model.sample_in_parts(
        writer, prompt, length, key, self.sampling, group=c.num_generations
      )

    def given(prompt, length):
      del prompt, length
      targets = imitation.targets(
        tasks,
        policy.tokenizer,
        c.max_completion_length,
        imitation.fields(c),
      )
      return [targets]

    def greedy(prompt, length):
      one = self.sampling._replace(temperature=0.0, branch=0)
      out = frozen_model.sample(writer, prompt, length, key, one)
      return sharding.to_host(out)

    def judge(row_tasks, transcripts):
      return self.judge(row_tasks, transcripts, c.num_generations, key, policy)

    def policy_outputs(rollout):
      unweighted = np.zeros(rollout.tokens.shape, np.float32)
      batch = sharding.to_mesh(types.flatten(rollout, unweighted))
      return sharding.to_host(self.forward(policy.params, batch))

    out = single_turn.collect(
      tasks,
      given if c.method in GIVEN else sample,
      encode=self._encode,
      tokenizer=policy.tokenizer,
      reward=self.reward,
      group=c.num_generations,
      max_prompt_length=c.max_prompt_length,
      timeout_s=c.verify_timeout_s,
      rules=extract.rules_of(c.verifier),
      feedback=self.feedback,
      greedy=greedy if c.method == 'rl' and uses_greedy else None,
      policy_outputs=policy_outputs
      if base.needs_signals(c.reward_funcs)
      else None,
      attach_scores=self.attach_scores,
      branch=bool(self.sampling.branch),
      judge=None if self.judge is None else judge,
      clock=clock,
    )
    if c.method == 'reward_model':
      label, margin = imitation.labels(tasks, imitation.fields(c))
      score = out.score.replace(
        reward=label[..., None],
        turns=np.ones(label[..., None].shape, bool),
        margin=margin,
      )
      out = out._replace(score=score)
    return out

  def _dialogues(self, tasks, policy, key, clock) -> groups.Collected:
    c, limits = self.config, episode_end.dialogue_limits(self.config)
    if c.method == 'sft':
      scripts = imitation.demonstrations(tasks, c.num_generations)
      actor = episode.scripted_actor(scripts, policy.tokenizer, limits)
    else:
      actor = episode.policy_actor(
        self._writer(policy),
        self.sampling._replace(compact_batch=False),
        key,
        group=c.num_generations,
        limits=limits,
      )
    episodes, cache, bounds = episode.run_episodes(
      tasks,
      actor,
      encode=self._encode,
      tokenizer=policy.tokenizer,
      group=c.num_generations,
      max_prompt_length=c.max_prompt_length,
      limits=limits,
      oracle=self.oracle,
    )
    clock('rollout')
    initial = self.initial(policy.params) if self.initial else None
    beliefs, elicit = None, belief.make_belief_fn(c, policy, initial)
    if elicit is not None:
      beliefs = elicit(episodes, cache, bounds)
      del initial, elicit  # weights that may be made for this alone
      if not c.dialogue.belief_on_win:
        for row, e in enumerate(episodes):
          if e.won:
            n = len(e.messages)
            beliefs[row, n:] = beliefs[row, n - 1]
      clock('belief')
    out = episode_scores.collect(
      episodes,
      episode_scores.grade(episodes, self.reward),
      beliefs,
      group=c.num_generations,
      max_turns=limits.turns,
      columns=c.max_prompt_length + limits.length,
      feedback=self.feedback,
    )
    clock('reward')
    return out
