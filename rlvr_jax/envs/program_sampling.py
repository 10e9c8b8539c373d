"""Which program is a task to find, in which split, and by which tests?

All is a hash of keys: the same on every platform, in any order.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rlvr_jax.tasks import permute, uniform
from rlvr_jax.verifiers import stack_language

_PROBES = 16  # inputs on which programs are compared
_SHARE = 5  # a fifth of the functions is in the test split
_BODY = 2  # words in a branch or a loop

Draw = Callable[[int], int]  # n -> 0..n-1
Stack = Sequence[int]

_FRAME = {'if', 'then', 'times', 'end'}


class Shape(NamedTuple):
  """What tasks are made of; see `stack_programs.programs`."""

  size: tuple[int, int]
  inputs: int
  outputs: int
  words: tuple[str, ...]
  branches: int
  loops: int
  max_literal: int
  min_value: int
  max_value: int
  max_output: int
  examples: int
  hidden: int
  terse: bool
  apart: str
  seed: int

  @property
  def space(self) -> int:
    """Number of inputs."""
    return (self.max_value - self.min_value + 1) ** self.inputs

  def input(self, code: int) -> list[int]:
    """The input with this number, 0..space-1."""
    values = self.max_value - self.min_value + 1
    out = []
    for _ in range(self.inputs):
      code, digit = divmod(code, values)
      out.append(self.min_value + digit)
    return out


def sample(
  size: int, shape: Shape, key: tuple[object, ...]
) -> list[str] | None:
  """A random program that underflows nowhere; None if the draws lead nowhere.

  Each piece is sampled among those from which the number of outputs can still
  be reached: a word changes the depth of the stack by at most 1, branches and
  loops can leave it as it is.
  """
  count = itertools.count()
  draw = lambda n: uniform(n, *key, next(count))
  kinds = ['if'] * shape.branches + ['times'] * shape.loops
  pieces: list[str] = [''] * size
  for kind in kinds:
    free = [i for i, piece in enumerate(pieces) if not piece]
    pieces[free[draw(len(free))]] = kind
  out: list[str] = []
  depth = shape.inputs
  for i, piece in enumerate(pieces):
    left = pieces[i + 1 :].count('')
    if piece == 'if':
      added, depth = _branch(depth, shape, draw)
    elif piece == 'times':
      added, depth = _loop(depth, left, shape, draw)
    else:
      added, depth = _word(depth, shape.outputs, left, shape, draw)
    if not added:
      return None
    out += added
  return out if depth == shape.outputs else None


def _word(
  depth: int, goal: int, left: int, shape: Shape, draw: Draw
) -> tuple[list[str], int]:
  """A word or a number, and the depth after it; [] if none is possible.

  Args:
    depth: numbers on the stack.
    goal: numbers that shall be on it after `left` more words.
  """
  options = [('', depth + 1)] if shape.max_literal >= 0 else []
  for word in shape.words:
    taken, added = stack_language.EFFECTS[word]
    if taken <= depth:
      options.append((word, depth - taken + added))
  options = [x for x in options if abs(x[1] - goal) <= left]
  if not options:
    return [], depth
  word, after = options[draw(len(options))]
  return [word or str(draw(shape.max_literal + 1))], after


def _body(depth: int, shape: Shape, draw: Draw) -> list[str]:
  """Words that leave the depth as it is; [] if none were found."""
  out: list[str] = []
  goal = depth
  for left in reversed(range(_BODY)):
    added, depth = _word(depth, goal, left, shape, draw)
    if not added:
      return []
    out += added
  return out


def _branch(depth: int, shape: Shape, draw: Draw) -> tuple[list[str], int]:
  values = shape.max_value - shape.min_value
  conditions = [
    ['dup', str(shape.min_value + 1 + draw(max(1, values))), '<'],
    ['dup', str(2 + draw(2)), 'mod'],
  ]
  if depth > 1:
    conditions.append(['over', 'over', '<'])
  body, other = _body(depth, shape, draw), _body(depth, shape, draw)
  if not depth or not body or not other:
    return [], depth
  out = [*conditions[draw(len(conditions))], 'if', *body]
  return [*out, *(['else', *other] if draw(2) else []), 'then'], depth


def _loop(
  depth: int, left: int, shape: Shape, draw: Draw
) -> tuple[list[str], int]:
  can_take = depth > 1 and abs(depth - 1 - shape.outputs) <= left
  counted = can_take and draw(2)  # by a number of the stack
  if counted:
    depth -= 1
  body = _body(depth, shape, draw)
  if not body:
    return [], depth
  count = [] if counted else [str(2 + draw(3))]
  return [*count, 'times', *body, 'end'], depth


@functools.lru_cache(64)
def _probes(shape: Shape) -> list[list[int]]:
  """Inputs on which programs are compared."""
  n = shape.space
  return [
    shape.input(permute(i, n, 'programs', 'probe'))
    for i in range(min(_PROBES, n))
  ]


def _output(
  program: stack_language.Program, given: Stack, most: int
) -> tuple[int, ...] | None:
  """The stack that is left; None for a fault or a number above `most`."""
  run = stack_language.run(program, given)
  if run.fault or any(abs(x) > most for x in run.stack):
    return None
  return run.stack


def split_of(solution: Sequence[str], shape: Shape) -> str | None:
  """The split of what a program computes; None if it is of no use.

  It has a fault on a probe, or leaves the same on all of them, or leaves them
  as they are.
  """
  program = stack_language.parse(' '.join(solution))
  outputs = []
  for probe in _probes(shape):
    output = _output(program, probe, shape.max_output)
    if output is None:
      return None
    outputs.append(output)
  if len(set(outputs)) == 1 or outputs == [*map(tuple, _probes(shape))]:
    return None
  is_test = uniform(_SHARE, 'programs', shape.seed, outputs) == 0
  return 'test' if is_test else 'train'


def is_minimal(solution: Sequence[str], shape: Shape) -> bool:
  """Whether a program without one or two of its words is another function."""
  probes = _probes(shape)
  whole = stack_language.parse(' '.join(solution))
  outputs = [stack_language.run(whole, probe).stack for probe in probes]
  for width in 1, 2:
    for i in range(len(solution) - width + 1):
      if not _FRAME.isdisjoint(solution[i : i + width]):
        continue  # without it, the rest is no program
      rest = [*solution[:i], *solution[i + width :]]
      try:
        program = stack_language.parse(' '.join(rest))
      except stack_language.Unreadable:
        continue
      if all(
        _output(program, probe, shape.max_output) == output
        for probe, output in zip(probes, outputs, strict=True)
      ):
        return False
  return True


def tests(
  solution: Sequence[str], split: str, shape: Shape, key: tuple[object, ...]
) -> list[list[list[int]]] | None:
  """Inputs and outputs, those of the question first; None if none are good.

  A hash of the examples is even in the train split and odd in the test split,
  so that no question is in both, not even one that leaves several functions
  open.
  """
  program = stack_language.parse(' '.join(solution))
  out = []
  for k in range(shape.examples + shape.hidden):
    given = shape.input(permute(k, shape.space, *key, 'input'))
    output = _output(program, given, shape.max_output)
    if output is None:
      return None
    out.append([given, list(output)])
  for _ in out:
    out = [*out[1:], out[0]]  # other examples
    shown = out[: shape.examples]
    varied = len({tuple(b) for _, b in shown}) > 1 or shape.examples == 1
    odd = uniform(2, 'programs', 'question', lines(shown))
    if varied and odd == (split == 'test'):
      return out
  return None


def lines(tests: Sequence[Sequence[Stack]]) -> str:
  """Writes inputs and outputs as a question does."""
  show = stack_language.show
  return '\n'.join(f'{show(a)} -> {show(b)}' for a, b in tests)
