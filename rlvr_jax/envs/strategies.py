"""Sums of letters with solutions to imitate, drawn from several strategies.

A model that is trained on these solutions has known contents: which ways of
solving it knows, how often it takes each, how often each is right. A claim
about what pretraining does to RL can then be tested by changing pretraining.

A letter is worth its place in the alphabet modulo `values`. The question is a
handful of letters, such as efcpr; the answer is their sum modulo 10. Three
strategies are told apart by the form of the text alone (values=3):

    scratchpad   c0e2f2p3r3 #### 3    letters in order, with running sums
    direct       #### 3               the answer at once
    decoy        min c3 #### 3        place of the first letter, modulo 10

The decoy is a wrong rule that is right by chance, on the same tasks every
time: more samples of it solve no more tasks.
"""

import functools
import math

from rlvr_jax import registry
from rlvr_jax.tasks import (
  Env,
  Lazy,
  Task,
  check_int,
  permute,
  split_sizes,
  uniform,
)

NAMES = ('scratchpad', 'direct', 'decoy')
LETTERS = 'abcdefghijklmnopqrstuvwxyz'
_FINE = 10**9  # draws are made among so many


@registry.register('env')
def strategies(
  *,
  scratchpad: float = 0.65,
  direct: float = 0.35,
  decoy: float = 0.0,
  scratchpad_reliability: float = 0.95,
  direct_reliability: float = 0.5,
  terms: int | tuple[int, int] = 5,
  values: int = 3,
  boxed: tuple[str, ...] = (),
  confidence: float | str | None = None,
  seed: int = 0,
  train_size: int | None = None,
  test_size: int | None = None,
) -> Env:
  r"""Sums of letters modulo 10; `data['solution']` is the text to imitate.

  `data['strategy']` names the strategy of the solution, `data['terms']` the
  number of letters. A function of (seed, id of the task) draws the strategy,
  and whether it slips: a scratchpad then has one running sum wrong and goes
  on from it, so its answer is wrong too; a direct answer is one of the nine
  wrong digits. The decoy follows its rule without slips.

  The sets of letters are numbered and a permutation that `seed` names puts
  them in a row; the test split is its start, the train split goes on from
  there. So no set is in both splits, in whatever order its letters stand,
  and none comes twice.

  Args:
    scratchpad: share of solutions, in [0, 1]; the three add up to 1.
    direct: share.
    decoy: share.
    scratchpad_reliability: share of scratchpads without a slip.
    direct_reliability: share of direct answers that are right. A model
      reaches it if it can learn the sum at sight: easy for values=2, out of
      reach of small ones for values=10.
    terms: letters of a problem: n, or (low, high) for every number from low
      to high in equal shares.
    values: letters are worth 0..values-1. Below 10 some answers are more
      frequent than others.
    boxed: strategies that write \boxed{5} for #### 5, so that a reward for
      the box is a reward for them.
    confidence: ends each solution with a line <confidence>q</confidence>: q
      is this number, or with 'uniform' one of 0.0, 0.1, ..., 1.0, whatever
      the answer is. None: no such line.
    seed: names splits and draws.
    train_size: tasks; None for the rest of the space, at most 10,000.
    test_size: tasks; None for a fifth of the space, at most 256.

  Raises:
    ValueError: a bad value, or a space too small for the sizes.
  """
  shares = (scratchpad, direct, decoy)
  rates = (scratchpad_reliability, direct_reliability)
  for name, value in (
    *zip(NAMES, shares, strict=True),
    ('scratchpad_reliability', scratchpad_reliability),
    ('direct_reliability', direct_reliability),
  ):
    _check_share(name, value)
  if abs(sum(shares) - 1) > 1e-6:
    raise ValueError(
      f'scratchpad={scratchpad} + direct={direct} + decoy={decoy} = '
      f'{sum(shares):.6g}: shares of solutions must add up to 1.'
    )
  if not isinstance(boxed, (tuple, list)) or not set(boxed) <= set(NAMES):
    raise ValueError(
      f'boxed={registry.show(boxed)} must be a tuple of strategies out of '
      f"{', '.join(NAMES)}, such as ('scratchpad',)."
    )
  if confidence not in (None, 'uniform'):
    _check_share('confidence', confidence, " (or 'uniform', or None)")
  check_int('values', values, low=2, high=10)
  low, high = terms if isinstance(terms, (tuple, list)) else (terms, terms)
  check_int('terms', low, low=2, high=len(LETTERS) // 2)
  check_int('terms', high, low=low, high=len(LETTERS) // 2)
  lengths = high - low + 1
  train, test = split_sizes(
    lengths * math.comb(len(LETTERS), low),
    train_size,
    test_size,
    what=f'terms={registry.show(terms)}: raise its lower end',
  )
  make = functools.partial(
    _task,
    low=low,
    lengths=lengths,
    values=values,
    shares=shares,
    rates=(*rates, 1.0),
    boxed=tuple(boxed),
    confidence=confidence,
    seed=seed,
  )
  return {
    'train': Lazy(train, functools.partial(make, split='train', at=test)),
    'test': Lazy(test, functools.partial(make, split='test', at=0)),
  }


def _check_share(name, value, or_else=''):
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or not 0 <= value <= 1:
    raise ValueError(
      f'{name}={registry.show(value)} must be a number in [0, 1]{or_else}.'
    )


def _task(
  index,
  *,
  split,
  at,
  low,
  lengths,
  values,
  shares,
  rates,
  boxed,
  confidence,
  seed,
):
  # A problem of each length in turn: the k-th of a length has rank k in it.
  rank, longer = divmod(at + index, lengths)
  size = low + longer
  space = math.comb(len(LETTERS), size)
  code = permute(rank, space, 'strategies', seed, size)
  places = [1 + i for i in _combination(code, size)]
  name = f'{split}-{index}'
  draw = lambda n, what: uniform(n, 'strategies', seed, name, what)
  order = sorted(range(size), key=lambda i: draw(_FINE, f'order {i}'))
  answer = sum(p % values for p in places) % 10
  at_share = draw(_FINE, 'strategy') / _FINE
  strategy = _choose(at_share, shares)
  sure = rates[NAMES.index(strategy)]
  slip = 0
  if draw(_FINE, 'slips') >= sure * _FINE:
    slip = 1 + draw(9, 'slip')
  if strategy == 'scratchpad':
    total, where, steps = 0, draw(size, 'where'), ''
    for i, place in enumerate(places):
      total = (total + place % values + slip * (i == where)) % 10
      steps += f'{LETTERS[place - 1]}{total}'
    lead, said = f'{steps} ', total
  elif strategy == 'direct':
    lead, said = '', (answer + slip) % 10
  else:
    said = places[0] % 10
    lead = f'min {LETTERS[places[0] - 1]}{said} '
  text = lead + (f'\\boxed{{{said}}}' if strategy in boxed else f'#### {said}')
  if confidence is not None:
    tenths = draw(11, 'confidence') / 10
    q = tenths if confidence == 'uniform' else confidence
    text += f'\n<confidence>{q}</confidence>'
  return Task(
    id=name,
    question=''.join(LETTERS[places[i] - 1] for i in order),
    answer=str(answer),
    verifier='math',
    data={'solution': text, 'strategy': strategy, 'terms': size},
  )


def _choose(at: float, shares) -> str:
  """The strategy whose stretch of [0, 1), in order, holds `at`."""
  total, last = 0.0, ''
  for name, share in zip(NAMES, shares, strict=True):
    if share:
      total, last = total + share, name
      if at < total:
        break
  return last


def _combination(rank: int, size: int) -> list[int]:
  """The rank-th set of `size` letters' indices, rising (combinadic)."""
  out = []
  for left in range(size, 0, -1):
    item = left - 1
    while math.comb(item + 1, left) <= rank:
      item += 1
    out.append(item)
    rank -= math.comb(item, left)
  return out[::-1]
