"""What may stand on the map? A signal: a reward, and what makes credit of it.

  REWARD[+REWARD ...][|ESTIMATOR][|AGGREGATE][|CREDIT][ on ENV]
  distill(OPTION=VALUE, ...)[|ESTIMATOR][|AGGREGATE][ on ENV]
  sft[ on ENV]

Each part is a spec of the registry; which kind a part after the reward has is
known by its name. Left out, they are dr_grpo, seq_mean_token_sum and outcome.
The reward `run` stands for the run's own reward_funcs and weights. A signal
`on ENV` is computed from samples on that environment's tasks, such as the
single steps of `steps(...)`; `sft` is imitation of the worked solutions of the
tasks. '{best}' in a part stands for the best constant baseline of the cell.

`distill` is the word of a teacher on each token, such as
`distill(context=solution, divergence=reverse)`. Its options are keys of the
config's `teacher`, and `divergence` of `algo`, by default as the run has them;
and `use`, which is algo.distill, 'loss' if left out. A use that keeps the
outcome's advantages has an estimator.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from rlvr_jax import algorithm as algorithms
from rlvr_jax import registry
from rlvr_jax.ops import estimators
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import context, groups

KINDS = ('estimator', 'aggregate', 'credit')
DEFAULTS = ('dr_grpo', 'seq_mean_token_sum', 'outcome')
BEST = '{best}'
OWN = 'run'  # the reward of the run's config
IMITATION = 'sft'
DISTILLATION = 'distill'


class Signal(NamedTuple):
  """A training signal of the map.

  Attributes:
    name: as it was given.
    rewards, weights: specs of the rewards and their weights; () to imitate.
    algorithm: with credit, estimator and aggregate; no kl, no surrogate.
    estimate, credit: their specs.
    env: of the tasks; '' for the run's own.
    imitates: whether it is the imitation of solutions.
    teacher: {config key: value} of a signal with a teacher; None without one.
  """

  name: str
  rewards: tuple[str, ...]
  weights: tuple[float, ...]
  algorithm: algorithms.Algorithm
  estimate: str
  credit: str
  env: str
  imitates: bool
  teacher: Mapping[str, Any] | None = None

  @property
  def reward(self) -> base.Reward:
    """The weighted sum of the rewards."""
    return groups.agreed(base.build(self.rewards, self.weights))


def split(text: str, separator: str) -> list[str]:
  """The parts of `text` between separators outside brackets and quotes."""
  parts, depth, quote, start, i = [], 0, '', 0, 0
  while i < len(text):
    letter = text[i]
    if quote:
      quote = '' if letter == quote else quote
    elif letter in '\'"':
      quote = letter
    elif letter in '([{':
      depth += 1
    elif letter in ')]}':
      depth -= 1
    elif depth == 0 and text.startswith(separator, i):
      parts.append(text[start:i])
      i = start = i + len(separator)
      continue
    i += 1
  return [part.strip() for part in (*parts, text[start:])]


def parse(text: str, c: ml_collections.ConfigDict, best: float = 0.5) -> Signal:
  """The signal that `text` names.

  Args:
    text: see the top of the file.
    c: the run's config, for its own rewards and for algo.turn_statistics.
    best: what '{best}' stands for.

  Raises:
    ValueError: names the signal and what is wrong with it.
  """
  with registry.naming('signal', text):
    return _parse(text, c, best)


def _parse(text, c, best):
  rule = 'write REWARD|ESTIMATOR|AGGREGATE|CREDIT on ENV, all but REWARD free'
  front, *env = split(text, ' on ')
  reward, *rest = split(front.replace(BEST, f'{best:.6g}'), '|')
  if len(env) > 1 or not all((reward, *rest, *env)):
    raise ValueError(f'a part is empty or there are two environments: {rule}.')
  imitates = reward == IMITATION
  if imitates and rest:
    raise ValueError(
      f'{IMITATION} imitates solutions, each token with weight 1, so it has no '
      f'estimator: write {IMITATION!r}.'
    )
  for spec in env:
    registry.named('env', spec)
  teacher = None
  if reward.partition('(')[0] == DISTILLATION:
    teacher, reward = _teacher(reward, c), 'outcome'
  chosen: dict[str, str] = {}
  for part in rest:
    kind = _kind(part)
    if kind in chosen:
      raise ValueError(
        f'{chosen[kind]!r} and {part!r} are both of the kind {kind}: {rule}.'
      )
    chosen[kind] = part
  parts = {k: chosen.get(k, d) for k, d in zip(KINDS, DEFAULTS)}
  algo = copy.deepcopy(c.algo)
  with algo.unlocked():
    algo.update(
      estimate=parts['estimator'],
      aggregate=parts['aggregate'],
      credit=parts['credit'],
      surrogate='reinforce',
      kl='',
      beta=0.0,
      entropy_coef=0.0,
      correction='',
      preference='',
      reward_kl='',
      reward_beta=0.0,
      distill='',
    )
    algo.update(
      {
        key.removeprefix('algo.'): value
        for key, value in (teacher or {}).items()
        if key.startswith('algo.')
      }
    )
  algorithm = algorithms.from_config(algo)
  if 'greedy' in estimators.takes(algorithm.estimate):
    raise ValueError(
      f'{parts["estimator"]} compares with a greedy completion, which the map '
      'does not sample: take another estimator.'
    )
  specs: list[str] = []
  weights: list[float] = []
  for spec in () if imitates else split(reward, '+'):
    if spec == OWN:
      specs += c.reward_funcs
      weights += c.reward_weights
    else:
      specs.append(spec)
      weights.append(1.0)
  if not imitates:
    base.build(specs, weights)  # refuses unknown names and repetitions
  return Signal(
    name=text,
    rewards=tuple(specs),
    weights=tuple(weights),
    algorithm=algorithm,
    estimate=parts['estimator'],
    credit=parts['credit'],
    env=env[0] if env else '',
    imitates=imitates,
    teacher=teacher,
  )


def _teacher(text: str, c: ml_collections.ConfigDict) -> dict[str, Any]:
  """The config keys that `distill(...)` names, and those of the run."""
  _, args, options = registry.parse(text)
  free = sorted({*c.teacher, 'divergence', 'use'} - {'accuracy_every'})
  wrong = sorted({*map(repr, args), *options} - {*free})
  if wrong:
    raise ValueError(
      f'{DISTILLATION} has no option {", ".join(wrong)}: write '
      f'{DISTILLATION}(OPTION=VALUE, ...) with {", ".join(free)}.'
    )
  out = {f'teacher.{key}': c.teacher[key] for key in c.teacher}
  out |= {
    'teacher.accuracy_every': 0,
    'algo.divergence': c.algo.divergence,
    'algo.distill': options.pop('use', 'loss'),
  }
  section = lambda key: 'algo' if key == 'divergence' else 'teacher'
  out |= {f'{section(key)}.{key}': v for key, v in options.items()}
  if not out['teacher.name'] and out['teacher.weights'] == 'ema':
    raise ValueError(
      "weights=ema is a moving average over a run's updates, which a "
      'checkpoint of another run lacks: take live, initial or trust_region, '
      'between which it lies.'
    )
  return out


def parse_all(text: str, c: ml_collections.ConfigDict) -> list[Signal]:
  """The signals of a list with commas. ValueError for none, or one twice."""
  signals = [parse(part, c) for part in split(text, ',') if part]
  names = [s.name for s in signals]
  repeated = sorted({n for n in names if names.count(n) > 1})
  if not names or repeated:
    raise ValueError(
      f'signals={registry.show(text)}: '
      + (f'{repeated[0]!r} is given twice.' if names else 'name at least one.')
    )
  return signals


def check(c: ml_collections.ConfigDict, chosen: Sequence[Signal]) -> None:
  """ValueError for a signal that this run cannot give."""
  for s in chosen:
    with registry.naming('signal', s.name):
      wants_belief = registry.parse(s.credit)[0] == 'delta_belief'
      if wants_belief and not c.dialogue.belief:
        raise ValueError(
          'it needs beliefs: set --config.dialogue.belief=current (or initial).'
        )
      if s.algorithm.critic is not None and c.algo.estimate != s.estimate:
        raise ValueError(
          "it needs a run with this critic, and the run's algo.estimate is "
          f'{registry.show(c.algo.estimate)}.'
        )


def _kind(part: str) -> str:
  name = registry.parse(part)[0]
  known = {kind: registry.names(kind) for kind in KINDS}
  found = [kind for kind in KINDS if name in known[kind]]
  if not found:
    every = sorted({n for names in known.values() for n in names})
    raise ValueError(
      f'{name!r} is no estimator, aggregate or credit.'
      f'{registry.nearest(name, every)} Estimators: '
      f'{", ".join(known["estimator"])}. Aggregates: '
      f'{", ".join(known["aggregate"])}. Credits: {", ".join(known["credit"])}.'
    )
  return found[0]


def reads_feedback(signals: Sequence[Signal], env: str) -> bool:
  """Whether the teacher of a signal on `env` reads the verifier's feedback."""
  return any(
    'feedback' in context.needs(s.teacher['teacher.context'])
    for s in signals
    if s.teacher is not None and s.env == env
  )


def needs(signals: Sequence[Signal], *names: str) -> bool:
  """Whether a reward of `names` is used by one of the signals."""
  used = {
    name
    for s in signals
    for spec in s.rewards
    for name in registry.named('reward', spec)
  }
  return bool(used & set(names))
