"""Held-out accuracy, pass@k and maj@k, with intervals."""

import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax import codes, rollout, sampler
from rlvr_jax.ops import intervals, passk
from rlvr_jax.rewards import answer, core, strategy


class Evaluation(NamedTuple):
  tasks: list
  transcripts: list[list[core.Transcript]]  # [tasks][samples]


def sampling(c, end_ids, shrink: bool = False) -> sampler.Sampling:
  """How a config evaluates."""
  return sampler.Sampling(
    c.max_completion_length,
    end_ids,
    c.eval.temperature,
    c.eval.top_k,
    c.eval.top_p,
    shrink,
  )


def run(
  tasks: Sequence,
  sample: Callable,
  *,
  encode: Callable,
  tokenizer,
  samples: int,
  batch_size: int,
  max_prompt_length: int,
  timeout_s: float,
  progress: Callable = lambda done: None,
) -> Evaluation:
  """Samples every task `samples` times, in batches of one shape.

  Args:
    sample: (prompt, length, batch number, round) -> Sampled with one row a
      prompt. A short last batch is filled with its first prompt.
    progress: called with the number of samples done.
  """
  transcripts = [[] for _ in tasks]
  done = 0
  for number, start in enumerate(range(0, len(tasks), batch_size)):
    some = list(tasks[start : start + batch_size])
    full = some + some[:1] * (batch_size - len(some))
    prompt, length = rollout.encode_prompts(full, encode, max_prompt_length)
    for round_ in range(samples):
      drawn = sample(prompt, length, number, round_)
      drawn = type(drawn)(*(np.asarray(x)[: len(some)] for x in drawn))
      _, said = rollout.transcribe(some, drawn, tokenizer, timeout_s)
      for i, t in enumerate(said):
        transcripts[start + i].append(t)
      done += len(some)
      progress(done)
  return Evaluation(list(tasks), transcripts)


def summary(evaluation: Evaluation, *, seed: int = 0) -> dict[str, float]:
  """`eval/...` numbers with 95% intervals.

  One sample a task: Wilson's interval. More: the percentile bootstrap over
  tasks. pass@k is the unbiased estimator, k the powers of two up to the
  number of samples; maj@k takes the most frequent answer of all samples (ties
  go to the one said first) and is right if a sample that said it is.
  """
  right = np.array(
    [
      [t.verdict == codes.Verdict.CORRECT for t in row]
      for row in evaluation.transcripts
    ]
  )
  tasks, samples = right.shape
  rows = [t for row in evaluation.transcripts for t in row]
  out = {}

  def put(name, values):
    out[f'eval/{name}'] = float(np.mean(values))
    if samples == 1:
      low, high = intervals.wilson(values.sum(), tasks)
    else:
      low, high = intervals.bootstrap(values, seed=seed)
    out[f'eval/{name}_low'], out[f'eval/{name}_high'] = float(low), float(high)

  put('accuracy', right.mean(-1))
  if samples > 1:
    k = 1
    while k <= samples:
      n = np.full(tasks, samples)
      put(f'pass@{k}', np.asarray(passk.pass_at_k(n, right.sum(-1), k)))
      k *= 2
    put(f'maj@{samples}', _majority(evaluation.transcripts))
  out |= {
    'eval/mean_length': float(np.mean([t.num_tokens for t in rows])),
    'eval/clipped_ratio': float(
      np.mean([t.stop == codes.Stop.LENGTH for t in rows])
    ),
    'eval/unverifiable': float(
      np.mean([t.verdict == codes.Verdict.UNVERIFIABLE for t in rows])
    ),
    'eval/n': tasks,
    'eval/samples': samples,
  }
  used = strategy.usage(
    [task for task in evaluation.tasks for _ in range(samples)],
    [t.completion for t in rows],
    right.reshape(-1),
  )
  return out | {f'eval/{name}': value for name, value in used.items()}


def _majority(transcripts) -> np.ndarray:
  """f64[tasks]: 1 where the most frequent answer is right."""
  out = []
  for row in transcripts:
    said = [answer.canonical(t.completion) for t in row]
    votes = collections.Counter(a for a in said if a is not None)
    if not votes:
      out.append(0.0)
      continue
    top = votes.most_common(1)[0][0]
    out.append(float(row[said.index(top)].verdict == codes.Verdict.CORRECT))
  return np.array(out)
