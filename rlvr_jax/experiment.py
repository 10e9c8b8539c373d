"""A config made into the objects of a run.

`Experiment` makes each part when it is first asked for, and once: training
asks for all of them (`build`), an evaluation for a few, ahead-of-time
compilation for the programs alone.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlvr_jax import algorithm as algorithms
from rlvr_jax import checks, digests, registry, resume, types
from rlvr_jax.envs import dialogue, labels
from rlvr_jax.evaluation import evaluate
from rlvr_jax.io import checkpoint, frozen_model
from rlvr_jax.io import load as load_lib
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.learner import programs as programs_lib
from rlvr_jax.learner import train_step
from rlvr_jax.models import model_config, sharding, transformer
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import collector, oracle
from rlvr_jax.tasks import Env, Task


@dataclasses.dataclass(frozen=True)
class Experiment:
  """The parts of a run; read-only.

  Attributes:
    config: all keys, as `config.load` gives them.
    mesh: the devices; see `mesh_of`.
  """

  config: Any
  mesh: jax.sharding.Mesh

  def __post_init__(self):
    checks.check_config(self.config, self.mesh)

  @functools.cached_property
  def env(self) -> Env:
    """Tasks by split, without labels."""
    return checks.environment(self.config)

  @functools.cached_property
  def labelled(self) -> Env:
    """`env` with the labels of the config's file, if it names one."""
    c = self.config
    settings = labels.settings(c, labels.SHARED)
    return labels.attach(self.env, c.labels, c.reward_funcs, settings)

  @functools.cached_property
  def tasks(self) -> Sequence[Task]:
    """What is trained on."""
    return checks.training_tasks(self.config, self.labelled['train'])

  @functools.cached_property
  def eval_tasks(self) -> list[Task]:
    return checks.eval_tasks(self.config, self.labelled)

  @functools.cached_property
  def is_dialogue(self) -> bool:
    """Whether tasks are episodes of several turns.

    By the name of the environment: to make it may need files.
    """
    return registry.parse(self.config.env)[0] in dialogue.GAMES

  @functools.cached_property
  def reward(self) -> base.Reward:
    return base.build(self.config.reward_funcs, self.config.reward_weights)

  @functools.cached_property
  def algorithm(self) -> algorithms.Algorithm:
    c = self.config
    algorithm = algorithms.from_config(c.algo)
    checks.check_algorithm(c, algorithm)
    return algorithm if c.method == 'rl' else algorithms.supervised(algorithm)

  @functools.cached_property
  def architecture(self) -> model_config.ModelConfig:
    """Of the policy."""
    c = self.config
    with registry.naming('model.name', c.model.name):
      found = load_lib.load_config(c.model.name)
    model_config.check_positions(found, frozen_model.policy_lengths(c))
    checks.check_dialogue(c, self.algorithm, self.is_dialogue, found)
    return found

  @functools.cached_property
  def teacher(self) -> FrozenModel | None:
    c = self.config
    if not c.teacher.name:
      return None
    return frozen_model.load(
      'teacher.name',
      c.teacher.name,
      c.model,
      self.mesh,
      lengths=frozen_model.policy_lengths(c),
      scoring=c.teacher.logits,
    )

  @functools.cached_property
  def matched(self) -> transformer.Decoder | None:
    """The teacher's architecture, where the loss matches its distribution."""
    c = self.config
    if not c.teacher.logits:
      return None
    return transformer.decoder(c.model, load_lib.load_config(c.teacher.name))

  @functools.cached_property
  def oracle(self) -> FrozenModel | None:
    """The model that answers in dialogues; None: the environment does."""
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
  def programs(self) -> programs_lib.Programs:
    """The compiled functions; nothing is compiled before it is called."""
    c = self.config
    return programs_lib.build(
      c,
      self.mesh,
      self.algorithm,
      self.architecture,
      teacher=self.matched,
      certainty=base.needs_signals(c.reward_funcs),
    )

  def checkpoint(
    self, workdir, step: int | None, *, scoring: bool = False
  ) -> FrozenModel:
    """The policy of run `workdir` at a step: `frozen_model.load_checkpoint`."""
    return frozen_model.load_checkpoint(
      self.config, workdir, step, self.mesh, scoring=scoring
    )


def mesh_of(config, devices=None) -> jax.sharding.Mesh:
  """The mesh of mesh.shape; ValueError for a key that cannot be what it is."""
  checks.check_values(config)
  return sharding.make_mesh(config.mesh.shape, devices)


def open(config) -> Experiment:
  """The experiment on this machine's devices; little is made yet."""
  return Experiment(config, mesh_of(config))


