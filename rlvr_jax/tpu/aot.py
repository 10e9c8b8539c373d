"""Does a run fit a TPU slice? Compiles its programs ahead of time.

Arguments are abstract and devices come from a description of the slice, so any
machine with libtpu can report the memory per chip and the collectives. Nothing
runs; no speed is claimed.
"""

import functools
import math
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.experimental import topologies

from rlvr_jax import experiment, registry, types
from rlvr_jax.io import frozen_model
from rlvr_jax.io import load as load_lib
from rlvr_jax.learner import teacher
from rlvr_jax.models import (
  dialogue_sampler,
  lora,
  sampler,
  sharding,
  transformer,
)
from rlvr_jax.rollouts import belief, episode_end
from rlvr_jax.tpu import hlo

GIB = 2**30
KEY = jax.eval_shape(lambda: jax.random.key(0))


class Chip(NamedTuple):
  """A TPU generation. A device is a `jax.Device`: a chip, or half of one."""

  hbm: int  # GiB per chip, as published (docs.cloud.google.com/tpu/docs)
  usable: float  # GiB per device that the compiler allocates from
  example: str  # a slice, as for `topology`
  per_chip: int = 1  # devices per chip
  options: tuple = ()


CHIPS = {
  # v4 runs as one device per chip (megacore); the description has two.
  'v4': Chip(32, 30.75, '2x2x2', options=(('chip_config_name', 'megacore'),)),
  'v5e': Chip(16, 15.75, '4x4'),
  'v5p': Chip(95, 95.0, '2x2x2'),
  'v6e': Chip(32, 31.25, '4x4'),
  'tpu7x': Chip(192, 94.75, '2x2x2', per_chip=2),
}


class Memory(NamedTuple):
  """Bytes per device."""

  arguments: int
  outputs: int  # other than those in donated arguments
  reused: int  # outputs in donated arguments
  temporaries: int
  resident: int  # arrays of the run that are no argument of this program

  @property
  def total(self) -> int:
    """An upper bound: temporaries may end before outputs begin."""
    return self.arguments + self.outputs + self.temporaries + self.resident


class Report(NamedTuple):
  """The outcome of compiling one program."""

  name: str
  memory: Memory | None  # None: the compiler refused, it does not fit
  refusal: str
  collectives: list[hlo.Collective] | None  # None: the text cannot be read
  seconds: float


class Program(NamedTuple):
  """A program to compile."""

  name: str
  lower: Callable[[], jax.stages.Lowered]
  resident: int  # see Memory
  weights: Any = None  # abstract, the sampler's layout; of programs that decode


def topology(name: str) -> tuple[Chip, list[jax.Device]]:
  """The chip and the (abstract) devices of a slice such as 'v5e:8x8'.

  Raises:
    ValueError: libtpu is missing, or there is no such slice.
  """
  kind, _, shape = name.partition(':')
  examples = ', '.join(f'{k}:{chip.example}' for k, chip in CHIPS.items())
  if kind not in CHIPS or not re.fullmatch(r'\d+(x\d+){1,2}', shape):
    raise ValueError(
      f'Unknown topology {name!r}.{registry.nearest(kind, CHIPS)} Write it '
      f'GENERATION:SHAPE, the shape in chips, for example {examples}. v5e and '
      'v6e have two axes, the others three.'
    )
  chip = CHIPS[kind]
  options = dict(chip.options)
  if set(shape.split('x')) == {'1'}:
    options['chips_per_host_bounds'] = (1, 1, 1)
  try:
    description = topologies.get_topology_desc(
      platform='tpu', topology_name=name, **options
    )
  except RuntimeError as e:
    if 'not installed' in str(e):
      raise ValueError(
        'Compiling for a TPU needs libtpu, which is not installed: '
        "pip install 'rlvr_jax[tpu]'"
      ) from e
    raise ValueError(
      f'No slice {name!r}: {_first_line(e)} Known generations, each with a '
      f'slice: {examples}. A slice is made of hosts of 2x2 chips.'
    ) from e
  return chip, description.devices


