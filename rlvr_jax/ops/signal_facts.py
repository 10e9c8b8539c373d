"""Facts of a problem: what decides how informative its outcome reward is.

Letters and assumptions are those of `signal`. Policies whose facts are known
exactly, a tabular softmax and a chain, are known answers, and laws of how D^2
and F move with the pass rate. Derived here unless a source is named.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax import types

Number = np.ndarray | np.float64
Values = types.Array | np.generic | float | int | Sequence  # of any shape


class Facts(NamedTuple):
  """What decides the gradient of one problem; shapes [X] or []."""

  p: Number  # pass rate
  d2: Number  # ||E[s | right] - E[s | wrong]||^2
  f_right: Number  # E[||s||^2 | right]
  f_wrong: Number  # E[||s||^2 | wrong]


def uniform(p: Values, rights: Values, wrongs: Values) -> Facts:
  """Facts of a tabular softmax with M right and N wrong answers.

  The score of answer y is e_y - pi, with probabilities p/M and q/N:
  D^2 = 1/M + 1/N, F+- = 1 - 2 pi+- + p^2/M + q^2/N.
  """
  p, m, n = np.broadcast_arrays(real(p), real(rights), real(wrongs))
  q = 1.0 - p
  squares = p**2 / m + q**2 / n
  right, wrong = 1 - 2 * p / m + squares, 1 - 2 * q / n + squares
  return Facts(*(v[()] for v in (p, 1 / m + 1 / n, right, wrong)))


def chain(a: Values, actions: Values) -> Facts:
  """Facts of H independent steps that must all be right: p = prod_h a_h.

  Step h is a tabular softmax of `actions` answers, one of them right with
  probability a_h, the others equal. With S = sum_h ||e_right - pi_h||^2,

    D^2 = S / q^2    F+ = S    F- = (sum_h (1 - ||pi_h||^2) - p S) / q

  since all right rollouts have the same score. A reward for each step instead
  has the facts `uniform(a_h, 1, actions - 1)` at step h, whatever H is.

  Args:
    a: [H], each in (0, 1).
    actions: of a step, [H] or [], at least 2.

  Raises:
    ValueError: an a_h outside (0, 1).
  """
  a, actions = np.broadcast_arrays(np.atleast_1d(real(a)), real(actions))
  if not ((a > 0) & (a < 1)).all():
    raise ValueError(
      f'a={a}: the chance to be right at a step is in (0, 1). Leave out steps '
      'that cannot fail.'
    )
  p = a.prod()
  squares = a**2 + (1 - a) ** 2 / (actions - 1)
  s = (1 - 2 * a + squares).sum()
  wrong = ((1 - squares).sum() - p * s) / (1 - p)
  return Facts(p, s / (1 - p) ** 2, s, wrong)


def through(
  p: Values,
  d2: Values,
  f_right: Values,
  f_wrong: Values,
  *,
  false_positive: Values,
  false_negative: Values,
) -> Facts:
  """The facts of the classes of a noisy verdict, exactly.

  With u = p (1 - FNR) + q FPR, the share of verdicts 'right', and
  J = 1 - FPR - FNR:

    D'^2 = D^2 (J pq / (u (1-u)))^2
    F'+  = [p (1-FNR) F+ + q FPR F-] / u
    F'-  = [p FNR F+ + q (1-FPR) F-] / (1-u)

  Delta' = J pq / (u (1-u)) Delta keeps its direction, and turns round where
  J < 0. A mean that is linear in the rewards shrinks by J. The SNR changes by
  phi^2, the squared correlation of verdict and truth, only to first order and
  only if F+ = F-.

  Assumes that the error is independent of the rollout given its class; an
  error that prefers some wrong answers changes Delta itself.

  Raises:
    ValueError: p or a rate outside [0, 1].
  """
  fpr = rate('false_positive', false_positive)
  fnr = rate('false_negative', false_negative)
  p, d2 = rate('p', p), real(d2)
  f_right, f_wrong = real(f_right), real(f_wrong)
  q = 1.0 - p
  u = p * (1 - fnr) + q * fpr
  with np.errstate(divide='ignore', invalid='ignore'):
    shrink = p * q * (1 - fpr - fnr) / (u * (1 - u))
    right = product(p * (1 - fnr), f_right) + product(q * fpr, f_wrong)
    wrong = product(p * fnr, f_right) + product(q * (1 - fpr), f_wrong)
    right, wrong = right / u, wrong / (1 - u)
  d2 = product(shrink**2, d2)
  return Facts(*(v[()] for v in np.broadcast_arrays(u, d2, right, wrong)))


def information(p: Values, fpr: Values, fnr: Values) -> Number:
  """Bits that one noisy verdict says about the truth, I(verdict; truth).

    I = h(u) - p h(FNR) - q h(FPR),   u = p (1 - FNR) + q FPR

  with the binary entropy h. h(p) for an exact verdict, 0 for a random one,
  whose own entropy is 1 bit: the entropy of a reward is not information.

  Raises:
    ValueError: p or a rate outside [0, 1].
  """
  p = rate('p', p)
  fpr, fnr = rate('fpr', fpr), rate('fnr', fnr)
  u = p * (1 - fnr) + (1 - p) * fpr
  bits = _entropy(u) - p * _entropy(fnr) - (1 - p) * _entropy(fpr)
  # Rounding may leave -1e-16.
  return np.maximum(bits, 0.0)[()]


def rho(p: Values, d2: Values, f_right: Values, f_wrong: Values) -> Number:
  """pq D^2 / F: the share of score variance that the outcome explains.

  A correlation ratio in [0, 1], with F = p F+ + q F-. A group of G has SNR of
  about (G-1) rho only if F+ = F-; else (G-1) pq D^2 / (q F+ + p F-).
  """
  p, q = real(p), 1.0 - real(p)
  return _share(p * q * real(d2), p * real(f_right) + q * real(f_wrong))


def best_baseline(p: Values, f_right: Values, f_wrong: Values) -> Number:
  """b* = p F+ / (p F+ + q F-): A = r - b* has the least noise of constants.

  It is E[r ||s||^2] / E[||s||^2] (Greensmith, Bartlett and Baxter 2004), the
  mean reward weighted by ||s||^2, and p only if F+ = F-. PSR (b = 0) is quieter
  than NSR (b = 1) iff p F+ < q F-, that is b* < 1/2.
  """
  right = real(p) * real(f_right)
  return _share(right, right + (1.0 - real(p)) * real(f_wrong))


def baseline_noise(
  p: Values,
  f_right: Values,
  f_wrong: Values,
  value: Values | None = None,
) -> Number:
  """E ||(r - b) s||^2 = p (1-b)^2 F+ + q b^2 F- of one rollout.

  At b* (value None) it is pq F+ F- / (p F+ + q F-). The mean, g, is the same
  for every constant b; the variance is this less ||g||^2.
  """
  p, f_right, f_wrong = real(p), real(f_right), real(f_wrong)
  b = best_baseline(p, f_right, f_wrong) if value is None else real(value)
  return (p * (1 - b) ** 2 * f_right + (1 - p) * b**2 * f_wrong)[()]


def real(x: Values) -> np.ndarray:
  """x as an array in float64."""
  return np.asarray(x, np.float64)


def product(weight, value):
  """weight * value, and 0 where the weight is: a class that no one is in."""
  value = np.where(weight == 0, 0.0, value)
  return weight * value


def rate(name: str, x: Values) -> np.ndarray:
  """x as an array; ValueError unless each is in [0, 1] or NaN."""
  x = real(x)
  if ((x < 0) | (x > 1)).any():
    raise ValueError(f'{name}={x}: it must be in [0, 1].')
  return x


def _share(part: Number, whole: Number) -> Number:
  """part / whole; NaN where both are 0."""
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.divide(part, whole)[()]


def _entropy(u: Number) -> Number:
  """Binary entropy in bits."""
  bits = lambda x: -x * np.log2(np.where(x > 0, x, 1.0))
  return bits(u) + bits(1 - u)
