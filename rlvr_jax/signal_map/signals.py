"""What may stand on the map? A signal: a reward, and what makes credit of it.

  REWARD[+REWARD ...][|ESTIMATOR][|AGGREGATE][|CREDIT][ on ENV]
  sft[ on ENV]

Each part is a spec of the registry; which kind a part after the reward has is
known by its name. Left out, they are dr_grpo, seq_mean_token_sum and outcome.
The reward `run` stands for the run's own reward_funcs and weights. A signal
`on ENV` is computed from samples on that environment's tasks, such as the
single steps of `steps(...)`; `sft` is imitation of the worked solutions of the
tasks. '{best}' in a part stands for the best constant baseline of the cell.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import ml_collections

from rlvr_jax import algorithm as algorithms
from rlvr_jax import registry
from rlvr_jax.ops import estimators
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import groups

KINDS = ('estimator', 'aggregate', 'credit')
DEFAULTS = ('dr_grpo', 'seq_mean_token_sum', 'outcome')
BEST = '{best}'
OWN = 'run'  # the reward of the run's config
IMITATION = 'sft'


class Signal(NamedTuple):
  """A training signal of the map.

  Attributes:
    name: as it was given.
    rewards, weights: specs of the rewards and their weights; () to imitate.
    algorithm: with credit, estimator and aggregate; no kl, no surrogate.
    estimate, credit: their specs.
    env: of the tasks; '' for the run's own.
    imitates: whether it is the imitation of solutions.
  """

  name: str
  rewards: tuple[str, ...]
  weights: tuple[float, ...]
  algorithm: algorithms.Algorithm
  estimate: str
  credit: str
  env: str
  imitates: bool

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
  )


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


def needs(signals: Sequence[Signal], *names: str) -> bool:
  """Whether a reward of `names` is used by one of the signals."""
  used = {
    name
    for s in signals
    for spec in s.rewards
    for name in registry.named('reward', spec)
  }
  return bool(used & set(names))
