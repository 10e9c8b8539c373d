"""Tasks: programs in a small stack language, to be found from examples.

    6 3 -> -9
    1 3 -> 1      swap dup + -
    7 8 -> -6

The language is that of `verifiers.stack_language`; a program is judged by
tests, some of which the question shows. Verdicts are as sparse as in any
synthesis task, and a failed program has an error or a wrong output to read.
"""

import functools

from rlvr_jax import registry
from rlvr_jax.envs import program_sampling
from rlvr_jax.tasks import MOST_TASKS, Env, Lazy, Task, check_int
from rlvr_jax.verifiers import stack_language

_LANGUAGE = """\
Write a program in a stack language. It starts with the numbers of an input on
the stack, the last one on top, and has to leave the numbers of the output.
A program is words with spaces between them:
a whole number puts itself on the stack
dup: copies the top
drop: removes the top
swap: exchanges the top two
over: copies the second from the top to the top
+ - * mod: take a and b (the top) and leave a + b, a - b, a * b, and the \
remainder of a / b, which has the sign of b
< =: take a and b (the top) and leave 1 if a < b, or a = b, else 0
if A else B then: takes the top and runs A if it is not 0, else B
times A end: takes the top and runs A that many times

Examples:
"""
_REQUEST = '\n\nWrite the program between <answer> and </answer>.'
APART = 'functions', 'questions'
_TRIES_AT_START = 2_000
_TRIES = 200_000  # a thousand times what succeeded at the start, and more


@registry.register('env')
def programs(
  *,
  size: int | tuple[int, int] = 5,
  inputs: int = 2,
  outputs: int = 1,
  words: str = 'dup drop swap over + - *',
  branches: int = 0,
  loops: int = 0,
  max_literal: int = 9,
  min_value: int = 0,
  max_value: int = 9,
  max_output: int = 999,
  examples: int = 4,
  hidden: int = 8,
  terse: bool = False,
  apart: str = 'functions',
  seed: int = 0,
  train_size: int = 2_000,
  test_size: int = 256,
) -> Env:
  """Find a program that maps each input stack to its output stack.

  The tests come from a sampled program, `data['solution']`, of `size` pieces: a
  word, a number, or one whole branch or loop. It computes on all tests without
  a fault, its output depends on the input, and without any one or two
  neighbouring words it would be another function. Shorter programs may exist,
  and every program that passes all of `data['tests']` is right; the question
  shows the first `data['shown']` of them.

  All of a task is a hash of the seed, the split and its index. A hash of what a
  program computes on 16 inputs chooses its split: no function, so no program in
  another spelling either, is in both. Within a split functions may repeat, with
  other examples. With apart='questions' the splits share functions, and no
  question: for models that know some programs, and are not to find new ones.

  Args:
    size: pieces of the solution: n, or (low, high) for every number from low to
      high in equal shares.
    inputs: numbers on the stack at the start.
    outputs: numbers that are left.
    words: the words of solutions, out of dup drop swap over + - * mod < =,
      with spaces between them.
    branches: pieces of a solution that are `if A else B then`, on a comparison
      (< or mod) of its own; half of them without `else B`.
    loops: pieces that are `times A end`, on a number of their own or one from
      the stack.
    max_literal: numbers in solutions are 0..max_literal; -1: none, except in
      branches and loops.
    min_value, max_value: range of the inputs.
    max_output: largest output in size.
    examples: tests in the question.
    hidden: further tests.
    terse: only the examples, without the description of the language; for
      small models.
    apart: what no two splits share, functions or questions.
    seed: of all that is sampled.
    train_size, test_size: tasks. One takes a millisecond to find, with branches
      and loops ten times as long.

  Raises:
    ValueError: an option is out of range, there are fewer inputs than tests, or
      no program of this description was found for one of the splits.
  """
  low, high = size if isinstance(size, tuple) else (size, size)
  check_int('size', low, low=1, high=16)
  check_int('size', high, low=low, high=16)
  for name, value, least, most in (
    ('inputs', inputs, 1, 6),
    ('outputs', outputs, 1, 6),
    ('branches', branches, 0, low),
    ('loops', loops, 0, low),
    ('max_literal', max_literal, -1, 99),
    ('min_value', min_value, -999, 999),
    ('max_value', max_value, -999, 999),
    ('max_output', max_output, 1, 10**9),
    ('examples', examples, 1, 16),
    ('hidden', hidden, 1, 48),
    ('train_size', train_size, 1, MOST_TASKS),
    ('test_size', test_size, 1, MOST_TASKS),
  ):
    check_int(name, value, low=least, high=most)
  if apart not in APART:
    raise ValueError(
      f'apart={registry.show(apart)} must be one of {", ".join(APART)}.'
    )
  if min_value > max_value:
    raise ValueError(
      f'min_value={min_value} must be at most max_value={max_value}.'
    )
  chosen = tuple(words.split())
  if set(chosen) - set(stack_language.EFFECTS) or len(set(chosen)) < len(
    chosen
  ):
    raise ValueError(
      f'words={registry.show(words)} must name words out of '
      f'{" ".join(stack_language.EFFECTS)}, each at most once, with spaces '
      'between them.'
    )
  if branches + loops > low:
    raise ValueError(
      f'branches={branches} + loops={loops} are pieces of the solution, more '
      f'than size={registry.show(size)}: raise size.'
    )
  shape = program_sampling.Shape(
    (low, high), inputs, outputs, chosen, branches, loops, max_literal,
    min_value, max_value, max_output, examples, hidden, terse, apart, seed,
  )  # fmt: skip
  if shape.space < examples + hidden:
    raise ValueError(
      f'examples={examples} + hidden={hidden} tests have different inputs, but '
      f'inputs={inputs}, min_value={min_value}, max_value={max_value} make only '
      f'{shape.space}: widen the range of the values, or use fewer tests.'
    )
  for split, length in ('train', train_size), ('test', test_size):
    for index in range(min(length, high - low + 1)):
      _task(index, split=split, shape=shape, tries=_TRIES_AT_START)
  make = functools.partial(_task, shape=shape, tries=_TRIES)
  return {
    'train': Lazy(train_size, functools.partial(make, split='train')),
    'test': Lazy(test_size, functools.partial(make, split='test')),
  }


