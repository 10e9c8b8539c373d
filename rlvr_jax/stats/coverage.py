"""Which problems two policies solve: crossover, classes, perplexity."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


def crossover(
  ks: Sequence[int], base: ArrayLike, other: ArrayLike
) -> np.ndarray:
  """k*: smallest k from which pass@k of `base` is at least that of `other`.

  The smallest listed k with pass@j(base) >= pass@j(other) for every listed
  j >= k; infinity if there is none. Differences below 1e-9 count as equal. Yue
  et al. 2025 (arXiv:2504.13837) plot such curves without defining k*.

  Args:
    ks: K increasing numbers of samples.
    base: f[...,K], pass@k of one policy.
    other: f[...,K], pass@k of the other.

  Returns:
    f64[...].

  Raises:
    ValueError: no k, ks that do not increase, curves of another length.
  """
  k, base, other = np.asarray(ks), np.asarray(base), np.asarray(other)
  if k.ndim != 1 or not k.size or (np.diff(k) <= 0).any():
    raise ValueError(f'ks={k.tolist()} must be increasing numbers.')
  if base.shape != other.shape or base.shape[-1:] != k.shape:
    raise ValueError(
      f'Curves {base.shape} and {other.shape} must have {k.size} values.'
    )
  ahead = base >= other - 1e-9
  stays_ahead = np.logical_and.accumulate(ahead[..., ::-1], -1)[..., ::-1]
  first = k[stays_ahead.argmax(-1)]
  return np.where(stays_ahead.any(-1), first.astype(np.float64), np.inf)


def efficiency_gap(
  base_at_k: np.ndarray | float, other_at_1: np.ndarray | float
) -> np.ndarray | float:
  """Delta_SE = pass@k(base) - pass@1(other): lower is better.

  The sampling-efficiency gap of Yue et al. 2025, with k = 256: how far one
  sample of the trained policy is from k samples of the base model.
  """
  return base_at_k - other_at_1


class Classes(NamedTuple):
  """Masks bool[M]; every problem is in exactly one of them."""

  kept: np.ndarray  # solved by both
  lost: np.ndarray  # solved by the base only
  gained: np.ndarray  # solved by the other only
  neither: np.ndarray  # solved by none


def classes(base: ArrayLike, other: ArrayLike) -> Classes:
  """Splits M problems by which of two policies solves them (bool[M] each).

  Yue et al. 2025: a problem is solved if at least one of n samples is correct,
  so both policies need the same n.

  Raises:
    ValueError: shapes other than [M] twice.
  """
  base, other = np.asarray(base, bool), np.asarray(other, bool)
  if base.ndim != 1 or base.shape != other.shape:
    raise ValueError(f'Give bool[M] twice; got {base.shape}, {other.shape}.')
  return Classes(base & other, base & ~other, other & ~base, ~base & ~other)


def perplexity(logp: ArrayLike, mask: ArrayLike) -> np.ndarray:
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
