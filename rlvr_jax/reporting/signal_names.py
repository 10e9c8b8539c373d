"""What do people read for a signal of the map, and what is it akin to?"""

import re
from collections.abc import Sequence

# Rewards of which nothing can be learned, or the opposite of the outcome.
CONTROLS = ('random', 'permuted', 'constant', 'inverse', 'incorrect')
SILENT = ('random', 'permuted')

_REWARDS = {
  'answer_probability': 'confidence in its answer',
  'brier': 'calibrated confidence (Brier)',
  'confident': 'stated confidence',
  'constant': 'constant reward',
  'contains': 'a word appears',
  'delta_belief': 'gain in belief',
  'flip': '{reward}, {rate} of verdicts flipped',
  'format': 'format alone',
  'incorrect': 'rewarded when wrong',
  'inverse': '{reward}, upside down',
  'length_penalty': 'short completions',
  'log_score': 'calibrated confidence (log score)',
  'majority': 'majority answer',
  'no_repetition': 'no repetition',
  'outcome': 'outcome reward',
  'permuted': '{reward}, shuffled',
  'random': 'random reward',
  'run': "the run's own reward",
  'self_certainty': "the policy's own confidence",
  'sft': 'imitation of solutions',
  'similarity': 'similarity to a solution',
  'token_entropy': 'low entropy',
  'turn_cost': 'a cost of each turn',
  'win': 'win of the dialogue',
}
_PARTS = {
  'baseline': 'baseline {value}',
  'delta_belief': 'gain in belief per turn',
  'dr_grpo': '',
  'gae': 'critic (GAE)',
  'grpo': 'GRPO',
  'max_rl': 'MaxRL',
  'nsr': 'wrong samples only (NSR)',
  'outcome': '',
  'pass_at_k': 'pass@k',
  'psr': 'right samples only (PSR)',
  'reinforce': 'no baseline',
  'rloo': 'RLOO',
  'seq_mean_token_mean': 'mean over tokens',
  'seq_mean_token_sum': '',
  'stepwise': 'reward per turn',
  'surprise_baseline': 'baseline by surprise',
  'token_mean': 'mean over all tokens',
}
# A form that is not used, such as that of a bad strategy: no control.
_UNLIKE = re.compile(r'inverse\((?:reward=)?contains\((?:text=)?([^()]*)\)\)$')
QUOTES = '\'"'
FAMILIES = {
  'use': 'The same reward, used otherwise',
  'noise': 'Wrong verdicts',
  'free': 'Rewards without labels',
  'taught': 'With worked solutions or steps',
  'other': 'Other rewards',
}
_FAMILY = {
  'noise': ('flip',),
  'free': (
    'answer_probability',
    'contains',
    'format',
    'majority',
    'no_repetition',
    'self_certainty',
    'token_entropy',
  ),
  'taught': ('sft', 'similarity'),
}


def parts(signal: str) -> tuple[str, list[str], str]:
  """(reward, estimator and the like, environment) of a signal's text."""
  front, _, env = signal.partition(' on ')
  # A bar within brackets belongs to a spec.
  reward, *rest = re.split(r'\|(?![^()]*\))', front)
  return reward.strip(), [r.strip() for r in rest], env.strip()


def kind(signal: str) -> str:
  """The name of the signal's reward, without its options."""
  return parts(signal)[0].partition('(')[0].strip()


def is_main(signal: str) -> bool:
  """Whether it is the outcome reward, used as Dr. GRPO does."""
  reward, rest, env = parts(signal)
  return reward == 'outcome' and not env and not any(map(_needed, rest))


def family(signal: str) -> str:
  """'control', or a key of FAMILIES."""
  reward, rest, env = parts(signal)
  if kind(signal) in CONTROLS and not _UNLIKE.match(reward):
    return 'control'
  if env or any(_part(r) == _PARTS.get('stepwise') for r in rest):
    return 'taught'
  if reward == 'outcome':
    return 'use'
  if _UNLIKE.match(reward):
    return 'free'
  for name, rewards in _FAMILY.items():
    if kind(signal) in rewards:
      return name
  return 'other'


def names(signals: Sequence[str]) -> dict[str, str]:
  """What people read for each signal; its own text where two would agree."""
  out = {s: name(s) for s in signals}
  read = list(out.values())
  return {s: n if read.count(n) == 1 else s for s, n in out.items()}


def name(signal: str) -> str:
  """What people read for a signal; its own text if it is not in the tables.

  'outcome|psr' -> 'outcome reward, right samples only (PSR)'
  """
  reward, rest, env = parts(signal)
  rewards = [_reward(r) for r in reward.split('+')]
  words = [_part(r) for r in rest]
  if not all(rewards) or None in words:
    return signal
  out = ', '.join([' + '.join(rewards), *filter(None, words)])
  if not env or reward == 'sft':
    return out
  steps = env.partition('(')[0] == 'steps'
  return out + (', step by step' if steps else f', on {env}')


def short(signal: str, main: str, shown: str) -> str:
  """The name of `signal` beside `main`, without what both begin with."""
  rest = shown.removeprefix(f'{name(main)}, ')
  # A name that is the signal's own text stays whole.
  return rest if shown == name(signal) else shown


def _reward(spec):
  if unlike := _UNLIKE.match(spec):
    return f'no {unlike[1].strip(QUOTES)!r} in the text'
  known = _REWARDS.get(spec.partition('(')[0].strip(), '')
  options = spec.partition('(')[2]
  if '{reward}' in known:
    inner = re.match(r"(?:.*\breward=)?['\"]?([a-z_]\w*)['\"]?\s*[,)]", options)
    of = _REWARDS.get(inner[1], '') if inner else ''
    if not of or '{' in of:
      return ''
    known = known.replace('{reward}', of.removesuffix(' reward'))
  if '{rate}' in known:
    rate = re.search(r'(?:rate=|,\s*|^)(\.?\d[\d.]*)\s*[,)]', options)
    try:
      share = float(rate[1]) if rate else 0.1
    except ValueError:
      return ''
    known = known.replace('{rate}', f'{share:.0%}')
  return known


def _part(spec):
  """Words for an estimator and the like; '' for a default, None: unknown."""
  known = _PARTS.get(spec.partition('(')[0].strip())
  options = spec.partition('(')[2].rstrip(')').strip()
  if known is None or not options:
    return known
  if '{value}' in known:
    value = options.removeprefix('value=')
    least = value == '{best}'
    return known.replace('{value}', 'of least noise' if least else value)
  return f'{known or spec.partition("(")[0]} {options}'


def _needed(spec):
  return _part(spec) != ''
