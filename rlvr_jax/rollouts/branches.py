"""Which branches of a prompt are no answer, and are dropped?

A branch starts with a token of a given rank and goes on greedily
(`models.sampler.branch`). Unlikely first tokens may end the text, or have none.
"""

from collections.abc import Sequence
from typing import Any

from rlvr_jax import registry
from rlvr_jax.enums import Stop
from rlvr_jax.io.encoding import MARK
from rlvr_jax.rewards import base

END, JUNK = 'end', 'junk'
FAULTS = (END, JUNK)


def check(c: Any, is_dialogue: bool, vocab_size: int) -> None:
  """ValueError where a run config `c` asks for branches that cannot be."""
  show, wrong = registry.show, []
  asked = {
    'sampling.branch': c.sampling.branch,
    'eval.branch': c.eval.branch,
    'eval.signals': c.eval.signals,
  }
  asked = [key for key, on in asked.items() if on]
  if 'sampling.branch' in asked and (c.method, c.algo.preference) == ('rl', ''):
    wrong.append(
      'sampling.branch=True: a policy gradient needs samples of the policy, and '
      "branches are none. Set algo.preference, such as 'dpo(beta=0.1)'"
    )
  elif 'sampling.branch' in asked and c.method != 'rl':
    wrong.append(
      f'sampling.branch=True is not read by method={show(c.method)}: set it to '
      'False'
    )
  for key, name, size in (
    ('sampling.branch', 'num_generations', c.num_generations),
    ('eval.branch', 'eval.samples', c.eval.samples),
  ):
    if key in asked and size > vocab_size:
      wrong.append(
        f'{key}=True with {name}={size}: the model has {vocab_size} first '
        'tokens to choose from'
      )
  if asked and is_dialogue:
    wrong.append(
      f'{" and ".join(asked)}=True: env={show(c.env)} is a dialogue, which has '
      'no final answer. Set it to False'
    )
  if wrong:
    raise ValueError(f'Config: {"; ".join(wrong)}.')


def fault(t: base.Transcript) -> str:
  """'' for a branch that is kept.

  'end': it ended before any text. 'junk': it holds a token that is no text
  (`MARK`, but for a last character that the limit cut), or nothing but blanks.
  """
  text = t.completion.rstrip(MARK) if t.cut else t.completion
  if not text.strip() and t.stop == Stop.END:
    return END
  return JUNK if MARK in text or not text.strip() else ''


def drop(
  results: Sequence[base.RewardResult], faults: Sequence[str]
) -> list[base.RewardResult]:
  """The rewards of branches: those with a fault are refused.

  So they leave their group and everything that is computed of it.
  """
  return [
    r._replace(value=0.0, refused=True) if fault else r
    for r, fault in zip(results, faults, strict=True)
  ]
