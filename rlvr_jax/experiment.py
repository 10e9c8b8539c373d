"""Builds the objects of a run from its config.

`Experiment` builds each part once, on first access: training needs all of them
(`build`), an evaluation a few, ahead-of-time compilation only the programs.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import ml_collections

from rlvr_jax import algorithm as algorithms
from rlvr_jax import checks, registry, resume
from rlvr_jax.envs import dialogue, labels
from rlvr_jax.evaluation import evaluate, evaluator
from rlvr_jax.io import adapters as adapters_lib
from rlvr_jax.io import checkpoint, frozen_model
from rlvr_jax.io import load as load_lib
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import programs as programs_lib
from rlvr_jax.learner import teacher
from rlvr_jax.models import memory, model_config, sharding, transformer
from rlvr_jax.rewards import base, judged
from rlvr_jax.rollouts import (
  branches,
  episode_end,
  groups,
  judge_checks,
  single_turn,
)
from rlvr_jax.rollouts.task_stream import TaskStream
from rlvr_jax.tasks import Env, Task


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The parts of a run; read-only.

  Only the loop in `train` and what it calls directly take all of it. Functions
  below them take the parts that they use, so that they are tested alone.

  Attributes:
    config: all keys, from `config.load`.
    mesh: of devices, from `mesh_of`.
  """

  config: ml_collections.ConfigDict
  mesh: jax.sharding.Mesh

  def __post_init__(self):
    checks.check_config(self.config, self.mesh)

  @functools.cached_property
  def env(self) -> Env:
    """Tasks by split, without the labels of c.labels."""
    return checks.environment(self.config)

  @functools.cached_property
  def labelled(self) -> Env:
    """Tasks by split, with the labels of c.labels if it is set."""
    c = self.config
    settings = labels.settings(c, labels.SHARED)
    return labels.attach(self.env, c.labels, c.reward_funcs, settings)

  @functools.cached_property
  def tasks(self) -> Sequence[Task]:
    """Training tasks."""
    return checks.training_tasks(self.config, self.labelled.get('train', ()))

  @functools.cached_property
  def stream(self) -> TaskStream:
    """The training tasks, in the order in which steps take them."""
    c = self.config
    return TaskStream(self.tasks, c.seed, checks.task_sampling(c))

  @functools.cached_property
  def eval_tasks(self) -> list[Task]:
    """Tasks that a run evaluates on while it trains."""
    return checks.eval_tasks(self.config, self.labelled)

  @functools.cached_property
  def all_eval_tasks(self) -> list[Task]:
    """The same without labels: a trained run is evaluated without the file."""
    return checks.eval_tasks(self.config, self.env)

  @functools.cached_property
  def is_dialogue(self) -> bool:
    """Whether tasks are episodes of several turns.

    Decided by the name of an environment of the package: building it may need
    files, which ahead-of-time compilation does without. One that a config file
    registers is asked for a task.
    """
    if registry.parse(self.config.env)[0] in dialogue.GAMES:
      return True
    functions = registry.named('env', self.config.env).values()
    if all(f.__module__.startswith('rlvr_jax.') for f in functions):
      return False
    return dialogue.is_dialogue(self.tasks[0])

  @functools.cached_property
  def reward(self) -> base.Reward:
    """The weighted sum of c.reward_funcs."""
    c = self.config
    return groups.agreed(base.build(c.reward_funcs, c.reward_weights))

  @functools.cached_property
  def algorithm(self) -> algorithms.Algorithm:
    """The loss and its advantages, as c.method uses them."""
    c = self.config
    algorithm = algorithms.from_config(c.algo)
    checks.check_algorithm(c, algorithm)
    return algorithm if c.method == 'rl' else algorithms.supervised(algorithm)

  @functools.cached_property
  def architecture(self) -> model_config.ModelConfig:
    """The policy's architecture."""
    c = self.config
    with registry.naming('model.name', c.model.name):
      architecture = load_lib.load_config(c.model.name)
    # The policy reads what a teacher reads, unless that is another model.
    other = bool(c.teacher.name)
    lengths = (frozen_model.teacher_lengths, frozen_model.policy_lengths)[other]
    model_config.check_positions(architecture, lengths(c))
    if c.judge.name == 'policy':
      model_config.check_positions(architecture, frozen_model.judge_lengths(c))
    checks.check_dialogue(c, self.algorithm, self.is_dialogue, architecture)
    branches.check(c, self.is_dialogue, architecture.vocab_size)
    return architecture

  @functools.cached_property
  def teacher(self) -> FrozenModel | None:
    """The model of teacher.name, if any: it writes the rows, or judges them."""
    c = self.config
    if not c.teacher.name:
      return None
    lengths = frozen_model.teacher_lengths(c)
    found = frozen_model.load(
      'teacher.name',
      c.teacher.name,
      c.model,
      self.mesh,
      lengths=lengths,
      sampling=c.method != 'rl' or bool(c.teacher.accuracy_every),
      scoring=bool(c.algo.distill),
    )
    if self.is_dialogue:
      episode_end.check_positions(
        c,
        found.model.config.max_position,
        f'teacher.name={registry.show(c.teacher.name)}',
        context=lengths.get('teacher.max_context_length', 0),
      )
    return found

  @functools.cached_property
  def matched(self) -> transformer.Decoder | None:
    """The decoder of teacher.name if it judges the rows; no weights."""
    c = self.config
    if not (c.algo.distill and c.teacher.name):
      return None
    return transformer.decoder(c.model, load_lib.load_config(c.teacher.name))

  @functools.cached_property
  def reward_models(self) -> dict[str, FrozenModel]:
    """The models that reward_funcs name."""
    return {
      name: frozen_model.load_reward_model(name, self.config.model, self.mesh)
      for name in base.reward_models(self.config.reward_funcs)
    }

  @functools.cached_property
  def oracle(self) -> FrozenModel | None:
    """The model that replies in dialogues; None: the environment replies."""
    c = self.config
    if not c.dialogue.oracle:
      return None
    return frozen_model.load(
      'dialogue.oracle',
      c.dialogue.oracle,
      c.model,
      self.mesh,
      lengths={
        'dialogue.max_oracle_prompt': c.dialogue.max_oracle_prompt,
        'dialogue.max_oracle_length': c.dialogue.max_oracle_length,
      },
    )

  @functools.cached_property
  def judged(self) -> judged.Settings | None:
    """The options of the reward that asks a judge; None without one."""
    settings = judged.settings(self.config.reward_funcs)
    judge_checks.check_config(self.config, settings, self.is_dialogue)
    return settings

  @functools.cached_property
  def judge(self) -> FrozenModel | None:
    """The model of judge.name; None: there is none, or it is the policy."""
    c = self.config
    if c.judge.name in ('', 'policy'):
      return None
    return frozen_model.load(
      'judge.name',
      c.judge.name,
      c.model,
      self.mesh,
      lengths=frozen_model.judge_lengths(c),
    )

  @functools.cached_property
  def programs(self) -> programs_lib.Programs:
    """The jitted functions; each compiles when it is first called."""
    c = self.config
    return programs_lib.build(
      c,
      self.mesh,
      self.algorithm,
      self.architecture,
      teacher=self.matched,
      certainty=base.needs_signals(c.reward_funcs),
      judgments=self.judged.samples // 2
      if self.judged and c.judge.weight
      else 0,
    )

  @property
  def believes_initially(self) -> bool:
    """Whether beliefs are those of the policy before training."""
    return self.is_dialogue and self.config.dialogue.belief == 'initial'

  @property
  def keeps_initial(self) -> bool:
    """Whether updates read the weights from before training."""
    kept = self.config.teacher.weights in teacher.KEEPS_INITIAL
    teaches = self.algorithm.distill is not None and kept
    return self.algorithm.needs_reference or teaches

  @property
  def needs_initial(self) -> bool:
    """Whether a resumed run needs the weights from before training too."""
    adapted = bool(self.config.model.lora)  # a checkpoint lacks the base
    return self.keeps_initial or self.believes_initially or adapted

  def checkpoint(
    self,
    workdir: str | pathlib.Path,
    step: int | None,
    **options: bool,
  ) -> FrozenModel:
    """The policy of run `workdir` at a step: `frozen_model.load_checkpoint`.

    Args:
      **options: `scoring` and `value_head`.
    """
    return frozen_model.load_checkpoint(
      self.config, workdir, step, self.mesh, **options
    )


