import jax.numpy as jnp
import numpy as np
import pytest

from rlvr_jax import algorithm, enums, types
from rlvr_jax.evaluation import sample_store
from rlvr_jax.io import tokenizer as tokenizers
from rlvr_jax.models import sampler
from rlvr_jax.ops import ratio
from rlvr_jax.rewards import base
from rlvr_jax.rollouts import dynamic_sampling, groups, log_records, single_turn
from rlvr_jax.tasks import Task
from rlvr_jax.verifiers import confidence, pool
from rlvr_jax.verifiers.extraction import extract

BYTES = tokenizers.byte_level()
END = BYTES.end_ids[0]
TASKS = [Task('a', '3+4', '7', 'math', {}), Task('b', '2+2', '4', 'math', {})]
NEW = 6  # new tokens at most


def encode(task):
  return BYTES.encode(task.question)


def samples(*texts):
  """A sampler that returns these; log-prob of token n is -n/8; no text: cut."""

  def sample(prompt, length):
    rows = [[*BYTES.encode(t), END][:NEW] for t in texts]
    tokens = np.zeros((len(rows), NEW), np.int32)
    for row, ids in zip(tokens, rows):
      row[: len(ids)] = ids
    length = np.array([len(r) for r in rows])
    inside = np.arange(NEW) < length[:, None]
    logp = np.where(inside, -np.arange(NEW) / 8, 0).astype(np.float32)
    stop = [enums.Stop.END if r[-1] == END else enums.Stop.LENGTH for r in rows]
    return [sampler.Sampled(tokens, logp, length, np.array(stop))]

  return sample


def collect(*texts, reward=None, tasks=TASKS, **kw):
  kw = {'encode': encode, 'max_prompt_length': 5, 'timeout_s': 3.0} | kw
  return single_turn.collect(
    tasks,
    samples(*texts),
    tokenizer=BYTES,
    reward=reward or base.combine([base.outcome], ['outcome'], [1.0]),
    group=len(texts) // len(tasks),
    **kw,
  )


def test_encode_prompts_pads_on_the_right():
  tasks = [TASKS[0], TASKS[1]._replace(question='2')]
  tokens, length = single_turn.encode_prompts(tasks, encode, 4)
  np.testing.assert_array_equal(
    tokens, [[ord('3'), ord('+'), ord('4'), 0], [ord('2'), 0, 0, 0]]
  )
  np.testing.assert_array_equal(length, [3, 1])


@pytest.mark.parametrize('question', ['23+456', ''])
def test_a_prompt_that_does_not_fit_is_named_with_the_remedy(question):
  task = TASKS[1]._replace(question=question)
  with pytest.raises(ValueError) as error:
    single_turn.encode_prompts([TASKS[0], task], encode, 5)
  for word in ("'b'", f'has {len(question)} tokens', 'length is 5', 'Raise'):
    assert word in str(error.value)


def test_to_rollout_by_hand():
  prompt = np.array([[11, 12, 13], [21, 0, 0]])
  sampled = sampler.Sampled(
    tokens=np.array([[1, 2], [3, 0], [4, 5], [6, 7]]),
    logp=np.array([[-1, -2], [-3, 0], [-4, -5], [-6, -7]], np.float32),
    length=np.array([2, 1, 2, 2]),
    stop=np.array([2, 1, 1, 2]),
  )
  got = single_turn.to_rollout(prompt, np.array([3, 1]), sampled, 2)
  np.testing.assert_array_equal(
    got.tokens,
    [
      [[11, 12, 13, 1, 2], [11, 12, 13, 3, 0]],
      [[21, 4, 5, 0, 0], [21, 6, 7, 0, 0]],
    ],
  )
  np.testing.assert_array_equal(
    got.turn,
    [
      [[-1, -1, -1, 0, 0], [-1, -1, -1, 0, -1]],
      [[-1, 0, 0, -1, -1], [-1, 0, 0, -1, -1]],
    ],
  )
  np.testing.assert_array_equal(
    got.logp,
    [
      [[0, 0, 0, -1, -2], [0, 0, 0, -3, 0]],
      [[0, -4, -5, 0, 0], [0, -6, -7, 0, 0]],
    ],
  )
  np.testing.assert_array_equal(got.length, [[5, 4], [3, 3]])
  np.testing.assert_array_equal(got.stop, [[2, 1], [1, 2]])


