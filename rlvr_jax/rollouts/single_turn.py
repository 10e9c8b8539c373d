"""Tasks to scored rollouts: encode, sample, verify, reward, refill.

Host code around one device program. Letters as in `types`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rlvr_jax import enums, types
from rlvr_jax.envs import strategy_form
from rlvr_jax.models import sampler
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import certainty_signals
from rlvr_jax.verifiers import dispatch
from rlvr_jax.verifiers.extraction import extract


class Collected(NamedTuple):
  """P groups of G, with what people read of them."""

  tasks: list  # P
  rollout: types.Rollout
  score: types.Score
  transcripts: list[list[base.Transcript]]  # [P][G]
  graded: list[list[base.Graded]]  # [P][G]
  games: list | None = None  # [P][G], of dialogues: see `games.collect`
  more: list[list[dict]] | None = None  # [P][G], for the records of `lines`


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


def text_of(tokenizer, ids) -> str:
  """Text of sampled ids: see `Tokenizer.decode`."""
  return tokenizer.decode(ids)


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


def targets(tasks, tokenizer, max_completion_length: int) -> sampler.Sampled:
  """The tasks' worked solutions as if they had been sampled, end token too.

  Raises:
    ValueError: a task without `data['solution']`, or one whose solution has
      more than max_completion_length tokens: names it and the remedy.
  """
  n = max_completion_length
  tokens = np.zeros((len(tasks), n), np.int32)
  length = np.zeros(len(tasks), np.int32)
  for i, task in enumerate(tasks):
    if not isinstance(task.data.get('solution'), str):
      raise ValueError(
        f"Task {task.id!r} has no worked solution, which method='sft' "
        "imitates: its environment must give data['solution'], a text, as "
        'gsm8k and jsonl files with a solution do.'
      )
    ids = tokenizer.encode_answer(task.data['solution'])
    if len(ids) > n:
      raise ValueError(
        f'The solution of task {task.id!r} has {len(ids)} tokens with its end '
        f'token; max_completion_length is {n}. Raise max_completion_length, '
        'or take the task out of the data.'
      )
    tokens[i, : len(ids)], length[i] = ids, len(ids)
  stop = np.full(len(tasks), enums.Stop.END, np.int32)
  return sampler.Sampled(tokens, np.zeros((len(tasks), n)), length, stop)


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
    text_of(tokenizer, row[:size])
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
  view: Callable | None = None,
  clock: Callable = lambda name: None,
) -> Collected:
  """Samples `group` completions of each task and scores them.

  Args:
    sample: (prompt i32[P,S], length i32[P]) -> Sampled of host arrays.
    encode: task -> prompt ids.
    rules: how answers are found.
    greedy: like `sample`, one greedy row a prompt; its rewards are kept as
      `score.greedy`, 0 for a row that is refused.
    view: Rollout -> `logprobs.Outputs` of it, where a reward reads the
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
  if view is not None:
    transcripts = certainty_signals.attach(
      transcripts,
      rollout.turn.reshape(len(each), -1),
      sampled,
      view(rollout),
      lambda ids: text_of(tokenizer, ids),
    )
  graded = reward(each, transcripts)
  cut = lambda rows: [rows[i : i + group] for i in range(0, len(rows), group)]
  transcripts, graded = cut(transcripts), cut(graded)
  scored = score(graded, transcripts)
  if best is not None:
    rows = reward(*transcribe(tasks, best, tokenizer, timeout_s, rules))
    baseline = np.array([[g.value] for g in rows], np.float32)
    scored = scored.replace(greedy=baseline)
  types.check_rollout(rollout, scored)
  clock('reward')
  return Collected(list(tasks), rollout, scored, transcripts, graded)


