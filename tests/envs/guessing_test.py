"""Guessing games: the oracle's answers, its posterior, its demonstrations."""

import json
import math

import pytest

from rlvr_jax import registry
from rlvr_jax.envs import dialogue, guessing
from rlvr_jax.tasks import Task

WORLD = 'attributes(objects=32, attributes=12)'


def env(**options):
  return guessing.guessing(world=WORLD, **options)


def task(secret, world=WORLD):
  return Task('t', 'Guess.', secret, 'guessing', {'world': world})


def replay(task, messages):
  """The reply to each message of a whole game."""
  return [dialogue.reply(task, messages[: k + 1]) for k in range(len(messages))]


def kinds(secret, *messages):
  return [r.kind for r in replay(task(secret), messages)]


def letters():
  """(a letter that splits in halves, one that holds for few)."""
  w = guessing.world(WORLD)
  counts = {
    a: sum(row[i] for row in w.table) for i, a in enumerate(w.attributes)
  }
  half = next(a for a, n in counts.items() if n == 16)
  return half, next(a for a, n in counts.items() if n != 16)


def truth(secret, letter):
  w = guessing.world(WORLD)
  row = w.table[w.objects.index(secret)]
  return 'yes' if row[w.attributes.index(letter)] else 'no'


def test_answers_come_from_the_table():
  for secret in ('ba', 'bab', 'tat'):
    for letter in 'abcdefghijkl':
      assert kinds(secret, f'{letter}?') == [truth(secret, letter)]


def test_the_name_of_the_secret_wins_at_any_turn():
  assert kinds('ba', '=ba') == ['finished']
  first, won = replay(task('ba'), ['=da', '=ba'])
  assert (first.kind, first.done) == ('no', False)
  assert (won.done, won.won) == (True, True)


def test_a_name_that_is_a_prefix_of_another_is_not_the_other():
  assert kinds('bab', '=ba', '=bab') == ['no', 'finished']
  assert kinds('ba', '=bab', '=ba') == ['no', 'finished']


@pytest.mark.parametrize(
  'message',
  [
    '',
    ' ',
    'z?',
    'A?',
    'a',
    'a??',
    'a?b?',
    'a? b?',
    '=',
    '=zz',
    '=BA',
    'is it ba?',
    '\x00',
    '\ufffd',
    'a?' * 10**6,
    '=' + 'b' * 10**6,
  ],
)
def test_a_message_without_a_single_meaning_is_invalid(message):
  assert kinds('ba', message) == ['invalid']


def test_the_same_meaning_twice_is_repeated_and_an_invalid_one_is_not():
  half, few = letters()
  messages = (f'{half}?', 'z?', f' {half}? ', 'z?', f'{few}?', '=da', '=da')
  assert kinds('ba', *messages) == [
    truth('ba', half), 'invalid', 'repeated', 'invalid', truth('ba', few),
    'no', 'repeated',
  ]  # fmt: skip


def test_posterior_counts_the_consistent_objects():
  half, few = letters()
  messages = [f'{half}?', f'{half}?', 'z?', f'{few}?', '=ba']
  got = dialogue.posterior(task('ba'), messages)
  w = guessing.world(WORLD)
  fit = lambda *ls: sum(
    all(truth(o, x) == truth('ba', x) for x in ls) for o in w.objects
  )
  assert fit(half) == 16
  expected = [32, 16, 16, 16, fit(half, few), 1]
  assert got == pytest.approx([-math.log(n) for n in expected])


def test_a_wrong_name_rules_out_one_object():
  got = dialogue.posterior(task('ba'), ['=da', '=fa'])
  assert got == pytest.approx([-math.log(n) for n in (32, 31, 30)])


def test_posteriors_of_all_consistent_secrets_sum_to_one():
  """The replies to fixed questions partition the objects."""
  half, few = letters()
  messages = [f'{half}?', f'{few}?']
  seen = {}
  for o in guessing.world(WORLD).objects:
    replies = tuple(kinds(o, *messages))
    p = math.exp(dialogue.posterior(task(o), messages)[-1])
    seen.setdefault(replies, []).append(p)
  for group in seen.values():
    assert sum(group) == pytest.approx(1)


def test_information_of_known_questions():
  half, few = letters()
  got = dialogue.information(task('ba'), [f'{half}?', f'{half}?', 'z?'])
  assert got == pytest.approx([1.0, 0.0, 0.0])
  (bits,) = dialogue.information(task('ba'), ['=da'])
  assert bits == pytest.approx(
    -(1 / 32 * math.log2(1 / 32) + 31 / 32 * math.log2(31 / 32))
  )
  (bits,) = dialogue.information(task('ba'), [f'{few}?'])
  p = 5 / 32
  assert bits == pytest.approx(-p * math.log2(p) - (1 - p) * math.log2(1 - p))


