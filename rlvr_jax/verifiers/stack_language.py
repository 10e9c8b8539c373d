"""What does a program in the stack language leave on the stack?

A program is words with white space between them, run from left to right on a
stack of whole numbers, whose top is written last:

  12, -3              push this number
  dup                 a -> a a
  drop                a ->
  swap                a b -> b a
  over                a b -> a b a
  + - *               a b -> a+b, a-b, a*b
  mod                 a b -> the remainder of a / b, with the sign of b
  < =                 a b -> 1 if a < b, a = b, else 0
  if A else B then    takes a; runs A if a is not 0, else B, which may be left
                      out with its `else`
  times A end         takes n; runs A n times, for n < 1 not at all

There are no definitions, jumps or memory. A program is text from a stranger:
it is interpreted here word by word, within the limits below, and a run costs
at most `STEPS` short steps whatever it says.
"""

import operator
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

LENGTH = 2_000  # most characters of a program
NESTING = 16  # deepest nesting of `if` and `times`
STACK = 64  # most numbers on the stack
STEPS = 1_000  # most words that a run executes, each repetition counted
DIGITS = 12  # most digits of a number
NUMBER = 10**DIGITS  # numbers are smaller than this in size

# word: how many numbers it takes from the stack and how many it leaves
EFFECTS: dict[str, tuple[int, int]] = {
  'dup': (1, 2),
  'drop': (1, 0),
  'swap': (2, 2),
  'over': (2, 3),
  '+': (2, 1),
  '-': (2, 1),
  '*': (2, 1),
  'mod': (2, 1),
  '<': (2, 1),
  '=': (2, 1),
}
_CONTROL = {'if': 1, 'else': 0, 'then': 0, 'times': 1, 'end': 0}
_NEEDS = _CONTROL | {word: taken for word, (taken, _) in EFFECTS.items()}
_BINARY: dict[str, Callable[[int, int], int]] = {
  '+': operator.add,
  '-': operator.sub,
  '*': operator.mul,
  'mod': operator.mod,
  '<': operator.lt,
  '=': operator.eq,
}
_CLOSES = {'else': ('if',), 'then': ('if', 'else'), 'end': ('times',)}
_CLOSED_BY = {'if': 'then', 'else': 'then', 'times': 'end'}
_NUMBER = re.compile(r'-?[0-9]+')


class Unreadable(ValueError):
  """The text is no program; the message says what is wrong and where."""


class Program(NamedTuple):
  """A program that can be run.

  Attributes:
    words: as they are written.
    values: the number that each word pushes; None for the other words.
    partners: where a word of control goes on: an `if` at its `else` or `then`,
      an `else` at its `then`, a `times` at its `end`, an `end` at its `times`;
      -1 for the other words.
  """

  words: tuple[str, ...]
  values: tuple[int | None, ...]
  partners: tuple[int, ...]


class Run(NamedTuple):
  """How a run ended.

  Attributes:
    stack: at the end, or before the word that could not be executed.
    steps: words executed, with the one that failed.
    fault: why the run failed, without any number of the stack; None if it did
      not.
    at: index of the word that failed; -1 if none did.
  """

  stack: tuple[int, ...]
  steps: int
  fault: str | None = None
  at: int = -1


def parse(text: str) -> Program:
  """Returns the program that a text spells.

  Raises:
    Unreadable: an unknown word, a number of more than `DIGITS` digits, words of
      control that do not match, no word at all, or a limit is exceeded.
  """
  if len(text) > LENGTH:
    raise Unreadable(f'it has more than {LENGTH} characters')
  words: list[str] = []
  values: list[int | None] = []
  partners: list[int] = []
  places: list[str] = []
  opened: list[int] = []
  for match in re.finditer(r'\S+', text):
    word, i = match[0], len(words)
    shown = repr(word if len(word) <= 20 else word[:20] + '...')
    place = f'{shown} (word {i + 1}, character {match.start() + 1})'
    words.append(word)
    values.append(None)
    partners.append(-1)
    places.append(place)
    if _NUMBER.fullmatch(word):
      if len(word.lstrip('-')) > DIGITS:
        raise Unreadable(f'{place} has more than {DIGITS} digits')
      values[i] = int(word)
    elif word not in _NEEDS:
      raise Unreadable(f'{place} is no word of the language')
    if word in _CLOSES:
      if not opened or words[opened[-1]] not in _CLOSES[word]:
        raise Unreadable(f'{place} has no {_CLOSES[word][0]!r} before it')
      before = opened.pop()
      partners[before] = i
      if word == 'end':
        partners[i] = before
    if word in _CLOSED_BY:
      opened.append(i)
      if len(opened) > NESTING:
        raise Unreadable(f'{place} is nested deeper than {NESTING}')
  if opened:
    i = opened[-1]
    raise Unreadable(f'{places[i]} has no {_CLOSED_BY[words[i]]!r} after it')
  if not words:
    raise Unreadable('it is empty')
  return Program(tuple(words), tuple(values), tuple(partners))


def run(program: Program, stack: Sequence[int]) -> Run:
  """Runs a program on a stack, whose last number is the top."""
  numbers = list(stack)
  words, values, partners = program
  repeats: list[int] = []  # repetitions left of each loop, this one included
  at = steps = 0
  while at < len(words):
    word, value = words[at], values[at]
    if steps == STEPS:
      return Run(tuple(numbers), steps, f'more than {STEPS} steps', at)
    steps += 1
    if value is None and len(numbers) < _NEEDS[word]:
      count = '1 number' if _NEEDS[word] == 1 else f'{_NEEDS[word]} numbers'
      return Run(tuple(numbers), steps, f'{word!r} needs {count}', at)
    go_on = at + 1
    if value is not None:
      numbers.append(value)
    elif word == 'dup':
      numbers.append(numbers[-1])
    elif word == 'drop':
      numbers.pop()
    elif word == 'swap':
      numbers[-2:] = numbers[-1], numbers[-2]
    elif word == 'over':
      numbers.append(numbers[-2])
    elif word in _BINARY:
      a, b = numbers[-2:]
      if word == 'mod' and not b:
        return Run(tuple(numbers), steps, "'mod' by 0", at)
      result = int(_BINARY[word](a, b))
      if abs(result) >= NUMBER:
        fault = f'{word!r} makes a number of more than {DIGITS} digits'
        return Run(tuple(numbers), steps, fault, at)
      numbers[-2:] = [result]
    elif word == 'if':
      if not numbers.pop():  # past the `else`, or to the end of a `then`
        go_on = partners[at] + 1
    elif word == 'else':
      go_on = partners[at] + 1
    elif word == 'times':
      count_left = numbers.pop()
      if count_left < 1:
        go_on = partners[at] + 1
      else:
        repeats.append(count_left)
    elif word == 'end':
      repeats[-1] -= 1
      if repeats[-1]:
        go_on = partners[at] + 1
      else:
        repeats.pop()
    if len(numbers) > STACK:
      fault = f'more than {STACK} numbers on the stack'
      return Run(tuple(numbers[:-1]), steps, fault, at)
    at = go_on
  return Run(tuple(numbers), steps)


def show(stack: Sequence[int], most: int = 8) -> str:
  """Writes a stack as a task does; of a deep one, its top `most` numbers."""
  text = ' '.join(map(str, stack[-most:]))
  return f'... {text}' if len(stack) > most else text or '(empty)'
