"""Games on the host, and what the policy believes, against slow ways."""

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
  episode_scores,
  groups,
)
from rlvr_jax.tasks import Task

BYTES = tokenizers.byte_level()
MODEL = transformer.Decoder(registry.get('model', 'tiny(width=32)')())
LIMITS = episode.Limits(turns=4, message=6, reply=40, length=150, invalid=0)


def reply(task, said):
  """'!' wins, '' and '?' are invalid, anything else is told no."""
  last = said[-1]
  if last == '!':
    return dialogue.Reply('finished', 'finished', True, True)
  if last in ('', '?'):
    return dialogue.Reply('invalid', 'invalid', False, False)
  kind = 'repeated' if last in said[:-1] else 'no'
  return dialogue.Reply(kind, kind, False, False)


TOY = builtin.SimpleNamespace(
  reply=reply,
  elicit=lambda task: ("Is it '", task.answer, "'?"),
  posterior=lambda task, said: [-float(k) for k in range(len(said) + 1)],
  information=lambda task, said: [0.5 for _ in said],
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
  """Games of random weights, which end messages seldom, and at the limit."""
  asked = FrozenModel(
    MODEL,
    BYTES,
    sampler_params=transformer.unstack(params, MODEL.config.num_layers),
  )
  actor = episode.policy_actor(
    asked,
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
  return asked, *out


def test_games_end_at_different_turns():
  played = scripted([['!'], ['a', 'b', '!'], ['a'], ['a', 'b', 'c', 'd', 'e']])
  assert [len(g.messages) for g in played] == [1, 3, 1, 4]
  assert [g.won for g in played] == [True, True, False, False]
  assert [g.verdict.name for g in played] == [
    'CORRECT', 'CORRECT', 'WRONG', 'WRONG'
  ]  # fmt: skip


def test_empty_messages_and_special_tokens_are_turns():
  (g,) = scripted([['', 'a', 'a', '!']])
  assert [r.kind for r in g.replies] == [
    'invalid',
    'no',
    'repeated',
    'finished',
  ]
  assert g.counts == [1, 2, 2, 2]  # the end token counts


def test_rows_are_the_chat_template_with_the_policys_tokens_marked():
  (g,) = scripted([['ab', 'c', '!']])
  whole = [{'role': 'user', 'content': 'Q cat'}]
  for said, told in (('ab', 'no'), ('c', 'no')):
    whole += [
      {'role': 'assistant', 'content': said},
      {'role': 'user', 'content': told},
    ]
  expected = BYTES.encode_messages(whole) + BYTES.encode('!') + [258]
  assert g.tokens == expected
  marked = [
    [t for t, k in zip(g.tokens, g.turn, strict=True) if k == n]
    for n in range(3)
  ]
  assert [BYTES.decode(m) for m in marked] == ['ab', 'c', '!']
  assert [m[-1] for m in marked] == [258] * 3


def test_limits_on_tokens_and_on_invalid_turns():
  short = LIMITS._replace(length=60)
  (g,) = scripted([['a', 'b', 'c', 'd']], short)
  assert 1 <= len(g.messages) < 4
  assert len(g.tokens) - g.context_ends[0] <= 60
  (g,) = scripted([['?', 'b', '', '!']], LIMITS._replace(invalid=2))
  assert [r.kind for r in g.replies] == ['invalid', 'no', 'invalid']
  assert not g.won


def test_a_reply_beyond_the_limit_is_named():
  with pytest.raises(
    ValueError, match=r'takes 22 tokens .*max_reply_length is 9'
  ):
    scripted([['a', 'b']], LIMITS._replace(reply=9))


def test_turns_are_graded_one_by_one():
  seen = []

  def reward(rows, said):
    seen.extend(s.turn for s in said)
    return [base.Graded(float(s.num_tokens), {'n': 1.0}) for s in said]

  played = scripted([['!'], ['ab', 'c', '!']])
  graded = episode_scores.grade(played, reward)
  assert [[g.value for g in x] for x in graded] == [[2.0], [3.0, 2.0, 2.0]]
  assert seen[1] == base.Turn(0, 3, 'no', True, False)
  assert seen[3] == base.Turn(2, 3, 'finished', True, True)
  out = episode_scores.collect(
    played, graded, None, group=2, max_turns=4, columns=64 + LIMITS.length
  )
  np.testing.assert_array_equal(
    out.score.reward, [[[2, 0, 0, 0], [3, 2, 2, 0]]]
  )
  np.testing.assert_array_equal(out.score.turns, [[[1, 0, 0, 0], [1, 1, 1, 0]]])
  assert out.graded[0][1] == base.Graded(7.0, {'n': 3.0})
  assert out.transcripts[0][1].kinds == ('no', 'no', 'finished')
  lines = groups.lines(out, 'train', 2)
  assert [t['kind'] for t in lines[1]['turns']] == ['no', 'no', 'finished']
  again = [
    dialogue.reply(played[1].task, played[1].messages[: k + 1])
    for k in range(3)
  ]
  assert [t['reply'] for t in lines[1]['turns']] == [r.text for r in again]


def test_log_probs_of_games_are_the_trainers(params):
  _, played, _, _ = sampled(params)
  rolled = episode_scores.to_rollout(played, 2, 64 + LIMITS.length)
  types.check_rollout(
    rolled,
    types.Score(
      np.zeros((2, 2, 4)), np.ones((2, 2, 4), bool), None, rolled.stop
    ),
  )
  tokens = jnp.asarray(rolled.tokens.reshape(4, -1))
  full, _ = token_logprobs.token_logprobs(params, tokens, model=MODEL)
  own = rolled.turn.reshape(4, -1) >= 0
  assert own.sum() > 40
  np.testing.assert_allclose(
    np.asarray(full)[own], rolled.logp.reshape(4, -1)[own], atol=1e-4
  )


def by_hand(params, g, k):
  """log p of the truth after k turns, by one plain forward pass."""
  known = [*g.tokens, *g.last_reply][: g.context_ends[k]]
  ids, inside = BYTES.encode_between(*dialogue.elicit(g.task))
  row = known + ids + [0] * (300 - len(known + ids))  # one shape
  logp, _ = token_logprobs.token_logprobs(params, jnp.array([row]), model=MODEL)
  return float(
    np.asarray(logp)[0, len(known) : len(known + ids)][np.array(inside)].sum()
  )


@pytest.mark.parametrize('how', ['current', 'recalled'])
def test_beliefs_are_those_of_a_forward_pass_for_each_turn(params, how):
  asked, played, session, bounds = sampled(params)
  if how == 'recalled':
    session, bounds = belief.replay_into_cache(
      played,
      asked,
      group=2,
      max_prompt_length=64,
      limits=LIMITS,
    )
  out = belief.elicit(
    played,
    session,
    bounds,
    asked,
    max_turns=LIMITS.turns,
    elicit_length=20,
    chunk=64,
  )
  assert out.shape == (4, 5)
  for row, g in enumerate(played):
    for k in range(len(g.messages) + 1):
      assert out[row, k] == pytest.approx(by_hand(params, g, k), abs=2e-4)
    assert (out[row, len(g.messages) :] == out[row, len(g.messages)]).all()


def test_a_truth_longer_than_the_probe_is_named():
  played = scripted([['!']], secrets=('a very long secret',))
  with pytest.raises(ValueError, match='max_elicit_length'):
    belief.probes(played, BYTES, 12)


def test_where_nothing_follows_the_truth_the_end_belongs_to_it(monkeypatch):
  bare = builtin.SimpleNamespace(**vars(TOY))
  bare.elicit = lambda task: ('=', task.answer, '')
  monkeypatch.setitem(dialogue.GAMES, 'toy', bare)
  played = scripted([['!']] * 2, secrets=('bo', 'bob'))
  ids, wanted = belief.probes(played, BYTES, 6)
  assert [BYTES.decode(row[w][:-1]) for row, w in zip(ids, wanted)] == [
    'bo',
    'bob',
  ]
  assert [int(row[w][-1]) for row, w in zip(ids, wanted)] == [
    BYTES.end_ids[0]
  ] * 2


def test_metrics_of_games():
  played = scripted([['!'], ['?', 'a', 'a']])
  graded = episode_scores.grade(
    played, lambda t, s: [base.Graded(1.0, {}) for _ in s]
  )
  truth = np.array([[-1.0, -9, -9, -9, -9], [-1, -2, -3, -4, -4]])
  out = episode_scores.collect(
    played, graded, truth, group=2, max_turns=4, columns=64 + LIMITS.length
  )
  m = episode_scores.metrics([out])
  assert m['turns/mean'] == 2
  assert m['turns/to_success'] == 1
  assert m['turns/invalid'] == m['turns/repeated'] == 0.25
  assert m['turns/gain'] == 0.5
  assert (m['belief/first'], m['belief/last']) == (-1, -6.5)
  # The first game's last belief came after its win.
  assert m['belief/gap'] == -1
  assert m['belief/correlation'] == pytest.approx(1.0)


def test_codes_of_a_game_without_turns():
  (g,) = scripted([[]])
  assert (g.messages, g.won) == ([], False)
  assert episode_scores.transcript(g).stop == enums.Stop.NONE
