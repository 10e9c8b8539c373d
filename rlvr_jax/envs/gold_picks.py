r"""Which gold answer does a field of a data set hold?

Kind `pick`, the rules of the envs `tfds` and `folder`. Data: the value of the
answer field, and the record, a dict. Returns the gold answer, or a
`records.Gold`; a ValueError says why a row is bad.
"""

import re
from collections.abc import Mapping
from typing import Any

from rlvr_jax import registry
from rlvr_jax.envs.records import Gold, field, text
from rlvr_jax.verifiers.extraction import answer_words, extract

LETTERS = 'ABCDEFGHIJ'  # the choices that the verifier reads
WAYS = ('any', 'letter', 'number', 'text')
# 'a ) 38 , b ) 27.675', as in MathQA
_INLINE = re.compile(r'(?:^|[,;\n]\s*)\(?([A-Ja-j])\s?\)\s*')


@registry.register('pick')
def plain(value, record):
  """The field is the answer: a number, mathematics, `\\text{...}`, yes, no.

  True and False are true and false.
  """
  return text(value)


@registry.register('pick')
def words(value, record):
  """The field is an answer in words, compared without case and spaces."""
  answer = text(value).strip()
  if re.search(r'[{}\\$\n]', answer):
    raise ValueError(f'{registry.show(answer, 60)} is not words alone.')
  return f'\\text{{{answer}}}' if answer else ''


@registry.register('pick', 'hash')
def hashed(value, record):
  """The field is a worked solution that ends in '#### 18', as in GSM8K."""
  solution = text(value)
  return Gold(after_hash(solution), solution)


@registry.register('pick')
def boxed(value, record):
  r"""The field is a worked solution; its last `\boxed{}` holds the answer.

  Of a list in several boxes, all of them. As in MATH (Hendrycks et al.,
  arXiv:2103.03874).
  """
  solution = text(value)
  try:
    answer = extract.boxed(solution, several=True)
  except extract.TooLong as e:
    raise ValueError('the last \\boxed{} is too long.') from e
  if not answer:
    raise ValueError(f'{solution[-40:]!r} has no filled \\boxed{{}}.')
  return Gold(answer, solution)


@registry.register('pick')
def choice(
  value,
  record,
  *,
  options: str | tuple[str, ...],
  by: str = 'any',
  first: int = 0,
):
  """The field says which of the options is right; the gold answer is a letter.

  The question shows the options as 'A. ...' to 'J. ...', a line each.

  Args:
    options: the field with the options: a list of texts, of labels and texts
      ({'label': [...], 'text': [...]}, or a list of such objects), an object
      {'A': ...}, or one text 'a) 1, b) 2'. Or a tuple of fields, one an option.
    by: what the answer field holds: 'letter' (or a label), 'number', 'text', or
      'any' of them, where a text with two meanings makes a row bad. Numbers,
      unless they are labels, count options.
    first: the number of the first option.

  Raises:
    ValueError: there are fewer than 2 or more than 10 options, or none or
      several are meant.
  """
  if by not in WAYS:
    raise ValueError(
      f'by={registry.show(by)}: choose one of {", ".join(WAYS)}.'
    )
  labels, texts = _options(record, options)
  if not 2 <= len(texts) <= len(LETTERS):
    raise ValueError(f'has {len(texts)} options; 2 to {len(LETTERS)} can be.')
  if not all(texts):
    raise ValueError('has an empty option.')
  place = _place(value, labels, texts, by, first)
  shown = '\n'.join(f'{a}. {b}' for a, b in zip(LETTERS, texts))
  return Gold(LETTERS[place], shown=shown)


def after_hash(solution: str) -> str:
  """Returns what follows the last '####'.

  Raises:
    ValueError: nothing does.
  """
  _, mark, answer = solution.rpartition('####')
  answer = answer.strip()
  if not mark or not answer:
    raise ValueError(
      f'answer {solution[-40:]!r} does not end in "#### NUMBER".'
    )
  return answer


def _place(
  value: Any, labels: list[str], texts: list[str], by: str, first: int
) -> int:
  """The place of the option that `value` means, from 0."""
  said = text(value).strip()
  found: set[int] = set()
  if by in ('any', 'letter'):
    found = {i for i, label in enumerate(labels) if label == _label(said)}
    letter = answer_words.choice(said)
    if not found and letter in tuple(LETTERS[: len(texts)]):
      found = {LETTERS.index(letter)}
  is_number = re.fullmatch(r'\d{1,3}', said) is not None
  typed = type(value) is int  # 2 counts options, '2' may be the text of one
  if is_number and (by == 'number' or (by == 'any' and not (found and labels))):
    found |= {int(said) - first} & set(range(len(texts)))
  if by == 'text' or (by == 'any' and not typed and not (found and labels)):
    found |= {i for i, x in enumerate(texts) if x == said}
  shown = registry.show(said, 60)
  if not found:
    raise ValueError(
      f'{shown} is none of the options {registry.show(texts, 120)}.'
    )
  if len(found) > 1:
    meant = ' and '.join(LETTERS[i] for i in sorted(found))
    raise ValueError(f'{shown} may mean {meant}: say what it is with by=...')
  return found.pop()


def _options(
  record: Any, options: str | tuple[str, ...]
) -> tuple[list[str], list[str]]:
  """(labels, texts) of the options; no labels if they have none."""
  if isinstance(options, tuple):
    return [], [text(field(record, key)).strip() for key in options]
  value = field(record, options)
  if isinstance(value, str):
    pieces = _INLINE.split(value)
    labels, texts = pieces[1::2], pieces[2::2]
    if ''.join(labels).upper() != LETTERS[: len(labels)] or pieces[0].strip():
      raise ValueError(f"{registry.show(value, 60)} is not 'a) ..., b) ...'.")
  elif isinstance(value, Mapping):
    labelled = {'label', 'text'} <= set(value)
    labels = value['label'] if labelled else list(value)
    texts = value['text'] if labelled else list(value.values())
  elif isinstance(value, list) and all(isinstance(x, Mapping) for x in value):
    labels = [field(x, 'label') for x in value]
    texts = [field(x, 'text') for x in value]
  else:
    labels, texts = [], value
  if not isinstance(texts, (list, tuple)) or len(labels) not in (0, len(texts)):
    raise ValueError(f'{options}={registry.show(value, 60)} lists no options.')
  texts = [text(x).strip() for x in texts]
  own = [
    re.match(rf'\(?{letter}\s?[).:]\s*', x, re.IGNORECASE)
    for letter, x in zip(LETTERS, texts)
  ]
  if all(own):  # 'A) 21'
    texts = [x[m.end() :].strip() for m, x in zip(own, texts)]
  return [_label(text(x)) for x in labels], texts


def _label(said: str) -> str:
  return said.strip().strip('().:').strip().upper()