def mesh_of(
  config: ml_collections.ConfigDict,
  devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
  """The mesh of mesh.shape; ValueError for a missing key or a bad value."""
  checks.check_values(config)
  return sharding.make_mesh(config.mesh.shape, devices)


def create(config: ml_collections.ConfigDict) -> Experiment:
  """The experiment on the devices of this machine."""
  return Experiment(config, mesh_of(config))


class Pretrained(NamedTuple):
  """The policy before training, from `build` to `start`.

  Attributes:
    policy: model and tokenizer; `params` are None for a model without weights,
      and where a checkpoint has all weights that the run needs.
    read: digests of tasks and models, see `digests`.
    adapters: of model.adapter; None without.
  """

  policy: FrozenModel
  read: dict[str, str]
  adapters: adapters_lib.Adapters | None = None


def build(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> tuple[Experiment, Pretrained]:
  """The experiment of a training run; refuses all that cannot work.

  Nothing is written. Cheap checks come first: a misspelt reward is refused
  before weights are read. `workdir` may hold a run, which is then resumed.

  Raises:
    ValueError: config, data or model that cannot work, or `workdir` holds a
      run with another config or other data.
  """
  resume.check_config(workdir, config)
  x, c = create(config), config
  saved = checkpoint.extra(workdir)
  # Unknown names are refused before models are read.
  x.reward, x.stream, x.judged  # noqa: B018
  evaluator.check_keep_best(c, x.eval_tasks)
  read = resume.tasks_read(c, x.env, x.tasks, x.eval_tasks)
  resume.check_content(c, workdir, saved, read)
  checks.check_reward(c, x.reward, x.tasks)
  memory.check(c, x.architecture)
  read |= {} if x.teacher is None else x.teacher.read
  read |= {} if x.oracle is None else x.oracle.read
  read |= {} if x.judge is None else x.judge.read
  for model in x.reward_models.values():
    read |= model.read
    # A chat template that fails on tasks fails here.
    single_turn.encode_task(x.tasks[0], model.tokenizer, model.system_prompt)
  place = sharding.placer(x.programs.abstract.params)
  if checkpoint.steps(workdir) and not x.needs_initial:
    place = lambda path, leaf: None  # the checkpoint has the weights
  found = adapters_lib.read_for(c.model, x.architecture)
  loaded = frozen_model.load_policy(c, found, place)
  tokenizer = loaded.tokenizer.with_options(c.chat_template_args)
  read |= frozen_model.policy_read(loaded, tokenizer, found)
  labels.check_model(c.labels, c, read)
  resume.check_content(c, workdir, saved, read)
  policy = FrozenModel(
    x.programs.model, tokenizer, loaded.params, source=loaded.source
  )
  encode = evaluate.encoder(c, policy)
  checks.check_tasks(c, x.tasks, x.eval_tasks, encode, tokenizer)
  if x.judged is not None:
    asks = tokenizer if x.judge is None else x.judge.tokenizer
    judge_checks.check_prompts(c.judge, x.judged, x.tasks, asks)
  if x.teacher is not None:
    frozen_model.check_same_vocabulary(
      ('teacher.name', c.teacher.name, x.teacher.tokenizer),
      ('model.name', c.model.name, tokenizer),
    )
  return x, Pretrained(policy, read, found)
