r"""What does a judge's completion say about the responses that it was shown?

A `Judge` is two pure functions of text: a prompt builder and a strict parser.
Both sides are untrusted. A response may spell a verdict or the headings of the
prompt ('[[A]]', '[The end of response A]'), to be read by the judge or quoted
by it: in the prompt these are spelled otherwise (`defused`), and a parser
removes quotations. A judge's completion may be anything of any length: parsers
run in linear time, and what is not exactly a verdict is unreadable.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rlvr_jax import registry
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers.extraction import extract

Messages = list[dict[str, str]]
LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'


class Judgment(NamedTuple):
  """What a readable completion says."""

  # One for each response, in the order shown: 1 to 10, or of formats that name
  # the better of two 1 for it and 0 for the other.
  scores: tuple[int, ...]

  @property
  def winner(self) -> int | None:
    """The place of the largest score; None if several share it."""
    top = max(self.scores)
    return self.scores.index(top) if self.scores.count(top) == 1 else None


class Judge(NamedTuple):
  """A format: prompt builder and parser.

  Attributes:
    fewest, most: numbers of responses that it compares.
    build: see `prompt`.
    parse: (completion, number of responses shown) -> Judgment, or None for an
      unreadable one.
    verdict: (place, number of responses) -> the shortest text that `parse`
      reads as a preference for that place.
  """

  fewest: int
  most: int
  build: Callable[[str, Sequence[str], str], Messages]
  parse: Callable[[str, int], Judgment | None]
  verdict: Callable[[int, int], str]

  def prompt(
    self, question: str, responses: Sequence[str], best: int | None = None
  ) -> Messages:
    """The chat that asks for a judgment.

    Args:
      question: the task's question, or a chat as text.
      responses: in the order in which they are shown.
      best: a hint, the place of the best response: for samples to train on
        (rejective fine-tuning, SPCT). None for no hint.

    Raises:
      ValueError: a number of responses that the format does not compare, or no
        such place.
    """
    n = len(responses)
    if not self.fewest <= n <= self.most:
      raise ValueError(
        f'{n} responses: this judge compares {self.fewest} to {self.most}.'
      )
    if best is not None and not 0 <= best < n:
      raise ValueError(f'best={best} must lie in 0..{n - 1}.')
    hint = (
      '' if best is None else f'(Hint: the best response is {_name(best)}.)'
    )
    return self.build(defused(question), [defused(r) for r in responses], hint)

  def read(self, completion: str, n: int) -> Judgment | None:
    """The judgment of n responses; None for an unreadable completion."""
    return self.parse(completion, n)


@functools.lru_cache(64)
def format_of(spec: str) -> Judge:
  """The judge that a task's data['judge'] names."""
  return registry.get('judge', spec)()


def preferred(task: Task, completion: str) -> int | None:
  """The place of two that a completion prefers; None: unreadable, or a tie."""
  judgment = format_of(task.data['judge']).read(completion, 2)
  return None if judgment is None else judgment.winner


@registry.trial('judge')
def _trial(make: Callable[[], Judge]) -> None:
  made = make()
  if not isinstance(made, Judge):
    raise ValueError(
      f'it returned {registry.show(made)}: a judge is a '
      'verifiers.judgments.Judge(fewest, most, build, parse, verdict).'
    )


def _name(place: int) -> str:
  return f'{LETTERS[place]} (number {place + 1})'


##### text that only looks like a part of the format #####

# What a parser reads as a verdict, and what a prompt has around responses.
_FORGED = re.compile(
  r'\[(?=\[)|\\boxed(?=\s{0,8}\{\s{0,8}(?:\\text\s{0,8}\{\s{0,8})?'
  r'(?:Assistant|[0-9,\s]{1,80}\}))|</?(?=(?:answer|quote_[AB]|'
  r'summary_[AB]|eval|type|rubric|justify|solution|think|response)\b)'
  r'|\[(?=\s{0,8}The\s{1,8}(?:start|end)\s{1,8}of\b)',
  re.IGNORECASE,
)


