"""Dialogues and beliefs, against one plain forward pass each."""

import itertools
import types as builtin

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import enums, registry, types
from rlvr_jax.envs import dialogue
from rlvr_jax.io import tokenizer as tokenizers
from rlvr_jax.io.frozen_model import FrozenModel
from rlvr_jax.models import sampler, token_logprobs, transformer
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import (
  belief,
  episode,
  episode_end,
  episode_scores,
  log_records,
)
from rlvr_jax.tasks import Task

BYTES = tokenizers.byte_level()
MODEL = transformer.Decoder(registry.get('model', 'tiny(width=32)')())
LIMITS = episode_end.Limits(turns=4, message=6, reply=40, length=150, invalid=0)


def reply(task, messages):
  """'!' wins, '' and '?' are invalid, anything else gets 'no'."""
  last = messages[-1]
  if last == '!':
    return dialogue.Reply('finished', 'finished', True, True)
  if last in ('', '?'):
    return dialogue.Reply('invalid', 'invalid', False, False)
  kind = 'repeated' if last in messages[:-1] else 'no'
  return dialogue.Reply(kind, kind, False, False)


TOY = builtin.SimpleNamespace(
  reply=reply,
  elicit=lambda task: ("Is it '", task.answer, "'?"),
  posterior=lambda task, messages: [
    -float(k) for k in range(len(messages) + 1)
  ],
  information=lambda task, messages: [0.5 for _ in messages],
)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
  monkeypatch.setitem(dialogue.GAMES, 'toy', TOY)


def tasks(*secrets):
  return [Task(s, f'Q {s}', s, 'toy', {}) for s in secrets]


def encode(task):
  return BYTES.encode_chat(task.question)


def scripted(scripts, limits=LIMITS, secrets=('cat',)):
  return episode.run_episodes(
    tasks(*secrets),
    episode.scripted_actor(scripts, BYTES, limits),
    encode=encode,
    tokenizer=BYTES,
    group=len(scripts) // len(secrets),
    max_prompt_length=64,
    limits=limits,
  )[0]


@pytest.fixture(scope='module')
def params():
  boxed = jax.eval_shape(lambda: transformer.init(MODEL, jax.random.key(0)))
  rng = np.random.default_rng(2)
  return jax.tree.map(
    lambda x: jnp.asarray(0.2 * rng.standard_normal(x.shape, np.float32)),
    nn.meta.unbox(boxed),
  )


def sampled(params, limits=LIMITS, secrets=('cat', 'catfish')):
  """Episodes of random weights, whose messages mostly end at the limit."""
  policy = FrozenModel(
    MODEL,
    BYTES,
    sampler_params=transformer.unstack(params, MODEL.config.num_layers),
  )
  actor = episode.policy_actor(
    policy,
    sampler.Sampling(limits.message, (*BYTES.end_ids, 65, 66, 67)),
    jax.random.key(3),
    group=2,
    limits=limits,
  )
  out = episode.run_episodes(
    tasks(*secrets),
    actor,
    encode=encode,
    tokenizer=BYTES,
    group=2,
    max_prompt_length=64,
    limits=limits,
  )
  return policy, *out


def test_episodes_end_at_different_turns():
  episodes = scripted(
    [['!'], ['a', 'b', '!'], ['a'], ['a', 'b', 'c', 'd', 'e']]
  )
  assert [len(e.messages) for e in episodes] == [1, 3, 1, 4]
  assert [e.won for e in episodes] == [True, True, False, False]
  assert [e.verdict.name for e in episodes] == [
    'CORRECT', 'CORRECT', 'WRONG', 'WRONG'
  ]  # fmt: skip


def test_empty_messages_and_special_tokens_are_turns():
  (e,) = scripted([['', 'a', 'a', '!']])
  assert [r.kind for r in e.replies] == [
    'invalid',
    'no',
    'repeated',
    'finished',
  ]
  assert e.counts == [1, 2, 2, 2]  # the end token counts


def test_rows_are_the_chat_template_with_the_policys_tokens_marked():
  (e,) = scripted([['ab', 'c', '!']])
  whole = [{'role': 'user', 'content': 'Q cat'}]
  for message, answer in (('ab', 'no'), ('c', 'no')):
    whole += [
      {'role': 'assistant', 'content': message},
      {'role': 'user', 'content': answer},
    ]
  expected = BYTES.encode_messages(whole) + BYTES.encode('!') + [258]
  assert e.tokens == expected
  marked = [
    [t for t, k in zip(e.tokens, e.turn, strict=True) if k == n]
    for n in range(3)
  ]
  assert [BYTES.decode(m) for m in marked] == ['ab', 'c', '!']
  assert [m[-1] for m in marked] == [258] * 3


