"""Tasks: arithmetic expressions of adjustable difficulty."""

import functools

from rlvr_jax import registry
from rlvr_jax.tasks import Env, Lazy, Task, check_int, permute, split_sizes

_APPLY = {
  '+': lambda a, b: a + b,
  '-': lambda a, b: a - b,
  '*': lambda a, b: a * b,
}


@registry.register('env')
def arithmetic(
  *,
  max_value: int = 20,
  ops: str = '+-',
  terms: int = 2,
  min_value: int = 0,
  seed: int = 0,
  train_size: int | None = None,
  test_size: int | None = None,
  instruction: str = 'Answer with the number only.',
) -> Env:
  """'What is 7 + 5?': `terms` operands in min_value..max_value.

  The problems are numbered 0..N-1 with N = (max_value - min_value + 1)^terms
  x len(ops)^(terms-1) and permuted by `seed`. The test split is the start of
  the permutation and the train split follows it, so no expression repeats
  within or across splits (7 + 5 and 5 + 7 are two expressions). The test split
  does not depend on train_size.

  Args:
    max_value: largest operand.
    ops: operators to sample from, out of '+', '-' and '*'.
    terms: operands per problem.
    min_value: smallest operand; negative ones are written as (-3).
    seed: of the permutation, hence of the splits.
    train_size: tasks; None for the remaining problems, at most 10,000.
    test_size: tasks; None for a fifth of the problems, at most 256.
    instruction: text after the question; '' for none.

  Raises:
    ValueError: an option is out of range, or the sizes exceed the number of
      problems.
  """
  check_int('terms', terms, low=2, high=64)
  check_int('min_value', min_value, low=-(10**18))
  check_int('max_value', max_value, low=min_value, high=10**18)
  are_operators = isinstance(ops, str) and set(ops) <= set(_APPLY)
  if not (are_operators and ops and len(set(ops)) == len(ops)):
    raise ValueError(
      f"ops={registry.show(ops)} must name each of '+', '-', '*' at most once, "
      "and at least one of them, as in ops='+-'."
    )
  values = max_value - min_value + 1
  space = values**terms * len(ops) ** (terms - 1)
  train, test = split_sizes(
    space,
    train_size,
    test_size,
    what=f'max_value={max_value}, min_value={min_value}, '
    f'ops={registry.show(ops)}, terms={terms}: raise max_value or terms, or '
    'add operators',
  )
  make = functools.partial(
    _task,
    space=space,
    min_value=min_value,
    values=values,
    ops=ops,
    terms=terms,
    seed=seed,
    instruction=instruction,
  )
  return {
    'train': Lazy(train, functools.partial(make, split='train', offset=test)),
    'test': Lazy(test, functools.partial(make, split='test', offset=0)),
  }


def _task(
  index: int,
  *,
  split: str,
  offset: int,
  space: int,
  min_value: int,
  values: int,
  ops: str,
  terms: int,
  seed: int,
  instruction: str,
) -> Task:
  code = permute(offset + index, space, 'arithmetic', seed)
  code, digit = divmod(code, values)
  numbers, signs = [min_value + digit], []
  for _ in range(terms - 1):
    code, sign = divmod(code, len(ops))
    code, digit = divmod(code, values)
    signs.append(ops[sign])
    numbers.append(min_value + digit)
  text = _show(numbers[0])
  for sign, number in zip(signs, numbers[1:], strict=True):
    text += f' {sign} {_show(number)}'
  question = f'What is {text}?'
  answer = str(_value(numbers, signs))
  return Task(
    id=f'{split}-{index}',
    question=f'{question} {instruction}' if instruction else question,
    answer=answer,
    verifier='math',
    data={'solution': answer},
  )


def _show(number: int) -> str:
  return str(number) if number >= 0 else f'({number})'


def _value(numbers: list[int], signs: list[str]) -> int:
  """Evaluates left to right, '*' before '+' and '-'."""
  total, product, pending = 0, numbers[0], '+'
  for sign, number in zip(signs, numbers[1:], strict=True):
    if sign == '*':
      product *= number
    else:
      total, product, pending = _APPLY[pending](total, product), number, sign
  return _APPLY[pending](total, product)
