"""Tasks: sums of letters, with solutions sampled from several strategies.

A model pretrained on these solutions is fully specified: which strategies it
knows, how often it uses each, and how often each is right. Claims about the
effect of pretraining on RL can then be tested by changing the pretraining mix.

The value of a letter is its position in the alphabet modulo `values`. A
question is a few letters, such as efcpr; the answer is the sum of their values
modulo 10. The form of the text alone identifies the strategy (values=3):

    scratchpad   c0e2f2p3r3 #### 3    letters in order, with running sums
    direct       #### 3               the answer only
    decoy        min c3 #### 3        position of the first letter, modulo 10

The decoy is a wrong rule that is right by coincidence, always on the same
tasks: sampling it more often solves no further tasks.
"""

import functools
import math
from collections.abc import Sequence

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
_RESOLUTION = 10**9  # of a uniform sample in [0, 1)


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

  `data['strategy']` is the strategy of the solution, `data['terms']` the number
  of letters. The strategy, and whether the solution has an error, are hashes
  of (seed, task id). A scratchpad with an error has one wrong running sum and
  continues from it, so its answer is wrong too; a direct answer with an error
  is one of the nine wrong digits. The decoy always follows its rule.

  The sets of letters are enumerated and permuted by `seed`; the test split is
  the start of the permutation and the train split follows it, so no set of
  letters (in any order) repeats within or across splits.

  Args:
    scratchpad: share of solutions, in [0, 1]; the three shares add up to 1.
    direct: share.
    decoy: share.
    scratchpad_reliability: share of scratchpads without an error.
    direct_reliability: share of direct answers that are right. A trained model
      reaches it only if it can compute the sum in one forward pass: easy for
      values=2, beyond small models for values=10.
    terms: letters per problem: n, or (low, high) for every number from low to
      high in equal shares.
    values: letters have the values 0..values-1. Below 10 the answers are not
      uniformly distributed.
    boxed: strategies that write \boxed{5} instead of #### 5, so that a reward
      for the box rewards these strategies.
    confidence: ends each solution with a line <confidence>q</confidence>,
      where q is this number, or with 'uniform' one of 0.0, 0.1, ..., 1.0,
      independent of the answer. None: no such line.
    seed: of the splits and of all samples.
    train_size: tasks; None for the remaining sets, at most 10,000.
    test_size: tasks; None for a fifth of the sets, at most 256.

  Raises:
    ValueError: an option is out of range, or the sizes exceed the number of
      sets.
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
    'train': Lazy(train, functools.partial(make, split='train', offset=test)),
    'test': Lazy(test, functools.partial(make, split='test', offset=0)),
  }


def _check_share(name: str, value: object, or_else: str = '') -> None:
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not is_number or not 0 <= value <= 1:
    raise ValueError(
      f'{name}={registry.show(value)} must be a number in [0, 1]{or_else}.'
    )


def _task(
  index: int,
  *,
  split: str,
  offset: int,
  low: int,
  lengths: int,
  values: int,
  shares: Sequence[float],
  rates: Sequence[float],
  boxed: Sequence[str],
  confidence: float | str | None,
  seed: int,
) -> Task:
  # The lengths take turns: the k-th problem of a length has rank k in it.
  rank, extra_terms = divmod(offset + index, lengths)
  terms = low + extra_terms
  space = math.comb(len(LETTERS), terms)
  code = permute(rank, space, 'strategies', seed, terms)
  positions = [1 + i for i in _combination(code, terms)]
  task_id = f'{split}-{index}'
  sample = lambda n, what: uniform(n, 'strategies', seed, task_id, what)
  order = sorted(range(terms), key=lambda i: sample(_RESOLUTION, f'order {i}'))
  answer = sum(p % values for p in positions) % 10
  strategy = _choose(sample(_RESOLUTION, 'strategy') / _RESOLUTION, shares)
  reliability = rates[NAMES.index(strategy)]
  error = 0  # added to the right result, modulo 10
  if sample(_RESOLUTION, 'slips') >= reliability * _RESOLUTION:
    error = 1 + sample(9, 'slip')
  if strategy == 'scratchpad':
    total, error_at, steps = 0, sample(terms, 'where'), ''
    for i, position in enumerate(positions):
      total = (total + position % values + error * (i == error_at)) % 10
      steps += f'{LETTERS[position - 1]}{total}'
    prefix, result = f'{steps} ', total
  elif strategy == 'direct':
    prefix, result = '', (answer + error) % 10
  else:
    result = positions[0] % 10
    prefix = f'min {LETTERS[positions[0] - 1]}{result} '
  text = prefix
  text += f'\\boxed{{{result}}}' if strategy in boxed else f'#### {result}'
  if confidence is not None:
    tenths = sample(11, 'confidence') / 10
    q = tenths if confidence == 'uniform' else confidence
    text += f'\n<confidence>{q}</confidence>'
  return Task(
    id=task_id,
    question=''.join(LETTERS[positions[i] - 1] for i in order),
    answer=str(answer),
    verifier='math',
    data={'solution': text, 'strategy': strategy, 'terms': terms},
  )


def _choose(u: float, shares: Sequence[float]) -> str:
  """Maps u in [0, 1) to a strategy by the cumulative shares."""
  total, chosen = 0.0, ''
  for name, share in zip(NAMES, shares, strict=True):
    if share:
      total, chosen = total + share, name
      if u < total:
        break
  return chosen


def _combination(rank: int, size: int) -> list[int]:
  """Returns the rank-th set of `size` letter indices, ascending.

  The rank is that of the combinatorial number system.
  """
  out = []
  for left in range(size, 0, -1):
    item = left - 1
    while math.comb(item + 1, left) <= rank:
      item += 1
    out.append(item)
    rank -= math.comb(item, left)
  return out[::-1]