def test_limits_on_tokens_and_on_invalid_turns():
  short = LIMITS._replace(length=60)
  (e,) = scripted([['a', 'b', 'c', 'd']], short)
  assert 1 <= len(e.messages) < 4
  assert len(e.tokens) - e.context_ends[0] <= 60
  (e,) = scripted([['?', 'b', '', '!']], LIMITS._replace(invalid=2))
  assert [r.kind for r in e.replies] == ['invalid', 'no', 'invalid']
  assert not e.won


def test_a_reply_beyond_the_limit_is_named():
  with pytest.raises(
    ValueError, match=r'takes 22 tokens .*max_reply_length is 9'
  ):
    scripted([['a', 'b']], LIMITS._replace(reply=9))


def test_turns_are_rewarded_one_by_one():
  turns = []

  @base.of_turns
  def reward(rows, transcripts):
    turns.extend(s.turn for s in transcripts)
    return [
      base.RewardResult(float(s.num_tokens), {'n': 1.0}) for s in transcripts
    ]

  episodes = scripted([['!'], ['ab', 'c', '!']])
  results = episode_scores.grade(episodes, reward)
  assert [[r.value for r in row] for row in results] == [[2.0], [3.0, 2.0, 2.0]]
  assert turns[1] == base.Turn(0, 3, 'no', True, False)
  whole = episode_scores.transcript(episodes[1])
  assert (whole.completion, whole.num_tokens) == ('ab\nc\n!', 7)
  assert turns[3] == base.Turn(2, 3, 'finished', True, True, whole)
  out = episode_scores.collect(
    episodes, results, None, group=2, max_turns=4, columns=64 + LIMITS.length
  )
  np.testing.assert_array_equal(
    out.score.reward, [[[2, 0, 0, 0], [3, 2, 2, 0]]]
  )
  np.testing.assert_array_equal(out.score.turns, [[[1, 0, 0, 0], [1, 1, 1, 0]]])
  assert out.results[0][1] == base.RewardResult(7.0, {'n': 3.0})
  assert out.transcripts[0][1].kinds == ('no', 'no', 'finished')
  lines = log_records.lines(out, 'train', 2)
  assert [t['kind'] for t in lines[1]['turns']] == ['no', 'no', 'finished']
  again = [
    dialogue.reply(episodes[1].task, episodes[1].messages[: k + 1])
    for k in range(3)
  ]
  assert [t['reply'] for t in lines[1]['turns']] == [r.text for r in again]


@pytest.mark.parametrize(
  ('spec', 'values'),
  [
    ('outcome', [[0] * 4, [0, 0, 1]]),
    ('outcome(wrong=-1.0)', [[0, 0, 0, -1], [0, 0, 1]]),
    ('constant(value=2.0)', [[0, 0, 0, 2], [0, 0, 2]]),
    ('inverse(outcome)', [[0, 0, 0, 1], [0, 0, 0]]),
    ('contains(b)', [[0, 0, 0, 1], [0, 0, 1]]),
    ('random(p=1.0)', [[0, 0, 0, 1], [0, 0, 1]]),
    # A reward of turns, and what is made of one.
    ('turn_cost(value=1.0)', [[1] * 4, [1] * 3]),
    ('inverse(turn_cost(value=1.0))', [[0] * 4, [0] * 3]),
    ('permuted(turn_cost(value=1.0))', [[1] * 4, [1] * 3]),
    ('all_of(outcome, win(value=1.0))', [[0] * 4, [0, 0, 1]]),
    ('all_of(win(at=every), all_of(outcome, win))', [[0] * 4, [0, 0, 1]]),
    ('all_of(outcome, inverse(repeated))', [[0] * 4, [0, 0, 1]]),
  ],
)
def test_a_dialogue_is_rewarded_once_but_by_rewards_of_turns(spec, values):
  episodes = scripted([['a', '?', 'a', 'b'], ['ab', 'c', '!']])
  results = episode_scores.grade(episodes, base.build([spec], [1.0]))
  assert [[r.value for r in row] for row in results] == values
  own = [episode_scores.total(row).parts[spec] for row in results]
  assert own == [sum(row) for row in values]