def select(parts: Sequence[Collected], keep: Sequence, count: int):
  """The kept groups of several collections, in order, padded to `count`.

  A padding group has length 1, no sampled token and no turn: it weighs
  nothing anywhere. Shapes stay fixed, so nothing compiles again.

  Args:
    parts: collections of the same G and T.
    keep: bool[P] for each of them.
    count: P of the result; surplus groups are dropped.
  """
  chosen = [np.flatnonzero(k) for k in keep]

  def gather(field):
    rows = [np.asarray(field(c))[i] for c, i in zip(parts, chosen, strict=True)]
    rows = np.concatenate(rows)[:count]
    return np.pad(rows, [(0, count - len(rows))] + [(0, 0)] * (rows.ndim - 1))

  rollout = types.Rollout(
    tokens=gather(lambda c: c.rollout.tokens),
    length=np.maximum(gather(lambda c: c.rollout.length), 1),
    turn=gather(lambda c: c.rollout.turn + 1) - 1,
    logp=gather(lambda c: c.rollout.logp),
    stop=gather(lambda c: c.rollout.stop),
  )
  scored = types.Score(
    reward=gather(lambda c: c.score.reward),
    turns=gather(lambda c: c.score.turns),
    belief=None
    if parts[0].score.belief is None
    else gather(lambda c: c.score.belief),
    verdict=gather(lambda c: c.score.verdict),
    greedy=None
    if parts[0].score.greedy is None
    else gather(lambda c: c.score.greedy),
  )
  return rollout, scored


def metrics(parts: Sequence[Collected], informative) -> dict[str, float]:
  """Means over every group that was sampled, kept or not.

  Args:
    informative: bool[P] of all parts together: groups with spread.
  """
  rows = [
    (c, p, g)
    for c in parts
    for p in range(len(c.tasks))
    for g in range(len(c.graded[p]))
  ]
  graded = [c.graded[p][g] for c, p, g in rows]
  said = [c.transcripts[p][g] for c, p, g in rows]
  right = np.concatenate(
    [c.score.verdict == enums.Verdict.CORRECT for c in parts]
  )
  refused = np.array([g.refused for g in graded])
  value = np.array([g.value for g in graded])
  stds = [  # of a group, divided by G (TRL's reward_std: by G - 1)
    np.std([g.value for g in group if not g.refused] or [0.0])
    for c in parts
    for group in c.graded
  ]
  mean = lambda x: float(np.mean(x)) if len(x) else float('nan')
  names = sorted({name for g in graded for name in g.parts})
  verdicts = np.array([t.verdict for t in said])
  used = strategy_form.usage(
    [c.tasks[p] for c, p, _ in rows],
    [t.completion for t in said],
    verdicts == enums.Verdict.CORRECT,
  )
  return {
    'reward': mean(value[~refused]),
    'reward_std': mean(stds),
    **{
      f'rewards/{name}': mean(
        [g.parts[name] for g in graded if name in g.parts]
      )
      for name in names
    },
    'rewards/refused': mean(refused),
    'accuracy': mean(right),
    **{f'verdict/{v.name.lower()}': mean(verdicts == v) for v in enums.Verdict},
    'verdict/fallback': mean([t.fallback for t in said]),
    'verdict/timeout': mean([t.timed_out for t in said]),
    'frac_reward_zero_std': 1.0 - mean(informative),
    'frac_groups_all_fail': mean(~right.any(-1)),
    'frac_groups_all_pass': mean(right.all(-1)),
    'completions/mean_length': mean([t.num_tokens for t in said]),
    'completions/clipped_ratio': mean(
      [t.stop == enums.Stop.LENGTH for t in said]
    ),
    **used,
  }


def varied(collected: Collected, low: float) -> np.ndarray:
  """bool[P]: the std of a group's rewards, divided by their number, is above
  `low` (Deng et al. 2025, arXiv 2510.25992, section 3). All of them for 0."""
  rows = [
    [g.value for g in group if not g.refused] or [0.0]
    for group in collected.graded
  ]
  return np.array([low == 0 or np.std(values) > low for values in rows])


def lines(collected: Collected, split: str, limit: int) -> list[dict]:
  """Readable records, the first `limit` rows, a group after the other."""
  out = []
  for p, task in enumerate(collected.tasks):
    rows = zip(collected.transcripts[p], collected.graded[p], strict=True)
    for i, (t, g) in enumerate(rows):
      if len(out) == limit:
        return out
      line = record(task, t, split) | {'reward': g.value, 'parts': g.parts}
      out.append(line | (collected.more[p][i] if collected.more else {}))
  return out


def record(task, t: base.Transcript, split: str) -> dict:
  """What rollouts.jsonl says of one completion."""
  return {
    'split': split,
    'id': task.id,
    'question': task.question,
    'answer': task.answer,
    'completion': t.completion,
    'tokens': t.num_tokens,
    'verdict': t.verdict.name,
    'fallback': t.fallback,
    'timed_out': t.timed_out,
    'stop': t.stop.name,
  }
