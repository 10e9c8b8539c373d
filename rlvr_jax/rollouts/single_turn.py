"""Tasks to scored rollouts: encode, sample, verify, reward, refill.

Host code around one device program. Letters as in `types`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from rlvr_jax import enums, types
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import certainty_signals, groups
from rlvr_jax.verifiers import dispatch
from rlvr_jax.verifiers.extraction import extract


def encode_prompts(tasks, encode, max_prompt_length: int):
  """(tokens i32[P,S], length i32[P]), right-padded with 0.

  Raises:
    ValueError: a prompt longer than S: names the task and the remedy.
  """
  tokens = np.zeros((len(tasks), max_prompt_length), np.int32)
  length = np.zeros(len(tasks), np.int32)
  for i, task in enumerate(tasks):
    ids = encode(task)
    if not 0 < len(ids) <= max_prompt_length:
      raise ValueError(
        f'The prompt of task {task.id!r} has {len(ids)} tokens; '
        f'max_prompt_length is {max_prompt_length}. Raise '
        'max_prompt_length, or take the task out of the data.'
      )
    tokens[i, : len(ids)], length[i] = ids, len(ids)
  return tokens, length


def to_rollout(prompt, prompt_length, sampled, group: int) -> types.Rollout:
  """Rows prompt + completion, right-padded: T = S + N. Host arrays.

  Args:
    prompt: i32[P,S]; prompt_length: i32[P].
    sampled: a `sampler.Sampled` of host arrays, B = P*group.
  """
  p, s = prompt.shape
  b, n = sampled.tokens.shape
  tokens = np.zeros((b, s + n), np.int32)
  logp = np.zeros((b, s + n), np.float32)
  turn = np.full((b, s + n), -1, np.int32)
  for row in range(b):
    start, size = prompt_length[row // group], sampled.length[row]
    tokens[row, :start] = prompt[row // group, :start]
    here = slice(start, start + size)
    tokens[row, here] = sampled.tokens[row, :size]
    logp[row, here] = sampled.logp[row, :size]
    turn[row, here] = 0
  cut = lambda x: x.reshape(p, group, *x.shape[1:])
  return types.Rollout(
    tokens=cut(tokens),
    length=cut(np.repeat(prompt_length, group) + sampled.length),
    turn=cut(turn),
    logp=cut(logp),
    stop=cut(np.asarray(sampled.stop)),
  )


def transcribe(
  tasks,
  sampled,
  tokenizer,
  timeout_s: float,
  rules: extract.Rules = extract.RULES,
):
  """[P*G] transcripts, each verified against its task."""
  group = len(sampled.tokens) // len(tasks)
  texts = [
    tokenizer.decode(row[:size])
    for row, size in zip(sampled.tokens, sampled.length, strict=True)
  ]
  each = [task for task in tasks for _ in range(group)]
  cut = np.asarray(sampled.stop) == enums.Stop.LENGTH
  how = {'truncated': cut, 'rules': rules}
  late: set[int] = set()
  verdicts = dispatch.verify(
    each, texts, timeout_s=timeout_s, timed_out=late, **how
  )
  unmarked = dispatch.fallback(each, texts, **how)
  return each, [
    base.Transcript(
      text,
      int(size),
      enums.Stop(int(stop)),
      verdict,
      fallback=fallback,
      timed_out=i in late,
      rules=rules,
      prefill=tokenizer.prefill,
    )
    for i, (text, size, stop, verdict, fallback) in enumerate(
      zip(texts, sampled.length, sampled.stop, verdicts, unmarked, strict=True)
    )
  ]


def score(graded, transcripts) -> types.Score:
  """One turn a row (K=1); a refused row's turn did not take place. [P,G]."""
  table = lambda f, rows, dtype: np.array(
    [[f(x) for x in row] for row in rows], dtype
  )
  return types.Score(
    reward=table(lambda g: g.value, graded, np.float32)[..., None],
    turns=table(lambda g: not g.refused, graded, bool)[..., None],
    belief=None,
    verdict=table(lambda t: t.verdict, transcripts, np.int32),
  )


def collect(
  tasks: Sequence,
  sample: Callable,
  *,
  encode: Callable,
  tokenizer,
  reward: base.Reward,
  group: int,
  max_prompt_length: int,
  timeout_s: float,
  rules: extract.Rules = extract.RULES,
  greedy: Callable | None = None,
  policy_outputs: Callable | None = None,
  clock: Callable = lambda name: None,
) -> groups.Collected:
  """Samples `group` completions of each task and scores them.

  Args:
    sample: (prompt i32[P,S], length i32[P]) -> Sampled of host arrays.
    encode: task -> prompt ids.
    rules: how answers are found.
    greedy: like `sample`, one greedy row a prompt; its rewards are kept as
      `score.greedy`, 0 for a row that is refused.
    policy_outputs: Rollout -> `logprobs.Outputs` of it, where a reward reads the
      policy's own probabilities.
    clock: called with the name of the stage that ends.

  Raises:
    ValueError: a prompt that is too long, or a broken invariant of Rollout.
  """
  prompt, length = encode_prompts(tasks, encode, max_prompt_length)
  sampled = sample(prompt, length)
  best = None if greedy is None else greedy(prompt, length)
  clock('rollout')
  each, transcripts = transcribe(tasks, sampled, tokenizer, timeout_s, rules)
  rollout = to_rollout(prompt, length, sampled, group)
  if policy_outputs is not None:
    transcripts = certainty_signals.attach(
      transcripts,
      rollout.turn.reshape(len(each), -1),
      sampled,
      policy_outputs(rollout),
      tokenizer.decode,
    )
  graded = reward(each, transcripts)
  cut = lambda rows: [rows[i : i + group] for i in range(0, len(rows), group)]
  transcripts, graded = cut(transcripts), cut(graded)
  rollout_score = score(graded, transcripts)
  if best is not None:
    rows = reward(*transcribe(tasks, best, tokenizer, timeout_s, rules))
    baseline = np.array([[g.value] for g in rows], np.float32)
    rollout_score = rollout_score.replace(greedy=baseline)
  types.check_rollout(rollout, rollout_score)
  clock('reward')
  return groups.Collected(
    list(tasks), rollout, rollout_score, transcripts, graded
  )
