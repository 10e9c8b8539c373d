"""Rows as a teacher reads them: tokens in, tokens out; who is judged."""

import dataclasses
import types as builtin

import numpy as np
import pytest

from rlvr_jax import config as config_lib
from rlvr_jax import enums, types
from rlvr_jax.envs import dialogue
from rlvr_jax.io import chat_template, tokenizer
from rlvr_jax.learner import batches
from rlvr_jax.models import sampler
from rlvr_jax.ops import distill
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import episode, lessons, single_turn
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import confidence

TOKENIZER = dataclasses.replace(
  tokenizer.byte_level(), chat_template=chat_template.CHATML
)
TASKS = [
  Task('a', '1 + 1 =', '2', 'exact', {'solution': 'two'}),
  Task('b', '12 + 34 =', '46', 'exact', {'solution': 'forty-six'}),
]
TEXTS = ['#### 2', '#### 33', '#### 46', 'no']
S, N = 80, 8


def settings(**teacher):
  c = config_lib.load('configs/tiny.py')
  changes = {'num_generations': 2, 'algo.distill': 'loss'}
  changes |= {f'teacher.{k}': v for k, v in teacher.items()}
  c.update_from_flattened_dict(changes)
  return c


def encode(task):
  return single_turn.encode_task(task, TOKENIZER, '')


def sample(prompt, length):
  ids = [TOKENIZER.encode_answer(text) for text in TEXTS]
  tokens = np.zeros((4, N), np.int32)
  for row, x in enumerate(ids):
    tokens[row, : len(x)] = x[:N]
  size = np.array([min(len(x), N) for x in ids], np.int32)
  stop = np.full(4, enums.Stop.END, np.int32)
  return [sampler.Sampled(tokens, np.zeros((4, N)), size, stop)]


@pytest.fixture(scope='module')
def part():
  return single_turn.collect(
    TASKS,
    sample,
    encode=encode,
    tokenizer=TOKENIZER,
    reward=base.build(('outcome',), (1.0,)),
    group=2,
    max_prompt_length=S,
    timeout_s=3.0,
    feedback=True,
  )


def test_completions_follow_other_prompts_token_by_token(part):
  c = settings(context='feedback', template='plain')
  out = lessons.teach(c, part, encode)
  lesson, rollout = out.lesson, part.rollout
  # Right rows have no feedback, so no teacher.
  assert lesson.taught.any(-1).tolist() == [[False, True], [False, True]]
  for p, g in ((0, 1), (1, 1)):
    said = part.transcripts[p][g].feedback
    prompt = encode(
      TASKS[p]._replace(question=f'{TASKS[p].question}\n\n{said}')
    )
    start, size = (rollout.turn[p, g] >= 0).argmax(), rollout.length[p, g]
    want = [*prompt, *rollout.tokens[p, g, start:size]]
    assert lesson.tokens[p, g, : len(want)].tolist() == want
    assert not lesson.tokens[p, g, len(want) :].any()
    assert lesson.shift[p, g] == len(prompt) - start
    assert out.log_fields[p][g]['teacher_question'].endswith(said)
  metrics = lessons.metrics([out])
  assert metrics['teacher/taught_frac'] == 0.5
  assert metrics['teacher/refused'] == 0
  assert metrics['teacher/context_length'] == lesson.shift[:, 1].mean()


def test_without_context_the_rows_are_the_student_s(part):
  out = lessons.teach(settings(), part, encode)
  assert out.lesson.tokens is None
  np.testing.assert_array_equal(out.lesson.taught, part.rollout.turn >= 0)
  assert lessons.metrics([out]) == {'teacher/taught_frac': 1.0}
  assert lessons.metrics([part]) == {}


def test_rows_that_are_judged(part):
  judged = lambda **k: lessons.teach(settings(**k), part, encode).lesson.taught
  assert judged(rows='wrong').any(-1).tolist() == [[False, True], [False, True]]
  skipped = judged(skip_tokens=3)
  assert skipped.sum(-1).tolist() == [[4, 5], [5, 0]]
  assert not skipped[part.rollout.turn < 0].any()
  wrong, right = enums.Verdict.WRONG, enums.Verdict.CORRECT
  row = lambda n, v: base.Transcript('x', n, enums.Stop.END, v)
  groups = [[row(5, wrong), row(9, wrong), row(9, wrong), row(99, right)]]
  assert lessons.rows_judged('longest_wrong', groups).tolist() == [
    [False, True, False, False]
  ]
  assert not lessons.rows_judged('longest_wrong', [[row(5, right)] * 2]).any()


def test_a_context_too_long_is_counted(part):
  c = settings(context='gold', template='plain', max_context_length=10)
  out = lessons.teach(c, part, encode)  # 'forty-six' and two line ends: 11
  assert out.lesson.taught.any(-1).tolist() == [[True, True], [False, False]]
  assert lessons.metrics([out])['teacher/refused'] == 0.5
  assert out.log_fields[1][0] == {'teacher_refused': 'too long'}