def test_collect_gives_tokens_verdicts_and_rewards_of_the_same_row():
  got = collect('7', '8', '5', '4')
  end = [END, 0, 0, 0, 0]
  want = [[[*b'3+4', *t, *end] for t in (b'7', b'8')]]
  want += [[[*b'2+2', *t, *end] for t in (b'5', b'4')]]
  np.testing.assert_array_equal(got.rollout.tokens[..., :9], want)
  np.testing.assert_array_equal(got.score.reward[..., 0], [[1, 0], [0, 1]])
  right, wrong = enums.Verdict.CORRECT, enums.Verdict.WRONG
  np.testing.assert_array_equal(
    got.score.verdict, [[right, wrong], [wrong, right]]
  )
  assert [[t.completion for t in g] for g in got.transcripts] == [
    ['7', '8'],
    ['5', '4'],
  ]
  # The end token counts, and its text is dropped.
  assert {t.num_tokens for g in got.transcripts for t in g} == {2}
  np.testing.assert_array_equal(got.rollout.length, np.full((2, 2), 5))


def test_a_row_that_is_cut_says_so():
  got = collect('7', '123456789', '5', '4')
  cut = got.transcripts[0][1]
  assert (cut.completion, cut.num_tokens) == ('123456', NEW)
  assert cut.stop == enums.Stop.LENGTH
  assert got.rollout.stop[0, 1] == enums.Stop.LENGTH


def test_what_a_limit_cut_counts_only_where_it_is_marked():
  """'7 or more', cut to 6 characters, is no answer of 7: it is not marked."""
  texts = ['so 7', 'so 7 + ', '####7\n', 'so $7$ ', '####4\n', '4']
  got = collect(*texts)
  right, none = enums.Verdict.CORRECT, enums.Verdict.NO_ANSWER
  np.testing.assert_array_equal(
    got.score.verdict, [[right, none, right], [none, right, right]]
  )
  transcripts = [t for group in got.transcripts for t in group]
  assert [t.cut for t in transcripts] == [False, True, True, True, True, False]
  assert [t.fallback for t in transcripts] == [
    True,
    False,
    False,
    False,
    False,
    True,
  ]
  found = groups.metrics([got], np.array([True, True]))
  assert found['verdict/fallback'] == pytest.approx(2 / 6)
  assert [x['fallback'] for x in log_records.lines(got, 'train', 2)] == [
    True,
    False,
  ]


def test_checks_that_run_out_of_time_are_counted(monkeypatch):
  def run(kind, payloads, timeout_s):
    assert kind == 'math'
    late = [pool.Reply(None, pool.LATE), pool.Reply(None, pool.DIED)]
    return [late[0] if '3' in p['answer'] else late[1] for p in payloads]

  monkeypatch.setattr(pool, 'run', run)
  got = collect('$x-3$', '7', '$y+1$', '4')
  unsure = enums.Verdict.UNVERIFIABLE
  assert got.score.verdict.tolist() == [
    [unsure, enums.Verdict.CORRECT],
    [unsure, enums.Verdict.CORRECT],
  ]
  transcripts = [t for group in got.transcripts for t in group]
  assert [t.timed_out for t in transcripts] == [True, False, False, False]
  found = groups.metrics([got], np.array([True, True]))
  assert found['verdict/timeout'] == 1 / 4
  assert found['verdict/unverifiable'] == 2 / 4


def test_a_mark_can_be_demanded():
  rules = extract.Rules(require_mark=True)
  got = collect('so 7', '####7\n', '4', '5', rules=rules)
  right, none = enums.Verdict.CORRECT, enums.Verdict.NO_ANSWER
  np.testing.assert_array_equal(
    got.score.verdict, [[none, right], [none, none]]
  )
  transcripts = [t for group in got.transcripts for t in group]
  assert {t.fallback for t in transcripts} == {False}
  # Votes and labels use the same rules.
  records = [sample_store.record(TASKS[0], t, 1.0) for t in transcripts]
  assert [r['answer'] for r in records] == [None, '7', None, None]