class Start(NamedTuple):
  """What a run starts, or goes on, from.

  Attributes:
    policy: model and tokenizer; `params` are the weights before training, None
      where a checkpoint has all that is needed.
    read: digests of tasks and models, see `digests`.
  """

  policy: FrozenModel
  read: dict[str, str]


def build(config, workdir: pathlib.Path) -> tuple[Experiment, Start]:
  """The experiment of a training run; all that can be refused is, here.

  Nothing is written. `workdir` may hold a run that is gone on with.

  Raises:
    ValueError: config, data or model that cannot work, or another run's.
  """
  resume.check_config(workdir, config)
  x, c = open(config), config
  saved = checkpoint.extra(workdir)
  x.reward  # noqa: B018 (specs are refused before models are read)
  evaluate.check_keep_best(c, x.eval_tasks)
  read = resume.tasks_read(c, x.env, x.tasks, x.eval_tasks)
  resume.check_content(c, workdir, saved, read)
  checks.check_memory(c, x.architecture)
  read |= {} if x.teacher is None else x.teacher.read
  read |= {} if x.oracle is None else x.oracle.read
  place = sharding.placer(x.programs.abstract.params)
  if checkpoint.steps(workdir) and not _needs_initial(x):
    place = lambda path, leaf: None  # the checkpoint has the weights
  loaded = load_lib.load(c.model.name, dtype=c.model.param_dtype, place=place)
  tokenizer = loaded.tokenizer.with_options(c.chat_template_args)
  read |= digests.of_model('model.name', loaded.weights, tokenizer)
  labels.check_model(c.labels, c, read)
  resume.check_content(c, workdir, saved, read)
  policy = FrozenModel(
    x.programs.model, tokenizer, loaded.params, source=loaded.source
  )
  encode = evaluate.encoder(c, policy)
  checks.check_tasks(c, x.tasks, x.eval_tasks, encode, tokenizer)
  if x.teacher is not None:
    frozen_model.check_same_vocabulary(
      ('teacher.name', c.teacher.name, x.teacher.tokenizer),
      ('model.name', c.model.name, tokenizer),
    )
  return x, Start(policy, read)


def _needs_initial(x: Experiment) -> bool:
  """Whether the policy before training is asked for throughout."""
  return x.algorithm.kl is not None or _believes_initially(x)


def _believes_initially(x: Experiment) -> bool:
  return x.is_dialogue and x.config.dialogue.belief == 'initial'


class Run(NamedTuple):
  """What the loop goes on with: `state` and `progress` change, no other.

  Attributes:
    resumed: whether they come from a checkpoint.
    policy: model, tokenizer and where they came from; without weights.
    read: digests of tasks and models, see `digests`.
    reference: of the kl in the loss.
    collect: makes the rollouts of a step.
    evaluate: see `evaluate.Evaluator`.
  """

  state: types.TrainState
  progress: resume.Progress
  resumed: bool
  policy: FrozenModel
  read: dict[str, str]
  reference: FrozenModel | None
  collect: collector.Collector
  evaluate: evaluate.Evaluator


def start(x: Experiment, begun: Start, saved) -> Run:
  """State and progress: resumed, else pretrained, else random.

  Call it within `sharding.use(x.mesh)`.

  Args:
    saved: the run's open checkpoints.
  """
  c, programs = x.config, x.programs
  policy = begun.policy._replace(params=None)

  def initial():
    if begun.policy.params is None:
      key = jax.random.key(c.seed)
      return sharding.init_params(programs.model, key, x.mesh)
    place = sharding.placer(programs.abstract.params)
    return transformer.with_value(programs.model, begun.policy.params, place)

  found = saved.restore(programs.abstract)
  reference = believer = None
  if x.algorithm.kl is not None:
    # A copy: the optimiser takes over the memory of the weights themselves.
    reference = policy._replace(params=jax.tree.map(jnp.copy, initial()))
  if _believes_initially(x):
    believer = policy._replace(sampler_params=programs.to_sampler(initial()))
  if found is None:
    state = train_step.new_state(
      initial(),
      tx=programs.tx,
      trainable=c.optimizer.trainable,
      abstract=programs.abstract,
    )
    progress = resume.Progress()
  else:
    state, extra, _ = found
    progress = resume.Progress.of(extra)
  answers = oracle.make_oracle(c, x.oracle)
  return Run(
    state,
    progress,
    found is not None,
    policy,
    begun.read,
    reference,
    collector.Collector(
      config=c,
      algorithm=x.algorithm,
      policy=policy,
      reward=x.reward,
      tasks=x.tasks,
      sampling=collector.training_sampling(c, policy.tokenizer.end_ids, x.mesh),
      teacher=x.teacher,
      oracle=answers,
      initial=believer,
      forward=programs.forward,
    ),
    evaluate.Evaluator(c, policy, x.eval_tasks, answers, x.mesh),
  )