def test_a_prompt_that_cannot_be_encoded_is_counted(part):
  def fails(task):
    raise ValueError('a control token')

  c = settings(context='gold')
  out = lessons.teach(c, part, fails)
  assert not out.lesson.taught.any()
  assert lessons.metrics([out])['teacher/refused'] == 1
  assert np.isnan(lessons.metrics([out])['teacher/context_length'])


def test_rows_without_a_teacher_are_not_trained(part):
  class Algorithm:
    distill = distill.loss()
    preference = critic = None

  c = settings(context='feedback', template='plain')
  c.method = 'distill'  # weights of 1
  out = lessons.teach(c, part, encode)
  lesson = out.lesson
  batch = batches.make_batch(c, Algorithm, part.rollout, part.score, lesson)
  assert batch.mask.any(-1).tolist() == [False, True, False, True]
  np.testing.assert_array_equal(batch.taught, batch.mask)
  types.check_teacher(batch)
  # A mask begins with the row, whatever the teacher judges of it.
  c.teacher.skip_tokens = 2
  lesson = lessons.teach(c, part, encode).lesson
  late = batches.make_batch(c, Algorithm, part.rollout, part.score, lesson)
  np.testing.assert_array_equal(late.mask, batch.mask)
  assert late.taught.sum() == batch.mask.sum() - 4
  Algorithm.distill = distill.add()
  batch = batches.make_batch(c, Algorithm, part.rollout, part.score, lesson)
  assert batch.mask.any(-1).all()
  assert batch.taught.any(-1).tolist() == [False, True, False, True]


def test_a_teacher_plays_the_dialogues_of_the_prompts_that_it_reads(
  monkeypatch,
):
  """Scripts in place of a model; the first '!' wins."""

  def reply(task, messages):
    won = messages[-1] == '!'
    return dialogue.Reply('ok', 'ok', won, won)

  asked = []

  def oracle(tasks, messages):
    asked.append(len(tasks))
    return episode.env_replies(tasks, messages)

  game = builtin.SimpleNamespace(reply=reply)
  monkeypatch.setitem(dialogue.GAMES, 'toy', game)
  scripts = [['!'], ['!'], ['a', '!'], ['a', 'b', 'c']]
  begun = []

  def actor(policy, sampling, key, *, group, limits):
    assert (policy.sampler_params, group) == ('weights', 1)
    assert not sampling.compact_batch
    scripted = episode.scripted_actor(scripts, TOKENIZER, limits)
    return scripted._replace(begin=lambda *prompts: begun.append(prompts))

  monkeypatch.setattr(episode, 'policy_actor', actor)
  c = settings(max_context_length=5)
  c.max_prompt_length, c.max_completion_length = 6, 4
  c.dialogue.max_turns, c.dialogue.max_reply_length = 3, 40
  c.eval.max_turns = 1  # is not of training
  tokens = np.arange(1, 81, dtype=np.int32).reshape(2, 2, 20)
  turn = np.where(np.arange(20) < 4, -1, 0) * np.ones((2, 2, 1), int)
  taught = (turn >= 0) & np.array([[True, False], [True, True]])[..., None]
  shift = np.array([[5, 0], [2, 1]], np.int32)
  part = builtin.SimpleNamespace(
    tasks=[Task(x, '?', '', 'toy', {}) for x in 'ab'],
    rollout=builtin.SimpleNamespace(tokens=tokens, turn=turn),
    lesson=types.Lesson(taught, tokens, shift),
  )
  teacher = builtin.SimpleNamespace(
    sampler_params=None,
    _replace=lambda **x: builtin.SimpleNamespace(**x),
  )
  examine = lessons.Examiner(
    c, teacher, TOKENIZER, sampler.Sampling(4, (0,), compact_batch=True), oracle
  )
  monkeypatch.setattr(confidence, 'UNCERTAINTY_WORDS', ('a', '!'))
  found = examine(part, 1, 'weights')
  # Of three rows with a teacher two are won; 1, 2 and 3 messages.
  assert found['teacher/accuracy'] == pytest.approx(2 / 3)
  assert len(TOKENIZER.encode_answer('!')) == 2  # with the end token
  assert found['teacher/mean_length'] == pytest.approx((1 + 2 + 3) * 2 / 3)
  assert found['teacher/uncertainty_words'] == pytest.approx((1 + 2 + 1) / 3)
  assert asked == [4, 2, 1]
  ((prompt, length),) = begun
  assert length.tolist() == [9, 4, 6, 5]
  for i in range(4):
    row = tokens.reshape(4, 20)[i, : length[i]]
    assert prompt[i].tolist() == row.tolist() + [0] * (11 - length[i])
