"""Reads the confidence that a completion states about its own answer."""

import re

LONGEST = 400  # characters that a number may have

_OPEN, _CLOSE = '<confidence>', '</confidence>'
_NUMBER = re.compile(r'[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?')


def parse(text: str) -> float | None:
  """The stated confidence, in [0, 1], or None: a format failure.

  Read is what stands in `<confidence>...</confidence>`: a plain decimal number
  such as 0.8, .8, 1 or 8e-1, with white space around it. None if the tag is
  missing, unclosed or there more than once, or holds anything else: words, a
  percentage, NaN, an infinity, a number outside [0, 1].

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