def defused(text: str) -> str:
  r"""The text with a space in what a judge's format gives a meaning to.

  '[[A]]' becomes '[ [A]]', '<answer>' becomes '< answer>', '\boxed{7, 3}'
  becomes '\boxed {7, 3}' and is no more a verdict when a judge quotes it.
  Other boxes and text stay as they are.
  """
  return _FORGED.sub(lambda match: f'{match[0]} ', text)


_QUOTE = re.compile(r'<(/?)(?:quote|summary)_[AB]>')


def unquoted(text: str) -> str:
  """The text with blanks for <quote_A>...</quote_A>, <summary_B>... and so on.

  It keeps its length: nothing comes nearer to its end, and what stands on both
  sides of a quotation does not meet. A quotation that never closes reaches to
  the end of the text.
  """
  out, since, depth = [], 0, 0
  for match in _QUOTE.finditer(text):
    if not match[1]:
      if not depth:
        out.append(text[since : match.start()])
        since = match.start()
      depth += 1
    elif depth:
      depth -= 1
      if not depth:
        out.append(' ' * (match.end() - since))
        since = match.end()
  out.append(' ' * (len(text) - since) if depth else text[since:])
  return ''.join(out)


##### the parsers #####


def better_of_two(winner: int | None, n: int) -> Judgment | None:
  """The judgment that names place `winner` of two; None stays None."""
  if winner is None or n != 2:
    return None
  return Judgment((1, 0) if winner == 0 else (0, 1))


_ASSISTANT = re.compile(r'\\boxed\{Assistant ([12])\}')


def boxed_assistant(completion: str, n: int) -> Judgment | None:
  r"""RRM: `\boxed{Assistant 1}` or `\boxed{Assistant 2}` after the thought.

  Unreadable without one, with both, or if the thought never closes.
  """
  named = set(_ASSISTANT.findall(extract.reply(completion)))
  return better_of_two(int(named.pop()) - 1 if len(named) == 1 else None, n)


TAIL = 80  # characters


def answer_tag_at_end(completion: str, n: int) -> Judgment | None:
  """RM-R1's training reward: the last 80 characters hold one answer tag.

  <answer>[[A]]</answer> or <answer>[[B]]</answer>, exactly; 58 characters may
  follow. Unreadable with neither or both in them. What the text says before
  does not matter.
  """
  tail = unquoted(completion)[-TAIL:]
  found = [f'<answer>[[{x}]]</answer>' in tail for x in 'AB']
  return better_of_two(found.index(True) if sum(found) == 1 else None, n)


def letter_anywhere(completion: str, n: int) -> Judgment | None:
  """RM-R1's evaluation: [[A]] or [[B]] anywhere in the text, but not both."""
  text = unquoted(completion)
  found = [f'[[{x}]]' in text for x in 'AB']
  return better_of_two(found.index(True) if sum(found) == 1 else None, n)


def lone_letter(completion: str, n: int) -> Judgment | None:
  """After the thought nothing but the letter A or B."""
  said = extract.reply(completion).strip()
  return better_of_two({'A': 0, 'B': 1}.get(said), n)


_BOX = re.compile(r'\\boxed\{([^{}]{0,400})\}')
_LAST_LINE = 1000  # characters
_SCORE = re.compile(r'\s{0,8}([0-9]{1,2})\s{0,8}')


def boxed_scores(
  completion: str, n: int, *, low: int = 1, high: int = 10
) -> Judgment | None:
  r"""SPCT: the last line has one box with n integers of low..high and commas.

  `\boxed{7, 3}`. The last line of the text after the thought that is not empty;
  of a longer one, its last 1,000 characters.
  """
  line = extract.reply(completion).rstrip().rpartition('\n')[2][-_LAST_LINE:]
  boxes = _BOX.findall(line)
  if len(boxes) != 1 or line.count('\\boxed') != 1:
    return None
  parts = [_SCORE.fullmatch(x) for x in boxes[0].split(',')]
  scores = [int(x[1]) for x in parts if x]
  if len(scores) != len(parts) or len(scores) != n:
    return None
  if not all(low <= s <= high for s in scores):
    return None
  return Judgment(tuple(scores))