def test_controls_of_dialogues_keep_the_distribution_of_rewards():
  """The loser's 0 lands on every dialogue, however many turns it has."""
  played = [['!'], ['a', '!'], ['a', 'b', '!'], ['a'] * 4]
  won = set()
  for seed in range(200):
    reward = base.build([f'permuted(outcome, seed={seed})'], [1.0])
    rows = episode_scores.grade(scripted(played), reward)
    assert all(r.value == 0 for row in rows for r in row[:-1])
    won.add(tuple(row[-1].value for row in rows))
  assert won == set(itertools.permutations([1.0, 1.0, 1.0, 0.0]))


@pytest.mark.parametrize(
  'lost', [(0.0, True), (float('nan'), False), (1e308, False)]
)
def test_a_dialogue_that_one_reward_refuses_is_refused(lost):
  """By name, by NaN, or by a sum that is infinite."""
  episodes = scripted([['a', '?', 'a', 'b'], ['ab', 'c', '!']])

  def refuse_lost(tasks, transcripts):
    won = [t.verdict == enums.Verdict.CORRECT for t in transcripts]
    rows = [(0.0, False) if x else lost for x in won]
    return [base.RewardResult(value, {}, refused) for value, refused in rows]

  cost = base.get('turn_cost(value=1.0)')
  reward = base.combine([refuse_lost, cost], ['a', 'b'], [100.0, 1.0])
  results = episode_scores.grade(episodes, reward)
  assert [r.refused for r in results[0]] == [True] * 4
  assert [r.value for r in results[1]] == [1, 1, 1]
  assert episode_scores.total(results[0]).refused


def test_a_turn_that_a_reward_of_turns_refuses_is_alone():
  @base.of_turns
  def refuse_repeated(tasks, transcripts):
    kinds = [t.turn.kind for t in transcripts]
    return [base.RewardResult(1.0, {}, refused=k == 'repeated') for k in kinds]

  outcome = base.get('outcome')
  reward = base.combine([refuse_repeated, outcome], ['a', 'b'], [1.0, 1.0])
  episodes = scripted([['a', 'a', '!'], ['a', 'a']])
  won, lost = episode_scores.grade(episodes, reward)
  assert [r.refused for r in won] == [False, True, False]
  assert episode_scores.total(won).value == 3
  # The outcome comes with the last turn, so nothing is known without it.
  assert all(r.refused for r in lost)


def test_a_reward_without_the_mark_that_reads_turns_is_told():
  def mine(tasks, transcripts):
    return [base.RewardResult(float(t.turn.index), {}) for t in transcripts]

  reward = base.combine([mine], ['mine'], [1.0])
  with pytest.raises(AttributeError) as e:
    episode_scores.grade(scripted([['!']]), reward)
  assert 'mark one that reads turns `base.of_turns`' in e.value.__notes__[0]
  turn = base.Turn(0, 1, 'no', won=False, last=True)
  row = base.Transcript('x', 1, enums.Stop.END, enums.Verdict.WRONG, turn=turn)
  with pytest.raises(ValueError, match=r'give `Turn\.dialogue`'):
    base.build(['outcome'], [1.0])(tasks('cat'), [row])


def test_log_probs_of_episodes_are_the_trainers(params):
  _, episodes, _, _ = sampled(params)
  rollout = episode_scores.to_rollout(episodes, 2, 64 + LIMITS.length)
  types.check_rollout(
    rollout,
    types.Score(
      np.zeros((2, 2, 4)), np.ones((2, 2, 4), bool), None, rollout.stop
    ),
  )
  tokens = jnp.asarray(rollout.tokens.reshape(4, -1))
  full, _ = token_logprobs.token_logprobs(params, tokens, model=MODEL)
  own = rollout.turn.reshape(4, -1) >= 0
  assert own.sum() > 40
  np.testing.assert_allclose(
    np.asarray(full)[own], rollout.logp.reshape(4, -1)[own], atol=1e-4
  )


def by_hand(params, e, k):
  """log p of the truth after k turns, by one plain forward pass."""
  known = [*e.tokens, *e.last_reply][: e.context_ends[k]]
  ids, inside = BYTES.encode_between(*dialogue.elicit(e.task))
  row = known + ids + [0] * (300 - len(known + ids))  # one shape
  logp, _ = token_logprobs.token_logprobs(params, jnp.array([row]), model=MODEL)
  return float(
    np.asarray(logp)[0, len(known) : len(known + ids)][np.array(inside)].sum()
  )