def refuse_eights(tasks, transcripts):
  return [
    base.RewardResult(0.0, {}, refused=True)
    if '8' in t.completion
    else base.RewardResult(float(len(t.completion)), {'length': 1.0})
    for t in transcripts
  ]


def test_a_refused_row_leaves_its_group():
  """The other rows get the advantages of a group without it."""
  got = collect('1', '8', '333', '1', '22', '333', reward=refuse_eights)
  np.testing.assert_array_equal(
    got.score.turns[..., 0], [[True, False, True], [True] * 3]
  )
  adv = algorithm.advantages(ALGORITHM, got.rollout, got.score)
  # Group one: values 1 and 3 about their mean 2; group two: 1, 2, 3.
  want = [[-1, 0, 1], [-1, 0, 1]]
  np.testing.assert_allclose(adv.min(-1) + adv.max(-1), want, atol=1e-6)
  assert not np.asarray(adv[0, 1]).any()
  metrics = groups.metrics([got], np.array([True, True]))
  assert metrics['rewards/refused'] == pytest.approx(1 / 6)
  assert metrics['reward'] == pytest.approx((1 + 3 + 1 + 2 + 3) / 5)
  # Standard deviations 1 and sqrt(2/3).
  assert metrics['reward_std'] == pytest.approx((1 + np.sqrt(2 / 3)) / 2)


def test_a_reward_that_is_not_finite_is_refused_and_counted():
  nan_on_eight = lambda tasks, transcripts: [
    base.RewardResult(float('nan') if '8' in t.completion else 1.0, {})
    for t in transcripts
  ]
  reward = base.combine([nan_on_eight, base.outcome], ['a', 'b'], [1.0, 1.0])
  got = collect('7', '8', '4', '5', reward=reward)
  np.testing.assert_array_equal(
    got.score.turns[..., 0], [[True, False], [True, True]]
  )
  assert np.isfinite(got.score.reward).all()
  metrics = groups.metrics([got], np.array([False, True]))
  assert metrics['rewards/refused'] == 0.25
  assert metrics['rewards/a'] == 1.0


def test_weights_of_rewards_move_the_reward_and_not_the_accuracy():
  length = lambda tasks, transcripts: [
    base.RewardResult(float(t.num_tokens), {}) for t in transcripts
  ]
  metrics = []
  for weight in (0.0, 1.0, -5.0):
    reward = base.combine([base.outcome, length], ['right', 'n'], [1.0, weight])
    got = collect('7', '8', '55', '44', reward=reward)
    metrics.append(groups.metrics([got], np.array([True, True])))
  assert [m['accuracy'] for m in metrics] == [0.25] * 3
  # Mean length 2.5, end tokens counted; parts are never weighted.
  assert [m['reward'] for m in metrics] == [0.25, 2.75, -12.25]
  assert {m['rewards/n'] for m in metrics} == {2.5}


def test_metrics_have_their_known_values(monkeypatch):
  monkeypatch.setattr(confidence, 'UNCERTAINTY_WORDS', ('7',))
  one = collect('7', '7', '', '5')
  two = collect('8', '7', '4', '1234567')
  got = groups.metrics([one, two], np.array([False, False, True, True]))
  want = {
    'reward': 4 / 8,
    'reward_std': (0 + 0 + 0.5 + 0.5) / 4,
    'rewards/outcome': 0.5,
    'rewards/refused': 0.0,
    'accuracy': 4 / 8,
    'verdict/correct': 4 / 8,
    'verdict/wrong': 2 / 8,
    'verdict/no_answer': 2 / 8,  # a truncated row has no marked answer
    'verdict/unverifiable': 0.0,
    'verdict/fallback': 6 / 8,
    'verdict/timeout': 0.0,
    'frac_reward_zero_std': 0.5,
    'frac_groups_all_fail': 0.25,
    'frac_groups_all_pass': 0.25,
    'completions/mean_length': (6 * 2 + 1 + 6) / 8,
    'completions/uncertainty_words': 3 / 8,  # the last row is cut before its 7
    'completions/clipped_ratio': 1 / 8,
    # Groups of two: both right, none, one, one.
    'signal/pass_variance': (0 + 0 + 0.5 + 0.5) / 4,
    'signal/informative_groups': 0.5,
    'signal/bits': 2 * (1 + 1 / (4 * np.log(2))) / 4,
    'signal/agreement': 1.0,
  }
  assert got == pytest.approx(want)


