r"""Is the answer in the required format? Its content does not matter."""

from collections.abc import Callable, Sequence

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import confidence
from rlvr_jax.verifiers.extraction import extract


@registry.register('reward')
def format(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  pattern: str,
  correct: float = 1.0,
  wrong: float = 0.0,
) -> list[base.RewardResult]:
  """`correct` where the completion follows `pattern`, else `wrong`.

  Args:
    tasks, transcripts: n rows.
    pattern: see `follows`.
    correct: reward of a completion that follows the pattern.
    wrong: reward of any other.

  Raises:
    ValueError: the pattern is unknown, or a reward is not finite.
  """
  base.check_finite(correct=correct, wrong=wrong)
  _check(pattern)
  out = []
  for transcript in transcripts:
    is_correct = follows(transcript.completion, pattern, transcript.prefill)
    value = float(correct if is_correct else wrong)
    out.append(base.RewardResult(value, {'format': value}))
  return out


def follows(text: str, pattern: str, prefill: str | None = None) -> bool:
  r"""Whether a text has exactly one well-formed answer. Linear time.

  Patterns:
    boxed: exactly one `\boxed{...}`, closed and not empty.
    answer: exactly one `<answer>...</answer>`, not empty.
    think_answer: only `<think>...</think>` and then `<answer>...</answer>`,
      each once and not empty.
    hash: exactly one `####`, at the start of the last line and with text after
      it.
    tac: `<think>`, `<answer>`, `<confidence>`; tabc: with `<analysis>` after
      the answer; tbac: with `<analysis>` before the answer. Only these
      sections, each once, closed and not empty, and `confidence.parse` reads
      the confidence. These are the patterns of RLCR (arXiv:2507.16806), except
      that its code accepts several answers or confidences and uses the last.

  Chat templates may end the prompt with an open `<think>`; `prefill` is that
  part of the prompt, and it is prepended to the text. The opening tag may be
  missing if `prefill` is None (unknown), and, as in the code of RLCR, always
  for its patterns.

  Raises:
    ValueError: the pattern is unknown.
  """
  _check(pattern)
  text = ((prefill or '') + text).strip()
  if pattern == 'think_answer' and prefill is None:
    text = _opened(text)
  return PATTERNS[pattern](text)


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


def _hash(text: str) -> bool:
  line = text.rsplit('\n', 1)[-1]
  return (
    text.count('####') == 1
    and line.startswith('####')
    and line.strip('# ') != ''
  )


def _sections(*names: str) -> Callable[[str], bool]:
  """Returns a check that a text consists of these sections in this order."""

  def check(text: str) -> bool:
    text = _opened(text)
    if not all(_once(text, f'<{n}>', f'</{n}>') for n in names):
      return False
    rest = text
    for name in names:
      if not rest.startswith(f'<{name}>'):
        return False
      rest = rest.partition(f'</{name}>')[2].lstrip()
    return rest == '' and confidence.parse(text) is not None

  return check


def _opened(text: str) -> str:
  """Adds the opening tag if it is missing."""
  return text if text.startswith('<think>') else '<think>' + text


def _once(text: str, left: str, right: str) -> bool:
  """Whether both tags occur exactly once, in order, with text in between."""
  if text.count(left) != 1 or text.count(right) != 1:
    return False
  inside = text[text.index(left) + len(left) :].split(right)[0]
  return text.index(left) < text.index(right) and inside.strip() != ''


PATTERNS: dict[str, Callable[[str], bool]] = {
  'boxed': _boxed,
  'answer': _answer,
  'think_answer': _think_answer,
  'hash': _hash,
  'tac': _sections('think', 'answer', 'confidence'),
  'tabc': _sections('think', 'answer', 'analysis', 'confidence'),
  'tbac': _sections('think', 'analysis', 'answer', 'confidence'),
}


def _check(pattern: str) -> None:
  if pattern not in PATTERNS:
    raise ValueError(
      f'pattern={registry.show(pattern)}{registry.nearest(pattern, PATTERNS)} '
      f'Choose one of: {", ".join(PATTERNS)}.'
    )
