"""The policy's own probabilities of its samples, for label-free rewards."""

import bisect
from collections.abc import Callable, Sequence

import numpy as np

from rlvr_jax.io.encoding import MARK
from rlvr_jax.models import sampler, token_logprobs
from rlvr_jax.rewards import base
from rlvr_jax.verifiers.extraction import extract


def attach(
  transcripts: Sequence[base.Transcript],
  turn: np.ndarray,
  sampled: sampler.Sampled,
  outputs: token_logprobs.Outputs,
  decode: Callable[[Sequence[int]], str],
) -> list[base.Transcript]:
  """The transcripts with `signals` set: means over a row's sampled tokens.

  Args:
    transcripts: B of them.
    turn: i32[B,T], -1 where a token was not sampled, as `Rollout.turn`.
    sampled: tokens i32[B,N] and length i32[B] of the completions.
    outputs: of these rows, with certainty; host arrays.
    decode: ids of a completion's first tokens -> their text.
  """
  out = []
  for i, transcript in enumerate(transcripts):
    own = np.flatnonzero(turn[i] >= 0)
    p, gap = np.exp(outputs.logp[i, own]), outputs.gap[i, own]
    ids = sampled.tokens[i, : sampled.length[i]]
    span = answer_tokens(
      transcript.completion,
      ids,
      decode,
      rules=transcript.rules,
      cut=transcript.cut,
    )
    out.append(
      transcript._replace(
        signals=base.Signals(
          entropy=_mean(outputs.entropy[i, own]),
          self_certainty=_mean(outputs.certainty[i, own]),
          answer_probability=None if span is None else _mean(p[slice(*span)]),
          answer_gap=None if span is None else _mean(gap[slice(*span)]),
        )
      )
    )
  return out


def _mean(x: np.ndarray) -> float:
  return float(np.mean(x)) if len(x) else 0.0


def answer_tokens(
  text: str,
  ids: Sequence[int],
  decode: Callable[[Sequence[int]], str],
  **options,
) -> tuple[int, int] | None:
  """(first, last + 1) of the tokens that hold any part of the final answer.

  None if there is no answer.

  Args:
    **options: `rules` and `cut` of `extract.answer_span`.
  """
  span = extract.answer_span(text, numeric=False, **options)
  if span is None:
    return None
  upto = range(1, len(ids) + 1)

  def size(n, part=1):
    # An incomplete character decodes to one or several marks. It counts as
    # `part` characters, so that size(n) never decreases and can be bisected.
    prefix = decode(ids[:n])
    complete = prefix.rstrip(MARK)
    return len(complete) + part * (complete != prefix)

  part = int(text[span[1] - 1] == MARK)
  first = bisect.bisect_right(upto, span[0], key=size)
  last = bisect.bisect_left(upto, span[1], key=lambda n: size(n, part))
  return (first, last + 1) if first <= last < len(ids) else None
