"""Single-turn rollouts: encode prompts, sample, verify, reward.

Host code around one device program. Letters as in `types`; S prompt columns,
N completion columns.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from rlvr_jax import enums, hosts, types
from rlvr_jax.io.encoding import Tokenizer
from rlvr_jax.models import sampler, token_logprobs
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import branches, certainty_signals, groups
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import dispatch
from rlvr_jax.verifiers.extraction import extract


def encode_task(task: Task, tokenizer: Tokenizer, system: str) -> list[int]:
  """Ids of a task's prompt in the chat template, ready for an answer.

  The prompt is the question as the user's message, or data['messages'] where a
  task has them: earlier turns of a chat.

  Args:
    system: the system message, '' for none; of messages that have one it
      stands back.
  """
  messages = task.data.get('messages')
  if messages is None:
    return tokenizer.encode_chat(task.question, system)
  if system and messages[0]['role'] != 'system':
    messages = [{'role': 'system', 'content': system}, *messages]
  return tokenizer.encode_messages(messages)


def prompt_key(task: Task) -> str:
  """What the ids of a task's prompt depend on: see `encode_task`."""
  return repr((task.question, task.data.get('messages')))


def encode_prompts(
  tasks: Sequence[Task],
  encode: Callable[[Task], Sequence[int]],
  max_prompt_length: int,
) -> tuple[np.ndarray, np.ndarray]:
  """(tokens i32[P,S], length i32[P]), right-padded with 0.

  Raises:
    ValueError: a prompt that is empty or longer than S = max_prompt_length.
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


def to_rollout(
  prompt: np.ndarray,
  prompt_length: np.ndarray,
  sampled: sampler.Sampled,
  group: int,
) -> types.Rollout:
  """Rows of prompt and completion, right-padded to T = S + N. Host arrays.

  Args:
    prompt: i32[P,S]; prompt_length: i32[P].
    sampled: host arrays, B = P*group rows.
  """
  p, s = prompt.shape
  b, n = sampled.tokens.shape
  tokens = np.zeros((b, s + n), np.int32)
  logp = np.zeros((b, s + n), np.float32)
  turn = np.full((b, s + n), -1, np.int32)
  for row in range(b):
    start, size = prompt_length[row // group], sampled.length[row]
    tokens[row, :start] = prompt[row // group, :start]
    completion = slice(start, start + size)
    tokens[row, completion] = sampled.tokens[row, :size]
    logp[row, completion] = sampled.logp[row, :size]
    turn[row, completion] = 0
  grouped = lambda x: x.reshape(p, group, *x.shape[1:])
  return types.Rollout(
    tokens=grouped(tokens),
    length=grouped(np.repeat(prompt_length, group) + sampled.length),
    turn=grouped(turn),
    logp=grouped(logp),
    stop=grouped(np.asarray(sampled.stop)),
  )


class Verifier:
  """Verifies rows as they end; each host its share of them.

  Args:
    tasks: of each of B rows.
    tokenizer: that decodes them.
    timeout_s: seconds that the verification of one completion may take.
    rules: how the final answer is found in a completion.
    feedback: whether to say what is wrong: see `dispatch.feedback`.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    tokenizer: Tokenizer,
    timeout_s: float,
    rules: extract.Rules = extract.RULES,
    feedback: bool = False,
  ):
    self._tasks, self._tokenizer = tasks, tokenizer
    self._timeout_s, self._rules = timeout_s, rules
    self._feedback = feedback
    self._found: dict[int, tuple] = {}

  def text(self, sampled: sampler.Sampled, row: int) -> str:
    """The completion of a row."""
    return self._tokenizer.decode(sampled.tokens[row][: sampled.length[row]])

  def verify(self, sampled: sampler.Sampled, rows: Sequence[int]) -> None:
    """Verifies `rows`, which have ended, on this host, each row once."""
    rows = [i for i in rows if i not in self._found]
    tasks = [self._tasks[i] for i in rows]
    texts = [self.text(sampled, i) for i in rows]
    late: set[int] = set()
    cut = [bool(sampled.stop[i] == enums.Stop.LENGTH) for i in rows]
    options = {'truncated': cut, 'rules': self._rules}
    verdicts = dispatch.verify(
      tasks, texts, timeout_s=self._timeout_s, timed_out=late, **options
    )
    fallbacks = dispatch.fallback(tasks, texts, **options)
    wrong: Sequence[str | None] = [None] * len(rows)
    if self._feedback:
      wrong = dispatch.feedback(tasks, texts, verdicts, **options)
    for i, row in enumerate(rows):
      self._found[row] = (int(verdicts[i]), fallbacks[i], i in late, wrong[i])

  def transcripts(self, sampled: sampler.Sampled) -> list[base.Transcript]:
    """The verified transcripts of all rows, which have ended; on all hosts."""

    def found(rows):
      self.verify(sampled, rows)
      return [self._found[i] for i in rows]

    return [
      base.Transcript(
        self.text(sampled, row),
        int(sampled.length[row]),
        enums.Stop(int(sampled.stop[row])),
        enums.Verdict(verdict),
        fallback=fallback,
        timed_out=timed_out,
        rules=self._rules,
        prefill=self._tokenizer.prefill,
        feedback=wrong,
      )
      for row, (verdict, fallback, timed_out, wrong) in enumerate(
        hosts.share(len(self._tasks), found)
      )
    ]


