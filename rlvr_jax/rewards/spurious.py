"""Rewards with little, no or negative relation to being right.

Of Spurious Rewards (Shao et al. 2025, arXiv:2506.10947). Values are 0 or 1.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlvr_jax import registry
from rlvr_jax.rewards import core

if TYPE_CHECKING:
  from rlvr_jax.envs import core as envs

SHORTEST, LONGEST, TIMES = 10, 256, 10  # of a pattern, and how often in a row
READ = 100_000  # characters at the end of a text that are searched for it


@registry.register('reward')
def random(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  p: float = 0.5,
  seed: int = 0,
) -> list[core.Graded]:
  """1 with probability p, independent of what is said (`random<p>` there).

  The draw of a row is a function of (seed, all ids and completions of the
  batch, row). So a resumed run repeats it, equal completions get different
  draws, and no policy can learn it: another completion anywhere in the batch
  changes every draw. A function of the row's own text would be a reward for
  certain words.

  Raises:
    ValueError: p outside [0, 1].
  """
  core.check_finite(p=p)
  if not 0 <= p <= 1:
    raise ValueError(f'random(p={p}): p is a probability, in [0, 1].')
  digest = hashlib.blake2b(f'{seed}'.encode())
  for task, transcript in zip(tasks, transcripts, strict=True):
    for text in (task.id, transcript.completion):
      data = text.encode('utf-8', 'surrogatepass')
      digest.update(len(data).to_bytes(8, 'big') + data)
  rng = np.random.default_rng(int.from_bytes(digest.digest()[:16], 'big'))
  draws = rng.random(len(transcripts)) < p
  return [core.Graded(float(x), {'random': float(x)}) for x in draws]


@registry.register('reward')
def contains(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  text: str,
) -> list[core.Graded]:
  """1 where `text` occurs anywhere, in any case.

  contains(python) is `contain_python_wo_backticks` there.

  Raises:
    ValueError: an empty text.
  """
  del tasks
  if not (isinstance(text, str) and text):
    raise ValueError(f'contains(text={text!r}): give a text of some length.')
  said = [text.casefold() in t.completion.casefold() for t in transcripts]
  return [core.Graded(float(x), {'contains': float(x)}) for x in said]


@registry.register('reward')
def no_repetition(
  tasks: Sequence['envs.Task'], transcripts: Sequence[core.Transcript]
) -> list[core.Graded]:
  """0 where some 10 to 256 characters stand 10 or more times in a row, else 1.

  Looks at the last 100,000 characters.
  """
  del tasks
  values = [float(not repeats(t.completion)) for t in transcripts]
  return [core.Graded(x, {'no_repetition': x}) for x in values]


def repeats(text: str) -> bool:
  """Whether a pattern of SHORTEST..LONGEST characters stands TIMES in a row.

  With period n, that is a run of n * (TIMES - 1) places where a character
  equals the one n places on. Linear time for each n.
  """
  x = np.frombuffer(
    text[-READ:].encode('utf-32-le', 'surrogatepass'), dtype=np.uint32
  )
  for n in range(SHORTEST, min(LONGEST, len(x) // TIMES) + 1):
    differ = np.flatnonzero(x[n:] != x[:-n])
    ends = np.concatenate([[-1], differ, [len(x) - n]])
    if np.diff(ends).max() - 1 >= n * (TIMES - 1):
      return True
  return False


@registry.register('reward')
def inverse(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  reward: str,
) -> list[core.Graded]:
  """1 - r of another reward, as in inverse(format(boxed)).

  Its parts are kept under their names. A refused row stays refused.
  """
  func = registry.get('reward', reward)
  return [
    row if row.refused else row._replace(value=1.0 - row.value)
    for row in func(tasks, transcripts)
  ]


@registry.register('reward')
def all_of(
  tasks: Sequence['envs.Task'],
  transcripts: Sequence[core.Transcript],
  *,
  rewards: tuple[str, ...],
) -> list[core.Graded]:
  """1 where all of these are 1, else 0: all_of(format(boxed), contains(python)).

  Parts are kept under their names. A row that one refuses is refused.

  Raises:
    ValueError: no rewards.
  """
  if not rewards:
    raise ValueError('all_of() needs rewards: all_of(outcome, format(boxed)).')
  columns = [registry.get('reward', r)(tasks, transcripts) for r in rewards]
  out = []
  for row in zip(*columns, strict=True):
    parts = {k: v for part in row for k, v in part.parts.items()}
    value = float(all(part.value == 1 for part in row))
    refused = any(part.refused for part in row)
    out.append(core.Graded(0.0 if refused else value, parts, refused))
  return out