def test_metrics_say_which_strategies_were_used_where_tasks_have_them():
  data = {'strategy': 'direct', 'terms': 2}
  sums = [t._replace(data=data) for t in TASKS]
  rules = extract.Rules(truncated='read')  # the first fills the limit
  got = collect('#### 7', '7', '#### 5', '#### 4', tasks=sums, rules=rules)
  metrics = groups.metrics([got], np.array([True, True]))
  assert metrics['strategy/direct'] == 0.75
  assert metrics['strategy/none'] == 0.25
  assert metrics['strategy_accuracy/direct'] == pytest.approx(2 / 3)
  plain = groups.metrics([collect('7', '8', '5', '4')], np.array([True, True]))
  assert not any(name.startswith('strategy') for name in plain)


ALGORITHM = algorithm.Algorithm(
  credit=lambda reward, belief, turns: reward,
  estimate=lambda score, valid: jnp.where(
    valid, score - (score * valid).sum() / jnp.maximum(valid.sum(), 1), 0.0
  ),
  surrogate=lambda logp, old, adv, mask: (-adv * logp, {}),
  aggregate=lambda x, mask: ratio.Ratio(
    (x * mask).sum(), mask.sum().astype(jnp.float32)
  ),
  kl=None,
  kl_weight=0.0,
)


def test_select_keeps_the_chosen_groups_in_order():
  one, two = collect('7', '8', '5', '4'), collect('9', '7', '1', '2')
  keep = [np.array([False, True]), np.array([True, True])]
  got, score, _ = dynamic_sampling.select([one, two], keep, 2)
  sources = [(one, 1), (two, 0)]  # the third is surplus
  for name in ('tokens', 'length', 'turn', 'logp', 'stop'):
    want = np.stack([getattr(c.rollout, name)[p] for c, p in sources])
    np.testing.assert_array_equal(getattr(got, name), want)
  for name in ('reward', 'turns', 'verdict'):
    want = np.stack([getattr(c.score, name)[p] for c, p in sources])
    np.testing.assert_array_equal(getattr(score, name), want)


def test_select_pads_with_groups_that_weigh_nothing():
  one = collect('7', '8', '5', '4')
  got, score, _ = dynamic_sampling.select([one], [np.array([True, False])], 4)
  types.check_rollout(got, score)
  assert got.tokens.shape == (4, *one.rollout.tokens.shape[1:])
  assert (got.turn[1:] == -1).all()
  assert not score.turns[1:].any()
  assert (got.length[1:] == 1).all()
  assert not np.asarray(algorithm.informative(ALGORITHM, score))[1:].any()
  adv = np.asarray(algorithm.advantages(ALGORITHM, got, score))
  assert not adv[1:].any()
  assert adv[0].any()


def test_select_of_nothing_is_padding_alone():
  one = collect('7', '7', '4', '4')
  got, score, _ = dynamic_sampling.select([one], [np.array([False, False])], 2)
  types.check_rollout(got, score)
  assert not score.turns.any()
  assert (got.turn == -1).all()
  # Parts of several collections may be empty too.
  again, *_ = dynamic_sampling.select([one, one], [np.zeros(2, bool)] * 2, 2)
  np.testing.assert_array_equal(again.tokens, got.tokens)


def test_ids_beyond_the_vocabulary_have_a_mark_for_text():
  known = BYTES.encode('7')
  assert BYTES.decode(np.array(known)) == '7'
  assert BYTES.decode(np.array([260, *known, 263])) == '\ufffd7\ufffd'
  assert BYTES.decode(np.array([], int)) == ''
  assert BYTES.decode(np.array([BYTES.vocab_size])) == '\ufffd'


def test_clock_hears_the_stages_in_order():
  heard = []
  collect('7', '8', '5', '4', clock=heard.append)
  assert heard == ['rollout', 'reward']