def test_information_is_the_expected_fall_of_the_posteriors_entropy():
  half, few = letters()
  messages = [f'{half}?', f'{few}?']
  w = guessing.world(WORLD)
  left = [o for o in w.objects if truth(o, half) == 'yes']
  sizes = {}
  for o in left:
    sizes.setdefault(truth(o, few), []).append(o)
  before = math.log2(len(left))
  after = sum(len(s) / len(left) * math.log2(len(s)) for s in sizes.values())
  secret = left[0]
  assert dialogue.information(task(secret), messages)[1] == pytest.approx(
    before - after
  )


def test_splits_share_no_secret_and_cover_the_world():
  made = env(test_secrets=8, validation_secrets=4, games=400)
  secrets = {k: {t.answer for t in v} for k, v in made.items()}
  assert {k: len(v) for k, v in secrets.items()} == {
    'train': 20, 'validation': 4, 'test': 8,
  }  # fmt: skip
  assert len(set.union(*secrets.values())) == 32
  every = env(all_secrets=True, games=800)
  assert len({t.answer for t in every['train']}) == 32


def test_a_task_that_went_through_json_gives_the_same_replies():
  t = env(demonstrate=True)['train'][3]
  again = Task(*json.loads(json.dumps(t)))
  messages = t.data['demonstration']
  assert replay(again, messages) == replay(t, messages)


def test_demonstrations_follow_the_rules_of_the_game():
  made = env(demonstrate=True, turns=8, patience=(2, 4))['train']
  won = 0
  for i in range(200):
    t = made[i]
    replies = replay(t, t.data['demonstration'])
    assert len(replies) <= 8
    assert not {r.kind for r in replies} & {'invalid', 'repeated'}
    won += replies[-1].won
  assert 20 < won < 180
  assert made[0] == env(demonstrate=True, turns=8, patience=(2, 4))['train'][0]


def test_informed_demonstrations_ask_for_more_bits():
  def bits(share):
    made = env(demonstrate=True, informative=share)['train']
    games = [made[i] for i in range(60)]
    first = [dialogue.information(t, t.data['demonstration'])[0] for t in games]
    return sum(first) / len(first)

  assert bits(1.0) == pytest.approx(1.0)
  assert bits(0.0) < 0.9


@pytest.mark.parametrize(
  ('spec', 'match'),
  [
    ('attribute()', "Did you mean 'attributes'"),
    ('attributes(objects=1)', 'objects=1 must be an integer in 2'),
    ('attributes(objects=32, attributes=4)', 'attributes=4 must be'),
    ('attributes(share=1.5)', r'share=1.5 must be between'),
    ('attributes(size=3)', 'size'),
  ],
)
def test_bad_worlds_are_named(spec, match):
  with pytest.raises(ValueError, match=match):
    guessing.guessing(world=spec)


@pytest.mark.parametrize(
  ('options', 'match'),
  [
    ({'test_secrets': 30}, 'leave no secret to train on'),
    ({'informative': 2}, 'informative=2'),
    ({'patience': (5, 2)}, 'patience'),
    ({'games': 0}, 'games=0'),
  ],
)
def test_bad_options_are_named(options, match):
  with pytest.raises(ValueError, match=match):
    env(**options)


def test_the_env_is_found_by_name():
  made = registry.get('env', f"guessing(world='{WORLD}', games=5)")()
  assert len(made['train']) == 5
  assert dialogue.is_dialogue(made['train'][0])


