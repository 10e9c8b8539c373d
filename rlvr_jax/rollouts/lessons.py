"""Which tokens does a teacher judge, and which rows does it read?

A teacher's row is the prompt with a context, then the student's tokens as they
were sampled: nothing is decoded and encoded again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rlvr_jax import enums, hosts, registry, types
from rlvr_jax.envs import dialogue
from rlvr_jax.io import frozen_model
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sampler, sharding
from rlvr_jax.random_streams import Stream
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import context as contexts
from rlvr_jax.rollouts import (
  episode,
  episode_end,
  episode_scores,
  groups,
  single_turn,
)
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import confidence
from rlvr_jax.verifiers.extraction import extract


def teach(
  c: Any, part: groups.Collected, encode: Callable[[Task], Sequence[int]]
) -> groups.Collected:
  """The collection with its `lesson`; log records tell what the teacher reads.

  Args:
    c: the config.
    encode: task -> prompt ids.
  """
  settings, rollout = c.teacher, part.rollout
  sampled = np.asarray(rollout.turn) >= 0
  chosen = rows_judged(settings.rows, part.transcripts)
  late = np.cumsum(sampled, -1) > settings.skip_tokens
  taught = sampled & late & chosen[..., None]
  if registry.parse(settings.context)[0] == 'none':
    return part._replace(lesson=types.Lesson(taught))
  told = contexts.of_rows(
    registry.get('context', settings.context),
    part.tasks,
    part.transcripts,
    contexts.TEMPLATES[settings.template],
    remove_thinking=settings.remove_thinking,
  )
  most, fields = settings.max_context_length, []
  p, g, t = sampled.shape
  tokens = np.zeros((p, g, t + most), np.int32)
  rows = np.asarray(rollout.tokens)
  tokens[..., :t] = rows
  shift = np.zeros((p, g), np.int32)
  judges = lambda i, j: told[i][j] is not None and taught[i, j].any()
  prompts = _prompts(
    encode,
    [told[i][j] for i in range(p) for j in range(g) if judges(i, j)],
  )
  for i in range(p):
    fields.append([])
    for j in range(g):
      task, row = told[i][j], sampled[i, j]
      judged = {}
      if judges(i, j):
        judged = _row(
          rows[i, j, : rollout.length[i, j]],
          int(row.argmax()),
          prompts[single_turn.prompt_key(task)],
          most,
        )
      if 'ids' in judged:
        ids = judged.pop('ids')
        tokens[i, j] = 0
        tokens[i, j, : len(ids)] = ids
        shift[i, j] = judged['teacher_shift']
        judged['teacher_question'] = _question(task)
      else:
        taught[i, j] = False
      fields[-1].append(judged)
  lesson = types.Lesson(taught, tokens, shift)
  if part.log_fields is not None:
    fields = [
      [a | b for a, b in zip(*both, strict=True)]
      for both in zip(part.log_fields, fields, strict=True)
    ]
  return part._replace(lesson=lesson, log_fields=fields)


def rows_judged(
  which: str, transcripts: Sequence[Sequence[base.Transcript]]
) -> np.ndarray:
  """bool[P,G]: rows that teacher.rows names.

  Wrong is all that is not CORRECT. 'longest_wrong' is one row of a group, the
  first of the most tokens (SSOPD, arXiv:2605.17497).
  """
  wrong = np.array(
    [[t.verdict != enums.Verdict.CORRECT for t in row] for row in transcripts]
  )
  if which == 'all':
    return np.ones_like(wrong)
  if which == 'wrong':
    return wrong
  length = np.array([[t.num_tokens for t in row] for row in transcripts])
  longest = np.where(wrong, length, -1).argmax(-1)
  return wrong & (np.arange(wrong.shape[1])[None] == longest[:, None])


def _prompts(encode, tasks: Sequence[Task]) -> dict[str, Sequence[int] | None]:
  """{key: ids} of the tasks' prompts; None for one that is refused.

  The question of a task passed: what is refused is what a model wrote, such as
  a character that the vocabulary uses as a control token. Each host encodes its
  share: a limit on time may refuse a prompt on one host alone.
  """
  distinct = {
    single_turn.prompt_key(task): task for task in tasks
  }  # siblings share most of them
  each = list(distinct.values())

  def ids(task):
    try:
      return encode(task)
    except ValueError:
      return None

  found = hosts.share(len(each), lambda rows: [ids(each[i]) for i in rows])
  return dict(zip(distinct, found, strict=True))


def _row(
  student: np.ndarray, start: int, prompt: Sequence[int] | None, most: int
) -> dict[str, Any]:
  """{'ids': the teacher's row, 'teacher_shift': ...}, or why there is none."""
  if prompt is None:
    return {'teacher_refused': 'not encoded'}
  if len(prompt) - start > most:
    return {'teacher_refused': 'too long'}
  ids = np.concatenate([np.asarray(prompt, np.int32), student[start:]])
  return {'ids': ids, 'teacher_shift': len(prompt) - start}


def _question(task: Task) -> str:
  """What a teacher reads as the (last) message of the user."""
  messages = task.data.get('messages')
  if messages is None:
    return task.question
  return [m['content'] for m in messages if m['role'] == 'user'][-1]


def metrics(parts: Sequence[groups.Collected]) -> dict[str, float]:
  """Of all rows sampled in a step: teacher/*.

  taught_frac: share of rows that the teacher judges. context_length: tokens
  that its prompt has more than the student's, mean over these. refused: share
  of rows whose context was too long, or could not be encoded.
  """
  lessons = [part.lesson for part in parts if part.lesson is not None]
  if not lessons:
    return {}
  taught = np.concatenate([np.asarray(x.taught).any(-1) for x in lessons])
  out = {'teacher/taught_frac': float(taught.mean())}
  if lessons[0].tokens is None:
    return out
  shift = np.concatenate([np.asarray(x.shift) for x in lessons])
  fields = [f for part in parts for row in part.log_fields for f in row]
  refused = ['teacher_refused' in f for f in fields]
  mean = float(shift[taught].mean()) if taught.any() else float('nan')
  return out | {
    'teacher/context_length': mean,
    'teacher/refused': float(np.mean(refused)),
  }


class Examiner(NamedTuple):
  """Lets the teacher answer in context: teacher.accuracy_every.

  Attributes:
    teacher: the model that answers; without weights where these are the
      policy's or their moving average, which the call brings.
    tokenizer: of the policy.
    sampling: as in training.
    oracle: replies in dialogues.
  """

  config: Any
  teacher: FrozenModel
  tokenizer: Any
  sampling: sampler.Sampling
  oracle: episode.Oracle = episode.env_replies

  def __call__(
    self, part: groups.Collected, step: int, sampler_params: Any = None
  ) -> dict[str, float]:
    """teacher/accuracy, mean_length and uncertainty_words: of its answers.

    One answer for each row with a teacher, to the prompt that it reads, or one
    dialogue that begins with it; NaN if no row has a teacher. The accuracy
    bounds what it can teach.

    Args:
      sampler_params: weights of a teacher that has none.
    """
    c, lesson, rollout = self.config, part.lesson, part.rollout
    tokens, shift = lesson.tokens, lesson.shift
    if tokens is None:
      tokens = np.asarray(rollout.tokens)
      shift = np.zeros(tokens.shape[:2], np.int32)
    taught = np.asarray(lesson.taught).any(-1).reshape(-1)
    start = (np.asarray(rollout.turn) >= 0).argmax(-1)
    length = np.maximum((start + shift).reshape(-1), 1)
    most = c.max_prompt_length + (
      0 if lesson.tokens is None else c.teacher.max_context_length
    )
    prompt = types.rows(tokens)[:, :most]
    prompt = np.where(np.arange(most)[None] < length[:, None], prompt, 0)
    key = jax.random.fold_in(jax.random.key(c.seed), Stream.TEACHER)
    teacher = self.teacher
    if sampler_params is not None:
      teacher = teacher._replace(sampler_params=sampler_params)
    tasks = [task for task in part.tasks for _ in range(tokens.shape[1])]
    answer = self._play if dialogue.is_dialogue(tasks[0]) else self._answer
    answers = answer(
      teacher,
      tasks,
      prompt.astype(np.int32),
      length.astype(np.int32),
      jax.random.fold_in(key, step),
    )
    of_taught = [a for a, judged in zip(answers, taught) if judged]
    mean = lambda x: float(np.mean(x)) if x else float('nan')
    right = [a.verdict == enums.Verdict.CORRECT for a in of_taught]
    return {
      'teacher/accuracy': mean(right),
      'teacher/mean_length': mean([a.num_tokens for a in of_taught]),
      'teacher/uncertainty_words': mean(
        [confidence.uncertainty_words(a.completion) for a in of_taught]
      ),
    }

  def _answer(self, teacher, tasks, prompt, length, key):
    c = self.config
    out = frozen_model.sample(teacher, prompt, length, key, self.sampling)
    _, answers = single_turn.transcribe(
      tasks,
      sharding.to_host(out),
      self.tokenizer,
      c.verify_timeout_s,
      extract.rules_of(c.verifier),
    )
    return answers

  def _play(self, teacher, tasks, prompt, length, key):
    limits = episode_end.dialogue_limits(self.config)
    sampling = self.sampling._replace(compact_batch=False)
    rows = (row[:n].tolist() for row, n in zip(prompt, length, strict=True))
    episodes, _, _ = episode.run_episodes(
      tasks,
      episode.policy_actor(teacher, sampling, key, group=1, limits=limits),
      encode=lambda task: next(rows),
      tokenizer=self.tokenizer,
      group=1,
      max_prompt_length=prompt.shape[1],
      limits=limits,
      oracle=self.oracle,
    )
    return [episode_scores.transcript(e) for e in episodes]