def test_rows_that_have_ended_are_verified_while_others_are_sampled(
  monkeypatch,
):
  """Each row once, with the verdicts of all rows at the end."""
  heard, verify = [], single_turn.dispatch.verify

  def listening(tasks, texts, **options):
    heard.append(list(texts))
    return verify(tasks, texts, **options)

  monkeypatch.setattr(single_turn.dispatch, 'verify', listening)
  (whole,) = samples('7', '8', '5', '4')(None, None)

  def parts(prompt, length):
    for going in ([0, 1, 3], [0, 3], []):
      heard.append(f'{len(going)} go on')
      stop = np.array(whole.stop)
      stop[going] = enums.Stop.NONE
      tokens = np.where(stop[:, None] > 0, whole.tokens, 0)
      yield whole._replace(stop=stop, tokens=tokens)

  options = {'encode': encode, 'max_prompt_length': 5, 'timeout_s': 3.0}
  options |= {'tokenizer': BYTES, 'group': 2, 'clock': heard.append}
  options['reward'] = base.combine([base.outcome], ['outcome'], [1.0])
  got = single_turn.collect(TASKS, parts, **options)
  assert heard == [
    '3 go on', 'rollout', ['5'], 'overlap',
    '2 go on', 'rollout', ['8'], 'overlap',
    '0 go on', 'rollout', ['7', '4'], 'reward',
  ]  # fmt: skip
  want = collect('7', '8', '5', '4')
  assert got.transcripts == want.transcripts
  np.testing.assert_array_equal(got.score.verdict, want.score.verdict)


def test_lines_are_the_first_rows():
  got = log_records.lines(collect('7', '8', '5', '4'), 'train', 3)
  assert [(x['id'], x['completion'], x['reward']) for x in got] == [
    ('a', '7', 1.0),
    ('a', '8', 0.0),
    ('b', '5', 0.0),
  ]
  assert got[0] == {
    'split': 'train',
    'id': 'a',
    'question': '3+4',
    'answer': '7',
    'completion': '7',
    'tokens': 2,
    'verdict': 'CORRECT',
    'fallback': True,
    'timed_out': False,
    'stop': 'END',
    'reward': 1.0,
    'parts': {'outcome': 1.0},
  }
  assert log_records.lines(collect('7', '8', '5', '4'), 'train', 0) == []


@pytest.mark.parametrize(
  ('min_std', 'expected'), [(0.0, True), (0.01, True), (0.0115, False)]
)
def test_groups_that_vary_by_the_std_divided_by_their_number(min_std, expected):
  """SRL's filter; the sample std, 0.01195, would keep the last one."""
  values = (0.52, 0.50, 0.51, 0.49, 0.50, 0.50, 0.48, 0.50)
  group = [base.RewardResult(v, {}) for v in values]
  equal = [base.RewardResult(0.5, {})] * 7 + [
    base.RewardResult(0.0, {}, refused=True)
  ]
  c = groups.Collected([], None, None, [], [group, equal])
  assert dynamic_sampling.has_reward_spread(c, min_std).tolist() == [
    expected,
    min_std == 0,
  ]


def test_feedback_is_there_on_request_and_logged_where_it_is():
  texts = ['7', '3+4=8', '5', '4']
  silent, got = collect(*texts), collect(*texts, feedback=True)
  flat = lambda c: [t for group in c.transcripts for t in group]
  assert [t.feedback for t in flat(silent)] == [None] * 4
  assert [t.feedback for t in flat(got)] == [
    '',
    "The answer '8' is wrong. In the steps, 3+4 = 8 is wrong.",
    "The answer '5' is wrong.",
    '',
  ]
  without = [t._replace(feedback=None) for t in flat(got)]
  assert without == flat(silent)
  np.testing.assert_array_equal(got.score.reward, silent.score.reward)
  lines = log_records.lines(got, 'train', 4)
  assert [x['feedback'] for x in lines] == [t.feedback for t in flat(got)]
  assert all('feedback' not in x for x in log_records.lines(silent, 'train', 4))


def test_feedback_of_a_row_that_was_cut():
  got = collect('so 7 or', '7', '4', '4', feedback=True)
  assert got.transcripts[0][0].feedback == (
    'No answer was found. The text was cut off at the length limit.'
  )