def programs(
  c: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> list[Program]:
  """The programs that a training run compiles on `mesh`.

  to_sampler, sample and update; `reference` if the loss has one; `prepare` with
  a critic or a correction; `judge` where a model judges. Dialogues have `begin`
  and `turn` instead of sample, and `belief` if it is measured. Training runs
  `sample` in parts, which hand on what its loop carries: see
  `models.partial_samples`. No weights are read.

  Raises:
    ValueError: a config that the run would refuse.
  """
  x = experiment.Experiment(c, mesh)
  built, algo, is_dialogue = x.programs, x.algorithm, x.is_dialogue
  state, to_sampler = built.abstract, built.to_sampler
  rows = sharding.rows(mesh)
  of = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=rows)
  p, s, n = c.train_batch_size, c.max_prompt_length, c.max_completion_length
  b = p * c.num_generations
  t = s + (episode_end.dialogue_limits(c).length if is_dialogue else n)
  if algo.reward_loss:
    t += 1  # the score stands after the last token
  floats = of((b, t), jnp.float32)
  batch = types.Batch(
    tokens=of((b, t), jnp.int32),
    mask=of((b, t), jnp.bool_),
    adv=floats,
    logp_old=floats,
    logp_ref=floats if algo.needs_reference else None,
    value=floats if algo.critic else None,
    returns=floats if algo.critic else None,
    margin=floats if algo.reward_loss else None,
  )
  bare = batch.replace(logp_ref=None, value=None, returns=None)
  prepared = bare.replace(logp_ref=batch.logp_ref)
  if algo.distill is not None:
    batch = batch.replace(taught=of((b, t), jnp.bool_))
    more = sum(frozen_model.teacher_lengths(c).values())
    more -= sum(frozen_model.policy_lengths(c).values())
    if more:
      wide = of((b, t + more), jnp.int32)
      shift = of((b,), jnp.int32)
      batch = batch.replace(teacher=types.TeacherRows(wide, shift))
  batches = (batch,)
  if x.judged is not None and c.judge.weight:
    pairs = p * c.num_generations * (c.num_generations - 1) // 2
    columns = c.judge.max_prompt_length + c.judge.max_completion_length
    judgments = lambda leaf: of((pairs * x.judged.samples, columns), leaf.dtype)
    batches = (batch, jax.tree.map(judgments, bare))

  weights = _sampler_weights(to_sampler, state.params, mesh)

  def sample():
    # The tokenizer is not read; the number 0 stands for its end token.
    branch = c.num_generations if c.sampling.branch else 0
    sampling = sampler.Sampling(n, (0,), c.temperature, branch=branch)
    return sampler.sample.lower(
      weights,
      of((p, s), jnp.int32),
      of((p,), jnp.int32),
      KEY,
      model=built.model,
      sampling=sampling,
      group=c.num_generations,
    )

  # The weights from before training: of the reference, or for initial beliefs.
  initial = is_dialogue and c.dialogue.belief == 'initial'
  frozen = None  # what a teacher's weights are beside those of the state
  if x.matched is not None:
    frozen = sharding.abstract_params(x.matched, mesh)
  elif algo.distill and c.teacher.weights in teacher.KEEPS_INITIAL:
    frozen, initial = state.params, True
  before = state.params  # those from before training
  if built.model.lora:  # the policy's own base: nothing is kept
    before, initial = lora.swap(state.params, None), False
    frozen = None if x.matched is None else frozen
  keeps = initial or (algo.needs_reference and not built.model.lora)
  read = 0 if frozen is None else nbytes(frozen)
  kept = nbytes(state.params) if keeps else 0
  kept += 0 if x.matched is None else read
  judge = _judge(x, weights)
  other = judge is not None and c.judge.name != 'policy'
  held = nbytes(judge[1]) if other else 0
  kept += held
  all_state = nbytes(state)
  out = [
    Program(
      'to_sampler',
      lambda: to_sampler.lower(state.params),
      all_state - nbytes(state.params) + kept,
    ),
    *(
      _dialogues(c, built.model, weights, of, all_state + kept, mesh)
      if is_dialogue
      else [Program('sample', sample, all_state + kept, weights)]
    ),
    Program(
      'update',
      lambda: built.update.lower(state, batches, frozen),
      kept - read,
    ),
  ]
  if judge is not None:
    # Beside what it is called with: the state, and the policy's own weights.
    rest = all_state + kept + (nbytes(weights) - held if other else 0)
    out.append(Program('judge', functools.partial(_judging, x, *judge), rest))
  if algo.critic or algo.correction:
    out.append(
      Program(
        'prepare',
        lambda: built.prepare.lower(state.params, prepared, floats),
        all_state - nbytes(state.params) + kept,
      )
    )
  if algo.needs_reference:
    # Its argument is the reference's weights, so the state is resident.
    rest = all_state + held - (nbytes(before) if built.model.lora else 0)
    out.append(
      Program(
        'reference',
        lambda: built.forward.lower(before, bare),
        rest + (0 if x.matched is None else read),
      )
    )
  return out


