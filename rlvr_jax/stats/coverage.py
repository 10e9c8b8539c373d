"""What two policies can solve with many samples. NumPy only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def crossover(ks: Sequence[int], base, other) -> np.ndarray:
  """k*: from here on, `base` solves at least as much as `other`.

  The smallest of the listed k with pass@j(base) >= pass@j(other) for every
  listed j >= k; infinity if there is none. What differs by less than 1e-9 is
  equal. The curves are plotted, without this definition, in Yue et al. 2025
  (arXiv:2504.13837).

  Args:
    ks: K increasing numbers of samples.
    base: f[...,K], pass@k of the one.
    other: f[...,K], of the other.

  Returns:
    f64[...].

  Raises:
    ValueError: no k, ks that do not increase, other lengths.
  """
  ks, base, other = np.asarray(ks), np.asarray(base), np.asarray(other)
  if ks.ndim != 1 or not ks.size or (np.diff(ks) <= 0).any():
    raise ValueError(f'ks={ks.tolist()} must be increasing numbers.')
  if base.shape != other.shape or base.shape[-1:] != ks.shape:
    raise ValueError(
      f'Curves {base.shape} and {other.shape} must have {ks.size} values.'
    )
  ahead = base >= other - 1e-9
  onwards = np.logical_and.accumulate(ahead[..., ::-1], -1)[..., ::-1]
  first = ks[onwards.argmax(-1)]
  return np.where(onwards.any(-1), first.astype(np.float64), np.inf)


def efficiency_gap(base_at_k, other_at_1):
  """Delta_SE = pass@k(base) - pass@1(other): lower is better.

  What is left to gain by sampling once what the base finds in k samples; k is
  256 in Yue et al. 2025.
  """
  return base_at_k - other_at_1


class Classes(NamedTuple):
  """bool[M] each; every problem is in exactly one."""

  kept: np.ndarray  # both solve it
  lost: np.ndarray  # only the base does
  gained: np.ndarray  # only the other does
  neither: np.ndarray


def classes(base, other) -> Classes:
  """The four classes of M problems by who solves them (bool[M] each).

  Yue et al. 2025, later text: solved is "at least one right among n samples",
  so both sides need the same n.

  Raises:
    ValueError: two different numbers of problems.
  """
  base, other = np.asarray(base, bool), np.asarray(other, bool)
  if base.ndim != 1 or base.shape != other.shape:
    raise ValueError(f'Give bool[M] twice; got {base.shape}, {other.shape}.')
  return Classes(base & other, base & ~other, other & ~base, ~base & ~other)


def perplexity(logp, mask) -> np.ndarray:
  """exp(-mean log p) of each response, f64[B]; NaN for an empty one.

  PPL_m(Y|x) = exp(-(1/T) sum_t log P_m(y_t | x, y_<t)) (Yue et al. 2025).

  Args:
    logp: f[B,T], nats.
    mask: bool[B,T], the tokens of the response.
  """
  logp, mask = np.asarray(logp, np.float64), np.asarray(mask, bool)
  count = mask.sum(-1)
  mean = np.where(mask, logp, 0).sum(-1) / np.maximum(count, 1)
  return np.where(count > 0, np.exp(-mean), np.nan)