def transcribe(
  tasks: Sequence[Task],
  sampled: sampler.Sampled,
  tokenizer: Tokenizer,
  timeout_s: float,
  rules: extract.Rules = extract.RULES,
) -> tuple[list[Task], list[base.Transcript]]:
  """The task and the verified transcript of each of the B = P*G rows.

  Each host verifies its share of the rows, and all get all verdicts.

  Args:
    sampled: host arrays.
    timeout_s, rules: see `Verifier`.
  """
  group = len(sampled.tokens) // len(tasks)
  rows = [task for task in tasks for _ in range(group)]
  verifier = Verifier(rows, tokenizer, timeout_s, rules)
  return rows, verifier.transcripts(sampled)


def score(
  results: Sequence[Sequence[base.RewardResult]],
  transcripts: Sequence[Sequence[base.Transcript]],
) -> types.Score:
  """The Score of results and transcripts [P][G], with one turn per row (K=1).

  The turn of a refused row counts as not having taken place.
  """
  table = lambda f, rows, dtype: np.array(
    [[f(x) for x in row] for row in rows], dtype
  )
  return types.Score(
    reward=table(lambda r: r.value, results, np.float32)[..., None],
    turns=table(lambda r: not r.refused, results, bool)[..., None],
    belief=None,
    verdict=table(lambda t: t.verdict, transcripts, np.int32),
  )


def collect(
  tasks: Sequence[Task],
  sample: Callable[[np.ndarray, np.ndarray], Iterable[sampler.Sampled]],
  *,
  encode: Callable[[Task], Sequence[int]],
  tokenizer: Tokenizer,
  reward: base.Reward,
  group: int,
  max_prompt_length: int,
  timeout_s: float,
  rules: extract.Rules = extract.RULES,
  feedback: bool = False,
  greedy: Callable | None = None,
  policy_outputs: Callable[[types.Rollout], token_logprobs.Outputs]
  | None = None,
  attach_scores: Callable[
    [Sequence[Task], list[base.Transcript]], list[base.Transcript]
  ] = lambda tasks, transcripts: transcripts,
  branch: bool = False,
  judge: Callable | None = None,
  clock: Callable[[str], None] = lambda name: None,
) -> groups.Collected:
  """Samples `group` completions of each task and scores them.

  Args:
    sample: (prompt i32[P,S], length i32[P]) -> Sampled of host arrays, `group`
      rows per prompt; several while it goes on, the last with all rows ended:
      see `partial_samples.sample`. What has ended is verified meanwhile.
    encode: task -> prompt ids.
    timeout_s, rules, feedback: see `Verifier`.
    greedy: (prompt, length) -> Sampled, one greedy row per prompt; its rewards
      become `score.greedy`, 0 for a refused row.
    policy_outputs: the policy's outputs on a rollout's rows; given if a reward
      reads the policy's own probabilities.
    attach_scores: see `reward_scores.attach`.
    branch: whether rows are branches, of which some are dropped.
    judge: (tasks, transcripts) of all rows -> `model_judge.Looked`; given if a
      reward reads what a judge says.
    clock: called with the name of each stage when it ends.

  Raises:
    ValueError: a prompt that is too long, or a violated invariant of Rollout.
  """
  prompt, length = encode_prompts(tasks, encode, max_prompt_length)
  row_tasks = [task for task in tasks for _ in range(group)]
  verifier = Verifier(row_tasks, tokenizer, timeout_s, rules, feedback)
  for sampled in sample(prompt, length):
    if sampled.stop.all():
      break  # what is left of it has nothing to do
    clock('rollout')
    mine = hosts.shared(len(row_tasks))
    verifier.verify(sampled, [i for i in mine if sampled.stop[i]])
    clock('overlap')
  greedy_sampled = None if greedy is None else greedy(prompt, length)
  clock('rollout')
  transcripts = verifier.transcripts(sampled)
  rollout = to_rollout(prompt, length, sampled, group)
  if policy_outputs is not None:
    transcripts = certainty_signals.attach(
      transcripts,
      rollout.turn.reshape(len(row_tasks), -1),
      sampled,
      policy_outputs(rollout),
      tokenizer.decode,
    )
  transcripts = attach_scores(tasks, transcripts)
  looked = None
  if judge is not None:
    looked = judge(row_tasks, transcripts)
    transcripts = looked.transcripts
    clock('judge')
  results = reward(row_tasks, transcripts)
  faults = list(map(branches.fault, transcripts)) if branch else None
  if faults is not None:
    results = branches.drop(results, faults)
  lists = lambda rows: [rows[i : i + group] for i in range(0, len(rows), group)]
  transcripts, results = lists(transcripts), lists(results)
  rollout_score = score(results, transcripts)
  if greedy_sampled is not None:
    _, greedy_rows = transcribe(
      tasks, greedy_sampled, tokenizer, timeout_s, rules
    )
    greedy_results = reward(tasks, attach_scores(tasks, greedy_rows))
    baseline = np.array([[r.value] for r in greedy_results], np.float32)
    rollout_score = rollout_score.replace(greedy=baseline)
  types.check_rollout(rollout, rollout_score)
  clock('reward')
  out = groups.Collected(
    list(tasks), rollout, rollout_score, transcripts, results, faults=faults
  )
  if looked is None:
    return out
  return out._replace(
    means=looked.means,
    judgments=None
    if looked.rollout is None
    else (looked.rollout, looked.score),
  )