def _judge(x: experiment.Experiment, policy: Any) -> tuple[Any, Any] | None:
  """(model, abstract weights in the sampler's layout) of what judges.

  None: nothing does, or the control `noisy`, which asks no model.
  """
  c = x.config
  if x.judged is None or not c.judge.name:
    return None
  if c.judge.name == 'policy':
    return x.programs.model, policy
  model = transformer.decoder(c.model, load_lib.load_config(c.judge.name))
  params = sharding.abstract_params(model, x.mesh)
  convert = sharding.to_sampler(model, x.mesh)
  return model, _sampler_weights(convert, params, x.mesh)


def _sampler_weights(to_sampler, params, mesh):
  """Abstract weights in the sampler's layout."""
  with sharding.use(mesh):
    out = to_sampler.lower(params).out_info
  of = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
  return jax.tree.map(of, out)


def _judging(x: experiment.Experiment, model: Any, weights: Any):
  """The judgments of one batch, as `rollouts.judge_asking` samples them."""
  c = x.config.judge
  size = sharding.whole(c.batch_size, sharding.batch_shards_in_use())
  rows = sharding.rows(x.mesh)
  of = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32, sharding=rows)
  return sampler.sample.lower(
    weights,
    of(size, c.max_prompt_length),
    of(size),
    jax.eval_shape(lambda: jax.random.split(jax.random.key(0), size)),
    model=model,
    sampling=sampler.Sampling(c.max_completion_length, (0,), c.temperature),
    group=x.judged.samples,
  )


def _dialogues(c, model, weights, of, resident, mesh) -> list[Program]:
  """Programs of `models.dialogue_sampler` and `rollouts.belief`."""
  limits, group = episode_end.dialogue_limits(c), c.num_generations
  p, b = c.train_batch_size, c.train_batch_size * group
  numbers = lambda *shape: of(shape, jnp.int32)
  flags = lambda *shape: of(shape, jnp.bool_)

  def begin():
    return dialogue_sampler.prefill.lower(
      weights,
      numbers(p, c.max_prompt_length),
      numbers(p),
      model=model,
      group=group,
      columns=limits.columns,
    )

  @functools.cache
  def cache():
    # Its sharding is the compiler's choice, known once `begin` is compiled.
    lowered = begin()
    return jax.tree.map(
      lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
      lowered.out_info,
      lowered.compile().output_shardings,
    )

  def turn():
    return dialogue_sampler.decode_turn.lower(
      weights,
      cache(),
      numbers(b, limits.fed),
      numbers(b),
      flags(b),
      KEY,
      model=model,
      sampling=sampler.Sampling(limits.message, (0,), c.temperature),
    )

  def measure_belief():
    probe = b, c.dialogue.max_elicit_length
    moments = b, limits.turns + 1
    return belief.measure.lower(
      weights,
      cache(),
      numbers(*moments),
      flags(*moments),
      numbers(*probe),
      flags(*probe),
      model=model,
      chunk=c.logits_chunk,
    )

  out = [
    Program('begin', begin, resident),
    Program('turn', turn, resident, weights),
  ]
  if c.dialogue.belief:
    # By a base whose weights are made for it, beside the policy's.
    both = model.lora and c.dialogue.belief == 'initial'
    more = nbytes(weights) if both else 0
    out.append(Program('belief', measure_belief, resident + more))
  return out


def nbytes(tree: Any) -> int:
  """Bytes per device of a tree of abstract arrays with shardings."""
  total = 0
  for x in jax.tree.leaves(tree):
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):
      continue  # a PRNG key: a few bytes
    shard = x.sharding.shard_shape(x.shape)
    total += math.prod(shard) * np.dtype(x.dtype).itemsize
  return total


def compile_program(program: Program, mesh: jax.sharding.Mesh) -> Report:
  """Lowers and compiles a program; too large for the chip is a `refusal`."""
  started = time.perf_counter()
  took = lambda: time.perf_counter() - started
  try:
    with sharding.use(mesh):
      compiled = program.lower().compile()
  except jax.errors.JaxRuntimeError as e:
    if 'RESOURCE_EXHAUSTED' not in str(e):
      raise
    return Report(program.name, None, _first_line(e), [], took())
  m = compiled.memory_analysis()
  memory = Memory(
    arguments=m.argument_size_in_bytes,
    outputs=m.output_size_in_bytes - m.alias_size_in_bytes,
    reused=m.alias_size_in_bytes,
    temporaries=m.temp_size_in_bytes,
    resident=program.resident,
  )
  return Report(program.name, memory, '', hlo.of_program(compiled), took())


def _first_line(e):
  return str(e).strip().splitlines()[0].rstrip('.') + '.'