@pytest.mark.parametrize('cached', ['sampling', 'replay'])
def test_beliefs_are_those_of_a_forward_pass_for_each_turn(params, cached):
  policy, episodes, cache, bounds = sampled(params)
  if cached == 'replay':
    cache, bounds = belief.replay_into_cache(
      episodes,
      policy,
      group=2,
      max_prompt_length=64,
      limits=LIMITS,
    )
  out = belief.elicit(
    episodes,
    cache,
    bounds,
    policy,
    max_turns=LIMITS.turns,
    elicit_length=20,
    chunk=64,
  )
  assert out.shape == (4, 5)
  for row, e in enumerate(episodes):
    for k in range(len(e.messages) + 1):
      assert out[row, k] == pytest.approx(by_hand(params, e, k), abs=2e-4)
    assert (out[row, len(e.messages) :] == out[row, len(e.messages)]).all()


def test_a_truth_longer_than_the_probe_is_named():
  episodes = scripted([['!']], secrets=('a very long secret',))
  with pytest.raises(ValueError, match='max_elicit_length'):
    belief.probes(episodes, BYTES, 12)


def test_where_nothing_follows_the_truth_the_end_belongs_to_it(monkeypatch):
  bare = builtin.SimpleNamespace(**vars(TOY))
  bare.elicit = lambda task: ('=', task.answer, '')
  monkeypatch.setitem(dialogue.GAMES, 'toy', bare)
  episodes = scripted([['!']] * 2, secrets=('bo', 'bob'))
  ids, in_truth = belief.probes(episodes, BYTES, 6)
  assert [BYTES.decode(row[w][:-1]) for row, w in zip(ids, in_truth)] == [
    'bo',
    'bob',
  ]
  assert [int(row[w][-1]) for row, w in zip(ids, in_truth)] == [
    BYTES.end_ids[0]
  ] * 2


def test_metrics_of_dialogues():
  episodes = scripted([['!'], ['?', 'a', 'a']])
  results = episode_scores.grade(
    episodes, lambda t, s: [base.RewardResult(1.0, {}) for _ in s]
  )
  truth = np.array([[-1.0, -9, -9, -9, -9], [-1, -2, -3, -4, -4]])
  out = episode_scores.collect(
    episodes, results, truth, group=2, max_turns=4, columns=64 + LIMITS.length
  )
  m = episode_scores.metrics([out])
  assert m['turns/mean'] == 2
  assert m['turns/to_success'] == 1
  assert m['turns/invalid'] == m['turns/repeated'] == 0.25
  assert m['turns/gain'] == 0.5
  assert (m['belief/first'], m['belief/last']) == (-1, -6.5)
  # The first episode's last belief came after its win.
  assert m['belief/gap'] == -1
  assert m['belief/correlation'] == pytest.approx(1.0)


def test_stop_of_an_episode_without_turns():
  (e,) = scripted([[]])
  assert (e.messages, e.won) == ([], False)
  assert episode_scores.transcript(e).stop == enums.Stop.NONE


def test_an_episode_has_feedback_on_request(monkeypatch):
  seen = []

  def feedback(task, messages, replies):
    seen.append((task.id, list(messages), [r.kind for r in replies]))
    return f'{len(messages)} turns'

  game = builtin.SimpleNamespace(**vars(TOY), feedback=feedback)
  monkeypatch.setitem(dialogue.GAMES, 'toy', game)
  lost, won = scripted([['a', '?', 'a', 'b'], ['a', '!']])
  assert episode_scores.transcript(lost).feedback is None
  assert seen == []
  reward = base.combine([base.outcome], ['outcome'], [1.0])
  results = episode_scores.grade([lost, won], reward)
  kw = {'group': 2, 'max_turns': 4, 'columns': 64 + LIMITS.length}
  out = episode_scores.collect([lost, won], results, None, feedback=True, **kw)
  assert [t.feedback for t in out.transcripts[0]] == ['4 turns', '']
  kinds = ['no', 'invalid', 'repeated', 'no']
  assert seen == [('cat', ['a', '?', 'a', 'b'], kinds)]
  assert log_records.lines(out, 'train', 1)[0]['feedback'] == '4 turns'
  out = episode_scores.collect([lost, won], results, None, **kw)
  assert [t.feedback for t in out.transcripts[0]] == [None, None]