@pytest.mark.parametrize(
  ('raw', 'messages', 'kind'),
  [
    ('Yes', ['Is it alive?'], 'yes'),
    ('no.', ['Is it alive?'], 'no'),
    ('The word is: No, since', ['Is it alive?'], 'no'),
    ('Finished', ['Is it alive?'], 'yes'),  # a wrong 'finished' means yes
    ('No', ['Is it a cat?'], 'finished'),  # overridden: the message is a guess
    ('No', ['Is it the Cat ?'], 'finished'),
    ('Yes', ['Is it a catfish?'], 'yes'),
    ('Yes', ['Is a cat bigger than it?'], 'yes'),
    # Not a guess, although it ends in the name.
    ('Yes', ['Is it bigger than a cat?'], 'yes'),
    ('No', ['Is it not a cat?'], 'no'),
    ('No', ['Can it catch a cat?'], 'no'),
    ('Invalid', ['Is it a dog or a cat?'], 'invalid'),
    ('Invalid', ['Is it a dog, cow, cat?'], 'invalid'),
    ('No', ['Is the secret word "cat"?'], 'finished'),
    ('No', ["I think it's a cat?"], 'finished'),
    ('No', ['Is cat the answer?'], 'finished'),
    # An invalid message does not count as asked.
    ('Yes', ['Is it alive', 'Is it alive?'], 'yes'),
    ('Yes', ['Is it big?', 'x?' * 10**6, 'Is it alive?'], 'yes'),
    ('Yes', ['Is it alive?', 'is it ALIVE?'], 'repeated'),
    ('Yes', ['Is it alive'], 'invalid'),
    ('Yes', ['Is it alive? Is it big?'], 'invalid'),
    ('Yes', [''], 'invalid'),
    ('Yes', ['?'], 'invalid'),
    ('Yes', ['x' * 10**6 + '?'], 'invalid'),
    ('perhaps', ['Is it alive?'], 'invalid'),
    ('', ['Is it alive?'], 'invalid'),
    ('y' * 10**7, ['Is it alive?'], 'invalid'),
  ],
)
def test_the_judges_output_is_verified(raw, messages, kind):
  got = dialogue.judged(task('cat'), messages, raw)
  assert got.kind == kind
  assert got.done == got.won == (kind == 'finished')


def test_the_judge_prompt_has_secret_history_and_question():
  (message,) = dialogue.judge_prompt(task('cat'), ['Is it big?', 'Is it red?'])
  text = message['content']
  for part in ('cat', '- Is it big?', 'The question: Is it red?'):
    assert part in text


def told(secret, *messages, world=WORLD, replies=None):
  t = task(secret, world)
  return dialogue.feedback(t, messages, replies or replay(t, messages))


def test_feedback_names_the_turns_that_were_wasted():
  half, _ = letters()
  assert told('ba', f'{half}?', 'a and b?', '', f'{half}?', 'x' * 401) == (
    'Turn 2 is invalid: it is neither one question nor one guess. '
    'Turn 3 is invalid: it is empty. Turn 4 repeats turn 1. '
    'Turn 5 is invalid: it has more than 400 characters.'
  )
  both = 'Is the person a woman with glasses?'
  assert told('Ada', both, world='characters()') == (
    'Turn 1 is invalid: it has several meanings.'
  )


def test_feedback_says_what_earlier_replies_had_settled():
  """A guess that a reply has ruled out, and a letter that all rest share."""
  w = guessing.world(WORLD)
  half, _ = letters()
  column = w.attributes.index(half)
  secret = next(o for o, row in zip(w.objects, w.table) if row[column])
  out = next(o for o, row in zip(w.objects, w.table) if not row[column])
  assert told(secret, f'{half}?', f'={out}') == (
    'Turn 2 was settled by earlier replies.'
  )
  # Every letter is asked: after the secret is alone, each is settled.
  asked = [f'{a}?' for a in w.attributes]
  gains = dialogue.information(task(secret), asked)
  said = told(secret, *asked)
  wasted = [k + 1 for k, gain in enumerate(gains) if gain == 0]
  assert len(wasted) > 5
  assert said.startswith(f'Turn {wasted[0]} was settled by earlier replies.')
  assert said.count('settled') == 5
  assert said.endswith(f' {len(wasted) - 5} more turns were wasted.')
  # Of another oracle, whose replies the table does not give, only kinds count.
  flipped = {'yes': 'no', 'no': 'yes'}
  replies = [
    r._replace(kind=flipped[r.kind]) for r in replay(task(secret), asked)
  ]
  assert told(secret, *asked, replies=replies) == (
    'The secret was not named in 12 turns.'
  )


def test_feedback_does_not_name_the_secret():
  for secret in 'ba', 'bab', 'tat':
    for messages in (['a?'], ['', 'zzz'], ['=da', '=da', 'a?', 'a?']):
      assert secret not in told(secret, *messages).split()


def test_nothing_is_said_of_a_game_that_is_won():
  assert told('ba', '', '', '=ba') == ''
  assert told('ba', 'a?') == 'The secret was not named in 1 turns.'


def test_feedback_of_a_game_without_a_table():
  replies = [
    dialogue.Reply(kind, kind, False, False)
    for kind in ('no', 'invalid', 'repeated', 'invalid')
  ]
  got = told('cat', 'a?', 'b', 'a?', '', world='words()', replies=replies)
  assert got == (
    'Turn 2 is invalid: it is neither one question nor one guess. '
    'Turn 3 repeats another. Turn 4 is invalid: it is empty.'
  )
