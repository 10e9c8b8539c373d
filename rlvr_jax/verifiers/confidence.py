"""How sure of itself does a completion say that it is?"""

import re

LONGEST = 400  # most characters of a number
UNCERTAINTY_WORDS = (
  'wait', 'hmm', 'perhaps', 'maybe', 'actually', 'alternatively', 'seems',
  'might', 'likely', 'check',
)  # fmt: skip

_OPEN, _CLOSE = '<confidence>', '</confidence>'
_NUMBER = re.compile(r'[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?')


def parse(text: str) -> float | None:
  """Returns the stated confidence, in [0, 1]; None is a format failure.

  `<confidence>...</confidence>` must contain a plain decimal number such as
  0.8, .8, 1 or 8e-1; white space around it is allowed. None if the tag is
  missing, unclosed or repeated, or contains anything else: words, a percentage,
  NaN, an infinity, a number outside [0, 1].

  Stricter than RLCR's training code (arXiv:2507.16806), which takes the last
  tag and whatever Python's float() reads, NaN included.
  """
  if text.count(_OPEN) != 1 or text.count(_CLOSE) != 1:
    return None
  start, end = text.index(_OPEN) + len(_OPEN), text.index(_CLOSE)
  if not 0 <= end - start <= LONGEST:
    return None
  inside = text[start:end].strip()
  if not _NUMBER.fullmatch(inside):
    return None
  q = float(inside)
  return abs(q) if 0 <= q <= 1 else None


def uncertainty_words(text: str) -> int:
  """How often a text has one of UNCERTAINTY_WORDS, in any case.

  Inside of longer words too ("checking", "unlikely"), as the code of
  arXiv:2603.24472 counts them. It finds that a teacher that has read the
  solution writes few of these words, and that its students then write fewer:
  on hard problems they lose accuracy with them.
  """
  text = text.lower()
  return sum(map(text.count, UNCERTAINTY_WORDS))
