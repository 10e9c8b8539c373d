"""Digit sums with solutions to imitate, drawn from several strategies.

A model that is trained on these solutions has known contents: which ways of
solving it knows, how often it takes each, how often each is right. A claim
about what pretraining does to RL can then be tested by changing pretraining.

The question is a row of digits, such as 3859; the answer is their sum modulo
10. Strategies, told apart by the form of the text alone:

    scratchpad   sum 3165 #### 5    running sums modulo 10, a step a term
    direct       #### 5             the answer at once
    decoy        last 9 #### 9      the last term, right on 1 task in 10
"""

import functools
import math

from rlvr_jax import registry
from rlvr_jax.envs import core

LETTERS = 'abcdefghijklmnopqrstuvwxyz'
NAMES = ('scratchpad', 'direct', 'decoy')
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
  values: int = 10,
  boxed: tuple[str, ...] = (),
  confidence: float | str | None = None,
  seed: int = 0,
  train_size: int | None = None,
  test_size: int | None = None,
) -> core.Env:
  r"""Sums of digits modulo 10; `data['solution']` is the text to imitate.

  `data['strategy']` names the strategy of the solution, `data['terms']` the
  number of digits. A function of (seed, id of the task) draws the strategy,
  and whether it slips: a scratchpad then has one running sum wrong and goes
  on from it, so its answer is wrong too; a direct answer is one of the nine
  wrong digits. The decoy never slips: it is a rule that happens to be right
  where the other terms add up to a multiple of 10, which is 1 task in 10, and
  more samples of it solve no more tasks.

  Problems are numbered, permuted and split as `arithmetic`'s are, so that no
  row of digits is in both splits and none comes twice.

  Args:
    scratchpad: share of solutions, in [0, 1]; the three add up to 1.
    direct: share.
    decoy: share.
    scratchpad_reliability: share of scratchpads without a slip.
    direct_reliability: share of direct answers that are right.
    terms: digits of a problem: n, or (low, high) for every number from low to
      high in equal shares.
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
    ('scratchpad_reliability', rates[0]),
    ('direct_reliability', rates[1]),
  ):
    _check_share(name, value)
  if abs(sum(shares) - 1) > 1e-6:
    raise ValueError(
      f'scratchpad={scratchpad} + direct={direct} + decoy={decoy} = '
      f'{sum(shares):.6g}: shares of solutions must add up to 1.'
    )
  if isinstance(boxed, str) or not set(boxed) <= set(NAMES):
    raise ValueError(
      f'boxed={boxed!r} must be a tuple of strategies out of '
      f"{', '.join(NAMES)}, such as ('scratchpad',)."
    )
  if isinstance(confidence, str):
    if confidence != 'uniform':
      raise ValueError(
        f"confidence={confidence!r} must be a number in [0, 1], 'uniform' or "
        'None.'
      )
  elif confidence is not None:
    _check_share('confidence', confidence)
  low, high = terms if isinstance(terms, tuple) else (terms, terms)
  core.check_int('terms', low, low=2, high=64)
  core.check_int('terms', high, low=low, high=64)
  lengths = high - low + 1
  train, test = core.split_sizes(
    lengths * math.comb(len(LETTERS), low),
    train_size,
    test_size,
    what=f'terms={terms!r}: raise its lower end',
  )
  make = functools.partial(
    _task,
    low=low,
    values=values,
    lengths=lengths,
    shares=shares,
    rates=dict(zip(NAMES, (*rates, 1.0), strict=True)),
    boxed=tuple(boxed),
    confidence=confidence,
    seed=seed,
  )
  return {
    'train': core.Lazy(train, functools.partial(make, split='train', at=test)),
    'test': core.Lazy(test, functools.partial(make, split='test', at=0)),
  }


def _check_share(name, value):
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or not 0 <= value <= 1:
    raise ValueError(f'{name}={value!r} must be a number in [0, 1].')


def _task(
  index, *, split, at, low, values, lengths, shares, rates, boxed, confidence, seed
):
  rank, extra = divmod(at + index, lengths)
  size = low + extra
  space = math.comb(len(LETTERS), size)
  chosen = _combination(core.permute(rank, space, 'strategies', seed, size), size)
  name = f'{split}-{index}'
  draw = lambda n, what: core.uniform(n, 'strategies', seed, name, what)
  order = [core.permute(i, size, 'strategies', seed, name) for i in range(size)]
  question = ''.join(LETTERS[chosen[i]] for i in order)
  strategy = _choose(draw(_FINE, 'strategy'), shares)
  slips = draw(_FINE, 'slips') >= rates[strategy] * _FINE
  digits = [(c + 1) % values for c in chosen]
  answer = sum(digits) % 10
  if strategy == 'scratchpad':
    sums = [sum(digits[: i + 1]) % 10 for i in range(size)]
    if slips:
      where, by = draw(size, 'where'), 1 + draw(9, 'by')
      sums = [(s + by * (i >= where)) % 10 for i, s in enumerate(sums)]
    steps = ''.join(f'{LETTERS[c]}{s}' for c, s in zip(chosen, sums, strict=True))
    lead, said = f'{steps} ', sums[-1]
  elif strategy == 'direct':
    lead, said = '', (answer + slips * (1 + draw(9, 'by'))) % 10
  else:
    lead, said = f'last {digits[-1]} ', digits[-1]
  text = lead + (f'\\boxed{{{said}}}' if strategy in boxed else f'#### {said}')
  if confidence is not None:
    tenths = draw(11, 'confidence') / 10
    q = tenths if confidence == 'uniform' else confidence
    text += f'\n<confidence>{q}</confidence>'
  return core.Task(
    id=name,
    question=question,
    answer=str(answer),
    verifier='math',
    data={'solution': text, 'strategy': strategy, 'terms': size},
  )


def _choose(draw: int, shares) -> str:
  """The strategy whose part of 0.._FINE-1, in order, holds `draw`."""
  total = 0.0
  for name, share in zip(NAMES, shares, strict=True):
    total += share
    if share and draw < total * _FINE:
      return name
  return next(n for n, s in reversed([*zip(NAMES, shares, strict=True)]) if s)


def _combination(rank: int, size: int) -> list[int]:
  """The rank-th of the `size`-element sets of letters, in rising order."""
  out = []
  for left in range(size, 0, -1):
    item = left - 1
    while math.comb(item + 1, left) <= rank:
      item += 1
    out.append(item)
    rank -= math.comb(item, left)
  return out[::-1]
