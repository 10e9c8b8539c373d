"""Compares mathematics with mathematics; runs in a worker process."""

import functools
import importlib


def check(gold: str, answer: str | None) -> str:
  """'correct', 'wrong', 'bad gold' or 'unreadable', by math-verify.

  Without an answer it only says whether the gold can be read ('correct').
  Both are LaTeX: the path of math-verify that evaluates Python expressions
  (sympy's parse_expr) is not used.
  """
  gold_parsed = _parse(gold)
  if not gold_parsed:
    return 'bad gold'
  if answer is None:
    return 'correct'
  parsed = _parse(answer)
  if not parsed:
    return 'unreadable'
  verify = importlib.import_module('math_verify').verify
  # The order matters: gold first. The pool keeps the time.
  same = verify(
    list(gold_parsed), list(parsed), timeout_seconds=None, raise_on_error=True
  )
  return 'correct' if same else 'wrong'


def warm(_: str) -> str:
  """What a new worker does first."""
  return check('\\frac{x}{2}', '0.5x')


@functools.lru_cache(maxsize=512)
def _parse(latex: str) -> tuple:
  module = importlib.import_module('math_verify')
  return tuple(
    module.parse(
      f'${latex}$',
      extraction_config=[module.LatexExtractionConfig()],
      fallback_mode='no_fallback',
      parsing_timeout=None,
      raise_on_error=True,
    )
  )