# A task takes a millisecond or several to find, and is asked for again.
@functools.lru_cache(20_000)
def _task(
  index: int, *, split: str, shape: program_sampling.Shape, tries: int
) -> Task:
  low, high = shape.size
  size = low + index % (high - low + 1)
  for attempt in range(tries):
    key = ('programs', shape.seed, split, index, attempt)
    solution = program_sampling.sample(size, shape, key)
    if solution is None:
      continue
    found = program_sampling.split_of(solution, shape)
    if found is None or (shape.apart == 'functions' and found != split):
      continue
    if not program_sampling.is_minimal(solution, shape):
      continue
    tests = program_sampling.tests(solution, split, shape, key)
    if tests is not None:
      break
  else:
    raise ValueError(
      f'In {tries} tries no program of size={size}, inputs={shape.inputs}, '
      f'outputs={shape.outputs}, words={registry.show(" ".join(shape.words))}, '
      f'branches={shape.branches}, loops={shape.loops} for the {split} split '
      'computes something new, without faults and within '
      f'max_output={shape.max_output}: raise size, max_output or max_literal, '
      'give more words, or another seed.'
    )
  shown = tests[: shape.examples]
  text = ' '.join(solution)
  lines = program_sampling.lines(shown)
  question = lines if shape.terse else f'{_LANGUAGE}{lines}{_REQUEST}'
  return Task(
    id=f'{split}-{index}',
    question=question,
    answer=text,
    verifier='program',
    data={'tests': tests, 'shown': len(shown), 'solution': text},
  )
