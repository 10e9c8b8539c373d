"""The policy's own probabilities, as rewards without labels read them."""

import bisect

import numpy as np

from rlvr_jax.io.encoding import MARK
from rlvr_jax.rewards import base
from rlvr_jax.verifiers.extraction import extract


def attach(transcripts, rows, sampled, outputs, decode):
  """The transcripts with `signals`: means over a row's sampled tokens.

  Args:
    transcripts: B of them.
    rows: i32[B,T], -1 where a token was not sampled, as `Rollout.turn`.
    sampled: tokens i32[B,N] and length i32[B] of the completions.
    outputs: `logprobs.Outputs` of these rows with certainty, host arrays.
    decode: ids -> text of a completion's beginning.
  """
  out = []
  for i, transcript in enumerate(transcripts):
    here = np.flatnonzero(rows[i] >= 0)
    p = np.exp(outputs.logp[i, here])
    ids = sampled.tokens[i, : sampled.length[i]]
    how = {'rules': transcript.rules, 'cut': transcript.cut}
    span = answer_tokens(transcript.completion, ids, decode, **how)
    mean = lambda x: float(np.mean(x)) if len(x) else 0.0
    out.append(
      transcript._replace(
        signals=base.Signals(
          entropy=mean(outputs.entropy[i, here]),
          self_certainty=mean(outputs.certainty[i, here]),
          answer_probability=None if span is None else mean(p[slice(*span)]),
        )
      )
    )
  return out


def answer_tokens(text: str, ids, decode, **how) -> tuple[int, int] | None:
  """(first, after the last) of the tokens that the final answer is made of.

  A token that holds a part of the answer counts. None if there is no answer.

  Args:
    **how: rules and cut of `extract.answer_span`.
  """
  span = extract.answer_span(text, numeric=False, **how)
  if span is None:
    return None
  upto = range(1, len(ids) + 1)

  def size(n, part=1):
    # A half character may be several marks: `part`, so that sizes never fall.
    known = decode(ids[:n])
    whole = known.rstrip(MARK)
    return len(whole) + part * (whole != known)

  part = int(text[span[1] - 1] == MARK)
  first = bisect.bisect_right(upto, span[0], key=size)
  last = bisect.bisect_left(upto, span[1], key=lambda n: size(n, part))
  return (first, last + 1) if first <= last < len(ids) else None
