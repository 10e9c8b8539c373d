r"""Rewards a completion for the form of its answer, whatever it says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlvr_jax import registry
from rlvr_jax.rewards import confidence, core, extract

if TYPE_CHECKING:
  from rlvr_jax.envs import core as envs


@registry.register('reward')
def format(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  pattern: str,
  correct: float = 1.0,
  wrong: float = 0.0,
) -> list[core.Graded]:
  """`correct` where the completion follows `pattern`, else `wrong`.

  See `follows` for the patterns. Raises ValueError for an unknown one.
  """
  core.check_finite(correct=correct, wrong=wrong)
  _check(pattern)
  out = []
  for transcript in transcripts:
    right = follows(transcript.completion, pattern)
    value = float(correct if right else wrong)
    out.append(core.Graded(value, {'format': value}))
  return out


def follows(text: str, pattern: str) -> bool:
  r"""Whether a text has exactly one, well-formed answer. Linear time.

  Patterns:
    boxed: exactly one `\boxed{...}`, closed, not empty.
    answer: exactly one `<answer>...</answer>`, not empty.
    think_answer: nothing but `<think>...</think>` and then
      `<answer>...</answer>`, each once, neither empty. If the chat template
      already opens `<think>`, the completion lacks it and does not follow.
    tac, tabc, tbac: RLCR's outputs (arXiv:2507.16806, code): nothing but
      `<think>`, `<answer>`, `<analysis>` (b) and `<confidence>`, in the order
      of the letters, each once, none empty, and a confidence that
      `confidence.parse` reads. The opening `<think>` may be missing.
    hash: exactly one `####`, at the start of the last line, and something
      after it.

  Raises:
    ValueError: unknown pattern.
  """
  _check(pattern)
  return PATTERNS[pattern](text.strip())


def _boxed(text: str) -> bool:
  if text.count('\\boxed') != 1:
    return False
  try:
    return bool(extract.boxed(text))
  except extract.TooLong:
    return False


def _answer(text: str) -> bool:
  return _once(text, '<answer>', '</answer>')


def _think_answer(text: str) -> bool:
  if not _once(text, '<think>', '</think>') or not _answer(text):
    return False
  thought, rest = text.split('</think>')
  rest = rest.strip()
  return (
    thought.startswith('<think>')
    and rest.startswith('<answer>')
    and rest.endswith('</answer>')
  )


def _in_order(text: str, *tags: str) -> bool:
  """Nothing but these tags, once each, in order; the first may lack its mark."""
  if not text.startswith(f'<{tags[0]}>'):
    text = f'<{tags[0]}>{text}'
  for tag in tags:
    left, right = f'<{tag}>', f'</{tag}>'
    if not text.startswith(left) or not _once(text, left, right):
      return False
    text = text.split(right)[1].lstrip()
  return not text


def _confident(text: str, *tags: str) -> bool:
  return confidence.parse(text) is not None and _in_order(text, *tags)


def _hash(text: str) -> bool:
  line = text.rsplit('\n', 1)[-1]
  return (
    text.count('####') == 1
    and line.startswith('####')
    and line.strip('# ') != ''
  )


def _once(text: str, left: str, right: str) -> bool:
  """Both marks exactly once, in order, with something between them."""
  if text.count(left) != 1 or text.count(right) != 1:
    return False
  inside = text[text.index(left) + len(left) :].split(right)[0]
  return text.index(left) < text.index(right) and inside.strip() != ''


PATTERNS = {
  'boxed': _boxed,
  'answer': _answer,
  'think_answer': _think_answer,
  'tac': lambda text: _confident(text, 'think', 'answer', 'confidence'),
  'tabc': lambda text: _confident(
    text, 'think', 'answer', 'analysis', 'confidence'
  ),
  'tbac': lambda text: _confident(
    text, 'think', 'analysis', 'answer', 'confidence'
  ),
  'hash': _hash,
}


def _check(pattern: str) -> None:
  if pattern not in PATTERNS:
    raise ValueError(
      f'pattern={pattern!r}{registry.nearest(pattern, PATTERNS)} '
      f'Choose one of: {", ".join(PATTERNS)}.'
    )
