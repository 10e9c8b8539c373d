"""What is a completion worth to a model that judges it?

The judging model is that of the config section `judge`; it looks at the
completions of a step before the rewards do (`rollouts.model_judge`).
"""

from collections.abc import Sequence
from typing import NamedTuple

from rlvr_jax import registry
from rlvr_jax.rewards import base
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import judgments

COMPARE = ('pairwise', 'reference', 'pointwise')
RULES = ('unanimous', 'majority')


class Settings(NamedTuple):
  """The options of `judge`."""

  format: str = 'rm_r1'
  compare: str = 'pairwise'
  samples: int = 2
  alpha: float = 0.0
  tau: float = 0.6
  rule: str = 'unanimous'


@registry.register('reward')
def judge(
  tasks: Sequence[Task],
  transcripts: Sequence[base.Transcript],
  *,
  format: str = 'rm_r1',
  compare: str = 'pairwise',
  samples: int = 2,
  alpha: float | int = 0.0,
  tau: float | int = 0.6,
  rule: str = 'unanimous',
) -> list[base.RewardResult]:
  """What the model of judge.name says of a completion in its group.

  Judged is the text after the thought. A comparison is made in both orders.

  Args:
    tasks, transcripts: rows whose `judged` is known.
    format: a judge by name: see rlvr_jax/verifiers/judge_formats.py.
    compare: 'pairwise': all pairs of the group, and the reward is the share of
      judgments won (SERL, `ops.pairwise.serl_rewards`). 'reference': all
      against one member of the group, 1 for a win, -1 otherwise, 0 for the
      reference (BRPO, `ops.pairwise.brpo_advantages`); use it with
      algo.estimate=reinforce, which takes them as advantages. 'pointwise': the
      mean score of each completion alone; a row without a readable one is
      refused.
    samples: judgments of a pair, half of them in either order, or of a
      completion. The cost: G (G - 1) / 2 pairs, G - 1, or G completions.
    alpha: pairwise: wins count within a band of lengths of this half width, in
      words; 0 for no rule on lengths. SERL's is .2.
    tau: reference: groups whose rewards are more skewed get 0; the paper's .6.
    rule: reference: a win must be 'unanimous' among the samples, or have the
      'majority'.

  Raises:
    ValueError: an option is out of range or is not read with this `compare`; no
      judge looked at a completion.
  """
  _check(Settings(format, compare, samples, alpha, tau, rule))
  out = []
  for transcript in transcripts:
    judged = transcript.judged
    if judged is None:
      raise ValueError(
        'no judge looked at the completions. It needs judge.name, and rewards '
        'of single answers in training; elsewhere there is no judge.'
      )
    if judged.value is None:
      out.append(base.RewardResult(0.0, {}, refused=True))
    else:
      out.append(base.RewardResult(judged.value, {'judge': judged.value}))
  return out


def settings(reward_funcs: Sequence[str]) -> Settings | None:
  """The options of `judge` in reward_funcs, also within another reward.

  None: nothing is judged. ValueError for two that differ.
  """
  specs = [s for x in reward_funcs for s in registry.within('reward', x)]
  judges = [s for s in specs if registry.parse(s)[0] == 'judge']
  options = [getattr(registry.get('reward', s), 'keywords', {}) for s in judges]
  found = {Settings(**x) for x in options}
  if len(found) > 1:
    raise ValueError(
      f'reward_funcs={registry.show(tuple(reward_funcs))} has judges of '
      f'{len(found)} different options: a step is judged once. Keep one.'
    )
  return found.pop() if found else None


def _check(s: Settings) -> None:
  """ValueError for options out of range, or that nothing reads."""
  if s.compare not in COMPARE or s.rule not in RULES:
    raise ValueError(
      f'compare={registry.show(s.compare)}, rule={registry.show(s.rule)}: '
      f'choose of {", ".join(COMPARE)} and of {", ".join(RULES)}.'
    )
  if not 0 <= s.alpha <= 1 or not 0 <= s.tau <= 1:
    raise ValueError(f'alpha={s.alpha}, tau={s.tau} must lie in [0, 1].')
  even = s.compare != 'pointwise'
  if not 1 <= s.samples <= 256 or (even and s.samples % 2):
    raise ValueError(
      f'samples={s.samples} must lie in 1..256, and be even for pairs: half of '
      'them are in either order.'
    )
  defaults = Settings()
  for key, reader in (
    ('alpha', 'pairwise'),
    ('tau', 'reference'),
    ('rule', 'reference'),
  ):
    if s.compare != reader and getattr(s, key) != getattr(defaults, key):
      raise ValueError(
        f'{key}={registry.show(getattr(s, key))} is read with '
        f'compare={reader} alone: leave it out.'
      )
  n = 2 if even else 1
  with registry.naming('format'):
    made = judgments.format_of(s.format)
  if not made.fewest <= n <= made.most:
    raise ValueError(
      f'format={registry.show(s.format)} judges {made.fewest} to {made.most} '
      f'responses; compare={s.compare} shows it {n}. Take another format, such '
      "as 'grm', or another `compare`."
    )
