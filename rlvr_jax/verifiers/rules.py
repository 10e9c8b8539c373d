r"""Which conventions decide what the final answer is, and what it equals?"""

from collections.abc import Mapping
from typing import NamedTuple


class Rules(NamedTuple):
  r"""Conventions on which graders differ: the config keys `verifier.*`.

  Attributes:
    require_mark: whether only a marked answer counts: a box, <answer>, #### or
      'the answer is'.
    unfinished_thought: 'none': a thought that never closes has no answer;
      'read': it is searched like a reply.
    truncated: of a completion that hit the length limit, only a marked answer
      counts ('marked'), or it is searched like any other ('read'), for
      answers that fill the limit by design.
    boxes: if there are several boxes for one value, the last counts ('last'),
      or all must hold the same text ('agree').
    hedges: '3 or 5' is no answer ('refuse'), or means its first number
      ('first', as GSM8K's regular expression does).
    percent: 'either': 10% equals 0.1 and also 10; 'strict': 0.1 alone.
    thousands: 'english': 1,000 is a thousand and 1.000 is one; 'european': the
      other way round, and 1,5 is one and a half.
    semicolons: whether [0; 1] is the interval [0, 1].
    ratios: 'written': 3:45 (it may be a time) equals itself and 3/45; 'scaled':
      also 1:15.
    domain: 'real': symbolic expressions are equal if they agree wherever both
      have a real value: \sqrt{1/n} equals 1/\sqrt{n}, |x| is not x;
      'positive': symbols stand for positive numbers, so |x| is x; 'complex':
      for any number, and \sqrt{1/n} is not 1/\sqrt{n}.
    approximate: relative error up to which a decimal equals an irrational
      number: by default 5e-7, six decimals of \sqrt{2}. Rational numbers are
      compared exactly: 0.3333 is not 1/3.
  """

  require_mark: bool = False
  unfinished_thought: str = 'none'
  truncated: str = 'marked'
  boxes: str = 'last'
  hedges: str = 'refuse'
  percent: str = 'either'
  thousands: str = 'english'
  semicolons: bool = True
  ratios: str = 'written'
  domain: str = 'real'
  approximate: float = 5e-7

  def changes(self) -> dict[str, str | bool | float]:
    """The fields that differ from the defaults, by name."""
    pairs = zip(self._fields, self, RULES)
    return {name: value for name, value, usual in pairs if value != usual}


RULES = Rules()


def rules_of(settings: Mapping[str, str | bool | float]) -> Rules:
  """Returns the `Rules` of the config section `verifier`, checked already."""
  return Rules(*(settings[name] for name in Rules._fields))
