"""Conventions on which graders differ."""

from typing import NamedTuple


class Conventions(NamedTuple):
  r"""What a verdict on mathematics takes for equal.

  Attributes:
    percent: 'either': 10% equals 0.1 and also 10; 'strict': 0.1 alone.
    thousands: 'english': 1,000 is a thousand and 1.000 is one; 'european': the
      other way round, and 1,5 is one and a half.
    semicolons: whether [0; 1] is the interval [0, 1].
    ratios: 'written': 3:45 (it may be a time) equals itself and 3/45; 'scaled':
      also 1:15.
    domain: 'real': expressions in symbols are equal if they are wherever both
      have a real value: \sqrt{1/n} equals 1/\sqrt{n}, |x| is not x;
      'positive': symbols stand for positive numbers, so |x| is x; 'complex':
      for any, and \sqrt{1/n} is not 1/\sqrt{n}.
    approximate: relative error up to which a decimal equals an irrational
      number: by default 5e-7, six decimals of \sqrt{2}. Rational numbers are
      compared exactly: 0.3333 is not 1/3.
  """

  percent: str = 'either'
  thousands: str = 'english'
  semicolons: bool = True
  ratios: str = 'written'
  domain: str = 'real'
  approximate: float = 5e-7


DEFAULT = Conventions()
